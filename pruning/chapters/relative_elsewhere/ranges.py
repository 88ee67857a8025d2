"""How often, and how widely, neurons are in their blind range while a network trains."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from pruning import training
from pruning.bounds import Positive
from pruning.chapters.relative_elsewhere.metrics import OfRanges
from pruning.chapters.relative_importance import scoring
from pruning.chapters.relative_importance.scoring import ARCHITECTURES, Network
from pruning.evidence.configs import choose, settle
from pruning.evidence.records import Record
from pruning.methods.activations import activations_after, blind_ranges
from pruning.networks import models, sparsity
from pruning.networks.batches import evaluating

DATASETS = ("fashion_mnist", "cifar10", "mnist", "digits")
WATCHED = 200  # training images that are looked at
OUTSIDE = (0.01, 0.99)  # quantiles of z between which its range is measured


@dataclass(frozen=True)
class Ranges(Network):
    """One network, watched through its training."""

    metrics: ClassVar[type] = OfRanges

    dataset: str = "fashion_mnist"
    architecture: str = "cnn"
    hidden: tuple[Positive, ...] = (16, 32, 32, 32)
    epochs: Positive = 5
    method: str = "unpruned"
    study: str = "ranges"

    def __post_init__(self):
        settle(self, dataset=DATASETS, method=("unpruned",), study=("ranges",))
        choose(self, activation=models.ACTIVATIONS, architecture=ARCHITECTURES)


def covered(z: np.ndarray, ranges: list[tuple[float, float]]) -> float:
    """Which part of the interval from the 1st to the 99th percentile of z is blind: 0 to 1."""
    low, high = np.quantile(z, OUTSIDE)
    if high <= low:
        return float(any(start <= low <= end for start, end in ranges))
    inside = [max(0.0, min(high, end) - max(low, start)) for start, end in ranges]
    return float(sum(inside) / (high - low))


@torch.no_grad()
def occupied(model: nn.Module, inputs: Tensor) -> list[Record]:
    """For each layer that an activation follows, in fractions: `occupancy`, how many of its
    pre-activations z are blind; `always`, how many of its neurons or channels are so on all of
    `inputs`; `width`, see `covered`."""
    activations, caught = activations_after(model, inputs[:1]), {}
    hooks = [
        model.get_submodule(name).register_forward_hook(
            lambda layer, args, z, name=name: caught.update({name: z.detach().clone()})
        )
        for name in activations
    ]
    try:
        with evaluating(model):
            model(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    found = []
    for name, z in caught.items():
        ranges = blind_ranges(activations[name])
        # of a convolution every position counts, of a transformer every token
        columns = z.transpose(1, -1).flatten(0, -2) if z.dim() == 4 else z.flatten(0, -2)
        inside = torch.zeros_like(columns, dtype=torch.bool)
        for low, high in ranges:
            inside |= (columns >= low) & (columns <= high)
        found.append(
            {
                "layer": name,
                "occupancy": inside.double().mean().item(),
                "always": inside.all(0).double().mean().item(),
                "width": covered(columns.numpy(), ranges),
            }
        )
    return found


class Watch(training.Callback):
    """`occupied` before the training and after every epoch."""

    def __init__(self, inputs: Tensor):
        self.inputs = inputs
        self.course: list[list[Record]] = []

    def start(self, model: nn.Module) -> None:
        """Before the first step."""
        self.course.append(occupied(model, self.inputs))

    def after_epoch(self, model: nn.Module, epoch: int) -> dict[str, float]:
        """After each epoch."""
        self.course.append(occupied(model, self.inputs))
        return {}


def run(config: Ranges) -> Record:
    """Train and watch: the metrics of one record."""
    data = scoring.load(config)
    watch = Watch(data.train.inputs[:WATCHED])
    model = scoring.train(config, data, [watch])
    kept = int(sparsity.sparsity_report(model).kept.sum())
    return {
        "kept": kept,
        "effective": None,
        "test_accuracy": scoring.evaluate(config, model, data).accuracy,
        "layers": [layer["layer"] for layer in watch.course[0]],
        **{
            name: [[round(layer[name], 5) for layer in epoch] for epoch in watch.course]
            for name in ("occupancy", "always", "width")
        },
        "provenance": {"data": data.checksum},
    }
