"""What a layer's weights are multiplied with, as the columns of a matrix product.

Every layer here is z = W x for a weight matrix W of shape (groups, outputs, inputs) and many
samples x: a convolution takes each position of its kernel on the image as a sample, a
transposed one is the convolution of the image with zeros between its pixels, and the input
projection of attention is three groups, for query, key and value.
"""

import inspect
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pruning.networks.masks import effective, original

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def groups(module: nn.Module, parameter: str) -> int:
    """How many separate matrices a weight consists of."""
    if parameter == "in_proj_weight":
        return 3
    return getattr(module, "groups", 1)


def to_matrix(module: nn.Module, parameter: str, values: Tensor) -> Tensor:
    """Values shaped as the weight in the form (groups, outputs, inputs)."""
    count = groups(module, parameter)
    if isinstance(module, TRANSPOSED):  # (inputs, outputs of a group, kernel)
        values = values.unflatten(0, (count, -1)).transpose(1, 2)
        return values.reshape(count, values.shape[1], -1)
    return values.reshape(count, len(values) // count, -1)


def from_matrix(
    module: nn.Module, parameter: str, matrix: Tensor, shape: torch.Size
) -> Tensor:
    """The inverse of `to_matrix`."""
    if isinstance(module, TRANSPOSED):
        count, outputs = matrix.shape[:2]
        matrix = matrix.view(count, outputs, shape[0] // count, *shape[2:]).transpose(1, 2)
    return matrix.reshape(shape)


def columns(module: nn.Module, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """(samples, groups, inputs) and (samples, groups, outputs) of a layer's input x and output
    z."""
    if isinstance(module, nn.Linear):
        return x.reshape(-1, 1, module.in_features), z.reshape(-1, 1, module.out_features)
    kernel, dilation = module.kernel_size, module.dilation
    if x.dim() == len(kernel) + 1:  # one image alone
        x, z = x[None], z[None]
    if isinstance(module, TRANSPOSED):
        x, stride = _with_zeros(module, x, z.shape[2:]), (1,) * len(kernel)
    else:
        mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
        x, stride = F.pad(x, module._reversed_padding_repeated_twice, mode=mode), module.stride
    for d, (size, step, gap) in enumerate(zip(kernel, stride, dilation, strict=True)):
        x = x.unfold(2 + d, gap * (size - 1) + 1, step)[..., ::gap]
    last = tuple(range(-len(kernel), 0))
    if isinstance(module, TRANSPOSED):
        x = x.flip(last)  # its kernel lies the other way round
    patches = x.movedim(1, -len(kernel) - 1)  # (images, positions …, channels, kernel …)
    x = patches.reshape(
        -1, module.groups, module.in_channels // module.groups * _product(kernel)
    )
    return x, z.flatten(2).transpose(1, 2).reshape(len(x), module.groups, -1)


def _with_zeros(module: nn.Module, x: Tensor, size: torch.Size) -> Tensor:
    """The image whose convolution with stride 1 gives an output of that size: zeros between
    and around."""
    stride, dilation = module.stride, module.dilation
    apart = x.new_zeros(
        *x.shape[:2], *((n - 1) * s + 1 for n, s in zip(x.shape[2:], stride, strict=True))
    )
    apart[(..., *(slice(None, None, s) for s in stride))] = x
    around: list[int] = []
    for d in reversed(range(len(stride))):
        reach = dilation[d] * (module.kernel_size[d] - 1)
        left = reach - module.padding[d]
        around += [left, size[d] + reach - left - apart.shape[2 + d]]
    return F.pad(apart, around)


def _product(sizes: tuple[int, ...]) -> int:
    return int(torch.Size(sizes).numel())


def attention(
    module: nn.MultiheadAttention, args: tuple, kwargs: dict[str, Any]
) -> Iterator[tuple[nn.Module, str, torch.Size | None, Tensor, Tensor]]:
    """(module, parameter, shape of the sequence without its features, samples, outputs) of
    each of the projections of one call of an attention layer. The shape is None where query,
    key and value are different sequences.

    Raises ValueError where query, key and value of a joint projection have different numbers
    of samples.
    """
    given = inspect.signature(module.forward).bind(*args, **kwargs).arguments
    whole = [given[name] for name in ("query", "key", "value")]
    # positions of one sequence count for all three; of several nobody says which are meant
    one = all(each is whole[0] for each in whole)
    shape = whole[0].shape[:-1] if one else None
    sources = [each.reshape(-1, each.shape[-1]) for each in whole]
    biases = (
        [None] * 3 if module.in_proj_bias is None else module.in_proj_bias.detach().chunk(3)
    )
    if module._qkv_same_embed_dim:
        if len({len(x) for x in sources}) > 1:
            raise ValueError(
                "model: query, key and value of an attention layer have"
                f" {[len(x) for x in sources]} samples; its joint projection has a score only"
                " where they have equally many: ignore="
            )
        parts = [
            F.linear(*each)
            for each in zip(sources, module.in_proj_weight.chunk(3), biases, strict=True)
        ]
        stacked = torch.stack(sources, 1), torch.stack(parts, 1)
        yield module, "in_proj_weight", shape, *stacked
    else:
        names = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
        for name, x, bias in zip(names, sources, biases, strict=True):
            z = F.linear(x, getattr(module, name), bias)
            yield module, name, shape, x[:, None], z[:, None]
    out = module.out_proj
    heads = _before_projection(module, args, kwargs).reshape(-1, 1, module.embed_dim)
    yield out, "weight", whole[0].shape[:-1], heads, F.linear(heads, out.weight, out.bias)


def _before_projection(
    module: nn.MultiheadAttention, args: tuple, kwargs: dict[str, Any]
) -> Tensor:
    """The heads' outputs side by side: the layer's output under an output projection that is
    the identity."""
    out = module.out_proj
    same = nn.Linear(module.embed_dim, module.embed_dim, bias=False, device=out.weight.device)
    same.weight.data = torch.eye(
        module.embed_dim, dtype=out.weight.dtype, device=out.weight.device
    )
    module.out_proj = same
    try:
        return module.forward(*args, **kwargs)[0]
    finally:
        module.out_proj = out


def bias(module: nn.Module, parameter: str, trained: bool = False) -> Tensor | None:
    """The bias that is added to a weight's outputs, (groups, outputs), without gradient, or
    None.

    trained : the parameter under a mask or gate of the bias, to be changed in place.
    """
    read = original if trained else effective
    if not isinstance(module, nn.MultiheadAttention):
        # of a recurrent layer the attribute says whether it has biases
        if not isinstance(getattr(module, "bias", None), Tensor):
            return None
        return read(module, "bias").detach().view(groups(module, parameter), -1)
    if module.in_proj_bias is None:
        return None
    parts = read(module, "in_proj_bias").detach().view(3, -1)
    return parts if parameter == "in_proj_weight" else parts["qkv".index(parameter[0])][None]
