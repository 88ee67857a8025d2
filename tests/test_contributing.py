"""CONTRIBUTING.md is true to the letter: its files are written into a copy and its commands
run there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pruning.evidence import records

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FILES = dict(
    re.findall(r"^`([\w./]+)`:\n\n```\w+\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
)
COMMANDS = re.findall(r"^```sh\n(.*?)\n```$", TEXT, re.DOTALL | re.MULTILINE)
LINE = re.search(
    r"^One line of `EXACT` in `([\w./]+)`.*?\n\n```python\n(.*?\n)```$", TEXT, re.DOTALL | re.M
)


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the project, with what the text adds."""
    root = tmp_path_factory.mktemp("copy")
    for folder in ("pruning", "tests", "data"):
        shutil.copytree(
            ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__", "cache")
        )
    for file in ("pyproject.toml", "_toc.yml"):
        shutil.copy(ROOT / file, root / file)
    (root / "book" / "records").mkdir(parents=True)
    for name, content in FILES.items():
        path = root / name
        path.parent.mkdir(exist_ok=True)
        assert not path.exists(), name
        path.write_text(content, encoding="utf-8")
    battery = root / LINE[1]
    head, tail = battery.read_text(encoding="utf-8").split("EXACT = {\n")
    battery.write_text(f"{head}EXACT = {{\n{LINE[2]}{tail}", encoding="utf-8")
    return root


def run(command: str, root: Path) -> str:
    """What a command of the text prints, run in the copy by this Python."""
    words = {"python": [sys.executable], "pruning": [sys.executable, "-m", "pruning"]}
    name, *arguments = command.split()
    done = subprocess.run(
        [*words[name], *arguments],
        cwd=root,
        # one core: the sweep's runs are short, and each process would load torch again
        env=os.environ
        | {"PYTHONPATH": str(root), "PRUNING_RECORDS": str(root), "LOKY_MAX_CPU_COUNT": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_text_has_a_method_and_a_chapter():
    folders = {Path(name).parent.as_posix() for name in FILES}
    assert folders == {"pruning/methods", "pruning/chapters/first_look"}
    assert TEXT.index("## Add a method") < TEXT.index("## Add a chapter") < 4000


def test_the_commands_do_what_the_text_says(copy):
    said = {
        command: run(command, copy) for block in COMMANDS for command in block.splitlines()
    }
    battery, chapters, sweep, claims = said.values()
    assert int(re.search(r"(\d+) passed", battery)[1]) >= 5
    assert "first_look" in chapters
    assert "4 of 4 runs to do" in sweep
    found = records.read(copy / "first_look.jsonl")
    assert {record["method"] for record in found} == {"untrained", "random"}
    for record in found:
        assert record["kept"] == pytest.approx(
            record["density"] * record["dense_weights"], abs=1
        )
        assert record["test_accuracy"] > 0.3
    assert re.search(r"^F1 +not measured +1 seeds", claims, re.MULTILINE)


def test_what_the_text_adds_is_in_the_style_of_the_house(copy):
    sources = [name for name in FILES if name.endswith(".py")]
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *sources],
            cwd=copy,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
