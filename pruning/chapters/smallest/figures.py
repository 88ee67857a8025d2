"""The figure of the ablation. Draws what it is given on `ax`."""

from collections.abc import Container, Iterable
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes

from pruning.evidence import records
from pruning.evidence.records import Record

FARTHEST = 1.5  # points
MOST_LETTERS = 26  # of a line of a label: a phone shows longer ones too small
COLOURS = ("#0173b2", "0.3")  # of families of moves, in turn


def gains(evidence: Iterable[Record], clear: Container[str], ax: Axes) -> Axes:
    """Points of accuracy that a move gains over none, one row a move: a pale dot a seed, a bar
    at the mean, thick for the moves that are `clear`.

    Records as `tables.labelled` makes them; families of moves in turn in two colours.
    A mean that is further off than FARTHEST stands at the edge, as a number.
    """
    frame = records.table(evidence)
    frame = frame[frame.move != "none"]
    families = list(dict.fromkeys(frame.family))
    rows = list(dict.fromkeys(frame.move))
    labels = [_folded(row) for row in rows]
    heights = np.array([1 + 0.4 * label.count("\n") for label in labels])
    places = heights.cumsum() - heights / 2
    for y, move in zip(places, rows, strict=True):
        part = frame[frame.move == move]
        gains, family = part.gain.to_numpy(), part.family.iloc[0]
        colour = COLOURS[families.index(family) % 2]
        if abs(gains.mean()) > FARTHEST:
            side = np.sign(gains.mean())
            ax.text(
                side * FARTHEST,
                y,
                f"{gains.mean():+.1f}".replace("-", "−"),
                color=colour,
                va="center",
                fontsize=11,
                ha="left" if side < 0 else "right",
            )
            continue
        ax.plot(gains, np.full(len(gains), y), "o", color=colour, alpha=0.4, markersize=6)
        width = 6 if move in clear else 2
        ax.plot(gains.mean(), y, "|", color=colour, markersize=16, markeredgewidth=width)
    ax.axvline(0, color="0.3", linewidth=1)
    ax.set_yticks(places, labels, fontsize=11, linespacing=0.95)
    ax.set_ylim(heights.sum(), 0)
    ax.set_xlim(-1.05 * FARTHEST, 1.05 * FARTHEST)
    ax.set_xlabel("gain in accuracy (points)")
    return ax


def _folded(label: str) -> str:
    """A label on as many lines as it needs, which break between settings alone."""
    if len(label) <= MOST_LETTERS:
        return label
    settings = (setting.replace(" ", "\N{NO-BREAK SPACE}") for setting in label.split(", "))
    return fill(", ".join(settings), MOST_LETTERS)
