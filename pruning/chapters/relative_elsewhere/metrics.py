"""What a run of this chapter yields."""

from typing import Any

from pruning.bounds import Count, Fraction, Positive
from pruning.chapters.relative_importance.metrics import Metrics as Original
from pruning.evidence.metrics import Metrics as Base
from pruning.evidence.metrics import demand, on_split


class Metrics(Original, kw_only=True):
    """Of one network, pruned or not."""

    effective: Count | None

    def agrees(self, config: Any) -> None:
        """Counts are those that a network of Linear layers can have; of every network,
        accuracies are those of the config's split."""
        if config.architecture == "mlp":
            super().agrees(config)
        else:
            on_split(self, config.split)
            demand("kept_by_layer, sum", sum(self.kept_by_layer), self.kept)


class OfRanges(Base, kw_only=True):
    """Of one network that is watched through its training."""

    kept: Positive
    effective: None
    test_accuracy: Fraction
    layers: list[str]
    occupancy: list[list[Fraction]]
    always: list[list[Fraction]]
    width: list[list[Fraction]]

    def agrees(self, config: Any) -> None:
        """There is a number a layer, before training and after every epoch."""
        for name in ("occupancy", "always", "width"):
            course = getattr(self, name)
            demand(f"{name}, epochs", len(course), config.epochs + 1)
            demand(f"{name}, layers", {len(row) for row in course}, {len(self.layers)})
