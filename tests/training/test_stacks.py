"""A stack of networks beside the same networks alone."""

import pytest
import torch
from torch import nn

from pruning import comparison, training
from pruning.chapters.compression_curves import experiment as cc
from pruning.evidence import records
from pruning.evidence.configs import changed, flat
from pruning.methods import gates, gates_training, hardening
from pruning.methods.gates_training import METHOD
from pruning.networks import models, sparsity
from pruning.networks.masks import kept, set_mask
from pruning.training import recipes, stacks

SIZES = (12, 7, 5, 3)
CONFIG = cc.Config(
    dataset="digits",
    hidden=(16, 8),
    batch_size=64,
    epochs=3,
    finetune_epochs=2,
)
CONFIG = changed(CONFIG, alpha=2.0)


def networks(count=3, sizes=SIZES):
    found = []
    for seed in range(count):
        torch.manual_seed(seed)
        found.append(models.mlp(sizes, "silu"))
    return found


def generators(count=3):
    return [torch.Generator().manual_seed(100 + seed) for seed in range(count)]


def test_a_stack_computes_what_its_networks_do_and_comes_apart_again():
    alone = networks()
    for k, model in enumerate(alone):
        mask = torch.rand(7, 12) > 0.2 + 0.2 * k
        set_mask(model[0], mask)
    alone = [pruned_everywhere(model) for model in alone]
    x = torch.randn(3, 9, 12)
    stacked = stacks.stack(alone)
    expected = torch.stack([model(part) for model, part in zip(alone, x, strict=True)])
    assert torch.allclose(stacked(x), expected, atol=1e-6)
    for before, after in zip(alone, stacks.unstack(stacked), strict=True):
        assert before.state_dict().keys() == after.state_dict().keys()
        assert all(
            torch.equal(before.state_dict()[k], v) for k, v in after.state_dict().items()
        )


def pruned_everywhere(model):
    for layer in model:
        if isinstance(layer, nn.Linear):
            set_mask(layer, kept(layer))
    return model


@pytest.mark.parametrize(
    "sizes", [SIZES, (300, 200, 3)]
)  # small and large enough for NumPy's noise
def test_gates_sample_and_learn_as_alone(sizes):
    taus, inits, targets = (1.0, 2.0, 5.0), (0.9, 0.6, 0.3), (0.5, 0.1, 0.02)
    alone, x = networks(sizes=sizes), torch.randn(3, 9, sizes[0])
    stacked = gates_training.gate_stack(
        stacks.stack(alone), torch.tensor(taus), torch.tensor(inits), generators()
    ).train()
    outputs = stacked(x)
    kept, total = gates_training.kept(stacked)
    loss = (
        outputs.square().sum()
        + gates.off_target(kept, total, torch.tensor(targets), log=True).sum()
    )
    loss.backward()
    for k, model in enumerate(alone):
        gates.gate(model, taus[k], inits[k]).train()
        torch.manual_seed(100 + k)
        output = model(x[k])
        (output.square().sum() + gates.density_loss(model, targets[k], log=True)).backward()
        assert torch.allclose(outputs[k], output, atol=1e-5)
        assert kept[k] == gates.density(model) * total
        for single, many in zip(model.parameters(), stacked.parameters(), strict=True):
            assert torch.allclose(many.grad[k], single.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("penalty", ["log", "absolute"])
@pytest.mark.parametrize("target", ["falling", "constant"])
def test_the_penalty_of_a_stack_is_the_sum_of_those_alone(penalty, target):
    settings = [
        gates_training.Settings(
            tau=tau, init=init, alpha=alpha, penalty=penalty, target=target, at_most=40
        )
        for tau, init, alpha in ((1.0, 0.9, 2.0), (2.0, 0.6, 0.5), (5.0, 0.3, 1.0))
    ]
    problems = [
        recipes.Problem(torch.zeros(1, 12), torch.zeros(1), SIZES, density, 7, 2)
        for density in (0.5, 0.1, 0.02)
    ]
    learn, last = METHOD.stack.phases(settings, problems, generators())
    alone = [METHOD.phases(*each) for each in zip(settings, problems, strict=True)]
    for first, second in alone:
        assert (learn.epochs, learn.optimizer, learn.schedule) == (
            first.epochs,
            first.optimizer,
            first.schedule,
        )
        assert last == second
    stacked, (together,) = stacks.stack(networks()).train(), learn.callbacks
    together.start(stacked)
    stacked(torch.randn(3, 9, 12))
    assert "tau=[1.0, 2.0, 5.0]" in repr(stacked)
    losses = []
    for k, (model, (phase, _)) in enumerate(zip(networks(), alone, strict=True)):
        (callback,) = phase.callbacks
        callback.start(model)
        torch.manual_seed(100 + k)
        model.train()(torch.zeros(9, 12))
        losses.append(callback.penalty(model, 0.3).item())
    assert together.penalty(stacked, 0.3).item() == pytest.approx(sum(losses), rel=1e-5)
    with torch.no_grad():
        for each in stacked.modules():
            if isinstance(each, gates.Gate):
                each.logits.copy_(torch.rand_like(each.logits) + 0.1)
    together.finish(stacked)
    for model in stacks.unstack(stacked):
        assert sparsity.sparsity_report(model).kept.sum() == 40
    assert METHOD.stack.fits(settings[0])
    assert not METHOD.stack.fits(gates_training.Settings(allocation=(0.5, 0.5)))


def test_a_budget_holds_for_each_network_of_a_stack():
    budget, rates = 40, torch.ones(3)
    stacked = gates_training.gate_stack(
        stacks.stack(networks()), rates, rates / 2, generators()
    )
    found = [each for each in stacked.modules() if isinstance(each, gates.Gate)]
    with torch.no_grad():
        for each in found:  # many equal ones, among which the larger weight stays
            each.logits.copy_(torch.randint_like(each.logits, -4, 3))
    layers = [layer for layer in stacked if hasattr(layer, "weight")]
    sizes = [layer.parametrizations.weight.original.detach().abs() for layer in layers]
    masks = list(hardening.fix(stacked, budget).values())
    for k in range(3):
        entries = [
            (-logit, -size, layer, place)
            for layer, (each, size) in enumerate(zip(found, sizes, strict=True))
            for place, (logit, size) in enumerate(
                zip(each.logits[k].flatten().tolist(), size[k].flatten().tolist(), strict=True)
            )
        ]
        stay = {entry[2:] for entry in sorted(entries)[:budget] if entry[0] < 0}
        for layer, mask in enumerate(masks):
            for place, keep in enumerate(mask[k].flatten().tolist()):
                assert keep == ((layer, place) in stay)


@pytest.mark.parametrize(
    ("method", "at_most"), [("gates", 0), ("gates", 100), ("random", 0), ("dense", 0)]
)
def test_the_same_training_as_alone(method, at_most):
    configs = [
        changed(
            changed(CONFIG, method=method, seed=seed, density=density),
            **({"tau": tau, "at_most": at_most} if method == "gates" else {}),
        )
        for seed, density, tau in ((0, 0.3, 2.0), (1, 0.1, 1.0), (2, 0.3, 4.0))
    ]
    if method == "dense":  # one shape
        configs = [changed(config, density=1.0) for config in configs]
    data = comparison.load("digits", "test")
    torch.manual_seed(123)
    state = torch.get_rng_state()
    together = comparison.train_stack(configs, data)
    assert torch.equal(torch.get_rng_state(), state)
    for config, (model, metrics) in zip(configs, together, strict=True):
        alone, expected = comparison.train(config, data)
        if at_most:  # these networks have more open gates than that
            assert sparsity.sparsity_report(alone).kept.sum() == at_most
        assert alone.state_dict().keys() == model.state_dict().keys()
        for name, value in alone.state_dict().items():
            assert torch.allclose(model.state_dict()[name], value, atol=2e-3), (method, name)
        assert metrics["dense_weights"] == expected["dense_weights"]
        assert metrics["before_finetune"] == pytest.approx(
            expected["before_finetune"], abs=0.003
        )


def test_a_sweep_together_gives_the_records_of_a_sweep_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(comparison.joblib, "cpu_count", lambda: 1)
    configs = [
        changed(CONFIG, density=density, seed=seed)
        for density in (0.3, 0.1)
        for seed in range(2)
    ]
    configs += [
        changed(CONFIG, method="set", density=0.3, finetune_lr=1e-2)
    ]  # which does not stack
    found = {}
    for name, together in (("alone", None), ("together", cc.TOGETHER)):
        path = tmp_path / f"{name}.jsonl"
        made = list(
            records.sweep(cc.run, configs, path, jobs=1, progress=False, together=together)
        )
        assert records.missing(configs, records.read(path)) == []
        found[name] = sorted(made, key=lambda r: (r["method"], r["density"], r["seed"]))
    for alone, together in zip(found["alone"], found["together"], strict=True):
        assert together.keys() == alone.keys()
        assert together["provenance"].get("together") == (
            4 if alone["method"] == "gates" else None
        )
        for key in (
            "kept",
            "effective",
            "seed",
            "density",
            "method",
            "biases",
            "dense_weights",
        ):
            assert together[key] == alone[key], key
        assert together["test_accuracy"] == pytest.approx(alone["test_accuracy"], abs=0.003)
        assert together["test_loss"] == pytest.approx(alone["test_loss"], rel=1e-2)


def test_groups_hold_every_config_once_and_mix_only_what_may_differ():
    configs = cc.configs("quick")
    groups = comparison.groups(configs)
    assert sorted(map(repr, configs)) == sorted(
        repr(config) for group in groups for config in group
    )
    free = {"seed", "density", "tau", "init", "alpha"}
    for group in groups:
        differ = {
            field
            for field in flat(group[0])
            if len({flat(config)[field] for config in group}) > 1
        }
        assert differ <= free
    large = [cc.Config(seed=seed) for seed in range(4)]
    if not torch.cuda.is_available():
        assert comparison.groups(large) == [[config] for config in large]


def broken(configs):
    raise training.TrainingError("one of them diverged")


def test_a_group_that_fails_is_run_one_by_one(tmp_path):
    together = records.Together(lambda configs: [configs], broken)
    configs = [changed(CONFIG, seed=seed) for seed in range(2)]
    made = list(
        records.sweep(
            cc.run, configs, tmp_path / "r.jsonl", jobs=1, progress=False, together=together
        )
    )
    assert [r["seed"] for r in made] == [0, 1]
    assert all("together" not in r["provenance"] for r in made)


def test_one_networks_numbers_reach_no_other():
    stacked = stacks.stack(networks())
    x = torch.randn(3, 9, 12)
    x[1] = float("nan")
    stacks.cross_entropy(stacked(x), torch.zeros(3, 9, dtype=torch.long)).backward()
    for parameter in stacked.parameters():
        assert parameter.grad[1].isnan().all()
        # a sum over all losses is NaN, its gradient with respect to the others is not
        assert parameter.grad[[0, 2]].isfinite().all()


def test_what_does_not_stack_is_refused():
    with pytest.raises(ValueError, match="models: got none"):
        stacks.stack([])
    with pytest.raises(ValueError, match="different shapes"):
        stacks.stack([models.mlp((4, 3, 2)), models.mlp((4, 5, 2))])
    with pytest.raises(ValueError, match="BatchNorm1d, needs Linear"):
        stacks.stack([nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))])
    with pytest.raises(ValueError, match="without a bias"):
        stacks.stack([nn.Sequential(nn.Linear(4, 3, bias=False))])
    x, y = torch.randn(8, 12), torch.zeros(8, dtype=torch.long)
    stacked = stacks.stack(networks())
    with pytest.raises(ValueError, match="checkpoint: got one for a stack"):
        training.fit(stacked, x, y, generators=generators(), epochs=1, checkpoint=object())
