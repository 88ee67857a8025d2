"""The figure of the chapter. It draws what it is given on `axes`."""

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes

from pruning.chapters.hardware.tables import PATTERNS, frame
from pruning.evidence import records
from pruning.evidence.records import Record
from pruning.figures import style

FORMS = (
    "masked, torch",
    "compact, torch",
    "compact, ONNX Runtime",
    "compact, CSR",
    "compact, NumPy",
    "dense, ONNX Runtime",
)
MARKERS = "Xos^vD"
MEASURES = {"one_ratio": "one image", "batch_ratio": "batch"}


def ratios(evidence: list[Record], network: str, axes: np.ndarray) -> None:
    """Processor time over that of the dense network in torch, against the density asked for: a
    column of panels a pattern, a row one image and a batch; median and range over seeds."""
    rows = frame(records.select(evidence, network=network))
    colours = sns.color_palette("colorblind", len(FORMS))
    looks = dict(zip(FORMS, zip(colours, MARKERS, strict=True), strict=True))
    for (measure, title), row in zip(MEASURES.items(), axes, strict=True):
        for pattern, ax in zip(("scattered", "outputs"), row, strict=True):
            part = rows[(rows.pattern == pattern) | (rows.asked == 1)]
            for form in [name for name in FORMS if name in set(part.form)]:
                _line(part[part.form == form], measure, form, *looks[form], ax)
            ax.axhline(1, color="0.3", linewidth=1.5, label="dense, torch")
            ax.set_title(f"{title},\n{PATTERNS[pattern]} removed", fontsize=11)
    least = 100 * rows.asked.min()
    ticks = [tick for tick in (100, 30, 10, 3, 1, 0.3) if tick >= least][
        :: 1 if least > 5 else 2
    ]
    for ax in axes.flat:
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xlim(150, 0.7 * least)
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.set_yticks([0.1, 0.3, 1, 3], ["0.1", "0.3", "1", "3"])
        ax.minorticks_off()
    for ax in axes[-1]:
        ax.set_xlabel("weights left (%)")
    for ax in axes[:, 0]:
        ax.set_ylabel("time, dense in torch = 1")
    style.legend_below(axes[0][0])


def _line(part, measure: str, form: str, colour, marker: str, ax: Axes) -> None:
    grouped = part.groupby("asked")[measure]
    x = 100 * np.array(sorted(part.asked.unique()))
    ax.fill_between(x, grouped.min(), grouped.max(), color=colour, alpha=0.2, linewidth=0)
    ax.plot(x, grouped.median(), color=colour, marker=marker, markersize=5, label=form)
