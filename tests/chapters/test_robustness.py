"""The chapter on attacks and shifts."""

import math
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas
import pytest
import torch
from scipy import stats
from torch import nn

from pruning import comparison, masks, sparsity_report, training
from pruning.chapters.robustness import experiment, figures, tables
from pruning.evidence import records

FAST = replace(experiment.QUICK, epochs=4, finetune_epochs=2)


@pytest.fixture
def quickly(monkeypatch):
    """The networks that others are attacked from, trained for a few epochs."""
    monkeypatch.setattr(experiment, "QUICK", FAST)
    experiment.transferred.cache_clear()
    yield
    experiment.transferred.cache_clear()


class Scaled(nn.Module):
    """The same answers, with logits so far apart that the cross entropy has no gradient."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return 1e6 * self.model(x)


def test_masked_gradients_are_noticed(quickly, digits):
    model = experiment.network(replace(FAST, method="dense", density=1.0), digits)
    honest = experiment.under_attack(model, "digits")
    masked = experiment.under_attack(Scaled(model), "digits")
    assert masked["attacked_accuracy"] == honest["attacked_accuracy"]
    assert max(honest["missed"]) < 0.02
    assert max(masked["missed"]) > 0.3
    assert honest["pgd"][-1][-1] < 0.05


def test_the_curves_of_a_record_fit_together(quickly):
    config = replace(FAST, method="magnitude", density=0.3)
    (record,) = records.sweep(experiment.run, [config], None, jobs=1, progress=False)
    rows = len(experiment.EPSILONS)
    pgd = torch.tensor(record["pgd"])
    assert pgd.shape == (experiment.RESTARTS, rows)
    assert (pgd[1:] <= pgd[:-1]).all()
    for name in ("fgsm", "random", "transfer_dense", "transfer_gates", "missed"):
        assert len(record[name]) == rows
    strong = experiment.EPSILONS.index(0.1)
    assert pgd[-1][strong] <= record["fgsm"][strong]
    assert record["fgsm"][strong] < record["random"][strong] <= record["attacked_accuracy"]
    assert record["kept"] == round(0.3 * record["dense_weights"])
    assert 0 < record["inputs_read"] <= 64
    for name, levels in experiment.LEVELS.items():
        assert len(record["corrupted"][name]) == len(levels)
    assert record["distance"] == sorted(record["distance"])


def test_relative_importance_and_magnitude_prune_the_same_network(digits):
    one, other = (
        experiment.network(replace(FAST, method=m, density=0.3, finetune_epochs=0), digits)
        for m in ("relative", "magnitude")
    )
    assert sparsity_report(one).kept.sum() == sparsity_report(other).kept.sum()
    both = masks(one)["0"] & masks(other)["0"]
    assert both.any()
    assert torch.equal(one[0].weight[both], other[0].weight[both])
    assert not torch.equal(masks(one)["0"], masks(other)["0"])


def test_sampled_gradients_train_another_network(digits):
    one, other = (
        experiment.network(replace(FAST, method=method, density=0.3), digits)
        for method in ("stochgrad", "magnitude")
    )
    assert sparsity_report(one).kept.sum() == sparsity_report(other).kept.sum()
    assert not torch.equal(one[0].weight, other[0].weight)


def test_a_recorded_network_has_its_recorded_accuracy(mnist):
    path = records.records_folder() / "why_gates_win.jsonl"
    (known,) = records.select(records.read(path), study="networks", network=0)
    model = experiment.recorded(0)
    found = training.evaluate(model, mnist.test.inputs, mnist.test.targets)
    assert found.accuracy == pytest.approx(known["test_accuracy"], abs=2e-4)
    assert sparsity_report(model).kept.sum() == comparison.PAPER_WEIGHTS


def test_only_networks_on_record_are_called_recorded():
    with pytest.raises(ValueError, match="source: got 'recorded' for 'dense'"):
        experiment.Config(method="dense", source="recorded")
    with pytest.raises(ValueError, match="method: got 'rigl'"):
        experiment.Config(method="rigl")


def test_the_attacked_networks_are_not_those_attacked_from():
    wanted = {replace(c, density=1.0) for c in experiment.configs("paper")}
    for surrogate in experiment._surrogates("mnist"):
        assert replace(surrogate, density=1.0) not in wanted


def record(method, density, clean, pgd, seed, epochs=15, **more):
    """A record as far as the tables read it; the curve of PGD is given at each ε."""
    n = len(experiment.EPSILONS)
    return {
        "method": method,
        "density": density,
        "seed": seed,
        "epochs": epochs,
        "finetune_epochs": 5,
        "kept": round(1000 * density),
        "inputs_read": 10,
        "dataset": "mnist",
        "attacked": 100,
        "attacked_accuracy": clean,
        "test_accuracy": clean,
        "epsilons": list(experiment.EPSILONS),
        "pgd": [[value + 0.01 for value in pgd], pgd],
        "fgsm": [value + 0.02 for value in pgd],
        "random": [clean] * n,
        "transfer_dense": [clean] * n,
        "transfer_gates": [clean] * n,
        "missed": [0.0] * n,
        "distance": [0.01, 0.02, 0.03],
        "levels": {name: list(levels) for name, levels in experiment.LEVELS.items()},
        "corrupted": {name: [clean, clean - 0.1, 0.2] for name in experiment.LEVELS},
    } | more


def falling(half):
    """The curve 1 − ε / (2 half), which is ½ at ε = half."""
    return [max(0.0, 1 - eps / (2 * half)) for eps in experiment.EPSILONS]


def evidence():
    found = []
    for seed in range(3):
        up = 0.001 * seed
        found += [
            record("gates", 0.1, 0.96, falling(0.06 + up), seed),
            record("dense", 0.2, 0.955, falling(0.02 + up), seed),
            record("dense", 0.4, 0.98, falling(0.03 + up), seed),
            record("dense", 1.0, 0.99, falling(0.04 + up), seed),
            record("dense", 1.0, 0.96, falling(0.05 + up), seed, epochs=-4),
            record("magnitude", 0.3, 0.979, falling(0.01 + up), seed),
        ]
    return found


def test_the_radius_is_where_half_of_the_images_are_left():
    assert tables.radius(record("gates", 0.1, 1.0, falling(0.04), 0)) == pytest.approx(0.04)
    assert math.isnan(tables.radius(record("gates", 0.1, 0.4, falling(0.04), 0)))


def test_pruned_networks_are_compared_with_dense_ones_of_their_accuracy():
    rows = tables.frame(evidence())
    assert tables.nearest(rows, "gates, 10 %") == "dense, 200 weights"
    assert tables.nearest(rows, "magnitude, 30 %") == "dense, 400 weights"
    table = tables.compared(evidence())["half at ε"]
    narrow, early, whole = "dense, 200 weights", "dense, stopped early", "dense"
    assert list(table["gates, 10 %"].index) == [narrow, early, whole]
    assert list(table["magnitude, 30 %"].index) == ["dense, 400 weights", early, whole]
    # Welch's interval of two samples of deviation 0.1: 4 ± t(0.975, 4) · 0.1 · √(2 / 3)
    half = 2.776 * 0.1 * math.sqrt(2 / 3)
    for other, expected in ((narrow, 4), (early, 1), (whole, 2)):
        mean, ends = table["gates, 10 %", other].split(" [")
        assert float(mean) == expected
        low, high = map(float, ends[:-1].split(","))
        assert (low, high) == pytest.approx((expected - half, expected + half), abs=0.051)


def test_kinds_differ_where_a_test_corrected_for_their_number_says_so():
    ours = [4.8, 5.0, 5.2]
    found = [
        {"kind": kind, "radius": value}
        for kind, shift in (("dense", 0), ("far", 9), ("far below", -4), ("near", 0.5))
        for value in np.array(ours) + shift
    ]
    rows = pandas.DataFrame(found)
    # alone, a difference of 0.5 at an error of √(2/3) · 0.2 has p = 0.038 of two sides
    p = stats.ttest_ind(np.array(ours) + 0.5, ours, equal_var=False).pvalue
    assert 0.03 < p < 0.05
    names = ["far", "far below", "near"]
    sides = {"far": 1, "far below": -1, "near": 1}
    assert tables._sides(rows, dict.fromkeys(names, "dense")) == sides  # the last of three
    more = ["near", "same"]
    rows = pandas.concat([rows, rows[rows.kind == "dense"].assign(kind="same")])
    assert tables._sides(rows, dict.fromkeys(more, "dense")) == {"near": 0, "same": 0}


def test_the_answer_shows_both_comparisons():
    first, second, third = tables.answer(evidence())
    assert first.startswith("**It depends on the comparison.** Networks of gates with 100 w")
    assert "96.0 % of the unchanged" in first
    assert "images right at ε = 0.061" in first
    assert "that accuracy (95.5 %) are down to half at ε = 0.021" in first
    assert "after one epoch (96.0 %) are down to half at ε = 0.051" in first
    assert (
        "the ε of the gates minus that of the networks stopped early is +1.0 [0.8, 1.2]"
        in (first)
    )
    assert "leaves 61.0 % right for gates, 2.0 % for the narrow networks, 53.0 % for" in first
    assert "We compare 2 kinds of pruned networks with dense ones twice" in second
    both = "1 is harder to fool (gates, 10 %) and 1 is easier to fool (magnitude, 30 %)."
    assert f"nearest clean accuracy {both}" in second
    assert f"(99.0 % of the unchanged images, down to half at ε = 0.041) {both}" in second
    assert (
        "at ε = 0.1 PGD leaves at most 19 % of the images right" in second
    )  # 1 − 0.1 / 0.124
    narrow, early = third.split(" for the narrow network, and ")
    assert "+0.5" in narrow.split("under noise")[0]
    assert early.startswith("+0.0 under noise")


def test_the_answer_says_where_gates_trained_longer():
    assert "trained for" not in tables.answer(evidence())[1]
    longer = [r | {"epochs": 75} if r["method"] == "gates" else r for r in evidence()]
    assert "trained for" not in tables.answer(longer)[1]  # no dense network did
    again = [record("dense", 0.2, 0.95, falling(0.012), s, epochs=75) for s in range(3)]
    second = tables.answer(longer + again)[1]
    assert (
        "Gates trained for 80 epochs, and the whole dense networks for 20. After 80" in second
    )
    assert "the narrow ones are down to half at ε = 0.012" in second


def test_the_answer_is_no_or_yes_where_both_comparisons_agree():
    harder = [r for r in evidence() if r["method"] != "magnitude"]
    first, second, _ = tables.answer(harder)
    assert first.startswith("**No.**")
    assert "Other kinds of pruned networks are not on record yet." in second
    brittle = [
        r | {"pgd": [falling(0.005 + 0.001 * r["seed"])] * 2} if r["method"] == "gates" else r
        for r in evidence()
    ]
    first, second, _ = tables.answer(brittle)
    assert first.startswith("**Yes.**")
    assert second.count("all 2 are easier to fool") == 2
    level = [
        r | {"pgd": [falling(0.04 + 0.001 * r["seed"])] * 2} if r["kept"] < 400 else r
        for r in evidence()
    ]
    first, second, _ = tables.answer(level)
    assert first.startswith("**It depends on the comparison.**")
    assert "down to half at ε = 0.041) all 2 are not decided." in second


def test_the_checks_name_the_worst_case():
    found = evidence()
    found[3]["missed"][2] = 0.07
    table = tables.checks(found)
    assert table.iloc[0] == pytest.approx(7)
    assert table.iloc[1] == 0  # FGSM is nowhere below PGD
    assert table.iloc[2] == pytest.approx(1)
    found[0]["transfer_gates"][0] = 0.0
    assert tables.checks(found).iloc[1] == pytest.approx(100 * found[0]["pgd"][-1][0])


def test_figures_draw_what_is_there():
    fig, axes = plt.subplots(3, 1)
    kinds = tables.four(evidence())
    assert kinds == ["gates, 10 %", "dense, 200 weights", "dense, stopped early", "dense"]
    figures.shifts(evidence(), kinds, axes)
    assert [len(ax.get_lines()) for ax in axes] == [4, 4, 4]
    plt.close(fig)
    fig, ax = plt.subplots()
    figures.by_accuracy(evidence(), ax)
    figures.annotate(ax, evidence())
    line = ax.get_lines()[0]
    assert line.get_xdata().tolist() == pytest.approx([95.5, 98, 99])
    assert line.get_ydata().tolist() == pytest.approx([2.1, 3.1, 4.1], abs=0.01)
    assert len(ax.texts) == 6
    boxes = [text.get_window_extent() for text in ax.texts]
    assert not any(
        one.overlaps(other) for k, one in enumerate(boxes) for other in boxes[k + 1 :]
    )
    plt.close(fig)
    fig, ax = plt.subplots()
    figures.curves(evidence(), kinds, ax)
    assert len(ax.get_lines()) == 8
    plt.close(fig)
