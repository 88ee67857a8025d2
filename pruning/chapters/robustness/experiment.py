"""Is a pruned network more brittle than a dense network of the same clean accuracy?

Every run measures one network: accuracy under FGSM and PGD at each ε (L∞, pixels in [0, 1]),
under random noise of the same size, under examples made for two other networks (transfer),
and on noisy, shifted and rotated test images. Dense networks of several widths give the
accuracies to compare at.
"""

from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pruning import comparison, training
from pruning.bounds import Count, Part, Positive
from pruning.chapters.robustness.metrics import Metrics
from pruning.chapters.smallest.experiment import rebuilt
from pruning.data import corruptions, datasets
from pruning.evidence import records
from pruning.evidence.configs import settle
from pruning.evidence.records import Record
from pruning.methods import find, oneshot
from pruning.methods.relative import RELATIVE
from pruning.methods.stochgrad import StochGradAdam
from pruning.networks import attacks, sparsity
from pruning.networks.compact import compact
from pruning.training import recipes

DATASETS = ("mnist", "digits")
EPSILONS = (0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3)
STEPS, RESTARTS = 20, 4  # of PGD
ATTACKED = 1000  # images of the test set, evenly spaced
LEVELS = {"noise": (0.1, 0.2, 0.3), "shift": (1, 2, 3), "rotate": (10.0, 20.0, 30.0)}
SURROGATE = 7  # the recorded network of 404 weights that others are attacked from
SOURCES = ("trained", "recorded")
METHODS = ("gates", "dense", "magnitude", "relative", "stochgrad")


@dataclass(frozen=True)
class Config:
    """One network."""

    metrics: ClassVar[type] = Metrics

    dataset: str = "mnist"
    study: str = "attacks"
    method: str = "gates"  # one of METHODS
    density: Part = 1.0
    seed: Count = 0
    source: str = "trained"  # or "recorded": a whole network of the chapter why_gates_win
    hidden: tuple[Positive, ...] = (300, 100)
    epochs: Count = 60
    finetune_epochs: Count = 20
    batch_size: Positive = 256

    def __post_init__(self):
        settle(self, dataset=DATASETS, study=("attacks",), method=METHODS, source=SOURCES)
        comparison.trains(self)
        check_source(self)


def check_source(config: Any) -> None:
    """Raise ValueError for a config that takes a network from the records where none is."""
    if config.source == "recorded" and (config.dataset, config.method) != ("mnist", "gates"):
        raise ValueError(
            f"source: got 'recorded' for {config.method!r} on {config.dataset!r}, needs "
            "'trained'; only networks of gates on MNIST are on record"
        )


def recorded(seed: int) -> nn.Module:
    """A network of gates with 404 weights, from the records of the chapter why_gates_win."""
    path = records.records_folder() / "why_gates_win.jsonl"
    (found,) = records.select(records.read_again(path), study="networks", network=seed)
    return rebuilt(found | {"activation": "silu"})


def network(config: Config, data: datasets.Dataset) -> nn.Module:
    """The trained network of a config, with its masks.

    "relative" prunes by relative importance and "stochgrad" trains with StochGradAdam before
    pruning by magnitude; everything else is as in magnitude pruning in the comparison.
    """
    if config.source == "recorded":
        return recorded(config.seed)
    method = config.method if config.method in ("gates", "dense") else "magnitude"
    base = comparison.shared(config, method)
    if config.method == method:
        return comparison.train(base, data)[0]
    problem = comparison.problem_of(base, data)
    phases = find(method).phases(base.settings, problem)
    seed = config.seed
    if config.method == "relative":
        # the network that magnitude pruning begins with, trained once for both
        model, _ = comparison.train(replace(base, density=1.0, finetune_epochs=0), data)
        oneshot.prune(model, problem, RELATIVE, "global")
        phases, seed = phases[1:], seed + 1
    else:
        model = comparison.untrained(base, problem.sizes)
        optimizer = partial(sampled, lr=base.settings.finetune_lr)
        phases[0] = replace(phases[0], optimizer=optimizer)
    train_set = problem.inputs, problem.targets
    recipes.train(model, *train_set, phases, seed=seed, batch_size=config.batch_size)
    return model


def sampled(model: nn.Module, lr: float) -> torch.optim.Optimizer:
    """StochGradAdam with the paper's sampling rate and the comparison's learning rate."""
    return StochGradAdam(model.parameters(), lr=lr)


def attacked(data: datasets.Dataset) -> tuple[Tensor, Tensor]:
    """The test images that are attacked, and their classes."""
    stride = max(1, len(data.test) // ATTACKED)
    return data.test.inputs[::stride], data.test.targets[::stride]


@lru_cache(maxsize=2)
def transferred(dataset: str) -> dict[str, list[Tensor]]:
    """PGD examples made for a dense network and for one of gates, neither of which is measured
    itself: {method: attacked images at each ε}."""
    data = comparison.load(dataset)
    dense, gates = _surrogates(dataset)
    x, y = attacked(data)
    found = {}
    for config in (dense, gates):
        model = compact(network(config, data))
        generator = torch.Generator().manual_seed(0)
        found[config.method] = [
            attacks.pgd(model, x, y, eps, steps=STEPS, generator=generator) for eps in EPSILONS
        ]
    return found


def _surrogates(dataset: str) -> tuple[Config, Config]:
    if dataset == "digits":
        base = replace(QUICK, seed=100)
        return replace(base, method="dense", density=1.0), base
    # one epoch takes a second, and its examples transfer (the record says how well)
    dense = Config(dataset, method="dense", seed=100, epochs=0, finetune_epochs=1)
    source = "recorded" if dataset == "mnist" else "trained"
    gates = replace(dense, method="gates", density=FEW, seed=SURROGATE, source=source)
    return dense, gates


@lru_cache(maxsize=2)
def corrupted(dataset: str) -> dict[str, list[Tensor]]:
    """The whole test set at each level of each corruption: {name: tensors (samples,
    features)}."""
    data = comparison.load(dataset)
    images = data.test.inputs.view(-1, *data.image_shape)
    return {
        name: [
            getattr(corruptions, name)(
                images, level, torch.Generator().manual_seed(0)
            ).flatten(1)
            for level in levels
        ]
        for name, levels in LEVELS.items()
    }


def under_attack(model: nn.Module, dataset: str) -> Record:
    """Accuracy of a model at each ε under each attack, fractions; and how its gradients were
    checked.

    `pgd` has a row for each number of restarts. `missed` is the share of images that some
    transferred example or random noise fools and PGD does not: large where gradients are
    masked. `distance` has the quartiles of `attacks.first_order_distance`.
    """
    x, y = attacked(comparison.load(dataset))
    others = transferred(dataset)
    generator = torch.Generator().manual_seed(0)
    found: Record = {"attacked": len(y), "epsilons": list(EPSILONS)}
    curves: dict[str, list] = {
        name: []
        for name in ("fgsm", "pgd", "random", "transfer_dense", "transfer_gates", "missed")
    }
    for k, eps in enumerate(EPSILONS):
        signs = torch.randint(2, x.shape, generator=generator) * 2.0 - 1
        by = {
            "fgsm": attacks.withstood(model, x, y, partial(attacks.fgsm, eps=eps))[-1],
            "random": attacks.right(model, (x + eps * signs).clamp(0, 1), y),
            "transfer_dense": attacks.right(model, others["dense"][k], y),
            "transfer_gates": attacks.right(model, others["gates"][k], y),
        }
        attack = partial(attacks.pgd, eps=eps, steps=STEPS, generator=generator)
        rows = attacks.withstood(model, x, y, attack, RESTARTS)
        blind = by["random"] & by["transfer_dense"] & by["transfer_gates"]
        curves["missed"].append(_share(rows[-1] & ~blind))
        curves["pgd"].append([_share(row) for row in rows])
        for name, stands in by.items():
            curves[name].append(_share(stands))
    curves["pgd"] = [list(row) for row in zip(*curves["pgd"], strict=True)]
    distance = attacks.first_order_distance(model, x, y)
    quartiles = distance.quantile(torch.tensor([0.25, 0.5, 0.75]))
    clean = _share(attacks.right(model, x, y))
    return found | curves | {"attacked_accuracy": clean, "distance": quartiles.tolist()}


def _share(true: Tensor) -> float:
    return int(true.sum()) / len(true)


def run(config: Config) -> Record:
    """Train or rebuild one network and attack it: the metrics of one record."""
    data = comparison.load(config.dataset)
    model = network(config, data)
    small = compact(model)  # the same outputs and gradients, sooner
    x, y = data.test.inputs, data.test.targets
    return {
        **sparsity.totals(model),
        "inputs_read": len(small[0].indices),
        "test_accuracy": training.evaluate(model, x, y).accuracy,
        "levels": {name: list(levels) for name, levels in LEVELS.items()},
        "corrupted": {
            name: [training.evaluate(small, moved, y).accuracy for moved in sets]
            for name, sets in corrupted(config.dataset).items()
        },
        **under_attack(small, config.dataset),
        "provenance": {"data": data.checksum},
    }


FEW = comparison.PAPER_WEIGHTS / comparison.LENET_WEIGHTS
WIDTHS = (0.07, 0.1, 0.2)  # of dense networks, as densities of LeNet-300-100
ONE_SHOT = 0.05  # below, magnitude empties the last layer
QUICK = Config("digits", density=0.06, hidden=(32, 16), batch_size=64, epochs=20)
SEEDS = 3


def configs(profile: str, seeds: int | None = None) -> list[Config]:
    """The runs of a profile, those that matter most first. "quick": digits, one seed. "paper":
    MNIST, three seeds."""
    if profile == "quick":
        dense = replace(QUICK, method="dense", density=1.0)
        pruned = [replace(QUICK, method=m, density=0.2) for m in METHODS[2:]]
        kinds = [QUICK, dense, replace(dense, density=0.3), *pruned]
        return [replace(config, seed=seed) for seed in range(seeds or 1) for config in kinds]
    if profile != "paper":
        raise ValueError(f"profile: got {profile!r}, needs one of ['paper', 'quick']")
    dense = Config(method="dense", epochs=15, finetune_epochs=5)
    kinds = [
        Config(method="gates", density=FEW, source="recorded"),
        replace(dense, epochs=0, finetune_epochs=1),  # the whole network, stopped early
        *(replace(dense, density=density) for density in WIDTHS),
        dense,
    ]
    one_shot = [replace(dense, method=m, density=ONE_SHOT) for m in METHODS[2:]]
    longer = [
        Config(method="dense", density=WIDTHS[0]),
        Config(method="gates", density=0.01),
        Config(method="gates", density=0.004),
    ]
    return [
        replace(config, seed=seed)
        for part in (kinds, one_shot, longer)
        for seed in range(seeds or SEEDS)
        for config in part
    ]
