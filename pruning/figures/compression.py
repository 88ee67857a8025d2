"""Accuracy against density, the figure that several chapters share. Draws what it is given on `ax`."""

from collections.abc import Iterable

import pandas
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from pruning.evidence import records
from pruning.evidence.records import Record
from pruning.figures.style import METHOD_STYLE, error_scale, legend_below


def curves(found: Iterable[Record], ax: Axes, *, accuracy_range: tuple[float, float] = (10, 99.2)) -> Axes:
    """Test accuracy against the density achieved: mean over seeds, band from worst to best, dots.

    The upper axis counts weights (without biases). Gates appear with and without fine-tuning.
    """
    frame = records.table(found)
    weights = int(frame.dense_weights.iloc[0])
    frame["density_achieved"] = 100 * frame.kept / weights
    gated = frame[(frame.method == "gates") & frame.test_accuracy_before_finetune.notna()]
    bare = gated.assign(
        method=lambda f: f.method + ", mask only", test_accuracy=lambda f: f.test_accuracy_before_finetune
    )
    frame = pandas.concat([frame, bare])
    for method, (colour, marker, label) in METHOD_STYLE.items():
        part = frame[frame.method == method]
        if part.empty:
            continue
        seeds = part.groupby("density").agg(
            x=("density_achieved", "mean"), mean=("test_accuracy", "mean"),
            low=("test_accuracy", "min"), high=("test_accuracy", "max"),
        ).sort_values("x")  # fmt: skip
        bare_style = {"linestyle": "--", "linewidth": 1.2} if method.endswith("mask only") else {}
        ax.plot(seeds.x, 100 * seeds["mean"], color=colour, label=label, **bare_style)
        ax.fill_between(seeds.x, 100 * seeds.low, 100 * seeds.high, color=colour, alpha=0.2, linewidth=0)
        if not bare_style:
            ax.plot(part.density_achieved, 100 * part.test_accuracy, marker, color=colour, markersize=4)
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    error_scale(ax, *accuracy_range)
    ax.set_ylim(*accuracy_range)
    ax.set_xlabel("density: weights kept (%)")
    ax.set_ylabel("test accuracy (%), error on a log scale")
    upper = ax.secondary_xaxis("top", functions=(lambda x: x * weights / 100, lambda n: n * 100 / weights))
    upper.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    upper.xaxis.set_minor_formatter(NullFormatter())
    upper.set_xlabel("weights kept")
    legend_below(ax)
    return ax
