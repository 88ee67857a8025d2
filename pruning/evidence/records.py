"""Evidence on disk: one JSON line a finished run, appended and never changed.

A record is flat: the fields of the run's config (a frozen dataclass), its metrics, and
`provenance`. A config already on record is not run again. A config that gains a field keeps
its old records, which then stand for the field's default.

A long file can be packed: ``NAME.jsonl.xz`` then holds its lines, ``NAME.jsonl`` those
appended since.
"""

import contextlib
import lzma
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from filelock import FileLock, Timeout

from pruning.evidence import metrics, schema
from pruning.evidence.configs import of_record
from pruning.evidence.schema import Record, RecordError
from pruning.files import CHECKOUT, settled

if TYPE_CHECKING:  # a process that trains needs no pandas, which takes long to import
    import pandas

ABSENT = object()  # equals no value
_READ: dict[tuple, tuple[tuple, list[Record]]] = {}  # of `read_again`


@dataclass(frozen=True)
class Found:
    """What `check` finds in a file: how many sound records, and the error after them, if
    any."""

    path: Path
    count: int
    error: str = ""


def records_folder() -> Path:
    """``$PRUNING_RECORDS``, else book/records of the checkout, else records/ of the working
    folder."""
    if folder := os.environ.get("PRUNING_RECORDS"):
        return Path(folder)
    return CHECKOUT / "book" / "records" if CHECKOUT else Path("records")


def packed(path: Path) -> Path:
    """Where the packed part of a record file lies."""
    return path.with_name(f"{path.name}.xz")


def _raw(path: Path) -> Iterator[tuple[str, bytes]]:
    """Place ("FILE:NUMBER") and bytes of every line, those of the packed part first; a line
    that stands in both parts counts once, because packing may have been cut off. Blank lines
    at the end are none."""
    settled = set()
    for part in (packed(path), path):
        if not part.is_file():
            continue
        content = part.read_bytes()
        if part != path:
            try:
                content = lzma.decompress(content)
            except (lzma.LZMAError, EOFError) as error:
                said = f"{part}: not a whole xz file ({error}); restore the file from git"
                raise RecordError(said) from None
            settled = set(content.split(b"\n"))
        whole = content[: content.rfind(b"\n") + 1].rstrip()
        for number, line in enumerate(whole.split(b"\n") if whole else [], start=1):
            if part != path or line not in settled:
                yield f"{part}:{number}", line


@contextlib.contextmanager
def _at(place: str) -> Iterator[None]:
    try:
        yield
    except RecordError as error:
        raise RecordError(
            f"{place}: {error}; restore the file from git or mend the line"
        ) from None


def lines(path: Path) -> Iterator[tuple[str, Record]]:
    """Place and content of every line of a file of JSON objects; nothing where there is no
    file.

    A last line without its end belongs to a write that was cut off: it is ignored. Any other
    line that is not a JSON object raises RecordError with its number.
    """
    for place, line in _raw(path):
        with _at(place):
            found = schema.parse(line)
        yield place, found


def append_line(path: Path, content: Record) -> None:
    """Write one JSON object at the end and flush it to disk; a torn last line, and blank ones,
    are cut off first."""
    line = schema.encode(content)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        file.seek(max(0, file.tell() - 2))
        if not file.read().endswith(b"}\n"):
            file.seek(0)
            content = file.read()
            file.truncate(len(content[: content.rfind(b"\n") + 1].rstrip()))
            if file.tell():
                file.write(b"\n")
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def read(path: Path, kinds: Sequence[type] = ()) -> list[Record]:
    """All records of a file, oldest first; [] where there is none.

    `kinds` are the classes of configs that its records were made with, if these are to be
    checked against what their runs yield (`metrics`); `pruning.chapters.evidence` knows them.
    Raises RecordError that names file, line and field, if a record lacks a field or has a
    wrong one (see `schema`), or if two stand for the same config.
    """
    return [record for _, record in _checked(path, kinds)]


def read_again(path: Path, kinds: Sequence[type] = ()) -> list[Record]:
    """As `read`, but a file that has not changed since this process read it is not read anew.

    The list and its records are the caller's; the values in a record are shared and must not
    be changed.
    """
    state = _state(path)
    key = path.absolute(), tuple(kinds)
    if key not in _READ or _READ[key][0] != state:
        _READ.pop(key, None)
        found = read(path, kinds)
        if not all(settled(changed) for changed, _ in filter(None, state)):
            return found
        _READ[key] = state, found
    return [dict(record) for record in _READ[key][1]]


def _state(path: Path) -> tuple[tuple[int, int] | None, ...]:
    """Time of the last change (ns) and size of both parts of a record file; None for one that
    is not there."""
    found: list[tuple[int, int] | None] = []
    for part in (packed(path), path):
        try:
            status = part.stat()
        except FileNotFoundError:
            found.append(None)
        else:
            found.append((status.st_mtime_ns, status.st_size))
    return tuple(found)


def _checked(path: Path, kinds: Sequence[type]) -> Iterator[tuple[str, Record]]:
    """Place and content of every record. With `kinds` configs are compared, else the fields
    that are written: a record from before a field was added stands for the field's default."""
    places: dict[Any, str] = {}
    for place, line in _raw(path):
        with _at(place):
            record = schema.parse(line)
            schema.check(line, record)
            key = metrics.check(record, kinds) if kinds else schema.config_key(record)
            if (first := places.setdefault(key, place)) != place:
                raise RecordError(f"stands for the same config as {first}")
        yield place, record


def append(path: Path, record: Record) -> None:
    """Write one record at the end of a file and flush it to disk.

    Raises RecordError, and writes nothing, if the record is not complete and sound or its
    config is already on record.
    """
    checked(record)
    key = schema.config_key(record)
    if any(schema.config_key(other) == key for _, other in lines(path)):
        raise RecordError(f"{path}: has a record of this config already")
    append_line(path, record)


def checked(record: Record, kinds: Sequence[type] = ()) -> Record:
    """A record as it reads back from disk (tuples are lists). Raises RecordError that names a
    wrong field."""
    line = schema.encode(record)
    found = schema.parse(line.rstrip())
    schema.check(line, found)
    if kinds:
        metrics.check(found, kinds)
    return found


def check(paths: Iterable[Path], kinds: Callable[[Path], Sequence[type]]) -> Iterator[Found]:
    """What is found in each file, one after the other.

    `kinds` maps a file to the classes of its configs. A file without a record, a wrong record,
    and a record that an earlier file has as well are errors.
    """
    places: dict[bytes, str] = {}
    for path in paths:
        count = 0
        try:
            for place, record in _checked(path, kinds(path)):
                count += 1
                with _at(place):
                    same = msgspec.json.encode(record)
                    if (first := places.setdefault(same, place)) != place:
                        raise RecordError(f"is the same record as {first}")
            if not count:
                raise RecordError(f"{path}: has no record; restore it from git or remove it")
            yield Found(path, count)
        except RecordError as error:
            yield Found(path, count, str(error))


@contextlib.contextmanager
def writing(path: Path | None) -> Iterator[None]:
    """Hold the record file for this process alone."""
    if path is None:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_suffix(".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RecordError(f"{path}: another sweep is writing it; wait for that one") from None
    try:
        yield
    finally:
        lock.release()


def pack(path: Path) -> int:
    """Move the lines of a file into its packed part and return the number that this then
    has."""
    with writing(path):
        whole = [line for _, line in _raw(path)]
        content = lzma.compress(b"".join(line + b"\n" for line in whole), preset=9)
        temporary = packed(path).with_suffix(".tmp")
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(packed(path))
        path.unlink(missing_ok=True)
    return len(whole)


def table(records: Iterable[Record]) -> "pandas.DataFrame":
    """Records as a data frame, one row each, provenance as ``provenance.*`` columns."""
    import pandas

    return pandas.json_normalize(list(records))


def select(evidence: Iterable[Record], **where: Any) -> list[Record]:
    """The records whose fields have these values, e.g. ``select(evidence,
    dataset="mnist")``."""
    return [
        record
        for record in evidence
        if all(record.get(key, ABSENT) == value for key, value in where.items())
    ]


def summary(
    evidence: Iterable[Record], by: list[str], metric: str = "test_accuracy"
) -> "pandas.DataFrame":
    """Per group of the columns `by`: seeds, kept and effective weights (mean), and of
    `metric`, a fraction, the mean, standard deviation over seeds, worst and best in per
    cent."""
    import pandas

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
    """Mean and deviation as "95.53 ± 0.14"; the mean alone where there is none, of one
    seed."""
    return f"{mean:.{digits}f}" + (f" ± {sd:.{digits}f}" if sd == sd else "")


def mean_table(
    evidence: Iterable[Record],
    rows: list[str],
    columns: list[str],
    metric: str = "test_accuracy",
    digits: int = 2,
) -> "pandas.DataFrame":
    """Mean ± standard deviation over seeds of `metric`, a fraction, in per cent, as text; no
    deviation where there is one seed, "–" where there is none."""
    import pandas

    frame = table(evidence)
    if frame.empty:
        return pandas.DataFrame()
    grouped = frame.groupby([*rows, *columns], dropna=False)[metric]
    frame = pandas.DataFrame({"mean": 100 * grouped.mean(), "sd": 100 * grouped.std()})
    said = [plus_minus(mean, sd, digits) for mean, sd in frame.itertuples(index=False)]
    return pandas.Series(said, index=frame.index).unstack(columns, fill_value="–")


def transposed(frame: "pandas.DataFrame", whole: Iterable[str]) -> "pandas.DataFrame":
    """Columns as rows, for narrow pages; those of `whole` as whole numbers."""
    import pandas

    turned = frame.T.astype(object)
    for row in whole:
        turned.loc[row] = [v if pandas.isna(v) else round(v) for v in turned.loc[row]]
    return turned


def config_of(record: Record, kind: type) -> Any:
    """The config (of dataclass `kind`) that a record was made with."""
    return of_record(record, kind)


def missing(configs: Iterable[Any], records: Iterable[Record]) -> list[Any]:
    """The configs that no record stands for, in order, each once.

    A file may hold records of several kinds of config; a record that is none of a kind,
    because its method or a value is unknown there, stands for none of them.
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
