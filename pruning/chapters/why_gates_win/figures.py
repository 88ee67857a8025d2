"""Figures of the chapter. Functions draw what they are given on `ax`."""

from collections.abc import Sequence
from textwrap import fill

import numpy as np
import pandas
from matplotlib.axes import Axes

from pruning.chapters.why_gates_win.tables import KEPT
from pruning.evidence import records
from pruning.evidence.records import Record
from pruning.evidence.statistics import LEVEL
from pruning.figures.captions import data_of, origin
from pruning.figures.drawing import AMOUNTS
from pruning.figures.style import legend_below, mean_mark


def arms(evidence: list[Record], ax: Axes, reference: float | None = None) -> Axes:
    """Test accuracy of every arm, one row each: a pale dot a run, a bar at the mean over
    networks.

    `reference`, a fraction, is the accuracy of the networks themselves: a line.
    """
    frame = records.table(evidence)
    rows = [arm for arm in KEPT if arm in set(frame.arm)]
    for y, arm in enumerate(rows):
        part = frame[frame.arm == arm]
        colour = "C0" if arm in ("found", "signs", "first", "mask") else "C1"
        accuracy = 100 * part.test_accuracy
        ax.plot(accuracy, [y] * len(part), "o", color=colour, alpha=0.35, markersize=6)
        mean = 100 * part.groupby("network").test_accuracy.mean().mean()
        behind = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}  # hides the line
        mean_mark(ax, mean, y, f"{mean:.1f}", colour, fontsize=11, bbox=behind)
    if reference is not None:
        ax.axvline(100 * reference, color="0.3", linewidth=1)
        named = f"the networks\nthemselves\n{100 * reference:.1f}"
        bottom = (100 * reference, 0.02)
        ax.annotate(
            named,
            bottom,
            xycoords=("data", "axes fraction"),
            xytext=(-6, 0),
            textcoords="offset points",
            ha="right",
            fontsize=11,
            color="0.3",
        )
    ax.set_yticks(range(len(rows)), [fill(KEPT[arm], 20) for arm in rows])
    ax.set_ylim(len(rows) - 0.5, -0.7)
    ax.set_xlabel("test accuracy (%)")
    return ax


def wirings(table: pandas.DataFrame, ax: Axes) -> Axes:
    """A row a method: the accuracy of its own networks and of their wiring with new weights.
    `table` is that of `tables.wirings_of`."""
    rows = range(len(table))
    ax.hlines(rows, table.own, table.wiring, color="0.75", linewidth=2)
    ax.plot(table.own, rows, "s", color="0.45", markersize=7, label="its own networks")
    ax.plot(table.wiring, rows, "o", color="C0", markersize=8, label="new weights")
    counted = (f"{m} ({n})" for m, n in zip(table.method, table.networks, strict=True))
    ax.set_yticks(rows, list(counted))
    ax.set_ylim(len(table) - 0.5, -0.5)
    ax.set_xlim(right=100)
    ax.set_xlabel("test accuracy (%)")
    legend_below(ax)
    return ax


def pixel_map(values: Sequence[float], side: int, ax: Axes, label: str) -> Axes:
    """A number for each pixel, with a bar that is named `label`."""
    drawn = ax.imshow(np.array(values).reshape(side, side), cmap=AMOUNTS, vmin=0)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.grid(visible=False)
    ax.figure.colorbar(drawn, ax=ax, label=label, orientation="horizontal")
    return ax


def conditions(table: pandas.DataFrame, axes: Sequence[Axes]) -> Sequence[Axes]:
    """Points of accuracy that a move of one setting gains, a panel a setting: filled where
    the gain or loss is clear, hollow where not. `table` is that of `tables.conditions`."""
    for ax, (setting, part) in zip(axes, table.groupby("setting", sort=False), strict=True):
        ax.axhline(0, color="0.6", linewidth=1)
        ax.plot(part.value, part.gain, color="C0", linewidth=1)
        for row in part.itertuples():
            inside = "C0" if row.p < LEVEL else "white"
            ax.plot(row.value, row.gain, "o", color="C0", markerfacecolor=inside)
        if part.value.max() > 10 * part.value.min():
            ax.set_xscale("log")
            ax.xaxis.set_major_formatter("{x:g}")
            ax.xaxis.set_minor_formatter("")
        else:
            ax.set_xticks(part.value, [f"{value:g}" for value in part.value], fontsize=10)
        ax.set_xlabel(fill(setting, 16))
    axes[0].set_ylabel("points gained")
    return axes


def caption(evidence: list[Record]) -> str:
    """How the figure of arms was drawn."""
    frame = records.table(evidence)
    networks, times = frame.network.nunique(), frame.seed.nunique()
    return origin(
        "paper",
        data_of(evidence),
        f"{networks} networks of gates",
        f"each part trained again {times} times for {frame.epochs.max()} epochs",
        "dot: a run, bar: mean of networks",
    )
