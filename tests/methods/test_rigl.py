import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

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
    "bad", [{"allocation": "global"}, {"fraction": 1.0}, {"every": 0}, {"until": 0.0}]
)
def test_bad_input_is_named(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        rigl.RigL(10, **bad)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(5, 4), (7, 3, 5)),
        (nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), (3, 4, 8, 8)),
    ],
)
def test_the_dense_gradient_is_that_of_autograd(layer, shape):
    x = torch.randn(shape)
    output = layer(x)
    gradient = torch.randn_like(output)
    output.backward(gradient)
    torch.testing.assert_close(rigl.dense_gradient(layer, x, gradient), layer.weight.grad)
