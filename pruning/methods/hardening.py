"""Gates become masks: the deterministic rule θ^g > ½ of arXiv:2311.12526, and a budget of
weights."""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from pruning.bounds import check_whole
from pruning.methods.sampling import BiasGate, Gate, gates, new_pass
from pruning.networks.masks import Mask, check_ungated
from pruning.networks.notices import notice, say_emptied
from pruning.networks.prunable import Model

MANY = 1.5  # times the weights that were asked for


def harden(model: Model, at_most: int | None = None) -> Model:
    """Turn each gate into the fixed mask θ^g > ½, a `Mask` in the gate's place.

    The evaluation output does not change, unless `at_most` closes gates. Weights and biases
    stay trainable under the mask; the logits are gone. Other parametrizations of a gated
    weight stay where they are. Of gates on outputs the masks remove whole rows or channels,
    and their biases. `finalize` makes the masks permanent.

    Parameters
    ----------
    model : a gated model; changed in place.
    at_most : a budget for all gated weights together: of the open gates those with the
        largest ℓ stay, as many as the budget holds; among equal ℓ those with the larger |θ^w|
        (of gates on outputs, the larger mean). Weights without a gate do not count. None keeps
        all open gates.

    The density loss acts on the mean of sampled gates. While many θ^g still lie near ½, the
    mask keeps more or fewer weights than the samples do: look at `sparsity_report`, train
    longer, or give a budget. Warns where the masks keep more than one and a half times what
    the last `density_loss` asked for, of layers that lose all their weights, and of a budget
    while all ℓ are as `gate` set them: without training the budget is magnitude pruning.

    Returns the same model. Raises ValueError if nothing is gated, for gates of `methods.l0`
    and `methods.variational`, which have a `harden` of their own, for logits that are NaN, and
    for a budget that is not a whole number of 1 or more.
    """
    found = gates(model)
    untrained = _all_equal(found)
    masks = fix(model, at_most)
    total = sum(mask.numel() for mask in masks.values())
    if untrained and at_most is not None and at_most < total:
        notice(
            "model: all logits are equal, so the gates have not been trained and the budget"
            " keeps the largest weights; train the model with density_loss before harden"
        )
    _say_surplus(found, masks)
    say_emptied([key for key, mask in masks.items() if not mask.any()])
    return model


@torch.no_grad()
def fix(model: nn.Module, at_most: int | None = None) -> dict[str, Tensor]:
    """`harden` without its warnings, for networks whose counts go on record; returns the
    masks."""
    found = gates(model)
    if not found:
        check_ungated(model)  # gates of other kinds
        raise ValueError("model: has no gated layer; call pruning.gate(model) first")
    if at_most is not None:
        check_whole("at_most", at_most, 1)
    if broken := [key for key, each in found.items() if each.logits.isnan().any()]:
        raise ValueError(
            f"model: the logits of {broken} are NaN, so there is no mask; the training"
            " diverged"
        )
    kept = _masks(list(found.values()), _sizes(model), at_most)
    masks = dict(zip(found.values(), kept, strict=True))
    for module in model.modules():
        if isinstance(module, parametrize.ParametrizationList):
            _replace(module, masks)
        for key in [
            key for key, hook in module._forward_pre_hooks.items() if hook is new_pass
        ]:
            del module._forward_pre_hooks[key]
    return {key: masks[each] for key, each in found.items()}


def _say_surplus(found: dict[str, Gate], masks: dict[str, Tensor]) -> None:
    """Warn where far more is kept than `density_loss` asked for last; a target of 0 asks for
    as little as the loss allows."""
    gating = found.values()
    if not all(each.target for each in gating):
        return
    total = sum(each.weights for each in gating)
    kept = sum(int(mask.sum()) for mask in masks.values())
    asked = round(sum(each.target * each.weights for each in gating))
    if kept > MANY * asked:
        notice(
            f"model: the masks keep {kept:,} of {total:,} weights; density_loss asked for"
            f" {asked:,}. Many gates have not decided yet: train longer, give the density loss"
            f" a larger factor or the logits a larger learning rate, or harden(model,"
            f" at_most={max(1, asked)})"
        )


def _replace(held: parametrize.ParametrizationList, masks: dict[Gate, Tensor]) -> None:
    """Masks in the place of the gates among the parametrizations of one parameter."""
    for position, each in enumerate(held):
        if isinstance(each, Gate):
            keep = masks[each]
        elif isinstance(each, BiasGate):
            keep = masks[each.of[0]].transpose(0, each.of[0].dim).flatten(1).any(1)
        else:
            continue
        held[position] = Mask(keep, held.original.dtype).train(each.training)


def _all_equal(found: dict[str, Gate]) -> bool:
    """Whether all logits are still the number that `gate` gave them."""
    values = [each.logits.detach() for each in found.values() if each.logits.numel()]
    return bool(values) and all((each == values[0].flatten()[0]).all() for each in values)


def _sizes(model: nn.Module) -> dict[Gate, Tensor]:
    """Mean |θ^w| of the weights of each gate, in the order of its logits."""
    sizes = {}
    for held in model.modules():
        if not isinstance(held, parametrize.ParametrizationList):
            continue
        for gating in (each for each in held if isinstance(each, Gate)):
            size = held.original.abs().float()
            shared = [d for d, n in enumerate(gating.logits.shape) if n != size.shape[d]]
            sizes[gating] = size.mean(shared) if shared else size
    return sizes


def _largest_first(logits: Tensor, sizes: Tensor) -> Tensor:
    """Places by descending ℓ; equal ones by descending |θ^w|."""
    by_size = sizes.argsort(descending=True, stable=True)
    order = logits.gather(-1, by_size).argsort(descending=True, stable=True)
    return by_size.gather(-1, order)


def _masks(found: list[Gate], sizes: dict[Gate, Tensor], at_most: int | None) -> list[Tensor]:
    """The masks of all gates of a network (or stack), within its budget."""
    if at_most is None:
        return [gating.mask() for gating in found]
    flat = [
        gating.logits.flatten(gating.stacked) for gating in found
    ]  # (gates,) or (networks, gates)
    logits = torch.cat(flat, dim=-1)
    order = _largest_first(
        logits, torch.cat([sizes[each].flatten(each.stacked) for each in found], dim=-1)
    )
    if all(gating.logits.numel() == gating.weights for gating in found):
        largest = order[..., :at_most]
    else:
        costs = torch.cat(
            [
                torch.full_like(each.logits, each.weights / each.logits.numel()).flatten()
                for each in found
            ]
        )
        largest = order[costs[order].double().cumsum(0) <= at_most]
    stay = torch.zeros_like(logits, dtype=torch.bool).scatter_(-1, largest, True)
    parts = stay.split([each.shape[-1] for each in flat], dim=-1)
    return [
        part.view_as(gating.logits) & gating.mask()
        for part, gating in zip(parts, found, strict=True)
    ]
