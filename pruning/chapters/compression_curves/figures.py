"""Figures of the chapter on compression curves. Functions draw what they are given on `ax`."""

from collections.abc import Iterable

import pandas
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from pruning.evidence import records
from pruning.evidence.records import Record
from pruning.figures.style import label_ends


def density_by_layer(evidence: Iterable[Record], ax: Axes) -> Axes:
    """Kept weights of each layer against the density achieved, which falls to the right, one
    line a layer, mean and range."""
    frame = records.table(evidence)
    weights = int(frame.dense_weights.iloc[0])
    frame["density_achieved"] = 100 * frame.kept / weights
    layers = pandas.DataFrame(frame.kept_by_layer.tolist(), index=frame.index)
    names = [
        "input → hidden 1",
        *(f"hidden {i} → hidden {i + 1}" for i in range(1, layers.shape[1] - 1)),
    ]
    names.append(f"hidden {layers.shape[1] - 1} → output")
    for i, name in enumerate(names):
        share = (100 * layers[i] / frame.kept).groupby(frame.density)
        x = frame.density_achieved.groupby(frame.density).mean()
        colour = sns.color_palette("crest", len(names))[i]
        ax.plot(x, share.mean(), marker="o", markersize=4, color=colour, label=name)
        ax.fill_between(x, share.min(), share.max(), color=colour, alpha=0.2, linewidth=0)
    ax.set_xscale("log")
    ax.invert_xaxis()
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_ylim(0, 100)
    ax.set_xlabel("density: weights kept (%)")
    ax.set_ylabel("share of the kept weights (%)")
    label_ends(ax)
    return ax
