import ast
from pathlib import Path

import nbformat
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CHAPTERS = [path for path in NOTEBOOKS if path.stem != "scoreboard"]


def read(path):
    return nbformat.read(path, as_version=4)


def code_cells(path):
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_no_algorithm_lives_in_a_notebook(path):
    for cell in code_cells(path):
        for node in ast.walk(ast.parse(cell.source)):
            assert not isinstance(
                node, (ast.FunctionDef, ast.ClassDef, ast.Lambda, ast.While)
            ), cell.source
        assert cell.source.count("\n") < 25, cell.source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_one_cell_of_literal_parameters_with_the_profile(path):
    tagged = [
        cell for cell in code_cells(path) if "parameters" in cell.metadata.get("tags", [])
    ]
    assert len(tagged) == 1
    values = {}
    for node in ast.parse(tagged[0].source).body:
        assert isinstance(node, ast.Assign)
        values[node.targets[0].id] = ast.literal_eval(node.value)
    assert values["profile"] == "quick"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_only_checked_output_is_stored(path):
    for cell in code_cells(path):
        checked = "nbval-check-output" in cell.metadata.get("tags", [])
        assert bool(cell.outputs) == checked, cell.source
        assert checked or cell.execution_count is None


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_a_chapter_has_the_skeleton(path):
    text = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    parts = [
        "**The question.**",
        "## The method",
        "## A short run",
        "## The runs of this notebook",
        "## The evidence",
        "## Verdict",
        "## Exercises",
        "**1.",
        "**2.",
        "## Where the numbers come from",
    ]
    positions = [text.find(part) for part in parts]
    assert -1 not in positions, dict(zip(parts, positions, strict=True))
    assert positions == sorted(positions)
    assert f"pruning sweep {path.stem} --profile paper" in text
    assert (ROOT / "pruning" / "chapters" / path.stem / "experiment.py").is_file()
    assert {"hide-output", "hide-input"} & set(
        code_cells(path)[-1].metadata.get("tags", [])
    ), "provenance"


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_a_chapter_answers_first_and_hides_two_solutions(path):
    cells = read(path).cells
    assert "answers." in cells[1].source
    assert cells[1].metadata.tags == ["hide-input"]
    tags = [cell.metadata.get("tags", []) for cell in cells]
    method = next(k for k, cell in enumerate(cells) if "## The method" in cell.source)
    assert tags.index(["parameters"]) > method
    prompts = [cell.metadata.get("mystnb", {}).get("code_prompt_show") for cell in cells]
    assert prompts.count("Show a solution") == 2


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_it_stands_in_the_table_of_contents_and_names_its_inputs(path):
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    files = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    assert f"chapters/{path.stem}" in files
    assert not any(character.isdigit() for character in path.stem)
    folder = path.stem if path in CHAPTERS else "*"
    assert f"pruning/chapters/{folder}/*" in read(path).metadata.pruning.inputs
