"""What a run of this chapter yields."""

import itertools
from typing import Annotated, Any

from msgspec import Meta

from pruning.bounds import Amount, Count, Fraction, Positive
from pruning.evidence.compared import sizes
from pruning.evidence.metrics import Whole, at_most, demand

Correlation = Annotated[float, Meta(ge=-1, le=1)]
# what each study has, and no other
FIELDS = {
    "pixels": ("read", "varying_pixels", "read_pixels", "removed", "without"),
    "information": ("layers", "sparsities", "after_pruning"),
    "sampling": ("agreement", "with_eq4", "accuracies"),
}


class Metrics(Whole, kw_only=True):
    """Of one network: "pixels" has attributions, "information" layers, "sampling" what two
    networks' attributions have in common."""

    dense_weights: Positive
    test_accuracy: Fraction
    read: Count | None = None
    varying_pixels: dict[str, dict[str, Correlation]] | None = None
    read_pixels: dict[str, dict[str, Correlation]] | None = None
    removed: list[Positive] | None = None
    without: dict[str, list[Fraction]] | None = None
    shape: list[Positive] | None = None
    maps: dict[str, list[Amount]] | None = None
    layers: dict[str, dict[str, Any]] | None = None
    sparsities: list[Fraction] | None = None
    after_pruning: dict[str, list[Fraction]] | None = None
    agreement: dict[str, Correlation] | None = None
    with_eq4: dict[str, Correlation] | None = None
    accuracies: dict[str, Fraction] | None = None

    def agrees(self, config: Any) -> None:
        """Counts are those of the network, and each study has its own fields."""
        full = sizes(config)
        self.of_sizes(full)
        mine = FIELDS[config.study]
        for name in mine:
            if getattr(self, name) is None:
                raise ValueError(f"{name}: is missing, study={config.study!r} has it")
        for name in itertools.chain(*FIELDS.values()):
            if name not in mine:
                demand(name, getattr(self, name), None)
        if self.read is not None:
            at_most("read", self.read, full[0], "the features")
        for name, accuracies in (self.without or {}).items():
            demand(f"without.{name}, counts", len(accuracies), len(self.removed))
        for name, accuracies in (self.after_pruning or {}).items():
            demand(f"after_pruning.{name}, counts", len(accuracies), len(self.sparsities))
        for name, values in (self.maps or {}).items():
            demand(f"maps.{name}, pixels", len(values), full[0])
