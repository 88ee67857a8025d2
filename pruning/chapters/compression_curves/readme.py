"""The chapter's figure in README.md."""

from matplotlib.axes import Axes

from pruning.evidence import records
from pruning.figures import compression, style


def figure(ax: Axes) -> Axes:
    """The MNIST curve, for the first screen."""
    evidence = records.read(records.records_folder() / "compression_curves.jsonl")
    compression.curves(records.select(evidence, study="curves", dataset="mnist"), ax)
    style.paper_point(ax, 404 / 266_200, 0.94, "paper: 404 weights, above 94 %")
    ax.set_title("MNIST, LeNet-300-100: what is left after pruning")
    return ax
