import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import pruning
from pruning import training
from pruning.methods import rigl
from pruning.networks import masks, models


def kept(model):
    return [int(mask.sum()) for mask in masks.masks(model).values()]


@pytest.mark.parametrize(
    ("progress", "share"), [(0.0, 0.3), (0.375, 0.15), (0.25, 0.225), (0.75, 0.0), (0.9, 0)]
)
def test_the_share_that_moves_follows_a_cosine(progress, share):
    assert rigl.moving(progress, 0.3, 0.75) == pytest.approx(share)


def test_the_count_of_every_layer_stays(digits):
    model, seen = models.mlp((64, 32, 10)), []

    class Watch(training.Callback):
        def after_step(self, model, progress):
            seen.append(kept(model))

    callback = rigl.RigL(weights=150, allocation=(0.6, 0.4), every=3)
    data = digits.train.inputs, digits.train.targets
    training.fit(model, *data, epochs=5, batch_size=64, callbacks=[callback, Watch()])
    assert set(map(tuple, seen)) == {(90, 60)}
    assert kept(model) == [90, 60]
    assert len(model[0].parametrizations.weight) == 1  # nothing but the mask is left


def test_one_update_by_hand():
    model = models.mlp((12, 6, 3), "silu")  # no dead neurons, so no two gradients are equal
    callback = rigl.RigL(weights=40, allocation="uniform", fraction=0.5, every=1, until=1.0)
    callback.start(model)
    x, y = torch.randn(20, 12), torch.randint(3, (20,))
    before = masks.masks(model)
    old = {name: masks.original(model.get_submodule(name)).detach().clone() for name in before}
    # the dense gradient, from a plain network with the masked weights
    plain = models.mlp((12, 6, 3), "silu")
    for name in before:
        plain.get_submodule(name).weight.data = old[name] * before[name]
        plain.get_submodule(name).bias.data = model.get_submodule(name).bias.data.clone()
    F.cross_entropy(plain(x), y).backward()
    F.cross_entropy(model(x), y).backward()
    callback.after_step(model, 0.0)
    for name, mask in masks.masks(model).items():
        count = int(0.5 * int(before[name].sum()))
        size = old[name].abs().masked_fill(~before[name], math.inf).flatten()
        dropped = size.argsort()[:count]
        stay = before[name].flatten().clone()
        stay[dropped] = False
        gradient = plain.get_submodule(name).weight.grad.abs().flatten().masked_fill(stay, -1)
        expected = stay.clone()
        expected[gradient.argsort(descending=True)[:count]] = True
        assert torch.equal(mask.flatten(), expected), name
        new = mask & ~before[name]
        assert not masks.original(model.get_submodule(name))[new].any()
        assert torch.equal(masks.original(model.get_submodule(name))[~new], old[name][~new])


def test_it_starts_where_it_is_told():
    model = models.mlp((12, 6, 3))
    start = {name: torch.rand(mask.shape) < 0.3 for name, mask in masks.masks(model).items()}
    rigl.RigL(weights=1, masks=start).start(model)
    assert all(torch.equal(mask, start[name]) for name, mask in masks.masks(model).items())


@pytest.mark.parametrize(
    "bad",
    [
        {"allocation": "global"},
        {"fraction": 1.0},
        {"fraction": -0.1},
        {"every": 0},
        {"every": 2.5},
        {"until": 0.0},
        {"until": 1.1},
    ],
)
def test_bad_input_is_named(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        rigl.RigL(10, **bad)


class TwoHeads(nn.Module):
    """A trunk, a head that the loss uses, and one that it does not."""

    def __init__(self):
        super().__init__()
        self.trunk, self.used, self.idle = nn.Linear(8, 6), nn.Linear(6, 3), nn.Linear(6, 4)

    def forward(self, x):
        x = F.silu(self.trunk(x))
        return self.used(x), self.idle(x)


def started(model, **settings):
    callback = rigl.RigL(
        weights=50, allocation="uniform", fraction=0.5, every=1, until=1.0, **settings
    )
    callback.start(model)
    return callback


@pytest.mark.parametrize("frozen", [False, True])
def test_layers_without_a_gradient_stay_as_they_are(frozen):
    model = TwoHeads()
    model.trunk.requires_grad_(not frozen)
    callback = started(model)
    before = masks.masks(model)
    model(torch.randn(9, 8))[0].square().sum().backward()
    callback.after_step(model, 0.0)
    after = masks.masks(model)
    assert not torch.equal(after["used"], before["used"])
    assert torch.equal(after["idle"], before["idle"])
    assert torch.equal(after["trunk"], before["trunk"]) == frozen


def test_a_frozen_layer_between_trained_ones_stays_as_it_is():
    model = models.mlp((8, 6, 6, 3), "silu")
    model[2].requires_grad_(False)
    callback = started(model)
    before = masks.masks(model)
    model(torch.randn(9, 8)).square().sum().backward()
    callback.after_step(model, 0.0)
    after = masks.masks(model)
    assert [torch.equal(after[name], before[name]) for name in after] == [False, True, False]


def test_an_update_before_any_backward_is_refused():
    model = models.mlp((8, 6, 3), "silu")
    callback = started(model)
    with pytest.raises(RuntimeError, match="no layer has had a gradient"):
        callback.after_step(model, 0.0)
    model.requires_grad_(False)  # nothing is trained, so nothing is missing
    callback.after_step(model, 0.0)


def test_a_gradient_that_overflowed_moves_no_weight_of_its_layer():
    model, x = TwoHeads(), torch.randn(9, 8)
    callback = started(model)
    before = masks.masks(model)
    used, idle = model(x)
    (used.square().sum() + (idle.square().sum() * 1e38) * 1e38).backward()
    callback.after_step(model, 0.0)
    after = masks.masks(model)
    assert [key for key in after if torch.equal(after[key], before[key])] == ["trunk", "idle"]
    used, idle = model(x)
    (used.square().sum() + idle.square().sum()).backward()
    callback.after_step(model, 0.0)
    after = masks.masks(model)
    assert not any(torch.equal(after[key], before[key]) for key in after)


@pytest.mark.parametrize("progress", [7, -0.1, math.nan])
def test_a_count_of_steps_is_no_progress(progress):
    model = models.mlp((8, 6, 3), "silu")
    callback = started(model)
    with pytest.raises(ValueError, match=rf"progress: got {progress}, needs the fraction"):
        callback.after_step(model, progress)
    assert callback.steps == 0


def test_a_gradient_serves_one_update_only():
    model = TwoHeads()
    callback = started(model)
    x = torch.randn(9, 8)
    sum(head.square().sum() for head in model(x)).backward()
    callback.after_step(model, 0.0)
    before = masks.masks(model)
    model(x)[0].square().sum().backward()
    callback.after_step(model, 0.0)
    assert torch.equal(masks.masks(model)["idle"], before["idle"])


def test_the_gradients_of_accumulated_batches_are_summed():
    model, x = models.mlp((8, 6, 3), "silu"), torch.randn(12, 8)
    start = {name: torch.rand(mask.shape) < 0.4 for name, mask in masks.masks(model).items()}
    found = []
    for parts in (1, 3):
        twin = copy.deepcopy(model)
        callback = started(twin, masks=start)
        for batch in x.chunk(parts):
            (twin(batch).square().sum() / len(x)).backward()
        callback.after_step(twin, 0.0)
        found.append(masks.masks(twin))
    assert all(torch.equal(found[0][name], found[1][name]) for name in start)
    assert any(not torch.equal(found[0][name], start[name]) for name in start)


def test_a_layer_that_is_called_twice_grows_by_the_sum():
    torch.manual_seed(1)
    layer = nn.Linear(6, 6)
    model = nn.Sequential(layer, nn.SiLU(), layer)
    callback = rigl.RigL(weights=12, allocation="uniform", fraction=0.5, every=1, until=1.0)
    callback.start(model)
    before, x = masks.mask_of(layer), torch.randn(9, 6)
    plain = pruning.finalize(copy.deepcopy(model))
    plain(x).square().sum().backward()
    model(x).square().sum().backward()
    callback.after_step(model, 0.0)
    dense = plain[0].weight.grad.abs()
    grown = masks.mask_of(layer) & ~before
    assert grown.any()
    assert dense[grown].min() >= dense[~masks.mask_of(layer)].max()


def test_masks_of_unknown_layers_are_refused_and_unnamed_layers_stay_dense():
    model = models.mlp((8, 6, 3), "silu")
    with pytest.raises(ValueError, match="masks: got layer 'head', needs some of"):
        rigl.RigL(weights=1, masks={"head": torch.ones(2, 2) > 0}).start(model)
    callback = started(model, masks={"0": torch.rand(6, 8) < 0.5})
    model(torch.randn(9, 8)).square().sum().backward()
    callback.after_step(model, 0.0)
    assert masks.masks(model)["2"].all()


def test_a_weight_of_several_tensors_is_refused_by_name():
    model = models.mlp((8, 6, 3))
    torch.nn.utils.parametrizations.weight_norm(model[2])
    with pytest.raises(ValueError, match="'2' is computed from several tensors"):
        rigl.RigL(weights=20).start(model)


def test_the_defaults_are_those_of_the_paper():
    method = rigl.RigL(10)
    assert (method.allocation, method.fraction) == ("erdos-renyi", 0.3)
    assert (method.every, method.until) == (100, 0.75)
    assert rigl.moving(0.375) == pytest.approx(0.15)
    assert rigl.moving(0.375, until=1.0) > 0.15
    assert rigl.RigL(10, fraction=0.0).fraction == 0


def test_gradients_are_kept_for_the_steps_that_need_them():
    model = models.mlp((8, 6, 3), "silu")
    callback = rigl.RigL(20, "uniform", fraction=0.5, every=3, until=1.0)
    callback.start(model)
    first, due = masks.masks(model), []
    for step in range(7):
        model(torch.randn(9, 8)).square().sum().backward()
        due.append(bool(callback.gradients))
        callback.after_step(model, 0.0)
        moved = not torch.equal(masks.masks(model)["0"], first["0"])
        assert moved == (step >= 2)
        assert callback.state() == {"steps": step + 1}
    assert due == [False, False, True, False, False, True, False]


def test_a_pass_in_evaluation_mode_gives_no_gradient_to_grow_by():
    model = models.mlp((8, 6, 3), "silu")
    callback = started(model)
    model.eval()(torch.randn(9, 8)).square().sum().backward()
    with pytest.raises(RuntimeError, match="backward pass in training mode"):
        callback.after_step(model.train(), 0.0)


def test_starting_again_and_finishing_leave_no_hook():
    model = models.mlp((8, 6, 3), "silu")
    callback = started(model)
    model(torch.randn(9, 8)).square().sum().backward()
    callback.after_step(model, 0.0)
    callback.load({"steps": torch.tensor(7)})
    assert callback.state() == {"steps": 7}
    callback.start(model)
    assert callback.state() == {"steps": 0}
    model(torch.randn(9, 8)).square().sum().backward()
    assert callback.gradients.keys() == {"0", "2"}
    callback.finish(model)
    assert not callback.gradients
    assert not any(module._forward_hooks for module in model.modules())


def test_before_its_start_it_has_done_nothing():
    method, frozen = rigl.RigL(20, every=2), models.mlp((8, 6, 3)).requires_grad_(False)
    assert method.state() == {"steps": 0}
    method.after_step(frozen, 0.0)  # no update is due
    with pytest.raises(RuntimeError, match="needs `start` before the forward pass"):
        method.after_step(frozen, 0.0)


def test_an_update_concerns_the_layers_that_have_masks_alone():
    model = models.mlp((8, 6, 3), "silu")
    model[0].requires_grad_(False)
    callback = started(model, masks={"0": torch.rand(6, 8) < 0.5})
    before = masks.masks(model)
    callback.after_step(model, 0.0)  # the trained layer, without a gradient, is not its own
    assert all(torch.equal(mask, before[name]) for name, mask in masks.masks(model).items())


def test_no_weight_moves_after_the_end_of_the_updates():
    model = models.mlp((8, 6, 3), "silu")
    callback = rigl.RigL(20, "uniform", fraction=0.5, every=1, until=0.4)
    callback.start(model)
    moved = []
    for progress in (0.3, 0.41):
        before = masks.masks(model)
        model(torch.randn(9, 8)).square().sum().backward()
        callback.after_step(model, progress)
        moved.append(not torch.equal(masks.masks(model)["0"], before["0"]))
    assert moved == [True, False]


def test_each_weight_of_a_recurrent_layer_has_its_own_mask():
    lstm = nn.LSTM(4, 5)
    start = {
        key: torch.rand(20, n) < 0.4 for key, n in (("weight_ih_l0", 4), ("weight_hh_l0", 5))
    }
    rigl.RigL(weights=1, masks=start).start(lstm)
    assert all(torch.equal(mask, start[key]) for key, mask in masks.masks(lstm).items())
    # a weight that has a mask already, beside one that has none
    lstm = nn.LSTM(4, 5)
    masks.set_mask(lstm, start["weight_hh_l0"], "weight_hh_l0")
    rigl.RigL(weights=40).start(lstm)
    assert sum(kept(lstm)) == 40
    lstm = torch.nn.utils.parametrizations.weight_norm(nn.LSTM(4, 5), "weight_hh_l0")
    with pytest.raises(ValueError, match="'weight_hh_l0' is computed from several tensors"):
        rigl.RigL(weights=40).start(lstm)


def test_ignored_layers_stay_as_they_are_and_are_not_counted():
    model = models.mlp((8, 12, 3), "silu")  # 96 and 36 weights
    callback, dense = started(model, ignore=["2"]), model[2].weight.detach().clone()
    before = masks.masks(model)["0"]
    assert kept(model) == [50, 36]
    assert not masks.is_masked(model[2])
    model(torch.randn(9, 8)).square().sum().backward()
    callback.after_step(model, 0.0)
    assert kept(model) == [50, 36]
    assert not torch.equal(masks.masks(model)["0"], before)
    assert torch.equal(model[2].weight, dense)
    with pytest.raises(ValueError, match="ignore: got '4', needs some of"):
        started(models.mlp((8, 12, 3)), ignore=["4"])
    with pytest.raises(ValueError, match="masks, ignore: got both"):
        rigl.RigL(50, masks={"0": before}, ignore=["2"])
