"""Rules for the claims of the chapter `shap_agreement`."""

import numpy as np
import pandas

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
    percent,
)


def diagonal(ours: list[float], theirs: list[float]) -> float:
    """R² of the shares against the line y = x, 1 where every point lies on it; below 0 where
    the mean of `theirs` would do better. Features that both call unimportant (0, 0) are left
    out: they lie on every line."""
    points = np.array([ours, theirs])
    x, y = points[:, (points > 0).any(0)]
    return float(1 - ((y - x) ** 2).sum() / ((y - y.mean()) ** 2).sum())


def agrees(claim: dict, evidence: pandas.DataFrame) -> tuple[str, int, str]:
    """ "Near the diagonal": R² of Eq. 4's shares against y = x. Null: its mean over networks
    is not above 0, that is, the line explains nothing. Rejected with a mean of at least
    `value`: reproduced. The weaker reading is agreement in order: where the line fails and
    Spearman's correlation is above 0 (t-test at 5 %): partly. The dense network stands beside
    it."""
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
    named = [f"R² against the diagonal is {estimate(line[0])} ({estimate(line[1])})"]
    order = pandas.to_numeric(sparse["spearman_shap.value"])
    for column, name in (
        ("pearson_shap.value", "Pearson"),
        ("spearman_shap.value", "Spearman"),
    ):
        ours, full = (pandas.to_numeric(part[column]) for part in (sparse, dense))
        named.append(
            f"{name}'s correlation {estimate(ours, (-1, 1))} ({estimate(full, (-1, 1))})"
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
    return PARTLY if above(order) < LEVEL else NOT_REPRODUCED, seeds, said


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
    return REPRODUCED if above(ours - variance) < LEVEL else PARTLY, seeds, said


def faster(claim: dict, evidence: pandas.DataFrame) -> tuple[str, int, str]:
    """SHAP takes at least `factor` times as long in every run: reproduced; in the median:
    partly."""
    if evidence.empty:
        return NOT_MEASURED, 0, ""
    ratio = evidence["method_seconds.shap"] / evidence["method_seconds.eq4"]
    seeds = evidence.seed.nunique()
    said = (
        f"SHAP takes {ratio.min():,.0f} to {ratio.max():,.0f} times as long; the median is"
        f" {ratio.median():,.0f}."
    )
    if seeds < MIN_SEEDS:
        return NOT_MEASURED, seeds, said
    every, half = ratio.min() >= claim["factor"], ratio.median() >= claim["factor"]
    return REPRODUCED if every else PARTLY if half else NOT_REPRODUCED, seeds, said
