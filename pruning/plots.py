"""One style and one colour a method for the whole book. Functions draw what they are given on `ax`."""

from collections.abc import Iterable

import matplotlib.pyplot as plt
import numpy as np
import pandas
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from pruning.evidence import records
from pruning.evidence.records import Record

_WONG = sns.color_palette("colorblind")  # Wong 2011: told apart with every common colour blindness
METHOD_STYLE = {  # method → (colour, marker, label), the same in every chapter
    "gates": (_WONG[0], "o", "learnable gates"),
    "gates, mask only": (_WONG[9], "s", "learnable gates, no fine-tuning"),
    "random": (_WONG[1], "^", "random deletion, fixed structure"),
    "dense": (_WONG[2], "D", "fully connected net of that size"),
    "set": (_WONG[4], "v", "SET, rewired every epoch"),
    "deepr": (_WONG[5], "P", "DeepR, rewired every step"),
    "magnitude": (_WONG[6], "X", "magnitude, one shot, fine-tuned"),
    "wanda": (_WONG[7], "<", "Wanda, one shot, fine-tuned"),
    "snip": (_WONG[8], ">", "SNIP, before training"),
    # Tol's muted palette, for what has no colour of Wong's left
    "relative": ("#332288", "o", "relative importance"),
    "magnitude live": ("#cc6677", "x", "magnitude, dead pixels known"),
    "nnrelief": ("#44aa99", "d", "NNrelief"),
    "stade": ("#882255", "p", "STADE"),
    "stade corrected": ("#aa4499", "h", "STADE, bias corrected"),
    "ria": ("#999933", "*", "RIA"),
    # optimizers, from Tol's vibrant palette
    "adam": ("#555555", "s", "Adam"),
    "stochgradadam": ("#ee7733", "o", "StochGradAdam"),
    "stochgradadam, author's β₁": ("#009988", "^", "StochGradAdam, author's β₁"),
    "adamw": ("#33bbee", "D", "AdamW"),
    "sgd": ("#ee3377", "v", "SGD with momentum"),
}
PAPER_COLOUR = _WONG[3]  # what a paper prints
ACCURACY_TICKS = (10, 50, 70, 80, 90, 95, 97, 98, 99, 99.5)
NARROW_TICKS = tuple(range(60, 100))  # where the range is a few points only


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


LINES = "line: mean, band: worst to best seed"


def caption(found: Iterable[Record], profile: str, drawn: str = LINES) -> str:
    """One line of Markdown for under a figure: profile, data, seeds, training, what is drawn. Points differ
    in data, method, density and, in an ablation, move."""
    frame = records.table(found)
    if frame.empty:
        return f"*{profile} profile: nothing on record yet.*"
    points = [c for c in ("dataset", "method", "density", "move") if c in frame]
    seeds = frame.groupby(points).seed.nunique()
    count = f"{seeds.min()}" if seeds.min() == seeds.max() else f"{seeds.min()} to {seeds.max()}"
    training = {f"{e} + {f}" for e, f in zip(frame.epochs, frame.finetune_epochs, strict=True)}
    plural = "" if count == "1" else "s"
    runs = f"{len(frame)} run{'s' * (len(frame) > 1)} of {' or '.join(sorted(training))} epochs"
    data = ", ".join(sorted(frame.dataset.unique()))
    return f"*{profile} profile · data: {data} · {count} seed{plural} a point · {runs} · {drawn}*"


def legend_below(ax: Axes) -> None:
    """Under the axes, where it covers no curve at any width; the layout makes room for it."""
    for legend in list(ax.figure.legends):
        legend.remove()
    named = {}  # over all axes: a panel may lack a line that another has
    for panel in ax.figure.axes:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
    columns = 2 if len(named) > 6 else 1
    ax.figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=columns, columnspacing=1)


def _error_scale(ax: Axes, lowest: float, highest: float) -> None:
    """Accuracy in per cent on an axis whose steps are equal factors of the error."""

    def height(accuracy):
        return -np.log10(np.maximum(100.5 - accuracy, 1e-3))

    ax.set_yscale("function", functions=(height, lambda y: 100.5 - 10.0**-y))
    apart = 0.05 * (height(highest) - height(lowest))  # closer ticks would overlap
    ticks: list[float] = []
    for tick in reversed(NARROW_TICKS if highest - lowest < 20 else ACCURACY_TICKS):
        if lowest <= tick <= highest and (not ticks or height(ticks[-1]) - height(tick) >= apart):
            ticks.append(tick)
    ax.yaxis.set_major_locator(FixedLocator(ticks))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def compression_curves(
    found: Iterable[Record], ax: Axes, *, accuracy_range: tuple[float, float] = (10, 99.2)
) -> Axes:
    """Test accuracy against the density achieved: mean over seeds, band from worst to best, dots.

    The upper axis counts weights (without biases). Gates appear with and without fine-tuning.
    """
    frame = records.table(found)
    weights = int(frame.dense_weights.iloc[0])
    frame["density_achieved"] = 100 * frame.kept / weights
    gated = frame[(frame.method == "gates") & frame.test_accuracy_before_finetune.notna()]
    bare = gated.assign(
        method=lambda f: f.method + ", mask only", test_accuracy=lambda f: f.test_accuracy_before_finetune
    )
    frame = pandas.concat([frame, bare])
    for method, (colour, marker, label) in METHOD_STYLE.items():
        part = frame[frame.method == method]
        if part.empty:
            continue
        seeds = part.groupby("density").agg(
            x=("density_achieved", "mean"), mean=("test_accuracy", "mean"),
            low=("test_accuracy", "min"), high=("test_accuracy", "max"),
        ).sort_values("x")  # fmt: skip
        bare_style = {"linestyle": "--", "linewidth": 1.2} if method.endswith("mask only") else {}
        ax.plot(seeds.x, 100 * seeds["mean"], color=colour, label=label, **bare_style)
        ax.fill_between(seeds.x, 100 * seeds.low, 100 * seeds.high, color=colour, alpha=0.2, linewidth=0)
        if not bare_style:
            ax.plot(part.density_achieved, 100 * part.test_accuracy, marker, color=colour, markersize=4)
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    _error_scale(ax, *accuracy_range)
    ax.set_ylim(*accuracy_range)
    ax.set_xlabel("density: weights kept (%)")
    ax.set_ylabel("test accuracy (%), error on a log scale")
    upper = ax.secondary_xaxis("top", functions=(lambda x: x * weights / 100, lambda n: n * 100 / weights))
    upper.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    upper.xaxis.set_minor_formatter(NullFormatter())
    upper.set_xlabel("weights kept")
    legend_below(ax)
    return ax


def paper_point(ax: Axes, density: float, accuracy: float, label: str) -> Axes:
    """Mark a paper's number: density (or sparsity, whatever x is) and accuracy are fractions."""
    ax.plot(100 * density, 100 * accuracy, "*", color=PAPER_COLOUR, markersize=15, zorder=5, label=label)
    legend_below(ax)
    return ax


def density_by_layer(found: Iterable[Record], ax: Axes) -> Axes:
    """Kept weights of each layer against the density achieved, one line a layer, mean and range."""
    frame = records.table(found)
    weights = int(frame.dense_weights.iloc[0])
    frame["density_achieved"] = 100 * frame.kept / weights
    layers = pandas.DataFrame(frame.kept_by_layer.tolist(), index=frame.index)
    names = ["input → hidden 1", *(f"hidden {i} → hidden {i + 1}" for i in range(1, layers.shape[1] - 1))]
    names.append(f"hidden {layers.shape[1] - 1} → output")
    for i, name in enumerate(names):
        share = (100 * layers[i] / frame.kept).groupby(frame.density)
        x = frame.density_achieved.groupby(frame.density).mean()
        colour = sns.color_palette("viridis", len(names))[i]
        ax.plot(x, share.mean(), marker="o", markersize=4, color=colour, label=name)
        ax.fill_between(x, share.min(), share.max(), color=colour, alpha=0.2, linewidth=0)
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_ylim(0, 100)
    ax.set_xlabel("density: weights kept (%)")
    ax.set_ylabel("share of the kept weights (%)")
    legend_below(ax)
    return ax


def sparsity_curves(found: Iterable[Record], ax: Axes, *, accuracy_range: tuple[float, float]) -> Axes:
    """Test accuracy against the fraction removed, one line a method: mean over seeds, band from worst to
    best, error on a log scale. The dashed line is the mean of the unpruned networks."""
    frame = records.table(found)
    for method, (colour, marker, label) in METHOD_STYLE.items():
        part = 100 * frame[frame.method == method].groupby("sparsity").test_accuracy.agg(
            ["mean", "min", "max"]
        )
        if part.empty:
            continue
        short = label if method in ("stade corrected", "magnitude live") else label.split(",")[0]
        x = 100 * part.index
        line = {"linewidth": 2.6, "zorder": 4} if method == "relative" else {"linewidth": 1.3}
        ax.plot(x, part["mean"], marker=marker, markersize=6, color=colour, label=short, **line)
        ax.fill_between(x, part["min"], part["max"], color=colour, alpha=0.12, linewidth=0)
    unpruned = 100 * frame[frame.method == "unpruned"].test_accuracy.mean()
    ax.axhline(unpruned, color="0.3", linestyle="--", linewidth=1, label="unpruned")
    _error_scale(ax, *accuracy_range)
    ax.set_ylim(*accuracy_range)
    ax.set_xticks([100 * s for s in sorted(frame.sparsity.unique()) if s])
    ax.set_xlabel("sparsity: weights removed (%)")
    ax.set_ylabel("test accuracy (%)")
    legend_below(ax)
    return ax


def penalty_curves(found: Iterable[Record], ax: Axes) -> Axes:
    """Test accuracy against λ, the factor of the activity penalty, one line a method: mean over seeds, band
    from worst to best, dashed: unpruned. Methods that are not on record at every λ are left out."""
    frame = records.table(found)
    factors = sorted(frame[frame.method == "relative"].activity.unique())
    place = {factor: i for i, factor in enumerate(factors)}
    for method in ("unpruned", *METHOD_STYLE):
        part = frame[(frame.method == method) & frame.activity.isin(factors)]
        if part.activity.nunique() < len(factors):
            continue
        part = 100 * part.groupby("activity").test_accuracy.agg(["mean", "min", "max"])
        x = [place[factor] for factor in part.index]
        if method == "unpruned":
            ax.plot(x, part["mean"], color="0.3", linestyle="--", linewidth=1.2, label="unpruned")
            continue
        colour, marker, label = METHOD_STYLE[method]
        ax.plot(x, part["mean"], marker=marker, color=colour, label=label.split(",")[0])
        ax.fill_between(x, part["min"], part["max"], color=colour, alpha=0.12, linewidth=0)
    ax.set_xticks(range(len(factors)), [f"{factor:g}" for factor in factors])
    ax.set_xlabel("λ, factor of the activity penalty")
    ax.set_ylabel("test accuracy (%)")
    legend_below(ax)
    return ax


def contribution_histogram(histogram: Record, ax: Axes) -> Axes:
    """One weight's contributions over the samples (as `relative_importance` records them) beside the normal
    distribution of the same mean and deviation. Densities on a log scale."""
    edges, counts = np.array(histogram["edges"]), np.array(histogram["counts"])
    width = edges[1] - edges[0]
    ax.stairs(counts / counts.sum() / width, edges, fill=True, color=METHOD_STYLE["relative"][0], alpha=0.5,
              label="contributions")  # fmt: skip
    mean, std = histogram["mean"], histogram["std"]
    x = np.linspace(edges[0] - 3 * width, edges[-1] + 3 * width, 300)
    ax.plot(x, np.exp(-0.5 * ((x - mean) / std) ** 2) / std / np.sqrt(2 * np.pi), color="black",
            label="fitted normal")  # fmt: skip
    ax.set_yscale("log")
    ax.set_ylim(bottom=0.3 / counts.sum() / width)
    ax.set_xlabel("contribution")
    ax.set_ylabel("density")
    legend_below(ax)
    return ax
