"""What every method of the comparison must do; a new method joins by a line of EXACT."""

from dataclasses import dataclass, replace
from functools import cache

import pytest
import torch
from matplotlib.colors import to_rgb
from torch import nn

from pruning import comparison, methods
from pruning.evidence import configs
from pruning.methods import baselines, gates_training
from pruning.methods.oneshot import Score
from pruning.networks import models, sparsity
from pruning.training import Callback, recipes
from pruning.training.recipes import Method, Phase, Problem, Stack, setting

TOTAL = models.weight_count((64, 32, 16, 10))
QUICK = comparison.Config(
    dataset="digits", hidden=(32, 16), batch_size=32, epochs=10, finetune_epochs=2
)
# every method: how many weights it keeps at density 0.2, and how far it may be off
EXACT = {
    "deepr": (round(0.2 * TOTAL), 0),
    "dense": (
        models.weight_count(models.narrow_sizes((64, 32, 16, 10), round(0.2 * TOTAL))),
        0,
    ),
    "gates": (0.2 * TOTAL, 0.15),
    "magnitude": (round(0.2 * TOTAL), 0),
    "gradual": (round(0.2 * TOTAL), 0),
    "l0": (round(0.2 * TOTAL), 0),
    "random": (round(0.2 * TOTAL), 0),
    "random_paths": (round(0.2 * TOTAL), 0),
    "rewind": (round(0.2 * TOTAL), 0),
    "rigl": (round(0.2 * TOTAL), 0),
    "set": (round(0.2 * TOTAL), 0),
    "snip": (round(0.2 * TOTAL), 0),
    "synflow": (round(0.2 * TOTAL), 0),
    "variational": (round(0.2 * TOTAL), 0),
    "wanda": (32 * 12 + 16 * 6 + 10 * 3, 0),  # of each neuron's 64, 32 and 16
}
METHODS = methods.found(Method)
every_method = pytest.mark.parametrize("name", sorted(EXACT))


def config_of(name, **more):
    return configs.changed(QUICK, **{"method": name, "density": 0.2} | more)


@pytest.fixture(scope="module")
def trained(digits):
    """What `comparison.train` returns for a method, trained once."""
    return cache(lambda name: comparison.train(config_of(name), digits))


def test_no_method_is_left_out_of_this_battery():
    assert sorted(METHODS) == sorted(EXACT)


@every_method
def test_counts_are_conserved(name, trained):
    report = sparsity.sparsity_report(trained(name)[0])
    count, off = EXACT[name]
    assert report.kept.sum() == pytest.approx(count, rel=off or 1e-12)
    assert trained(name)[1]["dense_weights"] == TOTAL
    assert 0 < report.effective.sum() <= report.kept.sum() <= report.weights.sum()


@every_method
def test_evaluation_is_deterministic_and_sees_only_kept_weights(name, trained, digits):
    model, x = trained(name)[0].eval(), digits.test.inputs
    assert torch.equal(model(x), model(x))
    plain = models.mlp(
        [model[0].in_features, *(m.out_features for m in model if isinstance(m, nn.Linear))],
        QUICK.activation,
    )
    masks = sparsity.masks(model)
    with torch.no_grad():
        for layer, (layer_name, mask) in zip(plain[::2], masks.items(), strict=True):
            layer.weight.copy_(model.get_submodule(layer_name).weight * mask)
            layer.bias.copy_(model.get_submodule(layer_name).bias)
    assert torch.allclose(plain(x), model(x), atol=1e-6)


@every_method
def test_the_mask_is_respected_by_further_steps(name, digits):
    model, _ = comparison.train(config_of(name, epochs=2, finetune_epochs=1), digits)
    before = sparsity.masks(model)
    recipes.train(
        model, digits.train.inputs, digits.train.targets, [recipes.finetune(1, 1e-2)]
    )
    model.eval()(digits.test.inputs[:1])  # `prune` computes the weight in the forward pass
    for layer, mask in sparsity.masks(model).items():
        assert torch.equal(mask, before[layer])
        assert (model.get_submodule(layer).weight[~mask] == 0).all()


@every_method
def test_the_same_seed_gives_the_same_network_and_another_seed_another(name, digits):
    networks = []
    for seed in (0, 0, 1):
        comparison._trained.cache_clear()
        config = config_of(name, seed=seed, epochs=2, finetune_epochs=1)
        networks.append(comparison.train(config, digits)[0])
    first, again, other = (network.state_dict() for network in networks)
    assert all(torch.equal(first[key], value) for key, value in again.items())
    assert not torch.equal(other["0.bias"], again["0.bias"])


@every_method
def test_phases_are_well_formed(name, digits):
    problem = comparison.problem_of(config_of(name), digits)
    phases = METHODS[name].phases(METHODS[name].settings(), problem)
    assert phases
    assert all(isinstance(phase, Phase) for phase in phases)
    assert (
        sum(phase.epochs for phase in phases) == problem.all_epochs
    )  # no method trains longer
    for phase in phases:
        assert phase.schedule is None or 0 < phase.schedule(0.99) <= phase.schedule(0.0) == 1


@every_method
def test_a_stack_trains_as_its_networks_alone(name, digits):
    if METHODS[name].stack is None:
        pytest.skip("does not stack")
    short = {"epochs": 3, "finetune_epochs": 2}
    several = [config_of(name, seed=seed, **short) for seed in range(2)]
    for config, (model, told) in zip(
        several, comparison.train_stack(several, digits), strict=True
    ):
        alone, expected = comparison.train(config, digits)
        for key, value in alone.state_dict().items():
            assert torch.allclose(model.state_dict()[key], value, atol=2e-3), key
        assert told["before_finetune"] == pytest.approx(expected["before_finetune"], abs=0.01)


def test_methods_differ_in_name_and_look():
    looks = [(m.colour, m.marker) for m in METHODS.values()]
    assert len(set(looks)) == len(looks)
    for kind in (Method, Score):
        labels = [m.label for m in methods.found(kind).values()]
        assert len(set(labels)) == len(labels)


def luminance(colour):
    """Relative luminance of an sRGB colour (WCAG 2.2)."""
    linear = [
        v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in to_rgb(colour)
    ]
    return sum(c * v for c, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("kind", [Method, Score])
def test_lines_stand_out_on_white(kind):
    assert 1.05 / (luminance("#767676") + 0.05) == pytest.approx(4.54, abs=0.01)  # WCAG's grey
    for name, method in methods.found(kind).items():
        assert 1.05 / (luminance(method.colour) + 0.05) >= 3, name


@dataclass(frozen=True)
class Plain:
    rate: float = setting(1e-3, "learning rate")


def no_phases(settings, problem):
    return [Phase(problem.all_epochs, recipes.Adam(settings.rate))]


LOOK = {"label": "a method", "short": "a", "colour": "#123456", "marker": "o"}


@pytest.mark.parametrize("missing", ["label", "short", "colour", "marker"])
def test_a_method_without_a_look_fails(missing):
    with pytest.raises(TypeError, match=missing):
        Method("mine", Plain, no_phases, **{k: v for k, v in LOOK.items() if k != missing})
    with pytest.raises(ValueError, match=missing):
        Method("mine", Plain, no_phases, **LOOK | {missing: ""})


def test_settings_without_help_or_default_fail():
    @dataclass(frozen=True)
    class Helpless:
        rate: float = 1.0

    @dataclass
    class Mutable:
        rate: float = setting(1.0, "learning rate")

    for kind, words in ((Helpless, "Helpless.rate needs"), (Mutable, "frozen dataclass")):
        with pytest.raises(ValueError, match=words):
            Method("mine", kind, no_phases, **LOOK)


def test_two_methods_of_one_name_fail():
    class First:
        METHOD = Method("mine", Plain, no_phases, **LOOK)

    class Second:
        METHOD = Method("mine", Plain, no_phases, **LOOK | {"label": "another"})

    class Imports:
        AGAIN = First.METHOD

    assert methods.collect(Method, [First, Imports]) == {"mine": First.METHOD}
    with pytest.raises(ValueError, match="'mine'"):
        methods.collect(Method, [First, Second])


def test_nothing_about_stacking_is_inherited(monkeypatch, digits):
    gates = METHODS["gates"]

    class MyGates(gates_training.Gating):
        """As the gates, but with a mask of its own."""

    def phases(settings, problem):
        learn, finetune = gates.phases(settings, problem)
        return [replace(learn, callbacks=(MyGates(settings, problem.density),)), finetune]

    with pytest.raises(ValueError, match="phases of another method"):
        replace(gates, name="mine", phases=phases)
    with pytest.raises(ValueError, match="phases of another method"):
        Method("mine", Plain, phases, **LOOK, stack=gates.stack)
    mine = Method("mine", gates.settings, phases, **LOOK)
    assert mine.stack is None
    monkeypatch.setattr(methods, "found", lambda kind: {"mine": mine, "gates": gates})
    monkeypatch.setattr(comparison.joblib, "cpu_count", lambda: 1)
    several = [config_of("mine", seed=seed) for seed in range(3)]
    assert len(comparison.groups([config_of("gates", seed=seed) for seed in range(3)])) == 1
    assert comparison.groups(several) == [[config] for config in several]


def test_one_shot_methods_share_one_dense_training(digits, monkeypatch):
    trained = []
    fit = recipes.fit
    monkeypatch.setattr(
        recipes, "fit", lambda *a, **k: trained.append(k["epochs"]) or fit(*a, **k)
    )
    comparison._trained.cache_clear()
    comparison.train(config_of("magnitude", seed=11), digits)
    comparison.train(config_of("wanda", seed=11, density=0.1), digits)
    assert [epochs for epochs in trained if epochs] == [10, 2, 2]
    comparison.train(config_of("magnitude", seed=12), digits)
    assert [epochs for epochs in trained if epochs] == [10, 2, 2, 10, 2]
    assert isinstance(baselines.DENSE.stack, Stack)


def test_hooks_of_a_phase_run_in_order_with_its_random_numbers():
    said = []

    class Says(Callback):
        def start(self, model):
            said.append("start")

        def finish(self, model):
            said.append("finish")

    draws = []
    phase = Phase(
        0,
        callbacks=(Says(),),
        before=lambda model: said.append("before") or draws.append(torch.rand(1).item()),
        after=lambda model: said.append("after"),
    )
    model = nn.Linear(2, 2)
    recipes.train(model, torch.rand(4, 2), torch.zeros(4).long(), [phase, phase], seed=3)
    assert said == ["before", "start", "finish", "after"] * 2
    expected = [
        torch.rand(1, generator=torch.Generator().manual_seed(3 + k)).item() for k in range(2)
    ]
    assert draws == expected


def test_what_is_measured_before_the_last_phase():
    seen = []
    model, x, y = nn.Linear(2, 2), torch.rand(4, 2), torch.zeros(4).long()
    recipes.train(model, x, y, [Phase(0)], before_last=seen.append)
    assert seen == []
    recipes.train(model, x, y, [Phase(0)] * 3, before_last=seen.append)
    assert seen == [model]


def test_wrong_phases_and_problems():
    with pytest.raises(ValueError, match="epochs: got -1"):
        Phase(-1)
    x, y = torch.zeros(1, 784), torch.zeros(1).long()
    lenet = Problem(x, y, (784, 300, 100, 10), comparison.PAPER_WEIGHTS / 266_200, 60, 20)
    assert lenet.total == comparison.LENET_WEIGHTS == 266_200
    assert lenet.weights == 404


@pytest.mark.parametrize("weights", [3, 4, 40, 150, 12 * 9 + 9 * 7 + 7 * 2])
def test_every_weight_of_random_paths_is_effective(weights):
    masks = baselines.random_paths((12, 9, 7, 2), weights)
    model = models.mlp((12, 9, 7, 2))
    baselines.keep_random_paths(model, weights)
    assert sum(int(mask.sum()) for mask in masks) <= weights
    report = sparsity.sparsity_report(model)
    assert report.effective.sum() == report.kept.sum()
    if weights > 10:  # beside a single path there is no other neuron to join
        assert report.kept.sum() == weights


def test_random_paths_are_random_and_one_must_fit():
    torch.manual_seed(0)
    counts = sum(baselines.random_paths((6, 5, 4), 2)[0].sum(0) for _ in range(3000))
    assert counts.sum() == 3000  # one connection from an input each time
    assert (counts - 500).abs().max() < 5 * (
        3000 * 1 / 6 * 5 / 6
    ) ** 0.5  # uniform over the inputs
    with pytest.raises(ValueError, match="weights: got 1, needs 2 or more"):
        baselines.random_paths((6, 5, 4), 1)
