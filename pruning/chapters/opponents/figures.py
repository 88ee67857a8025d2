"""The figure of the chapter. Draws what it is given on `ax`."""

import numpy as np
from matplotlib.axes import Axes

from pruning.evidence.records import Record
from pruning.figures import style
from pruning.methods import find

LOWEST = 70.0  # per cent; points below stand at the edge


def frontier(
    evidence: list[Record], gates: list[Record], published: list[dict], ax: Axes
) -> Axes:
    """Test accuracy against weights: a line for the gates, a mark a method and number of
    weights, crosses for
    what others published."""
    for method in ["gates", *dict.fromkeys(r["method"] for r in evidence)]:
        part = gates if method == "gates" else [r for r in evidence if r["method"] == method]
        known = find(method)
        points = {}
        for record in part:
            points.setdefault(round(record["density"], 6), []).append(record)
        kept = [np.mean([r["kept"] for r in group]) for _, group in sorted(points.items())]
        means = [
            max(LOWEST, 100 * np.mean([r["test_accuracy"] for r in group]))
            for _, group in sorted(points.items())
        ]
        ax.plot(
            kept,
            means,
            color=known.colour,
            marker=known.marker,
            linewidth=2 if method == "gates" else 1,
            markersize=7,
            label=known.label,
            zorder=3 if method == "gates" else 2,
        )
    weights = [point["weights"] for point in published]
    accuracies = [point["accuracy"] for point in published]
    ax.plot(weights, accuracies, "k+", markersize=9, label="published by others")
    for position, point in enumerate(published):
        ax.annotate(
            point["name"],
            (point["weights"], point["accuracy"]),
            xytext=(0, (-14, 12, -26, 24)[position % 4]),
            ha="center",
            textcoords="offset points",
            fontsize=9,
        )
    ax.set_xscale("log")
    style.error_scale(ax, LOWEST, 98.6)
    ax.set_ylim(LOWEST - 1, 98.6)
    ax.set_xlabel("weights kept")
    ax.set_ylabel("test accuracy (%)")
    style.legend_below(ax)
    return ax


def caption(evidence: list[Record], gates: list[Record]) -> str:
    """One line of Markdown for under the figure."""
    seeds = {r["seed"] for r in evidence}
    ours = {r["seed"] for r in gates}
    said = (
        f"up to {len(seeds)} seeds a point, {len(evidence)} runs"
        if evidence
        else "none on record"
    )
    return (
        f"*paper profile · data: mnist · gates: up to {len(ours)} seeds a point; "
        f"opponents: {said} · line: mean; below {LOWEST:.0f} % at the edge*"
    )
