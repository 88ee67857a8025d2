"""Figures of the chapter on relative importance. Functions draw what they are given on
`ax`."""

from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes

from pruning import methods
from pruning.evidence import records
from pruning.evidence.records import Record
from pruning.figures.style import error_scale, legend_below
from pruning.methods.oneshot import Score


def sparsity_curves(
    evidence: Iterable[Record], ax: Axes, *, accuracy_range: tuple[float, float]
) -> Axes:
    """Test accuracy against the fraction removed, one line a method: mean over seeds, band
    from worst to best, error on a log scale. The dashed line is the mean of the unpruned
    networks."""
    frame = records.table(evidence)
    for method, score in methods.found(Score).items():
        part = 100 * frame[frame.method == method].groupby("sparsity").test_accuracy.agg(
            ["mean", "min", "max"]
        )
        if part.empty:
            continue
        x = 100 * part.index
        line = {"linewidth": 2.6, "zorder": 4} if method == "relative" else {"linewidth": 1.3}
        look = {"color": score.colour, "marker": score.marker, "label": score.short}
        ax.plot(x, part["mean"], markersize=6, **look, **line)
        ax.fill_between(
            x, part["min"], part["max"], color=score.colour, alpha=0.12, linewidth=0
        )
    unpruned = 100 * frame[frame.method == "unpruned"].test_accuracy.mean()
    ax.axhline(unpruned, color="0.3", linestyle="--", linewidth=1, label="unpruned")
    error_scale(ax, *accuracy_range)
    ax.set_ylim(*accuracy_range)
    ax.set_xticks([100 * s for s in sorted(frame.sparsity.unique()) if s])
    ax.set_xlabel("sparsity: weights removed (%)")
    ax.set_ylabel("test accuracy (%)")
    legend_below(ax)
    return ax


def penalty_curves(evidence: Iterable[Record], ax: Axes) -> Axes:
    """Test accuracy against λ, the factor of the activity penalty, one line a method: mean
    over seeds, band from worst to best, dashed: unpruned. Methods that are not on record at
    every λ are left out.
    """
    frame = records.table(evidence)
    factors = sorted(frame[frame.method == "relative"].activity.unique())
    place = {factor: i for i, factor in enumerate(factors)}
    scores = methods.found(Score)
    for method in ("unpruned", *scores):
        part = frame[(frame.method == method) & frame.activity.isin(factors)]
        if part.activity.nunique() < len(factors):
            continue
        part = 100 * part.groupby("activity").test_accuracy.agg(["mean", "min", "max"])
        x = [place[factor] for factor in part.index]
        if method == "unpruned":
            ax.plot(
                x, part["mean"], color="0.3", linestyle="--", linewidth=1.2, label="unpruned"
            )
            continue
        score = scores[method]
        ax.plot(x, part["mean"], marker=score.marker, color=score.colour, label=score.short)
        ax.fill_between(
            x, part["min"], part["max"], color=score.colour, alpha=0.12, linewidth=0
        )
    ax.set_xticks(range(len(factors)), [f"{factor:g}" for factor in factors])
    ax.set_xlabel("λ, factor of the activity penalty")
    ax.set_ylabel("test accuracy (%)")
    legend_below(ax)
    return ax


def contribution_histogram(histogram: Record, ax: Axes) -> Axes:
    """One weight's contributions over the samples (as `relative_importance` records them)
    beside the normal distribution of the same mean and deviation. Densities on a log scale."""
    edges, counts = np.array(histogram["edges"]), np.array(histogram["counts"])
    width = edges[1] - edges[0]
    colour = methods.find("relative", Score).colour
    shares = counts / counts.sum() / width
    ax.stairs(shares, edges, fill=True, color=colour, alpha=0.5, label="contributions")
    mean, std = histogram["mean"], histogram["std"]
    x = np.linspace(edges[0] - 3 * width, edges[-1] + 3 * width, 300)
    ax.plot(
        x,
        np.exp(-0.5 * ((x - mean) / std) ** 2) / std / np.sqrt(2 * np.pi),
        color="black",
        label="fitted normal",
    )
    ax.set_yscale("log")
    ax.set_ylim(bottom=0.3 / counts.sum() / width)
    ax.set_xlabel("contribution")
    ax.set_ylabel("density")
    legend_below(ax)
    return ax
