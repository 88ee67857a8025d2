"""Figures of the chapter on StochGradAdam. Functions draw what they are given on `ax`."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from pruning.chapters.resnet_pruning.looks import LOOKS, Look
from pruning.chapters.resnet_pruning.rules import OURS, THEIRS, late
from pruning.chapters.resnet_pruning.tables import COMMAND
from pruning.evidence import records
from pruning.evidence.records import Record
from pruning.figures.drawing import AMOUNTS
from pruning.figures.style import legend_below, not_measured


def _by_method(evidence: Iterable[Record]) -> list[tuple[pandas.DataFrame, Look]]:
    """(records, look) of each method that is there, in the order of LOOKS."""
    frame = records.table(evidence)
    parts = [(frame[frame.method == name], look) for name, look in LOOKS.items()]
    return [part for part in parts if len(part[0])]


def _range(ax: Axes, x: Sequence[float], values: np.ndarray, look: Look, **line) -> None:
    """The mean of rows, a band from the lowest to the highest."""
    ax.plot(x, values.mean(0), color=look.colour, label=look.label, **line)
    ax.fill_between(
        x, values.min(0), values.max(0), color=look.colour, alpha=0.18, linewidth=0
    )


COURSES = {  # the panels of a course, top to bottom, and their titles
    "unpruned": "Unpruned",
    "pruned": "Half of the weights removed",
    "recalibrated": "Half removed, batch norm re-estimated",
}


def course(evidence: Iterable[Record], ax: Axes, name: str = "pruned") -> Axes:
    """Test accuracy after every epoch, one thin line a seed, the mean over seeds thick; `name`
    is a key of COURSES. Records without a course are left out."""
    for part, look in _by_method(r for r in evidence if r.get("course")):
        values = 100 * np.array(part[f"course.{name}"].tolist())
        epochs = np.arange(1, values.shape[1] + 1)
        ax.plot(epochs, values.T, color=look.colour, linewidth=0.8, alpha=0.6)
        ax.plot(epochs, values.mean(0), color=look.colour, linewidth=2.4, label=look.label)
    ax.set(xlabel="epoch", ylabel="test accuracy (%)", ylim=(0, 100), xlim=(1, None))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.label_outer()
    legend_below(ax)
    return ax


def paper_marks(values: dict[str, Sequence[float]], ax: Axes) -> Axes:
    """The paper's accuracies after pruning as dotted lines, named in the legend: {network:
    (StochGradAdam, Adam)}, fractions."""
    for network, pair in values.items():
        for method, accuracy in zip(("stochgradadam", "adam"), pair, strict=True):
            look = LOOKS[method]
            ax.axhline(
                100 * accuracy,
                color=look.colour,
                linestyle=":",
                linewidth=1.6,
                label=f"paper, {network}, {look.label}: {100 * accuracy:.1f} %",
            )
    legend_below(ax)
    return ax


def pruning_rates(
    evidence: Iterable[Record], ax: Axes, metric: str = "accuracy_global"
) -> Axes:
    """Test accuracy against the share of weights removed, one line a method: mean over seeds,
    band from worst to best seed."""
    for part, look in _by_method(evidence):
        rates = 100 * np.array(part.rates.iloc[0])
        values = 100 * np.array(part[metric].tolist())
        _range(
            ax,
            rates,
            values,
            look,
            marker=look.marker,
            markersize=5,
        )
    ax.set(
        xlim=(-2, 92), ylim=(0, 100), xlabel="weights removed (%)", ylabel="test accuracy (%)"
    )
    ax.set_xticks(range(0, 100, 10))
    legend_below(ax)
    return ax


OLD_BINS = (-0.5, 0.5, 100)  # of the first records, which do not name theirs


def weight_densities(evidence: Iterable[Record], ax: Axes) -> Axes:
    """Densities of all prunable weights, one line a method, band over seeds; of records whose
    histograms have different bins, those with the widest."""
    evidence = [{"bins": OLD_BINS} | record for record in evidence]
    low, high, count = max(
        (tuple(record["bins"]) for record in evidence), key=lambda bins: bins[1] - bins[0]
    )
    width = (high - low) / count
    centres = low + width * (np.arange(count) + 0.5)
    for part, look in _by_method(
        r for r in evidence if tuple(r["bins"]) == (low, high, count)
    ):
        counts = np.array(part.histogram.tolist(), dtype=float)
        _range(
            ax,
            centres,
            counts / part.kept.to_numpy(float)[:, None] / width,
            look,
        )
    ax.set(xlabel="weight", ylabel="density", xlim=(low, high), ylim=(0, None))
    legend_below(ax)
    return ax


def weights_by_layer(evidence: Iterable[Record], ax: Axes, statistic: str = "sd") -> Axes:
    """A statistic of the weights of each layer, from input to output, one line a method, band
    over seeds."""
    for part, look in _by_method(evidence):
        values = np.array(
            [[layer[statistic] for layer in row] for row in part.weights_by_layer]
        )
        _range(
            ax,
            np.arange(1, values.shape[1] + 1),
            values,
            look,
            marker=look.marker,
            markersize=4,
        )
    names = {
        "sd": "standard deviation of the weights",
        "small": "share of weights with |w| < 0.01",
    }
    ax.set(
        xlabel="layer, from input to output",
        ylabel=names.get(statistic, statistic),
    )
    legend_below(ax)
    return ax


def confusion(counts: Sequence[Sequence[int]], names: Sequence[str], ax: Axes) -> Axes:
    """Rows: true classes; columns: predicted ones; colour and number: per cent of the row.
    Only the outer axes of a grid are labelled."""
    share = np.array(counts, dtype=float)
    share = 100 * share / share.sum(1, keepdims=True)
    ax.imshow(share, cmap=AMOUNTS, vmin=0, vmax=100)
    for i, j in np.ndindex(share.shape):
        if share[i, j] >= 10:
            colour = "white" if share[i, j] > 55 else "black"
            ax.text(
                j, i, f"{share[i, j]:.0f}", ha="center", va="center", color=colour, fontsize=9
            )
    ax.grid(visible=False)
    ax.set_xticks(range(len(names)), names, rotation=90, fontsize=11)
    ax.set_yticks(range(len(names)), names, fontsize=11)
    ax.set(xlabel="predicted", ylabel="true")
    ax.label_outer()
    return ax


def settings(evidence: Iterable[Record], ax: Axes) -> Axes:
    """Test accuracy with half of the weights removed, mean of the last epochs of each course:
    a row a method, a pale mark a seed, a dark one the mean; hollow with batch norm
    re-estimated. Records without a course are left out. Two optimizers without a control are
    no comparison of settings: then nothing is drawn."""
    found = [r for r in evidence if r.get("course")]
    if not {r["method"] for r in found} - {OURS, THEIRS}:
        return not_measured(ax, COMMAND)
    parts = _by_method(found)
    for y, (part, look) in enumerate(parts):
        for key, inside in (("pruned", look.colour), ("recalibrated", "white")):
            values = 100 * late(part, key)
            drawn = {"color": look.colour, "markerfacecolor": inside}
            ax.plot(values, [y] * len(values), look.marker, alpha=0.5, **drawn)
            ax.plot(values.mean(), y, look.marker, markersize=9, **drawn)
    ax.set_yticks(range(len(parts)), [look.label for _, look in parts])
    ax.set_ylim(len(parts) - 0.5, -0.5)
    ax.set(xlim=(0, 100), xlabel="test accuracy, half of the weights removed (%)")
    return ax


SAMPLED = {  # what is drawn against s: label → key of a course, colour, marker
    "unpruned": ("unpruned", "C7", "s"),
    "half removed": ("pruned", "C1", "o"),
    "half removed, batch norm re-estimated": ("recalibrated", "C2", "^"),
}


def sampling_rates(evidence: Iterable[Record], ax: Axes) -> Axes:
    """Test accuracy against the sampling rate s, mean of the last epochs of each course; 1 is
    Adam. A pale dot a seed, the line through the means. Records without a course are left
    out. Fewer than three rates are no curve: then nothing is drawn."""
    frame = records.table(r for r in evidence if r.get("course"))
    if frame.empty or frame.sampling_rate.nunique() < 3:
        return not_measured(ax, COMMAND)
    for label, (key, colour, marker) in SAMPLED.items():
        values = 100 * late(frame, key)
        mean = values.groupby(frame.sampling_rate).mean()
        ax.plot(mean.index, mean, color=colour, marker=marker, markersize=6, label=label)
        ax.plot(frame.sampling_rate, values, marker, color=colour, markersize=6, alpha=0.5)
    ax.set(xlabel="sampling rate s", ylabel="test accuracy (%)", ylim=(0, 100))
    ax.set_xticks(sorted(frame.sampling_rate.unique()))
    legend_below(ax)
    return ax
