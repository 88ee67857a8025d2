"""What ATen operations do to features, as far as paths are concerned: the vocabulary of
`reach` and `cuts`."""

from collections.abc import Callable, Iterator
from operator import getitem

import torch
from torch import fx
from torch._ops import OpOverload
from torch.fx.node import map_arg

aten = torch.ops.aten

# x, weight ↦ a sum over products: the layers whose weights can be cut
CONVOLUTIONS = {aten.conv1d, aten.conv2d, aten.conv3d}
TRANSPOSED = {aten.conv_transpose1d, aten.conv_transpose2d, aten.conv_transpose3d}
LAYERS = {aten.linear, *CONVOLUTIONS, *TRANSPOSED}

PRODUCTS = {aten.mul, aten.div, aten.prelu}
SUMS_OF_PRODUCTS = {aten.matmul, aten.mm, aten.bmm, aten.mv, aten.einsum}

# entry by entry, beyond those that torch tags as pointwise; leaky_relu torch 2.7 does not tag
ENTRY_BY_ENTRY = {
    aten.leaky_relu,
    aten.hardswish,
    aten.log_sigmoid,
    aten.dropout,
    aten.feature_dropout,
    aten.alpha_dropout,
    aten.contiguous,
    aten._to_copy,
    aten.__and__,
    aten.__or__,
    aten.where,
    aten.maximum,
    aten.minimum,
}
NEAREST = {aten.upsample_nearest1d, aten.upsample_nearest2d, aten.upsample_nearest3d}
# entries moved, copied or left out, beyond those that torch knows to be views
MOVED = {
    aten.cat,
    aten.stack,
    aten.pad,
    aten.constant_pad_nd,
    aten._unsafe_view,
    aten.pixel_shuffle,
    aten.pixel_unshuffle,
    aten.channel_shuffle,
    aten.native_channel_shuffle,
    aten.repeat,
    aten.flip,
    aten.roll,
    aten.index,
    aten.index_select,
    *NEAREST,
}
WINDOWS = {
    aten.max_pool1d,
    aten.max_pool2d,
    aten.max_pool3d,
    aten.avg_pool1d,
    aten.avg_pool2d,
    aten.avg_pool3d,
}
WHOLE_WINDOWS = {
    aten.adaptive_avg_pool1d,
    aten.adaptive_avg_pool2d,
    aten.adaptive_avg_pool3d,
    aten.adaptive_max_pool1d,
    aten.adaptive_max_pool2d,
    aten.adaptive_max_pool3d,
    aten.upsample_bilinear2d,
}
REDUCTIONS = {
    aten.mean,
    aten.sum,
    aten.amax,
    aten.amin,
    aten.var,
    aten.std,
    aten.linalg_vector_norm,
    aten.logsumexp,
    aten.max,
    aten.min,
}
SOFTMAX = {aten.softmax, aten.log_softmax, aten._softmax, aten._log_softmax}
BATCH_NORM = {aten._native_batch_norm_legit_no_training, aten.batch_norm}
LAYER_NORM = {aten.layer_norm, aten.rms_norm}
ATTENTION = {aten.scaled_dot_product_attention}


def operation(node: fx.Node) -> object:
    """The ATen operation of a node, whatever its overload; for what is not ATen, its Python
    function."""
    return node.target.overloadpacket if isinstance(node.target, OpOverload) else node.target


def entry_by_entry(node: fx.Node) -> bool:
    """Whether each entry of the result depends on the entries at its place alone."""
    tagged = isinstance(node.target, OpOverload) and torch.Tag.pointwise in node.target.tags
    return tagged or operation(node) in ENTRY_BY_ENTRY


def moved(node: fx.Node) -> bool:
    """Whether the result holds entries of the arguments at other places, and nothing new but
    padding."""
    view = isinstance(node.target, OpOverload) and node.target.is_view
    return view or operation(node) in MOVED


def mover(node: fx.Node) -> object:
    """The function of a node that `moved` names; a view as a reshape, which does not ask for
    strides, and what is detached as itself, since a path is no gradient."""
    kind = operation(node)
    if kind is aten.detach:
        return aten.alias.default
    return aten.reshape.default if kind in {aten.view, aten._unsafe_view} else node.target


def spatial_dimensions(node: fx.Node) -> int:
    """1, 2 or 3 for convolutions and pooling, from the operation's name."""
    return int(next(c for c in reversed(str(operation(node))) if c.isdigit()))


def is_getitem(node: fx.Node) -> bool:
    """Whether a node picks one of several results."""
    return node.target is getitem


def argument(node: fx.Node, name: str, default: object = None) -> object:
    """An argument of an ATen operation by its name in the schema, wherever it was given."""
    for position, declared in enumerate(node.target._schema.arguments):
        if declared.name == name:
            if position < len(node.args):
                return node.args[position]
            given = node.kwargs.get(name, declared.default_value)
            return default if given is None else given
    return default


def where(node: fx.Node) -> str:
    """The module that runs a node, for messages."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [path for path, _ in stack.values() if path]
    return repr(paths[-1].removeprefix("L['self'].")) if paths else "the model itself"


def nodes_in(argument: object) -> Iterator[fx.Node]:
    """The nodes in an argument, which may be nested."""
    if isinstance(argument, fx.Node):
        yield argument
    elif isinstance(argument, (list, tuple)):
        for each in argument:
            yield from nodes_in(each)


def replaced(node: fx.Node, pick: Callable[[fx.Node], object]) -> tuple:
    """The arguments of a node with something in place of the nodes among them."""
    return map_arg(tuple(node.args), pick)
