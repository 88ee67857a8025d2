import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch_models import MODELS, mlp

import pruning
from pruning.networks.masks import original, set_mask
from pruning.networks.prunable import prunable


def pruned(model):
    for _, module, parameter in prunable(model):
        prune.identity(module, parameter)
    return model


def masked(model):
    for _, module, parameter in prunable(model):
        set_mask(module, torch.ones_like(original(module, parameter)) > 0, parameter)
    return model


FORMS = {
    "plain": lambda model: model,
    "masked": masked,
    "gated": pruning.gate,
    "pruned": pruned,
}


def half_removed(model):
    """The same model with about half of the weights removed, as its form says it."""
    with torch.no_grad():
        for name, value in model.state_dict().items():
            half = torch.rand(value.shape) < 0.5
            if name.endswith("logits"):
                value.copy_(torch.where(half, 1.5, -0.5))
            elif name.endswith(("keep", "_mask")):
                value.copy_(half)
    return model.eval()


@pytest.mark.parametrize("kind", ["mlp", "convolutions", "attention"])
@pytest.mark.parametrize("to", FORMS)
@pytest.mark.parametrize("start", FORMS)
def test_a_converted_state_dict_loads_and_gives_the_same_outputs(kind, start, to):
    if kind == "attention" and "pruned" in (start, to):
        pytest.skip(
            "torch.nn.utils.prune never refreshes an output projection, which attention does"
            " not call"
        )
    make, shape = MODELS[kind]
    x = torch.randn(shape)
    model, other = half_removed(FORMS[start](make())), FORMS[to](make()).eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    other.load_state_dict(pruning.convert_state_dict(model.state_dict(), other))
    assert torch.allclose(other(x), model(x), atol=1e-6)
    assert all(torch.equal(model.state_dict()[key], value) for key, value in before.items())
    if to != "plain":  # what was removed is known as removed
        assert all(
            torch.equal(pruning.masks(other)[key], kept)
            for key, kept in pruning.masks(model).items()
        )
    if start == to:
        assert all(
            torch.equal(other.state_dict()[key], value) for key, value in before.items()
        )


@pytest.mark.parametrize("to", FORMS)
@pytest.mark.parametrize("start", FORMS)
def test_a_module_with_two_names_is_converted_under_both(start, to):
    def make():
        shared = nn.Linear(4, 4)
        return nn.Sequential(shared, nn.Tanh(), shared, nn.Linear(4, 2))

    model, other, x = half_removed(FORMS[start](make())), FORMS[to](make()), torch.randn(5, 4)
    state = pruning.convert_state_dict(model.state_dict(), other)
    other.load_state_dict(state)
    assert torch.allclose(other.eval()(x), model(x), atol=1e-6)


@pytest.mark.parametrize("to", [*FORMS, "output gates"])
def test_gates_on_outputs_take_their_biases_along(to):
    def make():
        return nn.Sequential(nn.Linear(6, 8), nn.Sigmoid(), nn.Linear(8, 3))

    model = pruning.gate(make(), granularity="output")
    with torch.no_grad():
        pruning.gate_parameters(model)[0].normal_()
    x, expected = torch.randn(4, 6), model.eval()(torch.zeros(4, 6))
    expected = model(x)
    forms = FORMS | {"output gates": lambda model: pruning.gate(model, granularity="output")}
    other = forms[to](make()).eval()
    other.load_state_dict(pruning.convert_state_dict(model.state_dict(), other))
    assert torch.allclose(other(x), expected, atol=1e-6)
    hardened = pruning.harden(copy.deepcopy(model))
    back = pruning.gate(make(), granularity="output").eval()
    back.load_state_dict(pruning.convert_state_dict(hardened.state_dict(), back))
    assert torch.allclose(back(x), expected, atol=1e-6)
    other = FORMS["masked"](make()).eval()
    other.load_state_dict(pruning.convert_state_dict(hardened.state_dict(), other))
    assert torch.allclose(other(x), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("have", "load"),
    [("masked", "plain"), ("gated", "plain"), ("masked", "gated"), ("gated", "masked")],
)
def test_the_error_of_a_mismatch_names_the_conversion(have, load):
    model, other = FORMS[have](mlp()), FORMS[load](mlp())
    with pytest.raises(RuntimeError, match=r"pruning\.convert_state_dict") as error:
        model.load_state_dict(other.state_dict())
    said = [line.strip() for line in str(error.value).splitlines()]
    assert any(
        each.startswith("the state dict has no '0.parametrizations.weight.0.") for each in said
    )


@pytest.mark.parametrize("form", ["masked", "gated"])
def test_an_unexpected_key_beside_a_mask_or_logits_is_refused(form):
    model = FORMS[form](mlp())
    state = model.state_dict() | {"0.parametrizations.weight.0.other": torch.ones(1)}
    with pytest.raises(
        RuntimeError, match=r"Unexpected key.*0\.parametrizations\.weight\.0\.other"
    ):
        model.load_state_dict(state)
    model.load_state_dict(state, strict=False)


@pytest.mark.parametrize("form", ["masked", "gated"])
def test_a_part_of_a_state_dict_is_refused_with_what_loads_it(form):
    model = FORMS[form](mlp())
    part, other = {"0.bias": torch.full_like(model[0].bias, 7)}, copy.deepcopy(model)
    with pytest.raises(RuntimeError, match=r"load model\.state_dict\(\) \| state_dict"):
        model.load_state_dict(part, strict=False)
    model.load_state_dict(model.state_dict() | part)
    assert (model[0].bias == 7).all()
    assert torch.equal(model[2].weight, other[2].weight) or form == "gated"


class LowRank(nn.Module):
    """W ↦ W + B A, as LoRA adapts a weight."""

    def __init__(self, weight):
        super().__init__()
        self.b = nn.Parameter(torch.randn(weight.shape[0], 1))
        self.a = nn.Parameter(torch.randn(1, weight.shape[1]))

    def forward(self, weight):
        return weight + self.b @ self.a


def test_a_mask_beside_another_parametrization_is_refused_with_the_remedy():
    model = half_removed(masked(mlp()))
    parametrize.register_parametrization(model[0], "weight", LowRank(model[0].weight))
    with pytest.raises(
        ValueError, match=r"0\.parametrizations\.weight\.1\.b'.* pruning\.finalize merges"
    ):
        pruning.convert_state_dict(model.state_dict(), mlp())
    x, plain = torch.randn(5, model[0].in_features), mlp()
    wanted = model(x)
    plain.load_state_dict(
        pruning.convert_state_dict(pruning.finalize(model).state_dict(), plain)
    )
    torch.testing.assert_close(plain(x), wanted)
    normed = mlp()
    parametrizations.weight_norm(normed[0])
    pruning.prune_by_score(normed, pruning.magnitude(normed), 0.5)
    with pytest.raises(ValueError, match=r"no place for its .*finalize") as caught:
        pruning.convert_state_dict(normed.state_dict(), mlp())
    assert "[]" not in str(caught.value)


def test_another_architecture_is_refused():
    state = mlp().state_dict()
    state["head.weight"] = state.pop("2.bias")
    with pytest.raises(
        ValueError, match=r"nothing for the model's \['2.bias'.*\['head.weight'\]"
    ):
        pruning.convert_state_dict(state, mlp())
    normed = mlp()
    parametrizations.weight_norm(normed[0])
    with pytest.raises(ValueError, match=r"does not fit this model.*pruning.finalize"):
        pruning.convert_state_dict(normed.state_dict(), mlp())
    same = copy.deepcopy(normed)
    same.load_state_dict(pruning.convert_state_dict(normed.state_dict(), same))
