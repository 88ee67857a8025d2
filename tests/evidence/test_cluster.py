"""Sweeps on a real Dask cluster: a scheduler and two worker processes on this machine."""

import json
import os
import re
import signal
import socket
import time
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from pruning import cli
from pruning.chapters.compression_curves import experiment as cc
from pruning.evidence import cluster, records
from pruning.files import CHECKOUT

distributed = pytest.importorskip("distributed")
# Dask's own, when a worker dies
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@dataclass(frozen=True)
class Slow:
    """A run that says who is at it; all but the first two wait until a worker was killed."""

    folder: str
    seed: int = 0


def slow(config):
    with open(os.path.join(config.folder, f"{config.seed}-{os.getpid()}"), "w"):
        pass
    killed = os.path.join(os.path.dirname(config.folder), "killed")
    while config.seed > 1 and not os.path.exists(killed):
        time.sleep(0.02)
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
                while not (waiting := list(started.glob("[2-7]-*"))):
                    time.sleep(0.02)
                killed = int(waiting[0].name.split("-")[1])
                os.kill(killed, signal.SIGKILL)
                (tmp_path / "killed").touch()
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


def enter(where, wait=0.5):
    with cluster.workers(where, wait):
        pass


def test_without_a_worker_or_the_package_one_line_says_so(monkeypatch, capsys):
    with (
        distributed.LocalCluster(n_workers=0, dashboard_address=":0", protocol="tcp") as empty,
        pytest.raises(
            cluster.ClusterError, match=r"waited 0\.5 seconds for a first worker of"
        ),
    ):
        enter(empty.scheduler_address)
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    assert cli.main(["sweep", "pathways", "--scheduler", "tcp://127.0.0.1:1"]) == 1
    assert "pip install --editable '.[cluster]'" in capsys.readouterr().err


@pytest.fixture
def silent():
    """A port that listens and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield "{}:{}".format(*server.getsockname())


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ("tcp://{silent}", "no answer for"),
        ("tls://{silent}", "TLS expects .*book/clusters.md has the TLS settings"),
        ("tcp://127.0.0.1:1", "no answer for"),
        ("tcp://127.0.0.1:99999", "a port is between 1 and 65535, not 99999"),
        ("tcp://127.0.0.1", "missing port number"),
        ("http://{silent}", "unknown address scheme 'http'"),
        ("{worker}", "this is a worker"),
    ],
)
def test_what_is_no_scheduler_is_refused_in_one_line(
    where, reason, silent, address, monkeypatch, capsys
):
    monkeypatch.setattr(cluster, "ANSWER", 1.0)
    with distributed.Client(address, set_as_default=False) as client:
        worker = next(iter(client.scheduler_info()["workers"]))
    where = where.format(silent=silent, worker=worker)
    start = time.monotonic()
    assert cli.main(["sweep", "pathways", "--scheduler", where]) == 1
    assert time.monotonic() - start < 10
    (said,) = capsys.readouterr().err.splitlines()
    assert re.search(rf"scheduler: got '{where}', needs a Dask scheduler .*{reason}", said)


@pytest.mark.parametrize("content", ["127.0.0.1 localhost\n", "[]", '{"workers": {}}'])
def test_a_file_that_no_scheduler_wrote_is_refused_in_one_line(tmp_path, content):
    file = tmp_path / "hosts"
    file.write_text(content)
    for path in (file, tmp_path):
        with pytest.raises(cluster.ClusterError, match=f"got 'file:{path}', needs the sched"):
            enter(f"file:{path}")


def test_a_scheduler_file_may_come_later_and_is_waited_for_with_a_line_a_minute(
    tmp_path, address, monkeypatch, capsys
):
    file = tmp_path / "scheduler.json"
    with pytest.raises(cluster.ClusterError, match=r"waited 0\.5 seconds for the scheduler f"):
        enter(f"file:{file}")
    clock, steps = [0.0], iter(range(1, 1000))

    def sleep(_):
        clock[0] += 1.0
        if next(steps) == 130:
            file.write_text(json.dumps({"address": address}))

    with monkeypatch.context() as patch:
        patch.setattr(
            cluster, "time", SimpleNamespace(monotonic=lambda: clock[0], sleep=sleep)
        )
        enter(f"file:{file}", wait=600)
    said = capsys.readouterr().err.splitlines()
    assert (
        said
        == [
            f"pruning: waiting for the scheduler file {file}, which `dask scheduler"
            " --scheduler-file` writes"
        ]
        * 3
    )  # after 1, 61 and 121 seconds


def test_the_recipe_for_one_machine_listens_on_the_loopback_address_alone():
    page = (CHECKOUT / "book" / "clusters.md").read_text()
    recipe = page.partition("## On one machine")[2].partition("\n## ")[0]
    commands = re.findall(r"^dask .*$", recipe, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:  # a worker's two ports as well as the scheduler's
        assert "--host 127.0.0.1 " in command
        assert "--dashboard-address 127.0.0.1:" in command
