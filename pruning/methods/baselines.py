"""What a learned mask must beat at the same number of weights (Fig 2a of arXiv:2311.12526).

random  weights deleted at random, over the whole network, before training; the structure stays
random_paths  the same, but every weight that stays lies on a path from an input to an output
dense   a fully connected network of that size: its hidden layers are narrowed until the
weights fit
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from pruning.bounds import Fraction, Rate
from pruning.methods import scores, shares
from pruning.networks import models
from pruning.networks.masks import kept, set_mask
from pruning.networks.prunable import selected
from pruning.training.recipes import (
    Adam,
    HoldThenCosine,
    Method,
    Phase,
    Problem,
    alike,
    setting,
)


@dataclass(frozen=True)
class Settings:
    """Chosen on validation splits."""

    finetune_lr: Rate = setting(3e-3, "learning rate")
    descent: Fraction = setting(
        0.5, "fraction of the epochs after which the learning rate falls"
    )


@dataclass(frozen=True)
class RandomSettings:
    """Chosen on validation splits."""

    finetune_lr: Rate = setting(3e-3, "learning rate")
    descent: Fraction = setting(
        0.5, "fraction of the epochs after which the learning rate falls"
    )
    allocation: tuple[Fraction, ...] = setting(
        (), "share of the kept weights of each layer; (): any weights of the network"
    )


def delete_at_random(model: nn.Module, density: float) -> None:
    """Mask all but the fraction `density` of the weights of `pruning.prunable`, chosen at
    random.

    Weights that are pruned already go first. Warns of parameters that look like weights and
    are not among them. Raises ValueError for a density outside [0, 1] and for more weights
    than are left.
    """
    if not 0 <= density <= 1:
        raise ValueError(f"density: got {density!r}, needs a number in [0, 1]")
    found = shares.owners(model)
    selected(model)
    sizes = shares.sizes(model)
    counts = [size.numel() for size in sizes.values()]
    weights = round(density * sum(counts))
    shares.left(model, weights)
    removed = sum(counts) - weights
    alive = torch.cat([kept(*owner).cpu().flatten() for owner in found.values()])
    keep = torch.full((sum(counts),), True)
    if removed:
        drawn = torch.rand(sum(counts)).masked_fill(~alive, torch.inf)
        keep[drawn.topk(removed).indices] = False
    parts = zip(found.values(), sizes.values(), keep.split(counts), strict=True)
    for (module, parameter), size, part in parts:
        set_mask(module, part.view(size), parameter)


def random_paths(sizes: Sequence[int], weights: int) -> list[torch.Tensor]:
    """Masks of a random network in which each of the `weights` connections lies on a path.

    Paths are drawn uniformly, neuron by neuron, and joined until no further one fits; what is
    left goes to connections between neurons that a path reaches already.

    Returns a boolean mask (outputs, inputs) a layer. Raises ValueError where not one path
    fits.
    """
    depth = len(sizes) - 1
    if weights < depth:
        raise ValueError(
            f"weights: got {weights}, needs {depth} or more, one a layer of a path"
        )
    masks = [torch.zeros(o, i, dtype=torch.bool) for i, o in itertools.pairwise(sizes)]
    kept = 0
    while True:
        nodes = [int(torch.randint(size, ())) for size in sizes]
        edges = list(zip(masks, itertools.pairwise(nodes), strict=True))
        added = sum(not mask[o, i] for mask, (i, o) in edges)
        if kept + added > weights or kept == sum(mask.numel() for mask in masks):
            break
        for mask, (i, o) in edges:
            mask[o, i] = True
        kept += added
    reached = [masks[0].any(0), *(mask.any(1) for mask in masks)]
    free = [
        reached[level + 1][:, None] & reached[level] & ~mask
        for level, mask in enumerate(masks)
    ]
    places = [
        (level, *place) for level, part in enumerate(free) for place in part.nonzero().tolist()
    ]
    for chosen in torch.randperm(len(places))[: weights - kept].tolist():
        level, o, i = places[chosen]
        masks[level][o, i] = True
    return masks


def keep_random_paths(model: nn.Sequential, weights: int) -> None:
    """Put the masks of `random_paths` on a chain of Linear layers."""
    layers = [layer for layer in model if isinstance(layer, nn.Linear)]
    sizes = [layers[0].in_features, *(layer.out_features for layer in layers)]
    for layer, mask in zip(layers, random_paths(sizes, weights), strict=True):
        set_mask(layer, mask)


def random_paths_phases(settings: Settings, problem: Problem) -> list[Phase]:
    """Paths are drawn, then one training of their weights."""
    schedule = HoldThenCosine(settings.descent)
    keep = partial(keep_random_paths, weights=problem.weights)
    return [Phase(problem.all_epochs, Adam(settings.finetune_lr), schedule, before=keep)]


def dense_phases(settings: Settings, problem: Problem) -> list[Phase]:
    """One training of all weights."""
    return [
        Phase(problem.all_epochs, Adam(settings.finetune_lr), HoldThenCosine(settings.descent))
    ]


def delete_by_layer(
    model: nn.Module, weights: int, allocation: tuple[float, ...]
) -> nn.Module:
    """Mask all but `weights` weights chosen at random, of each layer its share."""
    kept = shares.by_layer(shares.sizes(model), weights, allocation)
    return shares.keep_largest(model, scores.random_scores(model), kept)


def random_phases(settings: RandomSettings, problem: Problem) -> list[Phase]:
    """Deletion, then one training of what is left."""
    schedule = HoldThenCosine(settings.descent)
    deletion = partial(delete_at_random, density=problem.density)
    if settings.allocation:
        deletion = partial(
            delete_by_layer, weights=problem.weights, allocation=settings.allocation
        )
    return [Phase(problem.all_epochs, Adam(settings.finetune_lr), schedule, before=deletion)]


def narrow(sizes: tuple[int, ...], density: float) -> tuple[int, ...]:
    """The sizes of the narrowed network. Raises ValueError where not even one neuron fits."""
    found = models.narrow_sizes(sizes, round(density * models.weight_count(sizes)))
    if found is None:
        raise ValueError(f"density: got {density}, no dense network {sizes} is that small")
    return found


RANDOM = Method(
    "random",
    RandomSettings,
    random_phases,
    label="random deletion, fixed structure",
    short="random deletion",
    colour="#b87400",
    marker="^",
    stack=alike(random_phases),
)
RANDOM_PATHS = Method(
    "random_paths",
    Settings,
    random_paths_phases,
    label="random paths, fixed structure",
    short="random paths",
    colour="#c44e52",
    marker="8",
    stack=alike(random_paths_phases),
)
DENSE = Method(
    "dense",
    Settings,
    dense_phases,
    label="fully connected net of that size",
    short="dense",
    colour="#029e73",
    marker="D",
    sizes=narrow,
    stack=alike(dense_phases),
)
