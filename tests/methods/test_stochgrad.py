import copy

import pytest
import torch
from torch import nn

import pruning
from pruning.methods import stochgrad
from pruning.methods.stochgrad import StochGradAdam

SHAPES = [(7,), (3, 4), (2, 3, 3, 3), (), (1,)]


def parameters(seed=0):
    torch.manual_seed(seed)
    return [nn.Parameter(torch.randn(shape)) for shape in SHAPES]


def loss_of(params):
    return sum(((p - 1.5) ** 2).sum() + (p.sin() * 3).sum() for p in params)


def trajectory(optimizer, params, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(params).backward()
        optimizer.step()
    return [p.detach().clone() for p in params]


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.81, 0.99)])
def test_everything_sampled_is_adam(weight_decay, betas):
    ours, theirs = parameters(), parameters()
    settings = {"lr": 0.03, "betas": betas, "eps": 1e-7, "weight_decay": weight_decay}
    found = trajectory(StochGradAdam(ours, sampling_rate=1.0, **settings), ours, 100)
    expected = trajectory(torch.optim.Adam(theirs, **settings), theirs, 100)
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_the_first_step_moves_the_sampled_coordinates_by_lr():
    p = nn.Parameter(torch.zeros(10_000))
    optimizer = StochGradAdam([p], lr=0.5, sampling_rate=0.7, eps=0.0)
    p.grad = torch.full_like(p, 3.0)
    optimizer.step()
    moved = p.detach()
    # m̂ / √v̂ = sign of the gradient where it is used, 0 / 0 where it is not
    used = ~moved.isnan()
    assert torch.allclose(moved[used], torch.tensor(-0.5))
    assert used.double().mean().item() == pytest.approx(0.7, abs=0.02)


def test_the_moments_over_many_draws_are_their_expectation():
    s, beta1, beta2, steps, copies = 0.6, 0.9, 0.99, 20, 40_000
    p = nn.Parameter(torch.zeros(copies))  # every coordinate is a draw of its own
    optimizer = StochGradAdam([p], lr=0.0, betas=(beta1, beta2), sampling_rate=s)
    grads = torch.linspace(-1, 2, steps)
    for g in grads:
        p.grad = torch.full_like(p, g.item())
        optimizer.step()
    decay1, decay2 = (
        beta1 ** torch.arange(steps - 1, -1, -1),
        beta2 ** torch.arange(steps - 1, -1, -1),
    )
    m, v = optimizer.state[p]["exp_avg"], optimizer.state[p]["exp_avg_sq"]
    assert m.mean().item() == pytest.approx(
        s * (1 - beta1) * (decay1 * grads).sum().item(), rel=0.02
    )
    assert v.mean().item() == pytest.approx(
        s * (1 - beta2) * (decay2 * grads**2).sum().item(), rel=0.02
    )
    # Var m = s (1 − s) Σ (coefficient · g)²
    spread = (s * (1 - s) * ((1 - beta1) * decay1 * grads).square().sum()).sqrt().item()
    assert m.std().item() == pytest.approx(spread, rel=0.03)


def test_masks_are_element_wise_and_new_at_each_step():
    p = nn.Parameter(torch.zeros(100, 100))
    optimizer = StochGradAdam([p], betas=(0.0, 0.999), sampling_rate=0.5)
    drawn = []
    for _ in range(3):
        p.grad = torch.ones_like(p)
        optimizer.step()
        drawn.append(optimizer.state[p]["exp_avg"] > 0)  # with β₁ = 0 the moment is the sample
    for mask in drawn:
        assert mask.double().mean(0).min() > 0.3
        assert not (mask == mask[:1]).all()
        assert not (mask == mask[:, :1]).all()
    for a, b in ((0, 1), (1, 2), (0, 2)):
        assert (drawn[a] == drawn[b]).double().mean().item() == pytest.approx(0.5, abs=0.03)


def test_masks_are_drawn_into_one_buffer_and_only_where_some_are_dropped(monkeypatch):
    params, state = parameters(), torch.get_rng_state()
    for p in params:
        p.grad = torch.ones_like(p)
    assert StochGradAdam(params, sampling_rate=1.0).step() is None
    assert torch.equal(torch.get_rng_state(), state)
    optimizer = StochGradAdam(params, sampling_rate=0.5)
    optimizer.step()
    assert not torch.equal(torch.get_rng_state(), state)
    calls = []
    monkeypatch.setattr(stochgrad, "bernoulli_", lambda *args: calls.append(args))
    params += [nn.Parameter(torch.ones(2, dtype=torch.float64))]
    grads = [torch.ones_like(p) for p in params]
    first, again = (optimizer._masks(1, grads, 0.5) for _ in range(2))
    assert all(a is b for a, b in zip(first, again, strict=True))
    sizes = [(buffer.dtype, buffer.numel()) for buffer, *_ in calls]
    total = sum(p.numel() for p in params) - 2
    assert sizes == [(torch.float32, total), (torch.float64, 2)] * 2
    assert optimizer._masks(2, [grads[0].to("meta")], 0.5)[0].is_meta


def test_a_dropped_coordinate_still_moves_by_momentum():
    p = nn.Parameter(torch.zeros(1000))
    optimizer = StochGradAdam([p], sampling_rate=0.5)
    p.grad = torch.ones_like(p)
    optimizer.step()
    before, m = p.detach().clone(), optimizer.state[p]["exp_avg"].clone()
    optimizer.step()
    dropped = optimizer.state[p]["exp_avg"] == 0.9 * m
    moved = p != before
    assert (moved[dropped & (m > 0)]).all()
    assert not moved[dropped & (m == 0)].any()


def test_state_round_trip_and_generator_repeat_a_training():
    whole = parameters()
    full = trajectory(
        StochGradAdam(whole, generator=torch.Generator().manual_seed(5)), whole, 20
    )
    params, generator = parameters(), torch.Generator().manual_seed(5)
    first = StochGradAdam(params, generator=generator)
    trajectory(first, params, 8)
    saved = (
        copy.deepcopy(first.state_dict()),
        generator.get_state(),
        [p.detach().clone() for p in params],
    )
    again = [nn.Parameter(p) for p in saved[2]]
    second = StochGradAdam(again, lr=99.0, generator=torch.Generator())
    second.load_state_dict(saved[0])
    second.generator.set_state(saved[1])
    for a, b in zip(trajectory(second, again, 12), full, strict=True):
        assert torch.equal(a, b)


def test_param_groups_have_their_own_settings():
    a, b = nn.Parameter(torch.zeros(500)), nn.Parameter(torch.zeros(500))
    optimizer = StochGradAdam(
        [{"params": [a], "sampling_rate": 1.0}, {"params": [b], "lr": 0.5}], lr=0.1
    )
    a.grad, b.grad = torch.ones_like(a), torch.ones_like(b)
    optimizer.step()
    assert torch.allclose(a, torch.tensor(-0.1))
    assert set(b.detach().unique().round(decimals=4).tolist()) == {-0.5, 0.0}


def test_no_gradient_no_step_and_closures():
    a, b = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    optimizer = StochGradAdam([a, b])

    def closure():
        optimizer.zero_grad()
        loss = (a**2).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 3
    assert torch.equal(b, torch.ones(3))
    assert not optimizer.state[b]
    b.grad = torch.ones(3)  # joins later, with a step count of its own
    optimizer.step()
    assert (optimizer.state[a]["step"], optimizer.state[b]["step"]) == (2, 1)


def test_mixed_dtypes_in_one_group():
    params = [
        nn.Parameter(torch.zeros(50, dtype=d))
        for d in (torch.float32, torch.float64, torch.bfloat16)
    ]
    optimizer = StochGradAdam(params, sampling_rate=0.5)
    for p in params:
        p.grad = torch.ones_like(p)
    optimizer.step()
    for p in params:
        assert 0 < (p != 0).double().mean() < 1


def test_a_network_trains_and_compiled_training_agrees(digits):
    def accuracy(compiled):
        torch.manual_seed(0)
        model = pruning.models.mlp((64, 32, 10))
        optimizer = StochGradAdam(
            model.parameters(), generator=torch.Generator().manual_seed(0)
        )
        forward = torch.compile(model, backend="aot_eager") if compiled else model
        for _ in range(60):
            optimizer.zero_grad()
            nn.functional.cross_entropy(
                forward(digits.train.inputs), digits.train.targets
            ).backward()
            optimizer.step()
        return pruning.training.evaluate(
            model, digits.test.inputs, digits.test.targets
        ).accuracy

    assert accuracy(False) > 0.9
    assert accuracy(True) == pytest.approx(accuracy(False), abs=0.01)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"lr": -1.0}, r"lr: got -1\.0"),
        ({"eps": -1e-8}, "eps: got -1e-08"),
        ({"weight_decay": -0.1}, r"weight_decay: got -0\.1"),
        ({"betas": (1.0, 0.9)}, r"betas: got \(1\.0, 0\.9\)"),
        ({"sampling_rate": 0.0}, r"sampling_rate: got 0\.0"),
        ({"sampling_rate": 1.5}, r"sampling_rate: got 1\.5"),
    ],
)
def test_values_out_of_range_are_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        StochGradAdam(parameters(), **arguments)
    with pytest.raises(ValueError, match=words):
        StochGradAdam([{"params": parameters()} | arguments])


def test_sparse_gradients_are_refused():
    layer, dense = nn.Embedding(5, 2, sparse=True), nn.Linear(2, 1)
    optimizer = StochGradAdam([{"params": each.parameters()} for each in (dense, layer)])
    before = dense.weight.detach().clone()
    dense(layer(torch.tensor([1]))).sum().backward()
    with pytest.raises(RuntimeError, match=r"sparse gradient .*\(5, 2\).*sparse=False"):
        optimizer.step()
    assert torch.equal(dense.weight, before)  # nothing has moved


def test_the_settings_are_the_papers_and_adam_s():
    adam = torch.optim.Adam([nn.Parameter(torch.zeros(1))]).defaults
    ours = StochGradAdam([nn.Parameter(torch.zeros(1))]).defaults
    assert (ours["lr"], ours["sampling_rate"]) == (0.01, 0.8)
    for name in ("betas", "eps", "weight_decay", "maximize"):
        assert ours[name] == adam[name]
