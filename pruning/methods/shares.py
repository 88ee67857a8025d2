"""How many weights each layer keeps, and which: counting for methods that rank weights.

Where few weights are left, the allocation over the layers decides more than the score: at 404
weights of LeNet-300-100 the largest magnitudes of the whole network leave the last layer
empty, and a network without a path computes a constant. A method is therefore told how the
layers share its budget:

    "global"        the weights of all layers compete, the allocation is what comes of it
    "uniform"       every layer has the same density
    "erdos-renyi"   density ∝ (inputs + outputs) / (inputs · outputs), for convolutions with
                    the sides of the kernel among summands and factors (ERK, Evci et al. 2020,
                    arXiv:1911.11134)
    (0.67, 0.19, 0.14)   given shares of the kept weights, in the order of the layers

A budget is a number of weights and is met exactly. It counts all weights of `prunable`, or
those that a method names.
"""

import numbers
from collections.abc import Iterable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from pruning.networks import masks
from pruning.networks.prunable import OWN, check_untied, prunable, selected

Allocation = Literal["global", "uniform", "erdos-renyi"]
Shares = Allocation | Sequence[float]
SHARES = get_args(Allocation)


def erdos_renyi(shapes: list[tuple[int, ...]], density: float) -> list[int]:
    """Connections of each layer, round(density · all) together, as in SET (arXiv:1707.04780,
    Eq. 1).

    A layer's density is ∝ (inputs + outputs) / (inputs · outputs), for convolutions with the
    kernel's sides among the summands and factors (RigL, arXiv:1911.11134), at most 1; what a
    full layer cannot take goes to the others. `shapes` are weight shapes, outputs first.
    Raises ValueError for a density outside (0, 1].
    """
    if not 0 < density <= 1:
        raise ValueError(f"density: got {density!r}, needs a number in (0, 1]")
    sizes = [int(torch.Size(shape).numel()) for shape in shapes]
    total = round(density * sum(sizes))
    weights = [float(sum(shape)) for shape in shapes]
    counts: dict[int, float] = {}
    while free := [i for i in range(len(sizes)) if i not in counts]:
        scale = (total - sum(counts.values())) / sum(weights[i] for i in free)
        full = {i: float(sizes[i]) for i in free if scale * weights[i] >= sizes[i]}
        counts |= full or {i: scale * weights[i] for i in free}
    whole = [int(counts[i]) for i in range(len(sizes))]
    by_remainder = sorted(range(len(sizes)), key=lambda i: whole[i] - counts[i])
    for i in by_remainder[: total - sum(whole)]:
        whole[i] += 1
    return whole


def by_layer(
    sizes: dict[str, torch.Size], weights: int, allocation: Shares = "global"
) -> dict[str, int] | int:
    """How many weights each layer keeps, {layer name: count}; for "global" the number for all.

    Parameters
    ----------
    sizes : shape of each layer's weight, outputs first, in the order of the layers.
    weights : how many are kept, from 1 to all.
    allocation : see the module's text. Given shares sum to 1; what a full layer cannot take
        goes to the others.

    Raises ValueError for a number of weights out of range, or an allocation of another kind,
    number or sum.
    """
    counts = [shape.numel() for shape in sizes.values()]
    whole = isinstance(weights, numbers.Integral) and not isinstance(weights, bool)
    if not (whole and 1 <= weights <= sum(counts)):
        raise ValueError(
            f"weights: got {weights!r}, needs a whole number from 1 to {sum(counts)}"
        )
    if isinstance(allocation, str):
        if allocation not in SHARES:
            raise ValueError(
                f"allocation: got {allocation!r}, needs one of {SHARES} or a share a layer"
            )
        if allocation == "global":
            return int(weights)
        if allocation == "erdos-renyi":
            kept = erdos_renyi([*map(tuple, sizes.values())], weights / sum(counts))
        else:
            kept = _split(weights, [count / sum(counts) for count in counts], counts)
    elif (
        len(allocation) != len(counts)
        or min(allocation) < 0
        or abs(sum(allocation) - 1) > 1e-6
    ):
        raise ValueError(
            f"allocation: got {tuple(allocation)}, needs {len(counts)}, none below 0, of sum 1"
        )
    else:
        kept = _split(weights, allocation, counts)
    return dict(zip(sizes, kept, strict=True))


def _split(weights: int, shares: Sequence[float], most: Sequence[int]) -> list[int]:
    """`weights` in proportion to the shares, at most `most` in each part, of the sum asked
    for."""
    exact = [min(weights * share, full) for share, full in zip(shares, most, strict=True)]
    parts = [int(part) for part in exact]
    # the largest remainders first, and again from the start where layers are full
    order = sorted(range(len(parts)), key=lambda i: parts[i] - exact[i])
    while sum(parts) < weights:
        for i in order:
            if parts[i] < most[i] and sum(parts) < weights:
                parts[i] += 1
    return parts


def largest(scores: dict[str, Tensor], kept: dict[str, int] | int) -> dict[str, Tensor]:
    """Masks that keep the weights with the largest scores, as many as `by_layer` says.

    Equal scores go in the order of layers and positions. Returns {layer name: boolean mask}.
    Raises ValueError for scores that are NaN.
    """
    if broken := [name for name, score in scores.items() if score.isnan().any()]:
        raise ValueError(
            f"model: what the weights of {broken} are ranked by is NaN, so there is no mask;"
            " the training diverged"
        )
    if isinstance(kept, dict):
        return {
            name: _top(score.flatten(), kept[name]).view_as(score)
            for name, score in scores.items()
        }
    together = _top(torch.cat([score.flatten() for score in scores.values()]), kept)
    parts = together.split([score.numel() for score in scores.values()])
    return {name: part.view_as(scores[name]) for name, part in zip(scores, parts, strict=True)}


def _top(score: Tensor, count: int) -> Tensor:
    """True at the `count` largest entries of a vector."""
    order = score.argsort(descending=True, stable=True)
    return torch.zeros_like(score, dtype=torch.bool).index_fill_(0, order[:count], True)


def owners(
    model: nn.Module, names: Iterable[str] | None = None, argument: str = "scores"
) -> dict[str, tuple[nn.Module, str]]:
    """The weights that a budget counts, in the order of the model: {key of `prunable`:
    (module, name of the parameter)}.

    names : keys to take; None takes all.
    argument : where they come from, for the error.

    Raises ValueError for an unknown name, for a model without such weights, and for weights
    that are gated or shared with another module.
    """
    known = {key: (module, parameter) for key, module, parameter in prunable(model)}
    if not known:
        raise ValueError(
            "model: has no weights to prune, needs Linear, convolution, attention or recurrent"
            " layers"
        )
    wanted = known.keys() if names is None else set(names)
    if unknown := sorted(wanted - known.keys()):
        raise ValueError(f"{argument}: got layer {unknown[0]!r}, needs some of {list(known)}")
    found = {key: owner for key, owner in known.items() if key in wanted}
    left_out = "" if names is None else f"leave both out of the {argument}, or "
    check_untied(model, found, left_out + OWN)
    masks.check_ungated(model, found)
    return found


def free(model: nn.Module) -> dict[str, tuple[nn.Module, str]]:
    """`owners` of all weights, for a parametrization of each that holds parameters of its own.

    Warns of parameters that look like weights and are not among them (see `selected`). Raises
    ValueError as `owners`, and for weights that are masked or parametrized already.
    """
    found = owners(model)
    for key, owner in found.items():
        masks.check_free(key, *owner)
    selected(model)
    return found


def sizes(
    model: nn.Module, names: Iterable[str] | None = None, argument: str = "scores"
) -> dict[str, torch.Size]:
    """The shapes of the weights of `owners`, which has the same parameters and errors."""
    found = owners(model, names, argument)
    return {key: masks.effective(*owner).shape for key, owner in found.items()}


@torch.no_grad()
def keep_largest(
    model: nn.Module, scores: dict[str, Tensor], kept: dict[str, int] | int
) -> nn.Module:
    """Mask a model so that the weights with the largest scores are kept, as many as `by_layer`
    says.

    What is pruned already stays pruned as long as enough weights are left (see `left`). In
    place; returns the model. Raises ValueError as `owners`, and where a count by layers is of
    other layers than the scores.
    """
    if isinstance(kept, dict) and kept.keys() != scores.keys():
        raise ValueError(f"scores: got layers {list(scores)}, needs {list(kept)}")
    found = owners(model, scores)
    alive = {
        name: score.masked_fill(~masks.mask_of(*found[name]), -torch.inf)
        for name, score in scores.items()
    }
    for name, keep in largest(alive, kept).items():
        module, parameter = found[name]
        masks.set_mask(module, keep, parameter)
    return model


def left(
    model: nn.Module, weights: dict[str, int] | int, names: Iterable[str] | None = None
) -> dict[str, int]:
    """How many weights of each layer the masks of a model keep, {key: count}.

    weights : what `by_layer` says is to be kept in the end.
    names : as in `owners`.

    Raises ValueError as `owners`, and where more is to be kept than is left.
    """
    found = {key: int(masks.kept(*owner).sum()) for key, owner in owners(model, names).items()}
    if isinstance(weights, int):
        if weights > (count := sum(found.values())):
            raise ValueError(
                f"weights: got {weights}, needs at most the {count} that are left"
            )
        return found
    for name, final in weights.items():
        if final > found[name]:
            raise ValueError(
                f"weights: got {final} for layer {name!r}, needs at most the {found[name]}"
                " that are left; see allocation="
            )
    return found


def descending(full: dict[str, int], final: dict[str, int] | int, rounds: int) -> list:
    """What is kept after each of `rounds` rounds that remove equal fractions: all · (weights /
    all)^(k / n).

    full : how many weights each layer has at the start, those that are pruned not among them.
    final : how many are kept at the end, as `by_layer` says.
    """

    def at(full: int, last: int, k: int) -> int:
        return round(full * (last / full) ** (k / rounds))

    if isinstance(final, int):
        return [at(sum(full.values()), final, k) for k in range(1, rounds + 1)]
    return [
        {name: at(full[name], last, k) if last else 0 for name, last in final.items()}
        for k in range(1, rounds + 1)
    ]
