"""Figures of the chapter on SHAP. Functions draw what they are given on `ax`."""

from collections.abc import Iterable

import matplotlib.pyplot as plt
import numpy as np
import pandas
from matplotlib.axes import Axes

from pruning.evidence import records
from pruning.evidence.records import Record
from pruning.figures.style import legend_below


def agreement(record: Record, ax: Axes, other: str = "shap") -> Axes:
    """Importance from Eq. 4 against mean |SHAP|, one point a feature, in per cent of their
    sums.

    Names stand in a column at the right, in the order of their points, so that none covers
    another.
    """
    x, y = (100 * np.array(record["importance"][name]) for name in (other, "eq4"))
    end = 1.08 * max(x.max(), y.max())
    ax.plot([0, end], [0, end], color="0.6", linewidth=1, linestyle="--", label="equal")
    ax.plot(x, y, "o", color="C0")
    order = np.argsort(y)
    heights = np.linspace(0.02, 0.98, len(order)) * end
    for k, height in zip(order, heights, strict=True):
        ax.annotate(
            record["features"][k],
            (x[k], y[k]),
            (1.04 * end, height),
            va="center",
            fontsize=11,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": "0.75", "linewidth": 0.7},
        )
    ax.set_xlim(-0.02 * end, end)
    ax.set_ylim(-0.02 * end, end)
    ax.set_xlabel("mean |SHAP| (% of the sum)")
    ax.set_ylabel("importance, Eq. 4 (%)")
    return ax


def agreement_by_density(evidence: Iterable[Record], ax: Axes) -> Axes:
    """Pearson's and Spearman's correlation of Eq. 4 with SHAP against the density achieved:
    mean over seeds, band from lowest to highest; the dense network is the point at 100 %."""
    frame = records.table(evidence)
    frame["density_achieved"] = 100 * frame.kept / frame.dense_weights
    styles = {"pearson": ("C0", "o"), "spearman": ("C1", "s")}
    for kind, (colour, marker) in styles.items():
        values = pandas.to_numeric(frame[f"{kind}_shap.value"])
        grouped = values.groupby(frame.density).agg(["mean", "min", "max"])
        x = frame.density_achieved.groupby(frame.density).mean()
        ax.plot(
            x,
            grouped["mean"],
            marker=marker,
            color=colour,
            label=f"{kind.title()}'s correlation",
        )
        ax.fill_between(
            x, grouped["min"], grouped["max"], color=colour, alpha=0.2, linewidth=0
        )
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(plt.FuncFormatter(lambda value, _: f"{value:g}"))
    ax.axhline(0, color="0.6", linewidth=1)
    ax.set_ylim(-1, 1.02)
    ax.set_xlabel("density: weights kept (%)")
    ax.set_ylabel("agreement with SHAP")
    legend_below(ax)
    return ax
