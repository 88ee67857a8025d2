"""Evidence on disk: one JSON line a finished run, appended and never changed.

A record is flat: the fields of the run's config (a frozen dataclass), its metrics, and `provenance`. A
config already on record is not run again. A config that gains a field keeps its old records, which
then stand for the field's default.
"""

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas

from pruning.data.datasets import CHECKOUT
from pruning.evidence.configs import of_record

Record = dict[str, Any]
ABSENT = object()  # equals no value


class RecordError(RuntimeError):
    """A record file that cannot be read or is in use."""


def records_folder() -> Path:
    """``$PRUNING_RECORDS``, else book/records of the checkout, else records/ of the working folder."""
    if folder := os.environ.get("PRUNING_RECORDS"):
        return Path(folder)
    return CHECKOUT / "book" / "records" if CHECKOUT else Path("records")


def lines(path: Path) -> Iterator[tuple[int, Record]]:
    """Number and content of every line of a file of JSON objects; nothing where there is no file.

    A last line without its end belongs to a write that was cut off: it is ignored. Any other line
    that is not a JSON object raises RecordError with its number.
    """
    if not path.is_file():
        return
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise RecordError(f"{path}:{number}: not JSON ({error}); restore the file from git") from None
        if not isinstance(found, dict):
            raise RecordError(f"{path}:{number}: not a JSON object; restore the file from git")
        yield number, found


def append_line(path: Path, content: Record) -> None:
    """Write one JSON object at the end and flush it to disk; a torn last line is cut off first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        file.seek(max(0, file.tell() - 1))
        if file.read() != b"\n":
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
        file.write(json.dumps(content, allow_nan=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read(path: Path) -> list[Record]:
    """All records of a file, oldest first; [] where there is none."""
    return [record for _, record in lines(path)]


def append(path: Path, record: Record) -> None:
    """Write one record at the end of a file and flush it to disk."""
    append_line(path, record)


def table(records: Iterable[Record]) -> pandas.DataFrame:
    """Records as a data frame, one row each, provenance as ``provenance.*`` columns."""
    return pandas.json_normalize(list(records))


def select(evidence: Iterable[Record], **where: Any) -> list[Record]:
    """The records whose fields have these values, e.g. ``select(evidence, dataset="mnist")``."""
    return [
        record for record in evidence if all(record.get(key, ABSENT) == value for key, value in where.items())
    ]


def summary(evidence: Iterable[Record], by: list[str], metric: str = "test_accuracy") -> pandas.DataFrame:
    """Per group of the columns `by`: seeds, kept and effective weights (mean), and of `metric`, a
    fraction, the mean, standard deviation over seeds, worst and best in per cent."""
    grouped = table(evidence).groupby(by, sort=True)
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


def plus_minus(mean: float, sd: float, digits: int = 2) -> str:
    """Mean and deviation as "95.53 ± 0.14"; the mean alone where there is none, of one seed."""
    return f"{mean:.{digits}f}" + (f" ± {sd:.{digits}f}" if sd == sd else "")


def mean_table(
    evidence: Iterable[Record],
    rows: list[str],
    columns: list[str],
    metric: str = "test_accuracy",
    digits: int = 2,
) -> pandas.DataFrame:
    """Mean ± standard deviation over seeds of `metric`, a fraction, in per cent, as text; no deviation
    where there is one seed, "–" where there is none."""
    frame = table(evidence)
    if frame.empty:
        return pandas.DataFrame()
    grouped = frame.groupby([*rows, *columns], dropna=False)[metric]
    frame = pandas.DataFrame({"mean": 100 * grouped.mean(), "sd": 100 * grouped.std()})
    said = [plus_minus(mean, sd, digits) for mean, sd in frame.itertuples(index=False)]
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
    """The configs that no record stands for, in order, each once.

    A file may hold records of several kinds of config; a record that is none of a kind, because its
    method or a value is unknown there, stands for none of them.
    """
    configs, records = list(dict.fromkeys(configs)), list(records)
    done = set()
    for kind in {type(config) for config in configs}:
        for record in records:
            with contextlib.suppress(ValueError):
                done.add(config_of(record, kind))
    return [config for config in configs if config not in done]


def __getattr__(name: str) -> Any:
    if name not in ("Together", "run_group", "run_one", "sweep"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pruning.evidence import runs, sweep

    return sweep.sweep if name == "sweep" else getattr(runs, name)
