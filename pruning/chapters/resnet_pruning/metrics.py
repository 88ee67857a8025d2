"""What a run of this chapter yields."""

from typing import Any

from msgspec import Struct

from pruning.bounds import Amount, Count, Fraction, Positive, Rate
from pruning.evidence.metrics import Metrics as Base
from pruning.evidence.metrics import at_most, demand

NAMES = {"vgg": "VGG", "densenet": "DenseNet", "mlp": "LeNet-300-100", "gru": "GRU"}


def named(config: Any) -> str:
    """How records and tables call the network of a config."""
    return NAMES.get(config.architecture) or f"ResNet-{config.depth}"


class Weights(Struct, forbid_unknown_fields=True):
    """Statistics of weights."""

    sd: Amount
    kurtosis: float
    small: Fraction
    mean_magnitude: Amount


class Course(Struct, forbid_unknown_fields=True):
    """Accuracies after every epoch."""

    unpruned: list[Fraction]
    pruned: list[Fraction]
    recalibrated: list[Fraction]


class Metrics(Base, kw_only=True):
    """Of one network, pruned at every rate."""

    network: str
    parameters: Positive
    kept: Positive
    effective: None
    test_accuracy: Fraction
    weights: Weights
    weights_by_layer: list[Weights]
    layers: list[str]
    histogram: list[Count]
    bins: tuple[float, float, int] | None = None
    rates: list[Fraction]
    pruned_accuracy: Fraction
    accuracy_global: list[Fraction]
    accuracy_recalibrated: list[Fraction]
    accuracy_layer: list[Fraction]
    confusion_before: list[list[Count]]
    confusion_after: list[list[Count]]
    train_loss: list[Amount]
    course: Course | None = None
    training_seconds: Amount

    def agrees(self, config: Any) -> None:
        """Curves have a point a rate or an epoch, and begin at the test accuracy."""
        demand("network", self.network, named(config))
        at_most("kept", self.kept, self.parameters, "parameters")
        for name in ("accuracy_global", "accuracy_recalibrated", "accuracy_layer"):
            demand(f"{name}, rates", len(getattr(self, name)), len(self.rates))
        demand("test_accuracy", self.test_accuracy, self.accuracy_global[0])
        demand("pruned_accuracy", self.pruned_accuracy, self.accuracy_global[_half(self)])
        demand("train_loss, epochs", len(self.train_loss), config.epochs)
        demand("weights_by_layer, layers", len(self.weights_by_layer), len(self.layers))
        for name in ("unpruned", "pruned", "recalibrated") if self.course else ():
            demand(f"course.{name}, epochs", len(getattr(self.course, name)), config.epochs)
        for name in ("confusion_before", "confusion_after"):
            matrix = getattr(self, name)
            right = sum(row[k] for k, row in enumerate(matrix)) / sum(map(sum, matrix))
            point = self.test_accuracy if name == "confusion_before" else self.pruned_accuracy
            if abs(right - point) > TOLERANCE:
                raise ValueError(
                    f"{name}: got {right!r} of the samples right, needs {point!r}"
                )


TOLERANCE = 0.005  # of products in half precision, which depend on the batch


def _half(metrics: Metrics) -> int:
    return metrics.rates.index(0.5)


class Seconds(Struct, forbid_unknown_fields=True):
    """Of a step, of each optimizer."""

    adam: Rate
    stochgradadam: Rate


class OfOverhead(Base, kw_only=True):
    """Of the seconds of two optimizers."""

    network: str
    step_seconds: Seconds
    update_seconds: Seconds
    epoch_seconds: Seconds
    step_ratio: Rate
    update_ratio: Rate
    kept: None
    effective: None
    test_accuracy: None

    def agrees(self, config: Any) -> None:
        """The ratios are those of the seconds."""
        demand("network", self.network, f"ResNet-{config.depth}")
        for name in ("step", "update"):
            seconds = getattr(self, f"{name}_seconds")
            ratio = seconds.stochgradadam / seconds.adam
            if abs(getattr(self, f"{name}_ratio") / ratio - 1) > 1e-9:
                raise ValueError(
                    f"{name}_ratio: got {getattr(self, f'{name}_ratio')!r}, needs {ratio!r}"
                )
