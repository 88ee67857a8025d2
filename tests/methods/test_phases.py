"""Every setting of a method reaches its phases."""

import math

import pytest
import torch

import pruning
from pruning.methods import find, gates_training, l0, scores, variational
from pruning.networks import masks, models
from pruning.training import recipes

SIZES = (12, 10, 4)  # 160 weights, of which 32 are kept
SHARES = (0.75, 0.25)


def posed(epochs=7):
    torch.manual_seed(0)
    data = torch.randn(40, 12), torch.randint(0, 4, (40,))
    return recipes.Problem(*data, SIZES, density=0.2, epochs=epochs, finetune_epochs=2)


def net():
    torch.manual_seed(1)
    return models.mlp(SIZES)


def phases(name, epochs=7, **settings):
    method = find(name)
    return method.phases(method.settings(**settings), posed(epochs))


def kept(model):
    return [int(mask.sum()) for mask in masks.masks(model).values()]


def only(phase):
    (callback,) = phase.callbacks
    return callback


def check(phase, epochs, lr, descent):
    assert phase.epochs == epochs
    assert phase.optimizer == recipes.Adam(lr)
    assert phase.schedule == recipes.HoldThenCosine(descent)
    assert phase.after is None


def rates(phase, model):
    """{learning rate: parameters} of the optimizer of a phase."""
    optimizer = phase.optimizer(model)
    assert optimizer.defaults["fused"]  # others differ in the last bits, on which records hang
    return {group["lr"]: [id(p) for p in group["params"]] for group in optimizer.param_groups}


def test_set_and_deepr():
    (phase,) = phases("set", finetune_lr=0.02, descent=0.3, fraction=0.4)
    check(phase, 9, 0.02, 0.3)
    method = only(phase)
    assert (method.density, method.rewirings, method.fraction) == (0.2, 8, 0.4)
    assert method.allocation == "erdos-renyi"
    assert only(phases("set", allocation=SHARES)[0]).allocation == SHARES
    (phase,) = phases("deepr", finetune_lr=0.02, descent=0.3, l1=0.4)
    check(phase, 9, 0.02, 0.3)
    method = only(phase)
    assert (method.density, method.l1, method.allocation) == (0.2, 0.4, "erdos-renyi")
    for progress in (0.1, 0.6):  # the optimizer's learning rate
        assert method.rate(progress) == pytest.approx(0.02 * phase.schedule(progress))
    assert only(phases("deepr", allocation=SHARES)[0]).allocation == SHARES


def test_rigl():
    (phase,) = phases("rigl", finetune_lr=0.02, descent=0.3, fraction=0.4, every=7, until=0.6)
    check(phase, 9, 0.02, 0.3)
    method = only(phase)
    assert (method.weights, method.fraction, method.every, method.until) == (32, 0.4, 7, 0.6)
    assert method.allocation == "erdos-renyi"
    assert only(phases("rigl", allocation=SHARES)[0]).allocation == SHARES


@pytest.mark.parametrize("score", ["magnitude", "deviation"])
def test_gradual(score):
    learn, last = phases(
        "gradual",
        lr=0.02,
        finetune_lr=0.05,
        descent=0.3,
        begin=0.1,
        end=0.6,
        updates=9,
        score=score,
    )
    check(learn, 7, 0.02, 0.3)
    assert last == recipes.finetune(2, 0.05)
    model = net()
    only(learn).start(model)
    method = only(learn).pruning
    assert (method.begin, method.end, method.updates, method.final) == (0.1, 0.6, 9, 32)
    wanted = scores.magnitude(model)
    if score == "deviation":
        wanted = scores.stade(model, posed().inputs)
    assert all(torch.equal(method.score(model)[key], wanted[key]) for key in wanted)
    (learn, _) = phases("gradual", allocation=SHARES)
    only(learn).start(net())
    assert only(learn).pruning.final == {"0": 24, "2": 8}
    with pytest.raises(ValueError, match="score: got 'none', needs one of"):
        find("gradual").settings(score="none")


@pytest.mark.parametrize(
    ("settings", "epochs", "lengths"),
    [
        ({"rounds": 3}, 7, [3, 2, 2]),
        ({"rounds": 12}, 5, [1] * 5),  # no more rounds than epochs
        ({"rounds": 12}, 0, [0]),
        ({"rounds": 12, "round_epochs": 4}, 2, [4] * 12),
    ],
)
def test_rewinding(settings, epochs, lengths):
    *rounds, last = phases(
        "rewind", epochs, lr=0.02, finetune_lr=0.05, descent=0.3, early=0.1, **settings
    )
    assert [phase.epochs for phase in rounds] == lengths
    for phase, length in zip(rounds, lengths, strict=True):
        check(phase, length, 0.02, 0.3)
        assert only(phase) is only(rounds[0])
    assert last == recipes.finetune(2, 0.05)
    method = only(rounds[0])
    assert (method.weights, method.rounds, method.early) == (32, len(lengths), 0.1)
    assert method.allocation == "global"
    assert only(phases("rewind", allocation=SHARES)[0]).allocation == SHARES


@pytest.mark.parametrize("allocation", [(), SHARES])
def test_synflow(allocation):
    (phase,) = phases(
        "synflow", finetune_lr=0.02, descent=0.3, rounds=1, allocation=allocation
    )
    check(phase, 9, 0.02, 0.3)
    model, expected = net(), net()
    phase.before(model)
    found = pruning.synflow(expected, posed().inputs)
    # one round is a one-shot mask of the scores
    if allocation:
        assert kept(model) == [24, 8]
    else:
        pruning.prune_by_score(expected, found, 0.8)
        assert kept(model) == kept(expected)
        assert sum(kept(model)) == 32


def test_l0():
    settings = {"factor": 0.7, "penalty": "sum", "temperature": 0.4, "init": 0.6}
    learn, last = phases("l0", lr=0.02, finetune_lr=0.05, gate_lr=0.3, descent=0.3, **settings)
    assert (learn.epochs, learn.schedule) == (7, recipes.HoldThenCosine(0.3))
    assert last == recipes.finetune(2, 0.05)
    method = only(learn)
    assert (method.weights, method.factor, method.form, method.descent) == (
        32,
        0.7,
        "sum",
        0.3,
    )
    assert (method.temperature, method.init, method.allocation) == (0.4, 0.6, "global")
    model = net()
    method.start(model)
    locations = [id(each.log_alpha) for each in l0.gates(model).values()]
    others = [id(p) for p in model.parameters() if id(p) not in locations]
    assert rates(learn, model) == {0.02: others, 0.3: locations}
    assert only(phases("l0", allocation=SHARES)[0]).allocation == SHARES


def test_variational_dropout():
    settings = {"scale": 0.7, "warm": 0.2, "init": -4.0, "sampling": "weight"}
    learn, last = phases(
        "variational", lr=0.02, finetune_lr=0.05, noise_lr=0.3, descent=0.3, **settings
    )
    assert (learn.epochs, learn.schedule) == (7, recipes.HoldThenCosine(0.3))
    assert last == recipes.finetune(2, 0.05)
    method = only(learn)
    assert (method.weights, method.samples, method.scale, method.warm) == (32, 40, 0.7, 0.2)
    assert (method.init, method.sampling, method.allocation) == (-4.0, "weight", "global")
    model = net()
    method.start(model)
    variances = [id(each.log_sigma2) for each in variational.noises(model).values()]
    others = [id(p) for p in model.parameters() if id(p) not in variances]
    assert rates(learn, model) == {0.02: others, 0.3: variances}
    assert only(phases("variational", allocation=SHARES)[0]).allocation == SHARES


def test_gates():
    settings = {"lr": 0.02, "gate_lr": 0.3, "finetune_lr": 0.05, "descent": 0.3}
    settings |= {"tau": 1.5, "init": 0.7}
    learn, last = phases("gates", **settings)
    assert (learn.epochs, learn.schedule) == (7, recipes.HoldThenCosine(0.3))
    assert last == recipes.finetune(2, 0.05)
    assert only(learn).density == 0.2
    assert only(learn).settings == gates_training.Settings(**settings)
    model = net()
    only(learn).start(model)
    logits = [id(p) for p in pruning.gate_parameters(model)]
    others = [id(p) for p in model.parameters() if id(p) not in logits]
    assert rates(learn, model) == {0.02: others, 0.3: logits}
    for found in pruning.methods.gates.gates(model).values():
        assert found.tau == 1.5
        assert found.logits.sigmoid().mean().item() == pytest.approx(0.7)
    for wrong in (0.5, 0.25, 0.25), (1.0,), (0.2, 0.2):
        with pytest.raises(ValueError, match="allocation: got"):
            phases("gates", allocation=wrong)
    (learn, _) = phases("gates", allocation=SHARES)
    only(learn).start(net())
    deeper = models.mlp((12, 10, 6, 4))
    with pytest.raises(ValueError, match=r"allocation: got \(0.75, 0.25\), needs 3 shares"):
        only(learn).start(deeper)
    assert not pruning.methods.gates.gates(deeper)


def settled(**settings):
    """A callback of the gates after a forward pass, the model, and {layer: (Σ g, gates)}."""
    gating = gates_training.Gating(gates_training.Settings(**settings), density=0.2)
    model = net()
    gating.start(model)
    model(torch.randn(5, 12))
    found = {
        key: (int((model.get_submodule(key).weight != 0).sum()), each.logits.numel())
        for key, each in pruning.methods.gates.gates(model).items()
    }
    return gating, model, found


@pytest.mark.parametrize("penalty", ["log", "absolute"])
@pytest.mark.parametrize("target", ["falling", "constant"])
def test_the_penalty_of_gates(penalty, target):
    settings = {"penalty": penalty, "target": target, "alpha": 3.0, "init": 0.5}
    gating, model, found = settled(**settings, descent=0.4)
    density = sum(kept for kept, _ in found.values()) / 160
    for progress, falling in ((0.0, 1.0), (0.2, 0.2**0.5), (0.4, 0.2), (0.9, 0.2)):
        aim = falling if target == "falling" else 0.2
        off = abs(math.log(density / aim)) if penalty == "log" else abs(density - aim)
        assert gating.penalty(model, progress).item() == pytest.approx(3 * off, rel=1e-4)


@pytest.mark.parametrize("penalty", ["log", "absolute"])
def test_the_penalty_of_gates_layer_by_layer(penalty):
    settings = {"penalty": penalty, "alpha": 3.0, "init": 0.5, "descent": 0.4}
    gating, model, found = settled(**settings, allocation=(0.1, 0.9))
    # 3.2 of 32 weights for the first layer, 28.8 for the second, whose densities fall from 1
    for progress, share in ((0.0, 0.0), (0.2, 0.5), (0.9, 1.0)):
        total = 0.0
        for (kept, count), end in zip(found.values(), (3.2 / 120, 28.8 / 40), strict=True):
            density, aim = kept / count, end**share
            off = abs(math.log(density / aim)) if penalty == "log" else abs(density - aim)
            total += count / 160 * off
        assert gating.penalty(model, progress).item() == pytest.approx(3 * total, rel=1e-4)
    full, model, found = settled(allocation=(0.0, 1.0), penalty="absolute")
    full.density = 0.5  # 80 weights for a layer of 40
    wanted = (found["0"][0] + abs(found["2"][0] - 40)) / 160
    assert full.penalty(model, 1.0).item() == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize(("at_most", "left"), [(0, 160), (7, 7)])
def test_open_gates_stay_up_to_a_budget(at_most, left):
    gating, model, _ = settled(at_most=at_most)
    with torch.no_grad():
        for logits in pruning.gate_parameters(model):
            logits.copy_(torch.rand_like(logits) + 0.1)
    gating.finish(model)
    assert sum(kept(model)) == left


def test_gates_may_act_on_outputs():
    settings = gates_training.Settings()
    gating, model = gates_training.Gating(settings, 0.2, granularity="output"), net()
    gating.start(model)
    assert [tuple(p.shape) for p in pruning.gate_parameters(model)] == [(10, 1)]


@pytest.mark.parametrize("wrong", [{"penalty": "none"}, {"target": "none"}])
def test_settings_of_gates_that_do_not_exist(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}: got 'none', needs '"):
        gates_training.Settings(**wrong)
