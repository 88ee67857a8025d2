"""The figures of the chapter. They draw what they are given."""

import numpy as np

from pruning.chapters.resnet_pruning import figures as original
from pruning.chapters.resnet_pruning.metrics import NAMES
from pruning.chapters.stochgrad_elsewhere.tables import COMMAND, sampled
from pruning.evidence import records
from pruning.evidence.records import Record
from pruning.figures import style


def courses(evidence: list[Record], axes: np.ndarray, name: str = "pruned") -> None:
    """A panel a network: accuracy after every epoch, with half of the weights removed."""
    for ax, network in zip(axes, NAMES.values(), strict=True):
        found = records.select(evidence, study="course", network=network)
        if found:
            original.course(found, ax, name)
        else:
            style.not_measured(ax, COMMAND)
        ax.set_title(network)


def pruning_rates(evidence: list[Record], axes: np.ndarray) -> None:
    """A panel a network: accuracy against the share of weights removed."""
    for ax, network in zip(axes, NAMES.values(), strict=True):
        found = records.select(evidence, study="course", network=network)
        if found:
            original.pruning_rates(found, ax)
        else:
            style.not_measured(ax, COMMAND)
        ax.set_title(network)


def sampling_rates(evidence: list[Record], axes: np.ndarray) -> None:
    """A panel a network: accuracy against the sampling rate."""
    for ax, network in zip(axes, NAMES.values(), strict=True):
        found = sampled(evidence, network)
        if len({r["sampling_rate"] for r in found}) > 2:
            original.sampling_rates(found, ax)
        else:
            style.not_measured(ax, COMMAND)
        ax.set_title(network)
