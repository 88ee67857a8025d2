"""Accuracy against density, the figure that several chapters share. Draws what it is given on
`ax`."""

from collections.abc import Iterable

import pandas
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from pruning import methods
from pruning.evidence import records
from pruning.evidence.records import Record
from pruning.figures.style import error_scale, label_ends
from pruning.training.recipes import Method


def _band(frame: pandas.DataFrame, metric: str, ax: Axes, colour: str, **line) -> None:
    """The mean over seeds as a line, and a band from the worst to the best."""
    seeds = (
        frame.groupby("density")
        .agg(
            x=("density_achieved", "mean"),
            mean=(metric, "mean"),
            low=(metric, "min"),
            high=(metric, "max"),
        )
        .sort_values("x")
    )
    ax.plot(seeds.x, 100 * seeds["mean"], color=colour, **line)
    ax.fill_between(
        seeds.x, 100 * seeds.low, 100 * seeds.high, color=colour, alpha=0.2, linewidth=0
    )


def curves(
    evidence: Iterable[Record], ax: Axes, *, accuracy_range: tuple[float, float] = (10, 99.2)
) -> Axes:
    """Test accuracy against the density achieved: mean over seeds, band from worst to best,
    dots.

    Density falls to the right, where each line carries its name. The upper axis counts weights
    (without biases). "Mask only" are the gates before their weights are fine-tuned.
    """
    frame = records.table(evidence)
    weights = int(frame.dense_weights.iloc[0])
    frame = frame[
        frame.kept > 0
    ].copy()  # a network without weights has no place on a log axis
    frame["density_achieved"] = 100 * frame.kept / weights
    for name, method in methods.found(Method).items():
        part = frame[frame.method == name]
        if part.empty:
            continue
        _band(part, "test_accuracy", ax, method.colour, label=method.short)
        ax.plot(
            part.density_achieved,
            100 * part.test_accuracy,
            method.marker,
            color=method.colour,
            markersize=4,
        )
        if name == "gates":
            label = f"{method.short}, mask only"
            bare = part[part.test_accuracy_before_finetune.notna()]
            _band(
                bare,
                "test_accuracy_before_finetune",
                ax,
                method.colour,
                label=label,
                linestyle="--",
            )
    ax.set_xscale("log")
    ax.invert_xaxis()
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    error_scale(ax, *accuracy_range)
    ax.set_ylim(*accuracy_range)
    ax.set_xlabel("density: weights kept (%)")
    ax.set_ylabel("test accuracy (%), error on a log scale")
    upper = ax.secondary_xaxis(
        "top", functions=(lambda x: x * weights / 100, lambda n: n * 100 / weights)
    )
    upper.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    upper.xaxis.set_minor_formatter(NullFormatter())
    upper.set_xlabel("weights kept")
    label_ends(ax)
    return ax
