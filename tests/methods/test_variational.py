import copy
import math

import pytest
import torch
from torch import nn
from torch_models import MODELS

import pruning
from pruning import training
from pruning.methods import variational
from pruning.networks import masks, models


def exact_divergence(log_alpha, draws=2_000_000):
    """KL up to its constant from the definition: ½ log α − E log|1 + √α·ε|, shifted to 0 at α
    → ∞."""
    epsilon = torch.randn(
        draws, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    alpha = math.exp(log_alpha)
    # for α → ∞ the expectation tends to ½ log α + E log|ε|, and E log|ε| = −(γ + log 2)/2
    limit = -(0.57721566490153286 + math.log(2)) / 2
    return (
        (1 + math.sqrt(alpha) * epsilon).abs().log().mean() - 0.5 * log_alpha - limit
    ).item()


@pytest.mark.parametrize("log_alpha", [-4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0])
def test_the_approximation_is_within_a_hundredth_of_the_divergence(log_alpha):
    found = variational.kl_divergence(torch.tensor(log_alpha, dtype=torch.float64)).item()
    assert found == pytest.approx(exact_divergence(log_alpha), abs=0.012)


def test_published_values_of_the_approximation():
    # k₁ = 0.63576, k₂ = 1.87320, k₃ = 1.48695 put in by hand at log α = 0 and 3
    at = variational.kl_divergence(torch.tensor([0.0, 3.0], dtype=torch.float64))
    expected = [
        -(0.63576 / (1 + math.exp(-1.87320)) - 0.5 * math.log(2) - 0.63576),
        -(
            0.63576 / (1 + math.exp(-(1.87320 + 3 * 1.48695)))
            - 0.5 * math.log1p(math.exp(-3))
            - 0.63576
        ),
    ]
    assert at.tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("layer", [nn.Linear(6, 4), nn.Conv2d(2, 4, 3, padding=1)])
def test_both_samplings_have_the_mean_and_variance_of_the_sum(layer):
    x = torch.randn(1, 6) if isinstance(layer, nn.Linear) else torch.randn(1, 2, 5, 5)
    found = {}
    for sampling in variational.SAMPLING:
        model = nn.Sequential(
            type(layer)(*((6, 4) if isinstance(layer, nn.Linear) else (2, 4, 3)))
        ).train()
        model[0].load_state_dict(layer.state_dict())
        if isinstance(layer, nn.Conv2d):
            model[0].padding = (1, 1)
        variational.dropout(model, init=math.log(0.04), sampling=sampling)
        with torch.no_grad():
            draws = torch.stack([model(x) for _ in range(4000)])
        found[sampling] = draws.mean(0), draws.std(0)
    mean = layer(x)
    square = type(layer)(*((6, 4) if isinstance(layer, nn.Linear) else (2, 4, 3)))
    if isinstance(layer, nn.Conv2d):
        square.padding = (1, 1)
    nn.init.constant_(square.weight, 0.04)
    nn.init.zeros_(square.bias)
    deviation = square(x.square()).sqrt()
    for sampled_mean, sampled_deviation in found.values():
        torch.testing.assert_close(sampled_mean, mean, atol=0.1, rtol=0)
        torch.testing.assert_close(sampled_deviation, deviation, atol=0, rtol=0.08)


def test_evaluation_uses_the_means_of_what_is_kept():
    model = variational.dropout(models.mlp((8, 6, 4)), init=-2.0).eval()
    noise = variational.noises(model)["0"]
    kept = noise.mask()
    assert 0 < int(kept.sum()) < kept.numel()
    weight = masks.original(model[0])
    assert torch.equal(model[0].weight, weight * kept)
    assert torch.equal(kept, -2.0 - weight.detach().square().log() < 3)


def test_hardening_keeps_the_smallest_noise_and_no_noise_is_left():
    model = variational.dropout(models.mlp((8, 6, 4)), init=-2.0).train()
    means = torch.cat(
        [masks.original(layer).flatten() for layer in (model[0], model[2])]
    ).abs()
    variational.harden(model, 30)
    left = torch.cat(
        [masks.effective(layer).flatten() for layer in (model[0], model[2])]
    ).abs()
    assert torch.equal(
        left[left > 0].sort().values, means.sort().values[-30:]
    )  # one variance: the largest means
    x = torch.randn(3, 8)
    assert torch.equal(model(x), model(x))


@pytest.mark.parametrize("sampling", variational.SAMPLING)
def test_training_ends_at_the_budget_and_still_tells_digits_apart(digits, sampling):
    model = models.mlp((64, 32, 10))
    data = digits.train.inputs, digits.train.targets
    callback = variational.Variational(300, samples=len(data[0]), sampling=sampling, init=-8.0)

    def optimizer(model):
        return training.adam(model, 1e-2)

    training.fit(
        model, *data, epochs=30, batch_size=64, callbacks=[callback], optimizer=optimizer
    )
    training.fit(model, *data, epochs=5)
    assert sum(int(mask.sum()) for mask in masks.masks(model).values()) == 300
    assert training.evaluate(model, digits.test.inputs, digits.test.targets).accuracy > 0.8


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="sampling: got 'global'"):
        variational.dropout(models.mlp((4, 3)), sampling="global")
    for wrong in {"samples": 0}, {"scale": -1.0}, {"warm": -0.1}, {"warm": 1.1}:
        with pytest.raises(ValueError, match="samples, scale, warm: got"):
            variational.Variational(10, **{"samples": 1} | wrong)
    with pytest.raises(ValueError, match="sampling: got 'global'"):
        variational.Settings(sampling="global")
    with pytest.raises(ValueError, match="no variational dropout"):
        variational.divergence(models.mlp((4, 3)))


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv1d(2, 4, 3, dilation=2), (1, 2, 9)),
        (nn.ConvTranspose1d(2, 4, 3, stride=2, output_padding=1), (1, 2, 5)),
        (nn.ConvTranspose1d(2, 4, 3, stride=2, dilation=3), (1, 2, 5)),
        (nn.ConvTranspose2d(4, 2, 3, stride=2, padding=1, groups=2), (1, 4, 3, 3)),
        (nn.ConvTranspose3d(2, 3, 2), (2, 2, 2, 2)),
    ],
)
def test_outputs_of_every_convolution_have_the_variance_of_the_sum(layer, shape):
    x, square = torch.randn(shape), copy.deepcopy(layer)
    nn.init.constant_(square.weight, 0.04)
    nn.init.zeros_(square.bias)
    mean, deviation = layer(x), square(x.square()).sqrt()
    model = variational.dropout(nn.Sequential(layer), init=math.log(0.04)).train()
    with torch.no_grad():
        draws = torch.stack([model[0](input=x) for _ in range(4000)])
    torch.testing.assert_close(draws.mean(0), mean, atol=0.1, rtol=0)
    torch.testing.assert_close(draws.std(0), deviation, atol=1e-3, rtol=0.08)


@pytest.mark.parametrize("sampling", variational.SAMPLING)
@pytest.mark.parametrize("name", MODELS)
def test_every_prunable_weight_has_a_variance(name, sampling):
    make, shape = MODELS[name]
    model = variational.dropout(make(), init=-4.0, sampling=sampling).train()
    x = torch.randn(shape)
    keys = [key for key, _, _ in pruning.prunable(model)]
    found = variational.noises(model)
    assert list(found) == keys
    model(x).square().sum().backward()
    assert all(noise.log_sigma2.grad.abs().sum() > 0 for noise in found.values())
    assert variational.divergence(model).isfinite()
    count = sum(mask.numel() for mask in masks.masks(model).values()) // 3
    variational.harden(model, count)
    assert sum(int(mask.sum()) for mask in masks.masks(model).values()) == count
    others = [each for each in model.modules() if not isinstance(each, nn.RNNBase)]
    assert not any(each._forward_hooks for each in others)
    before = model.eval()(x)
    plain = make()
    plain.load_state_dict(pruning.finalize(model).state_dict())
    torch.testing.assert_close(plain.eval()(x), before)


class ReadsWeights(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x):
        return torch.einsum("bi,oi->bo", x, self.layer.weight)


def test_a_layer_that_is_not_called_cannot_sample_its_outputs():
    x = torch.ones(2, 4)
    model = variational.dropout(ReadsWeights()).train()
    model(x)
    with pytest.raises(RuntimeError, match=r"\['layer'\] without calling.*sampling='weight'"):
        variational.divergence(model)
    model = variational.dropout(ReadsWeights(), init=0.0, sampling="weight").train()
    assert not torch.equal(model(x), model(x))
    assert variational.divergence(model).isfinite()
    called = variational.dropout(models.mlp((4, 3))).train()
    assert variational.divergence(called).isfinite()  # before the first pass
    called(x)
    assert variational.divergence(called).isfinite()


def test_weights_that_are_no_plain_parameters_are_refused():
    model = models.mlp((4, 3, 2))
    nn.utils.parametrizations.spectral_norm(model[0])
    with pytest.raises(ValueError, match="'0' is gated or parametrized already"):
        variational.dropout(model)


def test_the_divergence_is_a_sum_and_the_penalty_rises():
    model = models.mlp((8, 6, 4))
    usual = variational.Variational(9, samples=50)
    assert (usual.scale, usual.warm, usual.init) == (1.0, 0.5, -10.0)
    assert (usual.sampling, usual.allocation) == ("local", "global")
    usual.start(model)
    found = variational.noises(model)
    assert all((noise.log_sigma2 == -10).all() for noise in found.values())
    whole = 0.0
    for layer in (model[0], model[2]):
        log_alpha = -10 - masks.original(layer).detach().double().square().log()
        whole += variational.kl_divergence(log_alpha.clamp(-8, 8)).sum().item()
    assert variational.divergence(model).item() == pytest.approx(whole, rel=1e-5)
    for progress, risen in ((0.0, 0.0), (0.125, 0.25), (0.5, 1.0), (0.8, 1.0)):
        expected = pytest.approx(risen * whole / 50, rel=1e-5)
        assert usual.penalty(model, progress).item() == expected
    at_once = variational.Variational(9, samples=1, scale=3.0, warm=0.0)
    assert at_once.penalty(model, 0.0).item() == pytest.approx(3 * whole, rel=1e-5)
    assert variational.Variational(9, samples=1, scale=0.0, warm=1.0).scale == 0


def test_noise_over_signal_is_cut_at_eight():
    model = variational.dropout(nn.Sequential(nn.Linear(3, 1)), init=0.0, sampling="weight")
    with torch.no_grad():
        model[0].parametrizations.weight.original.copy_(torch.tensor([[0.0, 1e-4, 1e4]]))
    noise = variational.noises(model)["0"]
    assert noise.log_alpha().tolist() == [[8.0, 8.0, -8.0]]
    assert noise.mask().tolist() == [[False, False, True]]
    assert (noise.log_sigma2 == 0).all()


@pytest.mark.parametrize("training", [True, False])
def test_noise_is_in_the_mode_of_its_layer(training):
    model = variational.dropout(models.mlp((8, 6, 4)).train(training))
    assert all(each.training == training for each in variational.noises(model).values())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("sampling", variational.SAMPLING)
def test_noise_in_another_precision_has_the_same_variance(sampling, dtype):
    model = nn.Sequential(nn.Linear(6, 4)).to(dtype)
    mean, x = model[0], torch.linspace(-1, 2, 6, dtype=dtype)[None]
    expected = mean(x)
    variational.dropout(model, init=math.log(0.04), sampling=sampling)
    assert variational.noises(model)["0"].log_sigma2.dtype == torch.float32
    with torch.no_grad():
        draws = torch.stack([model.train()(x) for _ in range(2000)])
    assert draws.dtype == dtype
    torch.testing.assert_close(draws.double().mean(0), expected.double(), atol=0.05, rtol=0)
    deviation = (0.04 * x.double().square().sum()).sqrt().expand(1, 4)
    torch.testing.assert_close(draws.double().std(0), deviation, atol=0, rtol=0.08)
    (model(x).square().sum() + variational.divergence(model)).backward()
    assert model.eval()(x).dtype == dtype


def test_squares_of_half_precision_do_not_vanish():
    model = nn.Sequential(nn.Linear(2, 1)).half()
    nn.init.constant_(model[0].weight, 1e-4)  # 1e-8 is 0 in half precision
    noise = variational.noises(variational.dropout(model, init=-15.0))["0"]
    wanted = torch.full((1, 2), -15 - 2 * math.log(1e-4))
    torch.testing.assert_close(noise.log_alpha(), wanted, atol=0.01, rtol=0)


@pytest.mark.parametrize("sampling", variational.SAMPLING)
def test_samples_are_the_equations_of_the_next_random_numbers(sampling):
    layer, x = nn.Linear(3, 2), torch.randn(5, 3)
    means, bias, plain = layer.weight.detach().clone(), layer.bias.detach(), layer(x)
    model = variational.dropout(nn.Sequential(layer), init=math.log(0.04), sampling=sampling)
    torch.manual_seed(3)
    found = model(x)
    torch.manual_seed(3)
    if sampling == "weight":  # θ + σ·ε
        expected = x @ (means + 0.2 * torch.randn(2, 3)).T + bias
    else:  # Σ x·θ plus √(Σ x²·σ²) · ε
        expected = plain + 0.2 * x.norm(dim=1, keepdim=True) * torch.randn(5, 2)
    torch.testing.assert_close(found, expected)


def test_a_weight_at_the_threshold_is_removed():
    model = variational.dropout(nn.Sequential(nn.Linear(2, 1)), init=3.0)
    with torch.no_grad():
        model[0].parametrizations.weight.original.copy_(torch.tensor([[1.0, 1.01]]))
    noise = variational.noises(model)["0"]
    assert noise.log_alpha()[0, 0] == 3
    assert noise.mask().tolist() == [[False, True]]


def test_a_transposed_convolution_may_be_told_the_size_of_its_output():
    layer, x = nn.ConvTranspose1d(2, 4, 3, stride=2), torch.randn(1, 2, 5)
    square = copy.deepcopy(layer)
    nn.init.constant_(square.weight, 0.04)
    nn.init.zeros_(square.bias)
    mean, deviation = layer(x, [12]), square(x.square(), [12]).sqrt()  # 11 is usual
    layer = variational.dropout(nn.Sequential(layer), init=math.log(0.04)).train()[0]
    with torch.no_grad():
        draws = torch.stack([layer(x, output_size=[12]) for _ in range(4000)])
    torch.testing.assert_close(draws.mean(0), mean, atol=0.1, rtol=0)
    torch.testing.assert_close(draws.std(0), deviation, atol=1e-3, rtol=0.08)


def test_outputs_are_sampled_where_a_layer_shows_them_and_weights_elsewhere():
    model = variational.dropout(nn.TransformerEncoderLayer(8, 2, 12, batch_first=True))
    assert {key: each.sampling for key, each in variational.noises(model).items()} == {
        "self_attn.in_proj_weight": "weight",
        "self_attn.out_proj": "weight",
        "linear1": "local",
        "linear2": "local",
    }


def test_training_starts_with_the_noise_that_it_is_told():
    model = models.mlp((8, 6, 4))
    variational.Variational(9, samples=50, init=-4.0, sampling="weight").start(model)
    found = variational.noises(model).values()
    assert all((noise.log_sigma2 == -4).all() for noise in found)
    assert [noise.sampling for noise in found] == ["weight", "weight"]
