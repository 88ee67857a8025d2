"""Sweeps whose runs fail, whose processes are killed, and that are stopped themselves."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from pruning.evidence import records
from pruning.evidence.runs import Together
from pruning.evidence.schema import RecordError
from pruning.evidence.sweep import SweepError, failures_file, sweep


@dataclass(frozen=True)
class Config:
    seed: int = 0
    method: str = "gates"


METRICS = {
    "dataset": "none",
    "kept": 2,
    "effective": 1,
    "test_accuracy": 0.5,
    "provenance": {"data": "x"},
}
CONFIGS = [Config(seed) for seed in range(4)]
FAILING = {1: KeyError("lost"), 2: ArithmeticError("too much")}


def run(config):
    if config.seed in FAILING:
        raise FAILING[config.seed]
    return METRICS


def quiet(*arguments, **more):
    return sweep(*arguments, jobs=1, progress=False, **more)


def seeds(path):
    return [record["seed"] for record in records.read(path)]


def test_failed_runs_stop_no_other_and_are_reported_at_the_end(tmp_path):
    path = tmp_path / "chapter.jsonl"
    with pytest.raises(SweepError) as caught:
        list(quiet(run, CONFIGS, path))
    assert seeds(path) == [0, 3]
    assert [failure.config.seed for failure in caught.value.failures] == [1, 2]
    assert str(caught.value).splitlines()[1:] == [
        "  seed=1: KeyError: 'lost'",
        "  seed=2: ArithmeticError: too much",
    ]
    assert "2 of 4 runs failed" in str(caught.value)
    kept = failures_file(path).read_text()
    assert "raise FAILING[config.seed]\\n" in kept, "the traceback is kept"


def test_failed_runs_are_skipped_and_reported_until_they_are_retried(tmp_path, monkeypatch):
    path = tmp_path / "chapter.jsonl"
    with pytest.raises(SweepError):
        list(quiet(run, CONFIGS, path))
    tried = []
    with pytest.raises(SweepError, match="2 of 4"):
        list(quiet(lambda config: tried.append(config) or METRICS, CONFIGS, path))
    assert tried == []
    other = [Config(seed, "other") for seed in (1, 5)]
    with pytest.raises(SweepError, match="1 of 2"):  # another sweep of the same file
        list(quiet(run, other, path))
    assert seeds(path) == [0, 3, 5]
    monkeypatch.delitem(FAILING, 2)
    with pytest.raises(SweepError, match="1 of 4"):
        list(quiet(run, CONFIGS, path, retry=True))
    assert seeds(path) == [0, 3, 5, 2]
    monkeypatch.delitem(FAILING, 1)
    assert [r["seed"] for r in quiet(run, CONFIGS, path, retry=True)] == [1]
    assert list(quiet(run, CONFIGS, path)) == []
    assert [r["method"] for _, r in records.lines(failures_file(path))] == ["other"]
    assert [r["method"] for r in quiet(run, other, path, retry=True)] == ["other"]
    assert not failures_file(path).exists()


@dataclass(frozen=True)
class Other:
    """Of another class, with a method that `Config` does not have."""

    seed: int = 0
    method: str = "trees"
    depth: int = 2

    def __post_init__(self):
        if self.method != "trees":
            raise ValueError(f"method: got {self.method!r}, needs 'trees'")


def fail(config):
    raise KeyError("lost")


@pytest.mark.parametrize("turn", [1, -1])
def test_failed_runs_of_several_classes_stop_no_later_sweep(tmp_path, turn):
    path = tmp_path / "chapter.jsonl"
    both = [Config(7), Other(7)][::turn]
    with pytest.raises(SweepError, match="2 of 2"):
        list(quiet(fail, both, path))
    with (failures_file(path)).open("a") as file:  # of earlier code: fields that are gone
        file.write(
            '{"seed": 1, "width": 3, "method": "gone"}\n{"seed": 9, "method": "gates"}\n'
        )
    with pytest.raises(SweepError, match="2 of 3"):
        list(quiet(run, [*both, Config(8)], path))
    assert seeds(path) == [8]
    with pytest.raises(SweepError, match="seed=9: its error is not known"):
        list(quiet(run, [Config(9)], path))
    for one in both:  # each alone
        assert [r["seed"] for r in quiet(run, [one], path, retry=True)] == [7]
    left = [line.get("width", line["seed"]) for _, line in records.lines(failures_file(path))]
    assert left == [3, 9]


def test_a_list_of_failed_runs_that_cannot_be_read_says_what_to_do(tmp_path):
    path = tmp_path / "chapter.jsonl"
    failures_file(path).write_text("<<<<<<< HEAD\n")
    with pytest.raises(RecordError, match=r"chapter.failures:1: .*; delete the file"):
        list(quiet(run, CONFIGS, path))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
def test_a_metric_that_is_no_number_is_a_failure_and_leaves_no_line(tmp_path, value):
    path = tmp_path / "chapter.jsonl"
    with pytest.raises(SweepError, match="1 of 1 runs failed"):
        list(quiet(lambda config: METRICS | {"loss": value}, CONFIGS[:1], path))
    assert records.read(path) == []


def test_without_a_file_failures_are_reported_all_the_same():
    found = []
    with pytest.raises(SweepError, match="seed=1: KeyError: 'lost'"):
        found.extend(quiet(run, CONFIGS))
    assert [record["seed"] for record in found] == [0, 3]


def test_a_group_that_fails_is_run_one_by_one(tmp_path):
    def broken(configs):
        raise ValueError("the stack does not fit")

    path = tmp_path / "chapter.jsonl"
    with pytest.raises(SweepError, match="2 of 4"):
        list(quiet(run, CONFIGS, path, together=Together(lambda configs: [configs], broken)))
    assert seeds(path) == [0, 3]


def test_the_commit_is_read_when_the_run_starts(monkeypatch):
    from pruning.evidence import runs

    def origin_of(commit):
        return {"commit": commit, "device": "cpu", "versions": {}, "threads": 1}

    now = ["before"]
    monkeypatch.setattr(runs, "provenance", lambda: origin_of(now[0]))

    def commits(config):
        now[0] = "after"
        return METRICS | {"provenance": {"device": "gpu", "commit": "its own", "data": "none"}}

    origin = runs.run_one(commits, Config())["provenance"]
    assert (origin["commit"], origin["device"]) == ("before", "gpu")


PROGRAM = """
import argparse, dataclasses, os, pathlib, signal, sys, time
from tqdm.auto import tqdm
from pruning import __main__, cli
from pruning.evidence import sweep

@dataclasses.dataclass(frozen=True)
class Config:
    seed: int = 0
    method: str = "gates"

def run(config):
    tqdm(total=1, disable=True)  # as a training does
    time.sleep(float(sys.argv[2]) if len(sys.argv) > 2 else 0.05)
    if os.environ.get("KILLED") == str(config.seed):
        os.kill(os.getpid(), signal.SIGKILL)
    origin = {"data": str(os.getpid())}
    counts = {"kept": 1, "effective": 1}
    return {"dataset": "none", "test_accuracy": 0.5, "provenance": origin} | counts

def work(arguments):
    configs = [program.Config(seed) for seed in range(6)]
    for _ in sweep.sweep(program.run, configs, pathlib.Path(arguments.path), jobs=2):
        pass
    return 0

if __name__ == "__main__":
    import program
    # the command's own main, with this sweep as its command
    parser = argparse.ArgumentParser()
    parser.add_argument("path")
    parser.add_argument("seconds", nargs="?")
    parser.set_defaults(do=work)
    cli.parser = lambda: parser
    sys.exit(__main__.main())
"""


@pytest.fixture
def start(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    running = []

    def go(*arguments, **more):
        environment = (
            os.environ | {"PYTHONPATH": os.pathsep.join([os.getcwd(), str(tmp_path)])} | more
        )
        command = [sys.executable, "program.py", *arguments]
        running.append(
            subprocess.Popen(
                command,
                cwd=tmp_path,
                env=environment,
                text=True,
                start_new_session=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        )
        return running[-1]

    yield go
    for process in running:
        process.kill()
        process.communicate()


def wait_for(condition, process, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_run_that_kills_its_process_fails_alone(tmp_path, start):
    process = start("chapter.jsonl", KILLED="3")
    _, said = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "seed=3: its process was killed" in said
    assert "Traceback" not in said
    found = records.read(tmp_path / "chapter.jsonl")
    assert sorted(r["seed"] for r in found) == [0, 1, 2, 4, 5]
    assert str(process.pid) not in {r["provenance"]["data"] for r in found}


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_the_sweep_that_started_them(tmp_path, start, how):
    process = start("chapter.jsonl", "1")
    path = tmp_path / "chapter.jsonl"
    wait_for(lambda: path.is_file() and path.stat().st_size > 0, process)
    workers = psutil.Process(process.pid).children(recursive=True)
    assert len(workers) >= 2
    os.killpg(process.pid, how) if how == signal.SIGINT else process.send_signal(how)
    _, said = process.communicate(timeout=20)  # until nobody holds its standard error open
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert alive == []
    assert "Traceback" not in said
    assert Path(path).read_bytes().endswith(b"\n")
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert said.splitlines()[-1] == "pruning: interrupted; the same command continues"
