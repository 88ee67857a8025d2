"""Labels on the entries of every tensor: which of them can only be cut out together.

A layer gives each of its output channels a new label; operations that keep channels apart pass
labels on; where tensors are added or multiplied entry by entry, labels that meet become one.
What mixes channels (normalisation over features, softmax, attention, products of activations)
makes the labels of its arguments stay. So the channels of a residual sum stay if any branch
needs them."""

import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor, fx

from pruning.networks.graph import Graph
from pruning.networks.operations import (
    BATCH_NORM,
    LAYERS,
    NEAREST,
    PRODUCTS,
    REDUCTIONS,
    WHOLE_WINDOWS,
    WINDOWS,
    argument,
    aten,
    entry_by_entry,
    is_getitem,
    moved,
    mover,
    nodes_in,
    operation,
    replaced,
    spatial_dimensions,
)
from pruning.networks.reach import Reach

STAYS = torch.tensor(0)  # the label of what cannot be cut


def static_nodes(graph: Graph) -> set[fx.Node]:
    """Nodes that are computed from parameters alone, so that their values can be stored."""
    found = set(graph.tensors)
    for node in graph.nodes.nodes:
        arguments = [*nodes_in([*node.args, *node.kwargs.values()])]
        if node.op == "get_attr" or (
            node.op == "call_function" and all(e in found for e in arguments)
        ):
            found.add(node)
    return found


class Labels:
    """The label of every entry (`of`, by node) and the class of every label (`classes`)."""

    def __init__(self, graph: Graph, reach: Reach, static: set[fx.Node]):
        self.of: dict[fx.Node, object] = {}
        self._count = 1
        self._pairs = [torch.zeros(2, 1, dtype=torch.long)]
        self._reach, self._static = reach, static
        for node in graph.nodes.nodes:
            value = reach.values.get(node)
            if node in static or not isinstance(value, (Tensor, tuple)):
                continue
            if node in graph.examples:
                columns = value.dim() == 2 and value.is_floating_point()
                self.of[node] = self._new(value.shape, 1) if columns else _stay(value)
            else:
                self.of[node] = self._label(node, value)
        for node in graph.results:
            if node in self.of:
                self._join(self.of[node], STAYS)
        pairs = torch.cat(self._pairs, dim=1).numpy()
        shape = (self._count, self._count)
        joined = coo_matrix((pairs[0] >= 0, (pairs[0], pairs[1])), shape=shape)
        self.classes = torch.as_tensor(connected_components(joined, directed=False)[1]).long()

    def _new(self, shape: tuple[int, ...], dim: int) -> Tensor:
        """A new label for each place along a dimension."""
        labels = torch.arange(self._count, self._count + shape[dim])
        self._count += shape[dim]
        return labels.view(-1, *[1] * (len(shape) - dim - 1)).expand(shape)

    def _join(self, a: Tensor, b: Tensor) -> None:
        """The labels of a and b, entry by entry, become one."""
        pairs = torch.stack(torch.broadcast_tensors(a, b)).reshape(2, -1)
        self._pairs.append(pairs.unique(dim=1))

    def _one(self, labels: Tensor, dims: int, or_stay: bool = False) -> Tensor:
        """One label for the last `dims` dimensions; where there are several, they are joined,
        or stay."""
        flat = labels.flatten(-dims)
        several = (flat != flat[..., :1]).any(-1)
        if several.any():
            self._join(flat[several], STAYS if or_stay else flat[several][:, :1])
        return flat[..., 0]

    def channels(self, labels: Tensor, dim: int) -> Tensor:
        """The label of each channel along a dimension, (channels,)."""
        return self._one(labels.movedim(dim, 0).flatten(1), 1)

    def _label(self, node: fx.Node, value: object) -> object:
        kind = operation(node)
        if is_getitem(node):
            return self.of[node.args[0]][node.args[1]]
        labels = [
            self.of[each]
            for each in nodes_in(node.args)
            if isinstance(self.of.get(each), Tensor)
        ]
        if kind in LAYERS and node.args[1] in self._static and labels:
            return self._layer(node, labels[0], value)
        if kind in BATCH_NORM:
            return (
                (labels[0], *map(_stay, value[1:])) if isinstance(value, tuple) else labels[0]
            )
        if kind in WINDOWS | WHOLE_WINDOWS:
            one = self._one(labels[0], dims := spatial_dimensions(node), or_stay=True)
            first = value[0] if isinstance(value, tuple) else value
            one = one.view(*one.shape, *[1] * dims).expand(first.shape)
            return (one, *map(_stay, value[1:])) if isinstance(value, tuple) else one
        if kind in REDUCTIONS and isinstance(value, Tensor) and argument(node, "dim"):
            return self._reduction(node, labels[0])
        if kind in {aten.pad, aten.constant_pad_nd}:
            return self._padded(node, labels[0])
        if moved(node) and kind is not aten.index:
            if kind in NEAREST:  # torch has these for floating point numbers alone
                return mover(node)(labels[0].double(), *node.args[1:]).long()
            return mover(node)(*replaced(node, self._labels_or_value))
        if (entry_by_entry(node) or kind in PRODUCTS) and labels and isinstance(value, Tensor):
            first, *others = (each.expand(value.shape) for each in labels)
            for each in others:
                self._join(first, each)
            return first
        for each in labels:
            self._join(each, STAYS)
        return tuple(map(_stay, value)) if isinstance(value, tuple) else _stay(value)

    def _labels_or_value(self, node: fx.Node) -> object:
        value = self._reach.values[node]
        return self.of.get(node, _stay(value) if isinstance(value, Tensor) else value)

    def _layer(self, node: fx.Node, labels: Tensor, value: Tensor) -> Tensor:
        """New labels for the outputs; the channels of a group go together."""
        dim = (
            value.dim()
            - 1
            - (0 if operation(node) is aten.linear else spatial_dimensions(node))
        )
        inputs, outputs = self.channels(labels, dim), self._new(value.shape, dim)
        groups = argument(node, "groups", 1)
        if groups > 1:
            grouped = inputs.view(groups, -1)
            self._join(grouped, grouped[:, :1])
            self._join(self.channels(outputs, dim).view(groups, -1), grouped[:, :1])
        return outputs

    def _reduction(self, node: fx.Node, labels: Tensor) -> Tensor:
        dims = argument(node, "dim")
        dims = sorted(
            d % labels.dim() for d in (dims if isinstance(dims, (list, tuple)) else [dims])
        )
        last = labels.movedim(dims, list(range(labels.dim() - len(dims), labels.dim())))
        one = self._one(last, len(dims), or_stay=True)
        for dim in dims if argument(node, "keepdim") else ():
            one = one.unsqueeze(dim)
        return one

    def _padded(self, node: fx.Node, labels: Tensor) -> Tensor:
        """Padding around a channel belongs to it; channels that are added get new labels."""
        pads = list(node.args[1])
        constant = (
            operation(node) is aten.constant_pad_nd
            or argument(node, "mode", "constant") == "constant"
        )
        for position in range(len(pads) // 2):
            dim = labels.dim() - 1 - position
            edge, pieces = labels.narrow(dim, 0, 1), []
            inside = bool((labels == edge).all())
            if min(pads) < 0 or not (inside or constant):
                self._join(labels, STAYS)
            for size in pads[2 * position : 2 * position + 2]:
                shape = (*labels.shape[:dim], max(size, 0), *labels.shape[dim + 1 :])
                pieces.append(edge.expand(shape) if inside else self._new(shape, dim))
            labels = torch.cat([pieces[0], labels, pieces[1]], dim)
        if labels.shape != self._reach.values[node].shape:
            return _stay(self._reach.values[node])
        return labels


def _stay(value: Tensor) -> Tensor:
    return STAYS.expand(value.shape)
