"""Rules for the claims of the chapter `compression_curves`: gates against their
competitors."""

import pandas

from pruning.evidence.statistics import (
    LEVEL,
    MIN_SEEDS,
    NOT_MEASURED,
    NOT_REPRODUCED,
    PARTLY,
    REPRODUCED,
    at_least,
    holm,
    larger,
    percent,
)

__all__ = ["ahead", "at_least", "stays_high"]


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
    groups = {
        key: group.test_accuracy for key, group in evidence.groupby(["method", "density"])
    }
    compared = pandas.DataFrame(
        [
            (other, density, larger(groups[claim["method"], density], theirs))
            for (other, density), theirs in groups.items()
            if other in claim["others"] and (claim["method"], density) in groups
        ],
        columns=["other", "density", "p"],
    )
    compared["clear"] = holm(compared.p) < LEVEL
    said = [
        f"{other}: clearly ahead at {mine.clear.sum()} of {len(mine)} densities"
        for other, mine in compared.groupby("other")
    ]
    absent = [other for other in claim["others"] if other not in set(compared.other)]
    ours = "; ".join([*said, *(f"{other}: not on record" for other in absent)])
    if seeds < MIN_SEEDS or absent:
        return NOT_MEASURED, seeds, ours
    clear = compared.clear
    return (
        REPRODUCED if clear.all() else PARTLY if clear.any() else NOT_REPRODUCED,
        seeds,
        ours,
    )


def _beside(claim: dict, evidence: pandas.DataFrame) -> str:
    """What else reaches that accuracy: the claim's `beside`, at its density, or without
    one."""
    said = []
    for name in claim.get("beside", ()):
        part = evidence[
            (evidence.method == name) & evidence.density.isin([claim["density"], 1.0])
        ]
        if len(part):
            weights = (
                f" with {int(part.kept.max()):,} weights" if part.kept.notna().all() else ""
            )
            said.append(f"{name.replace('_', ' ')} {percent(part.test_accuracy)}{weights}")
    return "; beside them " + ", ".join(said) if said else ""


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
        f"{claim['method']} {percent(method)}, dense {percent(dense)}, {claim['other']}"
        f" {percent(other)} (at most {int(effective.max())} effective weights), at"
        f" {100 * claim['density']:g} % of the weights" + _beside(claim, evidence)
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
