"""Attacks beside captum's, beside the closed form of a linear model, and their bounds."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import pruning
from pruning.networks import attacks


@pytest.fixture
def classifier():
    torch.manual_seed(0)
    model = pruning.models.mlp((12, 16, 4), "silu")
    for layer in (model[0], model[2]):
        layer.weight.data *= 4  # so that several classes are near
    x = torch.rand(50, 12)
    return model, x, model(x).argmax(1)


pytestmark = pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already require")


def captums(attack, model):
    return attack(
        model, partial(F.cross_entropy, reduction="none"), lower_bound=0, upper_bound=1
    )


@pytest.mark.parametrize("eps", [0.01, 0.2])
def test_fgsm_is_captums(classifier, eps):
    robust = pytest.importorskip("captum.robust")
    model, x, y = classifier
    expected = captums(robust.FGSM, model).perturb(x.clone().requires_grad_(), eps, y)
    assert torch.allclose(attacks.fgsm(model, x, y, eps), expected, atol=1e-6)


@pytest.mark.parametrize("eps", [0.05, 0.3])
def test_pgd_without_a_random_start_is_captums(classifier, eps):
    robust = pytest.importorskip("captum.robust")
    model, x, y = classifier
    expected = captums(robust.PGD, model).perturb(x.clone().requires_grad_(), eps, 0.02, 15, y)
    found = attacks.pgd(model, x, y, eps, steps=15, step=0.02, random_start=False)
    assert torch.allclose(found, expected, atol=1e-5)


def test_a_linear_model_falls_at_its_closed_form_distance():
    """With two classes every input falls at |z₀ − z₁| / ‖w₀ − w₁‖₁, if no bound interferes."""
    torch.manual_seed(0)
    model = nn.Linear(6, 2)
    x = 0.5 + 0.05 * torch.randn(200, 6)
    model.bias.data = -model.weight.data @ torch.full((6,), 0.5)
    logits = model(x)
    y = logits.argmax(1)
    distance = (logits[:, 0] - logits[:, 1]).abs() / (
        model.weight[0] - model.weight[1]
    ).abs().sum()
    assert torch.allclose(attacks.first_order_distance(model, x, y), distance, atol=1e-6)
    inside = distance < 0.4
    assert inside.any()
    for attack in (attacks.fgsm, partial(attacks.pgd, steps=40)):
        for row in inside.nonzero()[:5]:
            near, far = 0.98 * distance[row].item(), 1.02 * distance[row].item()
            assert attacks.right(model, attack(model, x[row], y[row], near), y[row])
            assert not attacks.right(model, attack(model, x[row], y[row], far), y[row])


def test_an_attack_stays_in_the_ball_and_in_the_range(classifier):
    model, x, y = classifier
    for found in (
        attacks.fgsm(model, x, y, 0.3),
        attacks.pgd(model, x, y, 0.3, generator=torch.Generator().manual_seed(1)),
    ):
        assert (found - x).abs().max() <= 0.3 + 1e-6
        assert found.min() >= 0
        assert found.max() <= 1
        assert not torch.equal(found, x)


def test_the_model_comes_back_as_it_was(classifier):
    model, x, y = classifier
    model.train()
    model[0].weight.requires_grad_(False)
    attacks.pgd(model, x, y, 0.1, steps=2)
    assert model.training
    assert [p.requires_grad for p in model.parameters()] == [False, True, True, True]


def test_restarts_attack_what_still_stands(classifier):
    model, x, y = classifier
    seen = []

    def attack(model, inputs, targets):
        seen.append(len(inputs))
        return attacks.pgd(model, inputs, targets, 0.05, steps=2)

    rows = attacks.withstood(model, x, y, attack, restarts=4)
    counts = rows.sum(1).tolist()
    assert rows.shape == (4, 50)
    assert seen == [50, *counts[:3]]  # every input is right without an attack
    assert (rows[1:] <= rows[:-1]).all()
    wrong = (y + 1) % 4
    assert not attacks.withstood(model, x, wrong, attack).any()


def test_stronger_attacks_leave_less(classifier):
    model, x, y = classifier
    left = [
        attacks.withstood(model, x, y, partial(attacks.pgd, eps=eps))[0].sum()
        for eps in (0.01, 0.1, 0.5)
    ]
    assert left[0] > left[1] > left[2]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, x, y: attacks.fgsm(m, x, y, 0), "eps: got 0"),
        (lambda m, x, y: attacks.pgd(m, x, y, 0.1, steps=0), "steps: got 0"),
        (lambda m, x, y: attacks.fgsm(m, 2 * x, y, 0.1), "inputs: have values from"),
    ],
)
def test_what_is_refused(classifier, call, message):
    with pytest.raises(ValueError, match=message):
        call(*classifier)
