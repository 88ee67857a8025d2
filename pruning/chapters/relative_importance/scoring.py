"""One-shot pruning of trained networks by any score; networks and scores are kept between runs.

A run prunes a copy of a network that other runs share. What is cached belongs to one network: sort runs so
that those on the same network follow one another.
"""

import copy
import warnings
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from pruning import training
from pruning.data import datasets
from pruning.methods import relative, scores
from pruning.networks import models, sparsity
from pruning.networks.layers import input_statistics
from pruning.training.methods import ActivityPenalty, hold_then_cosine

OUTPUT_SAMPLES = 2000  # the "output" reading looks at every weight of every sample


@dataclass(frozen=True)
class Network:
    """What a network is trained from."""

    dataset: str = "mnist"
    split: str = "test"  # or "validation": a part of the training set stands in for the test set
    scaling: str = "raw"  # pixels in [0, 1], or "standardised": one mean and deviation for all pixels
    activation: str = "relu"
    activity: float = 0.0  # λ of the activity penalty: pruning-aware training
    seed: int = 0
    hidden: tuple[int, ...] = (300, 100)
    epochs: int = 20
    batch_size: int = 256
    lr: float = 2e-3


def part(config: Any) -> Network:
    """The network that a config prunes."""
    return Network(**{field.name: getattr(config, field.name) for field in fields(Network)})


@lru_cache(maxsize=2)
def _data(name: str, split: str, scaling: str) -> datasets.Dataset:
    data = datasets.load(name)
    data = data if split == "test" else data.validation()
    if scaling == "raw":
        return data
    if scaling != "standardised":
        raise ValueError(f"scaling: got {scaling!r}, needs 'raw' or 'standardised'")
    mean, std = data.train.inputs.mean(), data.train.inputs.std()
    train, test = (replace(s, inputs=(s.inputs - mean) / std) for s in (data.train, data.test))
    return replace(data, train=train, test=test)


@lru_cache(maxsize=1)
def trained(network: Network) -> tuple[nn.Sequential, datasets.Dataset]:
    """The network and its data; kept for the runs that follow on the same one. Prune a copy."""
    data = _data(network.dataset, network.split, network.scaling)
    sizes = (data.train.inputs.shape[1], *network.hidden, len(data.class_names))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(network.seed)
        model = models.mlp(sizes, network.activation)
    training.fit(
        model, data.train.inputs, data.train.targets, epochs=network.epochs, seed=network.seed,
        batch_size=network.batch_size, optimizer=lambda model: training.adam(model, network.lr),
        schedule=hold_then_cosine(0.0),
        callbacks=[ActivityPenalty(network.activity)] if network.activity else [],
    )  # fmt: skip
    return model, data


@lru_cache(maxsize=1)
def unpruned_accuracy(network: Network) -> float:
    """A fraction, on the network's test set (or validation part)."""
    model, data = trained(network)
    return training.evaluate(model, data.test.inputs, data.test.targets).accuracy


@lru_cache(maxsize=3)
def statistics(network: Network, kind: str, tolerance: float | None, blind: bool) -> dict:
    """Contribution statistics over the training set (for "output" a part of it)."""
    model, data = trained(network)
    inputs = data.train.inputs
    if kind == "output":
        inputs = inputs[:: max(1, len(inputs) // OUTPUT_SAMPLES)]
    return relative.contribution_statistics(model, inputs, kind, tolerance, blind)


def _relative(model, data, config):
    found = statistics(part(config), config.kind, config.tolerance, config.blind)
    return relative.relative_importance(found, config.alpha, config.beta, config.decay, config.form)


def _magnitude_live(model, data, config):
    """Magnitude, told which pixels never change: what data-driven scores get for nothing."""
    found = scores.magnitude(model)
    first = next(iter(found))
    x = data.train.inputs
    return found | {first: found[first] * (x.amax(0) > x.amin(0))}


SCORES = {
    "relative": _relative,
    "magnitude": lambda model, data, config: scores.magnitude(model),
    "magnitude live": _magnitude_live,
    "wanda": lambda model, data, config: scores.wanda(model, data.train.inputs),
    "nnrelief": lambda model, data, config: scores.nnrelief(model, data.train.inputs),
    "stade": lambda model, data, config: scores.stade(model, data.train.inputs),
    "stade corrected": lambda model, data, config: scores.stade(model, data.train.inputs),
    "ria": lambda model, data, config: scores.ria(model, data.train.inputs),
    "snip": lambda model, data, config: scores.snip(model, data.train.inputs, data.train.targets),
    "random": lambda model, data, config: scores.random_scores(
        model, torch.Generator().manual_seed(config.seed)
    ),
}


@lru_cache(maxsize=2)
def _scored(config: Any) -> dict[str, Tensor]:
    model, data = trained(part(config))
    return SCORES[config.method](model, data, config)


def _score(config: Any) -> dict[str, Tensor]:
    """The scores of a config, kept for the runs that differ only in threshold, sparsity and fine-tune."""
    return _scored(replace(config, sparsity=0.0, scope="global", finetune_epochs=0, study="table"))


@lru_cache(maxsize=1)
def _means(network: Network):
    model, data = trained(network)
    return input_statistics(model, data.train.inputs)


def prune(config: Any) -> nn.Sequential:
    """A pruned copy of the config's network, not fine-tuned."""
    model = copy.deepcopy(trained(part(config))[0])
    means = _means(part(config)) if config.method == "stade corrected" else None
    # under a threshold for each layer, the decay moves sparsity between layers; globally it moves scores
    apart = config.scope != "global" and config.decay != 1
    wanted = relative.layer_sparsities(model, config.sparsity, config.decay) if apart else config.sparsity
    with warnings.catch_warnings():  # an emptied layer shows in the record: nothing is effective
        warnings.filterwarnings("ignore", "layer .* has no weight left")
        return scores.prune_by_score(model, _score(config), wanted, config.scope, means)


def overlap(config: Any, other: str = "wanda") -> float:
    """Fraction of the weights a config keeps that `other` keeps too, under the same threshold."""
    ours, theirs = (sparsity.masks(prune(c)) for c in (config, replace(config, method=other, decay=1.0)))
    both = sum(int((ours[name] & theirs[name]).sum()) for name in ours)
    return both / max(1, sum(int(mask.sum()) for mask in ours.values()))
