import copy
import math

import pytest
import torch
from torch import nn

import pruning
from pruning.methods.rewiring import SET, DeepR, SETSettings, _random_indices, set_phases
from pruning.methods.shares import erdos_renyi
from pruning.networks.masks import mask_of, original, set_mask
from pruning.training import Callback, fit, recipes

LENET = [(300, 784), (100, 300), (10, 100)]


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 4))


def train(model, *callbacks, epochs=6, lr=0.05):
    torch.manual_seed(0)
    x, y = torch.randn(96, 20), torch.randint(0, 4, (96,))
    fit(
        model,
        x,
        y,
        epochs=epochs,
        batch_size=16,
        callbacks=callbacks,
        optimizer=lambda m: torch.optim.Adam(m.parameters(), lr=lr),
    )
    return model


class Watch(Callback):
    """What the masks and weights are after every step."""

    def __init__(self):
        self.masks, self.weights = [], []

    def after_step(self, model, progress):
        linear = [m for m in model if isinstance(m, nn.Linear)]
        self.masks.append([mask_of(m).clone() for m in linear])
        self.weights.append([original(m).detach().clone() for m in linear])


@pytest.mark.parametrize("density", [0.001, 0.01, 0.2])
def test_erdos_renyi_is_its_formula_where_no_layer_is_full(density):
    counts = erdos_renyi(LENET, density)
    assert sum(counts) == round(density * 266_200)
    sums = torch.tensor([1084.0, 400.0, 110.0])
    expected = density * 266_200 * sums / sums.sum()
    if (expected < torch.tensor([235_200.0, 30_000.0, 1_000.0])).all():
        assert torch.allclose(torch.tensor(counts, dtype=torch.float), expected, atol=1)
    else:  # the last layer is full and the others share the rest in proportion
        assert counts[2] == 1000
        assert counts[0] / counts[1] == pytest.approx(1084 / 400, rel=1e-3)


def test_erdos_renyi_extremes():
    assert erdos_renyi(LENET, 1.0) == [235_200, 30_000, 1_000]
    assert erdos_renyi([(2, 3)], 0.5) == [3]
    for wrong in (0, 1.5, -0.1):
        with pytest.raises(ValueError, match=f"density: got {wrong}"):
            erdos_renyi(LENET, wrong)


@pytest.mark.parametrize(
    "make", [lambda: SET(0.1, 5), lambda: DeepR(0.1, lambda progress: 0.05, l1=0.1)]
)
def test_density_is_exact_at_every_step_and_connections_move(make):
    watch = Watch()
    model = train(net(), make(), watch)
    expected = erdos_renyi([(30, 20), (4, 30)], 0.1)
    for found in watch.masks:
        assert [int(mask.sum()) for mask in found] == expected
        assert all(mask.dtype == torch.bool for mask in found)
    assert any(
        not torch.equal(a, b) for a, b in zip(watch.masks[0], watch.masks[-1], strict=True)
    )
    assert pruning.sparsity_report(model).kept.sum() == sum(expected) == 72
    model.eval()
    x = torch.randn(3, 20)
    assert torch.equal(model(x), model(x))


def test_same_seed_same_network():
    a, b = (train(net(), DeepR(0.2, lambda progress: 0.05)) for _ in range(2))
    assert all(
        torch.equal(p, q)
        for p, q in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize(
    "free", [40, 8]
)  # of 50: enough to hit by drawing, or so few that all are listed
def test_every_free_position_has_the_same_chance(free):
    torch.manual_seed(0)
    among = torch.arange(50) % 50 < free
    rounds, count = 4000, 5
    hits = torch.zeros(50)
    for _ in range(rounds):
        places = _random_indices(among, count)
        assert len(places.unique()) == count
        hits[places] += 1
    expected = rounds * count / free
    chi_square = ((hits[:free] - expected) ** 2 / expected).sum()
    assert hits[free:].sum() == 0
    assert (
        chi_square < free - 1 + 4 * (2 * (free - 1)) ** 0.5
    )  # four standard deviations above its mean


def test_no_more_positions_than_there_are():
    assert _random_indices(
        torch.tensor([False, True, False, True]), 3
    ).sort().values.tolist() == [1, 3]
    assert len(_random_indices(torch.zeros(4, dtype=torch.bool), 2)) == 0


def test_positions_are_drawn_where_the_weights_are():
    among = torch.arange(50) < 40
    with torch.device("meta"):  # of new tensors, unless they are told where to be
        places = [_random_indices(among, count) for count in (5, 40)]
    assert all(among[each].all() for each in places)


def test_positions_are_those_that_the_records_were_made_with():
    among = torch.arange(20) < 12
    torch.manual_seed(10)
    assert _random_indices(among, 3).tolist() == [5, 1, 7]


def test_set_drops_the_smallest_and_grows_elsewhere():
    model, method = net(), SET(0.3, rewirings=1, fraction=0.25)
    method.start(model)
    before = [(mask_of(m).clone(), original(m).detach().clone()) for m in (model[0], model[2])]
    method.after_step(model, 0.49)  # not yet
    assert all(
        torch.equal(mask_of(m), b[0])
        for m, b in zip((model[0], model[2]), before, strict=True)
    )
    method.after_step(model, 0.5)
    for layer, (mask, weight) in zip((model[0], model[2]), before, strict=True):
        active = weight[mask == 1].abs()
        count = int(0.25 * len(active))
        dropped = (mask == 1) & (mask_of(layer) == 0)
        grown = (mask == 0) & (mask_of(layer) == 1)
        assert dropped.sum() == grown.sum() == count > 0
        assert weight[dropped].abs().max() <= active.sort().values[count - 1]
        assert (original(layer)[grown] == 0).all()
    after = mask_of(model[0]).clone()
    method.after_step(model, 0.99)
    assert torch.equal(mask_of(model[0]), after)


def test_set_rewires_as_often_as_asked():
    watch = Watch()
    train(net(), SET(0.2, rewirings=5), watch)  # 6 epochs of 6 steps
    moves = [
        step
        for step in range(1, len(watch.masks))
        if not torch.equal(watch.masks[step][0], watch.masks[step - 1][0])
    ]
    assert moves == [6, 12, 18, 24, 30]


def test_deepr_keeps_signs():
    model, watch = net(), Watch()
    signs = [torch.where(m.weight < 0, -1, 1) for m in (model[0], model[2])]
    train(model, DeepR(0.3, lambda progress: 0.05), watch)
    for masks, weights in zip(watch.masks, watch.weights, strict=True):
        for mask, weight, sign in zip(masks, weights, signs, strict=True):
            assert (weight * sign)[mask == 1].min() >= 0


def test_deepr_drift_and_noise():
    model, rate, l1 = nn.Sequential(nn.Linear(400, 200)), 0.1, 0.01
    method = DeepR(0.5, lambda progress: rate, l1)
    method.start(model)
    before, mask = original(model[0]).detach().clone(), mask_of(model[0])
    method.after_step(model, 0.0)
    stayed = (mask == 1) & (mask_of(model[0]) == 1) & (before.abs() > 5 * rate * l1)
    change = (original(model[0]).detach() - before)[stayed] * before[stayed].sign()
    assert change.mean().item() == pytest.approx(-rate * l1, rel=0.02)
    assert change.std().item() == pytest.approx(rate * l1 / 3, rel=0.02)  # √(2ηT), T = ηα²/18


def test_full_density_leaves_nothing_to_rewire():
    for method in (SET(1.0, 5), DeepR(1.0, lambda progress: 0.05, l1=1.0)):
        model = train(net(), method)
        assert pruning.sparsity_report(model).kept.tolist() == [600, 120]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SET(0.0, 5), "density: got 0.0"),
        (lambda: SET(0.1, -1), "rewirings: got -1"),
        (lambda: SET(0.1, 2.5), r"rewirings: got 2\.5, needs a whole number, 0 or more"),
        (lambda: DeepR(0.1, lambda progress: 0.1, l1=math.nan), "l1: got nan"),
        (lambda: SET(0.1, 5, fraction=1.0), "fraction: got 1.0"),
        (lambda: SET(0.1, 5, fraction=-0.1), "fraction: got -0.1"),
        (lambda: SET(0.1, 5, allocation="global"), "allocation: got 'global', needs 'uni"),
        (lambda: DeepR(0.1, lambda progress: 0.1, allocation="global"), "got 'global'"),
        (lambda: DeepR(1.2, lambda progress: 0.1), "density: got 1.2"),
        (lambda: DeepR(0.1, lambda progress: 0.1, l1=-1.0), "l1: got -1.0"),
    ],
)
def test_wrong_values_are_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_models_that_cannot_be_rewired():
    with pytest.raises(ValueError, match="has no weights to prune"):
        SET(0.5, 1).start(nn.Sequential(nn.ReLU()))
    with pytest.raises(ValueError, match="pruned or gated already"):
        SET(0.5, 1).start(pruning.gate(net()))
    normed = net()
    name, layer = next(
        each for each in normed.named_modules() if isinstance(each[1], nn.Linear)
    )
    nn.utils.parametrizations.weight_norm(layer)
    with pytest.raises(ValueError, match=f"'{name}' is pruned .*, or parametrized otherwise"):
        SET(0.5, 1).start(normed)


METHODS = pytest.mark.parametrize(
    "make",
    [lambda: SET(0.3, 1, fraction=0.5), lambda: DeepR(0.3, lambda progress: 0.05, l1=1.0)],
)


def changed(model, before):
    """Of each Linear layer, whether its mask or its weights are others than before."""
    return [
        not (torch.equal(mask_of(m), mask) and torch.equal(original(m), weight))
        for m, (mask, weight) in zip((model[0], model[2]), before, strict=True)
    ]


def state(model):
    return [(mask_of(m).clone(), original(m).detach().clone()) for m in (model[0], model[2])]


@METHODS
def test_frozen_layers_stay_as_start_left_them(make):
    model, method = net(), make()
    model[0].requires_grad_(False)
    method.start(model)
    before = state(model)
    assert int(before[0][0].sum()) < 600  # masked all the same
    method.after_step(model, 0.5)
    assert changed(model, before) == [False, True]


@METHODS
def test_layers_without_a_gradient_in_a_step_stay_as_they_are(make):
    model, method = net(), make()
    method.start(model)
    before = state(model)
    model[2](torch.randn(5, 30)).sum().backward()  # the first layer takes no part
    method.after_step(model, 0.5)
    assert changed(model, before) == [False, True]


@METHODS
def test_where_the_gradients_are_cleared_already_every_trained_layer_moves(make):
    model, method = net(), make()
    method.start(model)
    before = state(model)
    model(torch.randn(5, 20)).sum().backward()
    model.zero_grad()
    method.after_step(model, 0.5)
    assert changed(model, before) == [True, True]


def test_the_ends_of_ranges_and_the_defaults():
    nothing = SET(1.0, 0, fraction=0.0)
    assert (nothing.fraction, nothing.rewirings, nothing.allocation) == (0, 0, "erdos-renyi")
    assert SET(0.1, 5).fraction == 0.3
    usual = DeepR(0.1, lambda progress: 0.1)
    assert (usual.l1, usual.allocation) == (1e-4, "erdos-renyi")
    assert DeepR(0.1, lambda progress: 0.1, l1=0.0).l1 == 0


@pytest.mark.parametrize(("epochs", "rewirings"), [(0, 0), (1, 0), (2, 1)])
def test_set_moves_nothing_after_the_last_epoch(epochs, rewirings):
    problem = recipes.Problem(
        torch.randn(8, 4),
        torch.zeros(8),
        (4, 2),
        density=0.5,
        epochs=epochs,
        finetune_epochs=0,
    )
    (phase,) = set_phases(SETSettings(), problem)
    (method,) = phase.callbacks
    assert method.rewirings == rewirings
    assert method.state() == {"done": 0}


@METHODS
def test_each_weight_of_a_recurrent_layer_is_rewired_and_named_by_itself(make):
    lstm = nn.LSTM(4, 5)
    make().start(lstm)
    kept = {key: int(mask.sum()) for key, mask in pruning.masks(lstm).items()}
    assert kept.keys() == {"weight_ih_l0", "weight_hh_l0"}
    assert sum(kept.values()) == 54  # 0.3 of 180
    masked, pruned = nn.LSTM(4, 5), nn.LSTM(4, 5)
    set_mask(masked, torch.rand(20, 5) < 0.5, "weight_hh_l0")
    nn.utils.prune.random_unstructured(pruned, "weight_hh_l0", 5)
    for model in (masked, pruned):
        with pytest.raises(ValueError, match="'weight_hh_l0' is pruned or gated already"):
            make().start(model)


def test_deepr_moves_at_the_rate_of_the_moment():
    model, method = net(), DeepR(0.5, lambda progress: 0.1 * progress, l1=1.0)
    method.start(model)
    method.after_step(model, 0.0)  # weights of another sign than the first are none here
    before = state(model)
    method.after_step(model, 0.0)
    assert changed(model, before) == [False, False]
    method.after_step(model, 0.5)
    assert changed(model, before) == [True, True]


@pytest.mark.parametrize("made", [SET(0.5, 3), DeepR(0.5, lambda progress: 0.1)])
def test_a_step_before_the_start_is_refused(made):
    with pytest.raises(RuntimeError, match=f"this {type(made).__name__} has masked no model"):
        made.after_step(nn.Linear(4, 3), 0.5)


@METHODS
@pytest.mark.parametrize("progress", [7, -0.1, math.nan])
def test_a_count_of_steps_is_no_progress(make, progress):
    model, method = net(), make()
    method.start(model)
    with pytest.raises(ValueError, match=rf"progress: got {progress}, needs the fraction"):
        method.after_step(model, progress)


def test_a_rate_is_a_function():
    with pytest.raises(TypeError, match=r"rate: got 0\.1, needs a function of progress"):
        DeepR(0.5, 0.1)


def stepped(model, method, x, first, last, of=20):
    """Adam's steps from `first` to `last`, each with `method` after it."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for step in range(first, last):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
        method.after_step(model, step / of)


def test_deepr_goes_on_in_a_model_of_another_init():
    x, kinds = torch.randn(8, 20), {"rate": lambda progress: 0.01, "l1": 1e-3}
    model, method = net(), DeepR(0.3, **kinds)
    method.start(model)
    stepped(model, method, x, 0, 10)
    torch.manual_seed(5)
    again = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 4))
    other = DeepR(0.3, **kinds)
    other.start(again)
    again.load_state_dict(model.state_dict())
    other.load({key: value.clone() for key, value in method.state().items()})
    for each, its in ((model, method), (again, other)):
        torch.manual_seed(6)
        stepped(each, its, x, 10, 20)
    assert all(
        torch.equal(p, q)
        for p, q in zip(model.state_dict().values(), again.state_dict().values(), strict=True)
    )


def test_a_state_without_signs_is_refused():
    method = DeepR(0.3, lambda progress: 0.01)
    method.start(net())
    assert method.state().keys() == {"signs.0", "signs.2"}
    with pytest.raises(ValueError, match=r"state: has no signs of \['0', '2'\]"):
        method.load({})
    with pytest.raises(ValueError, match=r"state: has no signs of \['2'\]"):
        method.load({"signs.0": method.signs["0"]})


def test_signs_follow_the_weights_to_another_dtype():
    model, method = net(), DeepR(0.3, lambda progress: 0.01)
    method.start(model)
    signs = torch.where(original(model[0]) < 0, -1, 1)
    model.double()
    method.after_step(model, 0.0)
    assert method.signs["0"].dtype == torch.float64
    assert torch.equal(method.signs["0"], signs.double())


@METHODS
def test_weights_that_were_assigned_are_those_that_are_rewired(make):
    """As where they were copied: the parameters of `start` are no part of the model then."""
    found = []
    for assign in (False, True):
        model, method = net(), make()
        torch.manual_seed(1)
        method.start(model)
        trained = {  # masks and all
            key: value if key.endswith("keep") else torch.randn_like(value)
            for key, value in model.state_dict().items()
        }
        trained = {key: value.clone() for key, value in trained.items()}
        model.load_state_dict(trained, assign=assign)
        method.after_step(model, 0.5)
        found.append(state(model))
    for (mask, weight), (assigned, new) in zip(*found, strict=True):
        assert torch.equal(mask, assigned)
        assert torch.equal(weight, new)


@METHODS
def test_a_copy_is_rewired_and_not_the_first_model(make):
    model, method = net(), make()
    method.start(model)
    twin, before = copy.deepcopy(model), state(model)
    method.after_step(twin, 0.5)
    assert changed(twin, before) == [True, True]
    assert changed(model, before) == [False, False]


@METHODS
def test_a_model_that_start_has_not_masked_is_refused(make):
    model, method = net(), make()
    method.start(model)
    before = state(model)
    for other in (net(), nn.Sequential(model), nn.Sequential(nn.ReLU())):
        with pytest.raises(ValueError, match="model: '0' has no mask of this"):
            method.after_step(other, 0.5)
    assert changed(model, before) == [False, False]


@METHODS
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("side", [3, 1])  # 1 × 1 is contiguous in both layouts
def test_channels_last_is_rewired_as_the_contiguous_layout_is(make, when, side):
    found, last = [], torch.channels_last
    for moved in (None, when):
        torch.manual_seed(2)
        model = nn.Sequential(nn.Conv2d(2, 8, side), nn.ReLU(), nn.Conv2d(8, 4, side))
        model, method = model.to(memory_format=last) if moved == "before" else model, make()
        method.start(model)
        model = model.to(memory_format=last) if moved == "after" else model
        for progress in (0.2, 0.5):
            for parameter in model.parameters():
                parameter.grad = torch.zeros_like(parameter)
            method.after_step(model, progress)
        assert side == 1 or original(model[0]).is_contiguous() == (moved is None)
        found.append(state(model))
    for (mask, weight), (other, moved) in zip(*found, strict=True):
        assert torch.equal(mask, other)
        assert torch.equal(weight, moved)


@pytest.mark.parametrize("kind", [SET, DeepR])
def test_ignored_layers_stay_dense_and_are_not_counted(kind):
    second = 1 if kind is SET else lambda progress: 1e3
    model, method = net(), kind(0.3, second, ignore=["2"])
    method.start(model)
    assert not nn.utils.parametrize.is_parametrized(model[2])
    assert int(mask_of(model[0]).sum()) == 180  # 0.3 of 600
    dense, before = model[2].weight.detach().clone(), mask_of(model[0])
    method.after_step(model, 0.5)
    assert int(mask_of(model[0]).sum()) == 180
    assert not torch.equal(mask_of(model[0]), before)
    assert torch.equal(model[2].weight, dense)
    with pytest.raises(ValueError, match="ignore: got '4', needs some of"):
        kind(0.3, second, ignore=["4"]).start(net())


def test_a_step_of_deepr_draws_what_the_records_were_made_with():
    """The step as the formulas write it, with one draw of noise and one of places a layer."""
    model, method = net(), DeepR(0.3, lambda progress: 0.5, l1=0.1)
    method.start(model)
    before = state(model)
    signs = [torch.where(weight < 0, -1, 1) for _, weight in before]
    torch.manual_seed(7)
    method.after_step(model, 0.5)
    torch.manual_seed(7)
    for (mask, weight), sign, (now, new) in zip(before, signs, state(model), strict=True):
        noise = torch.randn(weight.shape)
        theta = ((noise / 3 - 1) * 0.05 + weight * sign) * mask
        crossed = (theta.flatten() < 0).nonzero().flatten()
        assert len(crossed)
        expected = mask.flatten().clone()
        grown = _random_indices(~expected, len(crossed))
        expected[crossed] = False
        expected[grown] = True
        assert torch.equal(now, expected.view_as(now))
        torch.testing.assert_close(new, theta.clamp(min=0) * sign)
