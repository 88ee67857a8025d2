"""The chapter's sentence in README.md."""

from pruning import chapters
from pruning.chapters.smallest import tables
from pruning.evidence import records
from pruning.evidence.statistics import joined, percent


def sentence() -> str:
    """The smallest networks of MNIST, one number of weights after the other."""
    listed = tables.listed(chapters.evidence("smallest"))
    parts = [
        f"{most} weights {percent(group.test_accuracy)} ({group.seed.nunique()} seeds)"
        for most, group in sorted(records.table(listed).groupby("at_most"), reverse=True)
    ]
    link = "[hundred weights](notebooks/smallest.ipynb)"
    return f"Beyond the papers, MNIST with a few {link}: {joined(parts)}."
