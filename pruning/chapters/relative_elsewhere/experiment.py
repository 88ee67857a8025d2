"""Is relative importance ahead in convolutional networks, a transformer, and on CIFAR-10?

The experiment is that of the chapter `relative_importance`, on other networks: a network is
trained once and pruned by every score, threshold and sparsity. Studies "sensitivity" (α, β, s)
and "penalty" (λ at 25 %) are added, and "ranges", which watches blind ranges through training.

A CNN trains in half a minute on Fashion-MNIST and in a minute and a half on CIFAR-10, the
transformer in two minutes, on one core; pruning and measuring it once takes one to five
seconds. The profile "paper" takes about three hours of one core.
"""

import itertools
from dataclasses import dataclass, replace
from typing import ClassVar

from pruning import comparison
from pruning.bounds import Count, Positive
from pruning.chapters.relative_elsewhere import ranges
from pruning.chapters.relative_elsewhere.metrics import Metrics
from pruning.chapters.relative_elsewhere.ranges import DATASETS, Ranges
from pruning.chapters.relative_importance import experiment as original
from pruning.chapters.relative_importance.scoring import ARCHITECTURES, SCALINGS
from pruning.evidence.configs import changed, choose, settle
from pruning.evidence.records import Record
from pruning.methods import scores
from pruning.networks import models

STUDIES = ("table", "sensitivity", "penalty")
SCORED = ("relative", "magnitude", "wanda", "stade", "ria")
SPARSITIES = (0.25, 0.5, 0.75, 0.9)
PENALTIES = (0.01, 0.1, 0.3, 1.0)  # λ beside 0
ACTIVATIONS = ("relu", "sigmoid", "tanh", "silu", "gelu")
# one at a time around α = β = s = 1
MOVES = (
    {"beta": 0.0},
    {"beta": 0.25},
    {"beta": 0.5},
    {"beta": 2.0},
    {"alpha": 0.0},
    {"decay": 0.5},
    {"decay": 0.8},
    {"decay": 1.25},
    {"form": "product"},
)
SEEDS = 3


@dataclass(frozen=True)
class Config(original.Config):
    """One pruned network."""

    metrics: ClassVar[type] = Metrics

    dataset: str = "fashion_mnist"
    architecture: str = "cnn"
    hidden: tuple[Positive, ...] = (16, 32, 32, 32)
    epochs: Positive = 5
    scored: Count = 1000  # a convolution has hundreds of samples in each image

    def __post_init__(self):
        settle(self, dataset=DATASETS, scope=scores.SCOPES, study=STUDIES)
        choose(self, split=comparison.SPLITS, scaling=SCALINGS, activation=models.ACTIVATIONS)
        choose(self, architecture=ARCHITECTURES)


CONFIGS = (Config, Ranges)


CNN = Config()
TRANSFORMER = Config(architecture="transformer", hidden=(48, 48))
CIFAR = Config("cifar10", hidden=(32, 64, 64, 64))
LENET = Config("mnist", architecture="mlp", hidden=(300, 100), epochs=20, scored=0)
NETWORKS = (CNN, TRANSFORMER, CIFAR)


def run(config: Config | Ranges) -> Record:
    """Train (or take the network of the run before), score, prune and measure."""
    return ranges.run(config) if isinstance(config, Ranges) else original.run(config)


def table(network: Config, sparsities=SPARSITIES) -> list[Config]:
    """The unpruned network, and every score under each threshold at every sparsity."""
    runs = [changed(network, method="unpruned", sparsity=0.0)]
    for method, sparsity, scope in itertools.product(SCORED, sparsities, scores.SCOPES):
        runs.append(changed(network, method=method, sparsity=sparsity, scope=scope))
    return runs


def sensitivity(network: Config, sparsities=(0.5, 0.75)) -> list[Config]:
    """α, β, s and form, under the global threshold."""
    base = changed(network, study="sensitivity")
    return [
        changed(base, sparsity=sparsity, **move)
        for sparsity, move in itertools.product(sparsities, ({}, *MOVES))
    ]


def penalised(network: Config) -> list[Config]:
    """Pruning-aware training at 25 %; λ = 0 is in `table`."""
    return [
        run
        for activity in PENALTIES
        for run in table(changed(network, activity=activity, study="penalty"), (0.25,))
    ]


def configs(profile: str, seeds: int | None = None) -> list[Config | Ranges]:
    """The runs of a profile, those that matter most first. "quick": digits, a CNN and a
    transformer, one seed. "paper": Fashion-MNIST and CIFAR-10, three seeds."""
    if profile == "quick":
        small = {"dataset": "digits", "batch_size": 64, "epochs": 25, "scored": 200}
        networks = [
            replace(CNN, hidden=(8, 8, 8, 8), **small),
            replace(TRANSFORMER, hidden=(16,), **small),
        ]
        found: list[Config | Ranges] = []
        for seed, network in itertools.product(range(seeds or 1), networks):
            pruned = table(replace(network, seed=seed), (0.5,))
            found += [config for config in pruned if config.scope == "global"]
        for seed, activation in itertools.product(range(seeds or 1), ("relu", "tanh")):
            digits = Ranges("digits", hidden=(8, 8, 8, 8), batch_size=64, epochs=10)
            found.append(replace(digits, activation=activation, seed=seed))
        return found
    if profile != "paper":
        raise ValueError(f"profile: got {profile!r}, needs one of ['paper', 'quick']")
    count = range(seeds or SEEDS)
    found = []
    for network, seed in itertools.product(NETWORKS, count):
        found += table(replace(network, seed=seed)) + sensitivity(replace(network, seed=seed))
    found += [
        Ranges(activation=activation, seed=seed)
        for seed, activation in itertools.product(count, ACTIVATIONS)
    ]
    for seed in count:
        found += sensitivity(replace(LENET, seed=seed))
    for seed in count:
        found += penalised(replace(CNN, seed=seed))
    return found
