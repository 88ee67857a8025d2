"""Captions that several chapters share, and what stands where nothing is measured yet."""

from collections.abc import Iterable

import pandas

from pruning.evidence import records
from pruning.evidence.records import Record

LINES = "line: mean, band: worst to best seed"
PENDING = pandas.DataFrame({"": ["not measured yet"]}, index=[""])  # in place of a table


def numbered(number: int, see: str, drawn: str) -> str:
    """The Markdown for under a figure: its number, what to see in it, and how it was drawn."""
    return f"**Figure {number}.** {see} {drawn}"


def seed_count(seeds: pandas.Series) -> str:
    """How many seeds groups have: "3 seeds", or "1 to 3 seeds" where they differ."""
    low, high = seeds.min(), seeds.max()
    return f"{low}{f' to {high}' if high > low else ''} seed{'s' if high > 1 else ''}"


def pending(question: str, command: str) -> str:
    """The answer to a question whose runs are not on record: the command that makes them."""
    return f"**{question}** Not measured yet; *{command}* fills it."


def caption(evidence: Iterable[Record], profile: str, drawn: str = LINES) -> str:
    """One line of Markdown for under a figure: profile, data, seeds, training, what is drawn.
    Points differ in data, method, density and, in an ablation, move."""
    frame = records.table(evidence)
    if frame.empty:
        return f"*{profile} profile: nothing on record yet.*"
    points = [c for c in ("dataset", "method", "density", "move") if c in frame]
    seeds = frame.groupby(points).seed.nunique()
    training = {f"{e} + {f}" for e, f in zip(frame.epochs, frame.finetune_epochs, strict=True)}
    runs = (
        f"{len(frame)} run{'s' * (len(frame) > 1)} of {' or '.join(sorted(training))} epochs"
    )
    data = ", ".join(sorted(frame.dataset.unique()))
    return (
        f"*{profile} profile · data: {data} · {seed_count(seeds)} a point · {runs} · {drawn}*"
    )
