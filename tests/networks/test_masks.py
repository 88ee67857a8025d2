"""Masks beside torch.nn.utils.prune, and models of every kind that torch has under them."""

import copy
import pickle
import re

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch_models import MODELS, Attention, Recurrent, mlp, steps

import pruning
from pruning.methods import l0, variational
from pruning.networks.masks import effective, find_mask, mask_of, original, set_mask
from pruning.networks.prunable import prunable


@pytest.fixture(params=MODELS)
def made(request):
    make, shape = MODELS[request.param]
    return make(), torch.randn(shape)


def masked(model, density=0.5):
    for _, module, parameter in prunable(model):
        set_mask(module, torch.rand(original(module, parameter).shape) < density, parameter)
    return model


def test_every_weight_that_multiplies_is_listed(made):
    model, _ = made
    listed = {id(module._parameters[parameter]) for _, module, parameter in prunable(model)}
    matrices = {
        id(p) for name, p in model.named_parameters() if p.dim() > 1 and "bias" not in name
    }
    assert listed == matrices


def test_keys_are_module_names_and_parameters():
    assert [key for key, _, _ in prunable(mlp())] == ["0", "2"]
    assert [key for key, _, _ in prunable(nn.Linear(2, 2))] == [""]
    assert [key for key, _, _ in prunable(Attention())] == [
        "attention.in_proj_weight",
        "attention.out_proj",
    ]
    assert [key for key, _, _ in prunable(nn.LSTM(2, 3))] == ["weight_ih_l0", "weight_hh_l0"]
    assert [key for key, _, _ in prunable(Recurrent())][-1] == "head"


def test_a_lazy_layer_is_refused():
    with pytest.raises(ValueError, match="'0' has no shape yet"):
        prunable(nn.Sequential(nn.LazyLinear(3)))


def test_removed_weights_take_no_part_and_stay_removed(made):
    """A masked model is the plain one with zeros: the same outputs, before and after
    training."""
    model, x = made
    plain = copy.deepcopy(model)
    masked(model)
    found = pruning.masks(model)
    for key, module, parameter in prunable(plain):
        module._parameters[parameter].data.mul_(found[key])
    assert torch.allclose(model(x), plain(x), atol=1e-6)
    steps(model.train(), x)
    now = {key: effective(module, parameter) for key, module, parameter in prunable(model)}
    assert all((now[key][~kept] == 0).all() for key, kept in found.items())
    assert all((now[key][kept] != 0).all() for key, kept in found.items())


@pytest.mark.parametrize("make_optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_training_is_that_of_torch_prune_bit_for_bit(make_optimizer):
    ours, x = mlp(), torch.randn(4, 6)
    theirs = copy.deepcopy(ours)
    for a, b in zip(ours, theirs, strict=True):
        if isinstance(a, nn.Linear):
            keep = torch.rand_like(a.weight) < 0.5
            set_mask(a, keep)
            prune.custom_from_mask(b, "weight", keep.float())
    shapes = [[p.shape for p in model.parameters()] for model in (ours, theirs)]
    assert shapes[0] == shapes[1]
    for model in (ours, theirs):
        optimizer = make_optimizer(model.parameters(), lr=0.1, weight_decay=0.01)
        for _ in range(5):
            optimizer.zero_grad()
            model(x).square().sum().backward()
            optimizer.step()
    assert all(
        torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True)
    )
    assert torch.equal(ours(x), theirs(x))


def test_state_dict_round_trip_into_a_freshly_masked_model(made):
    model, x = made
    other = masked(copy.deepcopy(model))
    steps(masked(model), x)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.eval()(x), model.eval()(x))
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            pruning.masks(other).values(), pruning.masks(model).values(), strict=True
        )
    )


def test_deepcopy_and_moving_average_at_any_time(made):
    model, x = made
    average = AveragedModel(masked(model), multi_avg_fn=get_ema_multi_avg_fn(0.5))
    for _ in range(2):
        steps(model, x)
        average.update_parameters(model)
    before = copy.deepcopy(model)
    expected = model.eval()(x)
    pruning.finalize(model)  # the copies are masked still, and apart
    assert torch.equal(before.eval()(x), expected)
    for copied in (before, average.module):
        for key, module, parameter in prunable(copied):
            assert (getattr(module, parameter)[~pruning.masks(before)[key]] == 0).all()
    steps(before, x)
    pruning.finalize(average.module)
    assert not torch.equal(before.eval()(x), expected)


def test_finalize_gives_the_plain_model_back(made):
    model, x = made
    names, kinds = list(model.state_dict()), [type(module) for module in model.modules()]
    parameters = [name for name, _ in model.named_parameters()]
    expected = steps(masked(model), x).eval()(x)
    found = pruning.masks(model)
    assert pruning.finalize(model) is model
    assert list(model.state_dict()) == names
    assert [name for name, _ in model.named_parameters()] == parameters
    assert [type(module) for module in model.modules()] == kinds
    assert torch.allclose(model(x), expected, atol=1e-6)
    assert torch.equal(pickle.loads(pickle.dumps(model))(x), model(x))
    assert torch.equal(copy.deepcopy(model)(x), model(x))
    assert all(torch.equal(pruning.masks(model)[key], kept) for key, kept in found.items())
    steps(model, x)
    pruning.finalize(model)  # nothing to do


def test_an_optimizer_goes_on_through_mask_and_finalize():
    model, x = mlp(), torch.randn(4, 6)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    masked(model)
    before = effective(model[0]).clone()
    model(x).square().sum().backward()
    optimizer.step()
    assert not torch.equal(effective(model[0]), before)
    pruning.finalize(model)
    assert optimizer.param_groups[0]["params"][0] is model[0].weight


def test_fifty_rounds_leave_one_mask():
    model, x = mlp(), torch.randn(4, 6)
    for k in range(50):
        pruning.prune_by_score(model, pruning.magnitude(model), 0.01 * (k + 1))
        steps(model, x, 1)
    assert [len(layer.parametrizations.weight) for layer in (model[0], model[2])] == [1, 1]
    assert sum(int(kept.sum()) for kept in pruning.masks(model).values()) == 45 - 23
    assert not model[0]._forward_pre_hooks


def test_masks_of_torch_prune_are_read_taken_over_and_made_permanent():
    model, x = mlp(), torch.randn(4, 6)
    prune.l1_unstructured(model[0], "weight", 20)
    expected, kept = model(x), model[0].weight_mask.bool()
    assert torch.equal(pruning.masks(model)["0"], kept)
    dense = model[0].weight_orig
    with torch.no_grad():
        dense += 1  # the weight that prune stores is now the one before
    assert torch.equal(effective(model[0]), dense * kept)
    values = dense.detach().clone()
    set_mask(model[0], kept)
    assert original(model[0]) is dense
    assert torch.equal(dense, values)  # removed values are kept, as under prune
    assert not model[0]._forward_pre_hooks
    with torch.no_grad():
        dense -= 1
    assert torch.allclose(model(x), expected, atol=1e-6)
    prune.random_unstructured(model[2], "weight", 5)
    expected = model(x)
    pruning.finalize(model)
    assert torch.equal(model(x), expected)
    assert list(model.state_dict()) == list(mlp().state_dict())


@pytest.mark.parametrize(
    "norm", [parametrizations.spectral_norm, parametrizations.weight_norm]
)
def test_a_mask_on_a_normalised_layer_acts_on_its_result(norm):
    model, x = mlp(), torch.randn(4, 6)
    norm(model[0])
    model.eval()
    normalised = model[0].weight.detach()
    pruning.prune_by_score(model, pruning.magnitude(model), 0.5)
    kept = mask_of(model[0])
    assert torch.allclose(model[0].weight, normalised * kept)
    assert torch.allclose(effective(model[0]), normalised * kept)
    expected = model(x)
    pruning.finalize(model)
    assert torch.allclose(model(x), expected, atol=1e-6)
    assert type(model[0]) is nn.Linear
    assert list(model.state_dict()) == list(mlp().state_dict())


def test_a_mask_follows_device_and_dtype():
    model = masked(mlp()).to(torch.bfloat16)
    assert model[0].weight.dtype == torch.bfloat16
    assert mask_of(model[0]).dtype == torch.bool
    assert find_mask(model[0]).keep.dtype == torch.bfloat16


def test_a_gated_model_cannot_be_finalized_and_a_mask_needs_the_shape():
    with pytest.raises(ValueError, match=r"\['0', '2'\] are gated; call pruning.harden"):
        pruning.finalize(pruning.gate(mlp()))
    with pytest.raises(ValueError, match=r"keep: got shape \(2, 2\), needs \(5, 6\)"):
        set_mask(mlp()[0], torch.ones(2, 2, dtype=torch.bool))


@pytest.mark.parametrize(
    "use", [pruning.masks, pruning.sparsity_report, pruning.finalize, pruning.compact]
)
@pytest.mark.parametrize("by_torch", [False, True])
def test_an_average_of_masks_is_refused(use, by_torch):
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    if by_torch:
        prune.l1_unstructured(model[0], "weight", 0.5)
    else:
        pruning.prune_by_score(model, pruning.magnitude(model), 0.5)
    (mask,) = (buffer for name, buffer in model.named_buffers() if name.startswith("0."))
    first = mask[0, 0].item()
    mask[0, 0] = 0.25
    with pytest.raises(ValueError, match=r"the mask holds 0\.25, needs 0 and 1 only"):
        use(model)
    mask[0, 0] = first
    use(model)


def test_masks_that_are_set_in_inference_mode_are_trained_on():
    model, x = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2)), torch.randn(5, 6)
    with torch.inference_mode():
        pruning.prune_by_score(model, pruning.magnitude(model), 0.5)
        set_mask(model[0], torch.rand(4, 6) < 0.5)
    model(x).sum().backward()
    mask = pruning.masks(model)["0"]
    assert not model[0].parametrizations.weight.original.grad[~mask].any()


@pytest.mark.parametrize(
    ("gated", "call"),
    [
        (pruning.gate, "pruning.harden(model)"),
        (l0.gate, "pruning.methods.l0.harden(model, weights)"),
        (variational.dropout, "pruning.methods.variational.harden(model, weights)"),
    ],
)
def test_what_makes_masks_of_gates_is_said_of_each_kind(gated, call):
    hardens = {
        "pruning.harden(model)": pruning.harden,
        "pruning.methods.l0.harden(model, weights)": lambda model: l0.harden(model, 9),
        "pruning.methods.variational.harden(model, weights)": lambda model: variational.harden(
            model, 9
        ),
    }
    others = [harden for name, harden in hardens.items() if name != call]
    for use in (pruning.finalize, pruning.magnitude, *others):
        with pytest.raises(ValueError, match=re.escape(f"['0', '2'] are gated; call {call},")):
            use(gated(mlp()))
    model = pruning.finalize(hardens[call](gated(mlp())))
    assert type(model[0]) is nn.Linear


def test_a_kind_of_gate_without_advice_is_named():
    class Own(nn.Module):
        def forward(self, weight):
            return weight

        def mask(self):
            return torch.ones(5, 6) > 0

    model = mlp()
    nn.utils.parametrize.register_parametrization(model[0], "weight", Own())
    with pytest.raises(
        ValueError, match=r"\['0'\] are gated; call what makes a Mask of a Own"
    ):
        pruning.finalize(model)


def test_gates_on_a_pruned_model_say_that_they_reopen_what_was_pruned():
    with pytest.raises(ValueError, match="after which gates can reopen what was pruned"):
        pruning.gate(masked(mlp()))
