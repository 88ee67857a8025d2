"""What `pruning.comparison` measures of one network: the metrics of several chapters."""

from functools import lru_cache
from typing import Any, Literal

from pruning.bounds import Amount, Count, Fraction, Positive
from pruning.data import datasets
from pruning.evidence.metrics import Earlier, at_most, on_split

_registry = lru_cache(datasets.registry)


def sizes(config: Any) -> tuple[int, ...]:
    """The sizes of a config's full network, from its data set's features to its classes."""
    known = _registry()[config.dataset]
    return known["features"], *config.hidden, known["classes"]


class Compared(Earlier, kw_only=True):
    """Of one network of the comparison."""

    dense_weights: Positive
    kept_by_layer: list[Count]
    biases: Count
    test_accuracy_before_finetune: Fraction | None = None
    test_loss: Amount | None = None
    validation_accuracy: Fraction | None
    validation_accuracy_before_finetune: Fraction | None = None
    validation_loss: Amount | None = None
    train_accuracy: Fraction | None = None
    train_loss: Amount | None = None
    matmul_precision: Literal["highest", "medium"] | None = None

    def agrees(self, config: Any) -> None:
        """Counts are those that the network can have, accuracies those of the config's
        split."""
        full = sizes(config)
        self.of_sizes(full)
        at_most("biases", self.biases, sum(full[1:]), "the network's neurons")
        on_split(self, getattr(config, "split", "test"))
        self.within_budget(config)

    def within_budget(self, config: Any) -> None:
        """No more weights are kept than the config's `at_most`, where it has one."""
        budget = getattr(config.settings, "at_most", 0)
        if budget:
            at_most("kept", self.kept, budget, "at_most")
