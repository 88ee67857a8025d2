"""Gates on models of every kind, and in trainings that are not the plain loop."""

import copy
import gc
import math
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.checkpoint import checkpoint
from torch_models import MODELS, steps

import pruning
from pruning.methods import watching
from pruning.methods.sampling import gates
from pruning.networks.masks import effective
from pruning.networks.prunable import prunable


def net():
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


@pytest.fixture(params=MODELS)
def made(request):
    make, shape = MODELS[request.param]
    return make(), torch.randn(shape)


def scattered(model):
    """Gates with logits drawn at random, some open and some closed."""
    with torch.no_grad():
        for logits in pruning.gate_parameters(model):
            logits.normal_()
    return model


def test_any_model_is_gated_trained_hardened_copied_saved_and_finalized(made):
    model, x = made
    plain = copy.deepcopy(model).eval()
    assert torch.allclose(pruning.gate(model, init=0.9).eval()(x), plain(x), atol=1e-6)
    average = AveragedModel(model.train(), multi_avg_fn=get_ema_multi_avg_fn(0.5))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    for _ in range(3):
        loss = model(x).square().mean() + pruning.density_loss(model, 0.6)
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and p.grad.any() for p in pruning.gate_parameters(model))
        optimizer.step()
        average.update_parameters(model)
        copy.deepcopy(model)
    scattered(model)
    again = pruning.gate(copy.deepcopy(plain))
    again.load_state_dict(model.state_dict())
    expected = model.eval()(x)
    assert torch.equal(again.eval()(x), expected)
    masks = pruning.masks(model)
    copied = copy.deepcopy(model)
    assert torch.allclose(pruning.harden(model)(x), expected, atol=1e-6)
    assert torch.equal(copied(x), expected)  # the copy is gated still
    assert all(torch.equal(pruning.masks(model)[key], mask) for key, mask in masks.items())
    assert not model._forward_pre_hooks
    steps(model.train(), x)
    pruning.finalize(model)
    pruning.finalize(pruning.harden(average.module))
    assert list(model.state_dict()) == list(plain.state_dict())
    for key, module, parameter in prunable(model):
        assert (effective(module, parameter)[~masks[key]] == 0).all()


def test_every_read_in_a_pass_is_one_sample_and_the_next_pass_draws_anew():
    model, x = pruning.gate(net(), init=0.5), torch.randn(4, 6)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    seen = []
    for _ in range(2):
        out = model(x)
        weight = model[0].weight  # a penalty on the weight, say
        assert torch.equal(model[0].weight, weight)
        assert torch.equal(model(x), model(x)) is False
        out = model(x)
        weight = model[0].weight
        by_hand = F.relu(x @ weight.T + model[0].bias) @ model[2].weight.T + model[2].bias
        assert torch.equal(out, by_hand)
        kept = sum(int((layer.weight != 0).sum()) for layer in (model[0], model[2]))
        assert pruning.density(model).item() == pytest.approx(kept / 45)
        seen.append(weight.detach() != 0)
        optimizer.zero_grad()
        (
            out.square().mean() + weight.square().sum() + pruning.density_loss(model, 0.1)
        ).backward()
        optimizer.step()
    assert not torch.equal(*seen)


@pytest.mark.parametrize("granularity", ["weight", "output"])
def test_reads_outside_of_a_pass_draw_anew(granularity):
    def alike():
        return [torch.equal(each[0].weight, each[0].weight) for each in (model, copied)]

    layers = nn.Linear(4, 60), nn.ReLU(), nn.Linear(60, 3)
    model = pruning.gate(nn.Sequential(*layers), init=0.5, granularity=granularity)
    copied = copy.deepcopy(model)
    assert alike() == [False, False]  # before the first pass
    out = model(torch.randn(2, 4))
    copied = copy.deepcopy(model)
    assert alike() == [True, False]
    out.sum().backward()
    copied = copy.deepcopy(model)
    assert alike() == [False, False]


@pytest.mark.parametrize("granularity", ["weight", "output"])
def test_reads_without_gradients_are_one_sample_and_those_with_gradients_another(granularity):
    layers = nn.Linear(4, 60), nn.ReLU(), nn.Linear(60, 3)
    model = pruning.gate(nn.Sequential(*layers), init=0.5, granularity=granularity)
    logits = pruning.gate_parameters(model)[0]
    with torch.no_grad():
        model(torch.randn(2, 4))
        assert torch.equal(model[0].weight, model[0].weight)
    model[0].weight.sum().backward()
    assert logits.grad.any()
    logits.requires_grad_(False)
    with torch.no_grad():
        model(torch.randn(2, 4))
    model.zero_grad()
    weight = model[0].weight
    weight.square().sum().backward()  # the weights are trained, though the gates are frozen
    original = model[0].parametrizations.weight.original
    assert torch.equal(original.grad, 2 * weight)
    model.requires_grad_(False)
    model(torch.randn(2, 4))
    assert torch.equal(model[0].weight, model[0].weight)


def test_a_bias_may_be_read_before_its_weight():
    model = pruning.gate(net(), init=0.5, granularity="output")
    assert model[0].bias.requires_grad
    assert model[0].bias.shape == (5,)
    with torch.no_grad():
        model(torch.randn(2, 6))
    model[0].bias.sum().backward()
    assert pruning.gate_parameters(model)[0].grad.any()
    assert "(5, 1), tau=1.0" in repr(model)


def test_the_gradient_of_two_reads_is_that_of_one_gate(monkeypatch):
    from pruning.methods import sampling

    noise = torch.randn(3, 3, dtype=torch.float64).float()
    monkeypatch.setattr(sampling, "logistic_noise", lambda like: noise.clone())
    layer = nn.Linear(3, 3, bias=False)
    twice = pruning.gate(nn.Sequential(layer, nn.Tanh(), layer))
    x = torch.randn(5, 3)
    twice(x).sum().backward()
    weight = layer.parametrizations.weight.original
    soft = torch.sigmoid(gates(twice)["0"].logits.detach() + noise).requires_grad_()
    dense = weight.detach().clone().requires_grad_()
    gated = dense * ((soft.detach() > 0.5).float() + soft - soft.detach())
    (torch.tanh(x @ gated.T) @ gated.T).sum().backward()
    assert torch.allclose(weight.grad, dense.grad, atol=1e-6)
    expected = soft.grad * soft.detach() * (1 - soft.detach())
    assert torch.allclose(gates(twice)["0"].logits.grad, expected, atol=1e-6)


def test_a_layer_used_twice_has_one_sample_and_counts_once():
    layer = nn.Linear(4, 4)
    model = pruning.gate(nn.Sequential(layer, nn.ReLU(), layer), init=0.5)
    assert list(gates(model)) == ["0"]
    x = torch.randn(2, 4)
    out, weight = model(x), layer.weight
    assert torch.equal(out, F.relu(x @ weight.T + layer.bias) @ weight.T + layer.bias)
    assert pruning.density(model).item() == pytest.approx((weight != 0).double().mean().item())


class Deep(nn.Module):
    def __init__(self, reentrant=None):
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.reentrant = reentrant

    def block(self, x):
        return self.second(torch.relu(self.first(x)))

    def forward(self, x):
        if self.reentrant is None:
            return self.block(x)
        return checkpoint(self.block, x, use_reentrant=self.reentrant)


def test_checkpointing_without_reentrance_is_the_same_step():
    found = []
    for reentrant in (None, False):
        torch.manual_seed(0)
        model, x = pruning.gate(Deep(reentrant), init=0.5), torch.randn(3, 6)
        (model(x).square().mean() + pruning.density_loss(model, 0.1)).backward()
        found.append([p.grad for p in model.parameters()])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*found, strict=True))


def test_checkpointing_an_lstm_is_the_same_step():
    def gradients(checkpointed):
        torch.manual_seed(0)
        model = pruning.gate(nn.LSTM(4, 5, batch_first=True), init=0.5)
        x = torch.randn(2, 3, 4, requires_grad=True)
        out = checkpoint(model, x, use_reentrant=False)[0] if checkpointed else model(x)[0]
        (out.square().mean() + pruning.density_loss(model, 0.1)).backward()
        return [p.grad for p in model.parameters()]

    assert all(
        torch.allclose(a, b, atol=1e-6)
        for a, b in zip(gradients(False), gradients(True), strict=True)
    )


class Parts(nn.Module):
    """Two calls, each checkpointed by itself."""

    def __init__(self, first, second, **options):
        super().__init__()
        self.first, self.second, self.options = first, second, options

    def forward(self, x):
        x = checkpoint(lambda x: torch.tanh(self.first(x)), x, **self.options)
        return checkpoint(lambda x: torch.tanh(self.second(x)), x, **self.options)


@pytest.mark.parametrize("granularity", ["weight", "output"])
@pytest.mark.parametrize("reentrant", [False, True])
def test_other_gates_in_a_part_that_is_computed_again_are_refused(granularity, reentrant):
    x = torch.randn(3, 30, requires_grad=True)
    once, twice = (nn.Linear(30, 30), nn.Linear(30, 30)), (nn.Linear(30, 30),) * 2

    def step(layers, kept):
        model = Parts(*layers, use_reentrant=reentrant, preserve_rng_state=kept)
        chosen = [key for key, _, _ in prunable(model)]
        pruning.gate(model, init=0.5, layers=chosen, granularity=granularity)
        # passes whose backward passes come together
        (model(x).square().mean() + model(-x).square().mean()).backward()

    step(copy.deepcopy(once), True)
    for layers, kept in ((once, False), (twice, True)):
        with pytest.raises(RuntimeError, match="drew other gates when it was computed again"):
            step(layers, kept)


@pytest.mark.parametrize("granularity", ["weight", "output"])
@pytest.mark.parametrize("inputs", [6, 30_000])
def test_gradients_of_functional_calls_are_those_of_autograd(granularity, inputs):
    model = nn.Sequential(nn.Linear(inputs, 2), nn.Tanh(), nn.Linear(2, 3))
    pruning.gate(model, init=0.5, granularity=granularity)
    x, params = torch.randn(4, inputs), dict(model.named_parameters())

    def loss(params, x):
        out = torch.func.functional_call(model, params, (x,))
        return out.square().mean() + pruning.density_loss(model, 0.1)

    torch.manual_seed(1)
    found = torch.func.grad(loss)(params, x)
    each = torch.func.vmap(torch.func.grad(loss), (None, 0), randomness="same")
    torch.manual_seed(1)
    by_sample = each(params, x)
    torch.manual_seed(1)
    with torch.no_grad():  # the same noise, from the same source
        kept = torch.func.vmap(lambda x: loss(params, x), randomness="same")(x)
    assert kept.shape == (4,)
    for name, gradient in found.items():
        assert gradient.any()
        assert torch.allclose(by_sample[name].mean(0), gradient, atol=1e-5)
    if inputs == 6:  # a larger layer draws elsewhere in training
        torch.manual_seed(1)
        loss(params, x).backward()
        assert all(torch.allclose(found[k], p.grad, atol=1e-6) for k, p in params.items())


@pytest.mark.parametrize("frozen", [None, 0, 1])
def test_gates_can_be_differentiated_twice(frozen):
    layer, x = pruning.gate(nn.Linear(6, 5), tau=0.7, init=0.5), torch.randn(4, 6)
    held = layer.parametrizations.weight
    params = [held.original, held[0].logits]
    if frozen is not None:
        params.pop(frozen).requires_grad_(False)

    def twice(weight):
        loss = (x @ weight.T).square().mean() + 0.1 * held[0].kept.square()
        first = torch.autograd.grad(loss, params, create_graph=True)
        return [*first, *torch.autograd.grad(sum(g.square().sum() for g in first), params)]

    torch.manual_seed(1)
    found = twice(layer.weight)
    torch.manual_seed(1)
    gates = held[0].straight_through()  # of the same noise
    held[0].kept = gates.sum()
    for ours, expected in zip(found, twice(held.original * gates), strict=True):
        assert expected.any()
        assert torch.allclose(ours, expected, atol=1e-5)


def test_a_density_loss_whose_gradient_got_lost_is_refused():
    x = torch.randn(3, 6, requires_grad=True)
    model = pruning.gate(Deep(reentrant=True))
    model(x)
    with pytest.raises(RuntimeError, match="use_reentrant=False"):
        pruning.density_loss(model, 0.1)
    model = pruning.gate(Deep())
    model(x)
    with torch.no_grad():
        model(x)  # for logging, say
        assert pruning.density_loss(model, 0.1) >= 0
    with pytest.raises(RuntimeError, match="without gradients"):
        pruning.density_loss(model, 0.1)
    model(x)
    assert pruning.density_loss(model, 0.1).requires_grad


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x, second=False):
        return self.two(x) if second else self.one(x)


def test_a_layer_that_was_not_run_is_sampled_for_the_density():
    model = pruning.gate(Branches(), init=0.5)
    x = torch.randn(2, 4)
    for second in (False, True, False):
        model.zero_grad()
        (model(x, second).sum() + pruning.density_loss(model, 0.0) * 100).backward()
        assert all(p.grad.any() for p in pruning.gate_parameters(model))
    model(x)
    values = {pruning.density(model).item() for _ in range(3)}
    assert len(values) == 1


def test_an_output_gate_that_was_not_run_counts_all_its_weights():
    model = pruning.gate(Branches(), granularity="output", layers=["one", "two"])
    with torch.no_grad():
        gates(model)["one"].logits.fill_(-50)
        gates(model)["two"].logits.fill_(50)
    model(torch.randn(2, 4))
    assert pruning.density(model).item() == 16 / 32


def test_frozen_layers_and_frozen_gates():
    model, x = pruning.gate(net(), init=0.5), torch.randn(4, 6)
    model[0].eval()  # a frozen layer: its mask counts, and gets no gradient
    with torch.no_grad():
        gates(model)["0"].logits.fill_(-1)
    out = model(x)
    assert pruning.density(model).item() == pytest.approx(gates(model)["2"].kept.item() / 45)
    (out.sum() + pruning.density_loss(model, 1.0)).backward()
    assert gates(model)["0"].logits.grad is None
    assert gates(model)["2"].logits.grad.any()
    model.train()
    for logits in pruning.gate_parameters(model):
        logits.requires_grad_(False)
    model(x)
    assert not pruning.density_loss(model, 0.1).requires_grad  # as asked
    gates(model)["2"].logits.requires_grad_(True)
    model(x)
    pruning.density_loss(model, 0.1).backward()


def train(model, optimizer, count=15):
    for _ in range(count):
        optimizer.zero_grad()
        (
            model(torch.randn(4, 6)).square().mean() + pruning.density_loss(model, 0.1)
        ).backward()
        optimizer.step()


@pytest.mark.parametrize(
    "make", [torch.optim.SGD, lambda p, lr: torch.optim.Adam(p, lr, fused=True)]
)
def test_an_optimizer_built_before_the_gates_is_warned_about(make):
    model = net()
    optimizer = make(model.parameters(), lr=0.01)
    pruning.gate(model)
    with pytest.warns(
        UserWarning, match="10 optimizer steps have moved gated weights and none their gates"
    ):
        train(model, optimizer)
    model = pruning.gate(net())
    train(model, make(model.parameters(), lr=0.01))  # warnings are errors
    model = pruning.gate(net())
    for logits in pruning.gate_parameters(model):
        logits.requires_grad_(False)
    train(model, make([p for p in model.parameters() if p.requires_grad], lr=0.01))


def test_the_warning_comes_at_the_tenth_step_and_points_at_it():
    model, other = net(), net()
    optimizers = [torch.optim.SGD(each.parameters(), lr=0.01) for each in (other, model)]
    pruning.gate(other)  # an earlier model, whose watch is open
    pruning.gate(model)
    train(other, optimizers[0], 3)
    train(model, optimizers[1], 9)
    with pytest.warns(UserWarning, match="10 optimizer steps") as caught:
        train(model, optimizers[1], 1)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    train(model, optimizers[1])  # once is enough
    train(other, optimizers[0], 6)
    with pytest.warns(UserWarning, match="10 optimizer steps"):
        train(other, optimizers[0], 1)


def test_one_hook_on_optimizers_serves_all_models(monkeypatch):
    hooks = []
    monkeypatch.setattr(watching, "_hook", None)
    monkeypatch.setattr(
        watching,
        "register_optimizer_step_post_hook",
        lambda hook: hooks.append(hook) or "handle",
    )
    for _ in range(2):
        pruning.gate(net())
    assert hooks == [watching._after_step]


def test_optimizers_that_take_turns_and_models_that_are_gone_are_no_reason_to_warn(
    monkeypatch,
):
    monkeypatch.setattr(watching, "_open", [])
    gone = net()
    optimizer = torch.optim.SGD(gone.parameters(), lr=0.01)
    pruning.gate(gone)
    train(gone, optimizer, 2)
    del gone
    gc.collect()
    optimizer.step()  # which holds its weights, whose gates are gone
    assert not watching._open
    model = pruning.gate(net())
    logits = list(pruning.gate_parameters(model))
    known = {id(each) for each in logits}
    weights = [p for p in model.parameters() if id(p) not in known]
    train(model, torch.optim.SGD(weights, lr=0.01), 9)
    train(model, torch.optim.SGD(logits, lr=0.01), 1)
    train(model, torch.optim.SGD(weights, lr=0.01))
    assert not watching._open  # nothing is left to see


def test_accumulated_gradients_are_no_reason_to_warn():
    model = pruning.gate(net())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for step in range(60):
        (
            model(torch.randn(4, 6)).square().mean() + pruning.density_loss(model, 0.1)
        ).backward()
        if step % 30 == 29:
            optimizer.step()


@pytest.mark.parametrize(
    "norm", [parametrizations.spectral_norm, parametrizations.weight_norm]
)
def test_normalised_and_pruned_layers_are_refused(norm):
    model = net()
    norm(model[0])
    with pytest.raises(ValueError, match="'0' is gated or parametrized already, by"):
        pruning.gate(model)
    assert not gates(model)
    assert list(gates(pruning.gate(model, ignore=["0"]))) == ["2"]


@pytest.mark.parametrize("norm", [torch.nn.utils.spectral_norm, "weight_norm"])
def test_the_norms_of_old_are_refused(norm):
    model = net()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (torch.nn.utils.weight_norm if norm == "weight_norm" else norm)(model[0])
    for act in (pruning.gate, pruning.magnitude, pruning.masks):
        with pytest.raises(ValueError, match="computed by a forward"):
            act(model)


class Doubled(nn.Module):
    def forward(self, weight):
        return 2 * weight

    def right_inverse(self, weight):
        return weight / 2


def test_a_second_parametrization_on_a_gated_layer_stays_under_harden():
    model, x = pruning.gate(net()), torch.randn(4, 6)
    parametrize.register_parametrization(model[0], "weight", Doubled())
    scattered(model)
    expected = model.eval()(x)
    pruning.harden(model)
    assert torch.equal(model(x), expected)
    assert [type(each).__name__ for each in model[0].parametrizations.weight] == [
        "Mask",
        "Doubled",
    ]
    pruning.finalize(model)
    assert torch.equal(model(x), expected)
    assert type(model[0]) is nn.Linear


def test_a_pruned_bias_stays_pruned():
    model, x = net(), torch.randn(4, 6)
    prune.l1_unstructured(model[0], "bias", 2)
    pruning.gate(model)
    model.eval()(x)
    removed = model[0].bias == 0
    assert removed.sum() == 2
    pruning.harden(scattered(model))
    with torch.no_grad():
        model[0].bias_orig += 1
    expected = model(x)
    pruning.finalize(model)
    assert torch.equal(model[0].bias == 0, removed)
    assert torch.equal(model(x), expected)
    assert list(model.state_dict()) == list(net().state_dict())


def test_shared_weights_and_lazy_layers_are_refused():
    model = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 4), nn.Linear(4, 7))
    model[2].weight = model[0].weight
    with pytest.raises(ValueError, match=r"'2' shares its weight with \['0'\]"):
        pruning.gate(model)
    assert list(gates(pruning.gate(model, ignore=["0", "2"]))) == ["1"]
    with pytest.raises(ValueError, match="'0' has no shape yet"):
        pruning.gate(nn.Sequential(nn.LazyLinear(3)))


def test_harden_refuses_what_is_no_mask_and_changes_nothing():
    model = pruning.gate(net())
    with torch.no_grad():
        gates(model)["2"].logits[0, 0] = math.nan
    with pytest.raises(ValueError, match=r"logits of \['2'\] are NaN"):
        pruning.harden(model)
    for wrong in (2.5, 3.0, "many", True, -1):
        with pytest.raises(ValueError, match=r"at_most: got .*, needs a whole number"):
            pruning.harden(pruning.gate(net()), at_most=wrong)
    assert len(gates(model)) == 2


def test_harden_says_where_far_more_is_kept_than_was_asked_for():
    model = pruning.gate(net(), init=0.6)  # 45 weights, every gate a little open
    model(torch.randn(4, 6))
    pruning.density_loss(model, 0.2)
    copied = copy.deepcopy(model)
    with pytest.warns(
        UserWarning, match="keep 45 of 45 weights; density_loss asked for 9.*at_most=9"
    ) as caught:
        pruning.harden(model)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    scattered(copied)
    pruning.harden(copied, at_most=9)  # warnings are errors
    pruning.harden(pruning.gate(net()))  # no density was asked for
    pruning.harden(pruning.gate(net()), at_most=45)  # the budget holds all
    pruning.harden(pruning.gate(nn.Linear(1, 1)), at_most=1)
    model = pruning.gate(net(), init=0.6)
    model(torch.randn(4, 6))
    pruning.density_loss(model, 2 / 3)
    pruning.harden(model)  # one and a half times the 30 that were asked for, and no more


@pytest.mark.filterwarnings("ignore:model. no weight is left")
@pytest.mark.parametrize("budget", [1, 9, 44])
def test_a_budget_without_training_is_magnitude_pruning_and_says_so(budget):
    model = net()
    pruned = copy.deepcopy(model)
    pruning.prune_by_score(pruned, pruning.magnitude(model), 1 - budget / 45)
    with pytest.warns(UserWarning, match="all logits are equal.*train the model"):
        pruning.harden(pruning.gate(model), at_most=budget)
    for key, expected in pruning.masks(pruned).items():
        assert torch.equal(pruning.masks(model)[key], expected)


def test_equal_gates_of_equal_weights_go_by_position():
    layer = nn.Linear(2000, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_((torch.arange(2000) * 7 % 5 - 2.0)[None])
    sizes = layer.weight.detach().abs()[0].tolist()
    first = sorted(range(2000), key=lambda place: (-sizes[place], place))[:1000]
    with pytest.warns(UserWarning, match="all logits are equal"):
        pruning.harden(pruning.gate(layer), at_most=1000)
    assert pruning.masks(layer)[""][0].nonzero().flatten().tolist() == sorted(first)


@pytest.mark.parametrize(("budget", "stay"), [(17, [2, 4]), (18, [0, 2, 4])])
def test_equal_output_gates_go_by_the_mean_size_of_their_weights(budget, stay):
    model = pruning.gate(net(), granularity="output")
    with torch.no_grad():
        model[0].parametrizations.weight.original.copy_(
            torch.tensor([3.0, 1, -5, 2, 4])[:, None].expand(5, 6)
        )
    with pytest.warns(UserWarning, match="all logits are equal"):
        pruning.harden(model, at_most=budget)  # six weights a gate
    kept = pruning.masks(model)["0"]
    assert torch.equal(kept.any(1), kept.all(1))
    assert kept.all(1).nonzero().flatten().tolist() == stay


def test_harden_names_the_layers_that_it_empties():
    model = pruning.gate(net())
    with torch.no_grad():
        gates(model)["2"].logits.fill_(-1)
    with pytest.warns(UserWarning, match=r"no weight is left in \['2'\]") as caught:
        pruning.harden(model)
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_what_gates_do_not_cover_is_said_once():
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 2))
    with pytest.warns(UserWarning, match=r"\['0.weight'\] have no gates") as caught:
        pruning.gate(model)
    assert len(caught) == 1
    assert caught[0].filename == __file__


def structured():
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.ConvTranspose2d(4, 3, 2),
        nn.Sigmoid(),
        nn.Flatten(),
        nn.Linear(75, 7, bias=False),
        nn.Tanh(),
        nn.Linear(7, 3),
    )


def test_output_gates_are_one_a_unit_on_all_layers_but_the_last():
    model = pruning.gate(structured(), granularity="output")
    shapes = {key: tuple(gate.logits.shape) for key, gate in gates(model).items()}
    assert shapes == {"0": (4, 1, 1, 1), "3": (1, 3, 1, 1), "6": (7, 1)}
    assert sum(p.numel() for p in pruning.gate_parameters(model)) == 14
    named = pruning.gate(structured(), granularity="output", layers=["8"])
    assert list(gates(named)) == ["8"]


def test_a_closed_output_is_zero_with_its_bias_in_training_and_evaluation():
    model = pruning.gate(structured(), granularity="output", init=0.5)
    x = torch.randn(4, 2, 4, 4)
    seen = {}
    for key in ("0", "3", "6"):
        layer = model.get_submodule(key)
        layer.register_forward_hook(
            lambda layer, args, out, key=key: seen.update({key: out.detach()})
        )
    for train in (True, False):
        scattered(model.train(train))
        with torch.no_grad():
            model(x)
        for key, gate in gates(model).items():
            opened = (
                gate._sample.detach().flatten()
                if train
                else gate.logits.detach().flatten() > 0
            )
            assert 0 < opened.sum() < len(opened) or len(opened) < 5
            outputs = seen[key].transpose(0, 1).flatten(1)
            assert torch.equal(outputs.any(1), opened.bool())


def test_output_gates_follow_the_equations(monkeypatch):
    from pruning.methods import sampling

    layer, tau, noise = nn.Linear(4, 3), 0.7, torch.randn(3, 1) * 2
    monkeypatch.setattr(sampling, "logistic_noise", lambda like: noise.clone())
    weight, bias = (p.detach().clone().requires_grad_() for p in (layer.weight, layer.bias))
    pruning.gate(layer, tau=tau, init=0.6, layers=[""], granularity="output")
    x, v = torch.randn(8, 4), torch.randn(8, 3)
    loss = (layer(x) * v).sum() + 5 * pruning.density_loss(layer, 0.1)
    loss.backward()
    logits = torch.full((3, 1), math.log(0.6 / 0.4), requires_grad=True)
    soft = torch.sigmoid((logits + noise) / tau)  # Eq. 1
    g = (soft > 0.5).float() + soft - soft.detach()  # Eq. 2
    out = x @ (weight * g).T + bias * g.flatten()
    expected = (out * v).sum() + 5 * (g.mean() - 0.1).abs()  # Eq. 3
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.allclose(layer.parametrizations.weight.original.grad, weight.grad, atol=1e-5)
    assert torch.allclose(layer.parametrizations.bias.original.grad, bias.grad, atol=1e-5)
    assert torch.allclose(gates(layer)[""].logits.grad, logits.grad, atol=1e-5)


def test_the_density_of_output_gates_is_that_of_the_weights():
    model = scattered(pruning.gate(structured(), granularity="output"))
    masks = {key: pruning.masks(model)[key] for key in ("0", "3", "6")}
    kept, total = (
        sum(int(f(mask)) for mask in masks.values()) for f in (torch.sum, torch.numel)
    )
    assert pruning.density(model.eval()).item() == pytest.approx(kept / total)
    model.train()(torch.randn(4, 2, 4, 4))
    kept = sum(int((model.get_submodule(key).weight != 0).sum()) for key in masks)
    assert pruning.density(model).item() == pytest.approx(kept / total)


def test_hardened_output_gates_remove_whole_units_with_their_biases():
    model = pruning.gate(structured(), granularity="output")
    with torch.no_grad():
        for key, gate in gates(model).items():
            gate.logits.copy_(
                (torch.arange(gate.logits.numel()) % 2 - 0.5).view_as(gate.logits)
                * (1 + int(key))
            )
    x = torch.randn(4, 2, 4, 4)
    expected = model.eval()(x)
    state = copy.deepcopy(model).state_dict()
    again = pruning.gate(structured(), granularity="output")
    again.load_state_dict(state)
    assert torch.equal(again.eval()(x), expected)
    with pytest.warns(UserWarning, match=r"no weight is left in \['0'\]"):
        budgeted = pruning.harden(copy.deepcopy(model), at_most=3 * 75 + 16 + 1)
    pruning.harden(model)
    assert torch.equal(model(x), expected)
    steps(model.train(), x)
    pruning.finalize(model)
    rows = (
        model[0].weight.flatten(1),
        model[3].weight.transpose(0, 1).flatten(1),
        model[6].weight,
    )
    assert [row.any(1).tolist() for row in rows] == [
        [k % 2 == 1 for k in range(len(row))] for row in rows
    ]
    assert (model[0].bias != 0).tolist() == [False, True, False, True]
    assert (model[3].bias != 0).tolist() == [False, True, False]
    # the largest logits are three of layer 6, 75 weights a gate, then one of layer 3 with 16
    # weights
    kept = pruning.masks(budgeted)
    assert [int(kept[key].sum()) for key in ("0", "3", "6")] == [0, 16, 225]


def test_what_has_no_outputs_to_gate_is_refused():
    with pytest.raises(
        ValueError, match=r"\['weight_ih_l0', 'weight_hh_l0'\] have no outputs"
    ):
        pruning.gate(
            nn.LSTM(2, 3), granularity="output", layers=["weight_ih_l0", "weight_hh_l0"]
        )
    with pytest.raises(ValueError, match="no layer but the last"):
        pruning.gate(nn.Linear(2, 3), granularity="output")
    grouped = nn.Sequential(nn.ConvTranspose2d(4, 4, 2, groups=2), nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"'0' is a grouped transposed .*ignore=\['0'\]"):
        pruning.gate(grouped, granularity="output")
    pruned = net()
    prune.l1_unstructured(pruned[0], "bias", 2)
    with pytest.raises(ValueError, match=r"layers: '0\.bias' carries a mask"):
        pruning.gate(pruned, granularity="output")


def test_closed_outputs_are_cut_out_of_a_resnet_by_compact():
    model, x = pruning.models.cifar_resnet(20).train(), torch.randn(4, 3, 32, 32)
    model(x)  # running statistics of batch norm that are not those of the start
    pruning.harden(scattered(pruning.gate(model, granularity="output")).eval())
    small = pruning.compact(model, x)
    assert torch.allclose(small(x), model(x), atol=1e-4)
    sizes = [sum(p.numel() for p in each.parameters()) for each in (small, model)]
    assert sizes[0] < 0.6 * sizes[1]


@pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor that is not a leaf"
)  # torch
@pytest.mark.parametrize("granularity", ["weight", "output"])
def test_a_compiled_model_trains_its_gates(granularity):
    torch.manual_seed(0)
    layers = nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)
    model = pruning.gate(nn.Sequential(*layers), granularity=granularity)
    compiled = torch.compile(model, backend="aot_eager")  # inductor needs a C++ compiler
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    x = torch.randn(64, 6)
    y = x[:, :3].argmax(1)
    for _ in range(30):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(compiled(x), y)
        (loss + pruning.density_loss(model, 0.4)).backward()
        optimizer.step()
    logits = pruning.gate_parameters(model)
    assert all(each.unique().numel() > 1 for each in logits)
    torch.manual_seed(1)
    sampled = compiled(x)
    torch.manual_seed(1)
    torch.testing.assert_close(sampled, model(x))  # the same gates from the same seed
    model.eval()
    torch.testing.assert_close(compiled(x), model(x))
    torch._dynamo.reset()
