"""The figures of the chapter. They draw what they are given on `ax`."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

from pruning.chapters.robustness.tables import frame, kind
from pruning.evidence.records import Record
from pruning.figures import style
from pruning.methods import find
from pruning.methods.relative import RELATIVE

LOOKS = {name: (find(name).colour, find(name).marker) for name in ("gates", "magnitude")}
LOOKS |= {
    "dense": ("#222222", "D"),
    "relative": (RELATIVE.colour, "s"),
    "stochgrad": ("#aa4499", "v"),
}
NARROW, EARLY = ("#777777", "d"), ("#b8860b", "P")  # the other dense networks
MARK = 14  # pixels of a mark that a name may not cover
# where a name may stand, in points from its mark, the best first
PLACES = [(0, 10), (0, -10), (10, 0), (-10, 0), (8, 8), (-8, 8), (8, -8), (-8, -8)]
PLACES += [(0, 26), (0, -26), (20, 20), (-20, 20), (0, 42), (0, -42)]
LABELS = {"noise": "deviation of the noise", "shift": "shift (pixels)", "rotate": "turn (°)"}


def look(name: str, method: str) -> tuple[str, str]:
    """Colour and marker of a kind of network."""
    if "stopped" in name:
        return EARLY
    return NARROW if name.startswith("dense, ") else LOOKS[method]


def by_accuracy(evidence: list[Record], ax: Axes) -> Axes:
    """The ε at which PGD leaves half of the images right, against clean accuracy: a small mark
    a network, a large one a mean; a line joins the dense networks of all widths."""
    rows = frame(evidence)
    means = rows.groupby("kind", sort=False)[["clean", "radius", "kept"]].mean()
    methods = rows.groupby("kind", sort=False).method.first()
    other = means.index.str.contains("stopped|epochs")
    narrow = means[(methods == "dense") & ~other].sort_values("kept")
    ax.plot(narrow.clean, narrow.radius, color=NARROW[0], linewidth=1.5, zorder=1)
    for name, part in rows.groupby("kind", sort=False):
        colour, marker = look(name, methods[name])
        ax.plot(part.clean, part.radius, marker, color=colour, markersize=5, alpha=0.5)
        mean = means.loc[name]
        ax.plot(mean.clean, mean.radius, marker, color=colour, markersize=11)
    ax.margins(0.16, 0.22)  # room for the names
    return ax


def _short(name: str) -> str:
    """The name of a kind on several lines; the line through the narrow networks says that
    they are dense."""
    if name.endswith(("weights", "epochs")):
        name = name.removeprefix("dense, ").replace(" weights", ", weights")
    return name.replace(", ", "\n")


def annotate(ax: Axes, evidence: list[Record]) -> None:
    """Write the names of kinds beside their means: dense ones below and the others above,
    or where else they cover no other name and no mark."""
    rows = frame(evidence)
    ax.figure.draw_without_rendering()  # so that texts know where they stand
    means = rows.groupby("kind")[["clean", "radius"]].mean()
    taken = [
        Bbox.from_bounds(x - MARK / 2, y - MARK / 2, MARK, MARK)
        for x, y in ax.transData.transform(means.to_numpy())
    ]
    for name, part in rows.groupby("kind"):
        method = part.method.iloc[0]
        text = ax.annotate(
            _short(name),
            means.loc[name],
            (0, 0),
            textcoords="offset points",
            color=look(name, method)[0],
            fontsize=10,
            linespacing=1,
        )
        for x, y in PLACES if method != "dense" else [(x, -y) for x, y in PLACES]:
            text.xyann = x, y
            text.set_horizontalalignment("left" if x > 0 else "right" if x < 0 else "center")
            text.set_verticalalignment("bottom" if y > 0 else "top" if y < 0 else "center")
            box = text.get_window_extent()
            if not any(box.overlaps(other) for other in taken):
                break
        taken.append(box)


def curves(evidence: list[Record], kinds: list[str], ax: Axes) -> Axes:
    """Accuracy against ε: PGD as a full line, random noise of the same size dotted; mean over
    seeds, and for PGD a band from the worst to the best."""
    for name in kinds:
        part = [record for record in evidence if kind(record) == name]
        colour, marker = look(name, part[0]["method"])
        epsilons = [0.0, *part[0]["epsilons"]]
        pgd, random = (
            np.array([[r["attacked_accuracy"], *curve(r)] for r in part])
            for curve in (lambda r: r["pgd"][-1], lambda r: r["random"])
        )
        ax.fill_between(
            epsilons, 100 * pgd.min(0), 100 * pgd.max(0), color=colour, alpha=0.2, linewidth=0
        )
        ax.plot(
            epsilons,
            100 * pgd.mean(0),
            color=colour,
            marker=marker,
            markersize=5,
            label=name,
        )
        ax.plot(epsilons, 100 * random.mean(0), ":", color=colour, linewidth=1)
    ax.set_xlabel("ε, the largest change of a pixel")
    ax.set_ylabel("accuracy (%)")
    ax.set_xscale("symlog", linthresh=0.01)
    ax.set_xlim(0, 0.31)
    ax.set_xticks([0, 0.01, 0.03, 0.1, 0.3], ["0", "0.01", "0.03", "0.1", "0.3"])
    ax.set_ylim(-2, 101)
    style.legend_below(ax)
    return ax


def shifts(evidence: list[Record], kinds: list[str], axes: np.ndarray) -> None:
    """A panel a corruption: accuracy against its level, mean and range over seeds."""
    for ax, (name, label) in zip(axes, LABELS.items(), strict=True):
        for each in kinds:
            part = [record for record in evidence if kind(record) == each]
            colour, marker = look(each, part[0]["method"])
            values = 100 * np.array(
                [[r["test_accuracy"], *r["corrupted"][name]] for r in part]
            )
            at = [0, *part[0]["levels"][name]]
            ax.fill_between(
                at, values.min(0), values.max(0), color=colour, alpha=0.2, linewidth=0
            )
            ax.plot(at, values.mean(0), color=colour, marker=marker, ms=5, label=each)
        ax.set_xlabel(label)
        ax.set_ylabel("accuracy (%)")
        ax.set_ylim(0, 101)
    style.legend_below(axes[0])
