"""The chapter on attributions and information."""

import math
from dataclasses import replace

import matplotlib.pyplot as plt
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import nn

import pruning
from pruning.chapters.attributions import experiment, figures, information, sampling, tables
from pruning.evidence import records
from pruning.networks import attribution

FAST = replace(experiment.configs("quick")[1], epochs=3, finetune_epochs=1)


@pytest.fixture
def chain():
    torch.manual_seed(0)
    return pruning.models.mlp((6, 5, 3), "silu").eval()


def test_integrated_gradients_are_captums(chain):
    captum = pytest.importorskip("captum.attr")
    x, baseline = torch.randn(7, 6), torch.zeros(1, 6)
    logits = experiment.OwnLogit(chain)
    expected = captum.IntegratedGradients(lambda x: logits(x).squeeze(1)).attribute(
        x, baseline, n_steps=40, method="riemann_middle"
    )
    found = attribution.integrated_gradients(logits, baseline, x, steps=40)
    assert torch.allclose(found, expected.float(), atol=1e-5)


def test_every_attribution_of_a_linear_network_is_its_closed_form():
    """f(x) = max over outputs of W x; with one positive column each answer is the same row."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 2, bias=False))
    model[0].weight.data = torch.tensor([[3.0, 1.0, 2.0, 0.0], [-3.0, -1.0, -2.0, 0.0]])
    train, x = torch.rand(300, 4), torch.rand(50, 4)
    found = experiment.attributed(model, train, x)
    assert torch.allclose(found["eq4"].float(), torch.tensor([0.5, 1 / 6, 1 / 3, 0.0]))
    moved = (x - train.mean(0)).abs().mean(0) * torch.tensor([3.0, 1.0, 2.0, 0.0])
    assert torch.allclose(found["gradient_input"], moved, atol=1e-5)
    assert torch.allclose(found["ig"], moved, rtol=0.05)  # the row changes sign on the path
    assert torch.allclose(found["gradient"], torch.tensor([3.0, 1.0, 2.0, 0.0]))


def test_gaussian_information_is_that_of_jointly_normal_numbers():
    """z = a + 2 b + 2 c of independent standard normals: ρ² = 1/9, 4/9, 4/9."""
    torch.manual_seed(0)
    layer = nn.Linear(3, 1)
    layer.weight.data = torch.tensor([[1.0, 2.0, -2.0]])
    x = torch.randn(200_000, 3)
    expected = [-0.5 * math.log(1 - share) for share in (1 / 9, 4 / 9, 4 / 9)]
    found = information.gaussian(layer, x)
    assert found[0].tolist() == pytest.approx(expected, rel=0.05)
    few = x[:4000]
    estimate = information.estimated(layer, few, [(0, 0), (0, 1), (0, 2)])
    assert estimate == pytest.approx(expected, abs=0.04)
    constant = torch.cat((x[:, :2], torch.ones(len(x), 1)), 1)
    assert information.gaussian(layer, constant)[0, 2] == 0


def test_information_compares_a_weight_with_the_others_of_its_neuron():
    torch.manual_seed(0)
    x = torch.randn(1000, 3)
    layer = nn.Linear(3, 2)
    before = information.gaussian(layer, x)
    layer.weight.data *= 7  # a common factor cancels
    assert torch.allclose(information.gaussian(layer, x), before, atol=1e-9)
    layer.weight.data[0, 1] *= 7
    after = information.gaussian(layer, x)
    assert after[0, 1] > before[0, 1] + 0.5
    assert (after[0, [0, 2]] < before[0, [0, 2]]).all()
    assert torch.allclose(after[1], before[1], atol=1e-9)


def test_the_loss_without_a_weight_is_that_of_the_network_without_it(chain):
    x, y = torch.randn(20, 6), torch.randint(3, (20,))
    before = F.cross_entropy(chain(x), y).item()
    for name, pairs in (("0", [(0, 1), (4, 5)]), ("2", [(2, 3)])):
        given = information.inputs_of(chain, x)[name]
        found = information.losses_without(chain, name, given, y, pairs)
        for (o, i), change in zip(pairs, found, strict=True):
            weight = chain.get_submodule(name).weight
            kept = weight.data[o, i].item()
            weight.data[o, i] = 0
            assert F.cross_entropy(chain(x), y).item() - before == pytest.approx(
                change, abs=1e-5
            )
            weight.data[o, i] = kept


def test_removing_no_more_than_the_first_pixels(digits):
    model = experiment.network(FAST)
    order = torch.arange(64)
    counts = (1, 64)
    one, all_gone = experiment.without_first(model, digits, order, counts)
    assert one > 0.5  # the first pixel is a corner
    assert all_gone < 0.2  # every image is the mean image


@pytest.mark.parametrize("study", ["pixels", "information"])
def test_records_are_whole(study):
    config = replace(FAST, study=study)
    (found,) = records.sweep(experiment.run, [config], None, jobs=1, progress=False)
    if study == "pixels":
        assert set(found["without"]) == {*found["maps"], "random"}
        assert sum(found["maps"]["eq4"]) == pytest.approx(1, abs=1e-4)
    else:
        # on average, scores that know the data find the weights that matter
        by = [layer["spearman"] for layer in found["layers"].values()]
        assert min(layer["relative"] for layer in by) > 0.5
        assert max(abs(layer["random"]) for layer in by) < 0.3


def test_maps_are_alike_by_the_order_of_their_pixels_image_by_image():
    torch.manual_seed(0)
    one, other = torch.rand(5, 30).round(decimals=1), torch.rand(5, 30)  # with ties
    expected = [stats.spearmanr(a, b).statistic for a, b in zip(one, other, strict=True)]
    assert sampling.alike(one, other) == pytest.approx(sum(expected) / 5)
    assert sampling.alike(one, one.exp()) == pytest.approx(1)
    assert sampling.alike(other, -other) == pytest.approx(-1)


def test_networks_with_and_without_sampling_are_compared(digits):
    config = replace(
        experiment.Config("digits", "sampling", "dense", epochs=3, finetune_epochs=0),
        batch_size=64,
    )
    (found,) = records.sweep(experiment.run, [config], None, jobs=1, progress=False)
    assert found["accuracies"]["adam"] == found["test_accuracy"]
    adam, again, sampled = (
        sampling.trained(config, optimizer, seed)
        for optimizer, seed in (("adam", 0), ("adam", 100), ("stochgradadam", 100))
    )
    x, labels = digits.test.inputs, digits.test.targets
    mean, varying = digits.train.inputs.mean(0, keepdim=True), digits.train.inputs.std(0) > 0

    def maps(model):
        """Integrated gradients of the logit of the label, written out."""
        total, steps = 0, 64
        for step in range(steps):
            point = (mean + (step + 0.5) / steps * (x - mean)).requires_grad_()
            picked = model(point)[range(len(x)), labels]
            total = total + torch.autograd.grad(picked.sum(), point)[0] / steps
        return ((x - mean) * total)[:, varying]

    half = pruning.prune_by_score(sampled, pruning.magnitude(sampled), 0.5)
    expected = {
        "adam twice": (maps(adam), maps(again)),
        "stochgradadam, half removed": (
            maps(half),
            maps(sampling.trained(config, "stochgradadam", 100)),
        ),
    }
    for name, pair in expected.items():
        assert found["agreement"][name] == pytest.approx(sampling.alike(*pair), abs=1e-4)


@pytest.mark.parametrize(
    ("mixed", "difference", "head"),
    [
        (0.6, "0.00 [−0.04, 0.04]", "Sampled gradients do not clearly change what integrated"),
        (
            0.5,
            "−0.10 [−0.14, −0.06]",
            "Sampled gradients change what integrated gradients say",
        ),
        (
            0.7,
            "0.10 [0.06, 0.14]",
            "With sampled gradients integrated gradients say what they",
        ),
    ],
)
def test_what_sampling_changes_is_said_as_far_as_seeds_carry_it(mixed, difference, head):
    found = []
    for seed, noise in enumerate((-0.01, 0.02, -0.01)):  # a mean of 0
        agreement = {"adam twice": 0.6, "adam, half removed": 0.9}
        agreement |= {"one of each": mixed + noise, "stochgradadam twice": 0.4}
        agreement |= {"stochgradadam, half removed": 0.85}
        with_eq4 = {"adam": 0.5, "stochgradadam": 0.4}
        more = {"agreement": agreement, "with_eq4": with_eq4}
        found.append(record("sampling", "dense", seed, **more))
    said = tables.answer(evidence() + found)[2]
    assert said.startswith(f"**{head}")
    assert "and 0.40 if it trained both (difference −0.20)" in said
    table = tables.sampled(found)
    assert table.loc["maps of two starts, Adam"].tolist() == ["0.60", ""]
    mixed_row = table.loc["maps of two starts, Adam and StochGradAdam"]
    # three seeds that deviate by √3 / 100: ± t(0.975, 2) / 100
    assert mixed_row["difference to Adam"] == difference
    assert table.iloc[-1].tolist() == ["0.40", "−0.10"]


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"needs 'dense', \(300, 100\)"):
        experiment.Config(study="sampling")
    with pytest.raises(ValueError, match="study: got 'words'"):
        experiment.Config(study="words")
    with pytest.raises(ValueError, match="source: got 'recorded' for 'dense'"):
        experiment.Config(method="dense", source="recorded")


def record(study, method, seed, **more):
    """A record as far as the tables read it."""
    return {
        "study": study,
        "method": method,
        "seed": seed,
        "dataset": "mnist",
        "kept": 404 if method == "gates" else 266_200,
        "test_accuracy": 0.96,
    } | more


def evidence():
    found = []
    for seed in range(3):
        for method, level in (("gates", 0.9), ("dense", 0.4)):
            names = [name for name in tables.NAMES if name not in ("eq4", "random")]
            level = level + 0.01 * seed
            both = {kind: dict.fromkeys(names, level) for kind in ("pearson", "spearman")}
            fewer = {kind: dict.fromkeys(names, 0.5) for kind in both}
            found.append(
                record(
                    "pixels",
                    method,
                    seed,
                    varying_pixels=both,
                    read_pixels=fewer if method == "gates" else both,
                    removed=[10, 20],
                    without={name: [0.9, level] for name in tables.NAMES},
                )
            )
        by = {"information": 0.3, "relative": 0.9 + 0.01 * seed}
        by |= dict.fromkeys(("wanda", "magnitude", "random"), 0.5 + 0.01 * seed)
        layer = {
            "spearman": by,
            "estimate": 0.25,
            "sample": {
                "information": [0.4, 0.1, 0.3, 0.2],
                "relative": [1.0, 2.0, 3.0, 4.0],
                "loss": [0.0, 0.1, 0.3, 0.4],
            },
        }
        found.append(
            record(
                "information",
                "dense",
                seed,
                layers={"0": layer, "2": layer},
                sparsities=[0.5, 0.75],
                after_pruning={name: [0.8, value] for name, value in by.items()},
            )
        )
    return found


def test_tables_and_sentences():
    table = tables.agreement(evidence(), "pearson")
    # the interval of 0.90, 0.91, 0.92: 0.91 ± t(0.975, 2) · 0.01 / √3
    assert table.loc["gradient", ("gates, 404 weights", "all pixels")] == (
        "0.91 ± 0.01 [0.89, 0.93]"
    )
    assert list(table) == [
        ("gates, 404 weights", "all pixels"),
        ("gates, 404 weights", "pixels read"),
        ("dense, 266,200 weights", "all pixels"),  # it reads all
    ]
    left = tables.without(evidence()).loc["Eq. 4", "dense, 266,200 weights"]
    assert left.startswith("41.00 ± 1.00")
    informed = tables.informed(evidence())
    assert informed.loc["mutual information (scikit-learn)", "layer 2"] == "0.25 ± 0.00"
    assert (
        tables.pruned(evidence()).loc["relative importance", "75 % removed"].startswith("91.")
    )
    first, second = tables.answer(evidence())
    assert "is 0.91 [0.89, 0.93] over all pixels" in first
    assert "networks it is 0.41" in first
    assert "Income" not in first
    shares = {"eq4": [0.5, 0.2, 0.3, 0.0], "ig": [0.5, 0.3, 0.2, 0.0]}  # order 1/2
    income = [
        {"dataset": "income", "density": density, "spearman_ig": {"value": value}}
        | {"pearson_ig": {"value": value}, "importance": shares, "seed": seed, "kept": 9}
        for seed, (density, value) in enumerate(
            [(1.0, 0.6), (1.0, 0.7), (1.0, 0.8), (0.1, 0.3), (0.02, 0.9)]
        )
    ]
    said = tables.answer(evidence(), income)[0]
    assert "On Income, with 5 seeds, it is 0.70 [0.45, 0.95] with 100 % of the weights" in said
    assert said.endswith(
        "and 0.90 with 2 % of the weights. Over the features with a path it is 0.50 with"
        " 100 %, 0.50 with 10 % and 0.50 with 2 %."
    )
    alike = [r | {"spearman_ig": {"value": 0.5}} for r in income]  # all features have a path
    assert tables.answer(evidence(), alike)[0].endswith("0.50 with 2 % of the weights.")
    assert tables.on_income(income).loc["2 %"].tolist()[2:] == ["0.90", "0.90", "0.50"]
    assert "30.0 % by information, 51.0 [48.5, 53.5] % at random and 91.0" in second
    # the least information has the weight of loss 0.1, of a mean and a median of 0.2
    assert "by 0.50 times as much as an average weight in layer 1 and 0.50 times" in second
    assert "ratios are 0.50 and 0.50." in second


@pytest.mark.parametrize(
    ("level", "words"),
    [
        (0.3, "Low information does not mean safe"),  # below random, 0.51
        (0.51, "Low information does not mean safe"),  # no better
        (0.7, "Low information is a weak guide"),
        (0.95, "Low information is not clearly a worse guide"),  # of 0.91
    ],
)
def test_information_is_judged_between_chance_and_relative_importance(level, words):
    found = evidence()
    for one in found[2::3]:
        one["after_pruning"]["information"] = [0.8, level + 0.002 * (one["seed"] == 1)]
    assert tables.answer(found)[1].startswith(f"**{words}")


def test_the_lowest_quarter_is_compared_with_all():
    sample = {"information": [0.0] * 2 + [1.0] * 6, "loss": [1.0, 3.0, *[4.0] * 5, 8.0]}
    found = tables.quarter({"sample": sample}, "information")
    assert found == (2 / (32 / 8), 2 / 4)  # means 2 and 4, medians 2 and 4


def test_figures_draw_what_is_there():
    fig, axes = plt.subplots(1, 2)
    figures.removal(evidence(), axes)
    assert [len(ax.get_lines()) for ax in axes] == [6, 6]
    assert axes[0].get_lines()[0].get_ydata().tolist() == pytest.approx([96, 90, 91])
    plt.close(fig)
    fig, ax = plt.subplots()
    figures.scatter(evidence()[2], "0", "relative", ax)
    (dots,) = ax.get_lines()
    assert dots.get_xdata().tolist() == [2.0, 3.0, 4.0]  # a loss of 0 is on no log axis
    plt.close(fig)
