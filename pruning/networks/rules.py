"""How one operation passes truth values on: the rules by which `pruning.networks.reach`
follows paths."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from pruning.networks.operations import (
    ATTENTION,
    BATCH_NORM,
    LAYER_NORM,
    LAYERS,
    PRODUCTS,
    REDUCTIONS,
    SOFTMAX,
    SUMS_OF_PRODUCTS,
    WHOLE_WINDOWS,
    WINDOWS,
    argument,
    aten,
    entry_by_entry,
    moved,
    mover,
    operation,
    spatial_dimensions,
    where,
)

SHAPE_ONLY = {
    aten.zeros_like,
    aten.ones_like,
    aten.full_like,
    aten.new_zeros,
    aten.new_ones,
    aten.new_full,
}


class _AnyOf(torch.autograd.Function):
    """Truth values as 0.0 and 1.0: sums of them become *or*, forwards and backwards."""

    @staticmethod
    def forward(ctx, sums):
        return (sums > 0.5).to(torch.float32)

    @staticmethod
    def backward(ctx, gradient):
        return (gradient > 0.5).to(gradient.dtype)


any_of = _AnyOf.apply


@dataclass
class Signal:
    """What is known of one tensor: its value on the examples, and for each entry two truth
    values."""

    value: Tensor
    depends: Tensor  # it changes with an input
    nonzero: Tensor  # it is not the constant 0
    variable: bool  # False for parameters and what is computed from them alone


def _signal(value: Tensor, depends: Tensor) -> Signal:
    depends = any_of(depends)
    return Signal(value, depends, ((depends > 0) | (value != 0)).to(torch.float32), True)


def value_of(found: object) -> object:
    """The value of a signal, of each of a tuple of signals, or of what is no signal."""
    if isinstance(found, tuple):
        return tuple(map(value_of, found))
    return found.value if isinstance(found, Signal) else found


def shape_only(node: fx.Node) -> bool:
    """Whether only the shape of the arguments matters."""
    return operation(node) in SHAPE_ONLY


class _Linked(torch.autograd.Function):
    """Truth values that depend on others; backwards they are one with the sum of these."""

    @staticmethod
    def forward(ctx, sums, truth):
        ctx.save_for_backward(truth)
        return truth.clone()

    @staticmethod
    def backward(ctx, gradient):
        (truth,) = ctx.saved_tensors
        return (gradient > 0.5).to(gradient.dtype) * truth, None


def constant(node: fx.Node, args: tuple, value: object) -> object:
    """The signal of what is computed from parameters alone; paths to those parameters lead
    through it. None for an operation without a rule."""
    if moved(node):
        linked = mover(node)(*_replaced(args, "nonzero"))
        if isinstance(value, (list, tuple)):
            return tuple(map(_parameters, value, linked))
        return _parameters(value, linked)
    sums = _sources(node, args)
    if sums is None:
        return None
    if isinstance(value, (list, tuple)):  # a maximum comes with its position
        first, *rest = value
        return _parameters(first, _linked(node, first, sums, args)), *map(plain, rest)
    if operation(node) in {*LAYERS, *SUMS_OF_PRODUCTS, aten.mul, aten.div}:
        truth = (sums > 0.5) | (value != 0)  # a layer has a bias too
        return _parameters(value, _Linked.apply(sums, truth.to(torch.float32)))
    return _parameters(value, _linked(node, value, sums, args))


def _parameters(value: Tensor, nonzero: Tensor) -> Signal:
    return Signal(value, torch.zeros_like(nonzero), nonzero, False)


def plain(value: object) -> object:
    """The signal of what no path leads through."""
    if isinstance(value, (list, tuple)):
        return tuple(map(plain, value))
    return _parameters(value, (value != 0).to(torch.float32))


def _sources(node: fx.Node, args: tuple) -> Tensor | None:
    """Of a result that is computed from parameters alone, sums over the truth values of the
    entries that it depends on; None without a rule."""
    kind = operation(node)
    if kind in {aten.mul, aten.div}:
        x, y = (each.nonzero if _is_signal(each) else float(each != 0) for each in args[:2])
        return x * y
    if kind in LAYERS:
        return node.target(args[0].nonzero, args[1].nonzero, None, *args[3:])
    if kind in SUMS_OF_PRODUCTS:
        return node.target(*_replaced(args, "nonzero"))
    if kind in REDUCTIONS and not _of_two(kind, args):
        return _reduced(node, args[0].nonzero)
    if kind in SOFTMAX:
        return args[0].nonzero.sum(args[1], keepdim=True)
    found = [each.nonzero for each in args if _is_signal(each)]
    return sum(found) if entry_by_entry(node) and found else None


def _linked(node: fx.Node, value: Tensor, sums: Tensor, args: tuple) -> Tensor:
    """Truth values of a function of parameters. An entry is no constant 0 if it is not 0 now,
    or if one that it comes from is 0 by chance, as a weight may be that is not trained yet."""
    truth = value != 0
    if entry_by_entry(node):
        for each in filter(_is_signal, args):
            truth = truth | ((each.nonzero > 0) & (each.value == 0))
    return _Linked.apply(sums.expand(value.shape), truth.to(torch.float32))


def _of_two(kind: object, args: tuple) -> bool:
    """Whether a maximum or minimum is that of two tensors, entry by entry."""
    return kind in {aten.max, aten.min} and len(args) > 1 and _is_signal(args[1])


def _replaced(args: tuple, attribute: str) -> tuple:
    """The arguments with one truth value in place of every tensor that is moved or
    multiplied."""

    def pick(each):
        if isinstance(each, Signal):
            return getattr(each, attribute) if each.value.is_floating_point() else each.value
        return type(each)(map(pick, each)) if isinstance(each, (list, tuple)) else each

    return tuple(map(pick, args))


def depends(node: fx.Node, args: tuple, value: object) -> object:
    """The signal of an operation's result. Raises TypeError for an operation without a
    rule."""
    kind, x = operation(node), args[0]
    if kind in LAYERS:
        return _signal(value, _product(node, x, args[1], args[3:]))
    if kind is aten.prelu:
        return _signal(value, _prelu(x, args[1]))
    if kind in PRODUCTS:
        return _signal(value, _entrywise_product(x, args[1]).expand(value.shape))
    if kind in SUMS_OF_PRODUCTS:
        return _signal(value, _sum_of_products(node, args))
    if kind in BATCH_NORM:
        return _batch_norm(args, value)
    if kind in LAYER_NORM:
        return _signal(value, _layer_norm(x, args, value))
    if kind is aten.group_norm:
        return _signal(value, _group_norm(args, value))
    if kind in SOFTMAX:
        return _signal(value, x.depends.sum(args[1], keepdim=True).expand(value.shape))
    if kind in ATTENTION:
        return _signal(value, _attention(node, args))
    if kind in WINDOWS:
        return _signal(value, _windows(node, x.depends, value))
    if kind in WHOLE_WINDOWS:
        return _whole_windows(node, x, args, value)
    if kind in REDUCTIONS and not _of_two(kind, args):
        return _reduction(node, x, value)
    if kind is aten.embedding:
        return _signal(value, args[1].depends.unsqueeze(-1) * x.nonzero.any(0))
    if moved(node):
        return _moved(node, args, value)
    if entry_by_entry(node) and isinstance(value, Tensor):
        sums = sum(each.depends for each in args if _is_signal(each) and each.variable)
        return _signal(value, sums.expand(value.shape))
    raise TypeError(
        f"model: {where(node)} runs {node.target}, through which paths cannot be followed"
    )


def _is_signal(argument: object) -> bool:
    return isinstance(argument, Signal)


def _product(node: fx.Node, x: Signal, weight: Signal, rest: tuple) -> Tensor:
    """A layer without its bias, on truth values."""
    found = node.target(x.depends, weight.nonzero, None, *rest)
    return (
        found + node.target(x.nonzero, weight.depends, None, *rest)
        if weight.variable
        else found
    )


def _entrywise_product(x: Signal, y: Signal | float) -> Tensor:
    if not _is_signal(y):
        return x.depends * float(y != 0)
    if not _is_signal(x):
        return y.depends * float(x != 0)
    return x.depends * y.nonzero + x.nonzero * y.depends


def _prelu(x: Signal, slope: Signal) -> Tensor:
    """A slope of 0 ends no path: what is positive passes as in ReLU. There is one slope for
    all channels, dimension 1, or one for each."""
    if not slope.variable:
        return x.depends
    one = slope.depends.numel() == 1 or x.value.dim() < 2
    shape = [-1] if one else [1, -1, *[1] * (x.value.dim() - 2)]
    return x.depends + x.nonzero * slope.depends.view(shape)


def _sum_of_products(node: fx.Node, args: tuple) -> Tensor:
    if operation(node) is aten.einsum:
        if len(args[1]) != 2:
            raise TypeError(
                f"model: {where(node)} runs einsum of {len(args[1])} tensors; paths need two"
            )
        x, y = args[1]
        run = lambda a, b: node.target(args[0], [a, b])  # noqa: E731
    else:
        x, y, run = *args[:2], node.target
    return run(x.depends, y.nonzero) + run(x.nonzero, y.depends)


def _batch_norm(args: tuple, value: object) -> object:
    x, weight = args[:2]
    scale = 1.0 if weight is None else weight.nonzero.view(1, -1, *[1] * (x.value.dim() - 2))
    if isinstance(value, (list, tuple)):
        return (_signal(value[0], x.depends * scale), *map(plain, value[1:]))
    return _signal(value, x.depends * scale)


def _layer_norm(x: Signal, args: tuple, value: Tensor) -> Tensor:
    dims = tuple(range(-len(args[1]), 0))
    weight = args[2] if len(args) > 2 else None
    mixed = any_of(x.depends.sum(dims, keepdim=True)).expand(value.shape)
    return mixed if weight is None else mixed * weight.nonzero


def _group_norm(args: tuple, value: Tensor) -> Tensor:
    x, groups, *rest = args
    mixed = x.depends.reshape(len(value), groups, -1)
    mixed = any_of(mixed.sum(-1, keepdim=True)).expand_as(mixed).reshape(value.shape)
    if rest and rest[0] is not None:
        mixed = mixed * rest[0].nonzero.view(1, -1, *[1] * (value.dim() - 2))
    return mixed


def _varies(x: Signal) -> Tensor:
    """Which features of (…, keys, features) differ from key to key, (…, 1, features)."""
    spread = (x.value != x.value[..., :1, :]) | (x.depends > 0)
    return spread.any(-2, keepdim=True).to(torch.float32)


def _attention(node: fx.Node, args: tuple) -> Tensor:
    """softmax(q kᵀ) v. A feature that is the same for all keys shifts all scores alike, which
    changes nothing, and an average of equal values is that value."""
    if argument(node, "enable_gqa"):
        raise TypeError(
            f"model: {where(node)} shares keys among heads (enable_gqa), through which "
            "paths cannot be followed"
        )
    q, k, v, *_ = args
    mask = args[3] if len(args) > 3 else None
    scores = q.depends @ _varies(k).transpose(-1, -2) + q.nonzero @ k.depends.transpose(-1, -2)
    allowed = torch.ones(scores.shape[-2:], dtype=torch.float32, device=scores.device)
    if _is_signal(mask) and not mask.variable:
        bits = mask.value if mask.value.dtype is torch.bool else mask.value > float("-inf")
        allowed = bits.to(torch.float32)
    elif _is_signal(mask):
        scores = scores + mask.depends
    if argument(node, "is_causal"):
        allowed = allowed.tril()
    several = (allowed.sum(-1, keepdim=True) > 1).to(torch.float32)
    weights = any_of((scores * allowed).sum(-1, keepdim=True)) * several
    return allowed @ v.depends + weights * _varies(v)


def _windows(node: fx.Node, x: Tensor, value: Tensor) -> Tensor:
    """*Or* over the windows of a pooling layer: a convolution with ones."""
    dims = spatial_dimensions(node)

    def given(name: str, default: int) -> list[int]:
        found = argument(node, name, None)
        found = [default] if found is None or len(found) == 0 else list(found)
        return found * dims if len(found) == 1 else found

    size = given("kernel_size", 1)
    stride = list(argument(node, "stride") or []) or size
    stride = stride * dims if len(stride) == 1 else stride
    padding, dilation = given("padding", 0), given("dilation", 1)
    spatial = x.shape[-dims:]
    ends = []
    for n, k, s, p, d, out in zip(
        spatial, size, stride, padding, dilation, value.shape[-dims:], strict=True
    ):
        ends.append(
            max(0, (out - 1) * s + d * (k - 1) + 1 - n - p)
        )  # what ceil_mode adds at the end
    pads = [
        each
        for p, end in zip(reversed(padding), reversed(ends), strict=True)
        for each in (p, end)
    ]
    flat = F.pad(x.reshape(-1, 1, *spatial), pads)
    convolution = (F.conv1d, F.conv2d, F.conv3d)[dims - 1]
    found = convolution(flat, flat.new_ones(1, 1, *size), stride=stride, dilation=dilation)
    crop = (..., *(slice(out) for out in value.shape[-dims:]))
    return found[crop].reshape(value.shape)


def _whole_windows(node: fx.Node, x: Signal, args: tuple, value: object) -> object:
    """Averages over windows that the output's size decides; scaled so that no share rounds to
    nothing."""
    kind = operation(node)
    if kind is aten.upsample_bilinear2d:
        return _signal(value, node.target(1e4 * x.depends, *args[1:]))
    dims = spatial_dimensions(node)
    average = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)[dims - 1]
    found = average(x.depends, args[1]) * x.depends[0, 0].numel()
    if isinstance(value, (list, tuple)):  # a maximum comes with its position
        return tuple(_signal(each, found) for each in value)
    return _signal(value, found)


def _reduction(node: fx.Node, x: Signal, value: object) -> object:
    found = _reduced(node, x.depends)
    if isinstance(value, (list, tuple)):
        return tuple(_signal(each, found) for each in value)
    return _signal(value, found.expand(value.shape))


def _reduced(node: fx.Node, truth: Tensor) -> Tensor:
    """Sums over the dimensions that a reduction removes."""
    dim = argument(node, "dim")
    keep = bool(argument(node, "keepdim", False))
    every = dim is None or (isinstance(dim, (list, tuple)) and not dim)
    return truth.sum() if every else truth.sum(dim, keepdim=keep)


def _moved(node: fx.Node, args: tuple, value: object) -> object:
    if any(_is_signal(each) and each.variable for each in _flat(args[1:])):
        raise TypeError(
            f"model: {where(node)} runs {node.target} at places that depend on the inputs"
        )
    first = args[0]
    picked = (
        [each.depends for each in first] if isinstance(first, (list, tuple)) else first.depends
    )
    rest = [_plain(each) for each in args[1:]]
    if operation(node) in {aten.pad, aten.constant_pad_nd}:
        rest = (
            rest[:1]
            if operation(node) is aten.constant_pad_nd
            else [*rest[:2], *[0.0] * (len(rest) > 2)]
        )
    found = mover(node)(picked, *rest)
    if isinstance(value, (list, tuple)):
        return tuple(_signal(each, part) for each, part in zip(value, found, strict=True))
    return _signal(value, found)


def _flat(args: object) -> list:
    return (
        [e for each in args for e in _flat(each)]
        if isinstance(args, (list, tuple))
        else [args]
    )


def _plain(argument: object) -> object:
    if isinstance(argument, (list, tuple)):
        return type(argument)(_plain(each) for each in argument)
    return argument.value if _is_signal(argument) else argument
