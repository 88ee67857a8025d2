import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import joblib
import pytest

from pruning.evidence import records


@dataclasses.dataclass(frozen=True)
class Config:
    seed: int = 0
    method: str = "gates"
    sizes: tuple[int, ...] = (3, 2)


def run(config):
    return {
        "dataset": "none",
        "test_accuracy": config.seed / 10,
        "kept": 5,
        "effective": 4,
        "provenance": {"data": "abc"},
    }


CONFIGS = [Config(seed=s) for s in range(4)]


def test_sweep_writes_every_run_once_and_flat(tmp_path):
    path = tmp_path / "chapter.jsonl"
    new = list(records.sweep(run, CONFIGS, path, jobs=1, progress=False))
    assert new == records.read(path)
    assert [r["seed"] for r in new] == [0, 1, 2, 3]
    assert new[2] | {"provenance": None} == {
        "seed": 2,
        "method": "gates",
        "sizes": [3, 2],
        "dataset": "none",
        "test_accuracy": 0.2,
        "kept": 5,
        "effective": 4,
        "provenance": None,
    }
    assert {"commit", "versions", "device", "data", "seconds", "threads"} <= new[0][
        "provenance"
    ].keys()
    assert list(records.sweep(run, CONFIGS, path, jobs=1, progress=False)) == []
    more = [*CONFIGS, Config(seed=9), Config(seed=9)]
    assert [r["seed"] for r in records.sweep(run, more, path, jobs=1, progress=False)] == [9]
    assert not list(tmp_path.glob("*.tmp"))


def test_without_a_path_everything_runs_and_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert len(list(records.sweep(run, CONFIGS, jobs=1, progress=False))) == 4
    assert not list(tmp_path.iterdir())


def test_a_config_that_gains_a_field_keeps_its_records(tmp_path):
    path = tmp_path / "chapter.jsonl"
    list(records.sweep(run, CONFIGS, path, jobs=1, progress=False))

    @dataclasses.dataclass(frozen=True)
    class Wider(Config):
        momentum: float = 0.9

    found = records.read(path)
    assert records.missing([Wider(seed=1), Wider(seed=1, momentum=0.5)], found) == [
        Wider(seed=1, momentum=0.5)
    ]
    assert records.config_of(found[1], Wider) == Wider(seed=1)


def test_a_torn_last_line_is_ignored_and_cut_off(tmp_path):
    path = tmp_path / "chapter.jsonl"
    first, second = (records.run_one(run, config) for config in CONFIGS[:2])
    records.append(path, first)
    with path.open("a") as file:
        file.write('{"seed": 2, "te')
    assert records.read(path) == [first]
    records.append(path, second)
    assert records.read(path) == [first, second]


def test_a_line_is_on_the_disk_before_append_returns(tmp_path, monkeypatch):
    path, flushed = tmp_path / "chapter.jsonl", []
    monkeypatch.setattr(os, "fsync", lambda file: flushed.append(os.fstat(file).st_size))
    records.append(path, records.run_one(run, CONFIGS[0]))
    assert flushed == [path.stat().st_size]


def test_a_file_that_has_not_changed_is_read_once(tmp_path, monkeypatch):
    path, parsed = tmp_path / "chapter.jsonl", Counter()
    first, second = (records.run_one(run, config) for config in CONFIGS[:2])
    real = records.schema.parse
    monkeypatch.setattr(
        records.schema, "parse", lambda line: parsed.update(lines=1) or real(line)
    )

    def lines_read():
        parsed.clear()
        found = records.read_again(path, [Config])
        assert found == records.read(path)  # which parses each line once more
        found[0]["kept"] = -1  # a caller's list and records are its own
        return parsed["lines"] - len(found)

    records.append(path, first)
    assert [lines_read(), lines_read()] == [1, 1]  # just written: it may change unseen
    an_hour_ago = time.time() - 3600
    os.utime(path, (an_hour_ago, an_hour_ago))
    assert [lines_read(), lines_read()] == [1, 0]
    records.append(path, second)
    os.utime(path, (an_hour_ago, an_hour_ago))  # its size alone has changed
    assert [lines_read(), lines_read()] == [2, 0]
    os.utime(path, (an_hour_ago + 1, an_hour_ago + 1))
    assert [lines_read(), lines_read()] == [2, 0]
    records.pack(path)
    assert lines_read() == 2
    path.write_text("no record\n")
    with pytest.raises(records.RecordError, match="jsonl:1: not JSON"):
        records.read_again(path, [Config])


def test_two_sweeps_do_not_write_one_file(tmp_path):
    path = tmp_path / "chapter.jsonl"
    first = records.sweep(run, CONFIGS, path, jobs=1, progress=False)
    next(first)
    with pytest.raises(records.RecordError, match="another sweep"):
        next(records.sweep(run, CONFIGS, path, jobs=1, progress=False))
    first.close()
    assert len(list(records.sweep(run, CONFIGS, path, jobs=1, progress=False))) == 3


def test_any_joblib_backend(tmp_path):
    path = tmp_path / "chapter.jsonl"
    with joblib.parallel_config(backend="threading", n_jobs=2):
        list(records.sweep(run, CONFIGS, path, jobs=2, progress=False))
    assert sorted(r["seed"] for r in records.read(path)) == [0, 1, 2, 3]


SLOW = """
import dataclasses, pathlib, sys, time
from pruning.evidence import records

@dataclasses.dataclass(frozen=True)
class Config:
    seed: int = 0

def run(config):
    time.sleep(0.4)
    counts = {"kept": 1, "effective": 1}
    return {"dataset": "none", "method": "none", "test_accuracy": 0.5} | counts

if __name__ == "__main__":
    import slow
    configs = [slow.Config(seed) for seed in range(8)]
    list(records.sweep(slow.run, configs, pathlib.Path(sys.argv[1]), jobs=2))
"""


def test_killed_in_the_middle_loses_only_the_runs_in_flight(tmp_path):
    (tmp_path / "slow.py").write_text(SLOW)
    path = tmp_path / "chapter.jsonl"
    command = [sys.executable, "slow.py", str(path)]
    driver = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(records.read(path)) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    done = records.read(path)
    assert 3 <= len(done) < 8, "killed too late to say anything"
    subprocess.run(command, cwd=tmp_path, check=True, stderr=subprocess.DEVNULL)
    lines = path.read_text().splitlines()
    assert [
        json.loads(line) for line in lines[: len(done)]
    ] == done  # what was done is untouched
    assert Counter(json.loads(line)["seed"] for line in lines) == dict.fromkeys(range(8), 1)


def test_summary():
    found = [
        {"method": m, "seed": s, "kept": 10, "effective": 8, "test_accuracy": a}
        for m, s, a in (("a", 0, 0.5), ("a", 1, 0.7), ("b", 0, 0.9))
    ]
    frame = records.summary(found, ["method"])
    assert frame.loc["a", ["seeds", "mean", "worst", "best"]].tolist() == pytest.approx(
        [2, 60, 50, 70]
    )
    assert frame.loc["a", "sd"] == pytest.approx(14.142, abs=1e-3)


def test_mean_table_is_mean_and_deviation_over_seeds():
    found = [
        {"method": m, "sparsity": s, "seed": seed, "test_accuracy": a}
        for m, s, seed, a in (
            ("x", 0.5, 0, 0.90),
            ("x", 0.5, 1, 0.92),
            ("y", 0.9, 0, 0.5),
            ("y", 0.9, 1, 0.5),
        )
    ]
    table = records.mean_table(found, ["method"], ["sparsity"])
    assert table.loc["x", 0.5] == "91.00 ± 1.41"
    assert table.loc["y", 0.9] == "50.00 ± 0.00"
    assert table.loc["x", 0.9] == "–"
    assert records.mean_table(found[:1], ["method"], ["sparsity"]).loc["x", 0.5] == "90.00"
    assert records.mean_table([], ["method"], ["sparsity"]).empty
    assert records.select(found, method="x", seed=1) == [found[1]]
