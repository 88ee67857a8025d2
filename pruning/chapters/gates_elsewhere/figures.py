"""The figures of the chapter. They draw what they are given."""

import numpy as np
from matplotlib.axes import Axes

from pruning.chapters.gates_elsewhere.tables import (
    BESIDE,
    COMMAND,
    MET,
    ranking,
    whole_neurons,
)
from pruning.chapters.opponents import figures as opponents
from pruning.evidence import records
from pruning.evidence.records import Record
from pruning.figures import compression, drawing, style


def at_few(evidence: list[Record], density: float, ax: Axes) -> Axes:
    """The methods at few weights, the best on top, as in the chapter `opponents`."""
    tested = records.select(evidence, study="headline")
    table = ranking(tested, "headline", density)
    if table.empty:
        return style.not_measured(ax, COMMAND)
    lowest = min(80.0, 5 * np.floor(table[table["mean"] > 30]["mean"].min() / 5 - 1))
    opponents.ranking(tested, table, int(table.weights[0]), ax, lowest)
    return ax


def curves(evidence: list[Record], study: str, ax: Axes, best: float) -> Axes:
    """Test accuracy against density, one line a method, up to `best` per cent."""
    found = records.select(evidence, study=study)
    if len({r["density"] for r in found}) < 2:
        return style.not_measured(ax, COMMAND)
    return compression.curves(found, ax, accuracy_range=(10, best))


def maps(evidence: list[Record], axes: np.ndarray) -> None:
    """Importance of each pixel with many weights and with few, seed 0."""
    found = records.select(evidence, study="representatives", seed=0)
    if len(found) < len(axes):
        for ax in axes:
            style.not_measured(ax, COMMAND)
        return
    ordered = sorted(found, key=lambda r: -r["density"])
    for ax, record in zip(axes, ordered, strict=True):
        drawing.importance_map(record["importance"], record["shape"], ax, bar=False)
        ax.set_title(f"{record['kept']:,} weights", fontsize=12)


def temperatures(evidence: list[Record], dataset: str, ax: Axes) -> Axes:
    """Test accuracy on a data set against τ, a line a density: mean over seeds, band from
    worst to best; hollow where networks keep more weights than they were asked for."""
    found = records.select(evidence, study="temperature", dataset=dataset)
    if not found:
        return style.not_measured(ax, COMMAND)
    for density in sorted({r["density"] for r in found}, reverse=True):
        at = records.table(records.select(found, density=density))
        part = at.groupby("tau")
        accuracy = 100 * part.test_accuracy.agg(["mean", "min", "max"])
        unmet = part.kept.mean() > MET * density * at.dense_weights.iloc[0]
        (line,) = ax.plot(
            accuracy.index, accuracy["mean"], marker="o", label=f"{100 * density:.2g} % kept"
        )
        ax.plot(
            accuracy.index[unmet],
            accuracy["mean"][unmet],
            "o",
            color=line.get_color(),
            markerfacecolor="white",
            zorder=3,
        )
        ax.fill_between(
            accuracy.index,
            accuracy["min"],
            accuracy["max"],
            color=line.get_color(),
            alpha=0.2,
            linewidth=0,
        )
    ax.set_xscale("log")
    ax.set_xlabel("temperature τ")
    ax.set_ylabel("test accuracy (%)")
    style.label_ends(ax)
    return ax


def neurons(evidence: list[Record], ax: Axes) -> Axes:
    """Test accuracy against the weights of the network that is left: gates on neurons, and
    the two networks from scratch; small marks are seeds, lines their means."""
    frame = whole_neurons(evidence)
    if frame.empty:
        return style.not_measured(ax, COMMAND)
    for name, said in BESIDE.items():
        mean = frame.groupby("density")[["kept", name]].mean().sort_values("kept")
        (line,) = ax.plot(mean.kept, mean[name], label=said)
        ax.plot(frame.kept, frame[name], "o", color=line.get_color(), markersize=4, alpha=0.6)
    ax.set_xscale("log")
    ticks = sorted(frame.groupby("density").kept.mean().round(-2))
    ax.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
    ax.minorticks_off()
    ax.set_xlabel("weights of the network that is left")
    ax.set_ylabel("test accuracy (%)")
    style.label_ends(ax)
    return ax
