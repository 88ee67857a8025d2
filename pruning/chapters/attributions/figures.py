"""The figures of the chapter. They draw what they are given on `axes`."""

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes

from pruning.chapters.attributions.tables import NAMES, kind
from pruning.evidence import records
from pruning.evidence.records import Record
from pruning.figures import drawing, style


def maps(record: Record, axes: np.ndarray) -> None:
    """Importance of each pixel by Eq. 4 and by integrated gradients, side by side."""
    for ax, name in zip(axes, ("eq4", "ig"), strict=True):
        drawing.importance_map(record["maps"][name], record["shape"], ax, bar=False)
        ax.set_title(NAMES[name], fontsize=12)


def removal(evidence: list[Record], axes: np.ndarray) -> None:
    """A panel a kind of network: test accuracy against how many of an attribution's first
    pixels are removed, mean and range over seeds."""
    found = records.select(evidence, study="pixels")
    colours = sns.color_palette("colorblind", len(NAMES))
    for ax, method in zip(axes, dict.fromkeys(r["method"] for r in found), strict=True):
        part = records.select(found, method=method)
        for (name, title), colour, marker in zip(
            NAMES.items(), colours, "osv^Dx", strict=True
        ):
            values = 100 * np.array(
                [[record["test_accuracy"], *record["without"][name]] for record in part]
            )
            counts = [0, *part[0]["removed"]]
            ax.fill_between(
                counts, values.min(0), values.max(0), color=colour, alpha=0.2, linewidth=0
            )
            ax.plot(
                counts,
                values.mean(0),
                color=colour,
                marker=marker,
                markersize=5,
                linestyle=":" if name in ("deviation", "random") else "-",
                label=title,
            )
        ax.set_title(kind(part[0]), fontsize=12)
        ax.set_xlabel("pixels removed")
        ax.set_ylabel("accuracy (%)")
    style.legend_below(axes[0])


def scatter(record: Record, layer: str, score: str, ax: Axes) -> Axes:
    """How much the loss changes without a weight, against its score: a dot a weight; weights
    without any effect are left out."""
    sample = record["layers"][layer]["sample"]
    x, y = np.array(sample[score]), np.array(sample["loss"])
    shown = (x > 0) & (y > 0)
    ax.plot(x[shown], y[shown], ".", color="C0", alpha=0.5, markersize=4)
    ax.set_xscale("log")
    ax.set_yscale("log")
    found = record["layers"][layer]["spearman"][score]
    ax.set_title(f"Spearman {found:.2f}", fontsize=12)
    return ax
