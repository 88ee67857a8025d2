"""What a run yields: the fields of a record that are not its config's, chapter by chapter.

A class of configs names its `Metrics`. Types and bounds are annotations; what several fields,
or a field and the config, must have in common is checked by `agrees`.
"""

import itertools
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct

from pruning.bounds import Amount, Count, Fraction, Positive, Rate
from pruning.evidence import configs, schema
from pruning.evidence.schema import Provenance, Record, RecordError

Connection = tuple[Count, Count, Count, float]  # layer, input, output, weight


class Metrics(Struct, forbid_unknown_fields=True, kw_only=True):
    """Of every record."""

    kept: Count | None
    effective: Count | None
    test_accuracy: Fraction | None
    provenance: Provenance

    def agrees(self, config: Any) -> None:
        """Raise ValueError, by `demand`, for fields that contradict the config or one
        another."""


class Whole(Metrics, kw_only=True):
    """Of a run that may record its network whole."""

    dense_weights: Positive | None = None
    kept_by_layer: list[Count] | None = None
    widths: list[Positive] | None = None
    connections: list[Connection] | None = None
    bias_values: list[list[float]] | None = None

    def of_sizes(self, sizes: Sequence[int]) -> None:
        """Demand what a network of Linear layers with these sizes can have."""
        room = [a * b for a, b in itertools.pairwise(sizes)]
        if self.dense_weights is not None:
            demand("dense_weights", self.dense_weights, sum(room))
        if self.kept is not None:
            at_most("kept", self.kept, sum(room), "the network's weights")
        if self.kept_by_layer is not None:
            demand("kept_by_layer, layers", len(self.kept_by_layer), len(room))
            for k, (kept, most) in enumerate(zip(self.kept_by_layer, room, strict=True)):
                at_most(f"kept_by_layer[{k}]", kept, most, "the layer's weights")
        if self.widths is not None:
            demand("widths", self.widths, list(sizes))
        if self.bias_values is not None:
            demand("bias_values, layers", [len(v) for v in self.bias_values], list(sizes[1:]))
        if self.connections is not None:
            self._connected(sizes)

    def _connected(self, sizes: Sequence[int]) -> None:
        places = {tuple(row[:3]) for row in self.connections or ()}
        demand("connections, distinct", len(places), self.kept)
        for layer, i, o in places:
            if layer + 1 >= len(sizes) or i >= sizes[layer] or o >= sizes[layer + 1]:
                raise ValueError(
                    f"connections: got {[layer, i, o]}, needs a place within {list(sizes)}"
                )


class Earlier(Whole, kw_only=True):
    """Of a run whose record, by an earlier version, may name settings of other methods."""

    lr: Rate | None = None
    finetune_lr: Rate | None = None
    gate_lr: Rate | None = None
    tau: Rate | None = None
    init: Fraction | None = None
    alpha: Amount | None = None
    beta: Amount | None = None
    penalty: Literal["log", "absolute"] | None = None
    target: Literal["falling", "constant"] | None = None
    descent: Fraction | None = None
    allocation: list[Fraction] | None = None
    at_most: Count | None = None
    fraction: Fraction | None = None
    l1: Amount | None = None
    split: Literal["test", "validation"] | None = None
    kind: Literal["relative", "absolute", "output"] | None = None
    decay: Rate | None = None
    form: Literal["sum", "product"] | None = None
    tolerance: Fraction | None = None
    blind: bool | None = None


def demand(name: str, value: Any, right: Any) -> None:
    """Raise ValueError unless a field has the only value that is right."""
    if value != right:
        raise ValueError(f"{name}: got {value!r}, needs {right!r}")


def at_most(name: str, value: float, limit: float, what: str) -> None:
    """Raise ValueError if a field is above a limit."""
    if value > limit:
        raise ValueError(f"{name}: got {value!r}, needs at most {limit!r}, {what}")


def on_split(metrics: Any, split: str) -> None:
    """Demand that a run has looked at the split that its config names, and at no other."""
    name, other = ("test", "validation") if split == "test" else ("validation", "test")
    if getattr(metrics, f"{name}_accuracy") is None:
        raise ValueError(f"{name}_accuracy: got None, needs a fraction for split={split!r}")
    demand(f"{other}_accuracy", getattr(metrics, f"{other}_accuracy"), None)


def config_among(record: Record, kinds: Sequence[type]) -> Any:
    """The config that a record was made with, of the first of `kinds` that it fits.

    Raises ValueError that names the field for which it fits none.
    """
    errors = []
    for kind in kinds:
        try:
            return configs.of_record(record, kind)
        except ValueError as error:
            errors.append(error)
    # a record that is of another kind says so by its study or method
    raise min(errors, key=lambda error: str(error).startswith(("study:", "method:")))


def check(record: Record, kinds: Sequence[type]) -> Any:
    """Check a record against what its config's runs yield, and return its config.

    Raises RecordError that names a field that neither the config nor the run has, that is
    missing, out of its bounds, or that contradicts another one.
    """
    try:
        config = config_among(record, kinds)
        if not hasattr(config, "metrics"):
            return config
        found = configs.measured(record, type(config))
        try:
            metrics = msgspec.convert(found, type(config).metrics)
        except msgspec.ValidationError as error:
            raise RecordError(schema.said(error, found)) from None
        metrics.agrees(config)
    except ValueError as error:
        raise RecordError(str(error)) from None
    return config
