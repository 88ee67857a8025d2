"""Verdict rules on hand-made records: what decides at each boundary, and what they say."""

import numpy as np
import pandas
import pytest
from scipy.stats import spearmanr

from pruning.chapters.compression_curves.rules import ahead, stays_high
from pruning.chapters.pathways.rules import pathways
from pruning.chapters.pixel_representatives.rules import (
    null_ratios,
    representatives,
    two_pixels,
)
from pruning.chapters.shap_agreement.rules import (
    agrees,
    central,
    diagonal,
    faster,
    ordered,
    over_paths,
)
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


def test_pathways_name_tasks_in_the_order_of_the_records():
    said = judged(
        networks(4, "b", wrong=4), networks(4), networks(4, "b", alpha=0.01, wrong=4)
    )[2]
    assert said.index("for b") < said.index("for a")
    authors = networks(4, "b", alpha=0.01) + networks(4, alpha=0.01)
    said = judged(networks(4), authors)[2]
    assert said.rindex("for b") < said.rindex("for a")


def test_pathways_say_each_task_and_the_authors_penalty():
    said = judged(networks(10, wrong=2), networks(10, "b"))[2]
    whole = "100 % [72, 100]"  # Wilson: 1 / (1 + 1.96² / 10)
    alike = "100 % [84, 100]"
    assert said == (
        f"Exactly the task's paths remain in 80 % [49, 94] of the networks for a and {whole}"
        f" of the networks for b. Inputs of one role are more alike than all other pairs in"
        f" {alike} of the networks that have some. The rule asks for 75 % everywhere; α = 0.03"
        " was chosen on other seeds."
    )
    authors = networks(10, alpha=0.01, wrong=10) + networks(10, "b", alpha=0.01)
    both = judged(networks(10, wrong=2), networks(10, "b"), authors)
    missing = networks(10, alpha=0.01, missing_paths=1)
    zero = "0 % [0, 28]"
    assert both[2] == (
        f"{said} With the authors' α = 0.01 exactly the task's paths remain in {zero} for a"
        f" and {whole} for b."
    )
    assert judged(networks(4), missing)[2].endswith(
        f"the task's paths remain in {zero} for a."
    )


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
        "The central 14 × 14 pixels hold 50.00 ± 0.00 % of the importance. They are 25 % of"
        " the area and hold 40.00 ± 0.00 % of the variance."
    )


def slower(*ratios):
    rows = [
        {"seed": s, "method_seconds.shap": 2 * r, "method_seconds.eq4": 2.0, "explained": 50}
        for s, r in enumerate(ratios)
    ]
    return faster({"factor": 1000}, records.table(rows))


def test_shap_is_slower_in_every_run_or_in_the_median():
    assert faster({"factor": 1000}, pandas.DataFrame()) == NOTHING
    assert slower(5000, 5000)[:2] == (NOT_MEASURED, 2)
    assert slower(1000, 2000, 3000) == (
        REPRODUCED,
        3,
        "SHAP takes 1,000 to 3,000 times as long for 50 samples with GradientExplainer; the"
        " median is 2,000. Counted for one sample it is 40 times.",
    )
    assert slower(999, 1000, 3000)[0] == PARTLY
    assert slower(998, 999, 3000)[0] == NOT_REPRODUCED


def agreement(ours, spearman, seeds=3, more=(), value=0.8, theirs=(0.5, 0.3, 0.2)):
    rows = [
        {
            "seed": s,
            "method": "gates",
            "density": 0.01,
            "importance.eq4": ours,
            "importance.shap": list(theirs),
            "pearson_shap.value": 0.7,
            "spearman_shap.value": spearman,
        }
        for s in range(seeds)
    ]
    return agrees({"value": value, "density": 0.01}, records.table([*rows, *more]))


# around the mean 1/3: Σ (y − 1/3)² = 14/300, so a residual of 14/1500 is an R² of 0.8
BENT = [0.5, 0.3 + (7 / 1500) ** 0.5, 0.2 - (7 / 1500) ** 0.5]


def test_r2_against_the_diagonal_is_one_minus_the_residuals():
    assert diagonal(BENT, [0.5, 0.3, 0.2]) == pytest.approx(0.8)
    assert diagonal([0.0, 0.5, 0.5, 0.0], [0.5, 0.5, 0.0, 0.0]) == pytest.approx(-2)
    # with the fourth, the deviations from ¼ are four times ¼²: 1 − 0.5 / 0.25
    assert diagonal([0.0, 0.5, 0.5, 0.0], [0.5, 0.5, 0.0, 0.0], every=True) == pytest.approx(
        -1
    )


def test_order_is_compared_over_the_features_with_a_path():
    ours, theirs = [0.5, 0.2, 0.3, 0.0, 0.0], [0.5, 0.3, 0.2, 0.0, 0.0]
    assert ordered(ours, theirs) == pytest.approx(
        1 - 6 * 2 / (3 * 8)
    )  # 1 − 6 Σ d² / n(n² − 1)
    assert np.isnan(ordered([0.7, 0.3, 0.0], [0.4, 0.6, 0.0]))
    assert np.isnan(ordered([0.4, 0.3, 0.3], [1 / 3, 1 / 3, 1 / 3]))
    # the path is that of Eq. 4, whatever SHAP gives a feature
    assert ordered([0.5, 0.3, 0.2, 0.0], [0.5, 0.2, 0.0, 0.3]) == pytest.approx(1)


def test_order_over_paths_is_a_number_for_each_network():
    ours = [0.5, 0.3, 0.2]
    columns = {"importance.eq4": [ours] * 2, "importance.lrp": [ours, ours[::-1]]}
    runs = pandas.DataFrame(columns, index=[4, 7])
    pandas.testing.assert_series_equal(
        over_paths(runs, "lrp"), pandas.Series([1.0, -1.0], index=[4, 7])
    )
    assert over_paths(runs[:0], "lrp").dtype == float


def test_agreement_needs_the_line_or_at_least_the_order():
    close = [0.5, 0.31, 0.19]
    assert agreement(close, 0.9)[:2] == (REPRODUCED, 3)
    assert agreement(close, 0.9, seeds=2)[:2] == (NOT_MEASURED, 2)
    assert agreement([0.5, 0.3, 0.2], 0.0, value=1.0)[0] == REPRODUCED  # on the line, R² = 1
    far = [0.9, 0.06, 0.04]
    assert agreement(far, 0.9)[0] == PARTLY
    assert agreement(far[::-1], 0.9)[0] == NOT_REPRODUCED  # whatever it is over all features
    assert agreement([0.5, 0.2, 0.3], 0.9)[0] == PARTLY  # R² below 0.8, an order of 1/2
    assert agreement([0.2, 0.5, 0.3], 0.9)[0] == NOT_REPRODUCED  # of −1/2
    below = [0.5, BENT[1] + 0.001, BENT[2] - 0.001]  # R² a little under 0.8
    assert agreement(below, 0.0)[0] == PARTLY


def test_zeros_of_both_methods_are_no_agreement_in_order():
    """Three features in the reverse order beside nine without a path: over all twelve
    Spearman's correlation is high, as the record says."""
    ours, theirs = [0.2, 0.3, 0.5, *[0.0] * 9], [0.5, 0.3, 0.2, *[0.0] * 9]
    whole = spearmanr(ours, theirs).statistic
    assert whole > 0.8
    assert agreement(ours, whole, theirs=theirs)[0] == NOT_REPRODUCED


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
        "With 1 % of the weights (with all weights in parentheses) R² against the diagonal,"
        " over the features that either method uses, is 0.80 ± 0.00 (1.00 ± 0.00),"
        " Pearson's correlation 0.70 ± 0.00 (0.60 ± 0.00) and"
        " Spearman's correlation 0.50 ± 0.00 (0.40 ± 0.00), over the features with a path"
        " 1.00 ± 0.00 (1.00 ± 0.00).",
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
    assert "Pearson's correlation 0.70 ± 0.44 [-0.38, 1.00]" in said
    assert "Spearman's correlation -0.70 ± 0.44 [-1.00, 0.38]" in said
    dense = [row | {"method": "dense", "density": 1.0} for row in rows]
    said = agrees({"value": 0.8, "density": 0.01}, records.table(rows + dense))[2]
    assert "(0.70 ± 0.44 [-0.38, 1.00])" in said
    assert "(-0.70 ± 0.44 [-1.00, 0.38])" in said


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
        "The networks reach 95.00 ± 0.00 %, the best of them 95.00 %, with 400 weights or"
        " fewer."
    )


def curve(method, density, *accuracies, **more):
    row = {"method": method, "density": density, "kept": 40.0, "effective": 50} | more
    return [row | {"seed": s, "test_accuracy": v} for s, v in enumerate(accuracies)]


HIGH, LOW = (0.95, 0.96, 0.97), (0.55, 0.56, 0.57)


def compared(*groups):
    claim = {"method": "gates", "others": ["set", "deepr"]}
    return ahead(claim, records.table([row for rows in groups for row in rows]))


def test_gates_are_ahead_everywhere_somewhere_or_nowhere():
    gates = curve("gates", 0.5, *HIGH) + curve("gates", 0.1, *HIGH)
    deepr = curve("deepr", 0.5, *LOW)
    far, near = (curve("set", 0.5, *LOW) + curve("set", 0.1, *of) for of in (LOW, HIGH))
    found = compared(gates, deepr, far)
    assert found == (
        REPRODUCED,
        3,
        "Gates are clearly ahead of DeepR at 1 of 1 densities and of SET at 2 of 2 densities.",
    )
    assert compared(gates, deepr, far, curve("set", 0.01, 0.99)) == found  # no gates there
    assert compared(gates, deepr, near)[0] == PARTLY
    assert compared(gates, curve("deepr", 0.5, *HIGH), curve("set", 0.5, *HIGH)) == (
        NOT_REPRODUCED,
        3,
        "Gates are clearly ahead of DeepR at 0 of 1 densities and of SET at 0 of 1 densities.",
    )


def test_ahead_needs_three_seeds_of_every_competitor():
    assert compared() == NOTHING
    assert compared(curve("dense", 1.0, *HIGH)) == NOTHING
    gates, deepr = curve("gates", 0.5, *HIGH), curve("deepr", 0.5, *LOW)
    assert compared(gates, deepr, curve("set", 0.5, 0.5, 0.5))[:2] == (NOT_MEASURED, 2)
    said = (
        "Gates are clearly ahead of DeepR at 1 of 1 densities. Runs of SET are not on record."
    )
    assert compared(gates, deepr) == (NOT_MEASURED, 3, said)
    assert compared(gates) == (NOT_MEASURED, 3, "Runs of SET and DeepR are not on record.")


def income(gated, random=0.76, seeds=3, dense=0.85, beside=True):
    """Gates beside the dense network and random deletion, and what the rule leaves out."""
    claim = {"method": "gates", "other": "random", "density": 0.01, "tolerance": 0.01}
    claim["beside"] = ["set", "logistic_regression", "gradient_boosting"]
    rows = curve("gates", 0.01, *[gated] * seeds) + curve("gates", 1.0, *[0.5] * seeds)
    rows += curve("random", 0.01, *[random] * seeds, effective=3)
    rows += curve("dense", 1.0, *[dense] * seeds) + curve("dense", 0.5, *[0.99] * seeds)
    if beside:
        rows += curve("set", 0.01, 0.83, 0.83) + curve("set", 0.5, 0.6)
        rows += curve("logistic_regression", 1.0, 0.82, kept=None)
    return stays_high(claim, records.table(rows))


def test_stays_high_is_near_the_dense_network_and_above_random_deletion():
    assert income(0.849) == (
        REPRODUCED,
        3,
        "Gates reach 84.90 ± 0.00 % with 1 % of the weights and the dense network reaches"
        " 85.00 ± 0.00 %. Random deletion reaches 76.00 ± 0.00 % and leaves at most 3"
        " effective weights. For comparison, SET reaches 83.00 ± 0.00 % with 40 weights and"
        " logistic regression reaches 82.00 %.",
    )
    assert income(0.849, beside=False)[2].endswith("leaves at most 3 effective weights.")
    assert income(0.83)[0] == PARTLY
    assert income(0.849, random=0.849)[0] == PARTLY
    assert income(0.76)[0] == NOT_REPRODUCED
    assert income(0.849, seeds=2)[:2] == (NOT_MEASURED, 2)
    assert income(0.849, seeds=0) == NOTHING


def test_dense_networks_and_random_paths_have_names_and_verbs_of_their_own():
    rows = curve("gates", 0.5, *HIGH) + curve("dense", 0.5, *LOW)
    said = ahead({"method": "gates", "others": ["dense"]}, records.table(rows))[2]
    assert said == "Gates are clearly ahead of a dense network at 1 of 1 densities."
    rows += curve("random", 0.5, *LOW) + curve("dense", 1.0, *HIGH)
    rows += curve("random_paths", 0.5, 0.5, kept=7)
    claim = {"method": "gates", "other": "random", "density": 0.5, "tolerance": 0.1}
    said = stays_high(claim | {"beside": ["random_paths"]}, records.table(rows))[2]
    assert said.endswith("For comparison, random paths reach 50.00 % with 7 weights.")
    assert stays_high(claim, records.table(rows))[2].endswith("at most 50 effective weights.")
    cut = [row | {"effective": 0} for row in rows]
    assert stays_high(claim, records.table(cut))[2].endswith(
        "leaves no effective weight, so it always answers with the larger class."
    )
    for method, density in (("gates", 0.5), ("random", 0.5), ("dense", 1.0)):
        last = {"method": method, "density": density, "seed": 2}
        fewer = [row for row in rows if not last.items() <= row.items()]
        assert stays_high(claim, records.table(fewer))[:2] == (NOT_MEASURED, 2)


def maps(few, many, seeds=3):
    """Two pixels far apart, which by chance would lie beside each other: inside the image, or
    on its edge, where the larger network's lie."""
    image, inside, edge = ([0.0] * 16 for _ in range(3))
    image[0], image[15] = 0.6, 0.4
    inside[5] = inside[10] = edge[1] = edge[2] = 1.0
    base = {"shape": [4, 4], "top": 1, "dense_weights": 1000}
    rows = [{"density": None, "seed": 0, "varying": inside}]
    for s in range(seeds):
        sparse = {"density": 0.01, "neighbour_ratio": few, "importance": image, "kept": 44}
        large = {"density": 0.1, "neighbour_ratio": many, "importance": edge, "kept": 100}
        rows += [base | {"seed": s} | each for each in (sparse, large)]
    return [*rows, base | {"seed": 9} | sparse]


def test_neighbours_by_chance_are_those_of_every_possible_map():
    found = null_ratios(records.table(maps(0.1, 0.2)), 0.01, 0.1)
    assert list(found.index) == [0, 1, 2]  # seed 9 has no larger network
    # the pixel of 0.6 has the one of 0.4 among eight neighbours, or among five
    for name, value in (("few", 0.1), ("many", 0.2), ("anywhere", 1 / 12)):
        assert list(found[name]) == pytest.approx([value] * 3)
    assert list(found.in_proportion) == pytest.approx([2 / 15] * 3)
    assert null_ratios(records.table(maps(0.1, 0.2)[1:]), 0.01, 0.1).empty


def test_neighbours_must_matter_less_than_in_the_larger_map_and_than_by_chance():
    claim = {"few": 0.01, "many": 0.1}

    def judged(few, many, seeds=3):
        return representatives(claim, records.table(maps(few, many, seeds)))

    verdict, seeds, said = judged(0.1, 0.2)
    assert (verdict, seeds) == (REPRODUCED, 3)
    assert said.startswith(
        "With 4.40 % of the weights the neighbours of an important pixel have 0.10 ± 0.00"
        " times its importance, with 10 % 0.20 ± 0.00 times. The same importances placed by"
        " chance give 0.08 ± 0.00 on varying pixels and 0.13 ± 0.00 in proportion"
    )
    assert judged(0.2, 0.3)[0] == PARTLY
    assert judged(0.1, 0.05)[0] == NOT_REPRODUCED
    assert judged(0.1, 0.2, seeds=2)[:2] == (NOT_MEASURED, 2)
    assert representatives(claim, pandas.DataFrame()) == NOTHING
    assert representatives(claim, records.table(maps(0.1, 0.2)[1:])) == NOTHING
    assert (
        representatives({"few": 0.02, "many": 0.1}, records.table(maps(0.1, 0.2))) == NOTHING
    )


def two(*precisions, value=0.74, counted=True):
    other = {"label": "1", "precision": 0.1, "recall": 0.1, "accuracy": 0.1}
    rows = [
        {"density": 0.01, "seed": s, "rules": [other, other | {"label": "2"} | own]}
        for s, own in enumerate(
            {"precision": p, "recall": 0.3, "accuracy": 0.9} for p in precisions
        )
    ]
    rows.append({"density": 0.1, "seed": 5, "rules": [other | {"label": "2"}]})
    pairs = [
        {"on": 0.5, "reaching": 1200, "pairs": 3000},
        {"on": 0, "reaching": 1, "pairs": 3},
    ]
    if counted is not None:
        rows.append({"density": 1.0, "seed": 0, "pairs": pairs if counted else None})
        found = {"once": 4, "median": 1500.0, "finding": {"0.1": 1000, "0.5": 1}}
        none = {"once": 0, "median": None, "finding": {"0.1": 0, "0.5": 0}}
        support = [found | {"on": 0.5, "reaching": 1200}, none | {"on": 0.25, "reaching": 0}]
        rows.append({"density": None, "seed": 0, "support": support})
    return two_pixels({"label": "2", "value": value, "density": 0.01}, records.table(rows))


def test_two_pixels_are_as_precise_as_claimed_in_the_mean_or_in_some_network():
    assert two(0.8, 0.8, 0.8) == (
        REPRODUCED,
        3,
        "The rule of a network's two most important pixels has precision 80.00 ± 0.00 %"
        " and recall 30.00 ± 0.00 %. The best network's precision is 80 %. With pixels above"
        " 0.5 counted as active, 1,200 of 3,000 pairs have a precision of 74 % or more on the"
        " training images; half of these pick at most 1,500 images, and 4 pick a single one."
        " Of the digit's images 1,000 find at least 10 % and 1 finds at least 50 %. With"
        " pixels above 0 counted as active, 1 of 3 pairs have a precision of 74 % or more on"
        " the training images.",
    )
    for uncounted in (False, None):
        said = two(0.8, 0.8, 0.8, counted=uncounted)[2]
        assert said.endswith("The best network's precision is 80 %.")
    assert two(0.5, 0.74, 0.4)[0] == PARTLY
    assert two(0.5, 0.73, 0.4)[0] == NOT_REPRODUCED
    assert two(0.8, 0.8)[:2] == (NOT_MEASURED, 2)
    assert two() == two_pixels({}, pandas.DataFrame()) == NOTHING
