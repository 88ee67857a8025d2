import copy

import pytest
import torch
from torch import nn

import pruning
from pruning import training
from pruning.methods import rewind
from pruning.networks import masks, models
from pruning.training.checkpoints import Checkpoint


class Watch(training.Callback):
    """The weights after every step."""

    def __init__(self):
        self.seen = []

    def after_step(self, model, progress):
        self.seen.append([p.detach().clone() for p in model.parameters()])


@pytest.mark.parametrize("early", [0.0, 0.25])
def test_the_very_early_weights_come_back(digits, early):
    model = models.mlp((64, 32, 10))
    first = [p.detach().clone() for p in model.parameters()]
    rewinding, watch = rewind.Rewinding(weights=150, rounds=2, early=early), Watch()
    data = digits.train.inputs, digits.train.targets
    training.fit(model, *data, epochs=4, callbacks=[watch, rewinding])
    steps = len(watch.seen)
    expected = first if early == 0 else watch.seen[round(early * steps)]
    weights = [
        masks.original(model[0]),
        model[0].bias,
        masks.original(model[2]),
        model[2].bias,
    ]
    assert all(torch.equal(found, old) for found, old in zip(weights, expected, strict=True))
    total = 64 * 32 + 320
    assert sum(int(mask.sum()) for mask in masks.masks(model).values()) == round(
        (total * 150) ** 0.5
    )
    # what stays had the largest trained weights
    trained = torch.cat([p.flatten() for p in watch.seen[-1][::2]]).abs()
    kept = torch.cat([mask.flatten() for mask in masks.masks(model).values()])
    assert trained[kept].min() >= trained[~kept].max()
    training.fit(model, *data, epochs=4, callbacks=[rewinding])
    assert sum(int(mask.sum()) for mask in masks.masks(model).values()) == 150


def test_layers_may_have_shares(digits):
    model = models.mlp((64, 32, 10))
    rewinding = rewind.Rewinding(weights=150, rounds=1, allocation=(0.6, 0.4))
    training.fit(
        model, digits.train.inputs, digits.train.targets, epochs=1, callbacks=[rewinding]
    )
    assert [int(mask.sum()) for mask in masks.masks(model).values()] == [90, 60]


def test_bad_input_is_named():
    for rounds in (0, 1.5, True):
        with pytest.raises(ValueError, match=f"rounds: got {rounds}, needs a whole number"):
            rewind.Rewinding(10, rounds=rounds)
    for early in (1, -0.1):
        with pytest.raises(ValueError, match=f"early: got {early}"):
            rewind.Rewinding(10, rounds=1, early=early)
    assert rewind.Rewinding(10, rounds=1).early == 0.02
    with pytest.raises(ValueError, match="progress: got 7, needs the fraction"):
        rewind.Rewinding(10, rounds=1).after_step(models.mlp((4, 3)), 7)
    with pytest.raises(RuntimeError, match="save"):
        rewind.Rewinding(10, rounds=1).prune_and_rewind(models.mlp((4, 3)))


def test_the_statistics_of_batch_norm_come_back():
    model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))
    rewinding = rewind.Rewinding(weights=20, rounds=1, early=0)
    model(torch.randn(8, 6) + 3)
    rewinding.start(model)
    early = {name: buffer.clone() for name, buffer in model[1].named_buffers()}
    assert early.keys() == {"running_mean", "running_var", "num_batches_tracked"}
    model(torch.randn(8, 6) - 3)
    assert not torch.equal(model[1].running_mean, early["running_mean"])
    rewinding.prune_and_rewind(model)
    for name, buffer in model[1].named_buffers():
        assert torch.equal(buffer, early[name]), name
    assert sum(int(mask.sum()) for mask in masks.masks(model).values()) == 20


class StopAt(training.Callback):
    """A training that ends in the middle of its second epoch."""

    def __init__(self, step):
        self.left = step

    def after_step(self, model, progress):
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


@pytest.mark.parametrize("early", [0.0, 0.1])
def test_a_training_that_is_resumed_rewinds_to_the_same_weights(digits, tmp_path, early):
    data = digits.train.inputs, digits.train.targets
    found = []
    for stops in (False, True):
        torch.manual_seed(0)
        first = models.mlp((64, 16, 10))
        model, path = copy.deepcopy(first), tmp_path / f"{stops}"
        steps = -(-len(data[0]) // 256)
        if stops:
            with pytest.raises(KeyboardInterrupt):
                training.fit(
                    model,
                    *data,
                    epochs=4,
                    callbacks=[rewind.Rewinding(100, 1, early), StopAt(steps + 2)],
                    checkpoint=Checkpoint(path, every=0),
                )
            model = first
        training.fit(
            model,
            *data,
            epochs=4,
            callbacks=[rewind.Rewinding(100, 1, early)],
            checkpoint=Checkpoint(path, every=0),
        )
        found.append(model.state_dict())
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


@pytest.mark.parametrize("allocation", ["global", "uniform"])
def test_what_was_pruned_before_stays_pruned(allocation):
    model = models.mlp((8, 6, 4))  # 72 weights
    pruning.prune_by_score(model, pruning.random_scores(model), 0.5, scope="layer")
    first = masks.masks(model)
    rewinding = rewind.Rewinding(weights=9, rounds=2, early=0, allocation=allocation)
    rewinding.start(model)
    left = []
    for _ in range(2):
        for parameter in model.parameters():
            nn.init.normal_(parameter)
        rewinding.prune_and_rewind(model)
        now = masks.masks(model)
        assert all((now[key] <= first[key]).all() for key in first)
        left.append(sum(int(mask.sum()) for mask in now.values()))
    assert left == [18, 9]  # of 36: each round halves


def test_more_weights_than_are_left_are_refused_before_the_training():
    model = models.mlp((8, 6, 4))
    pruning.prune_by_score(model, pruning.magnitude(model), 0.5)
    with pytest.raises(ValueError, match="weights: got 37, needs at most the 36 that"):
        rewind.Rewinding(weights=37, rounds=2, early=0).start(model)


def test_a_resumed_rewinding_counts_from_where_it_began():
    model = models.mlp((8, 6, 4))
    pruning.prune_by_score(model, pruning.magnitude(model), 0.5)
    rewinding = rewind.Rewinding(weights=9, rounds=2, early=0)
    rewinding.start(model)
    rewinding.prune_and_rewind(model)
    resumed = rewind.Rewinding(weights=9, rounds=2, early=0)
    resumed.load(rewinding.state())
    resumed.prune_and_rewind(model)
    assert sum(int(mask.sum()) for mask in masks.masks(model).values()) == 9


def test_the_weights_are_kept_once_and_the_rounds_end():
    model = models.mlp((8, 6, 4))
    rewinding = rewind.Rewinding(weights=18, rounds=1, early=0.3)
    rewinding.start(model)
    rewinding.after_step(model, 0.2)
    assert not rewinding.saved
    with torch.no_grad():
        model[0].weight.fill_(2.0)
    rewinding.after_step(model, 0.3)
    with torch.no_grad():
        model[0].weight.fill_(3.0)
    rewinding.after_step(model, 0.4)
    rewinding.start(model)
    rewinding.finish(model)
    assert (masks.original(model[0]) == 2).all()
    assert rewinding.state()["done"] == 1
    with pytest.raises(RuntimeError, match="no more than `rounds` rounds"):
        rewinding.finish(model)


class Scaled(nn.Module):
    """A parametrization with a buffer of its own."""

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.ones(()))

    def forward(self, weight):
        return weight * self.scale


def test_every_parameter_and_every_batch_norm_comes_back_and_no_other_buffer():
    model = nn.Sequential(
        nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)
    )
    nn.utils.parametrize.register_parametrization(model[1], "weight", Scaled())
    rewinding = rewind.Rewinding(weights=62, rounds=1, early=0)  # all of them
    model(torch.randn(8, 6) + 3)
    rewinding.start(model)
    early = {key: value.clone() for key, value in model.state_dict().items()}
    model(torch.randn(8, 6) - 3)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.add_(1)
    rewinding.prune_and_rewind(model)
    assert model[1].parametrizations.weight[0].scale == 2
    masks.finalize(model)
    found = model.state_dict()
    del early["1.parametrizations.weight.0.scale"], found["1.parametrizations.weight.0.scale"]
    assert found.keys() == early.keys()
    assert all(torch.equal(found[key], early[key]) for key in early)


@pytest.mark.parametrize("allocation", ["global", "uniform"])
def test_ignored_layers_lose_nothing_and_are_not_counted(allocation):
    model = models.mlp((8, 12, 3))  # 96 and 36 weights
    rewinding = rewind.Rewinding(24, 2, early=0, allocation=allocation, ignore=["2"])
    rewinding.start(model)
    for count in (48, 24):
        rewinding.finish(model)
        assert int(masks.mask_of(model[0]).sum()) == count
        assert not masks.is_masked(model[2])
    with pytest.raises(ValueError, match="ignore: got '4', needs some of"):
        rewind.Rewinding(24, 2, early=0, ignore=["4"]).start(models.mlp((8, 12, 3)))
