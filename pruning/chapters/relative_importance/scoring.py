"""One-shot pruning of trained networks by any score; networks and scores are kept between
runs.

A run prunes a copy of a network that other runs share. What is cached belongs to one network:
sort runs so that those on the same network follow one another.
"""

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from pruning import comparison, methods, training
from pruning.bounds import Amount, Count, Positive, Rate
from pruning.data import datasets
from pruning.evidence.configs import changed
from pruning.methods import relative, scores
from pruning.methods.activations import ActivityPenalty
from pruning.methods.oneshot import Score
from pruning.networks import models, small, sparsity
from pruning.networks.layers import input_statistics
from pruning.training.recipes import Adam, HoldThenCosine

SCALINGS = ("raw", "standardised")
ARCHITECTURES = ("mlp", "cnn", "transformer")
OUTPUT_SAMPLES = 2000  # the "output" reading looks at every weight of every sample


@dataclass(frozen=True)
class Network:
    """What a network is trained from."""

    dataset: str = "mnist"
    split: str = (
        "test"  # or "validation": a part of the training set stands in for the test set
    )
    scaling: str = (
        "raw"  # pixels in [0, 1], or "standardised": one mean and deviation for all pixels
    )
    activation: str = "relu"
    activity: Amount = 0.0  # λ of the activity penalty: pruning-aware training
    seed: Count = 0
    hidden: tuple[Positive, ...] = (300, 100)
    epochs: Positive = 20
    batch_size: Positive = 256
    lr: Rate = 2e-3
    # "mlp"; "cnn", whose channels `hidden` gives, or "transformer", whose widths of blocks it
    # gives: these see images; convolutions train in bfloat16
    architecture: str = "mlp"
    scored: Count = 0  # training samples that scores see, 0 for all


def part(config: Any) -> Network:
    """The network that a config prunes."""
    return Network(**{field.name: getattr(config, field.name) for field in fields(Network)})


@lru_cache(maxsize=2)
def _data(name: str, split: str, scaling: str) -> datasets.Dataset:
    data = comparison.load(name, split)
    if scaling == "raw":
        return data
    mean, std = data.train.inputs.mean(), data.train.inputs.std()
    train, test = (replace(s, inputs=(s.inputs - mean) / std) for s in (data.train, data.test))
    return replace(data, train=train, test=test)


def load(network: Network) -> datasets.Dataset:
    """The data of a network, in the shape that its architecture takes."""
    data = _data(network.dataset, network.split, network.scaling)
    return data if network.architecture == "mlp" else data.as_images()


def untrained(network: Network, data: datasets.Dataset) -> nn.Module:
    """The network before training."""
    classes, hidden, activation = len(data.class_names), network.hidden, network.activation
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(network.seed)
        if network.architecture == "mlp":
            sizes = (data.train.inputs.shape[1], *hidden, classes)
            return models.mlp(sizes, activation)
        if network.architecture == "cnn":
            model = small.convnet(data.image_shape, classes, hidden, activation)
            return model.to(memory_format=torch.channels_last)
        return small.PatchTransformer(
            data.image_shape,
            classes,
            width=hidden[0],
            depth=len(hidden),
            activation=activation,
        )


def evaluate(
    network: Network, model: nn.Module, data: datasets.Dataset
) -> training.Evaluation:
    """Loss and accuracy on the test set; images in small batches, which fit into memory."""
    batch_size = 10_000 if network.architecture == "mlp" else 500
    return training.evaluate(model, data.test.inputs, data.test.targets, batch_size)


def seen(network: Network, data: datasets.Dataset) -> Tensor:
    """The training inputs that scores see."""
    return data.train.inputs[: network.scored or None]


@lru_cache(maxsize=1)
def trained(network: Network) -> tuple[nn.Module, datasets.Dataset]:
    """The network and its data; kept for the runs that follow on the same one. Prune a
    copy."""
    data = load(network)
    return train(network, data), data


def train(
    network: Network, data: datasets.Dataset, callbacks: Sequence[training.Callback] = ()
) -> nn.Module:
    """Train a network; further callbacks may watch it."""
    model = untrained(network, data)
    penalty = [ActivityPenalty(network.activity)] if network.activity else []
    training.fit(
        model,
        data.train.inputs,
        data.train.targets,
        epochs=network.epochs,
        seed=network.seed,
        batch_size=network.batch_size,
        optimizer=Adam(network.lr),
        schedule=HoldThenCosine(0.0),
        callbacks=[*penalty, *callbacks],
        precision=torch.bfloat16 if network.architecture == "cnn" else None,
    )
    return model


@lru_cache(maxsize=1)
def unpruned_accuracy(network: Network) -> float:
    """A fraction, on the network's test set (or validation part)."""
    return evaluate(network, *trained(network)).accuracy


@lru_cache(maxsize=3)
def statistics(network: Network, kind: str, tolerance: float | None, blind: bool) -> dict:
    """Contribution statistics over the training set (for "output" a part of it)."""
    model, data = trained(network)
    inputs = seen(network, data)
    if kind == "output":
        inputs = inputs[:: max(1, len(inputs) // OUTPUT_SAMPLES)]
    return relative.contribution_statistics(model, inputs, kind, tolerance, blind)


@lru_cache(maxsize=2)
def _scored(network: Network, method: str, settings: Any) -> dict[str, Tensor]:
    """The scores of a network; kept for the runs that differ only in threshold, sparsity and
    fine-tune."""
    model, data = trained(network)
    if method == "relative":  # the statistics serve every α, β, s and form
        found = statistics(network, settings.kind, settings.tolerance, settings.blind)
        return relative.relative_importance(
            found, settings.alpha, settings.beta, settings.decay, settings.form
        )
    return methods.find(method, Score).of(
        model,
        inputs=seen(network, data),
        targets=data.train.targets[: network.scored or None],
        generator=torch.Generator().manual_seed(network.seed),
        settings=settings,
    )


@lru_cache(maxsize=1)
def _means(network: Network):
    model, data = trained(network)
    return input_statistics(model, seen(network, data))


def prune(config: Any) -> nn.Module:
    """A pruned copy of the config's network, not fine-tuned."""
    network = part(config)
    model = copy.deepcopy(trained(network)[0])
    means = _means(network) if methods.find(config.method, Score).corrects else None
    wanted: Any = config.sparsity
    # under a threshold for each layer, the decay moves sparsity between layers; globally it
    # moves scores
    if config.method == "relative" and config.scope != "global" and config.settings.decay != 1:
        wanted = relative.layer_sparsities(model, config.sparsity, config.settings.decay)
    found = _scored(network, config.method, config.settings)
    with (
        warnings.catch_warnings()
    ):  # an emptied layer shows in the record: nothing is effective
        warnings.filterwarnings("ignore", "model: no weight is left")
        return scores.prune_by_score(model, found, wanted, config.scope, means)


def overlap(config: Any, other: str = "wanda") -> float:
    """Fraction of the weights a config keeps that `other` keeps too, under the same
    threshold."""
    ours, theirs = (sparsity.masks(prune(c)) for c in (config, changed(config, method=other)))
    both = sum(int((ours[name] & theirs[name]).sum()) for name in ours)
    return both / max(1, sum(int(mask.sum()) for mask in ours.values()))
