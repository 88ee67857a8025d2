"""The networks of the papers, as plain ``nn.Sequential``."""

import itertools
from collections.abc import Sequence

from torch import nn

ACTIVATIONS = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "silu": nn.SiLU, "gelu": nn.GELU}


def mlp(sizes: Sequence[int], activation: str = "relu") -> nn.Sequential:
    """Fully connected network, (batch, sizes[0]) ↦ (batch, sizes[-1]) logits.

    Parameters
    ----------
    sizes : features of each layer from input to output, at least two, e.g. (784, 300, 100, 10) for
        LeNet-300-100 (LeCun et al. 1998): 266,200 weights and 410 biases.
    activation : between the layers, one of `ACTIVATIONS`.

    Raises ValueError for fewer than two sizes, a size below 1, or an unknown activation.
    """
    if len(sizes) < 2 or any(size < 1 for size in sizes):
        raise ValueError(f"sizes: got {tuple(sizes)!r}, needs two or more positive integers")
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation: got {activation!r}, needs one of {sorted(ACTIVATIONS)}")
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers[:-1])


def weight_count(sizes: Sequence[int]) -> int:
    """Weights of `mlp(sizes)` without biases."""
    return sum(i * o for i, o in itertools.pairwise(sizes))


def narrow_sizes(sizes: Sequence[int], weights: int) -> tuple[int, ...] | None:
    """The hidden widths, scaled down alike, at which a dense network has at most `weights` weights.

    The fully connected network "trained at that size" of arXiv:2311.12526, Fig 2b. Hidden layers after
    the first keep at least as many neurons as there are outputs: they cost little, and a narrower
    bottleneck would handicap the network. Returns None where even one first neuron takes more weights.
    """
    best = None
    for width in range(1, sizes[1] + 1):
        scaled = (
            sizes[0],
            width,
            *(max(min(h, sizes[-1]), round(h * width / sizes[1])) for h in sizes[2:-1]),
            sizes[-1],
        )
        if weight_count(scaled) <= weights:
            best = scaled
    return best
