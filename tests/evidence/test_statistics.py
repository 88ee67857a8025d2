"""Edges of what the rules share."""

import numpy as np
import pandas
import pytest
from scipy import stats

from pruning.evidence import statistics


def runs(accuracies, kept=300):
    seeds = range(len(accuracies))
    return pandas.DataFrame({"test_accuracy": accuracies, "seed": seeds, "kept": kept})


def test_at_least_without_runs_says_nothing():
    found = statistics.at_least({"value": 0.94}, pandas.DataFrame())
    assert found == (statistics.NOT_MEASURED, 0, "")


@pytest.mark.parametrize(
    ("accuracies", "expected"),
    [
        ([0.95, 0.96, 0.95], statistics.REPRODUCED),
        ([0.94, 0.93, 0.92], statistics.NOT_REPRODUCED),  # the value itself is not above it
        ([0.941, 0.93, 0.92], statistics.PARTLY),
    ],
)
def test_at_least_without_a_number_of_weights(accuracies, expected):
    assert statistics.at_least({"value": 0.94}, runs(accuracies))[0] == expected


def test_the_interval_of_a_mean_of_two_different_values():
    values = pandas.Series([0.2, 0.2, 0.5])
    low, high = stats.t.interval(0.95, 2, loc=values.mean(), scale=values.sem())
    assert statistics.mean_interval(values) == f"0.30 [{low:.2f}, {high:.2f}]".replace(
        "-", "−"
    )
    assert statistics.mean_interval(pandas.Series([0.2, 0.2, 0.2])) == "0.20"


def test_per_cents_and_their_intervals_stay_between_0_and_100():
    half = 4.302652729911275 / 3**0.5  # Student's t of two degrees of freedom, standard tables
    high, low = pandas.Series([0.98, 0.99, 1.0]), pandas.Series([0.0, 0.01, 0.02])
    assert statistics.percent(high) == f"99.00 ± 1.00 [{99 - half:.2f}, 100.00] %"
    assert statistics.percent_interval(high) == f"99.00 [{99 - half:.2f}, 100.00] %"
    assert statistics.percent(low) == f"1.00 ± 1.00 [0.00, {1 + half:.2f}] %"
    assert statistics.percent_interval(low) == f"1.00 [0.00, {1 + half:.2f}] %"


def test_both_sides_of_a_test_are_twice_the_smaller():
    values = pandas.Series([0.2, 0.5, -0.1, 0.4])
    sides = statistics.above(values), statistics.above(-values)
    assert statistics.both_sides(*sides) == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
    assert statistics.both_sides(1.0, 1.0) == 1  # too few seeds on either side


def test_welch_s_interval_of_a_difference():
    ours, theirs = pandas.Series([1.0, 2.0, 3.0]), pandas.Series([2.0, 4.0, 6.0, 8.0])
    # variances of the means 1/3 and 5/3; degrees of freedom 2² / ((1/3)²/2 + (5/3)²/3)
    half = stats.t.ppf(0.975, 216 / 53) * 2**0.5
    assert statistics.welch(ours, theirs) == pytest.approx((-3 - half, -3 + half))
    alike = pandas.Series([5.0] * 3)  # only the spread of the others is left
    half = stats.t.ppf(0.975, 2) / 3**0.5
    assert statistics.welch(ours, alike) == pytest.approx((-3 - half, -3 + half))
    found = stats.ttest_ind(ours**3, theirs, equal_var=False).confidence_interval(0.95)
    assert statistics.welch(ours**3, theirs) == pytest.approx(tuple(found))
    assert statistics.welch(alike, alike - 1) is None
    assert statistics.welch(ours[:2], theirs) is None
    assert statistics.welch(theirs, ours[:2]) is None


def test_a_difference_stands_before_welch_s_interval():
    ours, theirs = pandas.Series([1.0, 2.0, 3.0]), pandas.Series([2.0, 4.0, 6.0, 8.0])
    assert statistics.difference(ours, theirs) == "−3.0 [−6.9, 0.9]"  # ± 2.75 · √2, as above
    assert statistics.difference(theirs, ours) == "+3.0 [−0.9, 6.9]"
    assert statistics.difference(ours[:2], theirs) == "−3.5"


def test_two_treatments_of_the_same_seeds_are_the_paired_t_test():
    table = pandas.DataFrame([[5.0, 7.0, 6.0, 9.0], [6.0, 9.0, 6.5, 9.5]], ["plain", "moved"])
    found = statistics.against(table, "plain").loc["moved"]
    known = stats.ttest_rel(*table.to_numpy()[::-1])
    assert found.gain == 1.0
    assert found.p == pytest.approx(known.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(known.confidence_interval()))


def test_treatments_are_tested_as_least_squares_does():
    treatments, seeds = 4, 3
    values = np.random.default_rng(0).normal(size=(treatments, seeds))
    table = pandas.DataFrame(values, list("cabd"))
    found = statistics.against(table, "a")
    row, column = (k.ravel() for k in np.indices(values.shape))
    # a column for each seed, and for each treatment but the plain one, which is the second
    others = [0, 2, 3]
    dummies = [column == k for k in range(seeds)] + [row == k for k in others]
    design = np.array(dummies, float).T
    solved, squares, *_ = np.linalg.lstsq(design, values.ravel(), rcond=None)
    freedom = values.size - design.shape[1]
    errors = np.sqrt(squares[0] / freedom * np.diag(np.linalg.inv(design.T @ design)))[seeds:]
    assert list(found.index) == ["c", "b", "d"]
    assert found.gain.to_numpy() == pytest.approx(solved[seeds:])
    half = stats.t.ppf(0.975, freedom) * errors
    assert (found.high - found.gain).to_numpy() == pytest.approx(half)
    assert (found.gain - found.low).to_numpy() == pytest.approx(half)
    alone = 2 * stats.t.sf(abs(solved[seeds:] / errors), freedom)
    assert found.p.to_numpy() == pytest.approx(statistics.holm(alone))


def test_treatments_without_three_whole_seeds_have_a_gain_and_no_interval():
    table = pandas.DataFrame([[1.0, 2.0, 3.0], [2.0, 4.0, np.nan]], ["plain", "moved"])
    found = statistics.against(table, "plain").loc["moved"]
    assert found.gain == 1.5
    assert found[["low", "high", "p"]].isna().all()
    # a seed that only some have says nothing of the error, but counts in the gain
    table = pandas.DataFrame(
        [[1.0, 2.0, 4.0, 0.0], [3.0, 3.0, 5.0, np.nan]], ["plain", "moved"]
    )
    found = statistics.against(table, "plain").loc["moved"]
    whole = stats.ttest_rel([3.0, 3.0, 5.0], [1.0, 2.0, 4.0])
    assert found.p == pytest.approx(whole.pvalue)
    assert found.low == pytest.approx(whole.confidence_interval().low)


def test_p_values_as_tables_say_them():
    said = [statistics.chance(p) for p in (np.nan, 0.034, 1.0, 1e-4, 3e-6)]
    assert said == ["–", "0.034", "1", "0.0001", "< 0.0001"]


def test_differences_of_rounding_are_none():
    small = pandas.Series([statistics.ROUNDING] * 4)
    assert statistics.above(small) == statistics.larger(small, 0 * small) == 1
    assert statistics.above(2 * small) == statistics.larger(2 * small, 0 * small) == 0


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [(["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")],
)
def test_a_list_in_a_sentence(parts, sentence):
    assert statistics.joined(parts) == sentence


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[-0.41, -0.00]", "[−0.41, 0.00]"),
        ("-0 to -0.5 and -12", "0 to −0.5 and −12"),
        (
            "ResNet-56 in arXiv-1.2-3 of two-layer networks",
            "ResNet-56 in arXiv-1.2-3 of two-layer networks",
        ),
    ],
)
def test_numbers_have_minus_signs_and_names_keep_their_hyphens(text, expected):
    assert statistics.minus(text) == expected
