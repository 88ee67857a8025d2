"""Rules for the claims of the chapter `shap_agreement`."""

import pandas

from pruning.evidence.statistics import (
    MIN_SEEDS,
    NOT_MEASURED,
    NOT_REPRODUCED,
    PARTLY,
    REPRODUCED,
    estimate,
    percent,
)


def agrees(claim: dict, found: pandas.DataFrame) -> tuple[str, int, str]:
    """The mean of Pearson's correlation with SHAP reaches `value` at the claim's density: reproduced; half of
    it: partly. The dense network is named beside it."""
    sparse = found[(found.method == "gates") & (found.density == claim["density"])] if len(found) else found
    if sparse.empty:
        return NOT_MEASURED, 0, ""
    column = "pearson_shap.value"
    values = pandas.to_numeric(sparse[column])
    dense = pandas.to_numeric(found[found.method == "dense"][column])
    said = (
        f"correlation {estimate(values, (-1, 1))} with {100 * claim['density']:g} % of the weights, "
        f"{estimate(dense, (-1, 1))} with all"
    )
    seeds = sparse.seed.nunique()
    if seeds < MIN_SEEDS:
        return NOT_MEASURED, seeds, said
    mean = values.mean()
    verdict = (
        REPRODUCED if mean >= claim["value"] else PARTLY if mean >= claim["value"] / 2 else NOT_REPRODUCED
    )
    return verdict, seeds, said


def central(claim: dict, found: pandas.DataFrame) -> tuple[str, int, str]:
    """In every network the central `side` × `side` pixels hold more of the importance than their share of the
    area: reproduced; in the mean: partly. The share of the pixels' variance stands beside it."""
    if found.empty:
        return NOT_MEASURED, 0, ""
    ours, variance = (found[f"central.{claim['side']}"].map(lambda pair, k=k: pair[k]) for k in (0, 1))
    seeds, area = found.seed.nunique(), claim["side"] ** 2 / 28**2
    said = (
        f"{percent(ours)} of the importance in the central {claim['side']} × {claim['side']} pixels, "
        f"which are {100 * area:.0f} % of the area and hold {percent(variance)} of the variance"
    )
    if seeds < MIN_SEEDS:
        return NOT_MEASURED, seeds, said
    return (
        REPRODUCED if (ours > area).all() else PARTLY if ours.mean() > area else NOT_REPRODUCED,
        seeds,
        said,
    )


def faster(claim: dict, found: pandas.DataFrame) -> tuple[str, int, str]:
    """SHAP takes at least `factor` times as long in every run: reproduced; in the median: partly."""
    if found.empty:
        return NOT_MEASURED, 0, ""
    ratio = found["method_seconds.shap"] / found["method_seconds.eq4"]
    seeds = found.seed.nunique()
    said = f"SHAP takes {ratio.min():,.0f} to {ratio.max():,.0f} times as long, median {ratio.median():,.0f}"
    if seeds < MIN_SEEDS:
        return NOT_MEASURED, seeds, said
    every, half = ratio.min() >= claim["factor"], ratio.median() >= claim["factor"]
    return REPRODUCED if every else PARTLY if half else NOT_REPRODUCED, seeds, said
