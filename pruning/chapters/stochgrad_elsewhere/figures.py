"""The figures of the chapter. They draw what they are given."""

import numpy as np
from matplotlib.axes import Axes

from pruning.chapters.resnet_pruning import figures as original
from pruning.chapters.resnet_pruning.metrics import NAMES
from pruning.chapters.stochgrad_elsewhere.tables import COMMAND, sampled
from pruning.evidence import records
from pruning.evidence.records import Record
from pruning.figures import style


def courses(evidence: list[Record], axes: np.ndarray, name: str = "pruned") -> None:
    """A panel a network on record: accuracy after every epoch, half of the weights removed."""
    for ax, network, found in style.panels(axes, _by_network(evidence), COMMAND):
        original.course(found, ax, name)
        _enlarge(ax)
        ax.set_title(network)


def _by_network(evidence: list[Record]) -> dict[str, list[Record]]:
    return {
        name: records.select(evidence, study="course", network=name) for name in NAMES.values()
    }


def pruning_rates(evidence: list[Record], axes: np.ndarray) -> None:
    """A panel a network on record: accuracy against the share of weights removed."""
    for ax, network, found in style.panels(axes, _by_network(evidence), COMMAND):
        original.pruning_rates(found, ax)
        ax.set_title(network)


def sampling_rates(evidence: list[Record], axes: np.ndarray) -> None:
    """A panel a network with three sampling rates or more on record: accuracy against the
    rate."""
    found = {name: sampled(evidence, name) for name in NAMES.values()}
    enough = {
        name: part if len({r["sampling_rate"] for r in part}) > 2 else []
        for name, part in found.items()
    }
    for ax, network, part in style.panels(axes, enough, COMMAND):
        original.sampling_rates(part, ax)
        _enlarge(ax)
        ax.set_title(network)


def _enlarge(ax: Axes) -> None:
    """Begin the axis of accuracies at the last ten below all lines."""
    lowest = min(np.min(line.get_ydata()) for line in ax.get_lines())
    ax.set_ylim(10 * np.floor(lowest / 10), 100)
