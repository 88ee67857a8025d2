"""Does StochGradAdam help a VGG, a DenseNet, a fully connected and a recurrent network?

The experiment is that of the chapter `resnet_pruning`, on other networks: trained once, pruned
in one shot at every rate, and after every epoch at 50 %. Beside Adam stands Adam on 0.8 of the
batch, which sampling amounts to if it does nothing but add noise. Study "sampling" has the
sampling rates, study "long" ten times the epochs for the fully connected network.

On one core an epoch takes half a minute for VGG and DenseNet and a few seconds for the others.
The profile "paper" takes about seven hours of one core.
"""

import itertools
from dataclasses import dataclass, replace

from pruning.bounds import Positive
from pruning.chapters.resnet_pruning import experiment as original
from pruning.chapters.resnet_pruning.experiment import (
    ARCHITECTURES,
    OPTIMIZERS,
    PRECISIONS,
    SCHEDULES,
    SHORTCUTS,
    variant,
)
from pruning.evidence.configs import choose, settle

DATASETS = ("cifar10", "mnist", "digits")
STUDIES = ("course", "sampling", "long")
METHODS = ("adam", "stochgradadam", "adam, 0.8 of the batch")
RATES = (0.5, 0.6, 0.7, 0.9)  # s beside 0.8 and 1, which is Adam
SEEDS = 3


@dataclass(frozen=True)
class Config(original.Config):
    """One network; the optimizer's settings are the author's."""

    epochs: Positive = 10
    precision: str = "float32"  # not every processor is faster with less
    study: str = "course"  # one of STUDIES
    architecture: str = "vgg"

    def __post_init__(self):
        settle(self, dataset=DATASETS, method=METHODS, optimizer=OPTIMIZERS, study=STUDIES)
        choose(self, schedule=SCHEDULES, precision=PRECISIONS, shortcut=SHORTCUTS)
        choose(self, architecture=ARCHITECTURES)


run = original.run  # the config names the network

VGG = Config()
DENSENET = Config(architecture="densenet")
MLP = Config("mnist", architecture="mlp")
GRU = Config("mnist", architecture="gru")
NETWORKS = (MLP, GRU, VGG, DENSENET)
LONG = replace(MLP, epochs=100, study="long")


def configs(profile: str, seeds: int | None = None) -> list[Config]:
    """The runs of a profile, those that matter most first.

    "quick": digits, VGG, LeNet and GRU, Adam and StochGradAdam, one seed. "paper": CIFAR-10
    and MNIST, three seeds.
    """
    if profile == "quick":
        small = {"dataset": "digits", "batch_size": 64, "epochs": 6}
        return [
            variant(method, replace(network, seed=seed, **small))
            for seed in range(seeds or 1)
            for network in (VGG, MLP, GRU)
            for method in METHODS[:2]
        ]
    if profile != "paper":
        raise ValueError(f"profile: got {profile!r}, needs one of ['paper', 'quick']")
    count = range(seeds or SEEDS)
    found = [
        variant(method, replace(network, seed=seed))
        for seed, network, method in itertools.product(count, NETWORKS, METHODS)
    ]
    found += [
        variant(method, replace(LONG, seed=seed))
        for seed, method in itertools.product(count, METHODS[:2])
    ]
    return found + [
        variant("stochgradadam", replace(network, seed=seed, study="sampling"), **rate)
        for seed, network in itertools.product(count, NETWORKS)
        for rate in ({"sampling_rate": rate} for rate in RATES)
    ]
