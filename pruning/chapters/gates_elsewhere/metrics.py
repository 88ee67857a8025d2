"""What a run of this chapter yields."""

from typing import Any

from pruning.evidence.compared import Compared
from pruning.evidence.metrics import on_split


class Metrics(Compared, kw_only=True):
    """Of one network of Linear layers, or a convolutional one."""

    def agrees(self, config: Any) -> None:
        """Counts are those that a network of Linear layers can have; of every network,
        accuracies are those of the config's split, and a budget is kept."""
        if config.network == "mlp":
            super().agrees(config)
        else:
            on_split(self, config.split)
            self.within_budget(config)
