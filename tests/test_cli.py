import json

import pytest

from pruning import cli
from pruning.chapters.compression_curves import experiment as cc
from pruning.evidence import records


def test_sweep_runs_what_is_missing_and_then_nothing(tmp_path, monkeypatch, capsys):
    tiny = [cc.Config(dataset="digits", hidden=(8, 6), epochs=1, finetune_epochs=1, seed=s) for s in range(2)]
    monkeypatch.setattr(cc, "configs", lambda profile, seeds=None: tiny[: seeds or 2])
    out = tmp_path / "deep" / "curves.jsonl"
    arguments = ["sweep", "compression_curves", "--profile", "quick", "--jobs", "1", "--out", str(out)]
    assert cli.main([*arguments, "--dry-run"]) == 0
    assert "2 of 2 runs to do" in capsys.readouterr().out
    assert not out.exists()
    assert cli.main([*arguments, "--seeds", "1"]) == 0
    assert cli.main(arguments) == 0
    assert [r["seed"] for r in records.read(out)] == [0, 1]
    capsys.readouterr()
    assert cli.main(arguments) == 0
    assert "0 of 2 runs to do" in capsys.readouterr().out
    assert [json.loads(line)["seed"] for line in out.read_text().splitlines()] == [0, 1]


def test_an_expected_error_is_one_line(tmp_path, capsys):
    broken = tmp_path / "broken.jsonl"
    broken.write_text("not json\n")
    assert cli.main(["sweep", "compression_curves", "--dry-run", "--out", str(broken)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("pruning: ")
    assert "broken.jsonl:1" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [[], ["sweep"], ["sweep", "nothing"], ["sweep", "compression_curves", "--profile", "x"]]
)
def test_wrong_arguments_exit_with_usage(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert "usage: pruning" in capsys.readouterr().err


def test_zero_seeds_are_refused(capsys):
    with pytest.raises(SystemExit):
        cli.main(["sweep", "compression_curves", "--seeds", "0"])
    assert "at least 1" in capsys.readouterr().err


def test_another_data_set(tmp_path, monkeypatch, capsys):
    listed = [cc.Config(dataset="mnist", seed=seed) for seed in range(2)]
    monkeypatch.setattr(cc, "configs", lambda profile, seeds=None: listed)
    seen = []
    monkeypatch.setattr(cc, "run", lambda config: seen.append(config.dataset) or {"test_accuracy": 1.0})
    out = tmp_path / "curves.jsonl"
    arguments = ["sweep", "compression_curves", "--jobs", "1", "--out", str(out), "--data"]
    assert cli.main([*arguments, "digits"]) == 0
    assert [r["dataset"] for r in records.read(out)] == seen == ["digits", "digits"]
    assert cli.main([*arguments, "imagenet"]) == 1
    assert "data: got 'imagenet', needs one of" in capsys.readouterr().err
    assert cli.main(["sweep", "pathways", "--out", str(out), "--data", "digits"]) == 1
    assert "not on one of the data sets" in capsys.readouterr().err
