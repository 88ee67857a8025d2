"""Accuracy against density (Fig 2 of arXiv:2311.12526): gates beside what they are compared with.

Every method trains for the same number of epochs. Those that learn a mask spend the first
`epochs` on it (one-shot scores: on the dense network) and the last `finetune_epochs` on the weights that are
left, the others all of them on the weights, with the same decay at the end.
"""

import copy
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import joblib
import torch
from torch import nn

from pruning import training
from pruning.data import datasets
from pruning.evidence import records
from pruning.evidence.records import Record
from pruning.networks import models, sparsity
from pruning.training import stacks
from pruning.training.methods import (
    METHODS,
    SNIP,
    Gates,
    Method,
    OneShot,
    StackedGates,
    hold_then_cosine,
)

DATASETS = ("mnist", "fashion_mnist", "income", "digits", "breast_cancer")


@dataclass(frozen=True)
class Config:
    """One run. The hyper-parameters were chosen on validation splits (`configs("search")`)."""

    dataset: str = "mnist"
    method: str = "gates"  # one of METHODS
    density: float = 0.01  # asked for; the record's `kept` says what it came to
    seed: int = 0
    hidden: tuple[int, ...] = (300, 100)
    activation: str = "silu"  # of the authors' notebook; the paper names none
    epochs: int = 60
    finetune_epochs: int = 20
    batch_size: int = 256
    lr: float = 1e-2  # of weights and biases
    finetune_lr: float = 3e-3  # of weights and biases once the mask is fixed, or was from the start
    gate_lr: float = 0.1  # of the logits ℓ
    tau: float = 2.0
    init: float = 0.9
    alpha: float = 1.0  # factor of the density loss
    penalty: str = "log"  # |log mean(g) − log D|, or "absolute": |mean(g) − D|, Eq. 3 as printed
    target: str = "falling"  # D falls exponentially from 1 during `descent`, or "constant": D from the start
    descent: float = 0.5  # fraction of the epochs after which the target is D
    allocation: tuple[float, ...] = ()  # shares of the kept weights by layer; (): one loss for all layers
    at_most: int = 0  # of more open gates the largest so many stay; 0: all stay
    fraction: float = 0.3  # SET's ζ
    l1: float = 1e-4  # DeepR's α
    split: str = "test"  # or "validation": a part of the training set stands in for the test set
    study: str = "curves"  # or "frontier", "forms" (of the density loss), "search"


@lru_cache(maxsize=2)
def load(name: str, split: str) -> datasets.Dataset:
    """A data set, or for "validation" its training set split in two; kept between runs."""
    data = datasets.load(name)
    return data if split == "test" else data.validation()


def _fit(model, data, config, method=None, *, epochs, optimizer, hold, seed, progress):
    training.fit(
        model, data.train.inputs, data.train.targets, epochs=epochs, batch_size=config.batch_size,
        optimizer=optimizer, schedule=hold_then_cosine(hold), callbacks=[method] if method else [],
        seed=seed, progress=progress,
    )  # fmt: skip


_last_dense: list = []  # (what it was made from, network): one-shot scores share it over densities


def _trained_dense(config: Config, data: datasets.Dataset, progress: bool) -> nn.Sequential:
    config = replace(config, method="dense", density=1.0, finetune_epochs=0)
    made_from = (config, data.name, data.checksum)
    if not _last_dense or _last_dense[0] != made_from:
        _last_dense[:] = made_from, train(config, data, progress)[0]
    return copy.deepcopy(_last_dense[1])


def train(config: Config, data: datasets.Dataset, progress: bool = False) -> tuple[nn.Sequential, Record]:
    """Train one network as the config says; returns it pruned, and what it did before fine-tuning.

    The returned model carries its masks.
    """
    if config.method not in METHODS:
        raise ValueError(f"method: got {config.method!r}, needs one of {sorted(METHODS)}")
    if config.penalty not in ("log", "absolute") or config.target not in ("falling", "constant"):
        raise ValueError(
            f"penalty, target: got {config.penalty!r}, {config.target!r}, "
            "needs 'log' or 'absolute', 'falling' or 'constant'"
        )
    shares = config.allocation
    if shares and (len(shares) != len(config.hidden) + 1 or not math.isclose(sum(shares), 1)):
        raise ValueError(
            f"allocation: got {shares}, needs {len(config.hidden) + 1} shares, one a layer, that sum to 1"
        )
    method = METHODS[config.method](config)
    dense_sizes = (data.train.inputs.shape[1], *config.hidden, len(data.class_names))
    after_training = isinstance(method, OneShot) and not isinstance(method, SNIP)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = models.mlp(method.sizes(dense_sizes), config.activation)
        if after_training:
            model = _trained_dense(config, data, progress)
        if isinstance(method, OneShot):
            method.prune(model, data)
        two_phases = after_training or isinstance(method, Gates)
        if not after_training:
            epochs = config.epochs if two_phases else config.epochs + config.finetune_epochs
            _fit(
                model, data, config, method, epochs=epochs, optimizer=method.optimizer,
                hold=config.descent, seed=config.seed, progress=progress,
            )  # fmt: skip
    before = None
    if two_phases:
        before = training.evaluate(model, data.test.inputs, data.test.targets).accuracy
        _fit(
            model, data, config, epochs=config.finetune_epochs, hold=0.0, seed=config.seed + 1,
            optimizer=lambda model: training.adam(model, config.finetune_lr), progress=progress,
        )  # fmt: skip
    return model, {"before_finetune": before, "dense_weights": models.weight_count(dense_sizes)}


def _prepared(
    config: Config, method: Method, sizes: tuple[int, ...]
) -> tuple[nn.Sequential, torch.Generator]:
    """The network as `train` would have it at the first batch, and the random numbers from there on."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = models.mlp(method.sizes(sizes), config.activation)
        torch.manual_seed(config.seed)  # as training.fit does
        if not isinstance(method, Gates):
            method.start(model)
        generator = torch.Generator()
        generator.set_state(torch.get_rng_state())
    return model, generator


def train_stack(configs: list[Config], data: datasets.Dataset) -> list[tuple[nn.Sequential, Record]]:
    """`train` for all configs of one of the `groups` at once, on the data's device. The networks come back
    on the CPU."""
    first, device = configs[0], data.train.inputs.device
    methods = [METHODS[config.method](config) for config in configs]
    sizes = (data.train.inputs.shape[1], *first.hidden, len(data.class_names))
    prepared = [_prepared(config, method, sizes) for config, method in zip(configs, methods, strict=True)]
    generators = [generator for _, generator in prepared]
    stacked = stacks.stack([model for model, _ in prepared]).to(device)
    gated = isinstance(methods[0], Gates)
    fit = partial(stacks.fit, stacked, data.train.inputs, data.train.targets, batch_size=first.batch_size)
    fit(
        generators, epochs=first.epochs if gated else first.epochs + first.finetune_epochs,
        optimizer=methods[0].optimizer, schedule=hold_then_cosine(first.descent),
        callbacks=[StackedGates(configs, generators)] if gated else [],
    )  # fmt: skip
    before: list[float | None] = [None] * len(configs)
    if gated:
        test = data.test.inputs, data.test.targets
        before = [training.evaluate(model, *test).accuracy for model in stacks.unstack(stacked)]
        fit(
            [torch.Generator().manual_seed(config.seed + 1) for config in configs],
            epochs=first.finetune_epochs, schedule=hold_then_cosine(0.0),
            optimizer=lambda model: training.adam(model, first.finetune_lr),
        )  # fmt: skip
    return [
        (model, {"before_finetune": accuracy, "dense_weights": models.weight_count(sizes)})
        for model, accuracy in zip(stacks.unstack(stacked.cpu()), before, strict=True)
    ]


def run(config: Config) -> Record:
    """Train, prune, measure: the metrics of one record."""
    data = load(config.dataset, config.split)
    return measured(config, data, *train(config, data))


def measured(config: Config, data: datasets.Dataset, model: nn.Sequential, metrics: Record) -> Record:
    """The metrics of a network that `train` returned."""
    after = training.evaluate(model, data.test.inputs, data.test.targets)
    report = sparsity.sparsity_report(model)
    # a validation run must not touch the test set, so its figures go by another name
    accuracy, other = ("test", "validation") if config.split == "test" else ("validation", "test")
    return {
        "dense_weights": metrics["dense_weights"],
        "kept": int(report.kept.sum()),
        "kept_by_layer": report.kept.tolist(),
        "effective": int(report.effective.sum()),
        "biases": sum(layer.out_features for layer in model if isinstance(layer, nn.Linear)),
        f"{accuracy}_accuracy": after.accuracy,
        f"{accuracy}_accuracy_before_finetune": metrics["before_finetune"],
        f"{accuracy}_loss": after.loss,
        f"{other}_accuracy": None,
        "provenance": {"data": data.checksum},
    }


def run_stack(configs: list[Config], measure: Callable[..., Record] = measured) -> list[Record]:
    """`run` for all configs of one of the `groups`, on the GPU if there is one."""
    data = load(configs[0].dataset, configs[0].split)
    found = train_stack(configs, data.to("cuda") if torch.cuda.is_available() else data)
    return [measure(config, data, *each) for config, each in zip(configs, found, strict=True)]


# a larger network fills a core's cache by itself, and stacking more gains nothing (benchmarks/stacks.py)
SMALL = 50_000


def groups(configs: list[Config]) -> list[list[Config]]:
    """Which configs train as one stack, where that is faster: small networks, or any on a GPU. They differ in
    seed, density, tau, init and alpha alone."""
    gpu, most = torch.cuda.is_available(), 64 if torch.cuda.is_available() else 16
    alike: dict[Any, list[Config]] = {}
    for config in configs:
        method = METHODS[config.method](config)
        known = datasets.registry()[config.dataset]
        sizes = method.sizes((known["features"], *config.hidden, known["classes"]))
        key: Any = config
        if method.stacks and not config.allocation and (gpu or models.weight_count(sizes) <= SMALL):
            key = replace(config, seed=0, density=1.0, tau=1.0, init=0.5, alpha=1.0), sizes
        alike.setdefault(key, []).append(config)
    size = min(most, max(1, -(-len(configs) // joblib.cpu_count())))  # no core without work
    return [group[i : i + size] for group in alike.values() for i in range(0, len(group), size)]


TOGETHER = records.Together(groups, run_stack)


# 404 of 266,200 weights are 0.152 %; asking for a little less leaves room for gates near ½
MNIST_DENSITIES = (0.5, 0.2, 0.1, 0.05, 0.018, 0.01, 0.004, 0.00144, 0.001)
INCOME_DENSITIES = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)
ABSOLUTE_ALPHA = 1000.0
INCOME = Config(dataset="income", hidden=(100, 50))


FIXED = ("gates", "random", "dense")  # what Fig 2a compares
# where the search found other settings than those that random deletion and the dense network share
TUNED = {"set": {"fraction": 0.1, "finetune_lr": 1e-2}, "deepr": {"l1": 1e-1, "finetune_lr": 3e-2}}
GATES_SEEDS, OTHER_SEEDS = 10, 5
MOVING = ("set", "deepr", "magnitude", "wanda", "snip")  # Fig 2b's rewiring methods, and one-shot scores


def _grid(base: Config, densities, seeds, methods=FIXED) -> list[Config]:
    """Every method at every density; the dense network where one is that small, and at full size."""
    known = datasets.registry()[base.dataset]
    sizes = (known["features"], *base.hidden, known["classes"])
    total = models.weight_count(sizes)
    grid = []
    for seed, method in itertools.product(seeds, methods):
        for density in densities if method != "dense" else (1.0, *densities):
            if method != "dense" or models.narrow_sizes(sizes, round(density * total)):
                grid.append(replace(base, method=method, density=density, seed=seed))
    return grid


def comparison(seeds) -> list[Config]:
    """Eq. 3 as printed and on a log scale, each with a falling and a constant target, at 0.144 % of
    MNIST's weights (the log form with a falling target is the curves' own).

    The pull of the absolute form on a gate is α/N at every density, that of the log form α/(N·D): the
    absolute form's α comes from the search too; a smaller one misses the target.
    """
    base = Config(density=0.00144, study="forms")
    forms = [
        replace(
            base, penalty=penalty, target=target, alpha=base.alpha if penalty == "log" else ABSOLUTE_ALPHA
        )
        for penalty, target in (("log", "constant"), ("absolute", "falling"), ("absolute", "constant"))
    ]
    return [replace(form, seed=seed) for seed, form in itertools.product(seeds, forms)]


def frontier(seeds) -> list[Config]:
    """At most 404 weights once more, by Eq. 3's own form of the density loss, over many seeds.

    Longer trainings are on record too (study "frontier" with more epochs); they gain less than the spread
    between seeds.
    """
    printed = Config(density=0.00143, penalty="absolute", alpha=ABSOLUTE_ALPHA, study="frontier")
    return [replace(printed, seed=seed) for seed in seeds]


def search() -> list[Config]:
    """One hyper-parameter moved at a time around the choice, at 0.144 % of MNIST's weights and 1 % of
    Income's, seed 0, on validation splits."""
    mnist = Config(density=0.00144, study="search", split="validation")
    moves = [
        {"activation": "relu"},
        {"tau": 1.0},
        {"tau": 4.0},
        {"tau": 8.0},
        {"gate_lr": 0.03},
        {"gate_lr": 0.3},
    ]
    moves += [{"lr": 3e-3}, {"alpha": 0.3}, {"alpha": 3.0}, {"descent": 0.3}, {"descent": 0.7}]
    moves += [{"penalty": "absolute", "alpha": a} for a in (100.0, 1000.0)]
    # the competitors' learning rate and what else they have, at 1 or 2 % and the dense network in full
    others = [
        {"method": method, "density": density, "finetune_lr": rate}
        for method, density in (("random", 0.02), ("dense", 1.0), ("dense", 0.01))
        for rate in (1e-3, 3e-3, 1e-2)
    ]
    others += [
        {"method": method, "finetune_lr": rate, "density": 0.01} | more
        for rate in (1e-3, 3e-3, 1e-2)
        for method, more in (
            ("set", {}), ("set", {"fraction": 0.1}),
            ("deepr", {}), ("deepr", {"l1": 1e-3}), ("deepr", {"l1": 1e-2}), ("deepr", {"l1": 1e-1}),
        )
    ]  # fmt: skip
    # one step beyond where the best of the two lay at the edge
    others += [
        {"method": method, "finetune_lr": rate, "density": 0.01} | more
        for method, rate, more in (
            ("set", 3e-2, {"fraction": 0.1}), ("set", 1e-2, {"fraction": 0.03}),
            ("deepr", 3e-2, {"l1": 1e-2}), ("deepr", 3e-2, {"l1": 1e-1}),
            ("deepr", 1e-1, {"l1": 1e-1}), ("deepr", 3e-2, {"l1": 3e-1}),
            ("deepr", 3e-2, {"l1": 1.0}), ("deepr", 1e-1, {"l1": 1.0}),
        )
    ]  # fmt: skip
    income = replace(INCOME, density=0.01, study="search", split="validation")
    income_moves = [{"lr": r} for r in (3e-3, 3e-2)] + [{"finetune_lr": r} for r in (1e-3, 1e-2)]
    return [replace(mnist, **move) for move in ({}, *moves, *others)] + [
        replace(income, **move) for move in ({}, *income_moves)
    ]


def configs(profile: str, seeds: int | None = None) -> list[Config]:
    """The runs of a profile, those that matter most first.

    "quick": digits and breast_cancer, two seeds. "paper": MNIST and Income, ten seeds of the gates and five
    of all others (16 at the frontier, three of the forms of the density loss). "search": the
    hyper-parameters, on validation splits.
    """
    if profile == "quick":
        n = range(seeds or 2)
        digits = Config(dataset="digits", hidden=(32, 16), batch_size=64)
        tumours = replace(digits, dataset="breast_cancer", hidden=(16, 8))
        runs = _grid(digits, (0.5, 0.2, 0.1, 0.05, 0.03), n) + _grid(tumours, (0.2, 0.05, 0.02), n)
        return runs + _grid(digits, (0.2, 0.05), n, ("set", "deepr", "magnitude"))
    if profile == "paper":
        runs = frontier(range(seeds or 16))
        runs += comparison(range(seeds or 3))
        for seed in range(seeds or GATES_SEEDS):  # a whole set of curves first, then its spread
            others = seed < (seeds or OTHER_SEEDS)
            fixed = FIXED if others else ("gates",)
            runs += _grid(Config(), MNIST_DENSITIES, [seed], fixed)
            runs += _grid(INCOME, INCOME_DENSITIES, [seed], fixed)
            for method in MOVING if others else ():
                tuned = replace(Config(), **TUNED.get(method, {}))
                runs += _grid(tuned, MNIST_DENSITIES, [seed], (method,))
        return runs
    if profile == "search":
        return search()
    raise ValueError(f"profile: got {profile!r}, needs one of ['paper', 'quick', 'search']")
