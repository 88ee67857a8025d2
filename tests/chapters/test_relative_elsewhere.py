"""The chapter on relative importance in other networks."""

import math
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch import nn

from pruning.chapters.relative_elsewhere import experiment, figures, ranges, tables
from pruning.evidence import records
from pruning.evidence.configs import flat
from pruning.figures import style
from pruning.methods.activations import blind_ranges

QUICK = [c for c in experiment.configs("quick") if isinstance(c, experiment.Config)]


@pytest.mark.parametrize("architecture", ["cnn", "transformer"])
@pytest.mark.parametrize("method", ["relative", "ria"])
def test_half_of_the_weights_stay(architecture, method):
    (config,) = [c for c in QUICK if (c.architecture, c.method) == (architecture, method)]
    fast = [replace(config, epochs=1)]
    (record,) = records.sweep(experiment.run, fast, None, jobs=1, progress=False)
    assert record["kept"] == {"cnn": 1880, "transformer": 2464}[architecture] / 2
    assert record["effective"] is None


def test_an_unknown_architecture_is_named():
    with pytest.raises(ValueError, match="architecture: got 'lstm', needs one of"):
        replace(QUICK[0], architecture="lstm")


def test_the_transformer_of_the_text_has_the_weights_it_says():
    from pruning.networks import small

    model = small.PatchTransformer((1, 28, 28), width=48, depth=2)
    weights = [m.weight.numel() for m in model.modules() if isinstance(m, nn.Linear)]
    assert sum(weights) == 16 * 48 + 2 * (4 * 48**2 + 4 * 48**2) + 480 == 38_112


def test_relu_is_blind_where_z_is_not_above_0():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    model[0].bias.data[0] = -100.0  # blind on every sample
    x = torch.randn(500, 3)
    (found,) = ranges.occupied(model, x)
    z = model[0](x).detach()
    assert found["layer"] == "0"
    assert found["occupancy"] == pytest.approx((z <= 0).double().mean().item())
    assert found["always"] == 0.25
    low, high = np.quantile(z.numpy(), (0.01, 0.99))
    assert found["width"] == pytest.approx(-low / (high - low), rel=1e-5)


def test_a_channel_of_a_convolution_counts_its_positions():
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU())
    model[0].weight.data = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1)
    model[0].bias.data.zero_()
    x = torch.ones(3, 1, 4, 5)
    x[0, 0, 0, 0] = -1.0
    (found,) = ranges.occupied(model, x)
    assert found["occupancy"] == pytest.approx(0.5)
    assert found["always"] == 0
    (other,) = ranges.occupied(model, x.abs())
    assert other["always"] == 0.5


def test_a_smooth_activation_has_the_width_of_its_closed_form():
    end = blind_ranges(nn.Sigmoid())[1][0]
    slope = 1 / (1 + math.exp(-end))
    assert slope * (1 - slope) == pytest.approx(0.0025)
    z = np.linspace(-2 * end, 2 * end, 100_001)
    # from −1.96 to 1.96 of `end`
    expected = 2 * 0.96 / (2 * 1.96)
    assert ranges.covered(z, blind_ranges(nn.Sigmoid())) == pytest.approx(expected, rel=1e-3)
    assert ranges.covered(np.zeros(9), [(-math.inf, 0.0)]) == 1.0


def test_a_course_has_the_untrained_network_and_every_epoch():
    config = experiment.Ranges("digits", hidden=(4, 4, 4, 4), epochs=2)
    (record,) = records.sweep(experiment.run, [config], None, jobs=1, progress=False)
    assert len(record["occupancy"]) == 3
    assert {len(epoch) for epoch in record["width"]} == {len(record["layers"])} == {4}


def evidence():
    """All runs, as far as the tables read them: relative importance is 2 points ahead in CNNs
    and 1 behind in the transformer; one threshold is best; each of the moves costs a point."""
    found = []
    for config in experiment.configs("paper"):
        up = 0.001 * config.seed
        if isinstance(config, experiment.Ranges):
            share = 0.4 if config.activation == "relu" else 0.1
            course = [[share] * 4, [share + 0.2] * 4]
            more = {"test_accuracy": 0.9, "occupancy": course, "width": course}
            found.append(flat(config) | more)
            continue
        accuracy = 0.9 + up - 0.1 * config.sparsity - 0.01 * (config.scope == "neuron")
        if config.method == "relative":
            accuracy += -0.01 if config.architecture == "transformer" else 0.02
            s = config.settings
            accuracy -= 0.01 * ((s.alpha, s.beta, s.decay, s.form) != (1, 1, 1, "sum"))
        accuracy += 0.005 * (config.activity == 0.3)
        found.append(flat(config) | {"kept": 1, "test_accuracy": accuracy})
    return found


def test_the_answer_counts_both_sides():
    whole = evidence()
    ahead, moved, aware, blind = tables.answer(whole)
    assert "in **8 of 12** cases and clearly behind in 4" in ahead
    assert "other networks?** In part. With α = β = s = 1 it is" in ahead
    assert "The leads reach from −1.0 to +2.0" in ahead
    # ahead by 2 points, or behind by 1; each of the other settings costs a point of that
    assert (
        "goes from −2.0 points (the transformer on Fashion-MNIST with 50 % removed, β" in ahead
    )
    assert "to +1.0 [1.0, 1.0] points (the CNN on" in ahead
    assert "Its 95 % interval lies above 0 in 4 of 6 cases." in ahead
    assert "points; 4 of them are negative." in ahead
    assert "with one threshold for the whole network and chosen on the test set." in ahead
    assert "the best of four, which favours it." in ahead
    assert "25 % removed, " not in ahead
    assert "by −1.0 points (β = 0 in" in moved
    # every move costs a point of every seed
    assert "The 95 % interval of 72 of these 72 changes excludes 0" in moved
    assert "Once their number is taken into account, 72 are clear." in moved
    assert "We tried 0, 0.01, 0.1, 0.3 and 1 in" in aware
    # both deviate by 0.1 points: 0.5 ± 2.776 · 0.1 · √(2/3)
    assert "at λ = 0.3, and 89.60 [89.35, 89.85] % without a penalty. The" in aware
    assert "The difference is +0.50 [0.27, 0.73] points. This λ was chosen" in aware
    worse = [r | {"test_accuracy": r["test_accuracy"] - 0.1 * r["activity"]} for r in whole]
    assert "The highest mean, 89.60 [89.35, 89.85] %, is without a" in tables._aware(worse)
    assert "from 40 to 60 % for ReLU (width 40 to 60 %)" in blind
    for few in ([], [record for record in whole if record["seed"] < 2]):
        (said,) = tables.answer(few)
        assert said.startswith("These questions are not measured yet")
        assert said.count("?") == 4


def test_leads_are_of_the_same_seeds_and_no_lead_is_clear_with_few():
    found = records.select(evidence(), study="table", architecture="cnn", dataset="cifar10")
    gains = {0: 0.03, 1: 0.01, 2: -0.01}  # beside 0.02, which all seeds have
    found = [
        r
        | {
            "test_accuracy": r["test_accuracy"]
            + gains[r["seed"]] * (r["method"] == "relative")
        }
        for r in found
    ]
    table = tables.leads(found)
    # 5, 3 and 1 points: 3 ± 4.303 · 2 / √3
    assert table["with interval"].unique().tolist() == ["+3.0 [−2.0, 8.0]"]
    t = 3 / (2 / 3**0.5)
    p = 0.5 * (1 - t / (t**2 + 2) ** 0.5)  # Student's t with two degrees of freedom
    assert table.p.tolist() == pytest.approx([min(1, 4 * 2 * p)] * 4)
    (said, *_) = tables.answer(found)
    assert "The seeds do not decide it. With α = β = s = 1 it is clearly ahead" in said
    assert "other settings" not in said


def test_every_score_has_its_best_threshold():
    picked = tables.best_thresholds(tables.of(evidence(), "CNN, CIFAR-10", "table"))
    assert "neuron" not in {r["scope"] for r in picked}
    counts = {
        (m, s): len(records.select(picked, method=m, sparsity=s))
        for m in experiment.SCORED
        for s in experiment.SPARSITIES
    }
    assert set(counts.values()) == {3}


def test_tables_and_figures_show_what_is_there_and_say_what_is_not():
    whole = evidence()
    assert len(tables.accuracies(whole)) == 3 * 4 * 3
    moved = tables.moves(whole)
    assert moved.shape == (4 * 9, 2)
    assert moved.loc[("CNN, CIFAR-10", "β = 0"), "50 % removed"].startswith("−1.0")
    turned = tables.by_threshold(tables.accuracies(whole))
    assert turned.shape == (3 * 4 * 5, 3)
    row = turned.loc["CNN, CIFAR-10, 25 % removed", "Wanda"]
    assert row["the whole network"] == "87.6 ± 0.1"
    assert row["each neuron"] == "86.6 ± 0.1"
    assert tables.by_threshold(tables.PENDING) is tables.PENDING
    leads = tables.shown(tables.leads(whole))
    transformer = leads[leads.index.str.startswith("transformer, Fashion-MNIST, ")]
    assert transformer.lead.tolist() == ["−1.0"] * 4
    assert tables.shown(tables.PENDING) is tables.PENDING
    fig, axes = plt.subplots(1, 3)
    figures.sparsity_curves(whole, axes)
    assert all(len(ax.get_lines()) == 6 for ax in axes)
    plt.close(fig)
    fig, axes = plt.subplots(1, 2)
    figures.through_training(whole, "width", axes[0])
    assert len(axes[0].get_lines()) == 5
    figures.penalty_curves(whole, axes[1])
    assert len(axes[1].get_lines()) == 6
    plt.close(fig)
    fig, axes = plt.subplots(1, 3)
    figures.sparsity_curves([], axes)
    assert not fig.axes
    assert {command for _, command in style.absent(fig)} == {tables.COMMAND}
    plt.close(fig)
    assert tables.moves([]) is tables.leads([]) is tables.accuracies([]) is tables.PENDING


def test_captions_count_seeds():
    whole = records.select(evidence(), study="table")
    one = [record for record in whole if record["seed"] == 0]
    assert "· 3 seeds" in tables.caption(whole, "x")
    assert "· 1 seed " in tables.caption(one, "x")
    assert tables.COMMAND in tables.caption([], "x")
