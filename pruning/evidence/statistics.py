"""What every rule shares: the verdicts, intervals and tests, and how numbers are said."""

import re
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import numpy as np
import pandas
from scipy import stats

from pruning.evidence.records import plus_minus

REPRODUCED, PARTLY, NOT_REPRODUCED, SMALL_SCALE, NOT_MEASURED = (
    "reproduced",
    "partly",
    "not reproduced",
    "measured only at small scale",  # with enough seeds, but not on what the claim speaks of
    "not measured",
)
VERDICTS = (REPRODUCED, PARTLY, NOT_REPRODUCED, SMALL_SCALE, NOT_MEASURED)
MIN_SEEDS = 3  # fewer are no evidence
LEVEL = 0.05  # of every test
ROUNDING = 1e-9  # accuracies that differ by no more are the same
HYPHEN = re.compile(r"(?<![\w.-])-(?=\d)")  # before a number, not in a name
SIGNED_ZERO = re.compile(r"−(0\.?0*)(?![\d.])")


def minus(text: str) -> str:
    """A text with minus signs for the hyphens of its numbers, and with none before a zero:
    "[−0.41, 0.00]"."""
    return SIGNED_ZERO.sub(r"\1", HYPHEN.sub("−", text))


def interval(values: pandas.Series, level: float = 0.95) -> tuple[float, float] | None:
    """Student's confidence interval of the mean; None of fewer than MIN_SEEDS values."""
    if values.count() < MIN_SEEDS:
        return None
    half = stats.t.ppf((1 + level) / 2, values.count() - 1) * values.sem()
    return values.mean() - half, values.mean() + half


def estimate(values: pandas.Series, within: tuple[float, float] = (-np.inf, np.inf)) -> str:
    """Mean ± standard deviation and the 95 % interval of the mean, where there is one and as
    far as it is `within` what is possible: "95.53 ± 0.14 [95.36, 95.70]". No interval where
    all values are the same.
    """
    return plus_minus(values.mean(), values.std()) + _ends(values, 2, within)


def _ends(values: pandas.Series, digits: int, within: tuple[float, float]) -> str:
    found = interval(values) if values.nunique() > 1 else None
    if found is None:
        return ""
    low, high = np.clip(found, *within)
    return f" [{low:.{digits}f}, {high:.{digits}f}]"


def mean_interval(
    values: pandas.Series,
    digits: int = 2,
    within: tuple[float, float] = (-np.inf, np.inf),
) -> str:
    """Mean and the 95 % interval of the mean, as a sentence takes them: "−0.41 [−0.73,
    −0.09]". The mean alone where there is no interval or all values are the same."""
    said = f"{values.mean():.{digits}f}{_ends(values, digits, within)}"
    return said.replace("-", "−")


def percent(values: pandas.Series) -> str:
    """`estimate` of fractions, in per cent."""
    return f"{estimate(100 * values, (0, 100))} %"


def percent_interval(values: pandas.Series) -> str:
    """`mean_interval` of fractions, in per cent: "96.12 [96.01, 96.24] %"."""
    return f"{mean_interval(100 * values, within=(0, 100))} %"


def wilson(right: pandas.Series) -> tuple[float, float]:
    """Wilson's 95 % interval of the share of the booleans that are true."""
    found = stats.binomtest(int(right.sum()), len(right)).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def share(right: pandas.Series) -> str:
    """How many of the booleans are true, in per cent, with Wilson's 95 % interval: "80 % [49,
    94]"."""
    low, high = wilson(right)
    return f"{100 * right.mean():.0f} % [{100 * low:.0f}, {100 * high:.0f}]"


def chance(p: float) -> str:
    """A p-value as a table says it: "0.034", "< 0.0001", "–" for none."""
    return "–" if np.isnan(p) else "< 0.0001" if p < 1e-4 else f"{p:.2g}"


def joined(parts: Iterable[str]) -> str:
    """The items of a list in a sentence: "a", "a and b", "a, b and c"."""
    *first, last = parts
    return f"{', '.join(first)} and {last}" if first else last


def extremes(values: Mapping) -> tuple:
    """The keys of the smallest and of the largest value."""
    return min(values, key=values.__getitem__), max(values, key=values.__getitem__)


def above(values: pandas.Series, null: float = 0.0) -> float:
    """One-sided p-value of Student's t-test that the mean of `values`, one a seed, is not
    above `null`.

    Of fewer than MIN_SEEDS values it is 1: they are no evidence. Where all are the same it is
    0 or 1.
    """
    values = values.dropna().astype(float)
    if len(values) < MIN_SEEDS:
        return 1.0
    error = values.sem()
    if error < ROUNDING:
        return float(values.mean() <= null + ROUNDING)
    return float(stats.t.sf((values.mean() - null) / error, len(values) - 1))


def larger(ours: pandas.Series, theirs: pandas.Series) -> float:
    """One-sided p-value of Welch's t-test that the mean of `ours` is not above that of
    `theirs`, for runs that are not pairs. Of fewer than MIN_SEEDS values it is 1."""
    ours, theirs = (values.dropna().astype(float) for values in (ours, theirs))
    if min(len(ours), len(theirs)) < MIN_SEEDS:
        return 1.0
    if max(ours.sem(), theirs.sem()) < ROUNDING:
        return float(ours.mean() <= theirs.mean() + ROUNDING)
    groups = [n for g in (ours, theirs) for n in (g.mean(), g.std(), len(g))]
    return float(
        stats.ttest_ind_from_stats(*groups, equal_var=False, alternative="greater").pvalue
    )


def both_sides(one: float, other: float) -> float:
    """Two-sided p-value, from the one-sided ones of either direction: where leads and lags are
    both counted, each may be chance."""
    return min(1.0, 2 * min(one, other))


def welch(ours: pandas.Series, theirs: pandas.Series) -> tuple[float, float] | None:
    """Welch's 95 % interval of the difference of two means, for runs that are not pairs; None
    of fewer than MIN_SEEDS values or without any spread."""
    if min(ours.count(), theirs.count()) < MIN_SEEDS:
        return None
    if max(ours.sem(), theirs.sem()) < ROUNDING:
        return None
    one, other = ours.sem() ** 2, theirs.sem() ** 2
    freedom = (one + other) ** 2 / (  # Welch and Satterthwaite's
        one**2 / (ours.count() - 1) + other**2 / (theirs.count() - 1)
    )
    difference = ours.mean() - theirs.mean()
    half = stats.t.ppf(1 - LEVEL / 2, freedom) * (one + other) ** 0.5
    return float(difference - half), float(difference + half)


def difference(ours: pandas.Series, theirs: pandas.Series, digits: int = 1) -> str:
    """Difference of two means with Welch's 95 % interval, "+1.2 [0.8, 1.6]"."""
    low, high = welch(ours, theirs) or (None, None)
    ends = "" if low is None else f" [{low:.{digits}f}, {high:.{digits}f}]"
    return minus(f"{ours.mean() - theirs.mean():+.{digits}f}{ends}")


def against(table: pandas.DataFrame, plain: Hashable) -> pandas.DataFrame:
    """What each treatment (a row) gains over the row `plain`, where every treatment was given
    the same seeds (the columns): the two-way analysis of variance without interaction, in
    which all treatments tell how far two runs of one differ.

    gain : difference of the means. low, high : its 95 % interval, for it alone. p : that there
    is no difference, two-sided, corrected for the number of treatments (Holm). Without
    MIN_SEEDS columns that have all rows, low, high and p are NaN.
    """
    gain = table.sub(table.loc[plain]).mean(axis=1)
    whole = table.dropna(axis=1)
    found = pandas.DataFrame({"gain": gain, "low": np.nan, "high": np.nan, "p": np.nan})
    rows, seeds = whole.shape
    if seeds < MIN_SEEDS:
        return found.drop(index=plain)
    rest = whole.sub(whole.mean(axis=1), axis=0).sub(whole.mean() - whole.to_numpy().mean())
    freedom = (rows - 1) * (seeds - 1)
    error = (2 / seeds * (rest**2).sum().sum() / freedom) ** 0.5
    half = stats.t.ppf(1 - LEVEL / 2, freedom) * error
    found = found.assign(low=gain - half, high=gain + half).drop(index=plain)
    return found.assign(p=holm(2 * stats.t.sf(found.gain.abs() / error, freedom)))


def gain_interval(row: Any, digits: int = 2) -> str:
    """A row of `against` with its interval, where there is one: "+0.93 [0.57, 1.29]"."""
    between = "" if np.isnan(row.low) else f" [{row.low:.{digits}f}, {row.high:.{digits}f}]"
    return minus(f"{row.gain:+.{digits}f}{between}")


def holm(values: Iterable[float]) -> np.ndarray:
    """P-values adjusted for how many there are (Holm 1979): the chance of even one false
    rejection among all of them stays below the level at which each adjusted value is
    judged."""
    values = np.asarray(list(values))
    order, count = values.argsort(), len(values)
    stepped = np.maximum.accumulate(values[order] * (count - np.arange(count))).clip(max=1)
    adjusted = np.empty(count)
    adjusted[order] = stepped
    return adjusted


def at_least(claim: dict, evidence: pandas.DataFrame) -> tuple[str, int, str]:
    """Null: the mean over seeds is not above `value`. Reproduced where the one-sided t-test
    rejects it at 5 % and no seed keeps more than `weights` (where the claim names a number);
    partly where only some seed does both."""
    if evidence.empty:
        return NOT_MEASURED, 0, ""
    accuracy, seeds = evidence.test_accuracy, evidence.seed.nunique()
    best = f"{100 * accuracy.max():.2f} %"
    ours = (
        f"The networks reach {percent(accuracy)}, the best of them {best}, with"
        f" {int(evidence.kept.max()):,} weights or fewer."
    )
    if seeds < MIN_SEEDS:
        return NOT_MEASURED, seeds, ours
    small = evidence.kept <= claim.get("weights", np.inf)
    if small.all() and above(accuracy, claim["value"]) < LEVEL:
        return REPRODUCED, seeds, ours
    return (
        PARTLY if (small & (accuracy > claim["value"])).any() else NOT_REPRODUCED,
        seeds,
        ours,
    )
