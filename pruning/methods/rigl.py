r"""RigL: sparse training that drops by magnitude and grows by the dense gradient.

Evci, Gale, Menick, Castro, Elsen: "Rigging the Lottery: Making All Tickets Winners", ICML
2020, arXiv:1911.11134. Equations are numbered here.

    Eq. 1   f(t) = α/2 · (1 + cos(π·t / T_end))    the fraction of a layer that moves
    Eq. 2   drop: the k = f(t)·n active weights with the smallest |θ|
    Eq. 3   grow: the k weights with the largest |∇L| among all that are not active then

    symbol  name      meaning
    n       –         active weights of the layer, the same throughout
    α       fraction  f at the start, 0.3 in the paper
    ΔT      every     steps between two updates, 100 in the paper
    T_end   until     fraction of the training after which the mask stays, 0.75 in the paper

A grown weight starts at 0, except where it has just been dropped: then nothing has happened.

Differs from the paper: the gradient is that of the step before an update, and weights move
after that step (the paper leaves the step out); the optimizer may be Adam, which keeps its
moments.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from pruning.bounds import Fraction, Positive, Rate, check_whole
from pruning.methods import scores, shares
from pruning.networks import masks
from pruning.training import Callback, ranks
from pruning.training.loop import check_progress
from pruning.training.recipes import Adam, HoldThenCosine, Method, Phase, Problem, setting


def moving(progress: float, fraction: float = 0.3, until: float = 0.75) -> float:
    """f of Eq. 1: the share of a layer's weights that moves at this point of the training."""
    if progress >= until:
        return 0.0
    return fraction / 2 * (1 + math.cos(math.pi * progress / until))  # Eq. 1


class RigL(Callback):
    """Sparse training with a constant number of weights in each layer.

    Parameters
    ----------
    weights : how many of the weights of `pruning.prunable`, but for those that `ignore`
        leaves out, are kept, exactly, at every step.
    allocation : how layers share them, see `pruning.methods.shares`; "erdos-renyi" in the
        paper.
    fraction, until : α in [0, 1) and T_end in (0, 1] of Eq. 1.
    every : ΔT, steps between two updates.
    masks : where to start, by the keys of `pruning.prunable`; layers that are not named stay
        as they are. None draws masks of all layers at random.
    ignore : without `masks`, weights that stay as they are: keys of `pruning.prunable` or
        modules above them.

    In a loop of your own: `start` before the optimizer is built, `after_step` after each of
    its steps, with the fraction of the training that has passed, and `finish` in the end.

    Weights grow by the gradient of the whole step before an update. Where several backward
    passes are accumulated for one step, the gradient is their sum. A layer that had no
    gradient in that step, because it is frozen or the loss does not depend on it, is left as
    it is, and so is one whose gradient is not finite: a GradScaler skips that step. Where
    ``torch.distributed`` runs several processes, `start` and `after_step` are collective
    calls: masks begin as those of rank 0 and grow by the sum of all ranks' gradients.

    Raises ValueError for values out of range; layers cannot compete here, so "global" is
    refused. `after_step` raises ValueError for progress outside [0, 1], such as a count of
    steps, and RuntimeError where an update is due and no layer has had a gradient, although
    some are trained.
    """

    def __init__(
        self,
        weights: int,
        allocation: shares.Shares = "erdos-renyi",
        fraction: float = 0.3,
        every: int = 100,
        until: float = 0.75,
        masks: dict[str, Tensor] | None = None,
        ignore: Iterable[str] | None = None,
    ):
        if allocation == "global":
            raise ValueError(
                "allocation: got 'global', needs 'uniform', 'erdos-renyi' or one share a layer"
            )
        if not 0 <= fraction < 1 or not 0 < until <= 1:
            raise ValueError(
                f"fraction, until: got {fraction}, {until}, needs [0, 1) and (0, 1]"
            )
        check_whole("every", every, 1)
        if masks is not None and ignore is not None:
            raise ValueError("masks, ignore: got both, needs one; masks name the layers")
        self.weights, self.allocation, self.fraction = weights, allocation, fraction
        self.every, self.until, self.given, self.ignore = every, until, masks, ignore
        self.steps = 0
        self.names: list[str] = []  # of the layers that have masks
        self.gradients: dict[str, Tensor] = {}  # of this step, of W ⊙ mask
        self.hooks: list[RemovableHandle] = []

    def start(self, model: nn.Module) -> None:
        """Mask the layers."""
        self.finish(model)
        drawn = self.given
        if drawn is None:
            drawn = scores.random_scores(model, ignore=self.ignore)
        found, self.steps = shares.owners(model, drawn, "masks"), 0
        for key, (module, parameter) in found.items():
            if (
                masks.is_parametrized(module, parameter)
                and not module.parametrizations[parameter].is_tensor
            ):
                raise ValueError(
                    f"model: {key!r} is computed from several tensors, as weight norm does it,"
                    " so that no single weight can grow;"
                    " torch.nn.utils.parametrize.remove_parametrizations makes it plain"
                )
        if self.given is None:
            sizes = shares.sizes(model, found)
            shares.keep_largest(
                model, drawn, shares.by_layer(sizes, self.weights, self.allocation)
            )
        else:
            for name, (module, parameter) in found.items():
                masks.set_mask(module, self.given[name], parameter)
        self.names = list(found)
        for name, owner in found.items():
            mask = masks.find_mask(*owner)
            ranks.take_from_first(mask.keep)
            self.hooks.append(mask.register_forward_hook(partial(self._watch, name)))

    def _watch(self, name: str, mask: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
        """Keep the gradient of W ⊙ mask, which is dense, in the steps that need it."""
        if mask.training and output.requires_grad and (self.steps + 1) % self.every == 0:
            output.register_hook(partial(self._add, name))

    def _add(self, name: str, gradient: Tensor) -> None:
        """A layer may be called several times, and several batches may share a step."""
        before, gradient = self.gradients.get(name), gradient.detach()
        self.gradients[name] = gradient if before is None else before + gradient

    @torch.no_grad()
    def after_step(self, model: nn.Module, progress: float) -> None:
        """Move weights, every ΔT steps."""
        check_progress(progress)
        self.steps += 1
        gradients, self.gradients = self.gradients, {}
        share = moving(progress, self.fraction, self.until)
        if self.steps % self.every or not share:
            return
        found = shares.owners(model, self.names)
        for name, owner in found.items():
            gradient = ranks.summed(gradients.get(name), masks.original(*owner))
            if gradient is not None:
                gradients[name] = gradient
        if not gradients and (
            not found or any(masks.original(*owner).requires_grad for owner in found.values())
        ):
            raise RuntimeError(
                "rigl: an update is due and no layer has had a gradient since the last step;"
                " needs `start` before the forward pass, and a backward pass in training mode"
                " before `after_step`"
            )
        for name, (module, parameter) in found.items():
            if name not in gradients or not gradients[name].isfinite().all():
                continue
            weight = masks.original(module, parameter)
            keep = masks.mask_of(module, parameter).reshape(-1)
            count = int(share * int(keep.sum()))
            size = weight.abs().reshape(-1).masked_fill(~keep, math.inf)
            stay = keep.index_fill(0, size.argsort(stable=True)[:count], False)  # Eq. 2
            gradient = gradients[name].abs().reshape(-1).masked_fill(stay, -1)
            grown = gradient.argsort(descending=True, stable=True)[:count]  # Eq. 3
            new = stay.index_fill(0, grown, True)
            weight[(new & ~keep).view(weight.shape)] = 0
            masks.set_mask(module, new.view(weight.shape), parameter)

    def finish(self, model: nn.Module) -> None:
        """Stop watching."""
        for hook in self.hooks:
            hook.remove()
        self.hooks, self.gradients = [], {}

    def state(self) -> dict[str, Tensor]:
        """The number of steps; the masks are the model's."""
        return {"steps": torch.tensor(self.steps)}

    def load(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` returned."""
        self.steps = int(state["steps"])


@dataclass(frozen=True)
class Settings:
    """Of RigL beside other methods."""

    finetune_lr: Rate = setting(1e-2, "learning rate")
    descent: Fraction = setting(
        0.75, "fraction of the epochs after which the learning rate falls"
    )
    fraction: Fraction = setting(0.3, "share α of a layer's weights that moves at the start")
    every: Positive = setting(100, "steps ΔT between two updates")
    until: Fraction = setting(0.75, "fraction of the training after which the mask stays")
    allocation: tuple[Fraction, ...] = setting(
        (), "share of the kept weights of each layer; (): Erdős–Rényi"
    )


def phases(settings: Settings, problem: Problem) -> list[Phase]:
    """One training with a constant number of weights."""
    moving = RigL(
        problem.weights,
        settings.allocation or "erdos-renyi",
        settings.fraction,
        settings.every,
        settings.until,
    )
    schedule = HoldThenCosine(settings.descent)
    return [Phase(problem.all_epochs, Adam(settings.finetune_lr), schedule, (moving,))]


METHOD = Method(
    "rigl",
    Settings,
    phases,
    label="RigL, grown by gradient",
    short="RigL",
    colour="#01665e",
    marker=">",
)
