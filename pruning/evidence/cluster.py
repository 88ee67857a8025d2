"""A Dask cluster in place of this machine's processes: `records.sweep` inside `workers` runs
on it."""

import sys
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager

import joblib


class ClusterError(RuntimeError):
    """The cluster cannot be reached, or nothing on it could run a sweep."""


def killed() -> tuple[type[Exception], ...]:
    """What is raised for a run whose worker process was killed, here or (more than once) on a
    cluster."""
    if "distributed" not in sys.modules:
        return (BrokenExecutor,)
    from distributed import KilledWorker

    return (BrokenExecutor, KilledWorker)


@contextmanager
def workers(address: str, wait: float = 60.0) -> Iterator[int]:
    """Send every ``joblib.Parallel`` of the block to the workers of a Dask scheduler.

    Parameters
    ----------
    address : of the scheduler, e.g. "tcp://10.0.0.1:8786", or "file:PATH" for the scheduler
        file that ``dask scheduler --scheduler-file PATH`` writes.
    wait : seconds for the scheduler to answer, and then for a first worker to come up.

    Yields the number of worker threads that are there; workers may join and leave later. What
    a lost worker was doing is done again by another; only the process of the block writes
    records. Workers need the same commit of `pruning` and the environment variables that say
    where data are; give each one thread.

    Raises ClusterError without the package `distributed`, without an answer, or without a
    worker.
    """
    try:
        from distributed import Client
    except ImportError:
        raise ClusterError(
            "scheduler: needs the package distributed; in a checkout: pip install --editable"
            " '.[cluster]'"
        ) from None
    try:
        where = (
            {"scheduler_file": address[5:]}
            if address.startswith("file:")
            else {"address": address}
        )
        client = Client(**where, timeout=wait, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"scheduler: got {address!r}, needs a Dask scheduler that answers: {error}"
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=wait)
        except TimeoutError:
            raise ClusterError(
                f"scheduler: {address} has had no worker for {wait:g} seconds"
            ) from None
        with joblib.parallel_config(
            backend="dask", client=client, wait_for_workers_timeout=wait
        ):
            yield sum(client.ncores().values())
