import math

import pytest
import torch
from torch import nn

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
    with pytest.raises(ValueError, match="samples, scale, warm: got 0"):
        variational.Variational(10, samples=0)
    with pytest.raises(ValueError, match="no variational dropout"):
        variational.divergence(models.mlp((4, 3)))
