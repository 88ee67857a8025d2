"""Rules for the claims of arXiv:2410.16151: relative importance.

Pruned networks of one seed come from one trained network, so comparisons are paired by seed.
Where a claim speaks of many cases, p-values are corrected for their number (Holm).
"""

from collections.abc import Iterable
from typing import Any

import pandas

from pruning.chapters.relative_importance import words
from pruning.evidence.claims import chosen
from pruning.evidence.statistics import (
    LEVEL,
    MIN_SEEDS,
    NOT_MEASURED,
    NOT_REPRODUCED,
    PARTLY,
    REPRODUCED,
    above,
    both_sides,
    estimate,
    holm,
    interval,
    percent,
)


def _cells(
    evidence: pandas.DataFrame, cells: list[str], by: list[str] | None = None
) -> pandas.DataFrame:
    """Accuracy, one row a seed, one column a cell (and combination of `by`)."""
    return evidence.pivot_table(
        index="seed", columns=[*cells, *(by or [])], values="test_accuracy"
    )


def _group(groups: Any, cell: Any) -> pandas.Series:
    """The values of one cell. pandas names groups by tuples, but a single column's index by
    its values, and so does `get_group` before pandas 2.2."""
    return dict(iter(groups))[cell if isinstance(cell, tuple) else (cell,)]


def reached(claim: dict, runs: pandas.DataFrame) -> tuple[pandas.Series, pandas.Series]:
    """Accuracies of the combination of `cells` that was `chosen` on the validation split, and
    of the best one of the reading that gives the method its name (`named`)."""
    picked = chosen(runs, claim["chosen"]).test_accuracy
    named = chosen(runs, claim["named"]).groupby(claim["cells"]).test_accuracy
    return picked, _group(named, named.mean().idxmax())


def reaching(claim: dict, runs: pandas.DataFrame) -> pandas.DataFrame:
    """One row a combination of `cells` with a mean of `value` or more, the best first: its
    accuracies, whether their 95 % interval is above the value, and whether the mean is clearly
    above it among all combinations (t-tests, Holm)."""
    by_name = dict(iter(runs.groupby(claim["cells"]).test_accuracy))
    groups = list(by_name.values())
    ends = [interval(values) for values in groups]
    found = pandas.DataFrame(
        {
            "mean": [values.mean() for values in groups],
            "accuracies": groups,
            "alone": [end is not None and end[0] > claim["value"] for end in ends],
            "clear": holm(above(values, claim["value"]) for values in groups) < LEVEL,
        },
        index=pandas.Index(list(by_name), tupleize_cols=False),
    )
    return found[found["mean"] >= claim["value"]].sort_values("mean", ascending=False)


def counted(claim: dict, runs: pandas.DataFrame) -> str:
    """How many combinations reach the paper's number, and for how many that is more than
    chance, in words."""
    found, number = reaching(claim, runs), runs.groupby(claim["cells"]).ngroups
    clear = found.clear.sum()
    return (
        f"Of {number} combinations of reading, threshold and training, {len(found)} have a"
        f" mean that reaches the paper's number. For {found.alone.sum()} of these the 95 %"
        f" interval lies above it. Once the number of combinations is taken into account,"
        f" {clear or 'none'} {'are' if clear > 1 else 'is'} clearly above it"
    )


def _alone(first: bool, second: bool) -> str:
    """Which of two readings is clearly above the paper's number, where it is one of them."""
    if first == second:
        return ""
    which = "first" if first else "second"
    return f" Of these two the {which} alone is clearly above the paper's number."


def reaches(claim: dict, evidence: pandas.DataFrame) -> tuple[str, int, str]:
    """Null: the mean over seeds is not above `value` (t-test at 5 %), for the combination of
    `cells` that was `chosen` on the validation split, and for the best one of the reading that
    names the method (`named`). Rejected for both: reproduced; for one of the two: partly. How
    many of all combinations have a mean that reaches the value stands beside it, and for how
    many that is more than chance."""
    if evidence.empty:
        return NOT_MEASURED, 0, ""
    groups = evidence.groupby(claim["cells"]).test_accuracy
    seeds, kept = int(groups.count().min()), int(evidence.kept.max())
    picked, normalised = reached(claim, evidence)
    ours, theirs = (above(values, claim["value"]) < LEVEL for values in (picked, normalised))
    said = (
        "The reading chosen on the validation split reaches"
        f" {percent(picked)}{words.aware(claim['chosen'].get('activity', 0))} with {kept:,}"
        " weights or fewer. The normalised contribution, which gives the method its name, has"
        f" at most {percent(normalised)}.{_alone(ours, theirs)} {counted(claim, evidence)}."
    )
    if seeds < MIN_SEEDS:
        return NOT_MEASURED, seeds, said
    return (
        REPRODUCED if ours and theirs else PARTLY if ours or theirs else NOT_REPRODUCED,
        seeds,
        said,
    )


def leads(claim: dict, runs: pandas.DataFrame) -> pandas.DataFrame:
    """How far the rows that `ours` selects are ahead of the best of `others` under its best
    threshold, as fractions: one row a seed, one column a cell."""
    cells = claim["cells"]
    ours = _cells(chosen(runs, claim["ours"]), cells)
    theirs = _cells(runs[runs.method.isin(claim["others"])], cells, ["method", "scope"])
    best = {cell: theirs[cell][theirs[cell].mean().idxmax()] for cell in ours}
    return ours - pandas.DataFrame(best, index=ours.index, columns=ours.columns)


def clear(differences: Iterable[tuple[Any, pandas.Series]]) -> tuple[pandas.Series, ...]:
    """In which of the cells, pairs of a name and differences, the mean is clearly above 0, and
    in which clearly below (two-sided t-tests, Holm, 5 %)."""
    names, values = zip(*differences, strict=True)
    sure = holm(both_sides(above(each), above(-each)) for each in values) < LEVEL
    index = pandas.Index(names, tupleize_cols=False)
    return tuple(
        pandas.Series(sure & [sign * each.mean() > 0 for each in values], index=index)
        for sign in (1, -1)
    )


def clearly_above(differences: Iterable[tuple[Any, pandas.Series]]) -> pandas.Series:
    """In which of the cells, pairs of a name and differences, the mean is clearly above 0,
    where nobody asks whether it is below (one-sided t-tests, Holm, 5 %)."""
    names, values = zip(*differences, strict=True)
    index = pandas.Index(names, tupleize_cols=False)
    return pandas.Series(holm(above(each) for each in values) < LEVEL, index=index)


def best_in_cells(claim: dict, evidence: pandas.DataFrame) -> tuple[str, int, str]:
    """Null, in every cell: the rows that `ours` selects are not more accurate than the best of
    `others` under its best threshold (two-sided paired t-tests, Holm). Rejected in every cell:
    reproduced; in some: partly.
    """
    if (
        chosen(evidence, claim["ours"]).empty
        or not evidence.method.isin(claim["others"]).any()
    ):
        return NOT_MEASURED, 0, ""
    found = leads(claim, evidence)
    seeds, (ahead, behind) = int(found.count().min()), clear(found.items())
    said = (
        f"Relative importance is clearly ahead of the best competitor in {ahead.sum()} of"
        f" {len(ahead)} cases and clearly behind in {behind.sum()}. A case is"
        f" {words.kinds(claim['cells'])}."
    )
    if seeds < MIN_SEEDS:
        return NOT_MEASURED, seeds, said
    return (
        REPRODUCED if ahead.all() else PARTLY if ahead.any() else NOT_REPRODUCED,
        seeds,
        said,
    )


def changes(claim: dict, runs: pandas.DataFrame) -> pandas.DataFrame:
    """How much more accurate the rows that `ours` selects are than those that `base` selects,
    as fractions: one row a seed, one column a cell."""
    ours, base = (_cells(chosen(runs, claim[key]), claim["cells"]) for key in ("ours", "base"))
    return (ours - base).dropna(axis=1, how="all")


def improves(claim: dict, evidence: pandas.DataFrame) -> tuple[str, int, str]:
    """Null, in every cell: the rows that `ours` selects are not more accurate than those that
    `base` selects (two-sided paired t-tests, Holm). Rejected in every cell: reproduced; in
    some: partly.
    What pruning costs either network, against itself unpruned, stands beside it."""
    selected = [chosen(evidence, claim[key]) for key in ("ours", "base")]
    if any(part.empty for part in selected):
        return NOT_MEASURED, 0, ""
    gain = changes(claim, evidence)
    seeds, mean = int(gain.count().min()), gain.mean()
    better, worse = clear(gain.items())
    least, most = (
        f"{100 * mean[cell]:+.2f} points ({words.case(claim['cells'], cell)})"
        for cell in (mean.idxmin(), mean.idxmax())
    )
    drops = [100 * (part.unpruned_accuracy - part.test_accuracy).mean() for part in selected]
    said = (
        f"The accuracy is clearly higher in {better.sum()} of {len(mean)} cases and clearly"
        f" lower in {worse.sum()}. The change goes from {least} to {most}. Pruning costs"
        f" {drops[0]:.2f} points on average with the penalty and {drops[1]:.2f} without."
    )
    if seeds < MIN_SEEDS:
        return NOT_MEASURED, seeds, said
    return (
        REPRODUCED if better.all() else PARTLY if better.any() else NOT_REPRODUCED,
        seeds,
        said,
    )


def over_control(claim: dict, runs: pandas.DataFrame) -> tuple[Any, int]:
    """Points of accuracy of the pruned network over the unpruned one that was fine-tuned
    alike, grouped by cell; and how many cells have no such control on record."""
    pruned, control = (
        runs[runs.method == name] for name in (claim["method"], claim["control"])
    )
    alike = [name for name in claim["cells"] if name != "sparsity"]
    both = pruned.merge(control, on=[*alike, "seed"], suffixes=("", "_control"))
    absent = pruned.groupby(claim["cells"]).ngroups - both.groupby(claim["cells"]).ngroups
    both["gain"] = 100 * (both.test_accuracy - both.test_accuracy_control)
    return both.groupby(claim["cells"]).gain, absent


def gains(claim: dict, evidence: pandas.DataFrame) -> tuple[str, int, str]:
    """Null, in every cell: the pruned network is not more accurate than the unpruned network
    that was fine-tuned alike (one-sided paired t-tests, Holm). Rejected in a cell whose mean
    reaches `value`: reproduced; in any other: partly."""
    if evidence.empty:
        return NOT_MEASURED, 0, ""
    groups, absent = over_control(claim, evidence)
    note = f" In {absent} cases this control is not on record." if absent else ""
    if not groups.ngroups:
        return NOT_MEASURED, 0, note.lstrip()
    mean, seeds = groups.mean(), int(groups.count().min())
    ahead = clearly_above(groups)
    best = mean.idxmax()
    said = (
        f"The pruned network is at most {estimate(_group(groups, best))} points above the"
        f" unpruned one fine-tuned alike ({words.case(claim['cells'], best)}). It is clearly"
        f" above it in {ahead.sum()} of {len(mean)} cases.{note}"
    )
    if seeds < MIN_SEEDS or absent:
        return NOT_MEASURED, seeds, said
    enough = (ahead.to_numpy() & (mean >= 100 * claim["value"])).any()
    return REPRODUCED if enough else PARTLY if ahead.any() else NOT_REPRODUCED, seeds, said
