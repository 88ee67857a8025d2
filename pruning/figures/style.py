"""One style for the whole book. Functions draw what they are given on `ax`."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

PAPER_COLOUR = sns.color_palette("colorblind")[3]  # what a paper prints
ACCURACY_TICKS = (10, 50, 70, 80, 90, 95, 97, 98, 99, 99.5)
NARROW_TICKS = tuple(range(60, 100))  # where the range is a few points only
_ABSENT: WeakKeyDictionary[Figure, list[tuple[str, str]]] = WeakKeyDictionary()


def use_style() -> None:
    """Set the book's look: legible at phone width, no frame, light grid."""
    sns.set_theme(context="notebook", style="ticks", palette="colorblind")
    plt.rcParams.update(
        {
            "figure.dpi": 110,
            "savefig.dpi": 160,
            "figure.facecolor": "white",
            "figure.constrained_layout.use": True,
            "font.size": 13,
            "axes.titlesize": 14,
            "axes.titlelocation": "left",
            "axes.titleweight": "bold",
            "axes.labelsize": 13,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.alpha": 0.3,
            "legend.frameon": False,
            "legend.fontsize": 12,
            "xtick.labelsize": 12,
            "ytick.labelsize": 12,
        }
    )


def not_measured(ax: Axes, command: str) -> Axes:
    """Remove a panel without evidence; `captions.show` names the command that brings it."""
    _ABSENT[ax.figure] = [*absent(ax.figure), ("", command)]
    ax.remove()
    return ax


def absent(fig: Figure) -> list[tuple[str, str]]:
    """(name, command) of each panel that a figure lacks, because nothing is on record."""
    return _ABSENT.get(fig, [])


def panels(
    axes: Sequence[Axes], found: Mapping[str, list[Any]], command: str
) -> Iterator[tuple[Axes, str, list[Any]]]:
    """(axes, name, records) of those panels of a column that have records. The axes of the
    others are removed before, and the figure gets as much lower; `command` fills them."""
    fig = axes[0].figure
    shown = {name: part for name, part in found.items() if part}
    lacking = [(name, command) for name in found if name not in shown]
    if lacking:
        _ABSENT[fig] = [*absent(fig), *lacking]
        for ax in axes[len(shown) :]:
            ax.remove()
    if lacking and shown:
        width, height = fig.get_size_inches()
        fig.set_size_inches(width, height * len(shown) / len(found))
        for ax, place in zip(axes, fig.add_gridspec(len(shown), 1), strict=False):
            ax.set_subplotspec(place)
    for ax, (name, part) in zip(axes, shown.items(), strict=False):
        yield ax, name, part


def legend_below(ax: Axes) -> None:
    """Under the axes, where it covers no curve at any width; the layout makes room for it."""
    for legend in list(ax.figure.legends):
        legend.remove()
    named = {}  # over all axes: a panel may lack a line that another has
    for panel in ax.figure.axes:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
    columns = 2 if len(named) > 6 else 1
    ax.figure.legend(
        named.values(),
        named.keys(),
        loc="outside lower center",
        ncols=columns,
        columnspacing=1,
    )


def spread(heights: np.ndarray, gap: float) -> np.ndarray:
    """The places nearest to `heights`, in [0, 1], that keep their order and are at least `gap`
    apart (in the sense of least squares, by isotonic regression)."""
    from sklearn.isotonic import IsotonicRegression  # takes long to import

    order = np.argsort(heights, kind="stable")
    steps = gap * np.arange(len(heights))
    nearest = IsotonicRegression(y_min=0, y_max=max(0, 1 - steps[-1]))
    places = np.empty(len(heights))
    places[order] = nearest.fit_transform(steps, heights[order] - steps) + steps
    return places


def label_ends(ax: Axes, size: float = 12) -> None:
    """Write the label of each line at the right of the axes, at the height where the line
    ends, in place of a legend. To be called once scales and limits are set."""
    lines = [line for line in ax.get_lines() if not line.get_label().startswith("_")]
    right = -1 if ax.xaxis_inverted() else 1
    ends = np.array(
        [max(zip(*line.get_data(), strict=True), key=lambda p: right * p[0]) for line in lines]
    )
    ends = (ax.transScale + ax.transLimits).transform(ends).clip(0, 1)  # of the axes
    gap = 1.3 * size / (72 * 0.75 * ax.figure.get_figheight() * ax.get_position().height)
    for line, end, place in zip(lines, ends, spread(ends[:, 1], gap), strict=True):
        ax.annotate(
            line.get_label(),
            end,
            (1.06, place),
            xycoords="axes fraction",
            textcoords="axes fraction",
            color=line.get_color(),
            fontsize=size,
            va="center",
            arrowprops={
                "arrowstyle": "-",
                "color": line.get_color(),
                "linewidth": 0.7,
                "linestyle": ":",
                "relpos": (0, 0.5),
            },
        )
        line.set_label(f"_{line.get_label()}")


def error_scale(ax: Axes, lowest: float, highest: float) -> None:
    """Accuracy in per cent on an axis whose steps are equal factors of the error."""

    def height(accuracy):
        return -np.log10(np.maximum(100.5 - accuracy, 1e-3))

    ax.set_yscale("function", functions=(height, lambda y: 100.5 - 10.0**-y))
    apart = 0.05 * (height(highest) - height(lowest))  # closer ticks would overlap
    ticks: list[float] = []
    for tick in reversed(NARROW_TICKS if highest - lowest < 20 else ACCURACY_TICKS):
        if lowest <= tick <= highest and (
            not ticks or height(ticks[-1]) - height(tick) >= apart
        ):
            ticks.append(tick)
    ax.yaxis.set_major_locator(FixedLocator(ticks))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def paper_point(ax: Axes, density: float, accuracy: float, label: str) -> Axes:
    """Mark a paper's number: density (or sparsity, whatever x is) and accuracy are
    fractions."""
    ax.plot(
        100 * density,
        100 * accuracy,
        "*",
        color=PAPER_COLOUR,
        markersize=15,
        zorder=5,
        label=label,
    )
    legend_below(ax)
    return ax


def mean_mark(ax: Axes, mean: float, y: float, said: str, colour: str, **text: object) -> None:
    """A bar at the mean of a row of dots, with its number above it; `text` as of a label."""
    ax.plot(mean, y, "|", color=colour, markersize=18, markeredgewidth=3)
    ax.annotate(
        said,
        (mean, y),
        xytext=(0, 11),
        textcoords="offset points",
        ha="center",
        color=colour,
        **text,
    )
