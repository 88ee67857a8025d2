"""Verdict rules on hand-made records: what decides at each boundary, and what they say."""

import pandas
import pytest

from pruning.chapters.pathways.rules import pathways
from pruning.chapters.shap_agreement.rules import agrees, central, diagonal, faster
from pruning.evidence import records
from pruning.evidence.statistics import (
    NOT_MEASURED,
    NOT_REPRODUCED,
    PARTLY,
    REPRODUCED,
    at_least,
)

NOTHING = (NOT_MEASURED, 0, "")
PATHS = {"share": 0.75, "alpha": 0.03, "authors_alpha": 0.01}


def networks(count, task="a", wrong=0, **more):
    """`count` networks of a task, one a seed; the first `wrong` have a path too many."""
    rows = []
    for seed in range(count):
        row = {"task": task, "seed": seed, "alpha": 0.03, "missing_paths": 0}
        row |= {"symmetry_same_role": [0.8, 0.7], "symmetry_other": [0.1, 0.6]}
        rows.append(row | {"false_paths": int(seed < wrong)} | more)
    return rows


def judged(*groups):
    return pathways(PATHS, records.table([row for rows in groups for row in rows]))


def test_pathways_share_is_reached_exactly():
    assert judged(networks(4, wrong=1))[:2] == (REPRODUCED, 4)
    assert judged(networks(8, wrong=3))[0] == PARTLY
    assert judged(networks(4, wrong=2))[0] == NOT_REPRODUCED
    assert judged(networks(3))[:2] == (REPRODUCED, 3)
    assert judged(networks(2))[:2] == (NOT_MEASURED, 2)


def test_pathways_count_in_the_worst_task_and_the_one_with_fewest_seeds():
    assert judged(networks(8), networks(4, "b", wrong=2))[:2] == (NOT_REPRODUCED, 4)
    assert judged(networks(8), networks(2, "b"))[:2] == (NOT_MEASURED, 2)


def test_a_missing_path_is_as_wrong_as_a_false_one():
    assert judged(networks(4, missing_paths=1))[0] == NOT_REPRODUCED
    assert judged(networks(4, wrong=4))[0] == NOT_REPRODUCED


def test_the_least_alike_of_one_role_is_compared_with_the_most_alike_of_others():
    assert judged(networks(4, symmetry_same_role=[0.9, 0.5]))[0] == NOT_REPRODUCED
    assert judged(networks(4, symmetry_other=[0.1, 0.75]))[0] == NOT_REPRODUCED
    assert judged(networks(4, symmetry_same_role=[0.6]))[0] == NOT_REPRODUCED  # a tie
    alone = networks(4, "b", symmetry_same_role=[], symmetry_other=[0.2])  # no pair of a role
    assert judged(networks(4), alone)[0] == REPRODUCED


def test_pathways_without_the_penalty_are_not_measured():
    assert judged() == NOTHING
    assert judged(networks(4, alpha=0.02)) == NOTHING
    assert judged(networks(4, alpha=0.01)) == NOTHING


def test_pathways_say_each_task_and_the_authors_penalty():
    said = judged(networks(10, wrong=2), networks(10, "b"))[2]
    whole = "100 % [72, 100]"  # Wilson: 1 / (1 + 1.96² / 10)
    alike = "100 % [84, 100]"
    assert said == (
        f"exactly the task's paths in 80 % [49, 94] of the networks (a), {whole} of the"
        f" networks (b); inputs of one role more alike than all other pairs in {alike}"
    )
    authors = networks(10, alpha=0.01, wrong=10) + networks(10, "b", alpha=0.01)
    both = judged(networks(10, wrong=2), networks(10, "b"), authors)
    missing = networks(10, alpha=0.01, missing_paths=1)
    zero = "0 % [0, 28]"
    assert (
        both[2]
        == f"{said}; with the authors' α = 0.01 exactly the paths in {zero} (a), {whole} (b)"
    )
    assert judged(networks(4), missing)[2].endswith(f"exactly the paths in {zero} (a)")


def centre(shares, variance):
    rows = [{"seed": s, "central.14": [v, variance]} for s, v in enumerate(shares)]
    return central({"side": 14}, records.table(rows))


def test_central_pixels_must_beat_their_area_then_their_variance():
    assert central({"side": 14}, pandas.DataFrame()) == NOTHING
    assert centre((0.5, 0.5), 0.4)[:2] == (NOT_MEASURED, 2)
    assert centre((0.5, 0.51, 0.52), 0.4)[:2] == (REPRODUCED, 3)
    assert centre((0.5, 0.51, 0.52), 0.51)[0] == PARTLY
    assert centre((0.25, 0.25, 0.25), 0.1)[0] == NOT_REPRODUCED  # (14 / 28)², its area
    assert centre((0.24, 0.25, 0.27), 0.1)[0] == NOT_REPRODUCED
    assert centre((0.5, 0.5, 0.5), 0.4)[2] == (
        "50.00 ± 0.00 % of the importance in the central 14 × 14 pixels, which are 25 % of the"
        " area and hold 40.00 ± 0.00 % of the variance"
    )


def slower(*ratios):
    rows = [
        {"seed": s, "method_seconds.shap": 2 * r, "method_seconds.eq4": 2.0}
        for s, r in enumerate(ratios)
    ]
    return faster({"factor": 1000}, records.table(rows))


def test_shap_is_slower_in_every_run_or_in_the_median():
    assert faster({"factor": 1000}, pandas.DataFrame()) == NOTHING
    assert slower(5000, 5000)[:2] == (NOT_MEASURED, 2)
    assert slower(1000, 2000, 3000) == (
        REPRODUCED,
        3,
        "SHAP takes 1,000 to 3,000 times as long, median 2,000",
    )
    assert slower(999, 1000, 3000)[0] == PARTLY
    assert slower(998, 999, 3000)[0] == NOT_REPRODUCED


def agreement(ours, spearman, seeds=3, more=()):
    theirs = [0.5, 0.3, 0.2]
    rows = [
        {
            "seed": s,
            "method": "gates",
            "density": 0.01,
            "importance.eq4": ours,
            "importance.shap": theirs,
            "pearson_shap.value": 0.7,
            "spearman_shap.value": spearman,
        }
        for s in range(seeds)
    ]
    return agrees({"value": 0.8, "density": 0.01}, records.table([*rows, *more]))


# around the mean 1/3: Σ (y − 1/3)² = 14/300, so a residual of 14/1500 is an R² of 0.8
BENT = [0.5, 0.3 + (7 / 1500) ** 0.5, 0.2 - (7 / 1500) ** 0.5]


def test_r2_against_the_diagonal_is_one_minus_the_residuals():
    assert diagonal(BENT, [0.5, 0.3, 0.2]) == pytest.approx(0.8)
    assert diagonal([0.0, 0.5, 0.5, 0.0], [0.5, 0.5, 0.0, 0.0]) == pytest.approx(-2)


def test_agreement_needs_the_line_or_at_least_the_order():
    close = [0.5, 0.31, 0.19]
    assert agreement(close, 0.9)[:2] == (REPRODUCED, 3)
    assert agreement(close, 0.9, seeds=2)[:2] == (NOT_MEASURED, 2)
    far = [0.2, 0.3, 0.5]
    assert agreement(far, 0.9)[0] == PARTLY
    assert agreement(far, 0.0)[0] == NOT_REPRODUCED
    below = [0.5, BENT[1] + 0.001, BENT[2] - 0.001]  # R² a little under 0.8
    assert agreement(below, 0.0)[0] == NOT_REPRODUCED


def test_agreement_stands_beside_the_dense_network():
    dense = {
        "seed": 0,
        "method": "dense",
        "density": 1.0,
        "importance.eq4": [0.5, 0.3, 0.2],
        "importance.shap": [0.5, 0.3, 0.2],
        "pearson_shap.value": 0.6,
        "spearman_shap.value": 0.4,
    }
    other = dense | {"method": "magnitude", "density": 0.01, "pearson_shap.value": -0.5}
    found = agreement(BENT, 0.5, more=[dense, dense | {"seed": 1}, other])
    assert found[1:] == (
        3,
        "with 1 % of the weights: R² against the diagonal 0.80 ± 0.00 (1.00 ± 0.00 with all"
        " weights), Pearson 0.70 ± 0.00 (0.60 ± 0.00), Spearman 0.50 ± 0.00 (0.40 ± 0.00)",
    )
    assert agrees({"value": 0.8, "density": 0.01}, pandas.DataFrame()) == NOTHING
    claim = {"value": 0.8, "density": 0.02}
    assert agrees(claim, records.table([dense, other])) == NOTHING


def test_intervals_of_correlations_end_at_one():
    rows = [{"seed": s, "method": "gates", "density": 0.01} for s in range(3)]
    for row, pearson, spearman in zip(rows, (1.0, 0.9, 0.2), (-1.0, -0.9, -0.2), strict=True):
        row |= {"importance.eq4": BENT, "importance.shap": [0.5, 0.3, 0.2]}
        row |= {"pearson_shap.value": pearson, "spearman_shap.value": spearman}
    said = agrees({"value": 0.8, "density": 0.01}, records.table(rows))[2]
    assert "Pearson 0.70 ± 0.44 [-0.38, 1.00]" in said
    assert "Spearman -0.70 ± 0.44 [-1.00, 0.38]" in said


def accuracies(*values, kept=400):
    rows = [{"seed": s, "test_accuracy": v, "kept": kept} for s, v in enumerate(values)]
    return at_least({"value": 0.9, "weights": 400}, records.table(rows))


def test_at_least_wants_accuracy_and_weights_together():
    assert at_least({"value": 0.9}, pandas.DataFrame()) == NOTHING
    assert accuracies(0.95, 0.95)[:2] == (NOT_MEASURED, 2)
    assert accuracies(0.94, 0.95, 0.96)[:2] == (REPRODUCED, 3)
    assert accuracies(0.94, 0.95, 0.96, kept=401)[0] == NOT_REPRODUCED
    assert accuracies(0.90, 0.90, 0.90)[0] == NOT_REPRODUCED
    assert accuracies(0.85, 0.86, 0.91)[0] == PARTLY
    assert accuracies(0.95, 0.95, 0.95)[2] == (
        "95.00 ± 0.00 %, best 95.00 %, with 400 weights or fewer"
    )
