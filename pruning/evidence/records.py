"""Evidence on disk: one JSON line a finished run, appended and never changed.

A record is flat: the fields of the run's config (a frozen dataclass), its metrics, and `provenance`. A
config already on record is not run again. A config that gains a field keeps its old records, which
then stand for the field's default.
"""

import dataclasses
import datetime
import itertools
import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import joblib
import pandas
import torch
from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from pruning.data.datasets import CHECKOUT
from pruning.evidence.configs import flat, of_record

Record = dict[str, Any]


class RecordError(RuntimeError):
    """A record file that cannot be read or is in use."""


def records_folder() -> Path:
    """``$PRUNING_RECORDS``, else book/records of the checkout, else records/ of the working folder."""
    if folder := os.environ.get("PRUNING_RECORDS"):
        return Path(folder)
    return CHECKOUT / "book" / "records" if CHECKOUT else Path("records")


def read(path: Path) -> list[Record]:
    """All records of a file, oldest first; [] where there is none.

    A last line without its end belongs to a write that was cut off: it is ignored. Any other line
    that is not a JSON object raises RecordError with its number.
    """
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    records = []
    for number, line in enumerate(lines[:-1], start=1):
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise RecordError(f"{path}:{number}: not JSON ({error}); restore the file from git") from error
        if not isinstance(record, dict):
            raise RecordError(f"{path}:{number}: not a JSON object; restore the file from git")
        records.append(record)
    return records


def append(path: Path, record: Record) -> None:
    """Write one record at the end and flush it to disk; a torn last line is cut off first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        file.seek(max(0, file.tell() - 1))
        if file.read() != b"\n":
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
        file.write(json.dumps(record, allow_nan=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def table(records: Iterable[Record]) -> pandas.DataFrame:
    """Records as a data frame, one row each, provenance as ``provenance.*`` columns."""
    return pandas.json_normalize(list(records))


def select(found: Iterable[Record], **where: Any) -> list[Record]:
    """The records whose fields have these values, e.g. ``select(evidence, dataset="mnist")``."""
    return [record for record in found if all(record[key] == value for key, value in where.items())]


def summary(found: Iterable[Record], by: list[str], metric: str = "test_accuracy") -> pandas.DataFrame:
    """Per group of the columns `by`: seeds, kept and effective weights (mean), and of `metric`, a
    fraction, the mean, standard deviation over seeds, worst and best in per cent."""
    grouped = table(found).groupby(by, sort=True)
    accuracy = grouped[metric]
    return pandas.DataFrame(
        {
            "seeds": grouped.seed.nunique(),
            "kept": grouped.kept.mean(),
            "effective": grouped.effective.mean(),
            "mean": 100 * accuracy.mean(),
            "sd": 100 * accuracy.std(),
            "worst": 100 * accuracy.min(),
            "best": 100 * accuracy.max(),
        }
    )


def spread(mean: float, sd: float, digits: int = 2) -> str:
    """Mean and deviation as "95.53 ± 0.14"; the mean alone where there is none, of one seed."""
    return f"{mean:.{digits}f}" + (f" ± {sd:.{digits}f}" if sd == sd else "")


def spread_table(
    found: Iterable[Record],
    rows: list[str],
    columns: list[str],
    metric: str = "test_accuracy",
    digits: int = 2,
) -> pandas.DataFrame:
    """Mean ± standard deviation over seeds of `metric`, a fraction, in per cent, as text; no deviation
    where there is one seed, "–" where there is none."""
    frame = table(found)
    if frame.empty:
        return pandas.DataFrame()
    grouped = frame.groupby([*rows, *columns], dropna=False)[metric]
    frame = pandas.DataFrame({"mean": 100 * grouped.mean(), "sd": 100 * grouped.std()})
    said = [spread(mean, sd, digits) for mean, sd in frame.itertuples(index=False)]
    return pandas.Series(said, index=frame.index).unstack(columns, fill_value="–")


def transposed(frame: pandas.DataFrame, whole: Iterable[str]) -> pandas.DataFrame:
    """Columns as rows, for narrow pages; those of `whole` as whole numbers."""
    turned = frame.T.astype(object)
    for row in whole:
        turned.loc[row] = [round(value) for value in turned.loc[row]]
    return turned


def config_of(record: Record, kind: type) -> Any:
    """The config (of dataclass `kind`) that a record was made with."""
    return of_record(record, kind)


def missing(configs: Iterable[Any], records: Iterable[Record]) -> list[Any]:
    """The configs that no record stands for, in order, each once."""
    configs = list(dict.fromkeys(configs))
    done = {config_of(record, type(configs[0])) for record in records} if configs else set()
    return [config for config in configs if config not in done]


def provenance(device: str | torch.device = "cpu") -> Record:
    """What a number came from: commit, versions, device, time. The run adds data checksum, seconds."""
    commit = None
    if CHECKOUT is not None:
        git = ["git", "-C", str(CHECKOUT)]
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
        code = ["status", "--porcelain", "--", "pruning"]
        dirty = subprocess.run([*git, *code], capture_output=True, text=True, check=False).stdout.strip()
        commit = head.stdout.strip() + ("-dirty" if dirty else "") if head.returncode == 0 else None
    device = torch.device(device)
    return {
        "commit": commit,
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("pruning", "torch", "numpy")},
        "device": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"cpu {platform.machine()}",
        "threads": torch.get_num_threads(),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _timed(work: Callable[[], Any], threads: int) -> tuple[Any, float, Record]:
    """What `work` returns, the seconds it took, and where: its provenance."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        start = time.perf_counter()
        result = work()
        return result, time.perf_counter() - start, provenance()
    finally:
        torch.set_num_threads(before)


def _record(config: Any, metrics: Record, origin: Record, own: Record) -> Record:
    """A record as it will read back from disk: tuples are lists. What a run says of its provenance goes over
    `origin`, `own` over both."""
    whole = {"provenance": origin | metrics.get("provenance", {}) | own}
    return json.loads(json.dumps(flat(config) | metrics | whole))


def run_one(run: Callable[[Any], Record], config: Any, threads: int = 1) -> Record:
    """Run one config and return its record. `run` maps a config to metrics.

    One thread by default: with as many runs at once as there are cores that is the fastest, and the
    sums of a run then come out the same on every machine of a kind.
    """
    metrics, seconds, origin = _timed(lambda: run(config), threads)
    return _record(config, metrics, origin, {"seconds": round(seconds, 2)})


@dataclasses.dataclass(frozen=True)
class Together:
    """How an experiment runs several configs at once, where that is faster.

    groups : configs ↦ the same configs in lists; each list is run at once. run : such a list ↦ their metrics.
    """

    groups: Callable[[list], list[list]]
    run: Callable[[list], list[Record]]


def run_group(run: Callable[[Any], Record], together: Together | None, configs: list[Any]) -> list[Record]:
    """The records of configs that run at once; seconds are an equal share of the time. A group that fails is
    run one by one: only a run that fails alone fails."""
    if len(configs) == 1 or together is None:
        return [run_one(run, config) for config in configs]
    try:
        found, seconds, origin = _timed(lambda: together.run(configs), threads=1)
    except RuntimeError:
        return [run_one(run, config) for config in configs]
    own = {"seconds": round(seconds / len(configs), 2), "together": len(configs)}
    return [_record(config, metrics, origin, own) for config, metrics in zip(configs, found, strict=True)]


def sweep(
    run: Callable[[Any], Record],
    configs: Iterable[Any],
    path: Path | None = None,
    *,
    jobs: int = -1,
    progress: bool = True,
    together: Together | None = None,
) -> Iterator[Record]:
    """Run what is not on record yet, in parallel, and yield each new record once it is on disk.

    Parameters
    ----------
    run : maps a config to a dict of metrics; importable, so that worker processes can find it.
    configs : frozen dataclass instances.
    path : the record file; None keeps nothing and runs everything.
    jobs : processes; -1 for one a core. A ``joblib.parallel_config`` around the call overrides the
        backend. Only this process writes.
    progress : show a bar.
    together : how the experiment runs several configs at once, if it does.

    Killed at any moment, it loses the runs in flight and nothing else. Raises RecordError if another
    sweep is writing the same file.
    """
    lock = None
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_suffix(".lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise RecordError(f"{path}: another sweep is writing it; wait for that one") from None
    try:
        configs = list(configs)
        todo = missing(configs, read(path)) if path is not None else configs
        if not todo:
            return
        groups = together.groups(todo) if together else [[config] for config in todo]
        jobs = min(jobs, len(groups))
        parallel = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)
        finished = parallel(joblib.delayed(run_group)(run, together, group) for group in groups)
        done = len(configs) - len(todo)
        bar = tqdm(total=len(configs), initial=done, disable=not progress, unit="run")
        for record in itertools.chain.from_iterable(finished):
            if path is not None:
                append(path, record)
            bar.update()
            yield record
        bar.close()
    finally:
        if lock is not None:
            lock.release()
