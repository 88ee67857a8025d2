"""What a one-shot score is computed from, and how the methods around it train."""

import copy
import warnings

import pytest
import torch

import pruning
from pruning.methods import find, oneshot, relative, scores, shares
from pruning.methods.oneshot import Score
from pruning.networks import models
from pruning.training import recipes

LOOK = {"label": "a score", "short": "a", "colour": "#123456", "marker": "o"}


def posed(density=0.25):
    torch.manual_seed(0)
    return recipes.Problem(
        torch.randn(40, 12),
        torch.randint(0, 4, (40,)),
        sizes=(12, 10, 4),
        density=density,
        epochs=7,
        finetune_epochs=2,
        seed=5,
    )


def net():
    torch.manual_seed(1)
    return models.mlp((12, 10, 4), "tanh")


def test_a_score_gets_what_it_names_and_no_more():
    score = Score("mine", lambda *a, **k: (a, k), needs=("targets",), **LOOK)
    assert score.of("model", inputs=1, targets=2) == (("model",), {"targets": 2})
    assert score.settings() == oneshot.NoSettings()
    assert not score.corrects
    with pytest.raises(ValueError, match="needs a frozen dataclass"):
        Score("mine", pruning.magnitude, needs=(), **LOOK, settings=int)


def test_weights_of_constant_inputs_score_nothing():
    model, x = net(), posed().inputs
    x[:, 3], x[:, 7] = 0.0, 2.0
    found, wanted = oneshot.magnitude_live(model, x), pruning.magnitude(model)
    wanted["0"][:, [3, 7]] = 0
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)


@pytest.mark.parametrize(
    ("score", "wanted"),
    [
        (oneshot.SNIP, lambda model, p: pruning.snip(model, p.inputs, p.targets)),
        (oneshot.WANDA, lambda model, p: pruning.wanda(model, p.inputs)),
        (
            oneshot.RANDOM,
            lambda model, p: pruning.random_scores(model, torch.Generator().manual_seed(5)),
        ),
        (
            relative.RELATIVE,
            lambda model, p: relative.importance(model, p.inputs, relative.Settings()),
        ),
    ],
    ids=lambda each: getattr(each, "name", ""),
)
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_a_network_is_scored_on_the_problem_and_its_seed(score, wanted, scope):
    model, problem = net(), posed(0.5)
    expected = copy.deepcopy(model)
    pruning.prune_by_score(expected, wanted(model, problem), 0.5, scope)
    oneshot.prune(model, problem, score, scope)
    for key, mask in pruning.masks(expected).items():
        assert torch.equal(pruning.masks(model)[key], mask)


def test_an_emptied_layer_is_no_news_and_shares_prevent_it():
    model = net()
    with torch.no_grad():
        model[2].weight *= 1e-6
    expected = shares.by_layer(shares.sizes(model), 40, (0.8, 0.2))
    for allocation, kept in (((), [40, 0]), ((0.8, 0.2), list(expected.values()))):
        pruned = copy.deepcopy(model)
        oneshot.prune(pruned, posed(), oneshot.MAGNITUDE, "global", allocation)
        assert [int(mask.sum()) for mask in pruning.masks(pruned).values()] == kept


def test_other_warnings_of_pruning_are_passed_on(monkeypatch):
    monkeypatch.setattr(
        scores, "prune_by_score", lambda *_: warnings.warn("mine", stacklevel=1)
    )
    with pytest.warns(UserWarning, match="mine"):
        oneshot.prune(net(), posed(), oneshot.MAGNITUDE, "global")


@pytest.mark.parametrize("allocation", [(), (0.8, 0.2)])
@pytest.mark.parametrize(("name", "scope"), [("magnitude", "global"), ("wanda", "neuron")])
def test_a_trained_network_is_pruned_and_finetuned(name, scope, allocation):
    settings = oneshot.Settings(0.02, 0.3, allocation)
    method = oneshot.after_training(find(name, Score), scope)
    for key in ("name", "label", "short", "colour", "marker"):
        assert getattr(method, key) == getattr(find(name, Score), key)
    assert method.settings is oneshot.Settings
    learn, finetune = method.phases(settings, posed())
    assert (learn.epochs, learn.optimizer) == (7, recipes.Adam(0.02))
    assert learn.schedule == recipes.HoldThenCosine(0.3)
    assert learn.before is None
    assert finetune == recipes.finetune(2, 0.02)
    model = net()
    learn.after(model)
    kept = pruning.masks(model)
    if allocation:
        assert [int(mask.sum()) for mask in kept.values()] == [32, 8]
    elif name == "wanda":  # within each neuron
        assert [set(mask.sum(1).tolist()) for mask in kept.values()] == [{3}, {2}]
    else:
        pruned = pruning.prune_by_score(net(), pruning.magnitude(net()), 0.75)
        assert all(torch.equal(kept[key], m) for key, m in pruning.masks(pruned).items())


@pytest.mark.parametrize("allocation", [(), (0.8, 0.2)])
def test_snip_prunes_before_the_only_training(allocation):
    (phase,) = find("snip").phases(oneshot.Settings(0.02, 0.3, allocation), posed())
    assert (phase.epochs, phase.optimizer) == (9, recipes.Adam(0.02))
    assert phase.schedule == recipes.HoldThenCosine(0.3)
    assert phase.after is None
    model, expected = net(), net()
    phase.before(model)
    found = pruning.snip(expected, posed().inputs, posed().targets)
    if allocation:
        shares.keep_largest(expected, found, {"0": 32, "2": 8})
    else:
        pruning.prune_by_score(expected, found, 0.75, "global")
    for key, mask in pruning.masks(expected).items():
        assert torch.equal(pruning.masks(model)[key], mask)


@pytest.mark.parametrize("name", ["magnitude", "wanda", "snip"])
def test_a_method_looks_as_its_score(name):
    method, score = find(name), find(name, Score)
    assert method.name == name
    for key in LOOK:
        assert getattr(method, key) == getattr(score, key)
