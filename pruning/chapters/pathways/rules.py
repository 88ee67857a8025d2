"""Rules for the claims of the chapter `pathways`."""

import pandas

from pruning.evidence.statistics import (
    MIN_SEEDS,
    NOT_MEASURED,
    NOT_REPRODUCED,
    PARTLY,
    REPRODUCED,
    joined,
    share,
)


def pathways(claim: dict, evidence: pandas.DataFrame) -> tuple[str, int, str]:
    """In every task at least `share` of the networks have exactly the task's paths, and inputs
    of one role are more alike than any other pair of the same network: reproduced; in more
    than half: partly. The verdict is of the penalty `alpha` that was chosen on other seeds;
    the authors' own stands beside it.
    """
    if evidence.empty:
        return NOT_MEASURED, 0, ""
    authors = evidence[evidence.alpha == claim["authors_alpha"]]
    evidence = evidence[evidence.alpha == claim["alpha"]]
    if evidence.empty:
        return NOT_MEASURED, 0, ""
    right = ((evidence.false_paths == 0) & (evidence.missing_paths == 0)).groupby(
        evidence.task, sort=False
    )
    with_roles = evidence[evidence.symmetry_same_role.map(len) > 0]
    alike = with_roles.symmetry_same_role.map(min) > with_roles.symmetry_other.map(max)
    seeds = int(evidence.groupby("task").seed.nunique().min())
    paths = joined(f"{share(its)} of the networks for {task}" for task, its in right)
    said = (
        f"Exactly the task's paths remain in {paths}. Inputs of one role are more alike than"
        f" all other pairs in {share(alike)} of the networks that have some. The rule asks for"
        f" {100 * claim['share']:.0f} % everywhere; α = {claim['alpha']:g} was chosen on other"
        " seeds."
    )
    if len(authors):
        exact = (authors.false_paths == 0) & (authors.missing_paths == 0)
        each = joined(
            f"{share(its)} for {task}" for task, its in exact.groupby(authors.task, sort=False)
        )
        said += (
            f" With the authors' α = {claim['authors_alpha']:g} exactly the task's paths"
            f" remain in {each}."
        )
    if seeds < MIN_SEEDS:
        return NOT_MEASURED, seeds, said
    worst = min(right.mean().min(), alike.mean())
    return (
        REPRODUCED if worst >= claim["share"] else PARTLY if worst > 0.5 else NOT_REPRODUCED,
        seeds,
        said,
    )
