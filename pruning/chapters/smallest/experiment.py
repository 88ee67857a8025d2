"""How small can it get? What limits the gates where few weights are left, and the frontier
down to 100.

Networks are trained as in `compression_curves`. One setting at a time is moved (study
"ablation", on a validation split); what wins there is then run once more on the test set, over
many seeds (study "frontier").
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from pruning import comparison, training
from pruning.comparison import CHOSEN, FEWEST, LENET_WEIGHTS, PAPER_WEIGHTS
from pruning.data import datasets
from pruning.evidence.configs import changed, choose
from pruning.evidence.records import Record, Together
from pruning.methods import gates_training
from pruning.networks import models, structure
from pruning.networks.masks import set_mask

DATASETS = ("mnist", "fashion_mnist", "income", "digits", "breast_cancer")


STUDIES = ("curves", "ablation", "frontier")


@dataclass(frozen=True)
class Config(comparison.Config):
    """One network."""

    split: str = (
        "test"  # or "validation": a part of the training set stands in for the test set
    )
    study: str = "curves"  # one of STUDIES

    def __post_init__(self):
        super().__post_init__()
        choose(self, dataset=DATASETS, split=comparison.SPLITS, study=STUDIES)


BUDGET = {"density": PAPER_WEIGHTS / LENET_WEIGHTS, "at_most": PAPER_WEIGHTS}
BASE = Config(density=FEWEST, settings=gates_training.AS_PRINTED)
# what is moved, and how; the gates alone keep 67, 19 and 14 % of their weights in the three
# layers
MOVES: dict[str, tuple[dict, ...]] = {
    "none": ({},),
    "τ": tuple({"tau": tau} for tau in (0.01, 0.1, 1.0, 3.0, 10.0)),
    "α": tuple({"alpha": alpha} for alpha in (100.0, 300.0, 3000.0, 10_000.0)),
    "start": tuple({"init": init} for init in (0.5, 0.99)),
    "weight rate": tuple({"lr": lr} for lr in (3e-3, 3e-2)),
    "gate rate": tuple({"gate_lr": lr} for lr in (0.03, 0.3)),
    "fine-tune rate": tuple({"finetune_lr": lr} for lr in (1e-3, 1e-2)),
    "falling part": tuple({"descent": part} for part in (0.25, 0.75)),
    "layers": tuple(
        {"allocation": shares}
        for shares in ((0.75, 0.15, 0.10), (0.60, 0.23, 0.17), (0.50, 0.30, 0.20))
    ),
    "batch": ({"batch_size": 1024}, {"batch_size": 64}),
    "longer": ({"epochs": 120, "finetune_epochs": 40},),
    # no gate more than the density asks for: of those still open the largest
    "budget": (BUDGET,),
    # what gained by itself, together
    "several": (
        {"tau": 30.0},
        {"tau": 10.0, "init": 0.5},
        {"tau": 10.0, "init": 0.5, "descent": 0.25},
        {"tau": 10.0, "init": 0.5, "descent": 0.25, "alpha": 300.0},
        CHOSEN,
        {"tau": 10.0, "init": 0.5, "descent": 0.25, "lr": 3e-3},
        CHOSEN | {"lr": 3e-3},
        CHOSEN | BUDGET,
    ),
}
DRAWN = 1500  # networks with no more weights are recorded whole, seed 0


def ablation(seeds: Sequence[int]) -> list[Config]:
    """Every move of MOVES, at about 400 weights, on the validation split."""
    base = changed(BASE, study="ablation", split="validation")
    moves = [move for family in MOVES.values() for move in family]
    return [changed(base, **move, seed=seed) for seed, move in itertools.product(seeds, moves)]


def run(config: Config) -> Record:
    """Train, prune, measure: the metrics of one record, with the whole network where it is
    small."""
    data = comparison.load(config.dataset, config.split)
    return _whole(config, data, *comparison.train(config, data))


def _whole(
    config: Config, data: datasets.Dataset, model: nn.Sequential, told: Record
) -> Record:
    found = comparison.measured(config, data, model, told)
    # so few weights do not overfit, and twelve times as many images tell settings apart better
    trained = training.evaluate(model, data.train.inputs, data.train.targets)
    found |= {"train_accuracy": trained.accuracy, "train_loss": trained.loss}
    if config.seed == 0 and found["kept"] <= DRAWN:
        found["widths"] = [data.train.inputs.shape[1], *config.hidden, len(data.class_names)]
        found["connections"] = structure.connections(model)
        found["bias_values"] = [
            layer.bias.tolist() for layer in model if isinstance(layer, nn.Linear)
        ]
    return found


run_stack = partial(
    comparison.run_stack, measure=_whole
)  # `run` for many that train as one stack
TOGETHER = Together(comparison.groups, run_stack)


@torch.no_grad()
def rebuilt(record: Record) -> nn.Sequential:
    """The pruned network of a record that has its connections, in evaluation mode, with its
    masks."""
    model = models.mlp(record["widths"], record["activation"]).eval()
    layers = [layer for layer in model if isinstance(layer, nn.Linear)]
    masks = [torch.zeros_like(layer.weight) for layer in layers]
    for level, i, o, weight in record["connections"]:
        layers[level].weight[o, i] = weight
        masks[level][o, i] = 1
    for layer, mask, bias in zip(layers, masks, record["bias_values"], strict=True):
        layer.bias.copy_(torch.tensor(bias))
        set_mask(layer, mask != 0)
    return model


BUDGETS = (PAPER_WEIGHTS, 300, 200, 150, 100)
SEEDS, LOWER_SEEDS = 10, 5


def budgeted(weights: int, seed: int = 0) -> Config:
    """MNIST with the chosen settings, where `weights` are asked for and no more are kept."""
    return comparison.budgeted(changed(BASE, seed=seed, study="frontier"), weights)


def configs(profile: str, seeds: int | None = None) -> list[Config]:
    """The runs of a profile. "quick": digits down to 100 weights, three seeds. "paper": MNIST,
    ten seeds at 404 weights, five below. "search": the ablation, three seeds, on the
    validation split."""
    if profile == "quick":
        digits = Config("digits", hidden=(32, 16), batch_size=64, study="frontier")
        found = itertools.product(range(seeds or 3), (0.2, 0.1, 0.06, 0.04))
        return [changed(digits, density=density, seed=seed) for seed, density in found]
    if profile == "paper":  # the paper's 404 weights first
        return [
            budgeted(weights, seed)
            for weights in BUDGETS
            for seed in range(seeds or (SEEDS if weights == PAPER_WEIGHTS else LOWER_SEEDS))
        ]
    if profile == "search":
        return ablation(range(seeds or 3))
    raise ValueError(f"profile: got {profile!r}, needs one of ['paper', 'quick', 'search']")
