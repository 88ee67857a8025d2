"""Rules for the claims of arXiv:2410.16151: relative importance."""

from typing import Any

import pandas

from pruning.evidence.claims import chosen
from pruning.evidence.statistics import (
    MIN_SEEDS,
    NOT_MEASURED,
    NOT_REPRODUCED,
    PARTLY,
    REPRODUCED,
    at_least,
    estimate,
)

__all__ = ["at_least", "best_in_cells", "gains", "improves"]


def _cells(found: pandas.DataFrame, cells: list[str], by: list[str] | None = None) -> pandas.DataFrame:
    """Accuracy, one row a seed, one column a cell (and combination of `by`)."""
    return found.pivot_table(index="seed", columns=[*cells, *(by or [])], values="test_accuracy")


def _where(cells: list[str], cell: Any) -> str:
    values = cell if isinstance(cell, tuple) else (cell,)
    return ", ".join(f"{name} {value}" for name, value in zip(cells, values, strict=True))


def best_in_cells(claim: dict, found: pandas.DataFrame) -> tuple[str, int, str]:
    """In every cell the rows that `ours` selects have a higher mean than each of `others`, every one of them
    under its best threshold: reproduced; in at least half of them: partly. A lead counts as clear beyond two
    standard errors of the difference, seed by seed."""
    cells = claim["cells"]
    ours = _cells(chosen(found, claim["ours"]), cells)
    theirs = _cells(found[found.method.isin(claim["others"])], cells, ["method", "scope"])
    if ours.empty or theirs.empty:
        return NOT_MEASURED, 0, ""
    seeds = int(min(ours.count().min(), theirs.count().min()))
    ahead = clear = behind = 0
    for cell in ours:
        best = theirs[cell].mean().idxmax()
        lead = (ours[cell] - theirs[cell][best]).dropna()
        noise = 2 * lead.std() / len(lead) ** 0.5
        ahead += lead.mean() > 0
        clear += lead.mean() > noise
        behind += lead.mean() < -noise
    total = len(ours.columns)
    said = (
        f"ahead of the best competitor in {ahead} of {total} cells ({', '.join(cells)}), "
        f"clearly in {clear}; clearly behind in {behind}"
    )
    if seeds < MIN_SEEDS:
        return NOT_MEASURED, seeds, said
    verdict = REPRODUCED if ahead == total else PARTLY if 2 * ahead >= total else NOT_REPRODUCED
    return verdict, seeds, said


def improves(claim: dict, found: pandas.DataFrame) -> tuple[str, int, str]:
    """In every cell the rows that `ours` selects have a higher mean than those that `base` selects:
    reproduced; in some: partly."""
    ours, base = (_cells(chosen(found, claim[key]), claim["cells"]) for key in ("ours", "base"))
    if ours.empty or base.empty:
        return NOT_MEASURED, 0, ""
    gain = (ours - base).dropna(axis=1, how="all")
    seeds, mean = int(gain.count().min()), gain.mean()
    least, most = (
        f"{100 * mean[cell]:+.2f} points ({_where(claim['cells'], cell)})"
        for cell in (mean.idxmin(), mean.idxmax())
    )
    said = f"higher in {(mean > 0).sum()} of {len(mean)} cells: from {least} to {most}"
    if seeds < MIN_SEEDS:
        return NOT_MEASURED, seeds, said
    return REPRODUCED if (mean > 0).all() else PARTLY if (mean > 0).any() else NOT_REPRODUCED, seeds, said


def gains(claim: dict, found: pandas.DataFrame) -> tuple[str, int, str]:
    """The largest mean gain over the unpruned network, over cells, reaches `value`: reproduced; some gain is
    larger than two standard errors: partly."""
    if found.empty:
        return NOT_MEASURED, 0, ""
    found = found.assign(gain=100 * (found.test_accuracy - found.unpruned_accuracy))
    grouped = found.groupby(claim["cells"]).gain
    mean, seeds = grouped.mean(), int(grouped.count().min())
    best = mean.idxmax()
    noise = 2 * grouped.sem()[best]
    of_best = grouped.agg(estimate)[best]
    said = f"at most {of_best} points above it ({_where(claim['cells'], best)})"
    if seeds < MIN_SEEDS:
        return NOT_MEASURED, seeds, said
    reached = mean[best] >= 100 * claim["value"]
    return REPRODUCED if reached else PARTLY if mean[best] > noise else NOT_REPRODUCED, seeds, said
