"""Figures of the chapter on pixels. Functions draw what they are given on `ax`."""

from collections.abc import Iterable, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from pruning.evidence import records
from pruning.evidence.records import Record
from pruning.figures.style import PAPER_COLOUR, legend_below


def patterns(rule: Record, axes: Sequence[Axes]) -> Sequence[Axes]:
    """How often none, one or both of a rule's pixels are on, in its class and in the rest, in
    per cent."""
    for ax, key, title in zip(
        axes, ("inside", "outside"), (f"“{rule['label']}”", "other digits"), strict=True
    ):
        counts = np.array(rule[key], dtype=float).reshape(2, 2)
        share = 100 * counts / counts.sum()
        ax.imshow(share, cmap="Blues", vmin=0, vmax=100)
        for (row, column), value in np.ndenumerate(share):
            ax.text(
                column,
                row,
                f"{value:.0f} %",
                ha="center",
                va="center",
                color="white" if value > 55 else "black",
                fontsize=14,
            )
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
        ax.plot(
            column,
            row,
            "o",
            markersize=11,
            markerfacecolor="none",
            markeredgecolor=PAPER_COLOUR,
            markeredgewidth=2,
        )
    return ax


def autocorrelation(evidence: Iterable[Record], ax: Axes) -> Axes:
    """Moran's I and the neighbour ratio of maps of importance against the density achieved:
    mean over seeds, band from lowest to highest; grey: Moran's I of maps shuffled among the
    pixels that vary.
    """
    frame = records.table(evidence)
    x = (100 * frame.kept / frame.dense_weights).groupby(frame.density).mean()
    lines = {
        "neighbour_ratio": ("neighbour ratio", "C1", "^"),
        "morans_i": ("Moran's I", "C0", "o"),
    }
    for column, (label, colour, marker) in lines.items():
        grouped = frame.groupby("density")[column].agg(["mean", "min", "max"])
        ax.plot(x, grouped["mean"], marker=marker, color=colour, label=label)
        ax.fill_between(
            x, grouped["min"], grouped["max"], color=colour, alpha=0.2, linewidth=0
        )
    null = (
        pandas.DataFrame(frame.morans_i_null_inside.tolist(), index=frame.index)
        .groupby(frame.density)
        .mean()
    )
    low, high = null[0] - 2 * null[1], null[0] + 2 * null[1]
    ax.fill_between(
        x, low, high, color="0.6", alpha=0.4, linewidth=0, label="Moran's I, shuffled"
    )
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(plt.FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_ylim(bottom=0)
    ax.set_xlabel("density: weights kept (%)")
    ax.set_ylabel("1: neighbours matter as much")
    legend_below(ax)
    return ax
