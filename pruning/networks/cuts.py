"""Which channels of a traced model can be cut out, so that what is left computes the same.

A class of labels (`pruning.networks.labels`) is needed if one of its entries changes with the
inputs and is read by an output (`pruning.networks.reach`). The other classes hold constants,
or what nothing reads. The layers that read a constant take it over: into their bias, or, where
zero padding makes the constant end at the border, into their weights for one constant channel
that stays in place of all of them. A class whose constants no layer can take over stays, and
so does one that could only be cut by an operation whose arguments cannot follow."""

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from pruning.networks.graph import Graph, varies
from pruning.networks.labels import Labels, static_nodes
from pruning.networks.operations import (
    LAYERS,
    NEAREST,
    TRANSPOSED,
    argument,
    aten,
    nodes_in,
    operation,
    spatial_dimensions,
)
from pruning.networks.reach import Reach


@dataclass
class Cut:
    """What stays of one tensor: places along one dimension."""

    dim: int
    keep: Tensor  # boolean, (places,)


@dataclass
class Fold:
    """The constants that a layer takes over from its inputs that are cut."""

    keep: Tensor  # inputs that stay, boolean, (inputs,)
    constants: Tensor  # of the inputs that are cut, (inputs,), 0 for the others
    carrier: (
        int | None
    )  # the constant input that takes them over, by place; None: the bias does


def shared_weights(graph: Graph) -> set[fx.Node]:
    """The weights of layers that several operations use: layers, or an embedding."""
    weights = {
        node.args[1]
        for node in graph.nodes.nodes
        if node.op == "call_function" and operation(node) in LAYERS
    }
    return {weight for weight in weights if len(weight.users) > 1}


def _is_fixed(node: fx.Node, dim: int) -> bool:
    """Whether a dimension has the same size for any number of samples."""
    value = node.meta.get("val")
    return not isinstance(value, Tensor) or not varies(value.shape[dim])


class Cuts:
    """What is cut, by node: `kept` of each tensor that gets smaller, `folds` of each layer.
    Layers with the weights `whole` keep all their inputs and outputs."""

    def __init__(
        self,
        graph: Graph,
        reach: Reach,
        select: bool = True,
        whole: Collection[fx.Node] = (),
    ):
        self.static = static_nodes(graph)
        self._reach = reach
        labels = Labels(graph, reach, self.static)
        tensors = {node: each for node, each in labels.of.items() if isinstance(each, Tensor)}
        self._classes = {node: labels.classes[each] for node, each in tensors.items()}
        self._needed = torch.zeros(int(labels.classes.max()) + 1, dtype=torch.bool)
        self._needed[labels.classes[0]] = True  # the label that stays
        for node, classes in self._classes.items():
            alive = reach.depends[node] & reach.read[node]
            if not select and node in graph.examples:
                alive = torch.ones_like(alive)
            self._needed[classes[alive.cpu()]] = True
        self.kept: dict[fx.Node, Cut] = {}
        self.folds: dict[fx.Node, Fold] = {}
        layers = [
            node
            for node in tensors
            if operation(node) in LAYERS and node.args[1] in self.static
        ]
        for node in layers:
            if node.args[1] in whole:
                for each in tensors.keys() & {node, node.args[0]}:
                    self._keep(each)
        settled = False
        while not settled:
            before = int(self._needed.sum())
            self.folds = {node: self._fold(node) for node in layers if node.args[0] in tensors}
            self.kept = {node: cut for node in tensors if (cut := self._cut(node)) is not None}
            for node in labels.of:
                if (
                    node.op == "call_function"
                    and adjusted(node, self.kept, self._reach) is None
                ):
                    for each in tensors.keys() & {node, *nodes_in(node.args)}:
                        self._keep(each)
            settled = int(self._needed.sum()) == before

    def _keep(self, node: fx.Node) -> None:
        self._needed[self._classes[node].unique()] = True

    def _cut(self, node: fx.Node) -> Cut | None:
        """Where a tensor is cut; a class that would not leave a whole tensor is kept."""
        gone = ~self._needed[self._classes[node]]
        if not gone.any():
            return None
        if gone.all() and gone.dim() > 2:  # convolutions need a channel
            self._needed[self._classes[node].flatten()[0]] = True
            return None
        for dim in reversed(range(gone.dim())):
            if not _is_fixed(node, dim):  # the batch, alone or as a part
                continue
            places = gone.movedim(dim, 0).reshape(gone.shape[dim], -1)
            if (places == places[:, :1]).all():
                return Cut(dim, ~places[:, 0])
        self._needed[self._classes[node][gone].unique()] = True
        return None

    def _fold(self, node: fx.Node) -> Fold:
        """What the layer takes over; inputs whose constants it cannot take over are kept."""
        source, kind = node.args[0], operation(node)
        value, read = self._reach.values[source], self._reach.read[source]
        dim = value.dim() - 1 - (0 if kind is aten.linear else spatial_dimensions(node))
        classes = self._classes[source].movedim(dim, 0).flatten(1)[:, 0]
        value, read = (each.movedim(dim, 0).flatten(1) for each in (value, read))
        keep = self._needed[classes].to(value.device)
        low = value.masked_fill(~read, float("inf")).amin(1)
        high = value.masked_fill(~read, float("-inf")).amax(1)
        unread = ~read.any(1)
        varies = (high - low > 1e-6 * high.abs().clamp_min(1)) & ~unread
        varies |= (self._reach.depends[source].movedim(dim, 0).flatten(1) & read).any(1)
        constants = torch.where(unread, 0.0, low)
        grouped = (
            argument(node, "groups", 1) > 1
        )  # whole groups go: their constants reach no group that stays
        constants = torch.zeros_like(constants) if grouped else constants
        lost = ~keep & varies
        if kind in TRANSPOSED:
            lost |= ~keep & (constants != 0)
        carrier = None
        taken = ~keep & (constants != 0) & ~lost
        if taken.any() and _padded(node):
            steady = keep & ~varies & ~unread & (constants != 0)
            carrier = int(steady.nonzero()[0]) if steady.any() else None
            if carrier is None:
                lost |= taken & (
                    taken.cumsum(0) == 1
                )  # the first stays and carries the others
        self._needed[classes[lost.cpu()]] = True
        return Fold(keep, torch.where(keep, 0.0, constants), carrier)


def _padded(node: fx.Node) -> bool:
    """Whether a layer pads its input with zeros."""
    padding = argument(node, "padding", 0)
    if isinstance(padding, str):
        return padding != "valid"
    return operation(node) is not aten.linear and any(
        [*padding] if isinstance(padding, (list, tuple)) else [padding]
    )


def adjusted(node: fx.Node, kept: dict[fx.Node, Cut], reach: Reach) -> tuple | None:
    """The arguments of an operation once its tensors are cut; None where no arguments would
    do."""
    kind, args = operation(node), list(node.args)
    source = args[0] if args and isinstance(args[0], fx.Node) else None
    before, after = kept.get(source), kept.get(node)
    if kind in {aten.view, aten._unsafe_view, aten.reshape, aten.expand} and after is not None:
        sizes = list(args[1])
        size = sizes[after.dim - reach.values[node].dim()]
        if not isinstance(size, int):
            return None
        if size != -1:
            sizes[after.dim - reach.values[node].dim()] = int(after.keep.sum())
        return (args[0], sizes, *args[2:])
    if before is None:
        pads = kind in {aten.pad, aten.constant_pad_nd} and after is not None
        return _pads(args, after, reach.values[source]) if pads else tuple(args)
    at = {name: argument(node, name) for name in ("dim", "start", "end", "step", "index")}
    along = (
        isinstance(at["dim"], int)
        and at["dim"] % len(reach.values[source].shape) == before.dim
    )
    places = len(before.keep)
    if kind is aten.slice and along:
        start, end, step = slice(at["start"], at["end"], at["step"]).indices(places)
        if step != 1:
            return None
        return (
            args[0],
            at["dim"],
            int(before.keep[:start].sum()),
            int(before.keep[:end].sum()),
        )
    if kind is aten.select and along:
        index = at["index"] % places
        return (
            (args[0], at["dim"], int(before.keep[:index].sum()))
            if before.keep[index]
            else None
        )
    if kind in {aten.split, aten.split_with_sizes, aten.chunk} and along:
        return None
    if kind in NEAREST and before.dim > 1:  # its places are not those of the result
        return None
    if kind is aten.diagonal and before.dim in {
        argument(node, name) % reach.values[source].dim() for name in ("dim1", "dim2")
    }:
        return None
    if kind is aten.roll:
        # by places that are then others; along all dimensions if none is named
        dims = [dim % reach.values[source].dim() for dim in argument(node, "dims") or ()]
        if before.dim in dims or not dims:
            return None
    if kind in {aten.pad, aten.constant_pad_nd}:
        return _pads(args, before, reach.values[source], after)
    if kind in {aten.unbind, aten.index, aten.index_select, aten.unflatten} and (
        along or kind is aten.index
    ):
        return None
    return tuple(args)


def _pads(args: list, cut: Cut, source: Tensor, after: Cut | None = None) -> tuple | None:
    """Paddings once channels are cut: of the new channels only those that stay."""
    pads, dim = list(args[1]), cut.dim
    position = 2 * (source.dim() - 1 - dim)
    if position < len(pads) and (pads[position] or pads[position + 1]):
        after = after or cut
        places = source.shape[dim]
        new = (
            after.keep
            if len(after.keep) != places
            else torch.ones(sum(pads[position : position + 2]) + places)
        )
        if after.dim != dim:
            return None
        pads[position : position + 2] = (
            int(new[: pads[position]].sum()),
            int(new[pads[position] + places :].sum()),
        )
    return (args[0], pads, *args[2:])
