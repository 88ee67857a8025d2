"""One-shot pruning: a score is computed once, and the weights with the smallest scores go.

A `Score` says what is computed and how it is drawn. Any score can prune a trained network
(`after_training`); SNIP prunes the untrained one. The scores' own text and equations are in
`pruning.methods.scores` and `pruning.methods.relative`.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pruning.bounds import Fraction, Rate
from pruning.methods import scores, shares
from pruning.training.recipes import (
    Adam,
    HoldThenCosine,
    Method,
    Phase,
    Problem,
    check_settings,
    finetune,
    setting,
)


@dataclass(frozen=True)
class NoSettings:
    """A score without a choice."""


@dataclass(frozen=True)
class Score:
    """A one-shot score, found by its name.

    function : (model, …) ↦ {layer name: tensor shaped as the weight}, larger = keep.
    needs : what it takes beside the model, by name: "inputs", "targets" (of the training set),
        "generator", "settings".
    label, short, colour, marker : as of `Method`.
    settings : a frozen dataclass.
    corrects : whether the mean input of a removed weight moves into the bias (STADE).
    """

    name: str
    function: Callable[..., scores.Scores]
    needs: tuple[str, ...]
    label: str
    short: str
    colour: str
    marker: str
    settings: type = NoSettings
    corrects: bool = False

    def __post_init__(self):
        check_settings(self.settings)

    def of(self, model: nn.Module, **available: Any) -> scores.Scores:
        """The scores of a model, from what the function needs of what is `available`."""
        return self.function(model, **{name: available[name] for name in self.needs})


def magnitude_live(model: nn.Module, inputs: Tensor) -> scores.Scores:
    """Magnitude, where the weights of inputs that are constant in the training set score 0."""
    found = scores.magnitude(model)
    first = next(iter(found))
    return found | {first: found[first] * (inputs.amax(0) > inputs.amin(0))}


MAGNITUDE = Score(
    "magnitude",
    scores.magnitude,
    needs=(),
    label="magnitude, one shot, fine-tuned",
    short="magnitude",
    colour="#d6336c",
    marker="X",
)
MAGNITUDE_LIVE = Score(
    "magnitude live",
    magnitude_live,
    needs=("inputs",),
    label="magnitude, dead pixels known",
    short="magnitude, dead pixels known",
    colour="#cc6677",
    marker="x",
)
WANDA = Score(
    "wanda",
    scores.wanda,
    needs=("inputs",),
    label="Wanda, one shot, fine-tuned",
    short="Wanda",
    colour="#8c8c8c",
    marker="<",
)
NNRELIEF = Score(
    "nnrelief",
    scores.nnrelief,
    needs=("inputs",),
    label="NNrelief",
    short="NNrelief",
    colour="#2e8b7d",
    marker="d",
)
STADE = Score(
    "stade",
    scores.stade,
    needs=("inputs",),
    label="STADE",
    short="STADE",
    colour="#882255",
    marker="p",
)
STADE_CORRECTED = Score(
    "stade corrected",
    scores.stade,
    needs=("inputs",),
    label="STADE, bias corrected",
    short="STADE, bias corrected",
    colour="#aa4499",
    marker="h",
    corrects=True,
)
RIA = Score(
    "ria",
    scores.ria,
    needs=("inputs",),
    label="RIA",
    short="RIA",
    colour="#94942f",
    marker="*",
)
SNIP = Score(
    "snip",
    scores.snip,
    needs=("inputs", "targets"),
    label="SNIP, before training",
    short="SNIP",
    colour="#5f7f00",
    marker=">",
)
RANDOM = Score(
    "random",
    scores.random_scores,
    needs=("generator",),
    label="random deletion, fixed structure",
    short="random deletion",
    colour="#b87400",
    marker="^",
)


@dataclass(frozen=True)
class Settings:
    """Chosen on validation splits, as those of the dense network."""

    finetune_lr: Rate = setting(3e-3, "learning rate")
    descent: Fraction = setting(
        0.5, "fraction of the epochs after which the learning rate falls"
    )
    allocation: tuple[Fraction, ...] = setting(
        (), "share of the kept weights of each layer; (): where the score competes by itself"
    )


def prune(
    model: nn.Module,
    problem: Problem,
    score: Score,
    scope: str,
    allocation: tuple[float, ...] = (),
) -> None:
    """Score a network on the training set and mask it, by layers where they have shares."""
    found = score.of(
        model,
        inputs=problem.inputs,
        targets=problem.targets,
        generator=torch.Generator().manual_seed(problem.seed),
        settings=score.settings(),
    )
    if allocation:
        kept = shares.by_layer(shares.sizes(model), problem.weights, allocation)
        shares.keep_largest(model, found, kept)
        return
    with (
        warnings.catch_warnings()
    ):  # an emptied layer shows in the record: nothing is effective
        warnings.filterwarnings("ignore", "model: no weight is left")
        scores.prune_by_score(model, found, 1 - problem.density, scope)


def _look(score: Score) -> dict[str, str]:
    return {key: getattr(score, key) for key in ("label", "short", "colour", "marker")}


def after_training(score: Score, scope: str) -> Method:
    """A dense training, the score's mask, and fine-tuning."""

    def phases(settings: Settings, problem: Problem) -> list[Phase]:
        mask = partial(
            prune, problem=problem, score=score, scope=scope, allocation=settings.allocation
        )
        optimizer, schedule = Adam(settings.finetune_lr), HoldThenCosine(settings.descent)
        return [
            Phase(problem.epochs, optimizer, schedule, after=mask),
            finetune(problem.finetune_epochs, settings.finetune_lr),
        ]

    return Method(score.name, Settings, phases, **_look(score))


def before_training(settings: Settings, problem: Problem) -> list[Phase]:
    """SNIP's mask of the whole network, then one training of what is left."""
    mask = partial(
        prune, problem=problem, score=SNIP, scope="global", allocation=settings.allocation
    )
    optimizer, schedule = Adam(settings.finetune_lr), HoldThenCosine(settings.descent)
    return [Phase(problem.all_epochs, optimizer, schedule, before=mask)]


MAGNITUDE_METHOD = after_training(MAGNITUDE, "global")
WANDA_METHOD = after_training(WANDA, "neuron")
SNIP_METHOD = Method("snip", Settings, before_training, **_look(SNIP))
