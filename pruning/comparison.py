"""One network of the comparison: from a config to a trained and pruned network, and to what is
measured on it.

Every method trains for the same number of epochs. Those that learn a mask spend the first
`epochs` on it (one-shot scores: on the dense network) and the last `finetune_epochs` on the
weights that are left, the others all of them on the weights, with the same decay at the end.
Chapters extend `Config` by what they measure.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any, ClassVar

import joblib
import torch
from torch import Tensor, nn

from pruning import methods, training
from pruning.bounds import Count, Part, Positive, Text
from pruning.data import datasets
from pruning.evidence.compared import Compared
from pruning.evidence.configs import changed, settle
from pruning.evidence.metrics import Metrics
from pruning.networks import models, sparsity
from pruning.networks.layers import layers
from pruning.training import recipes, stacks
from pruning.training.recipes import Phase, Problem

Record = dict[str, Any]

PAPER_WEIGHTS = 404  # the smallest network of arXiv:2311.12526
LENET_WEIGHTS = models.weight_count((784, 300, 100, 10))
# 404 of 266,200 weights are 0.152 %. Gates near ½ may open late, so the comparison asks for a
# little less:
FEW = 0.00144
FEWEST = 0.00143  # where the density loss is Eq. 3's own, which ends further from its target
# of the gates where few weights are left, by the validation split (the ablation of the chapter
# `smallest`)
CHOSEN = {"tau": 30.0, "init": 0.5, "descent": 0.25, "alpha": 300.0}


@dataclass(frozen=True)
class Config:
    """One network. `settings` are the method's own; None stands for its defaults.

    Raises ValueError for a field out of its bounds, an unknown method or the settings of
    another.
    """

    metrics: ClassVar[type[Metrics]] = Compared  # what a run yields

    dataset: Text = "mnist"
    method: Text = "gates"
    density: Part = 0.01  # asked for; the record's `kept` says what it came to
    seed: Count = 0
    hidden: tuple[Positive, ...] = (300, 100)
    activation: Text = "silu"  # of the authors' notebook; the paper names none
    epochs: Count = 60
    finetune_epochs: Count = 20
    batch_size: Positive = 256
    settings: Any = None

    def __post_init__(self):
        settle(self, activation=models.ACTIVATIONS)
        trains(self)

    @staticmethod
    def settings_of(method: str) -> type:
        """The dataclass of a method's settings."""
        return methods.find(method).settings


def trains(config: Any) -> None:
    """Raise ValueError for a config without the epochs that its method needs: only a dense
    network, or one from the records, can do with those of the fine-tune."""
    dense = config.method == "dense" and config.finetune_epochs
    if not (config.epochs or dense or getattr(config, "source", "") == "recorded"):
        raise ValueError(f"epochs: got 0, needs 1 or more for method={config.method!r}")


def shared(config: Any, method: str) -> Config:
    """The comparison's config with those fields that a chapter's own config has too, and with
    the default settings of a method."""
    names = {field.name for field in fields(Config)} - {"method", "settings"}
    found = {name: getattr(config, name) for name in names if hasattr(config, name)}
    return Config(method=method, **found)


def budgeted(base: Config, weights: int) -> Config:
    """`base`, a config of gates on LeNet-300-100, with the chosen settings and at most
    `weights` kept."""
    # Eq. 3's pull on a gate is α/N at every density: the fewer weights, the more of it is
    # needed
    alpha = CHOSEN["alpha"] * PAPER_WEIGHTS / weights
    asked = {"density": weights / LENET_WEIGHTS, "at_most": weights, "alpha": alpha}
    return changed(base, **CHOSEN | asked)


SPLITS = ("test", "validation")


@lru_cache(maxsize=2)
def load(name: str, split: str = "test") -> datasets.Dataset:
    """A data set, or for "validation" its training set split in two; kept between runs."""
    if split not in SPLITS:
        raise ValueError(f"split: got {split!r}, needs one of {list(SPLITS)}")
    data = datasets.load(name)
    return data if split == "test" else data.validation()


def problem_of(config: Config, data: datasets.Dataset) -> Problem:
    """What the config asks of its method."""
    return Problem(
        data.train.inputs,
        data.train.targets,
        (data.train.inputs.shape[1], *config.hidden, len(data.class_names)),
        config.density,
        config.epochs,
        config.finetune_epochs,
        config.seed,
    )


def untrained(config: Config, sizes: tuple[int, ...]) -> nn.Sequential:
    """The network that a config begins with, from the sizes of the full one."""
    narrowed = methods.find(config.method).sizes(sizes, config.density)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return models.mlp(narrowed, config.activation)


@lru_cache(maxsize=16)  # a sweep may come back to a beginning after others
def _trained(
    sizes: tuple[int, ...],
    activation: str,
    inputs: Tensor,
    targets: Tensor,
    phase: Phase,
    batch_size: int,
    seed: int,
    progress: bool,
) -> nn.Sequential:
    """A network after a phase that has no callbacks.

    It is kept for the runs that begin alike: change a copy.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = models.mlp(sizes, activation)
    options = {"seed": seed, "batch_size": batch_size, "progress": progress}
    recipes.train(model, inputs, targets, [phase], **options)
    return model


def train(
    config: Config, data: datasets.Dataset, progress: bool = False
) -> tuple[nn.Sequential, Record]:
    """Train one network as the config says.

    Returns the network with its mask, and what it did before fine-tuning.
    """
    problem = problem_of(config, data)
    first, *rest = methods.find(config.method).phases(config.settings, problem)
    model = untrained(config, problem.sizes)
    train_set = problem.inputs, problem.targets
    if rest and not first.callbacks and first.before is None:
        widths = [layer.out_features for layer in model if isinstance(layer, nn.Linear)]
        sizes = (problem.sizes[0], *widths)
        alone = replace(first, after=None)
        how = config.activation, *train_set, alone, config.batch_size, config.seed, progress
        model = copy.deepcopy(_trained(sizes, *how))
        first = replace(first, epochs=0)
    before: list[float] = []
    recipes.train(
        model,
        *train_set,
        [first, *rest],
        seed=config.seed,
        before_last=lambda model: before.append(_test_accuracy(model, data)),
        batch_size=config.batch_size,
        progress=progress,
    )
    return model, _told(problem, before[0] if before else None)


def _test_accuracy(model: nn.Module, data: datasets.Dataset) -> float:
    return training.evaluate(model, data.test.inputs, data.test.targets).accuracy


def _told(problem: Problem, before: float | None) -> Record:
    return {"before_finetune": before, "dense_weights": problem.total}


def train_stack(
    configs: list[Config], data: datasets.Dataset
) -> list[tuple[nn.Sequential, Record]]:
    """`train` for all configs of one of the `groups` at once, on the data's device.

    The networks come back on the CPU.
    """
    method, first = methods.find(configs[0].method), configs[0]
    problems = [problem_of(config, data) for config in configs]
    alone, generators = [], []
    for config, problem in zip(configs, problems, strict=True):
        model = untrained(config, problem.sizes)
        before = method.phases(config.settings, problem)[0].before
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)  # as training.fit does
            if before is not None:
                before(model)
            generators.append(torch.Generator())
            generators[-1].set_state(torch.get_rng_state())
        alone.append(model)
    stacked = stacks.stack(alone).to(data.train.inputs.device)
    accuracies: list[float | None] = [None] * len(configs)

    def measure(stacked: nn.Module) -> None:
        accuracies[:] = [_test_accuracy(model, data) for model in stacks.unstack(stacked)]

    recipes.train(
        stacked,
        data.train.inputs,
        data.train.targets,
        method.stack.phases([config.settings for config in configs], problems, generators),
        seed=[config.seed for config in configs],
        generators=generators,
        before_last=measure,
        loss=stacks.cross_entropy,
        batch_size=first.batch_size,
    )
    networks = stacks.unstack(stacked.cpu())
    return [
        (model, _told(problem, accuracy))
        for model, problem, accuracy in zip(networks, problems, accuracies, strict=True)
    ]


def measured(
    config: Config,
    data: datasets.Dataset,
    model: nn.Sequential,
    told: Record,
    example_inputs: Tensor | None = None,
) -> Record:
    """The metrics of a network that `train` returned; `example_inputs` as of
    `sparsity_report`."""
    split = getattr(config, "split", "test")
    after = training.evaluate(model, data.test.inputs, data.test.targets)
    report = sparsity.sparsity_report(model, example_inputs)
    # a validation run must not touch the test set, so its figures go by another name
    accuracy, other = ("test", "validation") if split == "test" else ("validation", "test")
    return {
        "dense_weights": told["dense_weights"],
        "kept": int(report.kept.sum()),
        "kept_by_layer": report.kept.tolist(),
        "effective": int(report.effective.sum()),
        "biases": sum(len(layer.bias) for layer in layers(model).values()),
        f"{accuracy}_accuracy": after.accuracy,
        f"{accuracy}_accuracy_before_finetune": told["before_finetune"],
        f"{accuracy}_loss": after.loss,
        f"{other}_accuracy": None,
        "provenance": {"data": data.checksum},
    }


def run_stack(
    configs: list[Config], measure: Callable[..., Record] = measured
) -> list[Record]:
    """Train one of the `groups` as a stack, on the GPU if there is one, and measure each
    network."""
    data = load(configs[0].dataset, getattr(configs[0], "split", "test"))
    found = train_stack(configs, data.to("cuda") if torch.cuda.is_available() else data)
    return [measure(config, data, *each) for config, each in zip(configs, found, strict=True)]


# a larger network fills a core's cache by itself, and stacking more gains nothing
# (benchmarks/stacks.py)
SMALL = 50_000


def groups(configs: list[Config]) -> list[list[Config]]:
    """Which configs train as one stack, where that is faster: small networks, or any on a GPU.

    The networks of a stack differ in seed, density and the settings that their method's
    `Stack` names. No stack is so large that a core is left without work.
    """
    gpu = torch.cuda.is_available()
    together: dict[Any, list[Config]] = {}
    for config in configs:
        method, settings = methods.find(config.method), config.settings
        known = datasets.registry()[config.dataset]
        full = (known["features"], *config.hidden, known["classes"])
        sizes = method.sizes(full, config.density)
        small = gpu or models.weight_count(sizes) <= SMALL
        key: Any = config
        if method.stack is not None and small and method.stack.fits(settings):
            default = method.settings()
            free = {name: getattr(default, name) for name in method.stack.varies}
            same = replace(settings, **free)
            key = replace(config, seed=0, density=1.0, settings=same), sizes
        together.setdefault(key, []).append(config)
    size = min(64 if gpu else 16, max(1, -(-len(configs) // joblib.cpu_count())))
    return [
        group[start : start + size]
        for group in together.values()
        for start in range(0, len(group), size)
    ]
