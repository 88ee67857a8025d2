import copy
import itertools
import math

import pytest
import torch
from torch import nn

import pruning
from pruning.methods import relative
from pruning.methods.activations import blind_ranges
from pruning.methods.relative import contribution_statistics, relative_importance

ACTIVATIONS = [nn.ReLU(), nn.LeakyReLU(0.3), nn.Sigmoid(), nn.Tanh(), nn.SiLU(), nn.GELU()]


def mlp(activation=None, scale=3.0):
    """A net with large weights, so that saturating activations saturate."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(11, 5), activation or nn.ReLU(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)
    )
    with torch.no_grad():
        for p in model.parameters():
            p *= scale
    return model


def same_range(z, after, ranges):
    return any(low <= z <= high and low <= after <= high for low, high in ranges)


def by_loops(layer, x, activation, kind, tolerance=None):
    """Mean, deviation and blind fraction by a loop over samples and weights, in double
    precision."""
    w, b = layer.weight.detach().double(), layer.bias.detach().double()
    ranges = blind_ranges(activation, tolerance)
    f = activation or nn.Identity()
    found = torch.zeros(len(x), *w.shape, dtype=torch.float64)
    blind = torch.zeros(len(x), len(w))
    for s, o in itertools.product(range(len(x)), range(len(w))):
        a = x[s].double()
        z = sum(w[o, k] * a[k] for k in range(len(a))) + b[o]
        total = sum(abs(w[o, k] * a[k]) for k in range(len(a))) + abs(b[o])
        blind[s, o] = same_range(z, z, ranges)
        for i in range(len(a)):
            part = w[o, i] * a[i]
            if kind == "output":
                found[s, o, i] = abs(f(z) - f(z - part))
            elif not same_range(z, z - part, ranges):
                found[s, o, i] = abs(part) / total if kind == "relative" else part
    return found.mean(0), found.std(0, correction=0), blind.mean(0)


@pytest.mark.parametrize("kind", relative.KINDS)
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda a: type(a).__name__)
def test_one_pass_equals_loops_over_samples_and_weights(activation, kind):
    model, x = mlp(activation), torch.randn(40, 11)
    stats = contribution_statistics(model, x.split(7), kind)
    a = x
    for name, f in (("0", activation), ("2", model[3]), ("4", None)):
        layer = model.get_submodule(name)
        mean, std, blind = by_loops(layer, a, f, kind)
        assert torch.allclose(stats[name].mean, mean, rtol=1e-5, atol=1e-5)
        assert torch.allclose(stats[name].std, std, rtol=1e-5, atol=1e-5)
        assert torch.allclose(stats[name].blind, blind.double())
        assert stats[name].samples == 40
        if name != "4":
            a = f(layer(a)).detach()
    if isinstance(activation, (nn.ReLU, nn.Tanh)):
        assert 0 < stats["0"].blind.mean() < 1  # the case was met
    assert (stats["4"].blind == 0).all()


def test_input_scales_and_many_inputs_take_the_narrowed_search_to_the_same_result():
    torch.manual_seed(1)
    layer = nn.Linear(53, 6)
    model = nn.Sequential(layer, nn.ReLU())
    x = torch.rand(30, 53) * (torch.rand(30, 53) < 0.3)  # pixels: not negative, mostly 0
    for inputs in (x, 5 * x - 1):
        stats = contribution_statistics(model, inputs)["0"]
        mean, std, _ = by_loops(layer, inputs, nn.ReLU(), "relative")
        assert torch.allclose(stats.mean, mean, atol=1e-7)
        assert torch.allclose(stats.std, std, atol=1e-6)


def by_tables(layer, x, activation, kind):
    """As `by_loops`, from one table of samples × outputs × inputs; also without a bias."""
    w, x, f = layer.weight.detach().double(), x.double(), activation or nn.Identity()
    b = torch.zeros(len(w)) if layer.bias is None else layer.bias.detach().double()
    z, part = (x @ w.T + b)[..., None], w * x[:, None]
    if kind == "output":
        found = (f(z.clone()) - f(z - part)).abs()
    else:
        total = part.abs().sum(2, keepdim=True) + b.abs()[:, None]
        found = torch.where(total > 0, part.abs() / total, 0.0) if kind == "relative" else part
        for low, high in blind_ranges(activation):
            same = (low <= z) & (z <= high) & (low <= z - part) & (z - part <= high)
            found = found.masked_fill(same, 0.0)
    return found.mean(0), found.std(0, correction=0)


def agree(stats, wanted, rtol=1e-4):
    """Mean and deviation are the wanted ones to a fraction of the largest."""
    return all(
        torch.allclose(a, b, rtol=rtol, atol=rtol * b.abs().max().item())
        for a, b in zip((stats.mean, stats.std), wanted, strict=True)
    )


@pytest.mark.parametrize("kind", relative.KINDS)
@pytest.mark.parametrize("positive", [True, False])
def test_more_numbers_than_one_chunk_holds_are_all_counted(kind, positive):
    torch.manual_seed(2)
    layer = nn.Linear(131, 20)  # of a prime number of inputs, so that the last block is padded
    with torch.no_grad():
        layer.weight.mul_(15)
    x = torch.rand(1500, 131) if positive else torch.randn(1500, 131)
    stats = contribution_statistics(nn.Sequential(layer, nn.Sigmoid()), x, kind)["0"]
    assert 0.2 < stats.blind.mean() < 0.9
    assert agree(stats, by_tables(layer, x, nn.Sigmoid(), kind))


@pytest.mark.parametrize("kind", relative.KINDS)
@pytest.mark.parametrize("activation", [nn.ReLU(), None])
def test_a_layer_without_bias_has_no_share_in_an_empty_sample(kind, activation):
    torch.manual_seed(3)
    layer = nn.Linear(9, 4, bias=False)
    x = torch.randn(30, 9) * (torch.arange(30) % 3 > 0)[:, None]
    model = nn.Sequential(layer, activation or nn.Flatten())
    stats = contribution_statistics(model, x, kind)["0"]
    assert agree(stats, by_tables(layer, x, activation, kind))


@pytest.mark.parametrize("kind", relative.KINDS)
@pytest.mark.parametrize("bias", [True, False])
def test_half_precision_is_computed_from_the_numbers_it_stores(kind, bias):
    torch.manual_seed(4)
    layer = nn.Linear(9, 4, bias=bias).bfloat16()
    x = torch.randn(30, 9).bfloat16()
    stats = contribution_statistics(nn.Sequential(layer, nn.Tanh()), x, kind)["0"]
    assert agree(stats, by_tables(layer, x, nn.Tanh(), kind))


@pytest.mark.parametrize("kind", relative.KINDS)
@pytest.mark.parametrize("scale", [1e25, 1e-25])
def test_squares_beyond_float32_are_computed_in_float64(kind, scale):
    torch.manual_seed(5)
    layer, x = nn.Linear(9, 4, bias=False), torch.randn(30, 9) * scale
    stats = contribution_statistics(nn.Sequential(layer, nn.ReLU()), x, kind)["0"]
    assert agree(stats, by_tables(layer, x, nn.ReLU(), kind))


def test_a_weight_that_provably_changes_nothing_scores_lowest():
    model = mlp()
    with torch.no_grad():
        model[0].weight[2] = -torch.rand(11) - 0.1
        model[0].bias[
            2
        ] = -100.0  # neuron 2 stays far below 0 for every input, with or without any weight
    x = torch.rand(50, 11)
    stats = contribution_statistics(model, x)
    scores = relative_importance(stats)
    assert stats["0"].blind[2] == 1
    assert (scores["0"][2] == 0).all()
    assert scores["0"][[0, 1, 3, 4]].min() > 0 or stats["0"].blind.max() == 1
    lowest = torch.cat([s.flatten() for s in scores.values()]).min()
    assert (scores["0"][2] == lowest).all()
    before = model(x)
    pruning.prune_by_score(model, {"0": scores["0"]}, 0.2)
    assert (model[0].weight[2] == 0).all()
    assert torch.equal(model(x), before)


def test_blind_ranges_can_be_ignored():
    model, x = mlp(), torch.randn(20, 11)
    stats = contribution_statistics(model, x, blind=False)["0"]
    mean, std, _ = by_loops(model[0], x, None, "relative")
    assert torch.allclose(stats.mean, mean, atol=1e-5)
    assert torch.allclose(stats.std, std, atol=1e-5)
    assert (stats.blind == 0).all()


def test_blind_with_the_weight_but_not_without_it_counts():
    model = nn.Sequential(nn.Linear(2, 1), nn.ReLU())
    with torch.no_grad():
        model[0].weight[:] = torch.tensor([[1.0, -3.0]])
        model[0].bias[:] = 0.0
    stats = contribution_statistics(model, torch.ones(4, 2))[
        "0"
    ]  # z = −2, but 1 without the second weight
    assert stats.mean[0].tolist() == pytest.approx([0.0, 0.75])
    assert stats.blind.tolist() == [1.0]


def test_two_flat_ends_are_not_one_range():
    model = nn.Sequential(nn.Linear(1, 1), nn.Tanh())
    with torch.no_grad():
        model[0].weight[:], model[0].bias[:] = (
            20.0,
            -10.0,
        )  # z = 10; without the weight −10: f from 1 to −1
    stats = contribution_statistics(model, torch.ones(3, 1))["0"]
    assert stats.mean.item() == pytest.approx(2 / 3)
    assert stats.blind.item() == 1


def test_sixty_thousand_samples_and_steady_contributions_keep_their_precision():
    torch.manual_seed(0)
    layer = nn.Linear(3, 2)
    x = 1 + 1e-3 * torch.rand(60_000, 3)  # c hardly varies: std / mean about 1e-4
    stats = contribution_statistics(nn.Sequential(layer), x)["0"]
    parts = (x.double()[:, None] * layer.weight.detach().double()).abs()
    c = parts / (parts.sum(2, keepdim=True) + layer.bias.detach().double().abs()[:, None])
    assert torch.allclose(stats.mean, c.mean(0), rtol=1e-6)
    assert torch.allclose(stats.std, c.std(0, correction=0), rtol=1e-2, atol=1e-7)


def test_a_thousand_batches_keep_their_precision():
    torch.manual_seed(0)
    layer, x = nn.Linear(3, 2), torch.rand(4, 3)
    once, often = (
        contribution_statistics(nn.Sequential(layer), [x] * count, "absolute")["0"]
        for count in (1, 1000)
    )
    torch.testing.assert_close(often.mean, once.mean, rtol=3e-7, atol=0)


@pytest.mark.parametrize("groups", [1, 2])
def test_convolution_is_the_linear_layer_of_its_patches(groups):
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=groups)
    x = torch.randn(5, 4, 8, 8)
    ours = contribution_statistics(nn.Sequential(conv, nn.ReLU()), x)["0"]
    patches = (
        nn.functional.unfold(x, 3, padding=1, stride=2)
        .transpose(1, 2)
        .reshape(-1, groups, 36 // groups)
    )
    for group in range(groups):
        part = slice(group * 6 // groups, (group + 1) * 6 // groups)
        linear = nn.Linear(36 // groups, 6 // groups)
        linear.weight.data, linear.bias.data = (
            conv.weight[part].flatten(1).data,
            conv.bias[part].data,
        )
        theirs = contribution_statistics(nn.Sequential(linear, nn.ReLU()), patches[:, group])[
            "0"
        ]
        assert torch.allclose(ours.mean[part].flatten(1), theirs.mean, atol=1e-6)
        assert torch.allclose(ours.std[part].flatten(1), theirs.std, atol=1e-6)
        assert torch.allclose(ours.blind[part], theirs.blind)


def test_batches_order_and_mode_do_not_matter():
    model, x = mlp().train(), torch.randn(30, 11)
    whole = contribution_statistics(model, x)
    parts = contribution_statistics(
        model, (part for part in x.flip(0).split(4))
    )  # a generator, read once
    assert model.training
    for name in whole:
        assert torch.allclose(whole[name].mean, parts[name].mean, atol=1e-6)
        assert torch.allclose(whole[name].std, parts[name].std, atol=1e-6)


def test_autocast_is_of_the_model_alone():
    model, x = mlp(), torch.randn(3000, 11)
    plain = contribution_statistics(model, x)
    with torch.autocast("cpu", torch.bfloat16):
        cast = contribution_statistics(model, x)
    # the first layer gets the same inputs, the second what autocast has rounded
    for key, close in (("0", 1e-6), ("2", 5e-3)):
        for name in ("mean", "std", "blind"):
            a, b = getattr(plain[key], name), getattr(cast[key], name)
            assert torch.allclose(a, b, atol=close), (key, name)
    exact = contribution_statistics(copy.deepcopy(model).bfloat16(), x.bfloat16())
    assert torch.allclose(cast["2"].blind, exact["2"].blind, atol=5e-3)


def test_what_a_hook_returns_is_another_pre_activation():
    model, x = mlp(nn.Tanh()), torch.randn(50, 11)
    watched, moved = copy.deepcopy(model), copy.deepcopy(model)
    watched[0].register_forward_hook(lambda module, args, output: None)
    moved[0].register_forward_hook(lambda module, args, output: output + 3)
    plain, seen, other = (contribution_statistics(m, x)["0"] for m in (model, watched, moved))
    assert torch.equal(plain.mean, seen.mean)
    assert plain.blind.any()
    # the activation takes z + 3, so of z itself no range is known to be blind
    assert not other.blind.any()
    unseen = contribution_statistics(model, x, blind=False)["0"]
    assert torch.equal(other.mean, unseen.mean)


def test_pruned_weights_contribute_nothing():
    model = mlp()
    pruning.prune_by_score(model, pruning.magnitude(model), 0.5)
    stats = contribution_statistics(model, torch.randn(20, 11))
    for name, kept in pruning.masks(model).items():
        assert (stats[name].mean[~kept] == 0).all()
        assert (stats[name].std[~kept] == 0).all()


def test_scores_are_the_formula():
    stats = contribution_statistics(mlp(), torch.randn(20, 11), "absolute")
    mean, std = stats["2"].mean, stats["2"].std
    sums = relative_importance(stats, alpha=0.5, beta=2.0, decay=0.9)
    assert torch.allclose(sums["2"], 0.9 * (0.5 * mean.abs() + 2 * std))
    last = stats["4"]  # l = 2
    assert torch.allclose(sums["0"], 0.5 * stats["0"].mean.abs() + 2 * stats["0"].std)
    assert torch.allclose(sums["4"], 0.81 * (0.5 * last.mean.abs() + 2 * last.std))
    assert torch.allclose(relative_importance(stats)["4"], last.mean.abs() + last.std)
    assert torch.equal(relative_importance(stats, alpha=0)["2"], std)
    assert torch.equal(relative_importance(stats, beta=0)["2"], mean.abs())
    product = relative_importance(stats, alpha=2.0, beta=0.5, form="product")
    assert torch.allclose(product["2"], mean**2 * std.sqrt())
    assert all(s.shape == mlp().get_submodule(name).weight.shape for name, s in sums.items())


@pytest.mark.parametrize("blind", [True, False])
@pytest.mark.parametrize("kind", ["relative", "absolute"])
def test_every_setting_of_the_method_reaches_the_score(kind, blind):
    model, x = mlp(nn.Tanh()), torch.randn(20, 11)
    settings = {"kind": kind, "tolerance": 0.3, "blind": blind}
    settings |= {"alpha": 0.5, "beta": 2.0, "decay": 0.7, "form": "product"}
    found = relative.importance(model, x, relative.Settings(**settings))
    a = x
    for level, name in enumerate(("0", "2")):
        layer, f = model.get_submodule(name), nn.Tanh()
        mean, std, fraction = by_loops(layer, a, f if blind else None, kind, 0.3)
        expected = 0.7**level * mean.abs() ** 0.5 * std**2
        assert torch.allclose(found[name].double(), expected.double(), rtol=1e-4, atol=1e-5)
        assert fraction.any() == blind
        a = f(layer(a)).detach()


def test_absolute_contributions_lie_close_to_wanda_when_nothing_is_blind():
    # (|μ| + σ) / √(μ² + σ²) lies in [1, √2]
    model, x = nn.Sequential(nn.Linear(11, 5)), torch.randn(200, 11)
    ratio = relative_importance(contribution_statistics(model, x, "absolute"))["0"]
    ratio = ratio / (pruning.wanda(model, x)["0"] / math.sqrt(200))
    assert ratio.min() >= 1 - 1e-5
    assert ratio.max() <= math.sqrt(2) + 1e-5


def test_chosen_contributions_are_what_the_statistics_sum_up():
    model, x = mlp(), torch.randn(300, 11)
    outputs, sources = torch.tensor([0, 4, 2]), torch.tensor([10, 3, 3])
    for kind in relative.KINDS:
        c = relative.contributions(model, x, "0", outputs, sources, kind)
        stats = contribution_statistics(model, x, kind)["0"]
        assert c.shape == (300, 3)
        assert torch.allclose(c.double().mean(0), stats.mean[outputs, sources], atol=1e-6)
        assert torch.allclose(
            c.double().std(0, correction=0), stats.std[outputs, sources], atol=1e-6
        )


@pytest.mark.parametrize("kind", relative.KINDS)
def test_chosen_contributions_without_a_bias_and_of_an_empty_sample(kind):
    torch.manual_seed(0)
    layer = nn.Linear(6, 3, bias=False)
    x = torch.randn(40, 6) / 50 * (torch.arange(40) % 4 > 0)[:, None]
    outputs, sources = torch.tensor([0, 2]), torch.tensor([5, 1])
    c = relative.contributions(nn.Sequential(layer, nn.Tanh()), x, "0", outputs, sources, kind)
    mean, std = by_tables(layer, x, nn.Tanh(), kind)
    torch.testing.assert_close(c.double().mean(0), mean[outputs, sources])
    torch.testing.assert_close(c.double().std(0, correction=0), std[outputs, sources])


def test_layer_sparsities_follow_the_decay_and_add_up():
    model = mlp()
    sizes = {"0": 55, "2": 20, "4": 12}
    assert pruning.layer_sparsities(model, 0.4) == pytest.approx(dict.fromkeys(sizes, 0.4))
    found = pruning.layer_sparsities(model, 0.4, decay=0.5)
    assert found["2"] == pytest.approx(found["0"] / 2)
    assert found["4"] == pytest.approx(found["0"] / 4)
    assert sum(found[name] * n for name, n in sizes.items()) == pytest.approx(0.4 * 87)
    capped = pruning.layer_sparsities(model, 0.8, decay=0.5)
    assert capped["0"] == pytest.approx(54 / 55)
    assert sum(capped[name] * n for name, n in sizes.items()) == pytest.approx(0.8 * 87)


def test_layer_sparsities_are_of_the_layers_that_are_scored():
    model = nn.Sequential(*mlp(), nn.Linear(3, 1))
    model[5].weight = nn.Parameter(torch.empty(0, 3))
    with pytest.raises(ValueError, match=r"layer '5' has no weights left.*ignore="):
        pruning.layer_sparsities(model, 0.4)
    found = pruning.layer_sparsities(model, 0.4, 0.5, ignore=["2", "5"])
    assert found == pruning.layer_sparsities(model, 0.4, 0.5, layers=["0", "4"])
    assert found["4"] == pytest.approx(found["0"] / 2)
    assert found["0"] * 55 + found["4"] * 12 == pytest.approx(0.4 * 67)
    scores = pruning.magnitude(model, ignore=["2", "5"])
    pruning.prune_by_score(model, scores, found, scope="layer")


def test_no_layer_loses_its_last_weight():
    model = mlp()
    twice = pruning.layer_sparsities(model, 0.93, decay=0.5)  # what "0" leaves fills "2" too
    wanted = {"0": 54 / 55, "2": 19 / 20, "4": (0.93 * 87 - 54 - 19) / 12}
    assert twice == pytest.approx(wanted)
    most = {"0": 54 / 55, "2": 19 / 20, "4": 11 / 12}
    assert pruning.layer_sparsities(model, 0.98) == pytest.approx(most)
    assert pruning.layer_sparsities(model, 0.0) == dict.fromkeys(most, 0.0)
    for sparsity, decay in ((-0.1, 1.0), (0.5, 0.0), (0.5, -1.0)):
        with pytest.raises(ValueError, match=f"sparsity, decay: got {sparsity}, {decay}"):
            pruning.layer_sparsities(model, sparsity, decay)


def test_pruning_by_layer_sparsities_is_exact():
    model = mlp()
    wanted = pruning.layer_sparsities(model, 0.5, decay=0.7)
    pruning.prune_by_score(model, pruning.magnitude(model), wanted, scope="layer")
    for name, kept in pruning.masks(model).items():
        assert (~kept).sum() == math.ceil(wanted[name] * kept.numel() - 1e-6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"alpha": -1.0}, "alpha, beta: got -1.0"),
        ({"alpha": 0.0, "beta": 0.0}, "alpha, beta: got 0.0, 0.0"),
        ({"decay": 0.0}, "decay: got 0.0"),
        ({"form": "max"}, "form: got 'max'"),
    ],
)
def test_wrong_scores_are_named(arguments, words):
    stats = contribution_statistics(mlp(), torch.randn(4, 11))
    with pytest.raises(ValueError, match=words):
        relative_importance(stats, **arguments)


def test_wrong_statistics_are_named():
    model, x = mlp(), torch.randn(4, 11)
    with pytest.raises(ValueError, match="kind: got 'squared'"):
        contribution_statistics(model, x, "squared")
    with pytest.raises(ValueError, match=r"tolerance: got 1\.5"):
        contribution_statistics(model, x, tolerance=1.5)
    with pytest.raises(ValueError, match="inputs: got no samples"):
        contribution_statistics(model, x[:0])
    model.unused = nn.Linear(2, 2)
    model.forward = lambda x: model[0](x)
    with pytest.raises(ValueError, match=r"layers \['2', '4', 'unused'\] got no input"):
        contribution_statistics(model, x)
    with pytest.raises(ValueError, match="layer: got 'conv'"):
        relative.contributions(
            copy.deepcopy(mlp()), x, "conv", torch.tensor([0]), torch.tensor([0])
        )
    with pytest.raises(ValueError, match="sparsity, decay: got 1, "):
        pruning.layer_sparsities(mlp(), 1)
