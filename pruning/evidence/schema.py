"""What every record holds. msgspec checks it when a line is read and before one is written."""

import json
from datetime import datetime
from itertools import takewhile
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

Record = dict[str, Any]
Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Text = Annotated[str, Meta(min_length=1)]


class RecordError(RuntimeError):
    """A record, or a file of records, that is not what it should be or is in use."""


class Provenance(Struct):
    """What a number comes from."""

    commit: str | None
    versions: dict[str, str]
    device: Text
    threads: Positive
    finished: datetime
    seconds: Annotated[float, Meta(ge=0)]
    data: Text | None = None  # checksum
    together: Positive | None = None  # runs that shared the time


class Evidence(Struct):
    """The fields of every record, and those that the records of several chapters have."""

    dataset: Text
    method: Text
    seed: Count
    kept: Count | None
    effective: Count | None
    test_accuracy: Fraction | None
    provenance: Provenance
    study: Text | None = None
    density: Fraction | None = None
    sparsity: Fraction | None = None
    hidden: list[Positive] | None = None
    epochs: Count | None = None
    batch_size: Positive | None = None
    dense_weights: Count | None = None
    kept_by_layer: list[Count] | None = None


Accuracies = Fraction | list[Fraction] | None
# a record starts with its config; a metric is what comes from the first of these on
METRICS = {
    "dense_weights",
    "kept",
    "effective",
    "test_accuracy",
    "validation_accuracy",
    "provenance",
}
_evidence = msgspec.json.Decoder(Evidence)
_MARKS = {
    b"\xef\xbb\xbf": "starts with a byte order mark",
    b"<<<<<<<": "is a conflict marker of git",
    b"=======": "is a conflict marker of git",
    b">>>>>>>": "is a conflict marker of git",
}


def parse(line: bytes) -> Record:
    """A line as a JSON object. Raises RecordError in one line for anything else."""
    for mark, what in _MARKS.items():
        if line.startswith(mark):
            raise RecordError(f"not JSON: it {what}")
    try:
        found = msgspec.json.decode(line)
    except UnicodeDecodeError as error:
        raise RecordError(f"not UTF-8 ({error.reason})") from None
    except RecursionError:
        raise RecordError("not JSON that can be read: it is nested too deeply") from None
    except ValueError as error:
        raise RecordError(f"not JSON ({error})") from None
    if not isinstance(found, dict):
        raise RecordError("not a JSON object")
    return found


def check(line: bytes, record: Record) -> None:
    """Check a line that reads as `record`.

    Raises RecordError that names the field: one that is missing or has another type, a
    fraction outside of [0, 1], or more effective weights than weights.
    """
    try:
        found = _evidence.decode(line)
    except ValueError as error:
        raise RecordError(_said(error)) from None
    for name, value in record.items():
        if "accuracy" in name:
            try:
                msgspec.convert(value, Accuracies)
            except ValueError as error:
                raise RecordError(_said(error, name)) from None
    if found.kept is not None and (found.effective or 0) > found.kept:
        raise RecordError(f"effective: got {found.effective}, needs at most kept={found.kept}")


def encode(content: Record) -> bytes:
    """A JSON object as a line. Raises RecordError that names the field that cannot be
    written."""
    for name, value in content.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise RecordError(
                f"{name}: {error}; needs finite numbers, texts, lists and objects"
            ) from None
    return json.dumps(content).encode() + b"\n"


def config_key(record: Record) -> bytes:
    """What two records of the same config have in common: the fields before the first
    metric."""
    config = takewhile(lambda item: item[0] not in METRICS, record.items())
    return msgspec.json.encode(dict(config), order="sorted")


def _said(error: ValueError, name: str = "") -> str:
    """msgspec's "what - at `$.field`" as "field: what"."""
    what, _, place = str(error).partition(" - at `$")
    field = name + place.rstrip("`").removeprefix("." if not name else "")
    return f"{field}: {what[0].lower()}{what[1:]}" if field else what
