"""Does sampling gradients change what integrated gradients say of a network?

The networks are LeNet-300-100 of the chapter `stochgrad_elsewhere`, trained by Adam and by
StochGradAdam. Networks that started differently are explained differently whatever trained
them, so always two of different starts are compared: both of Adam, one of each, both of
StochGradAdam. One of each is explained once more with half of its weights removed.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from scipy import stats
from torch import Tensor, nn

from pruning import training
from pruning.chapters.resnet_pruning import experiment as original
from pruning.chapters.stochgrad_elsewhere.experiment import MLP, variant
from pruning.data import datasets
from pruning.evidence.records import Record
from pruning.networks import importance
from pruning.networks.attribution import integrated_gradients

OPTIMIZERS = ("adam", "stochgradadam")
OTHER = 100  # added to a seed, it gives another start
HALF = 0.5
EXPLAINED = 500  # images


def trained(config: Any, optimizer: str, seed: int) -> nn.Module:
    """LeNet-300-100 from the start of a seed, in evaluation mode."""
    settings = replace(
        MLP,
        dataset=config.dataset,
        seed=seed,
        epochs=config.epochs,
        batch_size=config.batch_size,
    )
    data = original.load(config.dataset, "cpu")
    return original.train(variant(optimizer, settings), data)[0].eval()


class LabelLogit(nn.Module):
    """(batch, features) ↦ (batch, 1): of each image the logit of its label."""

    def __init__(self, model: nn.Module, labels: Tensor):
        super().__init__()
        self.model, self.labels = model, labels

    def forward(self, x: Tensor) -> Tensor:
        """The logits of the labels, one column."""
        return self.model(x).gather(1, self.labels[:, None])


def explained(data: datasets.Dataset) -> tuple[Tensor, Tensor]:
    """The test images that are explained, and their labels."""
    stride = max(1, len(data.test) // EXPLAINED)
    return data.test.inputs[::stride], data.test.targets[::stride]


def alike(one: Tensor, other: Tensor) -> float:
    """Spearman's correlation of two maps of each image, (images, pixels), the mean over the
    images."""
    a, b = (
        stats.zscore(stats.rankdata(maps.numpy(), axis=1), axis=1) for maps in (one, other)
    )
    return float(np.mean(a * b))


def compared(again: nn.Module, data: datasets.Dataset, config: Any) -> Record:
    """How alike the maps of two networks of different starts are, and those of a network and
    of the same one pruned; how Eq. 4 agrees with the maps; and the accuracies.

    `again` is Adam's network from the other start. It and StochGradAdam's from there are
    pruned. Of one network of each optimizer both pairs of starts are compared.
    """
    x, labels = explained(data)
    mean, varying = data.train.inputs.mean(0, keepdim=True), data.train.inputs.std(0) > 0

    def maps(model: nn.Module) -> Tensor:
        return integrated_gradients(LabelLogit(model, labels), mean, x)[:, varying]

    networks = {
        "adam": again,
        "stochgradadam": trained(config, "stochgradadam", config.seed + OTHER),
    }
    first = {name: maps(trained(config, name, config.seed)) for name in networks}
    other = {name: maps(model) for name, model in networks.items()}
    crossed = [alike(first[a], other[b]) for a, b in (OPTIMIZERS, OPTIMIZERS[::-1])]
    record: Record = {
        "agreement": {f"{name} twice": alike(first[name], other[name]) for name in networks}
        | {"one of each": sum(crossed) / 2},
        "with_eq4": {},
        "accuracies": {},
    }
    for name, model in networks.items():
        half = original.pruned(model, HALF, "global")
        record["agreement"][f"{name}, half removed"] = alike(other[name], maps(half))
        structure = importance.feature_importance(model).mean(0)[varying]
        record["with_eq4"][name] = float(
            stats.spearmanr(structure.numpy(), other[name].abs().mean(0).numpy()).statistic
        )
        for title, network in ((name, model), (f"{name}, half removed", half)):
            record["accuracies"][title] = training.evaluate(
                network, data.test.inputs, data.test.targets
            ).accuracy
    return record
