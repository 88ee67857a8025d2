"""The figures of the chapter. They draw what they are given."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from pruning.chapters.relative_elsewhere import tables
from pruning.chapters.relative_importance import figures as original
from pruning.evidence import records
from pruning.evidence.records import Record
from pruning.figures import style

RANGES = {  # network → accuracies that its panel shows
    "CNN, Fashion-MNIST": (10, 93),
    "transformer, Fashion-MNIST": (10, 91),
    "CNN, CIFAR-10": (10, 78),
}


def sparsity_curves(evidence: list[Record], axes: np.ndarray) -> None:
    """A panel a network on record: accuracy against sparsity, each score under its best
    threshold."""
    found = {
        name: tables.best_thresholds(tables.of(evidence, name, "table")) for name in RANGES
    }
    enough = {
        name: part if len({r["sparsity"] for r in part}) > 2 else []
        for name, part in found.items()
    }
    for ax, name, part in style.panels(axes, enough, tables.COMMAND):
        original.sparsity_curves(part, ax, accuracy_range=RANGES[name])
        ax.set_title(name)


def through_training(evidence: list[Record], field: str, ax: Axes) -> Axes:
    """A field of `ranges.occupied` against the epoch, a line an activation: mean over layers,
    band from the lowest seed to the highest."""
    found = records.select(evidence, study="ranges")
    if not found:
        return style.not_measured(ax, tables.COMMAND)
    for name, title in tables.ACTIVATIONS.items():
        part = [r[field] for r in found if r["activation"] == name]
        if not part:
            continue
        values = 100 * np.mean(part, axis=2)
        epochs = np.arange(values.shape[1])
        (line,) = ax.plot(epochs, values.mean(0), marker="o", markersize=4, label=title)
        ax.fill_between(
            epochs,
            values.min(0),
            values.max(0),
            color=line.get_color(),
            alpha=0.2,
            linewidth=0,
        )
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("epoch")
    ax.set_ylim(0, None)
    style.label_ends(ax)
    return ax


def penalty_curves(evidence: list[Record], ax: Axes) -> Axes:
    """Accuracy at 25 % against λ, a line a score."""
    picked = tables.penalties(evidence)
    if not picked:
        return style.not_measured(ax, tables.COMMAND)
    return original.penalty_curves(picked, ax)
