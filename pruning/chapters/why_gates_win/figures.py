"""The figure of the chapter. Draws what it is given on `ax`."""

from textwrap import fill

from matplotlib.axes import Axes

from pruning.chapters.why_gates_win.tables import KEPT
from pruning.evidence import records
from pruning.evidence.records import Record


def arms(evidence: list[Record], ax: Axes, reference: float | None = None) -> Axes:
    """Test accuracy of every arm, one row each: a pale dot a run, a bar at the mean over
    networks.

    `reference`, a fraction, is the accuracy of the networks themselves: a line.
    """
    frame = records.table(evidence)
    rows = [arm for arm in KEPT if arm in set(frame.arm)]
    for y, arm in enumerate(rows):
        part = frame[frame.arm == arm]
        colour = "C0" if arm in ("found", "signs", "first", "mask") else "C1"
        accuracy = 100 * part.test_accuracy
        ax.plot(accuracy, [y] * len(part), "o", color=colour, alpha=0.35, markersize=6)
        mean = 100 * part.groupby("network").test_accuracy.mean().mean()
        ax.plot(mean, y, "|", color=colour, markersize=18, markeredgewidth=3)
        ax.annotate(
            f"{mean:.1f}",
            (mean, y),
            xytext=(0, 11),
            textcoords="offset points",
            ha="center",
            color=colour,
            fontsize=11,
        )
    if reference is not None:
        ax.axvline(100 * reference, color="0.3", linewidth=1)
    ax.set_yticks(range(len(rows)), [fill(KEPT[arm], 20) for arm in rows])
    ax.set_ylim(len(rows) - 0.5, -0.7)
    ax.set_xlabel("test accuracy (%)")
    return ax


def caption(evidence: list[Record], profile: str) -> str:
    """One line of Markdown for under the figure."""
    frame = records.table(evidence)
    if frame.empty:
        return f"*{profile} profile: nothing on record yet.*"
    data = ", ".join(sorted(frame.dataset.unique()))
    weights = ", ".join(str(count) for count in sorted(frame.weights.unique()))
    networks, times = frame.network.nunique(), frame.seed.nunique()
    return (
        f"*{profile} profile · data: {data} · {weights} weights · {networks} gated networks, "
        f"each part trained again {times} times for {frame.epochs.max()} epochs · "
        "dot: a run, bar: mean over networks, line: the networks themselves*"
    )
