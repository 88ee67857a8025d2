"""Every method that takes layer shares meets its budget exactly, layer by layer, in the
comparison."""

import dataclasses

import pytest
import torch

from pruning import comparison, methods
from pruning.methods import shares
from pruning.networks import masks

WEIGHTS, HIDDEN = 150, (32, 16)
TOTAL = 64 * 32 + 32 * 16 + 16 * 10
SHARES = (0.6, 0.25, 0.15)
SHORT = {"rewind": {"rounds": 3}, "synflow": {"rounds": 20}}
BY_LAYER = sorted(
    name
    for name, method in methods.found(methods.Method).items()
    if name != "gates"
    and "allocation" in {field.name for field in dataclasses.fields(method.settings)}
)
EXACT = ["gradual", "l0", "rewind", "rigl", "synflow", "variational"]


def trained(name, digits, **settings):
    made = methods.find(name).settings(**SHORT.get(name, {}) | settings)
    config = comparison.Config(
        "digits", name, WEIGHTS / TOTAL, 0, HIDDEN, "silu", 6, 2, 64, made
    )
    return comparison.train(config, digits)[0]


def test_the_opponents_are_found():
    assert set(EXACT) <= set(BY_LAYER)
    assert {"set", "deepr", "random", "magnitude", "wanda", "snip"} <= set(BY_LAYER)


@pytest.mark.parametrize("name", BY_LAYER)
def test_layers_keep_the_shares_that_they_are_given(name, digits):
    kept = masks.masks(trained(name, digits, allocation=SHARES))
    sizes = {key: mask.shape for key, mask in kept.items()}
    assert {key: int(mask.sum()) for key, mask in kept.items()} == shares.by_layer(
        sizes, WEIGHTS, SHARES
    )


@pytest.mark.parametrize("name", EXACT)
def test_the_budget_is_met_exactly_and_a_seed_says_all(name, digits):
    first, second = trained(name, digits), trained(name, digits)
    assert sum(int(mask.sum()) for mask in masks.masks(first).values()) == WEIGHTS
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)
    )


@pytest.mark.parametrize("name", ["gradual", "l0", "variational"])
def test_a_setting_that_does_not_exist_is_refused(name):
    wrong = {"gradual": "score", "l0": "penalty", "variational": "sampling"}[name]
    with pytest.raises(ValueError, match=f"{wrong}: got 'none'"):
        methods.find(name).settings(**{wrong: "none"})
