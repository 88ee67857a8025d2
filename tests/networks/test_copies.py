"""Models that hold functions: what is traced is the copy, not the model beside it."""

import functools

import pytest
import torch
from torch import nn

import pruning
from pruning.networks.copies import deep_copy

X = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))


class Held(nn.Module):
    """a, then b, which only a function that the model holds calls, then c."""

    def __init__(self, how):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = nn.Linear(8, 12), nn.Linear(12, 12), nn.Linear(12, 3)
        self.block = how(self)

    def apply_b(self, z):
        return torch.relu(self.b(z))

    def forward(self, x):
        return self.c(self.block(torch.relu(self.a(x))))


def closure(model):
    return lambda z: torch.relu(model.b(z))


def nested(model):
    inner = closure(model)

    def outer(z):
        return inner(z)

    return outer


def listed(model):
    layers = [model.b, torch.relu]

    def run(z):
        for layer in layers:
            z = layer(z)
        return z

    return run


def default(model):
    return lambda z, b=model.b: torch.relu(b(z))


def keyword(model):
    def run(z, *, b=model.b):
        return torch.relu(b(z))

    return run


def partial(model):
    return functools.partial(lambda b, z: torch.relu(b(z)), model.b)


def bound(model):
    return model.apply_b


def of_itself(model):
    def run(z, again=True):
        return run(z, False) if again else torch.relu(model.b(z))

    return run


HOW = [closure, nested, listed, default, keyword, partial, bound, of_itself]


@pytest.mark.parametrize("how", HOW)
def test_a_copy_computes_with_its_own_layers(how):
    model = Held(how)
    expected, copied = model(X), deep_copy(model)
    torch.testing.assert_close(copied(X), expected)
    with torch.no_grad():
        model.b.weight.zero_()
    torch.testing.assert_close(copied(X), expected)
    assert not torch.equal(model(X), expected)  # and the model still with its own
    with torch.no_grad():
        copied.b.weight.zero_()
    torch.testing.assert_close(copied(X), model(X))


@pytest.mark.parametrize("how", HOW)
def test_paths_through_functions_that_a_model_holds_count(how):
    model = Held(how)
    assert pruning.effective_weights(model, X) == 96 + 144 + 36
    flow = pruning.synflow(model, X)
    sums = [score.sum().item() for score in flow.values()]
    assert sums == pytest.approx([sums[0]] * 3)  # the law of conservation
    smaller = pruning.compact(model, X)
    torch.testing.assert_close(smaller(X), model(X))


def test_a_forward_that_was_wrapped_and_a_hook_are_followed():
    model = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))
    pruning.prune_by_score(model, pruning.magnitude(model), 0.5)
    plain = pruning.effective_weights(model, X)
    for module in (model, model[0]):
        forward = module.forward

        @functools.wraps(forward)
        def timed(*args, forward=forward, **kwargs):
            return forward(*args, **kwargs)

        module.forward = timed
    assert 0 < plain == pruning.effective_weights(model, X)

    hooked = Held(lambda model: torch.relu)
    hooked.a.register_forward_hook(lambda module, args, out: out + hooked.b(out))
    assert pruning.effective_weights(hooked, X) == 96 + 144 + 36


READ = nn.Linear(12, 12)


def _reads(z):
    return torch.relu(READ(z))


def test_global_names_are_followed_too():
    model = Held(lambda model: lambda z: _reads(z))
    model.b = READ
    before = READ.weight.detach().clone()
    copied = deep_copy(model)
    with torch.no_grad():
        copied.b.weight.zero_()
        copied.b.bias.zero_()
    torch.testing.assert_close(copied(X), model.c.bias.expand(5, 3))
    torch.testing.assert_close(READ.weight, before)


def test_functions_without_modules_are_taken_as_they_are():
    model = Held(lambda model: torch.relu)
    model.block = activation = lambda z: torch.relu(z)
    assert deep_copy(model).block is activation
    counted: list[int] = []
    model.block = counter = lambda z: counted.append(1) or z
    assert deep_copy(model).block is counter


def test_a_layer_with_another_forward_is_no_chain():
    model = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2))
    forward = model[0].forward
    model[0].forward = lambda x: forward(x * torch.tensor([0.0, 1, 1, 1, 1, 1, 1, 1]))
    with pytest.raises(TypeError, match="0, a Linear, has another forward than its class"):
        pruning.effective_weights(model)
    assert pruning.effective_weights(model, X) == 7 * 6 + 6 * 2
    with pytest.raises(ValueError, match="'0' has a forward of its own"):
        pruning.wanda(model, X)


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(8, 3)
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(8))

    def forward(self, x):
        self.seen += len(x)  # in place
        self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)  # anew
        return self.a(x)


@pytest.mark.parametrize(
    "work",
    [
        pruning.wanda,
        pruning.nnrelief,
        pruning.input_statistics,
        pruning.contribution_statistics,
        lambda model, x: pruning.snip(model, x, torch.zeros(5, dtype=torch.long)),
    ],
)
def test_a_pass_leaves_the_buffers_as_they_were(work):
    model = Counting()
    model(X)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    buffers = [model.seen, model.mean]
    work(model, X)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert model.seen is buffers[0]
