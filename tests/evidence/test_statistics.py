"""Edges of what the rules share."""

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
