"""Rules S1 to S3, and what the chapter shows of its records, on records made by hand."""

import dataclasses

import matplotlib.pyplot as plt
import numpy as np
import pandas
import pytest
from scipy import stats

from pruning.chapters.resnet_pruning import experiment as resnet_pruning
from pruning.chapters.resnet_pruning import figures, readme, rules, says, tables
from pruning.evidence import records, statistics
from pruning.figures import style
from pruning.figures.captions import PENDING

RATES = resnet_pruning.RATES


def record(method, seed, half, network="ResNet-56", epochs=50, sd=0.10, before=0.80, **more):
    """Accuracy falls from `before` to `half` in a straight line and goes on so; the course
    stays there."""
    curve = [before + (half - before) * rate / 0.5 for rate in RATES]
    config = resnet_pruning.variant(
        method, resnet_pruning.Config(depth=int(network.split("-")[1]))
    )
    weights = {"sd": sd, "kurtosis": 1.0, "small": 0.2, "mean_magnitude": 0.07}
    return (
        dataclasses.asdict(config)
        | {"seed": seed, "epochs": epochs, "network": network, "rates": RATES, "kept": 100}
        | {"test_accuracy": curve[0], "pruned_accuracy": curve[5], "weights": weights}
        | {
            "accuracy_global": curve,
            "accuracy_layer": curve,
            "accuracy_recalibrated": [before] * len(RATES),
        }
        | {"weights_by_layer": [weights, weights], "histogram": [0, 100, 0]}
        | {
            "course": (
                dict.fromkeys(("unpruned", "recalibrated"), [before] * 12)
                | {"pruned": [half] * 12}
            )
        }
        | more
    )


def pairs(gaps, network="ResNet-56", epochs=50, **more):
    """Adam at 40 % and StochGradAdam ahead by each gap, a seed each."""
    found = [record("adam", seed, 0.4, network, epochs) for seed in range(len(gaps))]
    return found + [
        record("stochgradadam", seed, 0.4 + gap, network, epochs, **more)
        for seed, gap in enumerate(gaps)
    ]


def judge(rule, found, networks=("ResNet-56",)):
    claim = {"networks": list(networks), "dataset": "cifar10", "epochs": 50}
    claim["stand_in"] = {"network": "ResNet-20", "epochs": 20}
    claim["values"] = {"ResNet-56": [0.6, 0.3], "ResNet-110": [0.7, 0.4]}
    return getattr(rules, rule)(claim, records.table(found))


@pytest.mark.parametrize(
    ("gaps", "verdict"),
    [
        ([0.20, 0.25, 0.30], statistics.REPRODUCED),
        ([0.30, -0.20, 0.05], statistics.NOT_REPRODUCED),  # ahead in the mean, not clearly
        ([0.20, 0.25, 0.05], statistics.NOT_REPRODUCED),  # t = 2.8, needs 4.3 with three seeds
        ([-0.1, 0.0, 0.05], statistics.NOT_REPRODUCED),
        ([0.3, 0.3], statistics.NOT_MEASURED),  # two seeds are no evidence
    ],
)
def test_survives(gaps, verdict):
    found, seeds, ours = judge("survives", pairs(gaps))
    assert found == verdict
    assert seeds == (3 if len(gaps) == 3 else 0)
    assert f"{100 * (0.4 + np.mean(gaps)):.2f}" in ours
    assert "against 40.00 ± 0.00 %" in ours


def test_the_course_decides_and_the_last_epoch_is_said_beside_it():
    lucky = pairs([0.2, 0.25, 0.3])
    for one in lucky:  # StochGradAdam's last epoch is a lucky one; before it both lie at 40 %
        one["course"]["pruned"] = [
            *[0.1] * 12,
            *[0.4 + 0.001 * one["seed"]] * 9,
            one["pruned_accuracy"],
        ]
    ours = [one for one in lucky if one["method"] == "stochgradadam"]
    gain = np.mean([np.mean(one["course"]["pruned"][-10:]) for one in ours]) - 0.4
    verdict, _, said = judge("survives", lucky)
    assert verdict == statistics.REPRODUCED
    assert f"mean of the last 10 epochs is {100 * (0.4 + gain):.2f}" in said
    assert "last epoch alone has 65.00" in said
    for one in ours:
        one["course"]["pruned"][-2] = 0.1  # one bad epoch of ten outweighs the lucky one
    assert judge("survives", lucky)[0] == statistics.NOT_REPRODUCED


def test_a_record_without_a_course_decides_nothing():
    found = pairs([0.2, 0.25, 0.3])
    del found[0]["course"]
    verdict, _, said = judge("survives", found)
    assert verdict == statistics.NOT_MEASURED
    assert "last epoch has 65.00" in said


def test_other_data_decide_nothing():
    found = pairs([0.2, 0.25, 0.3])
    for one in found:
        one["dataset"] = "digits"
    verdict, _, said = judge("survives", found)
    assert verdict == statistics.NOT_MEASURED
    assert "after 50 epochs on digits (3 seeds)" in said


def test_a_smaller_network_stands_in_until_the_claims_own_are_measured():
    leads, trails, two = [0.2, 0.25, 0.3], [0.1, -0.1, 0.0], [0.2, 0.25]
    smaller = {"network": "ResNet-20", "epochs": 20}
    verdict, seeds, said = judge("survives", pairs(leads, **smaller))
    assert (verdict, seeds) == (statistics.SMALL_SCALE, 3)
    assert "There the claim is reproduced. ResNet-56 after 50 epochs with 3 seeds is" in said
    verdict, seeds, said = judge("survives", pairs(trails, **smaller))
    assert (verdict, seeds) == (statistics.SMALL_SCALE, 3)
    # t with two degrees of freedom: 4.303 · 10 / √3 = 24.8 points
    below = (
        "There the claim is not reproduced: the difference, −24.8 to +24.8 points, is below"
    )
    assert f"{below} the paper's 30.0 for ResNet-56." in said
    assert judge("survives", pairs(two, **smaller))[:2] == (statistics.NOT_MEASURED, 0)
    for other in ({"network": "ResNet-20", "epochs": 50}, {"network": "ResNet-8"}):
        found = pairs(leads, **(smaller | other))
        assert judge("survives", found)[0] == statistics.NOT_MEASURED
    both = pairs(leads, **smaller) + pairs(trails)
    assert judge("survives", both)[0] == statistics.NOT_REPRODUCED


@pytest.mark.parametrize("network", ["ResNet-20", "ResNet-56"])
def test_an_interval_with_0_and_the_papers_number_decides_nothing(network):
    epochs = {"ResNet-20": 20, "ResNet-56": 50}[network]
    # the mean is 5 points, and t with two degrees of freedom makes ±4.303 · 25 / √3 = ±62.1
    verdict, _, said = judge("survives", pairs([0.30, -0.20, 0.05], network, epochs))
    small = network == "ResNet-20"
    assert verdict == (statistics.SMALL_SCALE if small else statistics.NOT_REPRODUCED)
    ends = "−57.1 to +67.1 points, includes both 0 and the paper's 30.0 for ResNet-56."
    assert (
        f"There 3 seeds do not decide the claim: the interval of the difference, {ends}"
        in said
    )


def test_the_papers_number_is_that_of_the_same_network():
    found = pairs([0.30, -0.20, 0.05], "ResNet-110")
    said = judge("survives", found, ["ResNet-56", "ResNet-110"])[2]
    assert "includes both 0 and the paper's 30.0 for ResNet-110." in said


def test_an_interval_that_ends_at_the_papers_number_includes_it():
    ((_, pair),) = rules.pairs(records.table(pairs([0.0] * 3))).items()
    said = rules.said_of_half({"values": {"ResNet-56": [0.4, 0.4]}}, pair)
    assert said == (
        "3 seeds do not decide the claim: the interval of the difference, +0.0 to +0.0 points,"
        " includes both 0 and the paper's 0.0 for ResNet-56"
    )


def test_a_network_that_is_neither_the_claims_nor_the_stand_in_means_nothing_for_it():
    found = pairs([-0.2, -0.25, -0.3], "ResNet-110") + pairs([0.2, 0.25, 0.3])
    verdict, seeds, said = judge("survives", found)
    assert (verdict, seeds) == (statistics.REPRODUCED, 3)
    first, second = said.split("ResNet-56 after 50 epochs")
    assert first.startswith("ResNet-110")
    assert "There" not in first
    assert second.endswith("There the claim is reproduced.")


def test_survives_compares_seeds_that_both_have():
    lonely = record("stochgradadam", 9, 0.99)
    assert judge("survives", [*pairs([0.1, 0.1, 0.11]), lonely]) == judge(
        "survives", pairs([0.1, 0.1, 0.11])
    )


def test_other_epochs_and_missing_networks_do_not_count():
    short = pairs([0.2, 0.2, 0.21], epochs=15)
    verdict, seeds, ours = judge("survives", short)
    assert (verdict, seeds) == (statistics.NOT_MEASURED, 0)
    assert "after 15 epochs on CIFAR-10 (3 seeds)" in ours
    assert "ResNet-56 after 50 epochs with 3 seeds is not on record." in ours
    verdict, _, ours = judge("survives", pairs([0.2, 0.2, 0.21]), ["ResNet-56", "ResNet-110"])
    assert verdict == statistics.PARTLY
    assert "ResNet-110 after 50 epochs with 3 seeds is not on record." in ours


def test_ahead_at_every_rate():
    found = pairs([0.1, 0.1, 0.1], before=0.81)
    assert judge("ahead_at_every_rate", found)[0] == statistics.REPRODUCED
    worse_before = pairs([0.1, 0.1, 0.1], before=0.79)
    verdict, _, ours = judge("ahead_at_every_rate", worse_before)
    assert verdict == statistics.NOT_REPRODUCED
    assert (
        "is ahead at 9 of 10 rates in the mean, and the 95 % interval of the lead is above 0"
        " at 9 of them; before pruning the two then have 79.00 ± 0.00 against 80.00 ± 0.00 %"
        in ours
    )
    # behind at a rate, 0, and before pruning
    assert (
        "There the claim is not reproduced: StochGradAdam is clearly behind in 2 of 11" in ours
    )
    single = judge("ahead_at_every_rate", pairs([0.1], before=0.79))[2]
    assert (
        "is ahead at 9 of 10 rates; before pruning the two then have 79.00 against" in single
    )
    noisy = judge("ahead_at_every_rate", pairs([0.1, -0.1, 0.05]))[2]
    assert "95 % interval of the lead is above 0 at none of them" in noisy
    neither = "StochGradAdam is not clearly behind at any rate or before pruning."
    assert f"There 3 seeds do not decide the claim: {neither}" in noisy
    assert "with batch norm re-estimated 79.00 ± 0.00 against 80.00 ± 0.00 %" in ours
    assert judge("ahead_at_every_rate", pairs([-0.1] * 3))[0] == statistics.NOT_REPRODUCED


@pytest.mark.parametrize(
    ("mean", "clearly"),
    [
        # t = 0.0697 √3 / 0.01 = 12.1, p = 0.0068 on two sides; of 11 the least needs 0.0045
        (0.0697, False),
        (0.0962, True),  # t = 16.7, p = 0.0036
    ],
)
def test_clearly_behind_is_tested_on_two_sides_and_corrected(mean, clearly):
    found = pairs([0.0] * 3)
    for one, more in zip(found[3:], (-0.01, 0.0, 0.01), strict=True):
        one["accuracy_global"][5] -= mean + more
    said = judge("ahead_at_every_rate", found)[2]
    assert ("There 3 seeds do not decide the claim" in said) != clearly
    assert (
        "There the claim is not reproduced: StochGradAdam is clearly behind in 1 of 11" in said
    ) == clearly


def test_ahead_at_every_rate_needs_all_rates_the_course_before_pruning_and_a_course():
    behind = pairs([-0.01] * 3, before=0.81)  # ahead before pruning alone
    assert judge("ahead_at_every_rate", behind)[0] == statistics.NOT_REPRODUCED
    found = pairs([0.1] * 3, before=0.81)
    for one in found:
        one["accuracy_recalibrated"] = [0.7, *[0.1] * (len(RATES) - 1)]
        if one["method"] == "stochgradadam":  # ahead at the end, behind over the last epochs
            one["course"] = one["course"] | {"unpruned": [0.7] * 12}
    verdict, _, said = judge("ahead_at_every_rate", found)
    assert verdict == statistics.NOT_REPRODUCED
    assert "and the 95 % interval of the lead is above 0 at 10 of them;" in said
    assert "re-estimated 70.00 ± 0.00 against 70.00 ± 0.00 %" in said
    assert "is ahead at 0 of 10" in judge("ahead_at_every_rate", pairs([0.0] * 3))[2]
    del found[0]["course"]
    assert judge("ahead_at_every_rate", found)[0] == statistics.NOT_MEASURED


def test_without_a_course_the_last_epoch_counts():
    found = records.table(pairs([0.1, 0.11, 0.12])).drop(columns="course.pruned")
    ((ours, theirs),) = rules.pairs(found).values()
    assert rules.ahead_at_half((ours, theirs))
    assert not rules.ahead_at_half((theirs, ours))
    late = rules.late(ours, "pruned")
    assert late.isna().all()
    assert late.dtype == float
    assert list(late.index) == [0, 1, 2]


def test_nothing_is_said_of_nothing_and_no_smaller_network_need_stand_in():
    assert judge("survives", []) == (statistics.NOT_MEASURED, 0, "")
    claim = {"networks": ["ResNet-56"], "dataset": "cifar10", "epochs": 50}
    # ResNet-110 comes first, and its two seeds decide nothing
    found = records.table(pairs([0.2, 0.25], "ResNet-110") + pairs([0.2, 0.25, 0.3]))
    verdict, seeds, said = rules.survives(claim, found)
    assert (verdict, seeds) == (statistics.REPRODUCED, 3)
    assert said.startswith("ResNet-110 after 50 epochs on CIFAR-10 (2 seeds): the mean")
    assert "ResNet-56 after 50 epochs on CIFAR-10 (3 seeds): the mean" in said
    other = records.table(pairs([0.2, 0.25, 0.3], "ResNet-110"))
    assert rules.survives(claim, other)[:2] == (statistics.NOT_MEASURED, 0)
    small = judge("survives", pairs([0.2, 0.25, 0.3], "ResNet-20", 20))[2]
    assert small.startswith("ResNet-20 after 20 epochs on CIFAR-10 (3 seeds): the mean")


def test_intervals_of_accuracies_stay_between_0_and_100():
    half = 4.302652729911275 / 3**0.5  # Student's t of two degrees of freedom, standard tables
    said = rules._against(pandas.Series([0.98, 0.99, 1.0]), pandas.Series([0.0, 0.01, 0.02]))
    high, low = f"[{99 - half:.2f}, 100.00]", f"[0.00, {1 + half:.2f}]"
    assert said == f"99.00 ± 1.00 {high} against 1.00 ± 1.00 {low} %"


@pytest.mark.parametrize(
    ("sd", "verdict"), [(0.11, statistics.REPRODUCED), (0.09, statistics.NOT_REPRODUCED)]
)
def test_spreads(sd, verdict):
    found, _, ours = judge("spreads", pairs([0.1] * 3, sd=sd))
    assert found == verdict
    assert f"standard deviation is {sd:.4f} against 0.1000" in ours
    refuted = (
        "There the claim is not reproduced: the difference, −0.0100 to −0.0100, is below 0"
    )
    assert (refuted in ours) == (sd < 0.1)
    assert ("There the claim is reproduced." in ours) == (sd > 0.1)


def test_wider_weights_in_every_seed_are_said_where_the_seeds_do_not_decide():
    found = pairs([0.1] * 3)
    for one, more in zip(found[3:], (0.001, 0.002, 0.009), strict=True):
        one["weights"] = one["weights"] | {"sd": 0.1 + more}
    verdict, _, said = judge("spreads", found)
    assert verdict == statistics.NOT_REPRODUCED
    # mean 0.0040, ± 4.303 · 0.00436 / √3
    ends = "−0.0068 to +0.0148, includes 0, although the weights are wider in all 3 seeds."
    assert (
        f"There 3 seeds do not decide the claim: the interval of the difference, {ends}"
        in said
    )
    found[3]["weights"]["sd"] = 0.099
    assert "includes 0." in judge("spreads", found)[2]


def test_equal_spreads_decide_nothing():
    said = judge("spreads", pairs([0.1] * 3))[2]
    assert said.endswith("the interval of the difference, +0.0000 to +0.0000, includes 0.")


def test_tables_say_mean_and_deviation_over_seeds():
    found = [record("adam", 0, 0.3), record("adam", 1, 0.5), record("stochgradadam", 0, 0.6)]
    table = tables.by_rate(found)
    assert list(table.columns) == ["Adam", "StochGradAdam"]
    assert list(table.index) == [f"{100 * rate:.0f} %" for rate in RATES]
    assert table.loc["50 %", "Adam"] == "40.00 ± 14.14"
    assert table.loc["50 %", "StochGradAdam"] == "60.00"
    half = tables.at_half(found)
    assert half.loc["global, re-estimated", "Adam"] == "80.0 ± 0.0"
    against = tables.against_paper(
        found, {"values": {"ResNet-56": [0.6, 0.3], "ResNet-110": [0.7, 0.4]}, "epochs": 50}
    )
    assert against.loc["ResNet-56", ("here", "Adam")] == "40.00 ± 14.14 (2 seeds)"
    assert against.loc["ResNet-56", ("paper", "StochGradAdam")] == "60.00"
    assert against.loc["ResNet-110", ("here", "Adam")] == "not measured"


def test_settings_keep_schedules_apart():
    found = [
        record("adam", 0, 0.3),
        record("adam", 0, 0.7, schedule="cosine"),
        record("sgd", 0, 0.6),
    ]
    table = tables.settings(found)
    assert list(table.index) == ["Adam", "SGD with momentum", "Adam, cosine"]
    assert list(table["50 %"]) == ["30.0", "60.0", "70.0"]


def test_what_is_missing_counts_the_paper_profile():
    configs = resnet_pruning.configs("paper")
    done = [dataclasses.asdict(config) for config in configs[:2]]
    table = tables.missing(done)
    assert table["of"].sum() == len(configs)
    assert table["runs missing"].sum() == len(configs) - 2


def test_titles_follow_the_records():
    one = [record("adam", 0, 0.3), record("stochgradadam", 0, 0.5, sd=0.12)]
    about = "With half of the weights removed after the last epoch, "
    assert says.finding(one) == f"{about}+20.0 points in one seed, which is no evidence"
    assert says.wider(one) == "+0.0200 in one seed, which is no evidence"
    clear = pairs([0.2, 0.21, 0.22], sd=0.12)
    # t with two degrees of freedom: 4.303 * 0.01 / sqrt(3) = 2.5 points
    assert says.finding(clear).endswith("StochGradAdam leads by 21.0 points [18.5, 23.5]")
    assert says.wider(clear).startswith("StochGradAdam has wider weights, by 0.0200")
    unclear = says.finding(pairs([0.3, -0.2, 0.05]))
    assert unclear.startswith(f"{about}neither optimizer clearly leads, +5.0 points [−57.")
    behind = says.finding(pairs([-0.2, -0.21, -0.22]))
    assert behind.endswith("Adam leads by 21.0 points [18.5, 23.5]")


CLAIM = {
    "networks": ["ResNet-56", "ResNet-110"],
    "epochs": 50,
    "dataset": "cifar10",
    "values": {"ResNet-56": [0.6, 0.3], "ResNet-110": [0.7, 0.4]},
}


def test_the_answer_claims_what_the_records_carry():
    claims = {"S1": CLAIM}
    nothing = says.answer([record("adam", 0, 0.3)], claims)
    assert nothing["S1"].startswith("**ResNet-56 and ResNet-110 are not measured yet.**")
    assert "has **" not in nothing["S2"]
    short = [one | {"study": "short"} for one in pairs([0.2, 0.21, 0.22], "ResNet-20", 20)]
    said = says.answer(short, claims)
    assert "are not measured yet" in said["S1"]
    assert "**61.0 ± 1.0 %** after StochGradAdam and **40.0 ± 0.0 %** after Adam" in said["S1"]
    assert "(StochGradAdam leads by 21.0 points [18.5, 23.5])" in said["S1"]
    assert "In this smaller network the claim is reproduced." in said["S1"]
    # before pruning both have 80 %
    assert "lead is above 0 at 9 of them" in said["S2"]
    assert "In this smaller network 3 seeds do not decide the claim: Stoch" in said["S2"]
    one = says.answer([r for r in short if r["seed"] == 0], claims)
    assert "StochGradAdam is ahead at 9 of 10 rates. The paper" in one["S2"]
    assert not any("the claim" in sentence for sentence in (one["S2"], one["S3"]))
    assert "The paper has 60.00 and 30.00 % for ResNet-56 (Figure 1)." in said["S1"]
    assert "moves by 0.0 points" in says.moves(short)
    assert "80.0 ± 0.0 %" in says.reestimated(short)
    assert "most of the damage" in says.reestimated(short)
    for one in short:
        one["course"] = one["course"] | {"recalibrated": one["course"]["pruned"]}
    assert "most of the damage" not in says.reestimated(short)
    wanted = "*Smaller than the paper's · ResNet-20 · CIFAR-10 · 20 epochs · 3 seeds · bands*"
    assert says.caption(short, "bands") == wanted
    # once a network of the claim has three seeds, the answer and the figures are about it
    both = [*short, *pairs([0.1, 0.1, 0.1])]
    said = says.answer(both, claims)
    assert "not measured" not in said["S1"]
    assert "removed, ResNet-56 has **50.0" in said["S1"]
    assert "ResNet-20" not in said["S1"]
    assert "smaller network" not in said["S1"]
    assert "In ResNet-56 the claim is reproduced." in said["S1"]
    assert {r["network"] for r in says.shown(both, CLAIM)} == {"ResNet-56"}
    assert "**ResNet-110 is not" in says.still_missing(both, CLAIM)
    assert {r["network"] for r in says.shown(short, CLAIM)} == {"ResNet-20"}


def test_the_headline_is_of_the_claims_own_networks():
    said = readme.headline(CLAIM, records.table(pairs([0.3, 0.3, 0.3], "ResNet-20", 50)))
    assert "classifies **60.00 %** correctly after" in said
    assert "not measured yet" in said
    short = readme.headline(CLAIM, records.table(pairs([0.3, 0.3, 0.3], epochs=10)))
    assert "not measured yet" in short
    said = readme.headline(CLAIM, records.table(pairs([0.3, 0.3, 0.3])))
    assert said.startswith("ResNet-56 with half of its weights pruned classifies **70.0 %** c")
    assert "40.0 % with Adam (mean of 3 seeds and of the last 10 epochs;" in said
    assert "the difference is 30.0 points)." in said
    assert said.endswith("The paper reports 60.00 and 30.00 %.")


def test_the_headline_names_the_smaller_network_that_stands_in():
    claim = CLAIM | {"stand_in": {"network": "ResNet-20", "epochs": 20}}
    small = pairs([0.3, 0.2, 0.1], "ResNet-20", 20)
    for one in small:  # the last epoch alone is not what counts
        one["pruned_accuracy"] = 0.9
    said = readme.headline(claim, records.table(small))
    assert said.startswith("A small network, ResNet-20, classifies **60.0 %** correctly with")
    assert "40.0 % with Adam (mean of 3 seeds and of the last 10 of 20 epochs;" in said
    # 20 ± t · 10 / √3, and t = 4.303 with two degrees of freedom
    assert "the difference is 20.0 [−4.8, 44.8] points)." in said
    assert "reports 60.00 % and 30.00 % for ResNet-56, which is not measured yet" in said
    assert "ResNet-20" not in readme.headline(claim, records.table(small[:-1]))


def test_the_last_ten_epochs_of_a_course():
    found = pairs([0.2, 0.3])
    for one in found:
        one["course"]["pruned"] = [
            *[0.0] * 12,
            *[one["pruned_accuracy"] + 0.02 * (k % 2) for k in range(10)],
        ]
    table = tables.late(found, "ResNet-56")
    assert table.loc["Adam", "half removed"] == "41.0 ± 0.0"
    assert table.loc["StochGradAdam", "half removed"] == "66.0 ± 7.1"
    assert table.loc["StochGradAdam", "seeds"] == 2
    # eleven epochs have ten moves: nine of 2 points and one from 0 up to the level
    assert table.loc["Adam", "change per epoch"] == f"{(9 * 2 + 40) / 10:.1f}"
    # of a short course the second half counts, never the first epochs
    for one in found:
        one["course"]["pruned"] = [0.0] * 5 + [0.5, 0.6, 0.5, 0.6, 0.5]
    short = tables.late(found, "ResNet-56")
    assert short.loc["Adam", "half removed"] == "54.0 ± 0.0"
    assert short.loc["Adam", "change per epoch"] == f"{(4 * 10 + 50) / 5:.1f}"
    _, ax = plt.subplots()
    figures.course(found, ax)
    figures.paper_marks({"ResNet-56": (0.6284, 0.3312)}, ax)
    assert sum(line.get_linestyle() == ":" for line in ax.get_lines()) == 2
    named = [text.get_text() for text in ax.figure.legends[0].get_texts()]
    assert named[2:] == [
        "paper, ResNet-56, StochGradAdam: 62.8 %",
        "paper, ResNet-56, Adam: 33.1 %",
    ]
    assert (
        len([line for line in ax.get_lines() if line.get_linewidth() < 1]) == 4
    )  # a seed each
    plt.close("all")


def test_figures_draw_means_and_ranges():
    found = [record("adam", 0, 0.3), record("adam", 1, 0.5), record("stochgradadam", 0, 0.6)]
    _, (upper, lower) = plt.subplots(2, 1)
    figures.pruning_rates(found, upper)
    figures.pruning_rates(found[:2], lower)
    adam, ours = upper.get_lines()
    assert adam.get_ydata()[5] == pytest.approx(40)
    assert ours.get_ydata()[5] == pytest.approx(60)
    named = [text.get_text() for text in upper.figure.legends[0].get_texts()]
    assert named == ["Adam", "StochGradAdam"]  # also where the last panel lacks one
    _, ax = plt.subplots()
    wide = [one | {"bins": [-1.5, 1.5, 3]} for one in found[:2]]
    figures.weight_densities([*wide, found[2]], ax)
    assert len(ax.get_lines()) == 1  # the third has the narrower bins of the first records
    assert max(ax.get_lines()[0].get_ydata()) == pytest.approx(
        1.0
    )  # all 100 weights in a bin of width 1
    _, ax = plt.subplots()
    figures.confusion([[3, 1], [0, 4]], ["a", "b"], ax)
    assert [text.get_text() for text in ax.texts] == ["75", "25", "100"]
    _, ax = plt.subplots()
    figures.settings([*found, record("sgd", 0, 0.2)], ax)
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels == ["Adam", "StochGradAdam", "SGD with momentum"]
    assert [line.get_xdata()[0] for line in ax.get_lines()[1:6:2]] == pytest.approx(
        [40, 80, 60]
    )
    _, ax = plt.subplots()
    other = record("stochgradadam", 0, 0.7, sampling_rate=0.5)
    figures.sampling_rates([*found, other, record("sgd", 0, 0.1) | {"course": None}], ax)
    assert list(ax.get_xticks()) == [0.5, 0.8, 1.0]
    half = next(line for line in ax.get_lines() if line.get_label() == "half removed")
    assert half.get_ydata() == pytest.approx([70, 60, 40])
    plt.close("all")


CONTROL, OTHER = "adam, 0.8 of the batch", "adam, 0.894 of the rate"


def controlled(*gains, method=CONTROL, **more):
    """Short runs of StochGradAdam at 40 % with half removed, and of a control that is ahead by
    each gain, a seed each."""
    short = {"network": "ResNet-20", "epochs": 20, "study": "short"}
    return [
        record(method, seed, 0.4 + 0.01 * seed + gain, **short | more)
        for seed, gain in enumerate(gains)
    ]


def test_controls_lie_as_far_from_the_mask_as_a_paired_test_says():
    plain = controlled(0, 0, 0, method="stochgradadam")
    gains = np.array([0.02, 0.05, 0.02])
    found = [*plain, *controlled(*gains), *controlled(0.1, 0.1, 0.1, method="adam")]
    table = tables.controls([*found, *controlled(0.3, 0.3, method=OTHER)])  # two seeds
    assert list(table.index) == [CONTROL]
    row = table.iloc[0]
    # one control and the mask: the analysis of variance is the paired t-test
    test = stats.ttest_rel(gains, np.zeros(3))
    assert row.accuracy == pytest.approx(44)
    assert row.gain == pytest.approx(3)
    assert row.p == pytest.approx(test.pvalue)
    low, high = test.confidence_interval()
    assert (row.low, row.high) == pytest.approx((100 * low, 100 * high))
    shown = tables.shown_controls(found)
    assert shown.loc["Adam, 0.8 of the batch", "half removed"] == "+3.0 [−1.3, 7.3]"
    assert tables.shown_controls(plain) is PENDING
    assert tables.controls(controlled(0, 0, 0)).empty  # nothing to compare with
    # a record without a course is none
    assert tables.controls([r | {"course": None} for r in found]).empty


def test_what_the_mask_does_is_said_as_far_as_the_intervals_carry():
    plain = controlled(0, 0, 0, method="stochgradadam")
    lacking = "Fewer than 3 seeds are on record of "
    assert says.mask(plain).startswith(f"{lacking}Adam on 0.8 of the batch, ")
    unclear = says.mask([*plain, *controlled(0.3, -0.2, 0.05)])
    assert "half of the weights removed, no control is clearly apart from" in unclear
    assert "reach 67.1 points from 0" in unclear
    assert lacking in unclear
    assert "batch" not in unclear.split(lacking)[1]
    assert says.caption([*plain, *controlled(0.1)]).count("1 to 3 seeds") == 1
    both = [*plain, *controlled(0.2, 0.21, 0.2), *controlled(-0.2, -0.2, -0.21, method=OTHER)]
    said = says.mask(both)
    assert "Adam on 0.8 of the batch is clearly above StochGradAdam" in said
    assert "Adam at 0.894 of the rate is clearly below StochGradAdam" in said
    assert "re-estimated too, no control is clearly apart" in said
    claims = dict.fromkeys(("S1", "S2", "S3"), CLAIM)
    answer = says.answer([*both, *controlled(0, 0, 0, method="adam")], claims)["S1"]
    assert "is −20.3 [" in answer
    assert "] points for Adam at 0.894 of the rate and +20.3 [" in answer
    assert "Adam on 0.8 of the batch is clearly above it (Figure 4; 2 of 4" in answer


def test_sampling_rates_are_compared_with_adam():
    adam = controlled(0, 0, 0, method="adam")
    eight = controlled(0.01, 0.0, 0.0, method="stochgradadam", sampling_rate=0.8)
    assert says.rates([*adam, *eight]) == ""
    low = controlled(
        -0.2, -0.2, -0.21, method="stochgradadam", sampling_rate=0.5, study="short sampling"
    )
    said = says.rates([*adam, *eight, *low])
    assert "half of the weights removed, s = 0.5 is clearly below s = 1." in said
    assert "a correction for 2 rates" in said


@pytest.mark.parametrize("draw", [figures.settings, figures.sampling_rates])
def test_two_optimizers_alone_are_no_control_and_no_curve(draw):
    two = [record("adam", 0, 0.3), record("stochgradadam", 0, 0.6)]
    for found in ([], two, [*two, record("sgd", 0, 0.2, sampling_rate=0.5, course=None)]):
        fig, ax = plt.subplots()
        draw(found, ax)
        assert not fig.axes
        assert style.absent(fig) == [("", tables.COMMAND)]
    plt.close("all")
    profile = tables.COMMAND.split()[-1]
    listed = resnet_pruning.configs(profile)
    assert {c.method for c in listed} - {"adam", "stochgradadam"}
    assert len({c.sampling_rate for c in listed}) > 2


def test_overhead_is_timed_and_drawn_up():
    config = resnet_pruning.Overhead(depth=8, batch_size=8, rounds=2)
    found = records.run_one(resnet_pruning.run, config)
    assert (
        found["step_ratio"]
        == found["step_seconds"]["stochgradadam"] / found["step_seconds"]["adam"]
    )
    assert found["epoch_seconds"]["adam"] == pytest.approx(
        6250 * found["step_seconds"]["adam"]
    )
    assert found["update_seconds"]["adam"] < found["step_seconds"]["adam"]
    table = tables.costs([found, record("adam", 0, 0.3)])
    assert list(table.columns) == ["ResNet-8"]
    assert table.loc["step, ratio", "ResNet-8"] == f"{found['step_ratio']:.2f}"
    assert [c.depth for c in resnet_pruning.configs("overhead")] == [20, 56]
