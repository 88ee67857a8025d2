"""Drawings of networks and of maps of importance. Functions draw what they are given on
`ax`."""

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, SymLogNorm
from torch import Tensor

from pruning.networks.structure import ordered

AMOUNTS = "Blues"  # white is nothing, in either theme the colour of the page
# orange below 0, blue above, as on the page with the network to play with: told apart with
# every common colour blindness
SIGNED = LinearSegmentedColormap.from_list("signed", ["#a34404", "#dddddd", "#12578f"])


def living(connections: Sequence[Sequence[float]], widths: Sequence[int]) -> list[Tensor]:
    """Weights (outputs, inputs) of each layer from rows of (layer, input, output, weight),
    without those on no path from an input to an output."""
    found = [torch.zeros(o, i) for i, o in itertools.pairwise(widths)]
    for layer, i, o, weight in connections:
        found[int(layer)][int(o), int(i)] = weight
    reached = torch.ones(widths[0], dtype=torch.bool)
    for weight in found:
        weight[:, ~reached] = 0
        reached = (weight != 0).any(1)
    read = torch.ones(widths[-1], dtype=torch.bool)
    for weight in reversed(found):
        weight[~read] = 0
        read = (weight != 0).any(0)
    return found


def network(
    connections: Sequence[Sequence[float]],
    widths: Sequence[int],
    ax: Axes,
    inputs: Sequence[str] | None = None,
    outputs: Sequence[str] | None = None,
) -> Axes:
    """The living connections of a pruned network, inputs at the left, coloured by weight.

    `connections` are rows of (layer, input, output, weight). Neurons stand in the order that
    keeps paths apart (`structure.ordered`). Without names for the inputs only those that are
    connected are drawn.
    """
    matrices = living(connections, widths)
    orders = ordered(matrices)
    if inputs is None:
        used = (matrices[0] != 0).any(0)
        orders[0] = [i for i in orders[0] if used[i]]
    places = [
        {n: (k + 0.5) / max(1, len(order)) for k, n in enumerate(order)} for order in orders
    ]
    lines, weights = [], []
    for level, matrix in enumerate(matrices):
        for o, i in matrix.nonzero().tolist():
            lines.append(
                [(level, 1 - places[level][i]), (level + 1, 1 - places[level + 1][o])]
            )
            weights.append(matrix[o, i].item())
    weights = np.array(weights)
    most = np.abs(weights).max() if len(weights) else 1.0
    norm = SymLogNorm(linthresh=most / 20, vmin=-most, vmax=most)
    by_size = np.argsort(np.abs(weights))  # strong ones on top
    thin = 0.4 if len(lines) > 150 else 1.0
    drawn = LineCollection(
        [lines[k] for k in by_size],
        cmap=SIGNED,
        norm=norm,
        array=weights[by_size],
        linewidths=thin + 1.6 * np.sqrt(np.abs(weights[by_size]) / most),
    )
    ax.add_collection(drawn)
    for level, place in enumerate(places):
        size = 60 if len(place) < 30 else 8
        ax.scatter(
            [level] * len(place),
            [1 - y for y in place.values()],
            s=size,
            color="0.25",
            zorder=3,
        )
    for level, names, side in ((0, inputs, "right"), (len(places) - 1, outputs, "left")):
        for n, y in places[level].items() if names is not None else ():
            shift = -0.08 if side == "right" else 0.08
            ax.text(level + shift, 1 - y, names[n], ha=side, va="center", fontsize=12)
    ax.set_xlim(-0.35, len(places) - 0.65)
    ax.set_ylim(0, 1)
    ax.axis("off")
    bar = ax.figure.colorbar(drawn, ax=ax, label="weight", shrink=0.7)
    bar.set_ticks([-most, 0, most], labels=[f"−{most:.2g}", "0", f"{most:.2g}"])
    bar.minorticks_off()
    return ax


def importance_map(
    values: Sequence[float], shape: Sequence[int], ax: Axes, bar: bool = True
) -> Axes:
    """Importance of each pixel, in per cent of the whole: the darker the more, which the dark
    theme turns over."""
    drawn = ax.imshow(100 * np.array(values).reshape(shape), cmap=AMOUNTS, vmin=0)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.grid(False)
    ax.spines[:].set_visible(False)
    if bar:
        ax.figure.colorbar(drawn, ax=ax, label="importance (%)", shrink=0.75)
    return ax
