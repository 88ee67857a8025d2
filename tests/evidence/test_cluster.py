"""Sweeps on a real Dask cluster: a scheduler and two worker processes on this machine."""

import os
import signal
import time
from dataclasses import dataclass

import pytest

from pruning import cli
from pruning.chapters.compression_curves import experiment as cc
from pruning.evidence import cluster, records

distributed = pytest.importorskip("distributed")
# Dask's own, when a worker dies
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@dataclass(frozen=True)
class Slow:
    """A run that says who is at it."""

    folder: str
    seed: int = 0


def slow(config):
    with open(os.path.join(config.folder, f"{config.seed}-{os.getpid()}"), "w"):
        pass
    time.sleep(0.5)
    needed = {
        "dataset": "none",
        "method": "none",
        "kept": 1,
        "effective": 1,
        "test_accuracy": None,
    }
    return needed | {"square": config.seed**2, "worker": os.getpid()}


@pytest.fixture(scope="module")
def address():
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
    ) as local:
        yield local.scheduler_address


def test_a_killed_worker_loses_and_repeats_nothing(tmp_path, address):
    started = tmp_path / "started"
    started.mkdir()
    configs = [Slow(str(started), seed) for seed in range(8)]
    path = tmp_path / "runs.jsonl"
    killed = None
    with cluster.workers(address) as count:
        assert count == 2
        done = []
        for record in records.sweep(slow, configs, path, progress=False):
            done.append(record["seed"])
            if killed is None:
                busy = [name.name.split("-") for name in started.iterdir()]
                killed = next(int(pid) for seed, pid in busy if int(seed) not in done)
                os.kill(killed, signal.SIGKILL)
    found = records.read(path)
    assert sorted(done) == sorted(r["seed"] for r in found) == list(range(8))
    assert all(r["square"] == r["seed"] ** 2 for r in found)
    assert os.getpid() not in {r["worker"] for r in found}
    assert len(list(started.iterdir())) > len(
        configs
    )  # what the killed worker was at was done again
    with cluster.workers(address):
        assert list(records.sweep(slow, configs, path, progress=False)) == []


def test_the_command_gives_the_records_of_this_machine(tmp_path, address, monkeypatch):
    tiny = [
        cc.Config(dataset="digits", hidden=(8, 6), epochs=1, finetune_epochs=1, seed=s)
        for s in range(2)
    ]
    monkeypatch.setattr(cc, "configs", lambda profile, seeds=None: tiny)
    found = []
    for name, where in (("here", []), ("there", ["--scheduler", address])):
        out = tmp_path / f"{name}.jsonl"
        assert (
            cli.main(["sweep", "compression_curves", "--out", str(out), "--jobs", "1", *where])
            == 0
        )
        found.append(sorted(records.read(out), key=lambda r: r["seed"]))
    here, there = (
        [{k: v for k, v in r.items() if k != "provenance"} for r in part] for part in found
    )
    assert here == there


def test_no_scheduler_no_worker_no_package(monkeypatch, capsys):
    def enter(where):
        with cluster.workers(where, wait=0.5):
            pass

    with pytest.raises(cluster.ClusterError, match="needs a Dask scheduler that answers"):
        enter("tcp://127.0.0.1:1")
    with (
        distributed.LocalCluster(n_workers=0, dashboard_address=":0", protocol="tcp") as empty,
        pytest.raises(cluster.ClusterError, match=r"has had no worker for 0\.5 seconds"),
    ):
        enter(empty.scheduler_address)
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    assert cli.main(["sweep", "pathways", "--scheduler", "tcp://127.0.0.1:1"]) == 1
    assert "pip install --editable '.[cluster]'" in capsys.readouterr().err
