"""Figures of the chapter on pixels. Functions draw what they are given on `ax`."""

from collections.abc import Sequence
from textwrap import fill

import numpy as np
import pandas
from matplotlib.axes import Axes

from pruning.evidence.records import Record
from pruning.figures.style import PAPER_COLOUR, legend_below, mean_mark


def mark_pixels(pairs: Sequence[Sequence[int]], shape: Sequence[int], ax: Axes) -> Axes:
    """Draw rings around pixels, given by position in the flat image."""
    for pixel in np.ravel(pairs):
        row, column = divmod(int(pixel), shape[1])
        ax.plot(
            column,
            row,
            "o",
            markersize=9,
            markerfacecolor="none",
            markeredgecolor=PAPER_COLOUR,
            markeredgewidth=2,
        )
    return ax


RATIOS = {  # columns of rules.null_ratios: what each is, in words, and whether it is chance
    "many": ("4 % of the weights", False),
    "few": ("0.15 % of the weights", False),
    "in_proportion": ("chance, in proportion to the map of 4 %", True),
    "anywhere": ("chance, any pixel that varies", True),
}


def neighbour_ratios(ratios: pandas.DataFrame, ax: Axes) -> Axes:
    """The neighbour ratio of each seed's networks beside what chance gives: a dot a seed, a
    bar at the mean, which is written above it. `ratios` is that of `rules.null_ratios`."""
    for y, (column, (_, chance)) in enumerate(RATIOS.items()):
        colour, values = "0.45" if chance else "C0", ratios[column]
        ax.plot(values, [y] * len(values), "o", color=colour, alpha=0.45)
        mean = values.mean()
        mean_mark(ax, mean, y, f"{mean:.2f}", colour)
    ax.set_yticks(range(len(RATIOS)), [fill(label, 20) for label, _ in RATIOS.values()])
    ax.set_ylim(len(RATIOS) - 0.5, -0.6)
    ax.set_xlim(0, 1)
    ax.set_xlabel("neighbour ratio")
    return ax


PAIRS = {  # which two pixels: label, colour, marker
    "own": ("the two most important", "C0", "o"),
    "best_read": ("best of the 20 read most", "C2", "^"),
    "best": ("best of all pairs", "0.45", "s"),
}


def precisions(evidence: Sequence[Record], ax: Axes, value: float) -> Axes:
    """How often "both pixels on" means the digit, in per cent: a row a digit, a pale mark a
    network, a dark one the mean. `value`, a fraction, is the paper's for digit 2."""
    digits = [rule["label"] for rule in evidence[0]["rules"]]
    for name, (label, colour, marker) in PAIRS.items():
        for y in range(len(digits)):
            rules = [record["rules"][y] for record in evidence]
            found = [
                100 * (rule if name == "own" else rule[name])["precision"] for rule in rules
            ]
            ax.plot(found, [y] * len(found), marker, color=colour, alpha=0.3)
            named = "_" if y else label
            ax.plot(np.mean(found), y, marker, color=colour, markersize=9, label=named)
    if "2" in digits:
        ax.plot(
            100 * value,
            digits.index("2"),
            "*",
            color=PAPER_COLOUR,
            markersize=15,
            label="the paper, digit 2",
        )
    ax.axvline(100 / len(digits), color="0.6", linewidth=1, linestyle="--", label="chance")
    ax.set_yticks(range(len(digits)), digits)
    ax.set_ylim(len(digits) - 0.5, -0.5)
    ax.set_xlim(-2, 100)
    ax.set_xlabel("precision (%)")
    ax.set_ylabel("digit")
    legend_below(ax)
    return ax
