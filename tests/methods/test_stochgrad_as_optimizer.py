"""StochGradAdam by what torch's own tests ask of every optimizer, with torch's own settings
for Adam.

With a sampling rate of 1 it must be Adam, so each check has Adam beside it.
"""

import copy
import io
import pickle
import re

import pytest
import torch
from torch import distributed, nn

from pruning.methods.stochgrad import StochGradAdam

DTYPES = (torch.float32, torch.float64, torch.complex64)


@pytest.fixture(scope="module")
def settings():
    """All of torch's settings for Adam; importing them takes two seconds, here alone."""
    common = pytest.importorskip("torch.testing._internal.common_optimizers")
    every = common.optim_inputs_func_adam(device="cpu")
    found = [each.kwargs for each in every if "amsgrad" not in each.kwargs]
    assert found
    return found


def parameters(dtype=torch.float32):
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(shape, dtype=dtype)) for shape in ((3, 4), (5,), ())]


def losses(params):
    return sum((p - 1.5).abs().square().sum() + (p * p).real.sin().sum() for p in params)


def train(optimizer, params, steps=12):
    found = []
    for _ in range(steps):

        def closure():
            optimizer.zero_grad()
            loss = losses(params)
            loss.backward()
            return loss

        found.append(optimizer.step(closure).item())
    return found


def everything_sampled(params, **kwargs):
    return StochGradAdam(params, **{"lr": 1e-3} | kwargs, sampling_rate=1.0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_it_is_adam_for_every_setting_and_dtype(settings, dtype):
    for kwargs in settings:
        ours, theirs = parameters(dtype), parameters(dtype)
        train(everything_sampled(ours, **kwargs), ours)
        train(torch.optim.Adam(theirs, **kwargs), theirs)
        for a, b in zip(ours, theirs, strict=True):
            assert torch.allclose(a, b, atol=1e-6), kwargs


@pytest.mark.parametrize("as_tensor", [False, True])
def test_it_goes_in_the_right_direction(settings, as_tensor):
    for kwargs in settings:
        params = parameters()
        rate = torch.tensor(0.01) if as_tensor else 0.01
        found = train(StochGradAdam(params, **kwargs | {"lr": rate}), params, 30)
        assert (found[-1] > found[0]) == kwargs.get("maximize", False), kwargs


def test_every_option_may_be_a_tensor():
    ours, theirs = parameters(), parameters()
    options = {"betas": (0.8, 0.99), "eps": 1e-6, "weight_decay": 0.1, "sampling_rate": 0.5}
    tensors = {
        name: tuple(map(torch.tensor, each)) if name == "betas" else torch.tensor(each)
        for name, each in options.items()
    }
    for params, given in ((ours, tensors), (theirs, options)):
        torch.manual_seed(0)
        train(StochGradAdam(params, **given), params, 4)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(ours, theirs, strict=True))


def test_a_learning_rate_as_tensor_is_the_number_and_may_be_scheduled():
    ours, theirs = parameters(), parameters()
    rate = torch.tensor(0.05)
    optimizers = [everything_sampled(ours, lr=rate), everything_sampled(theirs, lr=0.05)]
    for optimizer, params in zip(optimizers, (ours, theirs), strict=True):
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
        for _ in range(4):
            train(optimizer, params, 1)
            scheduler.step()
    assert all(torch.allclose(a, b) for a, b in zip(ours, theirs, strict=True))
    with pytest.raises(ValueError, match=r"lr: got a tensor of shape \(2,\)"):
        StochGradAdam(parameters(), lr=torch.ones(2))


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))]
)
def test_copies_and_pickles_go_on_with_the_same_masks(copied):
    params = parameters()
    optimizer = StochGradAdam(params, generator=torch.Generator().manual_seed(3))
    train(optimizer, params, 4)
    params, optimizer, other = *copied((params, optimizer)), optimizer
    train(optimizer, params, 4)
    theirs = other.param_groups[0]["params"]
    train(other, theirs, 4)
    assert all(torch.equal(a, b) for a, b in zip(params, theirs, strict=True))
    assert optimizer.generator is not other.generator


def test_state_dicts_survive_saving_with_weights_only():
    params = parameters()
    optimizer = StochGradAdam(params)
    train(optimizer, params, 3)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    again = StochGradAdam(parameters())
    again.load_state_dict(torch.load(file, weights_only=True))
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            assert torch.equal(again.state_dict()["state"][index][name], value)


@pytest.mark.parametrize("fused", [False, True])
def test_the_state_of_adam_goes_on_here_and_back(fused):
    """Adam, then StochGradAdam with all gradients, then Adam again: as Adam throughout."""
    ours, theirs = parameters(), parameters()
    adam = torch.optim.Adam(ours, lr=0.01, weight_decay=0.1, fused=fused)
    train(adam, ours, 4)
    optimizer = everything_sampled(ours, lr=1.0)
    optimizer.load_state_dict(adam.state_dict())
    group = optimizer.param_groups[0]
    assert (group["lr"], group["weight_decay"], group["sampling_rate"]) == (0.01, 0.1, 1.0)
    train(optimizer, ours, 4)
    back = torch.optim.Adam(ours)
    back.load_state_dict({**adam.state_dict(), "state": optimizer.state_dict()["state"]})
    train(back, ours, 4)
    train(torch.optim.Adam(theirs, lr=0.01, weight_decay=0.1), theirs, 12)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(ours, theirs, strict=True))


def test_each_group_keeps_its_own_sampling_rate_under_the_state_of_adam():
    groups = [{"params": [p]} for p in parameters()]
    adam = torch.optim.Adam(copy.deepcopy(groups), lr=0.5)
    rates = (0.3, 0.6, 1.0)
    optimizer = StochGradAdam(
        [each | {"sampling_rate": rate} for each, rate in zip(groups, rates, strict=True)]
    )
    optimizer.load_state_dict(adam.state_dict())
    found = [(group["sampling_rate"], group["lr"]) for group in optimizer.param_groups]
    assert found == [(rate, 0.5) for rate in rates]


@pytest.mark.parametrize(
    "name", ["amsgrad", "capturable", "differentiable", "decoupled_weight_decay"]
)
def test_what_is_not_implemented_is_refused(name):
    with pytest.raises(ValueError, match=f"{name}: got True; StochGradAdam has no such form"):
        StochGradAdam([{"params": parameters(), name: True}])
    if name not in ("decoupled_weight_decay", "capturable"):
        state = torch.optim.Adam(parameters(), **{name: True}).state_dict()
        with pytest.raises(ValueError, match=f"{name}: got True"):
            StochGradAdam(parameters()).load_state_dict(state)


def test_a_state_that_is_refused_changes_nothing():
    params = parameters()
    optimizer, other = StochGradAdam(params), torch.optim.AdamW(parameters(), lr=0.5)
    train(optimizer, params, 2)
    train(other, other.param_groups[0]["params"], 1)
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match="decoupled_weight_decay: got True"):
        optimizer.load_state_dict(other.state_dict())
    after = optimizer.state_dict()
    assert after["param_groups"] == before["param_groups"]
    for index, state in before["state"].items():
        assert all(torch.equal(after["state"][index][key], state[key]) for key in state)
    train(optimizer, params, 1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("betas", 0.9),
        ("betas", (0.9,)),
        ("betas", (0.9, None)),
        ("sampling_rate", None),
        ("sampling_rate", "1"),
        ("lr", "1"),
        ("eps", None),
    ],
)
def test_values_of_another_type_are_named(name, value):
    for make in (
        lambda: StochGradAdam(parameters(), **{name: value}),
        lambda: StochGradAdam([{"params": parameters(), name: value}]),
    ):
        with pytest.raises(ValueError, match=re.escape(f"{name}: got {value!r}, needs")):
            make()


def test_a_generator_is_one():
    with pytest.raises(TypeError, match=r"generator: got 3, needs a torch\.Generator"):
        StochGradAdam(parameters(), generator=3)


def test_a_sampling_rate_out_of_range_is_refused_in_the_step():
    params = parameters()
    optimizer = StochGradAdam(params)
    train(optimizer, params, 1)
    optimizer.param_groups[0]["sampling_rate"] = 5.0
    before = copy.deepcopy(optimizer.state_dict()["state"])
    with pytest.raises(
        ValueError, match=r"sampling_rate: got 5\.0, needs a number in \(0, 1\]"
    ):
        optimizer.step()
    after = optimizer.state_dict()["state"]
    assert all(torch.equal(after[i]["step"], state["step"]) for i, state in before.items())


def test_nothing_moves_without_gradients_and_moments():
    params = parameters()
    before = [p.detach().clone() for p in params]
    optimizer = StochGradAdam(params)
    optimizer.step()  # no gradients
    for p in params:
        p.grad = torch.zeros_like(p)
    optimizer.step()  # gradients of zero
    assert all(torch.equal(a, b) for a, b in zip(params, before, strict=True))


def test_masks_of_a_complex_parameter_are_of_its_two_parts():
    p = nn.Parameter(torch.zeros(20_000, dtype=torch.complex64))
    optimizer = StochGradAdam([p], sampling_rate=0.5)
    p.grad = torch.full_like(p, 1 + 1j)
    optimizer.step()
    moved = torch.view_as_real(p.detach()) != 0
    assert moved.double().mean(0).tolist() == pytest.approx([0.5, 0.5], abs=0.02)
    assert moved.all(1).double().mean().item() == pytest.approx(0.25, abs=0.02)


def test_hooks_run_around_the_step():
    params, seen = parameters(), []
    optimizer = StochGradAdam(params)
    optimizer.register_step_pre_hook(lambda *args: seen.append("before"))
    optimizer.register_step_post_hook(lambda *args: seen.append("after"))
    train(optimizer, params, 2)
    assert seen == ["before", "after"] * 2


def test_ranks_draw_from_the_seed_of_rank_0(monkeypatch):
    seeds, size = [], 2

    def broadcast(objects, src):
        assert src == 0
        seeds.append(objects[0])
        objects[0] = seeds[0]  # the first to call is rank 0

    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_world_size", lambda: size)
    monkeypatch.setattr(distributed, "broadcast_object_list", broadcast)
    ranks = []
    for rank in range(2):
        params = parameters()
        torch.manual_seed(rank)
        optimizer = StochGradAdam(params, sampling_rate=0.5)
        train(optimizer, params, 3)
        params, optimizer = copy.deepcopy((params, optimizer))
        train(optimizer, params, 3)  # a copy has the generator, and asks for no other seed
        ranks.append(params)
    assert all(torch.equal(a, b) for a, b in zip(*ranks, strict=True))
    assert len(set(seeds)) == 2
    assert all(2**32 < seed < 2**62 for seed in seeds)
    size = 1
    train(StochGradAdam(params), params, 1)
    assert len(seeds) == 2  # one process asks nobody
