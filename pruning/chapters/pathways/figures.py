"""The figure of the chapter on pathways. Draws what it is given on `ax`."""

from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes

from pruning.evidence import records
from pruning.evidence.records import Record
from pruning.figures.style import legend_below


def symmetry(evidence: Iterable[Record], ax: Axes) -> Axes:
    """Symmetry scores, a dot for each pair of inputs of each network, pairs of one role beside
    the others."""
    frame = records.table(evidence)
    tasks = list(dict.fromkeys(frame.task))
    kinds = {
        "same_role": ("same role", "C0", "o", -0.15),
        "other": ("other pairs", "C1", "^", 0.15),
    }
    generator = np.random.default_rng(0)  # only moves dots apart
    for key, (label, colour, marker, shift) in kinds.items():
        scores = frame[f"symmetry_{key}"]
        y = [
            tasks.index(task) + shift
            for task, s in zip(frame.task, scores, strict=True)
            for _ in s
        ]
        x = [score for s in scores for score in s]
        y = np.array(y) + generator.uniform(-0.09, 0.09, len(y))
        ax.plot(x, y, marker, color=colour, alpha=0.6, markersize=5, label=label)
    ax.set_yticks(range(len(tasks)), tasks)
    ax.set_ylim(len(tasks) - 0.5, -0.5)
    ax.set_xlim(-0.03, 1.03)
    ax.set_xlabel("symmetry of two inputs")
    legend_below(ax)
    return ax
