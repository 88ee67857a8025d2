import itertools
import math

import pytest
import torch
from torch import nn

import pruning
from pruning.networks import attribution


@pytest.fixture
def model():
    torch.manual_seed(0)
    return attribution.LogitDifference(pruning.models.mlp((4, 6, 2), "silu"))


def exact_shap(model, background, x):
    """Shapley values by the definition: over all subsets, absent features from the
    background."""
    n = len(x)
    value = {}
    for subset in itertools.chain.from_iterable(
        itertools.combinations(range(n), k) for k in range(n + 1)
    ):
        mixed = background.clone()
        mixed[:, list(subset)] = x[list(subset)]
        value[subset] = model(mixed).mean().item()
    found = torch.zeros(n)
    for i in range(n):
        for subset in value:
            if i not in subset:
                share = (
                    math.factorial(len(subset))
                    * math.factorial(n - len(subset) - 1)
                    / math.factorial(n)
                )
                found[i] += share * (value[tuple(sorted((*subset, i)))] - value[subset])
    return found


def test_permutation_shap_is_the_definition(model):
    background, x = torch.randn(30, 4), torch.randn(3, 4)
    found = attribution.permutation_shap_values(model, background, x)
    expected = torch.stack([exact_shap(model, background, row) for row in x])
    assert torch.allclose(found, expected, atol=0.02)


def test_gradient_shap_adds_up_and_repeats(model):
    background, x = torch.randn(40, 4), torch.randn(5, 4)
    found = attribution.gradient_shap_values(model, background, x, samples=2000, seed=3)
    gap = model(x).squeeze(1) - model(background).mean()
    assert torch.allclose(found.sum(1).float(), gap.detach(), atol=0.05)
    again = attribution.gradient_shap_values(model, background, x, samples=2000, seed=3)
    assert torch.equal(found, again)


def test_integrated_gradients_add_up(model):
    baseline, x = torch.randn(1, 4), torch.randn(5, 4)
    found = attribution.integrated_gradients(model, baseline, x, steps=200)
    assert torch.allclose(found.sum(1), (model(x) - model(baseline)).squeeze(1), atol=1e-3)


def test_integrated_gradients_of_a_linear_model_are_exact():
    linear = nn.Linear(3, 1)
    x = torch.randn(4, 3)
    found = attribution.integrated_gradients(linear, torch.zeros(1, 3), x, steps=1)
    assert torch.allclose(found, x * linear.weight, atol=1e-6)


def test_permutation_importance_finds_the_feature_that_decides():
    torch.manual_seed(0)
    x = torch.randn(500, 3)
    model = nn.Linear(3, 2, bias=False)
    model.weight.data = torch.tensor([[-2.0, 0.0, 0.1], [2.0, 0.0, -0.1]])
    found = attribution.permutation_importance(model, x, (x[:, 0] > 0).long())
    assert found[0] > 10 * found[2]
    assert found[1] == 0


def test_models_are_explained_in_evaluation_mode_and_left_in_their_own():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))
    x, y, before = torch.randn(9, 3), torch.arange(9) % 2, model[1].running_mean.clone()
    explained = []
    for mode in (model.train, model.eval):
        mode()
        single = nn.Sequential(model, nn.Linear(2, 1, bias=False))
        single[1].weight.data = torch.tensor([[-1.0, 1.0]])
        explained.append(
            (
                attribution.permutation_importance(model, x, y),
                attribution.integrated_gradients(single, torch.zeros(1, 3), x),
            )
        )
        assert model[1].training == model[2].training == (mode == model.train)
    assert all(torch.equal(a, b) for a, b in zip(*explained, strict=True))
    assert torch.equal(model[1].running_mean, before)


def test_integrated_gradients_need_one_output():
    with pytest.raises(
        ValueError, match=r"model: gave outputs of shape \(4, 2\) for 4 inputs"
    ):
        attribution.integrated_gradients(nn.Linear(3, 2), torch.zeros(1, 3), torch.randn(4, 3))
