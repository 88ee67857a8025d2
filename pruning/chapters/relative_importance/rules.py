"""Rules for the claims of arXiv:2410.16151: relative importance.

Pruned networks of one seed come from one trained network, so comparisons are paired by seed.
Where a claim speaks of many cells, p-values are corrected for their number (Holm).
"""

from typing import Any

import pandas

from pruning.evidence.claims import chosen
from pruning.evidence.statistics import (
    LEVEL,
    MIN_SEEDS,
    NOT_MEASURED,
    NOT_REPRODUCED,
    PARTLY,
    REPRODUCED,
    above,
    estimate,
    holm,
    percent,
)


def _cells(
    evidence: pandas.DataFrame, cells: list[str], by: list[str] | None = None
) -> pandas.DataFrame:
    """Accuracy, one row a seed, one column a cell (and combination of `by`)."""
    return evidence.pivot_table(
        index="seed", columns=[*cells, *(by or [])], values="test_accuracy"
    )


def _where(cells: list[str], cell: Any) -> str:
    values = cell if isinstance(cell, tuple) else (cell,)
    return ", ".join(f"{name} {value}" for name, value in zip(cells, values, strict=True))


def _group(groups: Any, cell: Any) -> pandas.Series:
    """The values of one cell. pandas names groups by tuples, but a single column's index by
    its values."""
    return groups.get_group(cell if isinstance(cell, tuple) else (cell,))


def reaches(claim: dict, evidence: pandas.DataFrame) -> tuple[str, int, str]:
    """Null: the mean over seeds is not above `value` (t-test at 5 %), for the combination of
    `cells` that was `chosen` on the validation split, and for the best one of the reading that
    names the method (`named`). Rejected for both: reproduced; for the chosen one alone:
    partly. How many of all combinations have a mean that reaches the value stands beside
    it."""
    if evidence.empty:
        return NOT_MEASURED, 0, ""
    groups = evidence.groupby(claim["cells"]).test_accuracy
    seeds, mean, kept = int(groups.count().min()), groups.mean(), int(evidence.kept.max())
    picked = chosen(evidence, claim["chosen"]).test_accuracy
    named = chosen(evidence, claim["named"]).groupby(claim["cells"]).test_accuracy
    normalised = _group(named, named.mean().idxmax())
    said = (
        f"{percent(picked)} with {kept:,} weights or fewer under the reading chosen on the"
        f" validation split; reached under {(mean >= claim['value']).sum()} of {len(mean)}"
        " combinations of reading, threshold and training; the normalised contribution, which"
        f" names the method, has at most {percent(normalised)}"
    )
    if seeds < MIN_SEEDS:
        return NOT_MEASURED, seeds, said
    ours, theirs = (above(values, claim["value"]) < LEVEL for values in (picked, normalised))
    return (
        REPRODUCED if ours and theirs else PARTLY if ours or theirs else NOT_REPRODUCED,
        seeds,
        said,
    )


def best_in_cells(claim: dict, evidence: pandas.DataFrame) -> tuple[str, int, str]:
    """Null, in every cell: the rows that `ours` selects are not more accurate than the best of
    `others` under its best threshold (paired t-tests, Holm). Rejected in every cell:
    reproduced; in some: partly.
    """
    cells = claim["cells"]
    ours = _cells(chosen(evidence, claim["ours"]), cells)
    theirs = _cells(
        evidence[evidence.method.isin(claim["others"])], cells, ["method", "scope"]
    )
    if ours.empty or theirs.empty:
        return NOT_MEASURED, 0, ""
    seeds = int(min(ours.count().min(), theirs.count().min()))
    leads = [ours[cell] - theirs[cell][theirs[cell].mean().idxmax()] for cell in ours]
    ahead, behind = (holm(above(sign * lead) for lead in leads) < LEVEL for sign in (1, -1))
    said = (
        f"clearly ahead of the best competitor in {ahead.sum()} of {len(leads)} cells"
        f" ({', '.join(cells)}), clearly behind in {behind.sum()}"
    )
    if seeds < MIN_SEEDS:
        return NOT_MEASURED, seeds, said
    return (
        REPRODUCED if ahead.all() else PARTLY if ahead.any() else NOT_REPRODUCED,
        seeds,
        said,
    )


def improves(claim: dict, evidence: pandas.DataFrame) -> tuple[str, int, str]:
    """Null, in every cell: the rows that `ours` selects are not more accurate than those that
    `base` selects (paired t-tests, Holm). Rejected in every cell: reproduced; in some: partly.
    What pruning costs either network, against itself unpruned, stands beside it."""
    selected = [chosen(evidence, claim[key]) for key in ("ours", "base")]
    ours, base = (_cells(part, claim["cells"]) for part in selected)
    if ours.empty or base.empty:
        return NOT_MEASURED, 0, ""
    gain = (ours - base).dropna(axis=1, how="all")
    seeds, mean = int(gain.count().min()), gain.mean()
    clear, worse = (
        holm(above(sign * gain[cell]) for cell in gain) < LEVEL for sign in (1, -1)
    )
    least, most = (
        f"{100 * mean[cell]:+.2f} points ({_where(claim['cells'], cell)})"
        for cell in (mean.idxmin(), mean.idxmax())
    )
    drops = [100 * (part.unpruned_accuracy - part.test_accuracy).mean() for part in selected]
    said = (
        f"clearly higher in {clear.sum()} of {len(mean)} cells, clearly lower in"
        f" {worse.sum()}: from {least} to {most}; pruning costs {drops[0]:.2f} points on"
        f" average with the penalty, {drops[1]:.2f} without"
    )
    if seeds < MIN_SEEDS:
        return NOT_MEASURED, seeds, said
    return (
        REPRODUCED if clear.all() else PARTLY if clear.any() else NOT_REPRODUCED,
        seeds,
        said,
    )


def gains(claim: dict, evidence: pandas.DataFrame) -> tuple[str, int, str]:
    """Null, in every cell: the pruned network is not more accurate than the unpruned network
    that was fine-tuned alike (paired t-tests, Holm). Rejected in a cell whose mean reaches
    `value`: reproduced; in any other: partly."""
    if evidence.empty:
        return NOT_MEASURED, 0, ""
    pruned, control = (
        evidence[evidence.method == name] for name in (claim["method"], claim["control"])
    )
    alike = [name for name in claim["cells"] if name != "sparsity"]
    both = pruned.merge(control, on=[*alike, "seed"], suffixes=("", "_control"))
    absent = pruned.groupby(claim["cells"]).ngroups - both.groupby(claim["cells"]).ngroups
    note = f"; no control on record for {absent} cells" if absent else ""
    if both.empty:
        return NOT_MEASURED, 0, f"nothing on record to compare with{note}"
    both["gain"] = 100 * (both.test_accuracy - both.test_accuracy_control)
    groups = both.groupby(claim["cells"]).gain
    mean, seeds = groups.mean(), int(groups.count().min())
    clear = pandas.Series(holm(above(gain) for _, gain in groups) < LEVEL, index=mean.index)
    best = mean.idxmax()
    said = (
        f"at most {estimate(_group(groups, best))} points above the unpruned network"
        f" fine-tuned alike ({_where(claim['cells'], best)}); clearly above it in"
        f" {clear.sum()} of {len(mean)} cells{note}"
    )
    if seeds < MIN_SEEDS or absent:
        return NOT_MEASURED, seeds, said
    reached = (clear & (mean >= 100 * claim["value"])).any()
    return REPRODUCED if reached else PARTLY if clear.any() else NOT_REPRODUCED, seeds, said
