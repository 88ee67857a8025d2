import copy
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import nn
from torch.distributions import RelaxedBernoulli
from torch.nn.utils import parametrize, prune

import pruning
from pruning.methods import sampling
from pruning.methods.gates import gates, off_target
from pruning.methods.noise import logistic_noise


def net():
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


def convnet():
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 4, 3))


def fixed_noise(monkeypatch, noise):
    monkeypatch.setattr(sampling, "logistic_noise", lambda like: noise.clone())


@pytest.mark.parametrize("theta", [0.01, 0.2, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("tau", [0.1, 1.0, 3.0])
def test_sampled_keep_rate_is_theta(theta, tau):
    layer = pruning.gate(nn.Linear(400, 250), tau=tau, init=theta)
    n = 400 * 250
    kept = round(pruning_sample_density(layer, 400) * n)
    low, high = stats.binom.interval(1 - 1e-6, n, theta)
    assert low <= kept <= high


def pruning_sample_density(layer, inputs):
    layer(torch.zeros(1, inputs))
    return pruning.density(layer).item()


@pytest.mark.parametrize(("theta", "tau"), [(0.3, 0.5), (0.5, 1.0), (0.9, 2.0)])
def test_soft_gate_is_a_relaxed_bernoulli(theta, tau):
    logits = torch.full((20_000,), math.log(theta / (1 - theta)))
    ours = torch.sigmoid((logits + logistic_noise(logits)) / tau)
    theirs = RelaxedBernoulli(torch.tensor(tau), probs=torch.tensor(theta)).sample((20_000,))
    assert stats.ks_2samp(ours.numpy(), theirs.numpy()).pvalue > 1e-3


@pytest.mark.parametrize("n", [1, 2, 7, 40_002, 100_001])
def test_logistic_noise_has_any_size_and_the_logistic_distribution(n):
    torch.manual_seed(n)
    noise = logistic_noise(torch.empty(n))
    torch.manual_seed(n)
    assert torch.equal(noise, logistic_noise(torch.empty(n)))
    assert noise.shape == (n,)
    assert noise.isfinite().all()
    if n > 1000:
        assert stats.kstest(noise.numpy(), "logistic").pvalue > 1e-3
        # neighbours share bits: it must not show, neither in the mean nor in the tails
        assert abs(torch.corrcoef(torch.stack([noise[:-1], noise[1:]]))[0, 1]) < 0.02
        high = noise > 3
        both, alone = (high[:-1] & high[1:]).sum().item(), high.double().mean().item()
        assert stats.binomtest(both, n - 1, alone**2).pvalue > 1e-3


def test_forward_and_gradient_against_the_analytic_derivative(monkeypatch):
    tau, theta, layer = 1.7, 0.6, nn.Linear(4, 3)
    weight, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    noise = torch.randn(3, 4) * 2
    pruning.gate(layer, tau=tau, init=theta)
    logits = gates(layer)[""].logits
    with torch.no_grad():
        logits += torch.randn_like(logits)
    fixed_noise(monkeypatch, noise)
    x, v, alpha = torch.randn(8, 4), torch.randn(8, 3), 0.3
    out = layer(x)
    loss = (out * v).sum() + alpha * pruning.density(layer)
    loss.backward()

    soft = torch.sigmoid((logits.detach() + noise) / tau)  # Eq. 1
    hard = (soft > 0.5).float()  # Eq. 2
    assert torch.allclose(out, x @ (weight * hard).T + bias, atol=1e-6)
    grad_effective = v.T @ x  # dL/d(θ^w ⊙ g)
    assert torch.allclose(
        layer.parametrizations.weight.original.grad, grad_effective * hard, atol=1e-5
    )
    dloss_dg = grad_effective * weight + alpha / 12
    assert torch.allclose(logits.grad, dloss_dg * soft * (1 - soft) / tau, atol=1e-5)


def test_gradient_of_the_soft_gate_is_a_finite_difference(monkeypatch):
    noise, tau, h = torch.randn(3, 4, dtype=torch.float64), 0.8, 1e-6
    logits = torch.randn(3, 4, dtype=torch.float64)
    difference = (
        torch.sigmoid((logits + h + noise) / tau) - torch.sigmoid((logits - h + noise) / tau)
    ) / (2 * h)
    layer = pruning.gate(nn.Linear(4, 3), tau=tau)
    with torch.no_grad():
        gates(layer)[""].logits.copy_(logits)
    fixed_noise(monkeypatch, noise.float())
    layer(torch.zeros(1, 4))
    (pruning.density(layer) * 12).backward()  # Σ g, so each logit's gradient is dĝ/dℓ
    assert torch.allclose(gates(layer)[""].logits.grad.double(), difference, atol=1e-5)


def test_matches_the_two_logit_formulation_of_the_paper():
    """Same keep rate and same mean gradient as F.gumbel_softmax over (log θ, log(1 − θ))."""
    theta, tau, n = 0.7, 1.5, 200_000
    two = torch.tensor([theta, 1 - theta]).log().expand(n, 2).clone().requires_grad_()
    F.gumbel_softmax(two, tau=tau, hard=True)[:, 0].sum().backward()
    layer = pruning.gate(nn.Linear(n, 1, bias=False), tau=tau, init=theta)
    layer(torch.zeros(1, n))
    (pruning.density(layer) * n).backward()
    ours = gates(layer)[""].logits.grad.mean()
    # moving ℓ by δ is moving the difference of the two logits by δ
    theirs = (two.grad[:, 0] - two.grad[:, 1]).mean() / 2
    assert ours.item() == pytest.approx(theirs.item(), rel=0.02)


def test_density_is_over_all_gated_weights_together():
    model = pruning.gate(net(), init=0.5)
    with torch.no_grad():
        gates(model)["0"].logits.fill_(50)  # 30 weights, all kept
        gates(model)["2"].logits.fill_(-50)  # 15 weights, none kept
    model(torch.randn(2, 6))
    assert pruning.density(model).item() == pytest.approx(30 / 45)  # not the mean of 1 and 0
    assert pruning.density(model.eval()).item() == pytest.approx(30 / 45)


def test_density_losses():
    model = pruning.gate(net(), init=0.5)
    model(torch.randn(2, 6))
    d = pruning.density(model).item()
    assert pruning.density_loss(model, 0.1).item() == pytest.approx(abs(d - 0.1))
    assert pruning.density_loss(model, 0.1, log=True).item() == pytest.approx(
        abs(math.log(d / 0.1)), rel=1e-5
    )
    for target in (0, 1):  # both ends are allowed
        assert pruning.density_loss(model, target).item() == pytest.approx(abs(d - target))
    whole = pruning.density_loss(model, 1, log=True).item()
    assert whole == pytest.approx(abs(math.log(d)), rel=1e-5)
    pruning.density_loss(model, 0.1, log=True).backward()
    assert all(p.grad.abs().sum() > 0 for p in pruning.gate_parameters(model))


@pytest.mark.parametrize("log", [False, True])
def test_several_targets_are_compared_one_by_one(log):
    kept, aims = torch.tensor([3.0, 12.0, 45.0]), torch.tensor([0.1, 0.4, 0.01])
    together = off_target(kept, 45, aims, log)
    alone = [off_target(k, 45, a.item(), log) for k, a in zip(kept, aims, strict=True)]
    assert together.tolist() == pytest.approx([each.item() for each in alone])


def test_log_density_loss_is_finite_when_nothing_is_kept():
    model = pruning.gate(net(), init=1e-6)
    model(torch.randn(2, 6))
    assert pruning.density(model) == 0
    loss = pruning.density_loss(model, 0.1, log=True)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(0.1 * 45 / 0.5))  # the count is taken as ½
    assert all(p.grad.isfinite().all() for p in pruning.gate_parameters(model))


@pytest.mark.parametrize("granularity", ["weight", "output"])
def test_a_gate_at_exactly_one_half_is_closed(granularity):
    model = pruning.gate(net(), granularity=granularity).eval()
    with torch.no_grad():
        for logits in pruning.gate_parameters(model):
            logits.zero_()  # θ^g = ½
            logits.flatten()[0] = 1e-6
    for found in gates(model).values():
        opened = found.mask().sum().item()
        assert opened == (1 if granularity == "weight" else found.shape[1])
        assert found.mask().flatten()[0]
        if granularity == "output":
            assert (model[0].bias != 0).tolist() == [True, *[False] * 4]
    for bias in (
        module for module in model.modules() if isinstance(module, sampling.BiasGate)
    ):
        assert bias.mask().tolist() == [True, *[False] * (len(bias.mask()) - 1)]


@pytest.mark.parametrize(("make", "shape"), [(net, (4, 6)), (convnet, (4, 2, 4, 4))])
def test_training_samples_anew_and_evaluation_is_deterministic(make, shape):
    model, x = pruning.gate(make(), init=0.6), torch.randn(*shape)
    if make is convnet:
        model[3] = pruning.gate(nn.Linear(4 * 2 * 2, 3), init=0.6)
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


def test_gate_keeps_the_weights_and_draws_no_random_numbers():
    model = net()
    weight, state = model[0].weight.detach().clone(), torch.get_rng_state()
    pruning.gate(model, init=0.9)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(model.eval()[0].weight, weight)  # θ^g > ½ keeps all


def test_state_dict_round_trip_and_deepcopy_after_a_step():
    model, x = pruning.gate(net(), tau=2.0, init=0.6), torch.randn(4, 6)
    opt = torch.optim.Adam(model.parameters(), lr=0.5)
    for _ in range(5):
        opt.zero_grad()
        (model(x).square().mean() + pruning.density_loss(model, 0.2)).backward()
        opt.step()
    expected = model.eval()(x)
    other = pruning.gate(net(), tau=2.0)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.eval()(x), expected)
    model.train()(x)
    assert torch.equal(copy.deepcopy(model).eval()(x), expected)


def test_named_layers_only():
    model = pruning.gate(net(), layers=["2"])
    assert list(gates(model)) == ["2"]
    assert not parametrize.is_parametrized(model[0])


def test_harden_is_the_evaluation_mask_and_survives_training():
    model, x = pruning.gate(net(), init=0.5), torch.randn(4, 6)
    with torch.no_grad():
        for logits in pruning.gate_parameters(model):
            logits.normal_()
    expected = model.eval()(x)
    masks = {name: g.mask() for name, g in gates(model).items()}
    assert pruning.harden(model.train()) is model
    assert torch.equal(model(x), expected)
    assert all(
        isinstance(layer.parametrizations.weight[0], pruning.Mask)
        for layer in (model[0], model[2])
    )
    assert not gates(model)
    opt = torch.optim.SGD(model.parameters(), lr=0.1)
    model(x).square().sum().backward()
    opt.step()
    model(x)
    for name, mask in masks.items():
        assert (model.get_submodule(name).weight[~mask] == 0).all()
        assert not torch.equal(model(x), expected)


@pytest.mark.filterwarnings("ignore:model. no weight is left")
@pytest.mark.parametrize("budget", [1, 5, 10_000])
def test_a_budget_keeps_the_largest_open_gates_of_the_whole_network(budget):
    model = pruning.gate(net())
    with torch.no_grad():
        for logits in pruning.gate_parameters(model):
            logits.normal_()
    everywhere = sorted(
        (v for g in pruning.gate_parameters(model) for v in g.flatten().tolist()), reverse=True
    )
    stay = {value for value in everywhere[:budget] if value > 0}
    expected = [
        [value in stay for value in g.flatten().tolist()]
        for g in pruning.gate_parameters(model)
    ]
    pruning.harden(model, at_most=budget)
    masks = [mask.flatten().tolist() for mask in pruning.masks(model).values()]
    assert masks == expected
    assert sum(map(sum, masks)) == min(budget, sum(value > 0 for value in everywhere))


def test_a_budget_below_one_is_refused_and_the_model_left_as_it_was():
    model = pruning.gate(net())
    with pytest.raises(ValueError, match="at_most: got 0, needs a whole number, 1 or more"):
        pruning.harden(model, at_most=0)
    assert len(gates(model)) == 2
    nn.init.normal_(pruning.gate_parameters(model)[0], 1.0)  # as if it were trained
    pruning.harden(model, at_most=np.int64(3))  # a whole number of another kind
    assert sum(int(mask.sum()) for mask in pruning.masks(model).values()) == 3


def test_density_of_frozen_batchnorm_style_mixed_modes():
    model = pruning.gate(net())
    model(torch.randn(2, 6))
    assert pruning.density(model).requires_grad
    assert not pruning.density(model.eval()).requires_grad
    assert gates(model)["0"].count().dtype == torch.float32


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"tau": 0}, "tau: got 0"),
        ({"tau": -1.0}, "tau: got -1.0"),
        ({"tau": float("nan")}, "tau: got nan"),
        ({"tau": math.inf}, "tau: got inf"),
        ({"tau": "1"}, "tau: got '1'"),
        ({"init": None}, "init: got None"),
        ({"init": 0.0}, "init: got 0.0"),
        ({"init": 1}, "init: got 1"),
        ({"layers": ["0", "nope"]}, "layers: got 'nope'"),
        ({"layers": ["1"]}, "leave nothing"),
        ({"layers": "0"}, "needs a list"),
        ({"layers": []}, "leave nothing"),
        ({"granularity": "row"}, "granularity: got 'row'"),
    ],
)
def test_bad_arguments_are_named_and_change_nothing(kwargs, words):
    model = net()
    with pytest.raises(ValueError, match=words.replace("(", r"\(")):
        pruning.gate(model, **kwargs)
    assert not parametrize.is_parametrized(model[0])
    assert list(model.state_dict()) == list(net().state_dict())


def test_gated_twice_pruned_and_nothing_to_gate():
    model = pruning.gate(net(), layers=["0"])
    with pytest.raises(ValueError, match="layers: '0' is gated or parametrized already"):
        pruning.gate(model)
    assert list(gates(model)) == ["0"]
    pruned = net()
    prune.random_unstructured(pruned[0], "weight", 0.5)
    with pytest.raises(ValueError, match="layers: '0' carries a mask"):
        pruning.gate(pruned)
    with pytest.raises(ValueError, match="has no weights to prune"):
        pruning.gate(nn.ReLU())


@pytest.mark.parametrize("target", [-0.1, 1.5, float("nan")])
def test_density_loss_refuses_a_wrong_target(target):
    model = pruning.gate(net())
    model(torch.randn(2, 6))
    with pytest.raises(
        ValueError, match=rf"target: got {target}, needs a density in \[0, 1\]$"
    ):
        pruning.density_loss(model, target)
    for target in (0, 1.5):
        with pytest.raises(ValueError, match=rf"target: got {target}, .* in \(0, 1\]$"):
            pruning.density_loss(model, target, log=True)


def test_density_needs_gates_and_a_forward_pass():
    with pytest.raises(ValueError, match="no gated layer"):
        pruning.density(net())
    with pytest.raises(ValueError, match="no gated layer"):
        pruning.harden(net())
    with pytest.raises(RuntimeError, match="forward pass"):
        pruning.density(pruning.gate(net()))
    with pytest.warns(UserWarning, match="zero-element"):
        empty = pruning.gate(nn.Sequential(nn.Linear(3, 0)))
    empty(torch.ones(1, 3))
    with pytest.raises(ValueError, match="its gated layers have no weights"):
        pruning.density_loss(empty, 0.5)


def test_bf16_weights_and_autocast():
    model, x = pruning.gate(net(), init=0.5), torch.randn(4, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(x).float().square().mean() + pruning.density_loss(model, 0.2)
    loss.backward()
    assert all(p.grad.dtype == torch.float32 for p in pruning.gate_parameters(model))
    half = pruning.gate(net().bfloat16(), init=0.5)
    assert all(p.dtype == torch.float32 for p in pruning.gate_parameters(half))
    (half(x.bfloat16()).float().sum() + pruning.density(half)).backward()
    assert half[0].parametrizations.weight.original.grad.dtype == torch.bfloat16
    half = pruning.gate(net().bfloat16(), init=0.5, granularity="output")
    half(x.bfloat16()).float().sum().backward()
    assert half[0].weight.dtype == half[0].bias.dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_hardened_layer_keeps_its_precision(dtype):
    model = pruning.harden(pruning.gate(net().to(dtype)))
    assert model[0].weight.dtype == model(torch.randn(4, 6).to(dtype)).dtype == dtype
    assert model[0].parametrizations.weight[0].keep.dtype == dtype


def test_a_sample_of_other_weights_is_forgotten():
    model, x = pruning.gate(net()), torch.randn(4, 6)
    model(x)
    model.load_state_dict({key: 0 * value for key, value in model.state_dict().items()})
    assert not any(layer.weight.any() for _, layer, _ in pruning.prunable(model))
