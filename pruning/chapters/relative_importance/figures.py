"""Figures of the chapter on relative importance. Functions draw what they are given on
`ax`."""

from collections.abc import Iterable

import numpy as np
import pandas
from matplotlib.axes import Axes

from pruning import methods
from pruning.chapters.relative_importance import rules, words
from pruning.chapters.relative_importance.tables import HIDDEN
from pruning.evidence import records
from pruning.evidence.records import Record
from pruning.evidence.statistics import interval
from pruning.figures.style import PAPER_COLOUR, error_scale, label_ends, legend_below
from pruning.methods.oneshot import Score

OURS = "#332288"  # relative importance
THRESHOLDS = {"global": ("o", OURS), "layer": ("s", "#0f7f8c"), "neuron": ("^", "#b87400")}


def _band(part: pandas.DataFrame, x: Iterable[float], score: Score, ax: Axes) -> None:
    """The mean as a line and a band from the worst seed to the best."""
    line = {"linewidth": 2.6, "zorder": 4} if score.name == "relative" else {"linewidth": 1.3}
    look = {"color": score.colour, "marker": score.marker, "label": score.short}
    ax.plot(x, part["mean"], markersize=6, **look, **line)
    ax.fill_between(x, part["min"], part["max"], color=score.colour, alpha=0.12, linewidth=0)


def sparsity_curves(
    evidence: Iterable[Record], ax: Axes, *, accuracy_range: tuple[float, float]
) -> Axes:
    """Test accuracy against the fraction removed, one line a method: mean over seeds, band
    from worst to best, error on a log scale. The dashed line is the mean of the unpruned
    networks."""
    frame = records.table(evidence)
    for method, score in methods.found(Score).items():
        part = frame[frame.method == method].groupby("sparsity").test_accuracy
        if part.ngroups and method not in HIDDEN:
            part = 100 * part.agg(["mean", "min", "max"])
            _band(part, 100 * part.index, score, ax)
    unpruned = 100 * frame[frame.method == "unpruned"].test_accuracy.mean()
    removed = [100 * s for s in sorted(frame.sparsity.unique()) if s]
    look = {"color": "0.3", "linestyle": "--", "linewidth": 1}
    ax.plot([removed[0], removed[-1]], [unpruned] * 2, label="unpruned", **look)
    error_scale(ax, *accuracy_range)
    ax.set_ylim(*accuracy_range)
    ax.set_xticks(removed)
    ax.set_xlabel("sparsity: weights removed (%)")
    ax.set_ylabel("test accuracy (%)")
    label_ends(ax)
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
            look = {"color": "0.3", "linestyle": "--", "linewidth": 1.2}
            ax.plot(x, part["mean"], label="unpruned", **look)
        else:
            _band(part, x, scores[method], ax)
    ax.set_xticks(range(len(factors)), [f"{factor:g}" for factor in factors])
    ax.set_xlabel("λ, factor of the activity penalty")
    ax.set_ylabel("test accuracy (%)")
    label_ends(ax)
    return ax


def _mean_and_interval(values: pandas.Series, y: float, ax: Axes, **look) -> None:
    """The mean with its 95 % interval as a horizontal bar."""
    found = interval(values) or (values.mean(), values.mean())
    ax.plot(found, [y, y], color=look["color"], linewidth=2, solid_capstyle="butt")
    ax.plot(values.mean(), y, markersize=8, linestyle="none", **look)


def readings(
    evidence: Iterable[Record], ax: Axes, *, value: float, accuracy_range: tuple[float, float]
) -> Axes:
    """Test accuracy of each reading of the method, one row a reading, one mark a threshold:
    mean and 95 % interval. The vertical line is `value`, the paper's number, a fraction.
    Bars are cut off at the ends of the range.
    """
    frame = records.table(evidence)
    rows = list(frame.groupby(["kind", "blind"], sort=False).groups)
    for row, reading in enumerate(rows):
        part = frame[(frame.kind == reading[0]) & (frame.blind == reading[1])]
        for shift, (scope, (marker, colour)) in zip(
            (-0.22, 0, 0.22), THRESHOLDS.items(), strict=True
        ):
            values = 100 * part[part.scope == scope].test_accuracy
            look = {"color": colour, "marker": marker}
            if row == 0:
                look["label"] = f"one threshold for {words.SCOPES[scope]}"
            _mean_and_interval(values, row + shift, ax, **look)
    ax.axvline(100 * value, color=PAPER_COLOUR, linestyle="--", linewidth=1.5)
    said = [words.reading(*reading).replace(", ", ",\n") for reading in rows]
    ax.set_yticks(range(len(rows)), said)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_xlim(*accuracy_range)
    ax.set_xlabel("test accuracy (%)")
    return ax


def leads(claim: dict, runs: pandas.DataFrame, ax: Axes) -> Axes:
    """How many points relative importance is ahead of the best competitor, one row a case: a
    pale dot a seed, mean and 95 % interval. Cases in which it is clearly ahead or behind are
    filled, the others open."""
    found = 100 * rules.leads(claim, runs)
    ahead, behind = rules.clear(found.items())
    *fields, last = claim["cells"]
    ticks, names, group = [], [], None
    for cell in found:
        *case, end = cell
        if case != group:  # a line of its own for what the next rows have in common
            group = case
            ticks.append(len(ticks))
            names.append(words.case(fields, tuple(case)))
        row = len(ticks)
        colour = OURS if ahead[cell] else PAPER_COLOUR if behind[cell] else "0.45"
        ax.plot(found[cell], [row] * len(found), "o", color=colour, alpha=0.25, markersize=4)
        filled = colour if ahead[cell] or behind[cell] else "white"
        look = {"color": colour, "marker": "o", "markerfacecolor": filled}
        _mean_and_interval(found[cell], row, ax, **look)
        ticks.append(row)
        names.append(words.value(last, end))
    ax.axvline(0, color="0.2", linewidth=1)
    ax.set_yticks(ticks, names)
    ax.tick_params("y", length=0)
    ax.set_ylim(len(ticks) - 0.5, -0.5)
    ax.set_xlabel("ahead of the best competitor (points)")
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
