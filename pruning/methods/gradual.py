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

from pruning.bounds import Fraction, Positive, Rate, check_whole
from pruning.methods import scores, shares
from pruning.networks import masks
from pruning.networks.notices import notice, say_emptied
from pruning.networks.prunable import check_untied, prunable
from pruning.training import Callback, ranks
from pruning.training.loop import check_progress
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
    model : the weights that have a score are masked, in place: by default all of
        `pruning.prunable`. A pruned model loses weights from those that it has left: to resume
        a training, give the model as it was at its start, and load its state dict afterwards.
        Build the optimizer afterwards too.
    weights : how many of these are kept in the end, exactly.
    begin, end : fractions of the training, 0 ≤ begin < end ≤ 1.
    updates : n, how many times weights are removed.
    allocation : how layers share the weights, see `pruning.methods.shares`.
    score : model ↦ {layer name: tensor shaped as the weight}, larger = keep; by default |W|.
        It is computed once at the start, to see which weights it covers. The others are
        neither counted nor pruned, and a warning names them.

    Where ``torch.distributed`` runs several processes, `step` is a collective call: the scores
    of rank 0 count, so that replicas stay equal.

    Raises ValueError for values out of range, for scores of unknown layers or of other shapes,
    and in `step` if the score covers other layers than at the start.

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
        check_whole("updates", updates, 1)
        self.model, self.begin, self.end, self.updates, self.score = (
            model,
            begin,
            end,
            updates,
            score,
        )
        if score is scores.magnitude:
            keys = [key for key, _, _ in prunable(model)]
            remedy = "score=lambda model: pruning.magnitude(model, ignore={places})"
            check_untied(model, keys, f"{remedy} leaves both out")
        first = score(model)
        self.sizes = shares.sizes(model, first, "score")
        for name, size in self.sizes.items():
            if first[name].shape != size:
                raise ValueError(
                    f"score: got shape {tuple(first[name].shape)} for layer {name!r}, needs"
                    f" {tuple(size)}"
                )
        if others := [key for key, _, _ in prunable(model) if key not in self.sizes]:
            notice(
                f"score: {others} have no score, so they are neither counted nor pruned; the"
                f" {weights} weights are those of {list(self.sizes)}"
            )
        self.final = shares.by_layer(self.sizes, weights, allocation)
        self.done = 0
        self.full = shares.left(model, self.final, self.sizes)
        for module, parameter in shares.owners(model, self.sizes).values():
            masks.set_mask(module, masks.mask_of(module, parameter), parameter)

    def kept(self, progress: float) -> dict[str, int] | int:
        """How many weights `step` leaves at this point: of each layer, or of all together. The
        number changes `updates` times between `begin` and `end`."""
        return self._kept(self._due(progress))

    def _due(self, progress: float) -> int:
        """How many of the updates should have been made."""
        passed = min(1.0, max(0.0, (progress - self.begin) / (self.end - self.begin)))
        return int(self.updates * passed + 1e-9)  # 3 · (0.1 + 0.2) / 0.9 is 1

    def _kept(self, updates: int) -> dict[str, int] | int:
        """How many weights stay after so many updates."""
        progress = self.begin + (self.end - self.begin) * updates / self.updates

        def left(full: int, final: int) -> int:
            return full - round(cubic(progress, self.begin, self.end, 0, full - final))

        if isinstance(self.final, int):
            return left(sum(self.full.values()), self.final)
        return {name: left(self.full[name], final) for name, final in self.final.items()}

    def step(self, progress: float) -> None:
        """Remove what the schedule asks for. `progress` is the fraction of the training that
        has passed, in [0, 1]; ValueError for any other number, such as a count of steps."""
        check_progress(progress)
        due = self._due(progress)
        if due > self.done:
            self._prune(due)

    def _prune(self, updates: int) -> None:
        found = self.score(self.model)
        if found.keys() != self.sizes.keys():
            raise ValueError(f"scores: got layers {list(found)}, needs {list(self.sizes)}")
        shares.keep_largest(self.model, found, self._kept(updates))
        self.done = updates
        owners = shares.owners(self.model, self.sizes)
        for owner in owners.values():
            ranks.take_from_first(masks.find_mask(*owner).keep)
        if updates == self.updates:
            say_emptied(
                [name for name, owner in owners.items() if not masks.mask_of(*owner).any()]
            )

    def finish(self) -> None:
        """Remove what is left to remove, where the training ended before `end`."""
        if self.done < self.updates:
            self._prune(self.updates)


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
