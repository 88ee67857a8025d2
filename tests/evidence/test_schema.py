"""What a record must be, on disk and before it is written."""

import json
import lzma
import re
import time
from pathlib import Path

import pytest

from pruning import chapters, cli
from pruning.chapters.pathways import experiment
from pruning.evidence import records, sweep
from pruning.evidence.metrics import Metrics
from pruning.pages import scoreboard

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "book" / "records"
FILES = sorted({FOLDER / path.name.removesuffix(".xz") for path in FOLDER.glob("*.jsonl*")})
PROVENANCE = {
    "commit": "5da39f2",
    "versions": {"python": "3.11.7"},
    "device": "cpu",
    "threads": 1,
    "finished": "2026-11-21T03:37:56+00:00",
    "data": "abc",
    "seconds": 1.5,
}
GOOD = {
    "dataset": "digits",
    "method": "gates",
    "seed": 0,
    "tau": 2.0,
    "kept": 5,
    "effective": 4,
    "test_accuracy": 0.9,
    "accuracy_global": [0.9, 0.8],
    "provenance": PROVENANCE,
}


def write(path, *found):
    path.write_text("".join(json.dumps(record) + "\n" for record in found), encoding="utf-8")
    return path


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_committed_records_are_sound(path):
    assert len(records.read(path, chapters.kinds(path.stem))) > 0


def test_thirteen_thousand_records_are_read_in_a_moment():
    start = time.process_time()
    found = records.read(ROOT / "book" / "records" / "relative_importance.jsonl")
    assert time.process_time() - start < 2
    assert len(found) >= 13506


WRONG = [
    (
        {"provenance": PROVENANCE | {"device": "<script>"}},
        "provenance.device: got '<script>', needs no < or >, for pages show it",
    ),
    ({"said": ["a", {"<b>": 1}]}, r"said\[1\].<b>: got '<b>', needs no < or >"),
    ({"seed": [1]}, r"seed: got \[1\], needs `int`"),
    ({"seed": {"a": 1}}, r"seed: got \{'a': 1\}, needs `int`"),
    ({"seed": True}, "seed: got True, needs `int`"),
    ({"method": None}, "method: got None, needs `str`"),
    ({"kept": 2.5}, "kept: "),
    ({"kept": -1}, "kept: "),
    ({"kept": 3}, "effective: got 4, needs at most kept=3"),
    ({"dense_weights": 4}, "kept: got 5, needs at most dense_weights=4"),
    ({"kept_by_layer": [2, 2]}, r"kept_by_layer: got \[2, 2\], needs a sum of kept=5"),
    ({"test_accuracy": 95.3}, "test_accuracy: got 95.3, needs `float` <= 1.0"),
    ({"test_accuracy": "0.9"}, "test_accuracy: "),
    ({"validation_accuracy": -0.1}, "validation_accuracy: "),
    ({"accuracy_global": [0.5, 1.5]}, r"accuracy_global\[1\]: "),
    (
        {"provenance": PROVENANCE | {"threads": "one"}},
        r"provenance\.threads: got 'one'",
    ),
    ({"provenance": PROVENANCE | {"machine": "x"}}, r"provenance\.machine: got 'x', needs"),
    ({"provenance": PROVENANCE | {"finished": "yesterday"}}, r"provenance\.finished: "),
    ({"provenance": {}}, "provenance: object missing required field `commit`"),
]


@pytest.mark.parametrize(("change", "words"), WRONG)
def test_a_wrong_field_is_named_when_read_and_before_it_is_written(tmp_path, change, words):
    path = write(tmp_path / "chapter.jsonl", GOOD, GOOD | {"seed": 7} | change)
    with pytest.raises(records.RecordError, match=rf"chapter\.jsonl:2: {words}") as caught:
        records.read(path)
    assert "\n" not in str(caught.value)
    write(path, GOOD)
    before = path.read_bytes()
    with pytest.raises(records.RecordError, match=words):
        records.append(path, GOOD | {"seed": 7} | change)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "name", ["dataset", "method", "seed", "kept", "effective", "test_accuracy"]
)
def test_a_missing_field_is_named(tmp_path, name):
    path = write(tmp_path / "chapter.jsonl", {k: v for k, v in GOOD.items() if k != name})
    with pytest.raises(
        records.RecordError, match=rf"jsonl:1: .*missing required field `{name}`"
    ):
        records.read(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [0.1, float("-inf")], {1, 2}])
def test_what_json_has_no_word_for_is_not_written(tmp_path, value):
    path = tmp_path / "chapter.jsonl"
    with pytest.raises(records.RecordError, match=r"^loss: "):
        records.append(path, GOOD | {"loss": value})
    assert not path.exists()


LINE = json.dumps(GOOD).encode()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xef\xbb\xbf" + LINE, "byte order mark"),
        (b"<<<<<<< HEAD", "conflict marker"),
        (b"=======", "conflict marker"),
        (LINE.replace(b"gates", "gätes".encode("latin-1")), "not UTF-8"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (LINE.replace(b"0.9,", b"NaN,", 1), "test_accuracy: got nan, needs a finite number"),
        (LINE.replace(b"[0.9,", b"[1e999,"), r"accuracy_global\[0\]: got inf, needs a finite"),
        (LINE.replace(b'"seed": 0', b'"seed": 0, "seed": 1'), "seed: stands twice"),
        (
            LINE.replace(b'"threads": 1', b'"threads": 1, "threads": 2'),
            "threads: stands twice",
        ),
        (LINE.replace(b'"tau": 2.0', b'"tau": -Infinity'), "tau: got -inf, needs a finite"),
        (LINE[:-1], "not JSON"),
        (b"\n" + LINE, "not JSON"),
        (b"[1]", "not a JSON object"),
    ],
)
def test_a_poisoned_line_is_one_line_of_answer(tmp_path, content, words, capsys):
    path = tmp_path / "chapter.jsonl"
    path.write_bytes(LINE + b"\n" + content + b"\n")
    with pytest.raises(records.RecordError, match=rf"chapter\.jsonl:2: .*{words}"):
        records.read(path)
    assert cli.main(["records", "check", str(path)]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "chapter.jsonl:2" in said


def test_one_config_twice_names_both_lines(tmp_path):
    path = write(
        tmp_path / "chapter.jsonl", GOOD, GOOD | {"seed": 1}, GOOD | {"test_accuracy": 0.2}
    )
    with pytest.raises(
        records.RecordError, match=r"jsonl:3: stands for the same config as .*jsonl:1"
    ):
        records.read(path)
    write(path, GOOD)
    with pytest.raises(records.RecordError, match="has a record of this config already"):
        records.append(path, GOOD | {"test_accuracy": 0.2})


def test_check_knows_the_defaults_of_fields_that_were_added_later(tmp_path):
    own = records.read(ROOT / "book" / "records" / "pathways.jsonl")[0]
    older = {name: value for name, value in own.items() if name != "samples"}
    path = write(tmp_path / "pathways.jsonl", own, older)
    assert len(records.read(path)) == 2
    with pytest.raises(
        records.RecordError, match=r"jsonl:2: stands for the same config as .*jsonl:1"
    ):
        records.read(path, chapters.kinds("pathways"))


def test_a_packed_file_reads_as_before_and_is_appended_to(tmp_path):
    path = write(tmp_path / "chapter.jsonl", *(GOOD | {"seed": seed} for seed in range(3)))
    plain = path.read_bytes()
    before = records.read(path)
    assert cli.main(["records", "pack", str(path)]) == 0
    assert not path.exists()
    assert lzma.decompress(records.packed(path).read_bytes()) == plain
    assert records.read(path) == before
    records.append(path, GOOD | {"seed": 3})
    assert [r["seed"] for r in records.read(path)] == [0, 1, 2, 3]
    with pytest.raises(records.RecordError, match="already"):
        records.append(path, GOOD)
    with path.open("ab") as file:
        file.write(plain)  # as if packing had been killed before it removed the plain file
    assert [r["seed"] for r in records.read(path)] == [0, 1, 2, 3]
    assert records.pack(path) == 4
    whole = records.packed(path).read_bytes()
    records.packed(path).write_bytes(whole[:-7])
    with pytest.raises(records.RecordError, match=r"jsonl\.xz: not a whole xz file"):
        records.read(path)


def test_check_says_what_is_not_there(tmp_path, monkeypatch, capsys):
    assert cli.main(["records", "check", str(tmp_path / "none.jsonl")]) == 1
    monkeypatch.setenv("PRUNING_RECORDS", str(tmp_path / "nowhere"))
    assert cli.main(["records", "check"]) == 1
    assert "there is no folder" in capsys.readouterr().err


@pytest.mark.parametrize("end", [b"\n", b"\n\n", b" \n\r\n"])
def test_blank_lines_at_the_end_are_none_and_go_when_a_record_follows(tmp_path, end):
    path = write(tmp_path / "chapter.jsonl", GOOD)
    path.write_bytes(path.read_bytes() + end)
    assert [r["seed"] for r in records.read(path)] == [0]
    assert cli.main(["records", "check", str(path)]) == 0
    records.append(path, GOOD | {"seed": 1})
    assert path.read_bytes().count(b"\n") == 2
    assert [r["seed"] for r in records.read(path)] == [0, 1]


def recorded(chapter, **where):
    """The first record on record with these values."""
    return records.select(chapters.evidence(chapter), **where)[0]


# a record that contradicts its task, its config or itself: (chapter, of which record, change,
# what is said)
CONTRADICTIONS = [
    ("pathways", {}, {"false_paths": 7}, "false_paths: got 7, needs"),
    ("pathways", {}, {"missing_paths": 1}, "missing_paths: got 1, needs 0"),
    ("pathways", {}, {"dense_weights": 3, "kept": 3, "effective": 3}, "dense_weights: got 3"),
    ("pathways", {}, {"dense_weights": 20}, "kept: got .*needs at most dense_weights=20"),
    ("pathways", {}, {"kept": 159}, "connections, distinct: got .*, needs 159"),
    ("pathways", {}, {"task": "indep"}, "task: got 'indep', needs one of .*'independence'"),
    ("pathways", {}, {"method": "gate"}, r"method: got 'gate', needs one of \['gates'\]"),
    ("pathways", {}, {"verdict": "good"}, "verdict: got 'good', needs to be left out"),
    ("pathways", {}, {"lr": -1}, "lr: got -1, needs `float` > 0"),
    ("pathways", {}, {"steps": 0}, "steps: got 0, needs `int` >= 1"),
    ("pathways", {}, {"irrelevant_inputs_reach": None}, "irrelevant_inputs_reach: got None"),
    ("compression_curves", {"method": "gates"}, {"method": "gate"}, "method: got 'gate'"),
    ("compression_curves", {"method": "gates"}, {"lr": -1.0}, "lr: got -1.0, needs"),
    ("compression_curves", {"method": "gates"}, {"tau": 0}, "tau: got 0, needs"),
    ("compression_curves", {"method": "gates"}, {"penalty": "sum"}, "penalty: got 'sum'"),
    ("compression_curves", {"method": "dense"}, {"lr": -1}, "lr: got -1, needs"),
    ("compression_curves", {}, {"dataset": "digit"}, "dataset: got 'digit', needs one of"),
    ("compression_curves", {}, {"study": "curve"}, "study: got 'curve', needs one of"),
    ("compression_curves", {}, {"biases": 411}, "biases: got 411, needs at most 410"),
    (
        "compression_curves",
        {"method": "gates", "study": "curves"},
        {"split": "validation"},
        "validation_accuracy: got None, needs a fraction for split='validation'",
    ),
    (
        "compression_curves",
        {"method": "logistic_regression"},
        {"density": 0.5},
        "density: got",
    ),
    ("compression_curves", {"method": "logistic_regression"}, {"seed": -1}, "seed: got -1"),
    ("smallest", {"at_most": 404}, {"at_most": 100}, "kept: got 4.., needs at most 100"),
    ("smallest", {"seed": 0, "at_most": 404}, {"widths": [784, 10]}, "widths: got"),
    ("opponents", {}, {"epochs": 0, "finetune_epochs": 0}, "epochs: got 0, needs 1 or more"),
    ("relative_importance", {"method": "unpruned"}, {"blind": 3}, "blind: got 3, needs `bool"),
    ("relative_importance", {}, {"scope": "row"}, "scope: got 'row', needs one of"),
    ("resnet_pruning", {"study": "short"}, {"test_accuracy": 0.5}, "test_accuracy: got 0.5"),
    ("resnet_pruning", {"study": "short"}, {"epochs": 50}, "train_loss, epochs: got 20"),
    ("resnet_pruning", {"study": "overhead"}, {"step_ratio": 2.0}, "step_ratio: got 2.0"),
    ("robustness", {}, {"fgsm": [0.5]}, "fgsm, points: got 1, needs 9"),
    ("why_gates_win", {"study": "again"}, {"arm": "gates"}, "arm: got 'gates', needs one of"),
    ("why_gates_win", {"study": "moving"}, {"stayed": 500}, "stayed: got 500, needs at most"),
    ("hardware", {"study": "speed"}, {"study": "memory"}, "peak_bytes, forms: "),
    ("attributions", {"study": "pixels"}, {"study": "information"}, "layers: is missing"),
    ("attributions", {"study": "sampling"}, {"with_eq4": None}, "with_eq4: is missing"),
    ("pixel_representatives", {"study": "pixels"}, {"label": 1}, "label: got 1, needs `str`"),
    ("shap_agreement", {}, {"features": ["age"]}, "features, number: got 1, needs 12"),
]


@pytest.mark.parametrize(("chapter", "where", "change", "words"), CONTRADICTIONS)
def test_a_contradiction_is_refused(tmp_path, capsys, chapter, where, change, words):
    found = recorded(chapter, **where)
    path = write(tmp_path / f"{chapter}.jsonl", found)
    assert cli.main(["records", "check", str(path)]) == 0
    write(path, found | change)
    assert cli.main(["records", "check", str(path)]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert re.search(rf"{chapter}\.jsonl:1: {words}", said), said
    if scoreboard.of(chapter):
        with pytest.raises(records.RecordError, match=words):
            scoreboard.board(chapter, tmp_path)  # no verdict comes from it


def test_every_chapter_says_what_its_runs_yield():
    for chapter in chapters.names():
        for kind in chapters.kinds(chapter):
            assert issubclass(kind.metrics, Metrics), kind


def test_check_says_what_is_in_a_folder_but_no_evidence(tmp_path, monkeypatch, capsys):
    own = recorded("pathways")
    monkeypatch.setenv("PRUNING_RECORDS", str(tmp_path))
    assert cli.main(["records", "check"]) == 1
    assert "has no record file" in capsys.readouterr().err
    write(tmp_path / "pathways.jsonl", own)
    assert cli.main(["records", "check"]) == 0
    capsys.readouterr()
    (tmp_path / "smallest.jsonl").touch()
    write(tmp_path / "pathway.jsonl", own | {"seed": 99})
    write(tmp_path / "zz.jsonl", own)
    assert cli.main(["records", "check"]) == 1
    out, said = capsys.readouterr()
    assert "pathways.jsonl: 1 records, all sound" in out
    pathway, smallest, twice = said.splitlines()
    assert re.search(r"pathway\.jsonl: belongs to no chapter; needs the name of one", pathway)
    assert re.search(r"smallest\.jsonl: has no record", smallest)
    assert re.search(r"zz\.jsonl:1: is the same record as .*pathways\.jsonl:1", twice)


def test_a_run_whose_metrics_contradict_its_config_leaves_no_record(tmp_path):
    config = experiment.Config(steps=20, finetune_steps=5, samples=50)
    path = tmp_path / "pathways.jsonl"
    runs = sweep.sweep(lying, [config], path, jobs=1, progress=False)
    with pytest.raises(sweep.SweepError, match="false_paths: got 9, needs"):
        list(runs)
    assert records.read(path) == []


def lying(config):
    return experiment.run(config) | {"false_paths": 9}
