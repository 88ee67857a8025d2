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

Differs from the paper: the gradient is that of the last batch before an update, after whose
step weights move (the paper leaves the step out); the optimizer may be Adam, which keeps its
moments.
"""

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight
from torch.utils.hooks import RemovableHandle

from pruning.bounds import Fraction, Positive, Rate
from pruning.methods import scores, shares
from pruning.networks import masks
from pruning.networks.layers import layers
from pruning.training import Callback
from pruning.training.recipes import Adam, HoldThenCosine, Method, Phase, Problem, setting


def moving(progress: float, fraction: float = 0.3, until: float = 0.75) -> float:
    """f of Eq. 1: the share of a layer's weights that moves at this point of the training."""
    if progress >= until:
        return 0.0
    return fraction / 2 * (1 + math.cos(math.pi * progress / until))  # Eq. 1


def dense_gradient(layer: nn.Module, x: Tensor, gradient: Tensor) -> Tensor:
    """∂L/∂W of every weight, masked ones included, from a layer's input and the gradient of
    its output, in the precision of the weight also under autocast."""
    x, gradient = (part.to(masks.original(layer).dtype) for part in (x, gradient))
    if isinstance(layer, nn.Linear):
        return gradient.flatten(0, -2).T @ x.flatten(0, -2)
    shape, place = (
        masks.original(layer).shape,
        (layer.stride, layer.padding, layer.dilation, layer.groups),
    )
    return conv2d_weight(x, shape, gradient, *place)


class RigL(Callback):
    """Sparse training with a constant number of weights in each layer.

    Parameters
    ----------
    weights : how many are kept, exactly, at every step.
    allocation : how layers share them, see `pruning.methods.shares`; "erdos-renyi" in the
        paper.
    fraction, until : α in [0, 1) and T_end in (0, 1] of Eq. 1.
    every : ΔT, steps between two updates.
    masks : where to start; None draws them at random.

    Raises ValueError for values out of range; layers cannot compete here, so "global" is
    refused.
    """

    def __init__(
        self,
        weights: int,
        allocation: shares.Shares = "erdos-renyi",
        fraction: float = 0.3,
        every: int = 100,
        until: float = 0.75,
        masks: dict[str, Tensor] | None = None,
    ):
        if allocation == "global":
            raise ValueError(
                "allocation: got 'global', needs 'uniform', 'erdos-renyi' or one share a layer"
            )
        if not 0 <= fraction < 1 or not 0 < until <= 1:
            raise ValueError(
                f"fraction, until: got {fraction}, {until}, needs [0, 1) and (0, 1]"
            )
        if every < 1:
            raise ValueError(f"every: got {every!r}, needs 1 step or more")
        self.weights, self.allocation, self.fraction = weights, allocation, fraction
        self.every, self.until, self.given = every, until, masks
        self.steps = 0
        self.gradients: dict[str, Tensor] = {}
        self.hooks: list[RemovableHandle] = []

    def start(self, model: nn.Module) -> None:
        """Mask the layers."""
        found, self.steps = layers(model), 0
        if self.given is None:
            kept = shares.by_layer(shares.sizes(model), self.weights, self.allocation)
            shares.keep_largest(model, scores.random_scores(model), kept)
        else:
            for name, keep in self.given.items():
                masks.set_mask(found[name], keep)
        self.hooks = [
            layer.register_forward_hook(partial(self._watch, name))
            for name, layer in found.items()
        ]

    def _watch(self, name: str, layer: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
        """Have the dense gradient computed in the steps that need it."""
        if layer.training and output.requires_grad and (self.steps + 1) % self.every == 0:
            x = args[0].detach()

            def keep(gradient):
                self.gradients[name] = dense_gradient(layer, x, gradient)

            output.register_hook(keep)

    @torch.no_grad()
    def after_step(self, model: nn.Module, progress: float) -> None:
        """Move weights, every ΔT steps."""
        self.steps += 1
        share = moving(progress, self.fraction, self.until)
        if self.steps % self.every or not share:
            return
        for name, layer in layers(model).items():
            weight, keep = masks.original(layer), masks.mask_of(layer).reshape(-1)
            count = int(share * int(keep.sum()))
            size = weight.abs().reshape(-1).masked_fill(~keep, math.inf)
            stay = keep.index_fill(0, size.argsort(stable=True)[:count], False)  # Eq. 2
            gradient = self.gradients[name].abs().reshape(-1).masked_fill(stay, -1)
            grown = gradient.argsort(descending=True, stable=True)[:count]  # Eq. 3
            new = stay.index_fill(0, grown, True)
            weight[(new & ~keep).view(weight.shape)] = 0
            masks.set_mask(layer, new.view(weight.shape))

    def finish(self, model: nn.Module) -> None:
        """Stop watching."""
        for hook in self.hooks:
            hook.remove()
        self.gradients = {}

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
