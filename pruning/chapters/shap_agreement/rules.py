"""Rules for the claims of the chapter `shap_agreement`."""

import numpy as np
import pandas
from scipy import stats

from pruning.evidence.statistics import (
    LEVEL,
    MIN_SEEDS,
    NOT_MEASURED,
    NOT_REPRODUCED,
    PARTLY,
    REPRODUCED,
    above,
    estimate,
    joined,
    larger,
    percent,
)


def diagonal(ours: list[float], theirs: list[float], every: bool = False) -> float:
    """R² of the shares against the line y = x, 1 where every point lies on it; below 0 where
    the mean of `theirs` would do better. Features that both call unimportant (0, 0) are left
    out but for `every`: they lie on every line through 0."""
    points = np.array([ours, theirs])
    x, y = points[:, every | (points > 0).any(0)]
    return float(1 - ((y - x) ** 2).sum() / ((y - y.mean()) ** 2).sum())


def ordered(ours: list[float], theirs: list[float]) -> float:
    """Spearman's correlation over the features with a path, those to which Eq. 4 gives a
    share. All others are 0 by both methods: over all features, any network that cuts enough
    of them off would agree. NaN of fewer than three features, and where one side is
    constant."""
    shares = np.array([ours, theirs])
    x, y = shares[:, shares[0] > 0]
    if len(x) < 3 or not np.ptp(x) or not np.ptp(y):
        return float("nan")
    return float(stats.spearmanr(x, y).statistic)


def over_paths(runs: pandas.DataFrame, other: str = "shap") -> pandas.Series:
    """`ordered` of every network, against the importances by the method `other`."""
    found = list(map(ordered, runs["importance.eq4"], runs[f"importance.{other}"]))
    return pandas.Series(found, index=runs.index, dtype=float)


def agrees(claim: dict, evidence: pandas.DataFrame) -> tuple[str, int, str]:
    """ "Near the diagonal": R² of Eq. 4's shares against y = x. Null: its mean over networks
    is not above 0, that is, the line explains nothing. Rejected with a mean of at least
    `value`: reproduced. The weaker reading is agreement in order: where the line fails and
    Spearman's correlation over the features with a path is above 0 (t-test at 5 %): partly.
    The correlations over all features and the dense network stand beside it."""
    sparse = (
        evidence[(evidence.method == "gates") & (evidence.density == claim["density"])]
        if len(evidence)
        else evidence
    )
    if sparse.empty:
        return NOT_MEASURED, 0, ""
    dense = evidence[evidence.method == "dense"]
    line = [
        pandas.Series(
            list(map(diagonal, part["importance.eq4"], part["importance.shap"])), dtype=float
        )
        for part in (sparse, dense)
    ]
    named = [
        "R² against the diagonal, over the features that either method uses, is"
        f" {estimate(line[0])} ({estimate(line[1])})"
    ]
    for column, name in (
        ("pearson_shap.value", "Pearson"),
        ("spearman_shap.value", "Spearman"),
    ):
        ours, full = (pandas.to_numeric(part[column]) for part in (sparse, dense))
        named.append(
            f"{name}'s correlation {estimate(ours, (-1, 1))} ({estimate(full, (-1, 1))})"
        )
    order, full = over_paths(sparse), over_paths(dense)
    named[-1] += (
        f", over the features with a path {estimate(order, (-1, 1))}"
        f" ({estimate(full, (-1, 1))})"
    )
    said = (
        f"With {100 * claim['density']:g} % of the weights (with all weights in parentheses)"
        f" {joined(named)}."
    )
    seeds = sparse.seed.nunique()
    if seeds < MIN_SEEDS:
        return NOT_MEASURED, seeds, said
    if above(line[0]) < LEVEL and line[0].mean() >= claim["value"]:
        return REPRODUCED, seeds, said
    said += (
        f" That the order over the features with a path agrees has p = {above(order):.2g}"
        " (one-sided t-test; the interval is two-sided)."
    )
    if above(order) >= LEVEL:
        return NOT_REPRODUCED, seeds, said
    less = ", less than with all weights" * bool(larger(full, order) < LEVEL)
    return (
        PARTLY,
        seeds,
        f"{said} So the order agrees{less}, and the points are not on the diagonal.",
    )


def central(claim: dict, evidence: pandas.DataFrame) -> tuple[str, int, str]:
    """Two nulls: the central `side` × `side` pixels hold no more of the importance than their
    share of the area; and no more than their share of the pixels' variance, which any method
    that looks at the data would find. Both rejected (t-tests at 5 %): reproduced; the first
    alone: partly."""
    if evidence.empty:
        return NOT_MEASURED, 0, ""
    ours, variance = (
        evidence[f"central.{claim['side']}"].map(lambda pair, k=k: pair[k]) for k in (0, 1)
    )
    seeds, area = evidence.seed.nunique(), claim["side"] ** 2 / 28**2
    said = (
        f"The central {claim['side']} × {claim['side']} pixels hold {percent(ours)} of the"
        f" importance. They are {100 * area:.0f} % of the area and hold {percent(variance)} of"
        " the variance."
    )
    if seeds < MIN_SEEDS:
        return NOT_MEASURED, seeds, said
    if above(ours, area) >= LEVEL:
        return NOT_REPRODUCED, seeds, said
    if above(ours - variance) < LEVEL:
        return REPRODUCED, seeds, said
    more = " So they hold more than their area, but not clearly more than their variance."
    return PARTLY, seeds, said + more


def faster(claim: dict, evidence: pandas.DataFrame) -> tuple[str, int, str]:
    """SHAP takes at least `factor` times as long in every run, for all samples that a run
    explains: reproduced; in the median: partly. The ratio grows with the samples, so the one
    for a single sample stands beside it."""
    if evidence.empty:
        return NOT_MEASURED, 0, ""
    ratio = evidence["method_seconds.shap"] / evidence["method_seconds.eq4"]
    seeds = evidence.seed.nunique()
    said = (
        f"SHAP takes {ratio.min():,.0f} to {ratio.max():,.0f} times as long for"
        f" {int(evidence.explained.max())} samples with GradientExplainer; the median is"
        f" {ratio.median():,.0f}. Counted for one sample it is"
        f" {(ratio / evidence.explained).median():,.0f} times."
    )
    if seeds < MIN_SEEDS:
        return NOT_MEASURED, seeds, said
    every, half = ratio.min() >= claim["factor"], ratio.median() >= claim["factor"]
    return REPRODUCED if every else PARTLY if half else NOT_REPRODUCED, seeds, said
