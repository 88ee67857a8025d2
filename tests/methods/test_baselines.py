import pytest
import torch
from torch import nn
from torch_models import MODELS

import pruning
from pruning import methods
from pruning.methods import baselines
from pruning.networks import models
from pruning.training import recipes


@pytest.mark.parametrize("name", MODELS)
def test_random_deletion_reaches_every_prunable_weight(name):
    make, shape = MODELS[name]
    model, x = make().eval(), torch.randn(shape)
    baselines.delete_at_random(model, 0.4)
    kept = pruning.masks(model)
    total = sum(mask.numel() for mask in kept.values())
    assert sum(int(mask.sum()) for mask in kept.values()) == round(0.4 * total)
    for mask in kept.values():  # each weight with the same probability
        deviation = (0.24 / mask.numel()) ** 0.5
        assert abs(mask.float().mean().item() - 0.4) < 4 * deviation + 1 / mask.numel()
    before = model(x)
    torch.testing.assert_close(pruning.finalize(model)(x), before)


def test_random_deletion_brings_nothing_back():
    model = nn.Sequential(nn.Linear(20, 20), nn.Conv1d(20, 10, 1))
    pruning.prune_by_score(model, pruning.random_scores(model), 0.6)
    before = pruning.masks(model)
    baselines.delete_at_random(model, 0.2)
    after = pruning.masks(model)
    assert sum(int(mask.sum()) for mask in after.values()) == 120
    assert all((after[key] <= before[key]).all() for key in before)
    with pytest.raises(ValueError, match="needs at most the 120 that are left"):
        baselines.delete_at_random(model, 0.3)
    with pytest.raises(ValueError, match=r"density: got 1\.5"):
        baselines.delete_at_random(model, 1.5)


def test_the_ends_of_random_deletion():
    for density, kept in ((0.0, 0), (1, 240)):
        model = nn.Sequential(nn.Linear(20, 10), nn.Linear(10, 4))
        baselines.delete_at_random(model, density)
        assert sum(int(mask.sum()) for mask in pruning.masks(model).values()) == kept
    with pytest.raises(ValueError, match=r"density: got -0\.1, needs a number in \[0, 1\]"):
        baselines.delete_at_random(model, -0.1)
    with pytest.warns(UserWarning, match=r"\['0.weight'\]"):
        baselines.delete_at_random(nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 2)), 0.5)


def posed():
    data = torch.zeros(1, 12), torch.zeros(1).long()
    return recipes.Problem(*data, (12, 10, 4), density=0.2, epochs=7, finetune_epochs=2)


@pytest.mark.parametrize("name", ["random", "random_paths", "dense"])
def test_one_training_of_all_epochs_with_the_settings_given(name):
    method = methods.find(name)
    (phase,) = method.phases(method.settings(finetune_lr=0.02, descent=0.3), posed())
    assert (phase.epochs, phase.optimizer) == (9, recipes.Adam(0.02))
    assert phase.schedule == recipes.HoldThenCosine(0.3)
    assert phase.after is None
    model = models.mlp((12, 10, 4))
    (phase.before or (lambda model: None))(model)
    kept = sum(int(mask.sum()) for mask in pruning.masks(model).values())
    assert kept == (160 if name == "dense" else 32)
    if name == "random_paths":
        assert pruning.sparsity_report(model).effective.sum() == 32


def test_random_deletion_by_shares_draws_anew():
    method = methods.find("random")
    found = []
    for seed in (0, 0, 1):
        (phase,) = method.phases(method.settings(allocation=(0.75, 0.25)), posed())
        model = models.mlp((12, 10, 4))
        torch.manual_seed(seed)
        phase.before(model)
        found.append(pruning.masks(model))
        assert [int(mask.sum()) for mask in found[-1].values()] == [24, 8]
    first, again, other = (each["0"] for each in found)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_network_too_small_for_its_first_neuron_is_refused():
    assert baselines.narrow((64, 32, 16, 10), 0.2) == (64, 6, 10, 10)
    with pytest.raises(
        ValueError, match=r"density: got 0\.001, no dense network \(64, 32, 10"
    ):
        baselines.narrow((64, 32, 10), 0.001)


def test_what_random_paths_have_left_joins_neurons_that_they_reach():
    found = [
        sum(int(mask.sum()) for mask in baselines.random_paths((30, 20, 2), 3))
        for _ in range(40)
    ]
    # a second path seldom shares a connection, and beside one path there is nothing to join
    assert found.count(2) > 30


def test_random_paths_use_all_weights_where_there_are_neurons_to_join():
    for _ in range(40):  # in some of these the last path does not fit
        found = baselines.random_paths((12, 9, 7, 2), 40)
        assert sum(int(mask.sum()) for mask in found) == 40
