"""Accuracy against density (Fig 2 of arXiv:2311.12526) of gates and their competitors.

`pruning.comparison` says how one network is trained and measured; this module says which
networks are.
"""

import itertools
from dataclasses import dataclass

from pruning import comparison
from pruning.chapters.compression_curves import references
from pruning.chapters.compression_curves.references import Reference
from pruning.comparison import FEW, FEWEST
from pruning.data import datasets
from pruning.evidence.configs import changed, choose, make
from pruning.evidence.records import Record, Together
from pruning.methods import gates_training
from pruning.networks import models

DATASETS = ("mnist", "fashion_mnist", "income", "digits", "breast_cancer")


STUDIES = ("curves", "frontier", "forms", "search")  # "forms" of the density loss


@dataclass(frozen=True)
class Config(comparison.Config):
    """One network of the comparison."""

    split: str = (
        "test"  # or "validation": a part of the training set stands in for the test set
    )
    study: str = "curves"  # one of STUDIES

    def __post_init__(self):
        super().__post_init__()
        choose(self, dataset=DATASETS, split=comparison.SPLITS, study=STUDIES)


CONFIGS = (Config, Reference)


def run(config: Config | Reference) -> Record:
    """Train, prune, measure: the metrics of one record."""
    if isinstance(config, Reference):
        return references.run(config)
    data = comparison.load(config.dataset, config.split)
    return comparison.measured(config, data, *comparison.train(config, data))


def groups(configs: list[Config | Reference]) -> list[list[Config | Reference]]:
    """`comparison.groups` of the networks; a model of scikit-learn is fitted alone."""
    networks = [config for config in configs if not isinstance(config, Reference)]
    alone = [[config] for config in configs if isinstance(config, Reference)]
    return comparison.groups(networks) + alone if networks else alone


TOGETHER = Together(groups, comparison.run_stack)


MNIST_DENSITIES = (0.5, 0.2, 0.1, 0.05, 0.018, 0.01, 0.004, FEW, 0.001)
INCOME_DENSITIES = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)
INCOME = Config(dataset="income", hidden=(100, 50))


FIXED = ("gates", "random", "dense")  # what Fig 2a compares
GATES_SEEDS, OTHER_SEEDS = 10, 5
MOVING = (
    "set",
    "deepr",
    "magnitude",
    "wanda",
    "snip",
)  # Fig 2b's rewiring methods, and one-shot scores


def _grid(base: Config, densities, seeds, methods=FIXED) -> list[Config]:
    """Every method at every density; the dense network where one is that small, and at full
    size."""
    known = datasets.registry()[base.dataset]
    sizes = (known["features"], *base.hidden, known["classes"])
    total = models.weight_count(sizes)
    grid = []
    for seed, method in itertools.product(seeds, methods):
        for density in densities if method != "dense" else (1.0, *densities):
            if method != "dense" or models.narrow_sizes(sizes, round(density * total)):
                grid.append(changed(base, method=method, density=density, seed=seed))
    return grid


def density_forms(seeds) -> list[Config]:
    """Eq. 3 as printed and on a log scale, each with a falling and a constant target, at 0.144
    % of MNIST's weights (the log form with a falling target is the curves' own).

    The pull of the absolute form on a gate is α/N at every density, that of the log form
    α/(N·D): the absolute form's α comes from the search too; a smaller one misses the target.
    """
    forms = (("log", "constant"), ("absolute", "falling"), ("absolute", "constant"))
    alpha = {
        "log": gates_training.Settings().alpha,
        "absolute": gates_training.AS_PRINTED.alpha,
    }
    return [
        make(
            Config,
            density=FEW,
            study="forms",
            penalty=penalty,
            target=target,
            alpha=alpha[penalty],
            seed=seed,
        )
        for seed, (penalty, target) in itertools.product(seeds, forms)
    ]


def frontier(seeds) -> list[Config]:
    """At most 404 weights once more, by Eq. 3's own form of the density loss, over many seeds.

    Longer trainings are on record too (study "frontier" with more epochs); they gain less than
    the spread between seeds.
    """
    printed = Config(density=FEWEST, settings=gates_training.AS_PRINTED, study="frontier")
    return [changed(printed, seed=seed) for seed in seeds]


def search() -> list[Config]:
    """One hyper-parameter moved at a time around the choice, at 0.144 % of MNIST's weights and
    1 % of Income's, seed 0, on validation splits."""
    mnist = Config(density=FEW, study="search", split="validation")
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
    # the competitors' learning rate and what else they have, at 1 or 2 % and the dense network
    # in full
    others = [
        {"method": method, "density": density, "finetune_lr": rate}
        for method, density in (("random", 0.02), ("dense", 1.0), ("dense", 0.01))
        for rate in (1e-3, 3e-3, 1e-2)
    ]
    others += [
        {"method": method, "finetune_lr": rate, "density": 0.01} | more
        for rate in (1e-3, 3e-3, 1e-2)
        for method, more in (
            ("set", {"fraction": 0.3}),
            ("set", {"fraction": 0.1}),
            ("deepr", {"l1": 1e-4}),
            ("deepr", {"l1": 1e-3}),
            ("deepr", {"l1": 1e-2}),
            ("deepr", {"l1": 1e-1}),
        )
    ]
    # one step beyond where the best of the two lay at the edge
    others += [
        {"method": method, "finetune_lr": rate, "density": 0.01} | more
        for method, rate, more in (
            ("set", 3e-2, {"fraction": 0.1}),
            ("set", 1e-2, {"fraction": 0.03}),
            ("deepr", 3e-2, {"l1": 1e-2}),
            ("deepr", 3e-2, {"l1": 1e-1}),
            ("deepr", 1e-1, {"l1": 1e-1}),
            ("deepr", 3e-2, {"l1": 3e-1}),
            ("deepr", 3e-2, {"l1": 1.0}),
            ("deepr", 1e-1, {"l1": 1.0}),
        )
    ]
    income = changed(INCOME, density=0.01, study="search", split="validation")
    income_moves = [{"lr": r} for r in (3e-3, 3e-2)] + [
        {"finetune_lr": r} for r in (1e-3, 1e-2)
    ]
    return [changed(mnist, **move) for move in ({}, *moves, *others)] + [
        changed(income, **move) for move in ({}, *income_moves)
    ]


def configs(profile: str, seeds: int | None = None) -> list[Config]:
    """The runs of a profile, those that matter most first.

    "quick": digits and breast_cancer, two seeds. "paper": MNIST and Income, ten seeds of the
    gates and five of all others (16 at the frontier, three of the forms of the density loss).
    "search": the hyper-parameters, on validation splits.
    """
    if profile == "quick":
        n = range(seeds or 2)
        digits = Config(dataset="digits", hidden=(32, 16), batch_size=64)
        tumours = changed(digits, dataset="breast_cancer", hidden=(16, 8))
        runs = _grid(digits, (0.5, 0.2, 0.1, 0.05, 0.03), n) + _grid(
            tumours, (0.2, 0.05, 0.02), n
        )
        return runs + _grid(digits, (0.2, 0.05), n, ("set", "deepr", "magnitude"))
    if profile == "paper":
        runs = frontier(range(seeds or 16))
        runs += density_forms(range(seeds or 3))
        for seed in range(
            seeds or GATES_SEEDS
        ):  # a whole set of curves first, then its spread
            others = seed < (seeds or OTHER_SEEDS)
            fixed = FIXED if others else ("gates",)
            runs += _grid(Config(), MNIST_DENSITIES, [seed], fixed)
            runs += _grid(INCOME, INCOME_DENSITIES, [seed], fixed)
            runs += _grid(Config(), MNIST_DENSITIES, [seed], MOVING if others else ())
            runs += _grid(
                INCOME, INCOME_DENSITIES[:6], [seed], ("random_paths",) if others else ()
            )
        return runs + references.configs(range(seeds or OTHER_SEEDS))
    if profile == "search":
        return search()
    raise ValueError(f"profile: got {profile!r}, needs one of ['paper', 'quick', 'search']")
