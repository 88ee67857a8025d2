"""What a run of this chapter yields."""

from typing import Any

from pruning.bounds import Amount, Count, Fraction
from pruning.evidence.metrics import Whole, at_most, on_split


class Metrics(Whole, kw_only=True):
    """Of one network, or of one of its parts trained again."""

    kept: Count
    effective: Count
    validation_accuracy: Fraction | None
    train_accuracy: Fraction | None = None
    stayed: Count | None = None
    biases: Count | None = None
    test_accuracy_before_finetune: Fraction | None = None
    test_loss: Amount | None = None

    def agrees(self, config: Any) -> None:
        """No more weights are kept than the config says, on its split."""
        on_split(self, config.split)
        at_most("kept", self.kept, config.weights, "weights")
        if self.stayed is not None:
            at_most("stayed", self.stayed, self.kept, "kept")
        if config.study == "networks":
            for name in ("widths", "connections", "bias_values"):
                if getattr(self, name) is None:
                    raise ValueError(f"{name}: is missing, study='networks' has it")
            self.of_sizes(self.widths)
