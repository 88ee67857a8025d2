import copy

import pytest
import torch

from pruning import training
from pruning.methods import gradual, scores
from pruning.networks import masks, models


def kept(model):
    return [int(mask.sum()) for mask in masks.masks(model).values()]


@pytest.mark.parametrize(
    ("progress", "sparsity"),
    [
        (0.0, 0.0),
        (0.1, 0.0),
        (0.25, 0.9 * (1 - 0.75**3)),
        (0.4, 0.9 * (1 - 0.5**3)),
        (0.7, 0.9),
        (1, 0.9),
    ],
)
def test_the_cubic_schedule(progress, sparsity):
    assert gradual.cubic(progress, 0.1, 0.7, 0.0, 0.9) == pytest.approx(sparsity)


def test_a_loop_of_ones_own_follows_the_schedule_and_ends_exactly():
    model = models.mlp((20, 10, 5))
    pruner = gradual.GradualPruning(model, weights=17, begin=0.2, end=0.8, updates=6)
    seen = []
    for step in range(10):
        pruner.step((step + 1) / 10)
        seen.append(sum(kept(model)))
    expected = [250 - round(gradual.cubic((s + 1) / 10, 0.2, 0.8, 0, 233)) for s in range(10)]
    assert seen == expected
    assert seen[0] == 250
    assert seen[-1] == 17


def test_the_largest_weights_stay():
    model = models.mlp((20, 10, 5))
    sizes = torch.cat([model[0].weight.flatten(), model[2].weight.flatten()]).abs()
    pruner = gradual.GradualPruning(model, weights=50)
    pruner.step(1.0)
    left = torch.cat(
        [masks.effective(layer).flatten() for layer in (model[0], model[2])]
    ).abs()
    assert torch.equal(left[left > 0].sort().values, sizes.sort().values[-50:])


def test_layers_keep_their_shares_at_every_step(digits):
    model = models.mlp((64, 32, 10))
    callback = gradual.Gradual(weights=100, allocation=(0.6, 0.4), end=0.6, updates=7)
    training.fit(
        model, digits.train.inputs, digits.train.targets, epochs=2, callbacks=[callback]
    )
    assert kept(model) == [60, 40]
    assert callback.pruning.kept(0.0) == {"0": 64 * 32, "2": 320}


def test_training_after_the_end_respects_the_mask(digits):
    model = models.mlp((64, 32, 10))
    callback = gradual.Gradual(weights=100, end=0.5)
    training.fit(
        model, digits.train.inputs, digits.train.targets, epochs=3, callbacks=[callback]
    )
    before = copy.deepcopy(masks.masks(model))
    training.fit(model, digits.train.inputs, digits.train.targets, epochs=1)
    assert sum(kept(model)) == 100
    assert all(torch.equal(before[name], mask) for name, mask in masks.masks(model).items())
    assert all(
        not masks.effective(model.get_submodule(name))[~mask].any()
        for name, mask in before.items()
    )


@pytest.mark.parametrize(
    "bad",
    [
        {"begin": 0.5, "end": 0.5},
        {"begin": -0.1},
        {"end": 1.1},
        {"updates": 0},
        {"updates": 2.5},
        {"weights": 0},
    ],
)
def test_bad_input_is_named(bad):
    with pytest.raises(ValueError, match="|".join(bad)):
        gradual.GradualPruning(models.mlp((4, 3)), **{"weights": 5} | bad)


@pytest.mark.filterwarnings("ignore:model. no weight is left")
@pytest.mark.parametrize("allocation", ["global", "uniform"])
@pytest.mark.parametrize("updates", [1, 4, 7, 100])
def test_kept_says_what_step_keeps(allocation, updates):
    model = models.mlp((10, 20, 3))
    pruner = gradual.GradualPruning(
        model, weights=20, begin=0.1, end=0.9, updates=updates, allocation=allocation
    )
    for progress in (0.0, 0.05, 0.2, 0.3, 0.31, 0.5, 0.77, 0.9, 1.0):
        pruner.step(progress)
        said = pruner.kept(progress)
        assert (said if isinstance(said, int) else sum(said.values())) == sum(kept(model))
    assert sum(kept(model)) == 20


@pytest.mark.parametrize("allocation", ["global", "uniform"])
@pytest.mark.filterwarnings("ignore:model. no weight is left")
def test_a_pruned_network_loses_weights_from_where_it_stands(allocation):
    model = models.mlp((10, 20, 3))
    scores.prune_by_score(model, scores.magnitude(model), 0.5, "layer")
    pruner = gradual.GradualPruning(
        model, weights=26, end=1.0, updates=20, allocation=allocation
    )
    assert sum(kept(model)) == 130
    before = masks.masks(model)
    for step in range(20):
        pruner.step((step + 1) / 20)
        after = masks.masks(model)
        assert all((mask <= before[name]).all() for name, mask in after.items())
        expected = 130 - 104 * gradual.cubic((step + 1) / 20, 0, 1)
        assert sum(kept(model)) == pytest.approx(expected, abs=1)
        before = after
    assert sum(kept(model)) == 26


def test_more_weights_than_are_left_are_refused():
    model = models.mlp((10, 20, 3))
    scores.prune_by_score(model, scores.magnitude(model), 0.5, "layer")
    with pytest.raises(ValueError, match="weights: got 140, needs at most the 130 that are"):
        gradual.GradualPruning(model, weights=140)
    with pytest.raises(
        ValueError, match="weights: got 50 for layer '2', needs at most the 30"
    ):
        gradual.GradualPruning(model, weights=100, allocation=(0.5, 0.5))


def test_the_defaults_end_halfway_in_a_hundred_updates():
    assert gradual.cubic(0.25, 0.0, 0.5) == pytest.approx(0.875)
    pruner = gradual.GradualPruning(models.mlp((20, 10, 5)), weights=50)
    assert (pruner.begin, pruner.end, pruner.updates) == (0.0, 0.5, 100)
    assert pruner.kept(0.0) == 250
    assert pruner.kept(0.25) == 75  # an eighth of the 200
    assert pruner.kept(0.5) == pruner.kept(1.0) == 50


def test_what_has_been_done_is_not_done_again():
    asked = []

    def score(model):
        asked.append(sum(kept(model)) if masks.masks(model) else None)
        return scores.magnitude(model)

    model = models.mlp((20, 10, 5))
    callback = gradual.Gradual(weights=50, end=1.0, updates=4, score=score)
    callback.start(model)
    asked.clear()
    for progress in (0.1, 0.25, 0.3, 0.6, 0.6):
        callback.after_step(model, progress)
    assert len(asked) == 2
    assert callback.state() == {"done": 2}
    callback.load({"done": torch.tensor(4)})
    callback.after_step(model, 1.0)
    callback.finish(model)
    assert len(asked) == 2  # all four are done, it was told
    callback.load({"done": torch.tensor(3)})
    callback.finish(model)
    assert callback.state() == {"done": 4}
    assert sum(kept(model)) == 50


def test_nothing_is_scored_after_the_end_of_the_schedule():
    calls = []

    def score(model):
        calls.append(model)
        return scores.magnitude(model)

    pruner = gradual.GradualPruning(models.mlp((6, 5, 3)), 9, updates=3, score=score)
    for progress in (0.5, 0.75, 1.0):
        pruner.step(progress)
    assert len(calls) == 2  # at the start, and for the one update that is left at 0.5
    assert pruner.done == 3


@pytest.mark.parametrize("progress", [2, -0.1, float("nan")])
def test_a_count_of_steps_is_no_progress(progress):
    model = models.mlp((10, 20, 3))
    pruner = gradual.GradualPruning(model, weights=20)
    with pytest.raises(ValueError, match=r"progress: got .* needs the fraction"):
        pruner.step(progress)
    assert pruner.done == 0


def test_a_layer_that_loses_all_its_weights_is_named():
    model = models.mlp((10, 20, 3))
    with torch.no_grad():
        model[2].weight *= 1e-3
    pruner = gradual.GradualPruning(model, weights=50)
    with pytest.warns(UserWarning, match=r"no weight is left in \['2'\]"):
        pruner.step(1.0)
