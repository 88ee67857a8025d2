"""Batch norm in evaluation mode, written into the layer before it."""

from torch import fx

from pruning.networks.graph import Graph
from pruning.networks.operations import (
    BATCH_NORM,
    LAYERS,
    TRANSPOSED,
    argument,
    aten,
    operation,
)


def fold_batch_norm(graph: Graph) -> None:
    """Write batch norm into the layer before it, where nothing else reads that layer:
    γ (W x + b − μ) / σ + β = (γ/σ) W x + (γ/σ) (b − μ) + β."""
    for node in list(graph.nodes.nodes):
        layer = node.args[0] if node.args else None
        if (
            operation(node) not in BATCH_NORM
            or operation(layer) not in LAYERS
            or len(layer.users) > 1
        ):
            continue
        held = [layer.args[1], *layer.args[2:3], *node.args[1:5]]
        if any(each is not None and each not in graph.tensors for each in held):
            continue
        if operation(node) is aten.batch_norm and node.args[5]:
            continue
        gamma, beta, mean, variance = (
            None if e is None else graph.tensors[e][1] for e in node.args[1:5]
        )
        name, weight = graph.tensors[layer.args[1]]
        bias = (
            graph.tensors[layer.args[2]][1]
            if len(layer.args) > 2 and layer.args[2] is not None
            else 0.0
        )
        scale = (
            variance + node.args[-1 if operation(node) is not aten.batch_norm else 7]
        ).rsqrt()
        scale = scale if gamma is None else scale * gamma
        bias = (bias - mean) * scale + (0.0 if beta is None else beta)
        if operation(layer) in TRANSPOSED:
            groups = argument(layer, "groups", 1)
            shaped = scale.view(groups, 1, -1, *[1] * (weight.dim() - 2))
            weight = (weight.view(groups, -1, *weight.shape[1:]) * shaped).view_as(weight)
        else:
            weight = weight * scale.view(-1, *[1] * (weight.dim() - 1))
        with graph.nodes.inserting_before(next(iter(graph.nodes.nodes))):
            folded = [
                graph.nodes.placeholder(f"{node.name}_{part}") for part in ("weight", "bias")
            ]
        graph.tensors[folded[0]] = name, weight
        graph.tensors[folded[1]] = f"{name}_bias", bias
        layer.args = (layer.args[0], *folded, *layer.args[3:])
        for user in list(node.users) if is_tuple(node) else [node]:
            user.replace_all_uses_with(layer)
            graph.nodes.erase_node(user)
        if is_tuple(node):
            graph.nodes.erase_node(node)


def is_tuple(node: fx.Node) -> bool:
    """Whether batch norm comes with statistics of the batch."""
    return operation(node) is aten._native_batch_norm_legit_no_training
