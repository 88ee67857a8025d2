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

Where ``torch.distributed`` runs several processes, `start` and `after_step` are collective
calls: what rank 0 draws is taken by all ranks, so that replicas stay equal.

Frozen weights (``requires_grad=False``) are masked by `start` and stay as they are from then
on. A layer that has no gradient in a step (its ``grad`` is None while another's is not) stays
as it is in that step.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pruning.bounds import Amount, Fraction, Rate, check_whole
from pruning.methods import shares
from pruning.networks.masks import find_mask, is_parametrized, is_pruned, original, set_mask
from pruning.networks.prunable import selected
from pruning.training import Callback, ranks
from pruning.training.loop import check_progress
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


def _write(tensor: Tensor, flat: Tensor) -> None:
    """Put back what was changed in `flat`, made by ``tensor.reshape(-1)``: a view, or a copy
    where the tensor is not contiguous, as in channels_last. Positions count rows in both."""
    if not tensor.is_contiguous():
        tensor.copy_(flat.view(tensor.shape))


class _Rewiring(Callback):
    """A random mask of exactly `density` on every prunable weight but those of `ignore`;
    `allocation` as in `shares`."""

    def __init__(
        self, density: float, allocation: shares.Shares, ignore: Iterable[str] | None
    ):
        if allocation == "global":
            raise ValueError(
                "allocation: got 'global', needs 'uniform', 'erdos-renyi' or shares"
            )
        if not 0 < density <= 1:
            raise ValueError(f"density: got {density!r}, needs a number in (0, 1]")
        self.density, self.allocation, self.ignore = density, allocation, ignore
        self.places: dict[str, tuple[str, str]] = {}  # masked: key ↦ (module, parameter)

    @torch.no_grad()
    def start(self, model: nn.Module) -> None:
        """Mask the layers. Warns of parameters that look like weights and are not covered.
        Raises ValueError if there is no layer, if one is pruned or gated already or shares its
        weight with another module, and for an unknown name in `ignore`."""
        found = selected(model, ignore=self.ignore)
        for key, module, parameter in found:
            if is_parametrized(module, parameter) or is_pruned(module, parameter):
                raise ValueError(
                    f"model: {key!r} is pruned or gated already, or parametrized otherwise;"
                    " rewiring needs dense layers with plain weights to start from"
                )
        sizes = {key: original(*owner).shape for key, *owner in found}
        total = round(self.density * sum(shape.numel() for shape in sizes.values()))
        counts = shares.by_layer(sizes, total, self.allocation)
        names = {module: name for name, module in model.named_modules()}
        self.places = {}
        for key, module, parameter in found:
            weight = original(module, parameter)
            keep = torch.zeros(weight.numel(), dtype=torch.bool, device=weight.device)
            keep[_random_indices(~keep, counts[key])] = True
            mask = set_mask(module, keep.view_as(weight), parameter)
            ranks.take_from_first(mask.keep)
            self.places[key] = names[module], parameter

    def masked(self, model: nn.Module) -> dict[str, tuple[Tensor, Tensor]]:
        """The trained weights that `start` has masked and their masks of 0 and 1, as this
        model holds them now: {key: (weight, keep)}.

        Raises RuntimeError before `start`, and ValueError for a model that lacks a mask."""
        if not self.places:
            raise RuntimeError(
                f"after_step: this {type(self).__name__} has masked no model yet; call"
                " start(model) before the optimizer is built"
            )
        found = {}
        for key, (name, parameter) in self.places.items():
            try:
                module = model.get_submodule(name)
                weight, mask = original(module, parameter), find_mask(module, parameter)
            except (AttributeError, ValueError):  # no such layer, or no such weight
                mask = None
            if mask is None:
                raise ValueError(
                    f"model: {key!r} has no mask of this {type(self).__name__}, needs the"
                    " model that `start` has masked, without a wrapper around it"
                )
            found[key] = weight, mask.keep
        return found

    def moving(self, model: nn.Module) -> dict[str, tuple[Tensor, Tensor]]:
        """Those of `masked` that may change in this step: they are trained and have a
        gradient. If none has one, the loop has cleared them already, and all that are trained
        may."""
        trained = {key: it for key, it in self.masked(model).items() if it[0].requires_grad}
        return {key: it for key, it in trained.items() if it[0].grad is not None} or trained


class SET(_Rewiring):
    """Sparse evolutionary training, rewired `rewirings` times at equal distances.

    Parameters
    ----------
    density : kept weights / weights, in (0, 1], exact at every step.
    rewirings : how often during one `training.fit`; epochs − 1 in the paper (not after the
        last).
    fraction : ζ in [0, 1), of each layer's connections.
    allocation : how layers share the connections, see `pruning.methods.shares`; not "global".
    ignore : weights that stay dense and are not counted, keys of `pruning.prunable` or modules
        above them.

    In a loop of your own: `start` before the optimizer is built, and `after_step` after each
    of its steps, with the fraction of the training that has passed.

    Frozen layers keep the masks of `start`, and a layer without a gradient in a step is not
    rewired then. Raises ValueError for values out of range, in `after_step` for progress
    outside [0, 1], such as a count of steps.
    """

    def __init__(
        self,
        density: float,
        rewirings: int,
        fraction: float = 0.3,
        allocation: shares.Shares = "erdos-renyi",
        ignore: Iterable[str] | None = None,
    ):
        super().__init__(density, allocation, ignore)
        if not 0 <= fraction < 1:
            raise ValueError(f"fraction: got {fraction!r}, needs a number in [0, 1)")
        check_whole("rewirings", rewirings, 0)
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
        check_progress(progress)
        if self.places and int(progress * (self.rewirings + 1)) <= self.done:
            return
        moving = self.moving(model)
        self.done += 1
        for whole, keep in moving.values():
            weight, mask = whole.reshape(-1), keep.reshape(-1)
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
            _write(whole, weight)
            _write(keep, mask)
            ranks.take_from_first(whole, keep)


class DeepR(_Rewiring):
    """Deep rewiring: signs are fixed, and a random connection replaces a weight that crosses
    zero.

    Parameters
    ----------
    density : kept weights / weights, in (0, 1], exact at every step.
    rate : progress in [0, 1) ↦ η, the optimizer's learning rate.
    l1 : α, at least 0; 1e-4 in the paper's MNIST runs.
    allocation, ignore : as in `SET`.

    In a loop of your own: `start` before the optimizer is built, and `after_step` after each
    of its steps, with the fraction of the training that has passed.

    Frozen layers keep the weights and masks of `start`, and a layer without a gradient in a
    step stays as it is then. Raises TypeError for a rate that is no function, ValueError for
    values out of range, in `after_step` for progress outside [0, 1], such as a count of steps.
    """

    def __init__(
        self,
        density: float,
        rate: Callable[[float], float],
        l1: float = 1e-4,
        allocation: shares.Shares = "erdos-renyi",
        ignore: Iterable[str] | None = None,
    ):
        super().__init__(density, allocation, ignore)
        if not 0 <= l1 < math.inf:
            raise ValueError(f"l1: got {l1!r}, needs a finite number, 0 or more")
        if not callable(rate):
            raise TypeError(
                f"rate: got {rate!r}, needs a function of progress, such as"
                " lambda progress: 0.1"
            )
        self.rate, self.l1 = rate, l1
        self.signs: dict[str, Tensor] = {}  # 1 and −1

    @torch.no_grad()
    def start(self, model: nn.Module) -> None:
        """Mask the layers; the signs of their initial weights stay."""
        super().start(model)
        self.signs = {
            key: torch.where(weight < 0, -1.0, 1.0)
            for key, (weight, _) in self.masked(model).items()
        }

    def state(self) -> dict[str, Tensor]:
        """The signs; the masks are the model's."""
        return {f"signs.{key}": sign for key, sign in self.signs.items()}

    def load(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` returned. Raises ValueError where signs are missing: the
        weights do not tell those of dormant connections, so that the training could not go on
        as it was."""
        if missing := [key for key in self.signs if f"signs.{key}" not in state]:
            raise ValueError(
                f"state: has no signs of {missing}, without which DeepR cannot go on; it is of"
                " another model, or of a version that did not keep them"
            )
        self.signs = {key: state[f"signs.{key}"] for key in self.signs}

    @torch.no_grad()
    def after_step(self, model: nn.Module, progress: float) -> None:
        """Drift, noise, and the exchange of connections."""
        check_progress(progress)
        moving = self.moving(model)
        drift = self.rate(progress) * self.l1  # ηα
        for key, (weight, mask) in moving.items():
            sign = self.signs[key] = self.signs[key].to(weight)  # where the weights are now
            noise = torch.randn_like(weight, memory_format=torch.contiguous_format)
            theta = noise.div_(3).sub_(1).mul_(drift)  # √(2ηT)·ν − ηα, √(2ηT) = ηα/3
            theta.addcmul_(weight, sign).mul_(mask)
            weight.copy_(
                theta.clamp_min(0).mul_(sign)
            )  # 0 where it is dormant, and where it awakes
            crossed = (theta.view(-1) < 0).nonzero().flatten()
            if len(crossed):
                keep = mask.reshape(-1)
                grown = _random_indices(keep == 0, len(crossed))
                keep[crossed[: len(grown)]] = 0
                keep[grown] = 1
                _write(mask, keep)
            ranks.take_from_first(weight, mask)


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
