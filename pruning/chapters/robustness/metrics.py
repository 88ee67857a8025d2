"""What a run of this chapter yields."""

import itertools
from typing import Any

from pruning.bounds import Amount, Count, Fraction, Positive
from pruning.evidence.compared import sizes
from pruning.evidence.metrics import Whole, at_most, demand


class Metrics(Whole, kw_only=True):
    """Of one network under attack."""

    dense_weights: Positive
    kept: Count
    effective: Count
    test_accuracy: Fraction
    inputs_read: Count
    levels: dict[str, list[float]]
    corrupted: dict[str, list[Fraction]]
    attacked: Positive
    epsilons: list[Amount]
    fgsm: list[Fraction]
    pgd: list[list[Fraction]]
    random: list[Fraction]
    transfer_dense: list[Fraction]
    transfer_gates: list[Fraction]
    missed: list[Fraction]
    attacked_accuracy: Fraction
    distance: list[Amount]

    def agrees(self, config: Any) -> None:
        """Counts are those that the network can have; every curve has a point an ε or
        level."""
        full = sizes(config)
        at_most("dense_weights", self.dense_weights, _weights(full), "the full network's")
        at_most("inputs_read", self.inputs_read, full[0], "the features")
        for name in ("fgsm", "random", "transfer_dense", "transfer_gates", "missed"):
            demand(f"{name}, points", len(getattr(self, name)), len(self.epsilons))
        for k, row in enumerate(self.pgd):
            demand(f"pgd[{k}], points", len(row), len(self.epsilons))
        demand("corrupted", sorted(self.corrupted), sorted(self.levels))
        for name, levels in self.levels.items():
            demand(f"corrupted.{name}, points", len(self.corrupted[name]), len(levels))


def _weights(full: tuple[int, ...]) -> int:
    return sum(a * b for a, b in itertools.pairwise(full))
