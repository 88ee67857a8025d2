"""Drawings of networks and of maps of importance. Functions draw what they are given on `ax`."""

import itertools
from collections.abc import Iterable, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import SymLogNorm
from matplotlib.ticker import NullFormatter
from torch import Tensor

from pruning.evidence import records
from pruning.evidence.records import Record
from pruning.networks.structure import ordered
from pruning.plots import METHOD_STYLE, PAPER_COLOUR, legend_below

SIGNED = "coolwarm"  # blue below 0, red above: told apart with every common colour blindness


def living(connections: Sequence[Sequence[float]], widths: Sequence[int]) -> list[Tensor]:
    """Weights (outputs, inputs) of each layer from rows of (layer, input, output, weight), without those on
    no path from an input to an output."""
    found = [torch.zeros(o, i) for i, o in itertools.pairwise(widths)]
    for layer, i, o, weight in connections:
        found[int(layer)][int(o), int(i)] = weight
    reached = torch.ones(widths[0], dtype=torch.bool)
    for weight in found:
        weight[:, ~reached] = 0
        reached = (weight != 0).any(1)
    read = torch.ones(widths[-1], dtype=torch.bool)
    for weight in reversed(found):
        weight[~read] = 0
        read = (weight != 0).any(0)
    return found


def network(
    connections: Sequence[Sequence[float]],
    widths: Sequence[int],
    ax: Axes,
    inputs: Sequence[str] | None = None,
    outputs: Sequence[str] | None = None,
) -> Axes:
    """The living connections of a pruned network, inputs at the left, coloured by weight.

    `connections` are rows of (layer, input, output, weight). Neurons stand in the order that keeps paths
    apart (`structure.ordered`). Without names for the inputs only those that are connected are drawn.
    """
    matrices = living(connections, widths)
    orders = ordered(matrices)
    if inputs is None:
        used = (matrices[0] != 0).any(0)
        orders[0] = [i for i in orders[0] if used[i]]
    places = [{n: (k + 0.5) / max(1, len(order)) for k, n in enumerate(order)} for order in orders]
    lines, weights = [], []
    for level, matrix in enumerate(matrices):
        for o, i in matrix.nonzero().tolist():
            lines.append([(level, 1 - places[level][i]), (level + 1, 1 - places[level + 1][o])])
            weights.append(matrix[o, i].item())
    weights = np.array(weights)
    most = np.abs(weights).max() if len(weights) else 1.0
    norm = SymLogNorm(linthresh=most / 20, vmin=-most, vmax=most)
    by_size = np.argsort(np.abs(weights))  # strong ones on top
    thin = 0.4 if len(lines) > 150 else 1.0
    drawn = LineCollection(
        [lines[k] for k in by_size], cmap=SIGNED, norm=norm, array=weights[by_size],
        linewidths=thin + 1.6 * np.sqrt(np.abs(weights[by_size]) / most),
    )  # fmt: skip
    ax.add_collection(drawn)
    for level, place in enumerate(places):
        size = 60 if len(place) < 30 else 8
        ax.scatter([level] * len(place), [1 - y for y in place.values()], s=size, color="0.25", zorder=3)
    for level, names, side in ((0, inputs, "right"), (len(places) - 1, outputs, "left")):
        for n, y in places[level].items() if names is not None else ():
            shift = -0.08 if side == "right" else 0.08
            ax.text(level + shift, 1 - y, names[n], ha=side, va="center", fontsize=12)
    ax.set_xlim(-0.35, len(places) - 0.65)
    ax.set_ylim(0, 1)
    ax.axis("off")
    ax.figure.colorbar(
        drawn, ax=ax, label="weight", shrink=0.7, ticks=[-most, 0, most], format="%.2g"
    ).minorticks_off()
    return ax


def importance_map(values: Sequence[float], shape: Sequence[int], ax: Axes, bar: bool = True) -> Axes:
    """Importance of each pixel, in per cent of the whole."""
    drawn = ax.imshow(100 * np.array(values).reshape(shape), cmap="viridis", vmin=0)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.grid(False)
    if bar:
        ax.figure.colorbar(drawn, ax=ax, label="importance (%)", shrink=0.75)
    return ax


def agreement(record: Record, ax: Axes, other: str = "shap") -> Axes:
    """Importance from Eq. 4 against mean |SHAP|, one point a feature, in per cent of their sums.

    Names stand in a column at the right, in the order of their points, so that none covers another.
    """
    x, y = (100 * np.array(record["importance"][name]) for name in (other, "eq4"))
    end = 1.08 * max(x.max(), y.max())
    ax.plot([0, end], [0, end], color="0.6", linewidth=1, linestyle="--", label="equal")
    ax.plot(x, y, "o", color=METHOD_STYLE["gates"][0])
    order = np.argsort(y)
    heights = np.linspace(0.02, 0.98, len(order)) * end
    for k, height in zip(order, heights, strict=True):
        ax.annotate(
            record["features"][k], (x[k], y[k]), (1.04 * end, height), va="center", fontsize=11,
            annotation_clip=False, arrowprops={"arrowstyle": "-", "color": "0.75", "linewidth": 0.7},
        )  # fmt: skip
    ax.set_xlim(-0.02 * end, end)
    ax.set_ylim(-0.02 * end, end)
    ax.set_xlabel("mean |SHAP| (% of the sum)")
    ax.set_ylabel("importance, Eq. 4 (%)")
    return ax


def agreement_by_density(found: Iterable[Record], ax: Axes) -> Axes:
    """Pearson's and Spearman's correlation of Eq. 4 with SHAP against the density achieved: mean over seeds,
    band from lowest to highest; the dense network is the point at 100 %."""
    frame = records.table(found)
    frame["density_achieved"] = 100 * frame.kept / frame.dense_weights
    styles = {"pearson": ("gates", "o"), "spearman": ("random", "s")}
    for kind, (colour, marker) in styles.items():
        values = pandas.to_numeric(frame[f"{kind}_shap.value"])
        grouped = values.groupby(frame.density).agg(["mean", "min", "max"])
        x = frame.density_achieved.groupby(frame.density).mean()
        colour = METHOD_STYLE[colour][0]
        ax.plot(x, grouped["mean"], marker=marker, color=colour, label=f"{kind.title()}'s correlation")
        ax.fill_between(x, grouped["min"], grouped["max"], color=colour, alpha=0.2, linewidth=0)
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(plt.FuncFormatter(lambda value, _: f"{value:g}"))
    ax.axhline(0, color="0.6", linewidth=1)
    ax.set_ylim(-1, 1.02)
    ax.set_xlabel("density: weights kept (%)")
    ax.set_ylabel("agreement with SHAP")
    legend_below(ax)
    return ax


def patterns(rule: Record, axes: Sequence[Axes]) -> Sequence[Axes]:
    """How often none, one or both of a rule's pixels are on, in its class and in the rest, in per cent."""
    for ax, key, title in zip(
        axes, ("inside", "outside"), (f"“{rule['label']}”", "other digits"), strict=True
    ):
        counts = np.array(rule[key], dtype=float).reshape(2, 2)
        share = 100 * counts / counts.sum()
        ax.imshow(share, cmap="Blues", vmin=0, vmax=100)
        for (row, column), value in np.ndenumerate(share):
            ax.text(column, row, f"{value:.0f} %", ha="center", va="center",
                    color="white" if value > 55 else "black", fontsize=14)  # fmt: skip
        ax.set_xticks([0, 1], ["off", "on"])
        ax.set_yticks([0, 1], ["off", "on"])
        ax.set_xlabel("second pixel")
        ax.set_ylabel("first pixel")
        ax.set_title(title)
        ax.grid(False)
    return axes


def mark_pixels(pairs: Sequence[Sequence[int]], shape: Sequence[int], ax: Axes) -> Axes:
    """Draw rings around pixels, given by position in the flat image."""
    for pixel in np.ravel(pairs):
        row, column = divmod(int(pixel), shape[1])
        ax.plot(column, row, "o", markersize=11, markerfacecolor="none", markeredgecolor=PAPER_COLOUR,
                markeredgewidth=2)  # fmt: skip
    return ax


def symmetry(found: Iterable[Record], ax: Axes) -> Axes:
    """Symmetry scores, a dot for each pair of inputs of each network, pairs of one role beside the others."""
    frame = records.table(found)
    tasks = list(dict.fromkeys(frame.task))
    kinds = {"same_role": ("same role", "gates", -0.15), "other": ("other pairs", "random", 0.15)}
    generator = np.random.default_rng(0)  # only moves dots apart
    for key, (label, style, shift) in kinds.items():
        scores = frame[f"symmetry_{key}"]
        y = [tasks.index(task) + shift for task, s in zip(frame.task, scores, strict=True) for _ in s]
        x = [score for s in scores for score in s]
        y = np.array(y) + generator.uniform(-0.09, 0.09, len(y))
        colour, marker, _ = METHOD_STYLE[style]
        ax.plot(x, y, marker, color=colour, alpha=0.6, markersize=5, label=label)
    ax.set_yticks(range(len(tasks)), tasks)
    ax.set_ylim(len(tasks) - 0.5, -0.5)
    ax.set_xlim(-0.03, 1.03)
    ax.set_xlabel("symmetry of two inputs")
    legend_below(ax)
    return ax


def autocorrelation(found: Iterable[Record], ax: Axes) -> Axes:
    """Moran's I and the neighbour ratio of maps of importance against the density achieved: mean over seeds,
    band from lowest to highest; grey: Moran's I of maps shuffled among the pixels that vary."""
    frame = records.table(found)
    x = (100 * frame.kept / frame.dense_weights).groupby(frame.density).mean()
    for column, label, style in (
        ("neighbour_ratio", "neighbour ratio", "random"), ("morans_i", "Moran's I", "gates")
    ):  # fmt: skip
        grouped = frame.groupby("density")[column].agg(["mean", "min", "max"])
        colour, marker, _ = METHOD_STYLE[style]
        ax.plot(x, grouped["mean"], marker=marker, color=colour, label=label)
        ax.fill_between(x, grouped["min"], grouped["max"], color=colour, alpha=0.2, linewidth=0)
    null = (
        pandas.DataFrame(frame.morans_i_null_inside.tolist(), index=frame.index).groupby(frame.density).mean()
    )
    low, high = null[0] - 2 * null[1], null[0] + 2 * null[1]
    ax.fill_between(x, low, high, color="0.6", alpha=0.4, linewidth=0, label="Moran's I, shuffled")
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(plt.FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_ylim(bottom=0)
    ax.set_xlabel("density: weights kept (%)")
    ax.set_ylabel("1: neighbours matter as much")
    legend_below(ax)
    return ax
