"""What a run of this chapter yields."""

from typing import Annotated, Any

from msgspec import Meta, Struct

from pruning.bounds import Amount, Count, Fraction, Positive
from pruning.evidence.compared import sizes
from pruning.evidence.metrics import Connection, Earlier, at_most, demand
from pruning.evidence.metrics import Metrics as Base

Bit = Annotated[int, Meta(ge=0, le=1)]


class Best(Struct, forbid_unknown_fields=True):
    """A rule over two pixels, on the test set."""

    pixels: tuple[Count, Count]
    precision: Fraction
    recall: Fraction
    accuracy: Fraction


class Rule(Best, kw_only=True):
    """That of a class's two most important pixels, and the best ones."""

    label: str
    importance: tuple[Amount, Amount]
    inside: list[Count]
    outside: list[Count]
    best: Best
    best_read: Best


class Metrics(Earlier, kw_only=True):
    """Of one network and its map of importance."""

    dense_weights: Positive
    kept: Count
    effective: Count
    test_accuracy: Fraction
    shape: tuple[Positive, Positive]
    importance: list[Amount]
    morans_i: float
    morans_i_null: tuple[float, Amount]
    morans_i_null_inside: tuple[float, Amount]
    neighbour_ratio: Amount
    pixels_used: Count
    pixels_varying: Count
    central: dict[str, tuple[Fraction, Fraction]]
    rules: list[Rule]
    connections: list[Connection] | None

    def agrees(self, config: Any) -> None:
        """Counts are those that the network and the image can have."""
        full = sizes(config)
        self.of_sizes(full)
        demand("shape, pixels", self.shape[0] * self.shape[1], full[0])
        demand("importance, pixels", len(self.importance), full[0])
        at_most("pixels_used", self.pixels_used, full[0], "the pixels")
        at_most("pixels_varying", self.pixels_varying, full[0], "the pixels")
        demand("rules, classes", len(self.rules), full[-1])


class Pairs(Struct, forbid_unknown_fields=True):
    """Pairs of pixels, both above `on`."""

    on: Fraction
    reaching: Count
    pairs: Count


class Picked(Struct, forbid_unknown_fields=True):
    """What the pairs that reach a precision pick: how many pick a single image, the median of
    the images picked, and how many pairs find at least a share of the class, by the share."""

    on: Fraction
    reaching: Count
    once: Count
    median: Amount | None
    finding: dict[str, Count]


class OfPairs(Base, kw_only=True):
    """Of the pairs of pixels that reach a precision."""

    support: list[Picked]
    kept: None
    effective: None
    test_accuracy: None

    def agrees(self, config: Any) -> None:
        """No more pairs pick one image, or find a share, than reach the precision."""
        for k, found in enumerate(self.support):
            for name, count in {"once": found.once, **found.finding}.items():
                at_most(f"support[{k}].{name}", count, found.reaching, "the pairs reaching")


class OfImages(Base, kw_only=True):
    """Of the images alone."""

    varying: list[Bit]
    deviation: list[Amount]
    pairs: list[Pairs]
    kept: None
    effective: None
    test_accuracy: None

    def agrees(self, config: Any) -> None:
        """No more pairs reach the precision than there are."""
        for k, found in enumerate(self.pairs):
            at_most(f"pairs[{k}].reaching", found.reaching, found.pairs, "its pairs")
        demand("deviation, pixels", len(self.deviation), len(self.varying))
