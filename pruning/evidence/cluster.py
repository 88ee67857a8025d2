"""A Dask cluster in place of this machine's processes: `sweep` inside `workers` runs on it."""

import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path

import joblib

ANSWER = 5.0  # seconds in which a scheduler answers


class ClusterError(RuntimeError):
    """The cluster cannot be reached, or nothing on it could run a sweep."""


def killed() -> tuple[type[Exception], ...]:
    """What is raised for a run whose worker process was killed, here or (more than once) on a
    cluster."""
    if "distributed" not in sys.modules:
        return (BrokenExecutor,)
    from distributed import KilledWorker

    return (BrokenExecutor, KilledWorker)


def _until(ready: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait until `ready`, and say what for after a second and then once a minute. Raises
    ClusterError when the time is over."""
    start = time.monotonic()
    said = 0
    while not ready():
        waited = time.monotonic() - start
        if waited >= seconds:
            raise ClusterError(f"scheduler: waited {seconds:g} seconds for {what}")
        if waited >= 1 + 60 * said:
            said += 1
            print(f"pruning: waiting for {what}", file=sys.stderr, flush=True)
        time.sleep(0.1)


def _address_in(file: Path, seconds: float) -> str:
    """The address in the file that a scheduler writes once it runs."""
    what = f"the scheduler file {file}, which `dask scheduler --scheduler-file` writes"
    # the scheduler opens the file first and then fills it
    _until(
        lambda: file.exists() and (not file.is_file() or file.stat().st_size > 0),
        seconds,
        what,
    )
    try:
        return str(json.loads(file.read_bytes())["address"])
    except (OSError, ValueError, TypeError, KeyError):
        raise ClusterError(f"scheduler: got 'file:{file}', needs {what}") from None


def _ask(address: str) -> None:
    """Raise ClusterError unless a scheduler answers at an address. The client of Dask itself
    waits without end for a port that is silent."""
    from distributed.comm import get_address_host_port
    from distributed.core import rpc
    from distributed.security import Security

    async def identity() -> dict:
        how = Security().get_connection_args("client")
        async with asyncio.timeout(ANSWER), rpc(address, connection_args=how) as scheduler:
            return await scheduler.identity()

    try:
        _, port = get_address_host_port(address)
        if not 0 < port < 65536:
            raise ValueError(f"a port is between 1 and 65535, not {port}")
        with ThreadPoolExecutor(1) as thread:  # a notebook has a running loop in its own
            answer = thread.submit(asyncio.run, identity())
            if wait([answer], timeout=2).not_done:
                print(f"pruning: waiting for {address} to answer", file=sys.stderr, flush=True)
            found = answer.result()["type"]
        if found != "Scheduler":
            raise ValueError(f"this is a {found.lower()}")
    except TimeoutError:
        reason = f"no answer for {ANSWER:g} seconds"
    except (OSError, ValueError, TypeError, KeyError) as error:
        reason = str(error).partition(" (perhaps")[0]
    else:
        return
    tls = "; book/clusters.md has the TLS settings" if address.startswith("tls:") else ""
    raise ClusterError(
        f"scheduler: got {address!r}, needs a Dask scheduler that answers: {reason}{tls}"
    )


@contextmanager
def workers(address: str, wait: float = 600.0) -> Iterator[int]:
    """Send every ``joblib.Parallel`` of the block to the workers of a Dask scheduler.

    Parameters
    ----------
    address : of the scheduler, e.g. "tcp://10.0.0.1:8786", or "file:PATH" for the scheduler
        file that ``dask scheduler --scheduler-file PATH`` writes.
    wait : seconds for that file to appear, and then for a first worker; a line on standard
        error says once a minute what is missing.

    Yields the number of worker threads that are there; workers may join and leave later. What
    a lost worker was doing is done again by another; only the process of the block writes
    records. Workers need the same commit of `pruning` and the environment variables that say
    where data are; give each one thread.

    Raises ClusterError without the package `distributed`, if the scheduler does not answer
    within seconds, or without a worker.
    """
    try:
        from distributed import Client
    except ImportError:
        raise ClusterError(
            "scheduler: needs the package distributed; in a checkout: pip install --editable"
            " '.[cluster]'"
        ) from None
    if address.startswith("file:"):
        address = _address_in(Path(address.removeprefix("file:")), wait)
    _ask(address)
    with Client(address, timeout=ANSWER, set_as_default=False) as client:
        _until(client.ncores, wait, f"a first worker of the scheduler {address}")
        with joblib.parallel_config(
            backend="dask", client=client, wait_for_workers_timeout=wait
        ):
            yield sum(client.ncores().values())
