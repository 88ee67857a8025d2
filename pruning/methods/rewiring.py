r"""Sparse training that moves its connections: SET and DeepR, with their number fixed
throughout.

SET    Mocanu et al. 2018, "Scalable training of artificial neural networks with adaptive
       sparse connectivity inspired by network science", arXiv:1707.04780. After each epoch the
       fraction ζ of smallest |w| in a layer goes, as many connections grow at random places.
DeepR  Bellec et al. 2018, "Deep rewiring: training very sparse deep networks",
arXiv:1711.05136.
       w = s·θ with a fixed sign s; after each step θ ← θ − ηα + √(2ηT)·ν with ν ~ N(0, 1); a
       connection whose θ falls below 0 goes dormant, a random dormant one awakes at θ = 0.

Both are callbacks of `training.fit`, whose optimizer does the gradient step on masked weights.

    symbol  name      meaning
    ζ       fraction  share of a layer's connections that SET moves at a time
    η       rate      learning rate at this point of the training
    α       l1        DeepR's L1 regularisation; its temperature T is ηα²/18, as in the
                      paper's MNIST runs

Differs from the papers: new SET connections start at 0 (the authors' code draws them), because
their first gradient does not depend on their own value; layers share the connections by the
Erdős–Rényi rule in DeepR too (its paper sets them by hand); the optimizer may be Adam, which
keeps its moments at a place that goes dormant.

Frozen weights (``requires_grad=False``) are masked by `start` and stay as they are from then
on. A layer that has no gradient in a step (its ``grad`` is None while another's is not) stays
as it is in that step.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pruning.bounds import Amount, Fraction, Rate
from pruning.methods import shares
from pruning.networks.masks import Mask, is_parametrized, is_pruned, original, set_mask
from pruning.networks.prunable import check_untied, prunable
from pruning.training import Callback
from pruning.training.recipes import Adam, HoldThenCosine, Method, Phase, Problem, setting


def _random_indices(among: Tensor, count: int) -> Tensor:
    """`count` different random positions where the flat boolean tensor `among` is True, or all
    there are."""
    # a few draws with replacement mostly do, and all positions have the same chance in both
    # ways
    drawn = torch.randint(len(among), (4 * count,), device=among.device)
    places = drawn[among[drawn]].unique()
    if len(places) < count:
        places = among.nonzero().flatten()
    return places[torch.randperm(len(places), device=places.device)[:count]]


class _Rewiring(Callback):
    """A random mask of exactly `density` on every prunable weight; `allocation` as in
    `shares`."""

    def __init__(self, density: float, allocation: shares.Shares):
        if allocation == "global":
            raise ValueError(
                "allocation: got 'global', needs 'uniform', 'erdos-renyi' or shares"
            )
        if not 0 < density <= 1:
            raise ValueError(f"density: got {density!r}, needs a number in (0, 1]")
        self.density, self.allocation = density, allocation
        self.layers: list[tuple[Tensor, Mask]] = []  # trained weights, and the masks on them

    @torch.no_grad()
    def start(self, model: nn.Module) -> None:
        """Mask the layers. Raises ValueError if there is none, or if one is pruned or gated
        already, or shares its weight with another module."""
        check_untied(model, [key for key, _, _ in prunable(model)])
        found = [(module, parameter) for _, module, parameter in prunable(model)]
        if not found:
            raise ValueError(
                "model: has no weights to rewire, needs Linear, convolution, attention or"
                " recurrent layers"
            )
        for key, module, parameter in prunable(model):
            if is_parametrized(module, parameter) or is_pruned(module, parameter):
                raise ValueError(
                    f"model: {key!r} is pruned or gated already, or parametrized otherwise;"
                    " rewiring needs dense layers with plain weights to start from"
                )
        weights = [original(*each) for each in found]
        sizes = {str(k): weight.shape for k, weight in enumerate(weights)}
        total = round(self.density * sum(weight.numel() for weight in weights))
        counts = shares.by_layer(sizes, total, self.allocation).values()
        self.layers = []
        for each, weight, count in zip(found, weights, counts, strict=True):
            keep = torch.zeros(weight.numel(), dtype=torch.bool, device=weight.device)
            keep[_random_indices(~keep, count)] = True
            self.layers.append((weight, set_mask(each[0], keep.view_as(weight), each[1])))

    def moving(self) -> list[bool]:
        """Which layers may change in this step: those that are trained and have a gradient. If
        none has one, the loop has cleared them already, and all that are trained may.

        Raises RuntimeError before `start`."""
        if not self.layers:
            raise RuntimeError(
                f"after_step: this {type(self).__name__} has masked no model yet; call"
                " start(model) before the optimizer is built"
            )
        trained = [weight.requires_grad for weight, _ in self.layers]
        found = [weight.requires_grad and weight.grad is not None for weight, _ in self.layers]
        return found if any(found) else trained


class SET(_Rewiring):
    """Sparse evolutionary training, rewired `rewirings` times at equal distances.

    Parameters
    ----------
    density : kept weights / weights, in (0, 1], exact at every step.
    rewirings : how often during one `training.fit`; epochs − 1 in the paper (not after the
        last).
    fraction : ζ in [0, 1), of each layer's connections.
    allocation : how layers share the connections, see `pruning.methods.shares`; not "global".

    In a loop of your own: `start` before the optimizer is built, and `after_step` after each
    of its steps, with the fraction of the training that has passed.

    Frozen layers keep the masks of `start`, and a layer without a gradient in a step is not
    rewired then. Raises ValueError for values out of range.
    """

    def __init__(
        self,
        density: float,
        rewirings: int,
        fraction: float = 0.3,
        allocation: shares.Shares = "erdos-renyi",
    ):
        super().__init__(density, allocation)
        if not 0 <= fraction < 1:
            raise ValueError(f"fraction: got {fraction!r}, needs a number in [0, 1)")
        if rewirings < 0:
            raise ValueError(f"rewirings: got {rewirings!r}, needs 0 or more")
        self.fraction, self.rewirings, self.done = fraction, rewirings, 0

    def start(self, model: nn.Module) -> None:
        """Mask the layers."""
        super().start(model)
        self.done = 0

    def state(self) -> dict[str, Tensor]:
        """How often it has rewired; the masks are the model's."""
        return {"done": torch.tensor(self.done)}

    def load(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` returned."""
        self.done = int(state["done"])

    @torch.no_grad()
    def after_step(self, model: nn.Module, progress: float) -> None:
        """Rewire where the next of the equal parts of the training begins."""
        moving = self.moving()
        if int(progress * (self.rewirings + 1)) <= self.done:
            return
        self.done += 1
        for (weight, masking), moves in zip(self.layers, moving, strict=True):
            if not moves:
                continue
            weight, mask = weight.view(-1), masking.keep.view(-1)
            active = mask.nonzero().flatten()
            smallest = (
                weight[active].abs().argsort(stable=True)[: int(self.fraction * len(active))]
            )
            dropped = active[smallest]
            grown = _random_indices(
                mask == 0, len(dropped)
            )  # not where a connection has just gone
            mask[dropped[: len(grown)]] = 0
            mask[grown] = 1
            weight[grown] = 0


class DeepR(_Rewiring):
    """Deep rewiring: signs are fixed, and a random connection replaces a weight that crosses
    zero.

    Parameters
    ----------
    density : kept weights / weights, in (0, 1], exact at every step.
    rate : progress in [0, 1) ↦ η, the optimizer's learning rate.
    l1 : α, at least 0; 1e-4 in the paper's MNIST runs.
    allocation : as in `SET`.

    In a loop of your own: `start` before the optimizer is built, and `after_step` after each
    of its steps, with the fraction of the training that has passed.

    Frozen layers keep the weights and masks of `start`, and a layer without a gradient in a
    step stays as it is then. Raises ValueError for values out of range.
    """

    def __init__(
        self,
        density: float,
        rate: Callable[[float], float],
        l1: float = 1e-4,
        allocation: shares.Shares = "erdos-renyi",
    ):
        super().__init__(density, allocation)
        if l1 < 0:
            raise ValueError(f"l1: got {l1!r}, needs 0 or more")
        self.rate, self.l1 = rate, l1
        self.signs: list[Tensor] = []

    @torch.no_grad()
    def start(self, model: nn.Module) -> None:
        """Mask the layers; the signs of their initial weights stay."""
        super().start(model)
        self.signs = [torch.where(weight < 0, -1.0, 1.0) for weight, _ in self.layers]

    @torch.no_grad()
    def after_step(self, model: nn.Module, progress: float) -> None:
        """Drift, noise, and the exchange of connections."""
        moving = self.moving()
        drift = self.rate(progress) * self.l1  # ηα
        for (weight, masking), sign, moves in zip(
            self.layers, self.signs, moving, strict=True
        ):
            if not moves:
                continue
            mask = masking.keep
            theta = (
                torch.randn_like(weight).div_(3).sub_(1).mul_(drift)
            )  # √(2ηT)·ν − ηα, √(2ηT) = ηα/3
            theta.addcmul_(weight, sign).mul_(mask)
            weight.copy_(
                theta.clamp_min(0).mul_(sign)
            )  # 0 where it is dormant, and where it awakes
            crossed = (theta.view(-1) < 0).nonzero().flatten()
            if len(crossed):
                grown = _random_indices(mask.view(-1) == 0, len(crossed))
                mask.view(-1)[crossed[: len(grown)]] = 0
                mask.view(-1)[grown] = 1


@dataclass(frozen=True)
class SETSettings:
    """Chosen on validation splits."""

    finetune_lr: Rate = setting(1e-2, "learning rate")
    descent: Fraction = setting(
        0.5, "fraction of the epochs after which the learning rate falls"
    )
    fraction: Fraction = setting(
        0.1, "share ζ of a layer's connections that moves after each epoch"
    )
    allocation: tuple[Fraction, ...] = setting(
        (), "share of the kept weights of each layer; (): Erdős–Rényi"
    )


@dataclass(frozen=True)
class DeepRSettings:
    """Chosen on validation splits."""

    finetune_lr: Rate = setting(3e-2, "learning rate η")
    descent: Fraction = setting(
        0.5, "fraction of the epochs after which the learning rate falls"
    )
    l1: Amount = setting(1e-1, "L1 regularisation α")
    allocation: tuple[Fraction, ...] = setting(
        (), "share of the kept weights of each layer; (): Erdős–Rényi"
    )


def set_phases(settings: SETSettings, problem: Problem) -> list[Phase]:
    """One training, rewired after every epoch but the last."""
    rewiring = SET(
        problem.density,
        max(0, problem.all_epochs - 1),
        settings.fraction,
        settings.allocation or "erdos-renyi",
    )
    schedule = HoldThenCosine(settings.descent)
    return [Phase(problem.all_epochs, Adam(settings.finetune_lr), schedule, (rewiring,))]


def deepr_phases(settings: DeepRSettings, problem: Problem) -> list[Phase]:
    """One training, rewired after every step at the optimizer's learning rate."""
    schedule = HoldThenCosine(settings.descent)
    rewiring = DeepR(
        problem.density,
        lambda p: settings.finetune_lr * schedule(p),
        settings.l1,
        settings.allocation or "erdos-renyi",
    )
    return [Phase(problem.all_epochs, Adam(settings.finetune_lr), schedule, (rewiring,))]


SET_METHOD = Method(
    "set",
    SETSettings,
    set_phases,
    label="SET, rewired every epoch",
    short="SET",
    colour="#c16bb0",
    marker="v",
)
DEEPR_METHOD = Method(
    "deepr",
    DeepRSettings,
    deepr_phases,
    label="DeepR, rewired every step",
    short="DeepR",
    colour="#b4713a",
    marker="P",
)
