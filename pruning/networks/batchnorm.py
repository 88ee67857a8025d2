"""Batch norm in evaluation mode, y = s ⊙ x + t with s = γ / σ and t = β − s ⊙ μ, written into
the layer before it or, in a table of features, into the Linear layer after it."""

import torch
from torch import Tensor, fx

from pruning.networks.graph import Graph
from pruning.networks.operations import (
    BATCH_NORM,
    LAYERS,
    TRANSPOSED,
    argument,
    aten,
    operation,
)


def fold_batch_norm(graph: Graph, copies: bool = False) -> None:
    """Write batch norm into a neighbouring layer, where nothing else reads what lies between.

    Before it, a layer of which it normalises the outputs: s ⊙ (W x + b) + t has the weights
    s ⊙ W and the bias s ⊙ b + t. After it, a Linear layer on (batch, features):
    W (s ⊙ x + t) + b has the weights W ⊙ s and the bias W t + b. A layer whose weights are
    used elsewhere too needs a copy of them, and is left alone without `copies`.
    """
    for node in list(graph.nodes.nodes):
        if operation(node) not in BATCH_NORM or _computed(graph, node.args[1:5]):
            continue
        if operation(node) is aten.batch_norm and node.args[5]:
            continue
        source, reader = node.args[0], _only_reader(node)
        table = _is_table(node)
        before = operation(source) in LAYERS and len(source.users) == 1
        # of a Linear layer on (batch, tokens, features) it normalises the tokens
        before = before and table == (operation(source) is aten.linear)
        after = reader is not None and operation(reader) is aten.linear and table
        if before and _alone(graph, source, copies):
            _into_layer_before(graph, node, source)
        elif after and _alone(graph, reader, copies):
            _into_linear_after(graph, node, reader)


def _alone(graph: Graph, layer: fx.Node, copies: bool) -> bool:
    """Whether a layer has weights to write into, which are not computed, and, without
    `copies`, nothing else uses."""
    return not _computed(graph, layer.args[1:3]) and (copies or len(layer.args[1].users) == 1)


def _computed(graph: Graph, arguments: tuple) -> bool:
    """Whether one of them is computed, so that there is no tensor to write into."""
    return any(each is not None and each not in graph.tensors for each in arguments)


def _only_reader(node: fx.Node) -> fx.Node | None:
    """What alone reads the result of batch norm, as its input."""
    readers = list(node.users)
    if is_tuple(node):
        readers = [reader for user in node.users for reader in user.users]
    return readers[0] if len(readers) == 1 else None


def _is_table(node: fx.Node) -> bool:
    """Whether the input of batch norm is (batch, features)."""
    value = node.args[0].meta.get("val", node.args[0].meta.get("tensor_meta"))
    return value is not None and len(value.shape) == 2


def _scale_and_shift(graph: Graph, node: fx.Node) -> tuple[Tensor, Tensor]:
    """s and t."""
    gamma, beta, mean, variance = (
        None if each is None else graph.tensors[each][1] for each in node.args[1:5]
    )
    eps = node.args[-1 if operation(node) is not aten.batch_norm else 7]
    scale = (variance + eps).rsqrt()
    scale = scale if gamma is None else scale * gamma
    return scale, (0.0 if beta is None else beta) - scale * mean


def _weight_and_bias(graph: Graph, layer: fx.Node) -> tuple[str, Tensor, Tensor | float]:
    name, weight = graph.tensors[layer.args[1]]
    held = layer.args[2] if len(layer.args) > 2 else None
    return name, weight, 0.0 if held is None else graph.tensors[held][1]


def _into_layer_before(graph: Graph, node: fx.Node, layer: fx.Node) -> None:
    scale, shift = _scale_and_shift(graph, node)
    name, weight, bias = _weight_and_bias(graph, layer)
    if operation(layer) in TRANSPOSED:
        groups = argument(layer, "groups", 1)
        shaped = scale.view(groups, 1, -1, *[1] * (weight.dim() - 2))
        weight = (weight.view(groups, -1, *weight.shape[1:]) * shaped).view_as(weight)
    else:
        weight = weight * scale.view(-1, *[1] * (weight.dim() - 1))
    _replace(graph, node, layer, layer, (name, weight, scale * bias + shift))


def _into_linear_after(graph: Graph, node: fx.Node, layer: fx.Node) -> None:
    scale, shift = _scale_and_shift(graph, node)
    name, weight, bias = _weight_and_bias(graph, layer)
    folded = name, weight * scale, torch.mv(weight, shift) + bias
    _replace(graph, node, node.args[0], layer, folded)


def _replace(
    graph: Graph,
    node: fx.Node,
    instead: fx.Node,
    layer: fx.Node,
    folded: tuple[str, Tensor, Tensor],
) -> None:
    """Give the layer its new weight and bias, and take batch norm out of the graph."""
    name, weight, bias = folded
    with graph.nodes.inserting_before(next(iter(graph.nodes.nodes))):
        new = [graph.nodes.placeholder(f"{node.name}_{part}") for part in ("weight", "bias")]
    graph.tensors[new[0]] = name, weight
    graph.tensors[new[1]] = f"{name}_bias", bias
    parts = (*layer.args[1:3], *node.args[1:3])
    if any(graph.is_trained(part) for part in parts if part is not None):
        graph.trained.update(new)
    for user in list(node.users) if is_tuple(node) else [node]:
        user.replace_all_uses_with(instead)
        graph.nodes.erase_node(user)
    if is_tuple(node):
        graph.nodes.erase_node(node)
    layer.args = (layer.args[0], *new, *layer.args[3:])


def is_tuple(node: fx.Node) -> bool:
    """Whether batch norm comes with statistics of the batch."""
    return operation(node) is aten._native_batch_norm_legit_no_training
