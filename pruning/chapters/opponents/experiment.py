"""Strong opponents: what other methods reach with as many weights and as much search as gates.

Every method trains as long, keeps exactly the same number of weights, and is given the same
number of settings to try on a validation split (study "search"). The best of them then trains
on the whole training set, over several seeds, and is measured on the test set (study
"opponents").
"""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from pruning import comparison
from pruning.evidence import configs as flat
from pruning.evidence import records
from pruning.evidence.records import Record
from pruning.networks import structure

DATASETS = ("mnist", "fashion_mnist", "digits")
TRIED, SEEDS = 20, 5  # settings on the validation split; seeds of the best on the test set
WHOLE = 1500  # networks with no more weights are recorded whole
# weights of LeNet-300-100 → the shares of the layers in the networks that gates find
# (compression curves)
SHARES = {404: (0.67, 0.19, 0.14), 1065: (0.69, 0.21, 0.10), 2662: (0.70, 0.235, 0.065)}
RATES = (1e-2, 3e-3, 3e-2, 1e-3)
BY_GATES = "as gates"  # stands for the shares of this number of weights
ONE_SHOT = {
    "finetune_lr": (3e-3, 1e-2, 3e-2, 1e-3),
    "descent": (0.5, 0.25, 0.75),
    "allocation": (BY_GATES, ()),
}
# method → setting → the values of which TRIED combinations are drawn; the first ones are a
# guess
SPACES: dict[str, dict[str, tuple[Any, ...]]] = {
    "gradual": {
        "lr": (3e-3, 1e-2, 1e-3),
        "finetune_lr": (3e-3, 1e-2),
        "end": (0.75, 1.0, 0.5),
        "score": ("deviation", "magnitude"),
        "allocation": (BY_GATES, ()),
    },
    "l0": {
        "gate_lr": (0.1, 0.03, 0.3),
        "factor": (3.0, 10.0, 1.0),
        "init": (0.5, 0.9),
        "descent": (0.5, 0.25),
        "penalty": ("target", "sum"),
        "allocation": ((), BY_GATES),
    },
    "variational": {
        "lr": (3e-3, 1e-2, 1e-3),
        "noise_lr": (3e-2, 1e-1, 1e-2),
        "scale": (3.0, 10.0, 1.0, 0.3),
        "warm": (0.5, 0.25),
        "sampling": ("local", "weight"),
        "allocation": ((), BY_GATES),
    },
    "rigl": {
        "finetune_lr": RATES,
        "fraction": (0.3, 0.1, 0.5),
        "every": (100, 30),
        "until": (0.75, 0.5),
        "allocation": (BY_GATES, ()),
    },
    "rewind": {
        "lr": (3e-3, 1e-2, 1e-3),
        "finetune_lr": (1e-2, 3e-3),
        "rounds": (12, 6, 20),
        "early": (0.02, 0.0, 0.1),
        "allocation": (BY_GATES, ()),
    },
    "synflow": {
        "finetune_lr": RATES,
        "descent": (0.5, 0.25, 0.75),
        "rounds": (100, 30),
        "allocation": ((), BY_GATES),
    },
    "deepr": {
        "finetune_lr": (3e-2, 1e-2, 1e-1),
        "l1": (1e-1, 1e-2, 3e-1),
        "descent": (0.5, 0.75),
        "allocation": (BY_GATES, ()),
    },
    "set": {
        "finetune_lr": RATES,
        "fraction": (0.1, 0.03, 0.3),
        "allocation": (BY_GATES, ()),
    },
    "magnitude": ONE_SHOT,
    "wanda": ONE_SHOT,
    "snip": ONE_SHOT,
    "random": ONE_SHOT,
}


@dataclass(frozen=True)
class Config(comparison.Config):
    """One network."""

    split: str = (
        "test"  # or "validation": a part of the training set stands in for the test set
    )
    study: str = "opponents"  # or "search"


def run(config: Config) -> Record:
    """Train, prune, measure; a small network of the study "opponents" is recorded whole."""
    data = comparison.load(config.dataset, config.split)
    model, told = comparison.train(config, data)
    found = comparison.measured(config, data, model, told)
    if config.study == "opponents" and found["kept"] <= WHOLE:
        layers = [layer for layer in model if isinstance(layer, nn.Linear)]
        found["widths"] = [layers[0].in_features, *(layer.out_features for layer in layers)]
        found["connections"] = structure.connections(model)
        found["bias_values"] = [layer.bias.tolist() for layer in layers]
    return found


def tried(method: str, weights: int) -> list[dict[str, Any]]:
    """The settings of a method that the search tries at a number of weights: the first values
    of its space,
    and combinations drawn without repetition, TRIED in all."""
    space = SPACES[method]
    grid = [
        dict(zip(space, values, strict=True)) for values in itertools.product(*space.values())
    ]
    others = np.random.default_rng(0).permutation(len(grid) - 1)[: TRIED - 1] + 1
    chosen = [grid[0], *(grid[k] for k in others)]
    for settings in chosen:
        if settings["allocation"] == BY_GATES:
            settings["allocation"] = SHARES[weights]
    return chosen


def _at(method: str, weights: int, settings: dict[str, Any], **more: Any) -> Config:
    density = weights / comparison.LENET_WEIGHTS
    return flat.make(Config, method=method, density=density, **settings, **more)


def searches(weights: int, method: str) -> list[Config]:
    """The runs of the search for one method at one number of weights."""
    return [
        _at(method, weights, settings, split="validation", study="search")
        for settings in tried(method, weights)
    ]


def chosen(weights: int, method: str, evidence: list[Record]) -> dict[str, Any]:
    """The settings with the best validation accuracy on record; the first of its space where
    none is."""
    options = searches(weights, method)
    best, accuracy = tried(method, weights)[0], -1.0
    done = {
        flat.of_record(r, Config): r["validation_accuracy"]
        for r in evidence
        if r["study"] == "search"
    }
    for config, settings in zip(options, tried(method, weights), strict=True):
        if done.get(config, -1.0) > accuracy:
            best, accuracy = settings, done[config]
    return best


def best(weights: int, seed: int, evidence: list[Record]) -> list[Config]:
    """Every method at a number of weights, with the best settings on record."""
    return [
        _at(method, weights, chosen(weights, method, evidence), seed=seed) for method in SPACES
    ]


def configs(profile: str, seeds: int | None = None) -> list[Config]:
    """The runs of a profile, those that matter most first.

    "quick": digits at 100 weights, one setting, one seed. "search": TRIED settings a method at
    each number of weights, on the validation split. "paper": the best setting on record of
    every method, over five seeds.
    """
    if profile == "quick":
        digits = {"dataset": "digits", "hidden": (32, 16), "batch_size": 64, "epochs": 30}
        total = 64 * 32 + 32 * 16 + 16 * 10
        methods = ("gates", *SPACES)
        shares = {"allocation": (0.4, 0.25, 0.35)}
        return [
            flat.make(
                Config,
                method=method,
                density=100 / total,
                seed=seed,
                **digits,
                **({"at_most": 100} if method == "gates" else shares),
            )
            for seed in range(seeds or 1)
            for method in methods
        ]
    if profile == "search":
        # one setting of every method before the next one
        return [
            searches(weights, method)[k]
            for weights in SHARES
            for k in range(TRIED)
            for method in SPACES
        ]
    if profile == "paper":
        known = records.read(records.records_folder() / "opponents.jsonl")
        return [
            config
            for weights in SHARES
            for seed in range(seeds or SEEDS)
            for config in best(weights, seed, known)
        ]
    raise ValueError(f"profile: got {profile!r}, needs one of ['paper', 'quick', 'search']")
