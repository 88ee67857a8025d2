"""Captions of one form for all chapters, and what stands where nothing is measured yet."""

from collections.abc import Iterable, Mapping

import matplotlib.pyplot as plt
import pandas
from IPython.display import Markdown, display
from matplotlib.figure import Figure

from pruning.evidence import records
from pruning.evidence.records import Record
from pruning.figures import style

LINES = "line: mean, band: worst to best seed"
PENDING = pandas.DataFrame({"": ["not measured yet"]}, index=[""])  # in place of a table
SCALES = {  # profile → what a caption calls it
    "paper": "Paper scale",
    "recorded": "Recorded runs",  # of an experiment that no paper has
    "search": "Paper scale, validation data",
    "short": "Smaller than the paper's",
    "quick": "Quick run",
}
DATA = {
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
    "cifar10": "CIFAR-10",
    "cifar10-jpeg": "a JPEG copy of CIFAR-10",
    "income": "Income",
    "digits": "8 × 8 digits",
    "breast_cancer": "breast cancer",
}


def numbered(number: int, see: str, drawn: str) -> str:
    """The Markdown for under a figure: its number, what to see in it, and how it was drawn."""
    return f"**Figure {number}.** {see} {drawn}"


def origin(profile: str, *parts: str) -> str:
    """The small print of a caption, of one form in every chapter: the scale of the runs, then
    data, seeds and what is drawn. Parts that are empty are left out."""
    return f"*{' · '.join([SCALES[profile], *filter(None, parts)])}*"


def data_of(evidence: Iterable[Record]) -> str:
    """The names of the data sets of records, as a page writes them."""
    return ", ".join(sorted({DATA[record["dataset"]] for record in evidence}))


def show(fig: Figure, number: int, see: str, small_print: str) -> None:
    """Display a figure with its caption, which names the panels that are not measured yet.
    In place of a figure without any panel stands a sentence with the command."""
    absent = style.absent(fig)
    if not fig.axes:
        plt.close(fig)
        said = f"**Figure {number}** is not measured yet. `{absent[0][1]}` measures it."
        display(Markdown(said))
        return
    plt.show()
    said = numbered(number, see, small_print)
    if absent:
        named = "; ".join(name for name, _ in absent)
        said += f". Not measured yet: {named}. `{absent[0][1]}` measures them."
    display(Markdown(said))


def seed_count(seeds: pandas.Series) -> str:
    """How many seeds groups have: "3 seeds", or "1 to 3 seeds" where they differ."""
    low, high = seeds.min(), seeds.max()
    return f"{low}{f' to {high}' if high > low else ''} seed{'s' if high > 1 else ''}"


def in_how_many(count: int, total: int) -> str:
    """The first word of an answer that holds in `count` of `total` cases."""
    return "No." if not count else "Yes." if count == total else "In part."


FOLD = "\n\n"  # within a paragraph of an answer: a reader opens what follows


def answered(said: Mapping[str, str], command: str) -> list[str]:
    """The paragraphs of an answer: each question with what is said of it. The questions of
    which nothing is said yet follow together, with the command that measures them."""
    paragraphs = [f"**{question}** {text}" for question, text in said.items() if text]
    left = [question for question, text in said.items() if not text]
    if left:
        these = "This question is" if len(left) == 1 else "These questions are"
        paragraphs.append(
            f"{these} not measured yet: *{' '.join(left)}* The command `{command}` runs what"
            " is missing."
        )
    return paragraphs


def caption(evidence: Iterable[Record], profile: str, drawn: str = LINES) -> str:
    """One line of Markdown for under a figure: profile, data, seeds, training, what is drawn.
    Points differ in data, method, density and, in an ablation, move."""
    evidence = list(evidence)
    frame = records.table(evidence)
    if frame.empty:
        return origin(profile, "nothing on record yet")
    points = [c for c in ("dataset", "method", "density", "move") if c in frame]
    seeds = frame.groupby(points).seed.nunique()
    training = {f"{e} + {f}" for e, f in zip(frame.epochs, frame.finetune_epochs, strict=True)}
    runs = (
        f"{len(frame)} run{'s' * (len(frame) > 1)} of {' or '.join(sorted(training))} epochs"
    )
    each = f"{seed_count(seeds)} per point" if len(frame) > 1 else f"seed {frame.seed[0]}"
    return origin(profile, data_of(evidence), each, runs, drawn)
