import json
import os
import shutil
import subprocess
import sys

import pytest

from pruning import chapters, cli
from pruning.chapters.compression_curves import experiment as cc
from pruning.evidence import records


def test_sweep_runs_what_is_missing_and_then_nothing(tmp_path, monkeypatch, capsys):
    tiny = [
        cc.Config(dataset="digits", hidden=(8, 6), epochs=1, finetune_epochs=1, seed=s)
        for s in range(2)
    ]
    monkeypatch.setattr(cc, "configs", lambda profile, seeds=None: tiny[: seeds or 2])
    out = tmp_path / "deep" / "curves.jsonl"
    arguments = [
        "sweep",
        "compression_curves",
        "--profile",
        "quick",
        "--jobs",
        "1",
        "--out",
        str(out),
    ]
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
    "arguments",
    [
        [],
        ["sweep"],
        ["sweep", "nothing"],
        ["sweep", "resnet_tables"],
    ],
)
def test_wrong_arguments_are_one_line_that_names_the_help(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("pruning")
    assert "--help)" in line


def test_a_profile_that_the_chapter_lacks_is_one_line(capsys):
    assert cli.main(["sweep", "pathways", "--profile", "search", "--dry-run"]) == 1
    assert "profile: got 'search', needs one of ['paper', 'quick']" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong",
    [
        ("--seeds", "0"),
        ("--jobs", "0"),
        ("--jobs", "-2"),
        ("--jobs", "two"),
        ("--jobs", "1.5"),
    ],
)
def test_seeds_and_jobs_are_counts(wrong, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["sweep", "compression_curves", "--dry-run", *wrong])
    assert caught.value.code == 2
    assert (
        f"argument {wrong[0]}: got '{wrong[1]}', needs a whole number"
        in capsys.readouterr().err
    )


def test_jobs_may_be_one_a_core():
    arguments = cli.parser().parse_args(["sweep", "compression_curves", "--jobs", "-1"])
    assert arguments.jobs == -1


def test_chapters_are_listed_with_what_they_are_about(capsys):
    assert cli.main(["chapters", "--names"]) == 0
    names = capsys.readouterr().out.split()
    assert names == chapters.names()
    assert cli.main(["chapters"]) == 0
    for name, line in zip(names, capsys.readouterr().out.splitlines(), strict=True):
        assert line.split()[0] == name
        assert chapters.part(name, "experiment").__doc__.split("\n")[0] in line


@pytest.mark.parametrize(
    ("chapter", "data"),
    [
        ("shap_agreement", "mnist"),  # ten classes
        ("pixel_representatives", "income"),  # no image
        ("resnet_pruning", "breast_cancer"),
        ("compression_curves", "cifar10"),  # not flat
    ],
)
@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_data_that_do_not_suit_a_chapter_are_refused(chapter, data, more, tmp_path, capsys):
    out = tmp_path / "records.jsonl"
    assert cli.main(["sweep", chapter, "--data", data, "--out", str(out), *more]) == 1
    said = capsys.readouterr()
    assert f"data: got {data!r}, {chapter} needs one of" in said.err
    assert said.err.count("\n") == 1
    assert not out.exists()


def test_the_book_without_its_extra_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pruning.pages.book", None)
    monkeypatch.delattr("pruning.pages.book", raising=False)
    assert cli.main(["book"]) == 1
    said = capsys.readouterr().err
    assert 'comes with the extra "book"' in said
    assert said.count("\n") == 1


def test_another_data_set(tmp_path, monkeypatch, capsys):
    listed = [cc.Config(dataset="mnist", seed=seed) for seed in range(2)]
    monkeypatch.setattr(cc, "configs", lambda profile, seeds=None: listed)
    seen = []
    metrics = {
        "dense_weights": 64 * 300 + 300 * 100 + 100 * 10,
        "kept": 1,
        "kept_by_layer": [1, 0, 0],
        "effective": 1,
        "biases": 410,
        "test_accuracy": 1.0,
        "validation_accuracy": None,
        "provenance": {"data": "none"},
    }
    monkeypatch.setattr(cc, "run", lambda config: seen.append(config.dataset) or dict(metrics))
    out = tmp_path / "curves.jsonl"
    arguments = ["sweep", "compression_curves", "--jobs", "1", "--out", str(out), "--data"]
    assert cli.main([*arguments, "digits"]) == 0
    assert [r["dataset"] for r in records.read(out)] == seen == ["digits", "digits"]
    assert cli.main([*arguments, "imagenet"]) == 1
    assert "data: got 'imagenet', compression_curves needs one of" in capsys.readouterr().err
    assert cli.main(["sweep", "pathways", "--out", str(out), "--data", "digits"]) == 1
    assert "the runs of pathways are not on a data set" in capsys.readouterr().err


def test_run_trains_one_network_and_prints_what_it_found(tmp_path, capsys):
    out = tmp_path / "one.jsonl"
    small = [
        "dataset=digits",
        "hidden=8,6",
        "epochs=1",
        "finetune_epochs=1",
        "tau=3",
        "seed=5",
    ]
    assert cli.main(["run", "compression_curves", "--set", *small, "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert "test_accuracy" in said.out
    assert "epoch" in said.err  # the bar
    (record,) = records.read(out)
    # gates that had one epoch have not decided
    assert record["kept"] > 1.5 * record["density"] * record["dense_weights"]
    assert f"pruning: {record['kept']:,} weights are kept" in said.err
    assert (record["tau"], record["seed"], record["hidden"]) == (3.0, 5, [8, 6])
    assert cli.main(["run", "compression_curves", "--set", "taau=3"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"kept": 16, "density": 0.1, "dense_weights": 100}, "16 weights are kept, 10 were"),
        ({"kept": 15, "density": 0.1, "dense_weights": 100}, None),
        ({"kept": 16, "density": None, "dense_weights": 100}, None),
        ({"kept": 5, "kept_by_layer": [5, 0]}, "a layer has no weights left"),
        ({"kept": 5, "kept_by_layer": [4, 1]}, None),
    ],
)
def test_run_says_what_is_unlike_what_was_asked_for(monkeypatch, capsys, record, words):
    monkeypatch.setattr(records, "run_one", lambda run, config: record)
    assert cli.main(["run", "compression_curves"]) == 0
    said = capsys.readouterr().err
    assert (words in said) if words else (said == "")


def test_sweep_takes_a_part_of_its_list(capsys):
    part = ["method=gates", "density=0.01", "dataset=mnist"]
    assert cli.main(["sweep", "compression_curves", "--dry-run", "--set", *part]) == 0
    assert "of 10 runs" in capsys.readouterr().out


def test_methods_and_their_settings_are_listed(capsys):
    assert cli.main(["methods"]) == 0
    assert "gates" in capsys.readouterr().out
    assert cli.main(["methods", "gates"]) == 0
    assert "tau = 2.0" in capsys.readouterr().out
    assert cli.main(["methods", "magic"]) == 1


def installed(tmp_path, *arguments, **environment):
    """The command of a copy of the package alone, as a wheel installs it: no checkout around
    it."""
    package = tmp_path / "site" / "pruning"
    shutil.copytree(
        chapters.FOLDER.parent, package, ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(
        chapters.FOLDER.parents[1] / "data" / "registry.toml", package / "registry.toml"
    )
    variables = {
        name: text for name, text in os.environ.items() if not name.startswith("PRUNING_")
    }
    return subprocess.run(
        [sys.executable, "-m", "pruning", *arguments],
        cwd=tmp_path,
        env=variables | {"PYTHONPATH": str(package.parent)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_installed_package_says_where_it_looks_for_records(tmp_path):
    done = installed(tmp_path, "claims")
    assert done.returncode == 1
    assert done.stderr.startswith(
        "pruning: records: got the folder 'records', which does not exist"
    )
    assert done.stderr.count("\n") == 1


def test_an_installed_package_judges_the_claims(tmp_path):
    folder = tmp_path / "some records"  # of one chapter: to read all takes seconds
    folder.mkdir()
    committed = chapters.FOLDER.parents[1] / "book" / "records"
    shutil.copy(committed / "compression_curves.jsonl", folder)
    done = installed(tmp_path, "claims", PRUNING_RECORDS=str(folder))
    assert done.returncode == 0, done.stderr
    assert "G2  partly" in done.stdout
    assert "R1  not measured" in done.stdout


@pytest.mark.parametrize("unbuffered", ["", "1"])  # "": a short output is written at the end
def test_a_reader_that_goes_away_is_no_error(unbuffered):
    command = [sys.executable, "-m", "pruning", "chapters"]
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


INTERRUPTED = """
import os, runpy, signal, sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == at:
            os.kill(os.getpid(), signal.SIGINT)

at = sys.argv.pop(1)
sys.meta_path.insert(0, Interrupt())
runpy.run_module("pruning", run_name="__main__")
"""


@pytest.mark.parametrize(
    ("at", "arguments"),
    [
        ("argparse", "sweep compression_curves --dry-run"),
        ("pruning.chapters", "sweep compression_curves --dry-run"),
        ("torch", "sweep compression_curves --dry-run"),
        ("pandas._libs", "claims"),
    ],
)
def test_an_interrupt_while_modules_load_is_one_line(at, arguments):
    command = [sys.executable, "-c", INTERRUPTED, at, *arguments.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr.split("\n") == [
        "",
        "pruning: interrupted; the same command continues",
        "",
    ]
    assert done.returncode == 130


@pytest.mark.parametrize(
    ("chapter", "values", "words"),
    [
        (
            "compression_curves",
            ["dataset=digit"],
            "dataset: got 'digit', needs one of ['mnist'",
        ),
        ("compression_curves", ["epochs=0"], "epochs: got 0, needs 1 or more"),
        ("robustness", ["epochs=0", "method=magnitude"], "epochs: got 0, needs 1 or more"),
        ("resnet_pruning", ["dataset=digit"], "dataset: got 'digit', needs one of ['cifar10'"),
        ("resnet_pruning", ["epochs=0"], "epochs: got 0, needs `int` >= 1"),
        ("pathways", ["lr=-1"], "lr: got -1.0, needs `float` > 0.0"),
    ],
)
def test_a_wrong_value_names_its_argument(capsys, chapter, values, words):
    for command in ("run", "sweep"):
        assert cli.main([command, chapter, "--set", *values]) == 1
        said = capsys.readouterr().err
        assert said.startswith(f"pruning: {words}"), said
        assert said.count("\n") == 1
