"""Rules for the claims of the chapter `compression_curves`: gates against their competitors."""

import pandas

from pruning.evidence.statistics import (
    MIN_SEEDS,
    NOT_MEASURED,
    NOT_REPRODUCED,
    PARTLY,
    REPRODUCED,
    at_least,
    percent,
)

__all__ = ["ahead", "at_least", "stays_high"]


def ahead(claim: dict, found: pandas.DataFrame) -> tuple[str, int, str]:
    """At every density where both are on record `method` has the higher mean than each of `others`. A lead
    counts as clear beyond two standard errors of the difference."""
    found = found[found.method.isin([claim["method"], *claim["others"]])] if len(found) else found
    if found.empty:
        return NOT_MEASURED, 0, ""
    found = found[found.density.isin(found[found.method == claim["method"]].density)]
    mean, error = (
        found.pivot_table(index="density", columns="method", values="test_accuracy", aggfunc=what)
        for what in ("mean", "sem")
    )
    seeds = int(found.groupby(["method", "density"]).seed.nunique().min())
    wins, parts = [], []
    for other in claim["others"]:
        if other not in mean or claim["method"] not in mean:
            parts.append(f"{other}: not on record")
            continue
        lead = (mean[claim["method"]] - mean[other]).dropna()
        noise = 2 * (error[claim["method"]] ** 2 + error[other] ** 2) ** 0.5
        won, clear = lead > 0, (lead > noise.reindex(lead.index)).sum()
        wins.append(won)
        parts.append(f"{other}: ahead at {won.sum()} of {len(won)} densities, clearly at {clear}")
    ours = "; ".join(parts)
    if seeds < MIN_SEEDS or len(wins) < len(claim["others"]):
        return NOT_MEASURED, seeds, ours
    won = pandas.concat(wins)
    return REPRODUCED if won.all() else PARTLY if won.any() else NOT_REPRODUCED, seeds, ours


def stays_high(claim: dict, found: pandas.DataFrame) -> tuple[str, int, str]:
    """At `density`, within `tolerance` of the dense network, and ahead of `other` by more than the
    standard deviations of both: reproduced; one of the two: partly."""
    sparse = found[found.density == claim["density"]]
    method, other = (sparse[sparse.method == claim[k]].test_accuracy for k in ("method", "other"))
    dense = found[(found.method == "dense") & (found.density == 1)].test_accuracy
    seeds = min(len(method), len(other), len(dense))
    if not seeds:
        return NOT_MEASURED, 0, ""
    ours = (
        f"{claim['method']} {percent(method)}, dense {percent(dense)}, {claim['other']} {percent(other)}, "
        f"at {100 * claim['density']:g} % of the weights"
    )
    if seeds < MIN_SEEDS:
        return NOT_MEASURED, seeds, ours
    near = dense.mean() - method.mean() <= claim["tolerance"]
    far_above = method.mean() - other.mean() > method.std() + other.std()
    return REPRODUCED if near and far_above else PARTLY if near or far_above else NOT_REPRODUCED, seeds, ours
