"""The structure of a pruned chain of Linear layers: which inputs reach which outputs, and how
alike two inputs are connected. For the statements of arXiv:2311.12526 on pathways (Fig 4),
each as a number."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pruning.networks.chain import graph_of, linear_nodes
from pruning.networks.importance import absolute_weights
from pruning.networks.masks import effective, masks
from pruning.networks.reach import reach


def connections(model: nn.Module) -> list[list[float]]:
    """The kept weights of a chain of Linear layers, rows of (layer, input, output, weight)."""
    rows = []
    kept = masks(model)
    for level, (name, mask) in enumerate(kept.items()):
        weight = effective(model.get_submodule(name))
        rows += [
            [level, i, o, round(weight[o, i].item(), 5)] for o, i in mask.nonzero().tolist()
        ]
    return rows


def reaches(model: nn.Module, example_inputs: Tensor | None = None) -> Tensor:
    """Which outputs a path of kept weights joins to which inputs: boolean, (outputs, inputs).

    Inputs and outputs of another shape than (batch, features) are flattened. `example_inputs`
    and errors are those of `pruning.effective_weights`, for a model with one input and one
    output."""
    graph = graph_of(model, example_inputs)
    (example,), (output,) = graph.examples.values(), graph.results
    features = example[0].numel()
    sources = torch.eye(features, device=example.device).view(features, *example.shape[1:])
    return reach(graph, sources=sources).depends[output].flatten(1).T


def symmetry(model: nn.Module, a: int, b: int) -> float:
    """How alike inputs `a` and `b` are connected to the first hidden layer, in [0, 1].

    Σ_h min(|w_ha|, |w_hb|) / Σ_h max(|w_ha|, |w_hb|) over its neurons h that reach an output:
    1 where both feed the same neurons with equal strength, 0 where they share none. 0 as well
    where neither is connected."""
    first, graph = absolute_weights(model)[0], graph_of(model)
    read = reach(graph).read[linear_nodes(graph)[0]].any(0)
    if not (0 <= a < first.shape[1] and 0 <= b < first.shape[1]):
        raise ValueError(f"a, b: got {a}, {b}, needs inputs from 0 to {first.shape[1] - 1}")
    x, y = (first[read][:, i] for i in (a, b))
    most = torch.maximum(x, y).sum()
    return (torch.minimum(x, y).sum() / most).item() if most > 0 else 0.0


def ordered(matrices: Sequence[Tensor], rounds: int = 20) -> list[list[int]]:
    """An order of every layer's living neurons that keeps connections short and crossings few.

    `matrices` are weights (outputs, inputs) with 0 where nothing is connected; returned are
    the positions of inputs, of each hidden layer, and of outputs, top to bottom. Inputs and
    outputs keep their order; hidden neurons go, sweep by sweep, to the barycentre of what they
    are connected to (Sugiyama et al. 1981)."""
    sizes = [matrix.detach().abs().double() for matrix in matrices]
    widths = [sizes[0].shape[1], *(len(size) for size in sizes)]
    height = [(torch.arange(n, dtype=torch.float64) + 0.5) / n for n in widths]
    for _ in range(rounds):
        for level in range(1, len(widths) - 1):
            incoming, outgoing = (sizes[level - 1] > 0).double(), (sizes[level] > 0).double()
            pull = incoming @ height[level - 1] + outgoing.T @ height[level + 1]
            count = incoming.sum(1) + outgoing.sum(0)
            at = torch.where(
                count > 0, pull / count.clamp_min(1), 2.0
            )  # the dead go to the end
            living = max(1, int((count > 0).sum()))
            places = (torch.arange(len(at), dtype=torch.float64) + 0.5) / living
            height[level] = torch.empty_like(at).scatter_(0, at.argsort(stable=True), places)
    orders = []
    for level, n in enumerate(widths):
        connected = torch.zeros(n, dtype=torch.bool)
        if level:
            connected |= (sizes[level - 1] > 0).any(1)
        if level < len(sizes):
            connected |= (sizes[level] > 0).any(0)
        keep = (
            range(n)
            if level in (0, len(widths) - 1)
            else connected.nonzero().flatten().tolist()
        )
        orders.append(sorted(keep, key=lambda i, level=level: height[level][i].item()))
    return orders
