"""Strong opponents: what other methods reach with as many weights and as much search as gates.

Every method, the gates too, trains as long, keeps the same number of weights, and is given the
same search on a validation split, by successive halving (Jamieson and Talwalkar 2016): TRIED
settings train for a fifth of the epochs (study "screen"). The first of them, which was chosen
by hand, and the best of the others train for all epochs (study "search"). The best of these
trains on the whole training set, over several seeds, and is measured on the test set (study
"opponents").
"""

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from pruning import comparison
from pruning.comparison import CHOSEN
from pruning.evidence import configs as flat
from pruning.evidence import records
from pruning.evidence.records import Record
from pruning.networks import structure

DATASETS = ("mnist", "fashion_mnist", "digits")
# settings that are screened, those of them that train for all epochs; seeds of the best one
TRIED, FINALISTS, SEEDS = 20, 3, 5
SCREEN = {"epochs": 12, "finetune_epochs": 4}  # a fifth of the comparison's
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
    "gates": {
        "tau": (CHOSEN["tau"], 10.0, 3.0),
        "init": (CHOSEN["init"], 0.9),
        "alpha": (CHOSEN["alpha"], 1000.0, 100.0),  # at 404 weights; more where fewer are kept
        "descent": (CHOSEN["descent"], 0.5),
        "lr": (1e-2, 3e-3),
        "gate_lr": (0.1, 0.03),
        "penalty": ("absolute",),
    },
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


# where the strong ones stand: they are searched before the others, at every number of weights
STRONG = ("gates", "gradual", "rigl", "rewind", "l0", "variational", "deepr", "set", "synflow")


STUDIES = ("opponents", "screen", "search")


@dataclass(frozen=True)
class Config(comparison.Config):
    """One network."""

    split: str = (
        "test"  # or "validation": a part of the training set stands in for the test set
    )
    study: str = "opponents"  # one of STUDIES

    def __post_init__(self):
        super().__post_init__()
        flat.choose(self, dataset=DATASETS, split=comparison.SPLITS, study=STUDIES)


@contextlib.contextmanager
def _products(precision: str) -> Iterator[None]:
    """How torch multiplies matrices of float32 for a time: "highest" in float32, "medium" in
    bfloat16 where the processor can."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def run(config: Config) -> Record:
    """Train, prune, measure; a small network of the study "opponents" is recorded whole."""
    data = comparison.load(config.dataset, config.split)
    # settings are told apart as well in bfloat16, in two thirds of the time
    precision = "highest" if config.study == "opponents" else "medium"
    with _products(precision):
        model, told = comparison.train(config, data)
    found = comparison.measured(config, data, model, told) | {"matmul_precision": precision}
    if config.study == "opponents" and found["kept"] <= WHOLE:
        layers = [layer for layer in model if isinstance(layer, nn.Linear)]
        found["widths"] = [layers[0].in_features, *(layer.out_features for layer in layers)]
        found["connections"] = structure.connections(model)
        found["bias_values"] = [layer.bias.tolist() for layer in layers]
    return found


def tried(method: str, weights: int) -> list[dict[str, Any]]:
    """The settings of a method that the search tries at a number of weights: the first values
    of its space, and combinations drawn without repetition, TRIED in all."""
    space = SPACES[method]
    grid = [
        dict(zip(space, values, strict=True)) for values in itertools.product(*space.values())
    ]
    others = np.random.default_rng(0).permutation(len(grid) - 1)[: TRIED - 1] + 1
    chosen = [grid[0], *(grid[k] for k in others)]
    for settings in chosen:
        if settings.get("allocation") == BY_GATES:
            settings["allocation"] = SHARES[weights]
        if method == "gates":
            # Eq. 3's pull on a gate is α/N at every density
            settings["alpha"] *= comparison.PAPER_WEIGHTS / weights
            settings["at_most"] = weights
    return chosen


def _at(method: str, weights: int, settings: dict[str, Any], **more: Any) -> Config:
    density = weights / comparison.LENET_WEIGHTS
    return flat.make(Config, method=method, density=density, **settings, **more)


def screens(weights: int, method: str) -> list[Config]:
    """The first round of the search for one method at one number of weights, short runs."""
    return [
        _at(method, weights, settings, split="validation", study="screen", **SCREEN)
        for settings in tried(method, weights)
    ]


def searches(weights: int, method: str) -> list[Config]:
    """`screens`, trained for all epochs: its second round is made of FINALISTS of them."""
    return [
        _at(method, weights, settings, split="validation", study="search")
        for settings in tried(method, weights)
    ]


def _accuracies(configs: list[Config], evidence: list[Record]) -> np.ndarray:
    """The validation accuracy on record of each config, −1 where there is none."""
    study, method = configs[0].study, configs[0].method
    done = {
        flat.of_record(r, Config): r["validation_accuracy"]
        for r in evidence
        if r["study"] == study and r["method"] == method
    }
    return np.array([done.get(config, -1.0) for config in configs])


def finalists(weights: int, method: str, evidence: list[Record]) -> list[int]:
    """Which settings of `tried` go into the second round: the first, chosen by hand, and the
    best of the others in the first round, as far as it is on record."""
    accuracy = _accuracies(screens(weights, method), evidence)
    best = np.argsort(-accuracy[1:], kind="stable")[: FINALISTS - 1] + 1
    return [0, *(int(k) for k in best if accuracy[k] >= 0)]


def chosen(weights: int, method: str, evidence: list[Record]) -> dict[str, Any]:
    """The settings with the best validation accuracy on record after all epochs; the first of
    its space where none is."""
    accuracy = _accuracies(searches(weights, method), evidence)
    return tried(method, weights)[int(accuracy.argmax())]


def best(weights: int, seed: int, evidence: list[Record]) -> list[Config]:
    """Every method at a number of weights, with the best settings on record."""
    return [
        _at(method, weights, chosen(weights, method, evidence), seed=seed) for method in SPACES
    ]


def configs(profile: str, seeds: int | None = None) -> list[Config]:
    """The runs of a profile, those that matter most first.

    "quick": digits at 100 weights, one setting, one seed. "screen": TRIED settings a method at
    each number of weights, trained shortly, on the validation split. "search": the FINALISTS
    of these on record, trained for all epochs. "paper": the best of these on record, over five
    seeds, on the test set.
    """
    if profile == "quick":
        digits = {"dataset": "digits", "hidden": (32, 16), "batch_size": 64, "epochs": 30}
        total = 64 * 32 + 32 * 16 + 16 * 10
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
            for method in SPACES
        ]
    known = records.read_again(records.records_folder() / "opponents.jsonl")
    others = tuple(method for method in SPACES if method not in STRONG)
    found: list[Config] = []
    for group, weights in itertools.product((STRONG, others), SHARES):
        if profile == "screen":
            found += [config for method in group for config in screens(weights, method)]
        elif profile == "search":
            for method in group:
                full = searches(weights, method)
                found += [full[k] for k in finalists(weights, method, known)]
        elif profile == "paper":
            settled = [c for c in best(weights, 0, known) if c.method in group]
            found += [replace(c, seed=k) for k in range(seeds or SEEDS) for c in settled]
        else:
            names = ["paper", "quick", "screen", "search"]
            raise ValueError(f"profile: got {profile!r}, needs one of {names}")
    return found
