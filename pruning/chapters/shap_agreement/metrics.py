"""What a run of this chapter yields."""

from typing import Annotated, Any

from msgspec import Meta, Struct

from pruning.bounds import Amount, Count, Fraction, Positive
from pruning.evidence.compared import sizes
from pruning.evidence.metrics import Earlier, demand

Correlation = Annotated[float, Meta(ge=-1, le=1)]


class Interval(Struct, forbid_unknown_fields=True):
    """A correlation and its bootstrap interval; None where one side is constant."""

    value: Correlation | None
    low: Correlation | None
    high: Correlation | None


class Metrics(Earlier, kw_only=True):
    """Of one network and what it says of its inputs."""

    features: list[str]
    dense_weights: Positive
    kept: Count
    effective: Count
    test_accuracy: Fraction
    importance: dict[str, list[Fraction]]
    method_seconds: dict[str, Amount]
    explainers_pearson: Correlation | None
    pearson_shap: Interval
    pearson_ig: Interval
    pearson_permutation: Interval
    spearman_shap: Interval
    spearman_ig: Interval
    spearman_permutation: Interval

    def agrees(self, config: Any) -> None:
        """Counts are those that the network can have; each importance has a value a
        feature."""
        full = sizes(config)
        self.of_sizes(full)
        demand("features, number", len(self.features), full[0])
        for name, values in self.importance.items():
            demand(f"importance.{name}, features", len(values), full[0])
