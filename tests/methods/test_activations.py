import math

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import pruning
from pruning.methods.activations import ActivityPenalty, activations_after, blind_ranges


def logit(p):
    return math.log(p / (1 - p))


def test_piecewise_linear_ranges_are_exact():
    assert blind_ranges(nn.ReLU()) == [(-math.inf, 0.0)]
    assert blind_ranges(nn.LeakyReLU(0.01)) == []
    assert blind_ranges(nn.LeakyReLU(0.01), tolerance=0.02) == [(-math.inf, 0.0)]
    assert blind_ranges(nn.LeakyReLU(0.15), tolerance=0.1) == []
    assert blind_ranges(nn.LeakyReLU(0.0)) == blind_ranges(nn.ReLU())
    assert blind_ranges(None) == blind_ranges(nn.Softplus()) == []


def test_saturating_ranges_are_the_closed_form():
    # f′ = p (1 − p) = ε / 4 for the sigmoid, 1 − tanh² = ε for tanh
    for tolerance in (0.01, 0.1, 1e-4):
        end = logit((1 + math.sqrt(1 - tolerance)) / 2)
        assert blind_ranges(nn.Sigmoid(), tolerance) == [
            (-math.inf, pytest.approx(-end)),
            (pytest.approx(end), math.inf),
        ]
        end = math.atanh(math.sqrt(1 - tolerance))
        assert blind_ranges(nn.Tanh(), tolerance) == [
            (-math.inf, pytest.approx(-end)),
            (pytest.approx(end), math.inf),
        ]


@pytest.mark.parametrize(
    "activation", [nn.SiLU(), nn.GELU(), nn.GELU("tanh"), nn.Sigmoid(), nn.Tanh()]
)
@pytest.mark.parametrize("tolerance", [None, 0.2, 1e-7])
def test_ranges_hold_what_the_derivative_says(activation, tolerance):
    z = torch.linspace(-30, 30, 60_001, dtype=torch.float64, requires_grad=True)
    slope = torch.autograd.grad(activation(z).sum(), z)[0].abs()
    inside = torch.zeros_like(z, dtype=bool)
    for low, high in blind_ranges(activation, tolerance):
        assert low < high
        inside |= (z >= low) & (z <= high)
    limit = (0.01 if tolerance is None else tolerance) * slope.max()
    clear = (slope / limit - 1).abs() > 1e-3  # not within rounding of an end
    assert torch.equal(inside[clear], slope[clear] <= limit)


def test_silu_is_blind_at_its_minimum_too():
    ranges = blind_ranges(nn.SiLU())
    assert len(ranges) == 2
    assert ranges[1][0] < -1.2785 < ranges[1][1]


def test_an_activation_in_place_is_the_same_activation():
    torch.manual_seed(0)
    for mode in (torch.enable_grad, torch.no_grad, torch.inference_mode):
        with mode():
            assert blind_ranges(nn.SiLU(inplace=True)) == blind_ranges(nn.SiLU())
    layers, x = (nn.Linear(6, 5), nn.Linear(5, 3)), torch.randn(50, 6)
    for kind in ("relative", "absolute", "output"):
        found, wanted = (
            pruning.contribution_statistics(
                nn.Sequential(layers[0], nn.SiLU(inplace), layers[1]), x, kind
            )
            for inplace in (True, False)
        )
        for key, statistics in wanted.items():
            assert torch.equal(found[key].mean, statistics.mean)
            assert torch.equal(found[key].blind, statistics.blind)


def test_no_smooth_activation_is_exactly_flat():
    assert blind_ranges(nn.Tanh(), tolerance=0.0) == []
    with pytest.raises(ValueError, match=r"tolerance: got -0\.1"):
        blind_ranges(nn.ReLU(), -0.1)
    with pytest.raises(ValueError, match=r"tolerance: got 1"):
        blind_ranges(nn.ReLU(), 1)


def test_the_activation_after_a_layer_is_the_one_that_takes_its_output():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)
            self.norm, self.late, self.soon = (
                nn.BatchNorm1d(4),
                nn.Tanh(),
                nn.ReLU(inplace=True),
            )
            self.drop = nn.Dropout()

        def forward(self, x):
            return self.c(self.late(self.norm(self.b(self.soon(self.drop(self.a(x)))))))

    model = Net().train()
    found = activations_after(model, torch.randn(1, 3))
    assert found == {
        "a": model.soon
    }  # dropout passes the tensor on; batch norm makes another one
    assert model.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_an_activation_may_get_its_input_by_name():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.act, self.b = nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)

        def forward(self, x):
            return self.b(self.act(input=self.a(x)))

    model = Net()
    assert activations_after(model, torch.randn(1, 3)) == {"a": model.act}


def test_the_penalty_in_training_is_lambda_times_the_activity():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    x, penalty = torch.randn(7, 3), ActivityPenalty(0.25)
    penalty.start(model)
    model(x)
    found = penalty.penalty(model, 0.5)
    assert found.item() == pytest.approx(0.25 * model[:2](x).abs().mean().item())
    penalty.finish(model)
    assert not any(m._forward_hooks for m in model.modules())


def test_activity_is_the_mean_output_of_hidden_layers():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2)
    )
    x = torch.randn(7, 3)
    with pruning.activity_penalty(model) as activity:
        model(x)
        total = activity.take()
        with pytest.raises(RuntimeError, match="no forward pass"):
            activity.take()
        assert total.item() == pytest.approx(
            (model[:2](x).abs().mean() + model[:4](x).abs().mean()).item()
        )
        activity.means.clear()
        model(x[:3])
        model(x[3:])
        passes = activity.take()
        parts = [model[:end](part) for end in (2, 4) for part in (x[:3], x[3:])]
        assert passes.item() == pytest.approx(sum(p.abs().mean().item() for p in parts))
        activity.means.clear()
        with torch.no_grad():
            model(x)
        with pytest.raises(RuntimeError, match="no forward pass with gradients"):
            activity.take()
    total.backward()
    assert model[0].weight.grad.abs().sum() > 0
    assert model[4].weight.grad is None  # logits do not count
    assert not any(m._forward_hooks for m in model.modules())
    with (
        pytest.raises(ValueError, match="model: has none of"),
        pruning.activity_penalty(nn.Linear(2, 2)),
    ):
        pass


def test_activity_of_a_checkpointed_model_is_that_of_the_plain_one():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    x, found = torch.randn(7, 3, requires_grad=True), []
    with pruning.activity_penalty(model) as activity:
        for repeated in (False, True, True):  # the last is not told of the one before
            model.zero_grad()
            outputs = checkpoint(model, x, use_reentrant=False) if repeated else model(x)
            total = activity.take()
            (outputs.sum() + total).backward()
            found.append((total.item(), model[0].weight.grad))
        checkpoint(model, x, use_reentrant=True)
        with pytest.raises(RuntimeError, match="needs checkpoint"):
            activity.take()
    assert all(total == found[0][0] for total, _ in found)
    assert all(torch.equal(gradient, found[0][1]) for _, gradient in found)


@pytest.mark.parametrize("kind", [nn.PReLU, nn.ELU, nn.Hardswish, nn.ReLU6, nn.Mish])
def test_activity_is_of_every_kind_of_activation(kind):
    model = nn.Sequential(nn.Linear(3, 4), kind(), nn.Linear(4, 4), nn.ReLU())
    x = torch.ones(5, 3)
    with pruning.activity_penalty(model) as activity:
        model(x)
        expected = model[:2](x).abs().mean() + model(x).abs().mean()
        activity.means[2:] = []
        assert activity.take().item() == pytest.approx(expected.item())
