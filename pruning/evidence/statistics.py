"""What every rule shares: the four verdicts and how numbers are said."""

import numpy as np
import pandas
from scipy import stats

from pruning.evidence.records import spread

REPRODUCED, PARTLY, NOT_REPRODUCED, NOT_MEASURED = "reproduced", "partly", "not reproduced", "not measured"
VERDICTS = (REPRODUCED, PARTLY, NOT_REPRODUCED, NOT_MEASURED)
MIN_SEEDS = 3  # fewer are no evidence


def interval(values: pandas.Series, level: float = 0.95) -> tuple[float, float] | None:
    """Student's confidence interval of the mean; None of fewer than MIN_SEEDS values."""
    if values.count() < MIN_SEEDS:
        return None
    half = stats.t.ppf((1 + level) / 2, values.count() - 1) * values.sem()
    return values.mean() - half, values.mean() + half


def estimate(values: pandas.Series, within: tuple[float, float] = (-np.inf, np.inf)) -> str:
    """Mean ± standard deviation and the 95 % interval of the mean, where there is one and as far as it is
    `within` what is possible: "95.53 ± 0.14 [95.36, 95.70]". No interval where all values are the same."""
    found = interval(values) if values.nunique() > 1 else None
    ends = "" if found is None else " [{:.2f}, {:.2f}]".format(*np.clip(found, *within))
    return spread(values.mean(), values.std()) + ends


def percent(values: pandas.Series) -> str:
    """`estimate` of fractions, in per cent."""
    return f"{estimate(100 * values, (0, 100))} %"


def share(right: pandas.Series) -> str:
    """How many of the booleans are true, in per cent, with Wilson's 95 % interval: "80 % [49, 94]"."""
    found = stats.binomtest(int(right.sum()), len(right)).proportion_ci(method="wilson")
    return f"{100 * right.mean():.0f} % [{100 * found.low:.0f}, {100 * found.high:.0f}]"


def at_least(claim: dict, found: pandas.DataFrame) -> tuple[str, int, str]:
    """The mean over seeds exceeds `value` and no seed keeps more than `weights` (where the claim names a
    number): reproduced; only some seed does both: partly."""
    if found.empty:
        return NOT_MEASURED, 0, ""
    accuracy, seeds = found.test_accuracy, found.seed.nunique()
    best = f"{100 * accuracy.max():.2f} %"
    ours = f"{percent(accuracy)}, best {best}, with {int(found.kept.max()):,} weights or fewer"
    if seeds < MIN_SEEDS:
        return NOT_MEASURED, seeds, ours
    small = found.kept <= claim.get("weights", float("inf"))
    if small.all() and accuracy.mean() > claim["value"]:
        return REPRODUCED, seeds, ours
    return PARTLY if (small & (accuracy > claim["value"])).any() else NOT_REPRODUCED, seeds, ours
