r"""Gradual magnitude pruning: the smallest weights go step by step while the network trains.

Zhu, Gupta: "To prune, or not to prune: exploring the efficacy of pruning for model
compression", 2017, arXiv:1710.01878.

    Eq. 1   s_t = s_f + (s_i − s_f)·(1 − (t − t₀) / (n·Δt))³,   t ∈ {t₀, t₀ + Δt, …, t₀ + n·Δt}

    symbol  name        meaning
    s       sparsity    fraction removed: s_i at the start, s_f at the end
    t₀      begin       when pruning begins, as a fraction of the training
    t₀+nΔt  end         when it ends
    n       updates     how many times weights are removed

Differs from the paper: the schedule counts weights, so that the end is an exact number; layers
may compete or have shares of their own (`shares`; the paper gives every layer the same
sparsity); what is removed stays removed; the score may be another than |W|.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from pruning.bounds import Fraction, Positive, Rate
from pruning.methods import scores, shares
from pruning.networks import masks
from pruning.networks.layers import layers
from pruning.training import Callback
from pruning.training.recipes import (
    Adam,
    HoldThenCosine,
    Method,
    Phase,
    Problem,
    finetune,
    setting,
)

SCORES = ("magnitude", "deviation")
SAMPLES = 2000  # of the training set, for the deviation of a layer's inputs


def cubic(
    progress: float, begin: float, end: float, initial: float = 0.0, final: float = 1.0
) -> float:
    """s_t of Eq. 1: `initial` up to `begin`, `final` from `end` on."""
    passed = min(1.0, max(0.0, (progress - begin) / (end - begin)))
    return final + (initial - final) * (1 - passed) ** 3  # Eq. 1


class GradualPruning:
    """Removes weights on the cubic schedule; call `step` in a training loop of your own.

    Parameters
    ----------
    model : its Linear and Conv2d layers are masked, in place; build the optimizer afterwards.
    weights : how many are kept in the end, exactly.
    begin, end : fractions of the training, 0 ≤ begin < end ≤ 1.
    updates : n, how many times weights are removed.
    allocation : how layers share the weights, see `pruning.methods.shares`.
    score : model ↦ {layer name: tensor shaped as the weight}, larger = keep; by default |W|.

    Raises ValueError for values out of range.

    Examples
    --------
    >>> pruner = GradualPruning(model, weights=404)
    >>> for step, (x, y) in enumerate(batches):
    ...     loss(model(x), y).backward()
    ...     optimizer.step()
    ...     optimizer.zero_grad()
    ...     pruner.step((step + 1) / len(batches))
    """

    def __init__(
        self,
        model: nn.Module,
        weights: int,
        begin: float = 0.0,
        end: float = 0.5,
        updates: int = 100,
        allocation: shares.Shares = "global",
        score: Callable[[nn.Module], dict[str, Tensor]] = scores.magnitude,
    ):
        if not 0 <= begin < end <= 1:
            raise ValueError(f"begin, end: got {begin}, {end}, needs 0 ≤ begin < end ≤ 1")
        if updates < 1:
            raise ValueError(f"updates: got {updates!r}, needs 1 or more")
        self.model, self.begin, self.end, self.updates, self.score = (
            model,
            begin,
            end,
            updates,
            score,
        )
        self.sizes = {name: layer.weight.shape for name, layer in layers(model).items()}
        self.final = shares.by_layer(self.sizes, weights, allocation)
        self.done = 0
        for layer in layers(model).values():
            masks.set_mask(layer, masks.mask_of(layer))

    def kept(self, progress: float) -> dict[str, int] | int:
        """How many weights stay at this point: of each layer, or of all together."""
        if isinstance(self.final, int):
            return self._kept(
                progress, sum(size.numel() for size in self.sizes.values()), self.final
            )
        return {
            name: self._kept(progress, self.sizes[name].numel(), final)
            for name, final in self.final.items()
        }

    def _kept(self, progress: float, full: int, final: int) -> int:
        return full - round(cubic(progress, self.begin, self.end, 0, full - final))

    def step(self, progress: float) -> None:
        """Remove what the schedule asks for. `progress` is the fraction of the training that
        has passed."""
        passed = min(1.0, max(0.0, (progress - self.begin) / (self.end - self.begin)))
        due = int(self.updates * passed + 1e-9)  # 3 · (0.1 + 0.2) / 0.9 is 1
        if due > self.done:
            self.done = due
            self._prune(self.begin + (self.end - self.begin) * due / self.updates)

    def _prune(self, progress: float) -> None:
        shares.keep_largest(self.model, self.score(self.model), self.kept(progress))

    def finish(self) -> None:
        """Remove what is left to remove, where the training ended before `end`."""
        if self.done < self.updates:
            self.done = self.updates
            self._prune(self.end)


class Gradual(Callback):
    """`GradualPruning` as a part of `training.fit`; the settings are its own, after the
    model."""

    def __init__(self, weights: int, **settings):
        self.weights, self.settings = weights, settings

    def start(self, model: nn.Module) -> None:
        """Mask the layers."""
        self.pruning = GradualPruning(model, self.weights, **self.settings)

    def after_step(self, model: nn.Module, progress: float) -> None:
        """Remove what is due."""
        self.pruning.step(progress)

    def finish(self, model: nn.Module) -> None:
        """Reach the budget."""
        self.pruning.finish()

    def state(self) -> dict[str, Tensor]:
        """How often weights were removed; the masks are the model's."""
        return {"done": torch.tensor(self.pruning.done)}

    def load(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` returned."""
        self.pruning.done = int(state["done"])


@dataclass(frozen=True)
class Settings:
    """Of gradual pruning beside other methods."""

    lr: Rate = setting(3e-3, "learning rate while weights are removed")
    finetune_lr: Rate = setting(3e-3, "learning rate once the mask is fixed")
    descent: Fraction = setting(
        0.5, "fraction of the epochs after which the learning rate falls"
    )
    begin: Fraction = setting(0.0, "fraction of the epochs after which pruning begins")
    end: Fraction = setting(0.75, "fraction of the epochs after which it ends")
    updates: Positive = setting(200, "how many times weights are removed")
    score: str = setting("magnitude", "'magnitude': |W|, or 'deviation': |W| · σ of its input")
    allocation: tuple[Fraction, ...] = setting(
        (), "share of the kept weights of each layer; (): layers compete"
    )

    def __post_init__(self):
        if self.score not in SCORES:
            raise ValueError(f"score: got {self.score!r}, needs one of {SCORES}")


def phases(settings: Settings, problem: Problem) -> list[Phase]:
    """Weights go while the network trains, then those that are left are trained alone."""
    score = scores.magnitude
    if settings.score == "deviation":
        score = partial(scores.stade, inputs=problem.inputs[:SAMPLES])  # (|W| · σ)²
    gradual = Gradual(
        problem.weights,
        begin=settings.begin,
        end=settings.end,
        updates=settings.updates,
        allocation=settings.allocation or "global",
        score=score,
    )
    schedule = HoldThenCosine(settings.descent)
    return [
        Phase(problem.epochs, Adam(settings.lr), schedule, (gradual,)),
        finetune(problem.finetune_epochs, settings.finetune_lr),
    ]


METHOD = Method(
    "gradual",
    Settings,
    phases,
    label="gradual pruning, step by step",
    short="gradual",
    colour="#2b8cc4",
    marker="s",
)
