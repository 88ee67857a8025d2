"""Figures of the chapter on SHAP. Functions draw what they are given on `ax`."""

from collections.abc import Iterable, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from pruning.chapters.shap_agreement.rules import diagonal, over_paths
from pruning.evidence import records
from pruning.evidence.records import Record
from pruning.figures.style import PAPER_COLOUR, label_ends, legend_below

KINDS = {"eq4": ("structure, Eq. 4", "C0", "o", -0.14), "shap": ("SHAP", "C1", "^", 0.14)}


def agreement(evidence: Sequence[Record], ax: Axes) -> Axes:
    """Importance from Eq. 4 against mean |SHAP|, in per cent of their sums: a pale dot for
    each feature of each network, a dark one for the mean over networks, and the diagonal."""
    theirs, ours = (
        100 * np.array([record["importance"][name] for record in evidence])
        for name in ("shap", "eq4")
    )
    end = 1.05 * max(ours.max(), theirs.max())
    ax.plot([0, end], [0, end], color="0.6", linewidth=1, linestyle="--")
    ax.plot(theirs, ours, "o", color="C0", alpha=0.35, markersize=5)
    ax.plot(theirs.mean(0), ours.mean(0), "o", color="black", markersize=5)
    ax.set(xlim=(-0.03 * end, end), ylim=(-0.03 * end, end), aspect="equal")
    ax.set_xlabel("mean |SHAP| (%)")
    ax.set_ylabel("structure, Eq. 4 (%)")
    return ax


def by_feature(evidence: Sequence[Record], ax: Axes) -> Axes:
    """Both importances of each feature, in per cent of their sums: a pale mark a network, a
    bar at the mean; the feature that matters most to SHAP on top."""
    values = {
        name: 100 * np.array([record["importance"][name] for record in evidence])
        for name in KINDS
    }
    order = np.argsort(-values["shap"].mean(0))
    for name, (label, colour, marker, shift) in KINDS.items():
        for y, feature in enumerate(order):
            found = values[name][:, feature]
            ax.plot(found, [y + shift] * len(found), marker, color=colour, alpha=0.45)
            ax.plot(
                found.mean(),
                y + shift,
                "|",
                color=colour,
                markersize=13,
                markeredgewidth=3,
                label="_" if y else label,
            )
    ax.set_yticks(range(len(order)), [evidence[0]["features"][k] for k in order])
    ax.set_ylim(len(order) - 0.5, -0.5)
    ax.set_xlim(left=-1)
    ax.set_xlabel("share of the importance (%)")
    legend_below(ax)
    return ax


AGREEMENT = {  # how agreement is measured: label, colour, marker
    "spearman": ("Spearman", "C1", "s"),
    "path": ("Spearman, path", "C4", "D"),
    "pearson": ("Pearson", "C0", "o"),
    "diagonal": ("R², diagonal", "C2", "^"),
}


def agreement_by_density(evidence: Iterable[Record], ax: Axes) -> Axes:
    """Agreement of Eq. 4 with SHAP against the density achieved: Spearman's correlation over
    all features and over those with a path, Pearson's, and R² against the diagonal. Line:
    mean over seeds; band: from lowest to highest. The dense network is the point at 100 %, and
    density falls to the right."""
    frame = records.table(evidence)
    frame["path_shap.value"] = over_paths(frame)
    frame["diagonal_shap.value"] = [
        diagonal(*pair)
        for pair in zip(frame["importance.eq4"], frame["importance.shap"], strict=True)
    ]
    x = (100 * frame.kept / frame.dense_weights).groupby(frame.density).mean()
    for kind, (label, colour, marker) in AGREEMENT.items():
        values = pandas.to_numeric(frame[f"{kind}_shap.value"])
        grouped = values.groupby(frame.density).agg(["mean", "min", "max"])
        ax.plot(x, grouped["mean"], marker=marker, color=colour, label=label)
        low, high = grouped["min"], grouped["max"]
        ax.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
    ax.set_xscale("log")
    ax.invert_xaxis()
    ax.xaxis.set_major_formatter(plt.FuncFormatter(lambda value, _: f"{value:g}"))
    ax.axhline(0, color="0.6", linewidth=1)
    ax.set_ylim(top=1.6)  # room between the title and the name of a line that ends at 1
    ax.set_xlabel("density: weights kept (%)")
    ax.set_ylabel("agreement with SHAP")
    label_ends(ax)
    return ax


def central_square(shape: Sequence[int], side: int, ax: Axes) -> Axes:
    """Outline the central `side` × `side` pixels of a map."""
    top, left = ((extent - side) / 2 - 0.5 for extent in shape)
    ax.add_patch(Rectangle((left, top), side, side, fill=False, edgecolor=PAPER_COLOUR, lw=2))
    return ax
