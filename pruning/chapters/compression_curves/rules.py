"""Rules for the claims of the chapter `compression_curves`: gates against their
competitors."""

import pandas

from pruning import methods
from pruning.chapters.compression_curves.references import MODELS
from pruning.evidence.statistics import (
    LEVEL,
    MIN_SEEDS,
    NOT_MEASURED,
    NOT_REPRODUCED,
    PARTLY,
    REPRODUCED,
    at_least,
    holm,
    joined,
    larger,
    percent,
)

__all__ = ["ahead", "at_least", "stays_high"]


def compared(method: str, others: list[str], runs: pandas.DataFrame) -> pandas.DataFrame:
    """One row for each of `others` at each density where it and `method` are on record:
    `clear` says whether the mean of `method` is above theirs by Welch's t-test, corrected for
    the number of comparisons (Holm), at 5 %."""
    groups = {key: group.test_accuracy for key, group in runs.groupby(["method", "density"])}
    found = pandas.DataFrame(
        [
            (other, larger(groups[method, density], theirs))
            for (other, density), theirs in groups.items()
            if other in others and (method, density) in groups
        ],
        columns=["other", "p"],
    )
    found["clear"] = holm(found.p) < LEVEL
    return found


def name(method: str) -> str:
    """How sentences name a method or a model of scikit-learn."""
    if method in MODELS:
        return method.replace("_", " ")
    return "a dense network" if method == "dense" else methods.find(method).short


def how_often(found: pandas.DataFrame, before: str = "of") -> str:
    """`compared` in words: "of DeepR at 9 of 9 densities and of SET at 8 of 9 densities"."""
    return joined(
        f"{before} {name(other)} at {part.clear.sum()} of {len(part)} densities"
        for other, part in found.groupby("other", sort=False)
    )


def ahead(claim: dict, evidence: pandas.DataFrame) -> tuple[str, int, str]:
    """Null, for each of `others` at each density where both are on record: the mean of
    `method` is not above theirs. Welch's t-tests, corrected for the number of comparisons
    (Holm), reject it everywhere: reproduced; somewhere: partly."""
    evidence = (
        evidence[evidence.method.isin([claim["method"], *claim["others"]])]
        if len(evidence)
        else evidence
    )
    if evidence.empty:
        return NOT_MEASURED, 0, ""
    evidence = evidence[
        evidence.density.isin(evidence[evidence.method == claim["method"]].density)
    ]
    seeds = int(evidence.groupby(["method", "density"]).seed.nunique().min())
    found = compared(claim["method"], claim["others"], evidence)
    absent = [other for other in claim["others"] if other not in set(found.other)]
    said = [f"Gates are clearly ahead {how_often(found)}."] if len(found) else []
    said += _heavier(claim["method"], evidence)
    if absent:
        said.append(f"Runs of {joined(map(name, absent))} are not on record.")
    ours = " ".join(said)
    if seeds < MIN_SEEDS or absent:
        return NOT_MEASURED, seeds, ours
    clear = found.clear
    return (
        REPRODUCED if clear.all() else PARTLY if clear.any() else NOT_REPRODUCED,
        seeds,
        ours,
    )


def _heavier(method: str, evidence: pandas.DataFrame) -> list[str]:
    """By how much the networks of `method` keep more weights than others at most, in a
    sentence; none below 1 %."""
    kept = evidence.pivot_table(index="density", columns="method", values="kept")
    if method not in kept or len(kept.columns) < 2:
        return []
    more = 100 * (kept[method] / kept.drop(columns=method).min(axis=1) - 1).max()
    said = f"They keep up to {more:.0f} % more weights than the networks beside them."
    return [said] if more >= 1 else []


def _beside(claim: dict, evidence: pandas.DataFrame) -> str:
    """What else reaches that accuracy: the claim's `beside`, at its density, or without
    one."""
    said = []
    for other in claim.get("beside", ()):
        part = evidence[
            (evidence.method == other) & evidence.density.isin([claim["density"], 1.0])
        ]
        if len(part):
            weights = (
                f" with {int(part.kept.max()):,} weights" if part.kept.notna().all() else ""
            )
            verb = "reach" if other.endswith("paths") else "reaches"
            said.append(f"{name(other)} {verb} {percent(part.test_accuracy)}{weights}")
    return f" For comparison, {joined(said)}." if said else ""


def _left(effective: int) -> str:
    """How many weights on paths an opponent leaves at most, in words."""
    if effective:
        return f"at most {effective} effective weights"
    return "no effective weight, so it always answers with the larger class"


def stays_high(claim: dict, evidence: pandas.DataFrame) -> tuple[str, int, str]:
    """Two nulls, at `density`: the mean is more than `tolerance` below the dense network's;
    and it is not above that of `other` (Welch's t-tests, Holm). Both rejected: reproduced;
    one: partly. Random deletion with a fixed structure leaves no path from input to output, so
    it is a weak opponent; stronger ones stand beside it."""
    sparse = evidence[evidence.density == claim["density"]]
    method, other = (
        sparse[sparse.method == claim[k]].test_accuracy for k in ("method", "other")
    )
    dense = evidence[(evidence.method == "dense") & (evidence.density == 1)].test_accuracy
    seeds = min(len(method), len(other), len(dense))
    if not seeds:
        return NOT_MEASURED, 0, ""
    effective = sparse[sparse.method == claim["other"]].effective
    ours = (
        f"Gates reach {percent(method)} with {100 * claim['density']:g} % of the weights and"
        f" the dense network reaches {percent(dense)}. Random deletion reaches"
        f" {percent(other)} and leaves {_left(int(effective.max()))}."
        + _beside(claim, evidence)
    )
    if seeds < MIN_SEEDS:
        return NOT_MEASURED, seeds, ours
    rejected = (
        holm([larger(method + claim["tolerance"], dense), larger(method, other)]) < LEVEL
    )
    return (
        REPRODUCED if rejected.all() else PARTLY if rejected.any() else NOT_REPRODUCED,
        seeds,
        ours,
    )
