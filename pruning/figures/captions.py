"""Captions that several chapters share."""

from collections.abc import Iterable

from pruning.evidence import records
from pruning.evidence.records import Record

LINES = "line: mean, band: worst to best seed"


def numbered(number: int, see: str, drawn: str) -> str:
    """The Markdown for under a figure: its number, what to see in it, and how it was drawn."""
    return f"**Figure {number}.** {see} {drawn}"


def caption(evidence: Iterable[Record], profile: str, drawn: str = LINES) -> str:
    """One line of Markdown for under a figure: profile, data, seeds, training, what is drawn.
    Points differ in data, method, density and, in an ablation, move."""
    frame = records.table(evidence)
    if frame.empty:
        return f"*{profile} profile: nothing on record yet.*"
    points = [c for c in ("dataset", "method", "density", "move") if c in frame]
    seeds = frame.groupby(points).seed.nunique()
    count = (
        f"{seeds.min()}" if seeds.min() == seeds.max() else f"{seeds.min()} to {seeds.max()}"
    )
    training = {f"{e} + {f}" for e, f in zip(frame.epochs, frame.finetune_epochs, strict=True)}
    plural = "" if count == "1" else "s"
    runs = (
        f"{len(frame)} run{'s' * (len(frame) > 1)} of {' or '.join(sorted(training))} epochs"
    )
    data = ", ".join(sorted(frame.dataset.unique()))
    return (
        f"*{profile} profile · data: {data} · {count} seed{plural} a point · {runs} · {drawn}*"
    )
