"""Which parts of a sparse network are kept, and which are drawn anew, before retraining.

An arm maps the masks of a network, one (outputs, inputs) a layer, to masks with as many
weights in every layer. Ordered by how much of the wiring it keeps:

    mask      all of it
    degrees   how many connections every pixel and neuron has, in and out
    inputs    how many inputs every neuron has; they are drawn from what the network reads
    paths     how many neurons live; every connection lies on a path
    layers    how many connections each layer has
    pixels    all of it, but the pixels change places
"""

import numpy as np
import torch
from torch import Tensor

Masks = list[Tensor]
RNG = np.random.Generator


def mask(masks: Masks, varying: Tensor, rng: RNG) -> Masks:
    """The wiring as it is."""
    return masks


def pixels(masks: Masks, varying: Tensor, rng: RNG) -> Masks:
    """The pixels that vary change places at random."""
    places = varying.nonzero().flatten()
    moved = masks[0].clone()
    moved[:, places] = masks[0][:, places[torch.from_numpy(rng.permutation(len(places)))]]
    return [moved, *masks[1:]]


def degrees(masks: Masks, varying: Tensor, rng: RNG, swaps: int = 20) -> Masks:
    """Pairs of connections of a layer swap their ends, `swaps` times as often as there are
    connections."""
    return [_swapped(layer, rng, swaps) for layer in masks]


def _swapped(layer: Tensor, rng: RNG, swaps: int) -> Tensor:
    edges = layer.nonzero().tolist()
    present = set(map(tuple, edges))
    for _ in range(swaps * len(edges)):
        a, b = rng.integers(len(edges), size=2)
        (o, i), (p, j) = edges[a], edges[b]
        if (o, j) in present or (p, i) in present:
            continue  # also where both are one, or share an end
        present -= {(o, i), (p, j)}
        present |= {(o, j), (p, i)}
        edges[a], edges[b] = [o, j], [p, i]
    return _layer(edges, layer)


def inputs(masks: Masks, varying: Tensor, rng: RNG) -> Masks:
    """Each neuron keeps its number of inputs and draws them among those that its layer
    reads."""
    drawn = []
    for layer in masks:
        read = layer.any(0).nonzero().flatten().numpy()
        edges = [
            (o, i)
            for o, count in enumerate(layer.sum(1).tolist())
            for i in rng.choice(read, count, replace=False)
        ]
        drawn.append(_layer(edges, layer))
    return drawn


def paths(masks: Masks, varying: Tensor, rng: RNG) -> Masks:
    """Random wirings of as many living neurons, in which every connection lies on a path."""
    below, drawn = varying.nonzero().flatten().numpy(), []
    for level, layer in enumerate(masks):
        above = layer.any(1).nonzero().flatten().numpy()  # which ones makes no difference
        count, edges = int(layer.sum()), {(o, rng.choice(below)) for o in above}
        unread = set(below.tolist()) - {i for _, i in edges} if level else set()
        edges |= {(rng.choice(above), i) for i in unread}
        while len(edges) < count:
            edges.add((rng.choice(above), rng.choice(below)))
        drawn.append(_layer(edges, layer))
        below = above
    return drawn


def layers(masks: Masks, varying: Tensor, rng: RNG) -> Masks:
    """Each layer's connections go to random places; the first layer's to pixels that vary."""
    drawn = []
    for level, layer in enumerate(masks):
        allowed = varying.expand_as(layer) if level == 0 else torch.ones_like(layer)
        places = allowed.flatten().nonzero().flatten().numpy()
        chosen = torch.zeros(layer.numel(), dtype=torch.bool)
        chosen[torch.from_numpy(rng.choice(places, int(layer.sum()), replace=False))] = True
        drawn.append(chosen.view_as(layer))
    return drawn


def _layer(edges, like: Tensor) -> Tensor:
    """A mask from pairs (output, input)."""
    made = torch.zeros_like(like)
    rows, columns = torch.tensor([[int(o), int(i)] for o, i in edges]).T
    made[rows, columns] = True
    return made
