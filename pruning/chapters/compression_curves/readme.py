"""What the README and the home page say of this chapter."""

import pandas
from matplotlib.axes import Axes

from pruning import chapters
from pruning.comparison import LENET_WEIGHTS, PAPER_WEIGHTS
from pruning.evidence import records
from pruning.figures import compression, style

HEADLINE = ("G1", "Learnable gates")


def figure(ax: Axes) -> Axes:
    """The MNIST curve, for the first screen."""
    evidence = chapters.evidence("compression_curves")
    compression.curves(records.select(evidence, study="curves", dataset="mnist"), ax)
    density = PAPER_WEIGHTS / LENET_WEIGHTS
    said = f"paper: {PAPER_WEIGHTS} weights, above 94 %"
    style.paper_point(ax, density, 0.94, said)
    ax.set_title("MNIST, LeNet-300-100: what is left after pruning")
    return ax


def headline(claim: dict, found: pandas.DataFrame) -> str:
    """The paper's few hundred weights."""
    return (
        f"A network with {claim['weights']} of its 266,200 weights classifies"
        f" **{100 * found.test_accuracy.mean():.2f} %** of MNIST's test images correctly (mean"
        f" of {found.seed.nunique()} seeds). The paper reports more"
        f" than {100 * claim['value']:.0f} %."
    )
