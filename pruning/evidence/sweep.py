"""Sweeps: every config that is not on record is run, and its record is written at once.

A run that raises an exception stops no other run. It is a `Failure`: written to a file beside
the records (``<chapter>.failures``, one JSON object a line, for this checkout only), and
reported when the sweep ends. A later sweep skips it and reports it again, unless it is told to
retry.
"""

import contextlib
import functools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import joblib
from tqdm import std
from tqdm.auto import tqdm

from pruning.evidence import cluster, records
from pruning.evidence.configs import flat
from pruning.evidence.runs import Failure, Together, run_group
from pruning.evidence.schema import Record, RecordError

WATCH = 1.0  # seconds between two looks of a worker process at the process that started it


class SweepError(RuntimeError):
    """Some runs of a sweep failed; every other run is done. `failures` has one entry a failed
    run."""

    def __init__(self, failures: list[Failure], total: int, where: str = ""):
        self.failures = failures
        lines = [f"{len(failures)} of {total} runs failed{where}", *map(str, failures)]
        super().__init__("\n  ".join(lines))


def _end_with(parent: int) -> None:
    """Start-up of a worker process: it ends soon after `parent`, however that one was
    ended."""
    # starting joblib's resource tracker lifts the block of `_deaf_to_interrupts`
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # the lock of its own that a bar makes is a semaphore, which a process that is ended leaks
    std.tqdm.set_lock(threading.RLock())

    def watch():
        while os.getppid() == parent:
            time.sleep(WATCH)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Processes started in the block never see Ctrl-C: it is for the process that started
    them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _parallel(
    work: Callable, groups: list[list], jobs: int, ahead: int
) -> Iterator[tuple[int, list]]:
    """(index, outcomes) of every group, as they come."""
    parallel = joblib.Parallel(
        n_jobs=jobs,
        return_as="generator_unordered",
        batch_size=1,
        pre_dispatch=ahead,
        initializer=_end_with,
        initargs=(os.getpid(),),
    )
    with _deaf_to_interrupts():
        found = parallel(
            joblib.delayed(_numbered)(k, work, group) for k, group in enumerate(groups)
        )
    yield from found


def _numbered(index: int, work: Callable, group: list) -> tuple[int, list]:
    return index, work(group)


def _outcomes(work: Callable, groups: list[list], jobs: int) -> Iterator[Record | Failure]:
    """Records and failures as they come.

    If a worker process is killed (most often because memory is short), every group that may
    have been on it runs again, one after another; a group whose process is killed again has
    failed.
    """
    ahead = 2 * joblib.effective_n_jobs(jobs)
    left = dict(enumerate(groups))
    while left:
        keys = list(left)
        try:
            for index, outcomes in _parallel(work, list(left.values()), jobs, ahead):
                del left[keys[index]]
                yield from outcomes
        except cluster.killed():
            for key in list(left)[:ahead]:
                group = left.pop(key)
                try:
                    # two jobs, because joblib runs a single one in this process
                    for _, outcomes in _parallel(work, [group], 2, 1):
                        yield from outcomes
                except cluster.killed():
                    error = "its process was killed, most often because memory is short"
                    yield from (Failure(config, error) for config in group)


def _grouped(together: Together | None, configs: list[Any]) -> list[list[Any]]:
    if together is not None:
        with contextlib.suppress(
            Exception
        ):  # a config that cannot be grouped fails when it runs
            return together.groups(configs)
    return [[config] for config in configs]


def failures_file(path: Path) -> Path:
    """Where the failed runs of a record file are listed."""
    return path.with_suffix(".failures")


def _keep(path: Path, failure: Failure) -> None:
    said = {"error": failure.error, "traceback": failure.traceback}
    records.append_line(failures_file(path), flat(failure.config) | said)


def _failed_earlier(path: Path, configs: set[Any]) -> list[tuple[Record, Failure | None]]:
    """The lines beside a record file, each with the failure of the one of `configs` that it
    stands for; None where it stands for none of them. A file lists configs of several classes,
    and of earlier code."""
    kinds, found = {type(config) for config in configs}, []
    try:
        lines = [line for _, line in records.lines(failures_file(path))]
    except RecordError as error:
        broken = str(error).partition("; restore")[0]
        raise RecordError(f"{broken}; delete the file, it only lists failed runs") from None
    for line in lines:
        mine = None
        for kind in kinds:
            with contextlib.suppress(ValueError):
                mine = records.config_of(line, kind)
            if mine in configs:
                error = str(line.get("error", "its error is not known"))
                found.append((line, Failure(mine, error, str(line.get("traceback", "")))))
                break
        else:
            found.append((line, None))
    return found


def _skipped(path: Path, configs: set[Any], todo: set[Any], retry: bool) -> list[Failure]:
    """Those of `todo` that failed earlier and are not to be retried. The list on disk keeps
    them and what belongs to other sweeps; it loses what is on record by now, or is to be
    retried."""
    earlier = _failed_earlier(path, configs)
    kept = [
        (line, failure)
        for line, failure in earlier
        if failure is None or (failure.config in todo and not retry)
    ]
    if len(kept) < len(earlier):
        failures_file(path).unlink()
        for line, _ in kept:
            records.append_line(failures_file(path), line)
    return [failure for _, failure in kept if failure is not None]


def sweep(
    run: Callable[[Any], Record],
    configs: Iterable[Any],
    path: Path | None = None,
    *,
    jobs: int = -1,
    progress: bool = True,
    together: Together | None = None,
    retry: bool = False,
) -> Iterator[Record]:
    """Run what is not on record yet, in parallel, and yield each new record once it is on
    disk.

    Parameters
    ----------
    run : maps a config to a dict of metrics; importable, so that worker processes can find it.
    configs : frozen dataclass instances.
    path : the record file; None keeps nothing and runs everything.
    jobs : processes; -1 for one a core. A ``joblib.parallel_config`` around the call overrides
        the backend. Only this process writes. Its workers end within seconds of it, even if it
        is killed.
    progress : show a bar.
    together : how the experiment runs several configs at once, if it does.
    retry : run again what failed in an earlier sweep; by default it is skipped and reported.

    If the sweep is stopped at any moment, it loses the runs in flight and nothing else.

    Raises
    ------
    RecordError : at once, if another sweep is writing the same file.
    SweepError : at the end, if runs failed, now or (skipped) earlier.
    """
    configs = list(dict.fromkeys(configs))
    with records.writing(path):
        todo, failed = configs, []
        if path is not None and configs:
            todo = records.missing(configs, records.read(path))
            failed = _skipped(path, set(configs), set(todo), retry)
            skipped = {failure.config for failure in failed}
            todo = [config for config in todo if config not in skipped]
        done = len(configs) - len(todo)
        groups = _grouped(together, todo) if todo else []
        work = functools.partial(run_group, run, together)
        with tqdm(total=len(configs), initial=done, disable=not progress, unit="run") as bar:
            for outcome in _outcomes(work, groups, min(jobs, max(1, len(groups)))):
                bar.update()
                if isinstance(outcome, Failure):
                    failed.append(outcome)
                    bar.set_postfix(failed=len(failed))
                    if path is not None:
                        _keep(path, outcome)
                    continue
                if path is not None:
                    records.append_line(path, outcome)  # checked by `run_group`
                yield outcome
    if failed:
        where = f"; {failures_file(path)} has their tracebacks" if path is not None else ""
        raise SweepError(failed, len(configs), where)
