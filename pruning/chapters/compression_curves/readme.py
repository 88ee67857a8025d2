"""The chapter's figure in README.md."""

from matplotlib.axes import Axes

from pruning.comparison import LENET_WEIGHTS, PAPER_WEIGHTS
from pruning.evidence import records
from pruning.figures import compression, style


def figure(ax: Axes) -> Axes:
    """The MNIST curve, for the first screen."""
    evidence = records.read(records.records_folder() / "compression_curves.jsonl")
    compression.curves(records.select(evidence, study="curves", dataset="mnist"), ax)
    density = PAPER_WEIGHTS / LENET_WEIGHTS
    said = f"paper: {PAPER_WEIGHTS} weights, above 94 %"
    style.paper_point(ax, density, 0.94, said)
    ax.set_title("MNIST, LeNet-300-100: what is left after pruning")
    return ax
