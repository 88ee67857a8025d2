"""What every record holds. msgspec checks it when a line is read and before one is written.

A chapter's configs say more: their attribute `metrics` is a `Metrics` (see
`pruning.evidence.metrics`) with all that a run of theirs yields.
"""

import json
import math
import re
from collections.abc import Iterator
from datetime import datetime
from itertools import takewhile
from typing import Any

import msgspec
from msgspec import Struct

from pruning.bounds import Amount, Count, Fraction, Positive, Text

Record = dict[str, Any]


class RecordError(RuntimeError):
    """A record, or a file of records, that is not what it should be or is in use."""


class Provenance(Struct, forbid_unknown_fields=True):
    """What a number comes from."""

    commit: str | None
    versions: dict[str, str]
    device: Text
    threads: Positive
    finished: datetime
    seconds: Amount
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
_ANGLE = re.compile(rb"[<>]|\\u003[ce]", re.IGNORECASE)
_strict = msgspec.json.Decoder()  # refuses NaN, Infinity and what is beyond the largest float


def parse(line: bytes) -> Record:
    """A line as a JSON object. Raises RecordError in one line for anything else, for a number
    that is not finite, and for a name that stands twice in one object."""
    for mark, what in _MARKS.items():
        if line.startswith(mark):
            raise RecordError(f"not JSON: it {what}")
    try:
        found = json.loads(line, object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        raise RecordError(f"not UTF-8 ({error.reason})") from None
    except RecursionError:
        raise RecordError("not JSON that can be read: it is nested too deeply") from None
    except ValueError as error:
        raise RecordError(f"not JSON ({error})") from None
    if not isinstance(found, dict):
        raise RecordError("not a JSON object")
    try:
        _strict.decode(line)
    except (ValueError, RecursionError):
        for place, value in _parts(found):
            if isinstance(value, float) and not math.isfinite(value):
                raise RecordError(f"{place}: got {value}, needs a finite number") from None
    return found


def _object(pairs: list[tuple[str, Any]]) -> Record:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise RecordError(f"{twice}: stands twice in one object, needs to stand once")
    return found


def _parts(content: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Place and content of every number and text, and of every name in an object."""
    if isinstance(content, dict):
        for name, value in content.items():
            at = f"{place}.{name}" if place else name
            yield at, name
            yield from _parts(value, at)
    elif isinstance(content, list):
        for k, value in enumerate(content):
            yield from _parts(value, f"{place}[{k}]")
    else:
        yield place, content


def _fraction(value: Any) -> bool:
    """Whether a value is surely one of `Accuracies`: msgspec takes longer to say so, and finds
    the words for one that is not."""
    return value is None or (type(value) is float and 0 <= value <= 1)


def check(line: bytes, record: Record) -> None:
    """Check a line that reads as `record`.

    Raises RecordError that names the field, its value and what would be right: one that is
    missing or has another type, a text with a tag of HTML, a fraction outside of [0, 1], or
    numbers of weights that contradict each other.
    """
    if _ANGLE.search(line):
        for place, text in _parts(record):
            if isinstance(text, str) and set("<>") & set(text):
                what = f"{place}: got {text!r}, needs no < or >, for pages show it"
                raise RecordError(what)
    try:
        found = _evidence.decode(line)
    except ValueError as error:
        raise RecordError(said(error, record)) from None
    for name, value in record.items():
        if "accuracy" in name and not _fraction(value):
            try:
                msgspec.convert(value, Accuracies)
            except ValueError as error:
                raise RecordError(said(error, record, name)) from None
    if found.kept is None:
        return
    if (found.effective or 0) > found.kept:
        raise RecordError(f"effective: got {found.effective}, needs at most kept={found.kept}")
    if found.dense_weights is not None and found.kept > found.dense_weights:
        raise RecordError(
            f"kept: got {found.kept}, needs at most dense_weights={found.dense_weights}"
        )
    if found.kept_by_layer is not None and sum(found.kept_by_layer) != found.kept:
        raise RecordError(
            f"kept_by_layer: got {found.kept_by_layer}, needs a sum of kept={found.kept}"
        )


def encode(content: Record) -> bytes:
    """A JSON object as a line. Raises RecordError that names the field that cannot be
    written."""
    try:
        return json.dumps(content, allow_nan=False).encode() + b"\n"
    except (TypeError, ValueError, RecursionError):
        for name, value in content.items():
            try:
                json.dumps(value, allow_nan=False)
            except (TypeError, ValueError, RecursionError) as error:
                raise RecordError(
                    f"{name}: {error}; needs finite numbers, texts, lists and objects"
                ) from None
        raise


def config_key(record: Record) -> bytes:
    """What two records of the same config have in common: the fields before the first
    metric."""
    config = takewhile(lambda item: item[0] not in METRICS, record.items())
    return msgspec.json.encode(dict(config), order="sorted")


def said(error: ValueError, content: Any, name: str = "") -> str:
    """msgspec's "Expected … - at `$.field`" as "field: got …, needs …".

    `content` is what was checked; a `name` says that it was this field of it.
    """
    what, _, place = str(error).partition(" - at `$")
    place = name + place.rstrip("`")
    field = place.removeprefix(".")
    if unknown := re.fullmatch(r"Object contains unknown field `(.*)`", what):
        field = f"{field}.{unknown[1]}".removeprefix(".")
        what = "Expected to be left out, a record of this kind has no such field"
    if not what.startswith("Expected"):
        return f"{field}: {what[0].lower()}{what[1:]}" if field else what
    value = content
    for key, index in re.findall(r"([^.[]+)|\[(\d+)\]", field):
        value = value[key] if key else value[int(index)]
    return (
        f"{field}: got {value!r}, needs {what.removeprefix('Expected ').partition(', got')[0]}"
    )
