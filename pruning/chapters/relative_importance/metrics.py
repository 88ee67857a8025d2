"""What a run of this chapter yields."""

import itertools
from typing import Any, Literal

from msgspec import Struct

from pruning.bounds import Amount, Count, Fraction, Positive
from pruning.evidence.compared import sizes
from pruning.evidence.metrics import Earlier, demand, on_split


class Histogram(Struct, forbid_unknown_fields=True):
    """Contributions of one weight."""

    layer: str
    weight: Literal["highest score", "median score"]
    samples: Positive
    mean: float
    std: Amount
    zero: Fraction
    counts: list[Count]
    edges: list[float]


class Metrics(Earlier, kw_only=True):
    """Of one pruned network, or of one that is not pruned and its statistics."""

    kept: Count
    kept_by_layer: list[Count]
    effective: Count
    test_loss: Amount | None = None
    validation_accuracy: Fraction | None
    validation_loss: Amount | None = None
    unpruned_accuracy: Fraction
    overlap_wanda: Fraction | None = None
    blind_fraction: list[Fraction] | None = None
    always_blind: list[Fraction] | None = None
    ks_single: list[Fraction] | None = None
    ks_means: list[Fraction] | None = None
    zero_share: list[Fraction] | None = None
    histograms: list[Histogram] | None = None

    def agrees(self, config: Any) -> None:
        """Counts are those that the network can have, accuracies those of the config's
        split."""
        full = sizes(config)
        self.of_sizes(full)
        on_split(self, config.split)
        if config.method in ("unpruned", "distribution"):
            total = sum(a * b for a, b in itertools.pairwise(full))
            demand("kept", self.kept, total)
