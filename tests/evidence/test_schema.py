"""What a record must be, on disk and before it is written."""

import json
import lzma
import time
from pathlib import Path

import pytest

from pruning import chapters, cli
from pruning.evidence import records

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "book" / "records").glob("*.jsonl*"))
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
    plain = path.with_name(path.name.removesuffix(".xz"))
    kind = chapters.part(plain.name.removesuffix(".jsonl"), "experiment").Config
    assert records.check(plain, kind) > 0


def test_thirteen_thousand_records_are_read_in_a_moment():
    start = time.process_time()
    found = records.read(ROOT / "book" / "records" / "relative_importance.jsonl")
    assert time.process_time() - start < 1.5
    assert len(found) >= 13506


WRONG = [
    ({"seed": [1]}, "seed: expected `int`, got `array`"),
    ({"seed": {"a": 1}}, "seed: expected `int`"),
    ({"seed": True}, "seed: expected `int`"),
    ({"method": None}, "method: expected `str`"),
    ({"kept": 2.5}, "kept: "),
    ({"kept": -1}, "kept: "),
    ({"kept": 3}, "effective: got 4, needs at most kept=3"),
    ({"test_accuracy": 95.3}, "test_accuracy: expected `float` <= 1.0"),
    ({"test_accuracy": "0.9"}, "test_accuracy: "),
    ({"validation_accuracy": -0.1}, "validation_accuracy: "),
    ({"accuracy_global": [0.5, 1.5]}, r"accuracy_global\[1\]: "),
    ({"provenance": PROVENANCE | {"threads": "one"}}, r"provenance\.threads: "),
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
        (LINE.replace(b"0.9,", b"NaN,"), "not JSON"),
        (LINE.replace(b"0.9,", b"1e999,"), "out of range"),
        (LINE[:-1], "not JSON"),
        (b"", "not JSON"),
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
    kind = chapters.part("pathways", "experiment").Config
    with pytest.raises(
        records.RecordError, match=r"jsonl:2: stands for the same config as .*jsonl:1"
    ):
        records.check(path, kind)


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
