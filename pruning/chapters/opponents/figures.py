"""The figures of the chapter. They draw what they are given."""

from collections.abc import Sequence

import numpy as np
import pandas
from matplotlib.axes import Axes

from pruning.chapters.opponents.tables import OURS, budget
from pruning.evidence.records import Record
from pruning.evidence.statistics import LEVEL
from pruning.figures import style
from pruning.methods import find

TICKS = (100, 300, 1000, 3000)  # weights
LOWEST = 80.0  # per cent; what is below stands at the edge, with its number


def ranking(
    tested: list[Record],
    table: pandas.DataFrame,
    weights: int,
    ax: Axes,
    lowest: float = LOWEST,
) -> Axes:
    """The methods at one number of weights, the best on top: a dot a seed, a bar for the 95 %
    interval of the mean. A filled dot: gates are clearly ahead of it, or it is theirs."""
    part = table[table.weights == weights].reset_index(drop=True)
    for place, row in part.iterrows():
        known = find(row.method)
        seeds = [
            100 * r["test_accuracy"]
            for r in tested
            if r["method"] == row.method and budget(r) == weights
        ]
        clear = row.method == OURS or row.p < LEVEL
        ax.plot(
            np.maximum(seeds, lowest),
            [place] * len(seeds),
            known.marker,
            color=known.colour,
            fillstyle="full" if clear else "none",
            markersize=7,
            alpha=0.8,
        )
        if row["mean"] < lowest:
            ax.annotate(
                f"{row['mean']:.1f} %",
                (max(lowest, *seeds), place),
                (9, 0),
                textcoords="offset points",
                verticalalignment="center",
                fontsize=11,
            )
        elif not np.isnan(row.low):
            ends = np.maximum([row.low, row.high], lowest)
            ax.plot(ends, [place, place], color=known.colour, linewidth=3, alpha=0.5)
    ax.set_yticks(range(len(part)), [find(name).short for name in part.method])
    ax.invert_yaxis()
    ax.set_xlim(lowest - 0.5, None)
    ax.set_xlabel("test accuracy (%)")
    ax.set_title(f"{weights:,} weights")
    return ax


def frontier(gates: Sequence[Record], published: list[dict], ax: Axes) -> Axes:
    """Test accuracy of the gates against weights, a dot a run and a line for the means;
    crosses for what others published, named at the right."""
    known = find(OURS)
    points: dict[float, list[Record]] = {}
    for record in gates:
        points.setdefault(round(record["density"], 6), []).append(record)
    kept = [np.mean([r["kept"] for r in group]) for _, group in sorted(points.items())]
    means = [
        100 * np.mean([r["test_accuracy"] for r in group])
        for _, group in sorted(points.items())
    ]
    ax.plot(
        [r["kept"] for r in gates],
        [100 * r["test_accuracy"] for r in gates],
        ".",
        color=known.colour,
        alpha=0.4,
    )
    ax.plot(kept, means, color=known.colour, linewidth=2, label=f"{known.short}, mean")
    for point in published:
        where = [point["weights"]], [point["accuracy"]]
        ax.plot(*where, "k+", markersize=9, label=point["name"])
    ax.set_xscale("log")
    ax.set_xticks(TICKS, [f"{tick:,}" for tick in TICKS])
    ax.minorticks_off()
    style.error_scale(ax, min(means, default=LOWEST), 98.6)
    ax.set_ylim(min(means, default=LOWEST) - 1, 98.6)
    ax.set_xlabel("weights kept")
    ax.set_ylabel("test accuracy (%)")
    style.label_ends(ax)
    return ax
