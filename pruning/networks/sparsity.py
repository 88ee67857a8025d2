"""What is left of a pruned network: counts, weights that matter, and a network without the rest.

A kept weight need not do anything: its neuron may have lost all its inputs, or nothing may read its
output. `effective_weights` counts those on a path from an input to an output (as does the
literature on very sparse networks, e.g. Vysogorets and Kempe 2023, arXiv:2107.02306), and `compact`
builds the network that only they need. Paths are followed through chains, that is nested
``nn.Sequential`` of Linear, Conv2d, Flatten and layers that keep features apart; a model with
branches gets counts but no paths.
"""

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from pruning.networks.layers import LAYERS
from pruning.networks.masks import effective, masks

if TYPE_CHECKING:
    import pandas

ELEMENTWISE = (
    nn.Identity, nn.Dropout, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU,
    nn.SiLU, nn.Mish, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.Softsign, nn.Hardtanh, nn.Hardswish,
    nn.Hardsigmoid, nn.LogSigmoid,
)  # fmt: skip
PER_FEATURE = (
    *ELEMENTWISE, nn.Dropout2d, nn.BatchNorm1d, nn.BatchNorm2d,
    nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d,
)  # fmt: skip


def chain(model: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The layers of nested ``nn.Sequential`` in the order in which they run, with their names.

    Raises TypeError at a module whose computation cannot be read off (anything with branches).
    """
    if isinstance(model, (*LAYERS, *PER_FEATURE, nn.Flatten)):
        yield prefix, model
    elif isinstance(model, nn.Sequential):
        for name, child in model.named_children():
            yield from chain(child, f"{prefix}.{name}" if prefix else name)
    else:
        raise TypeError(
            f"model: {prefix or 'the model itself'} is a {type(model).__name__}; paths can be followed "
            "through nn.Sequential of Linear, Conv2d, Flatten, activations, pooling and batch norm"
        )


def _connections(layer: nn.Module, mask: Tensor, features: int | None) -> Tensor:
    """Number of kept weights between feature i and output o, shape (outputs, features).

    A channel of a convolution is one feature. After Flatten a channel spans several columns of the
    next Linear layer: they are folded onto the channel.
    """
    counts = mask.flatten(2).sum(2) if mask.dim() == 4 else mask.long()
    if isinstance(layer, nn.Conv2d) and layer.groups > 1:
        outputs, per_group = counts.shape
        full = counts.new_zeros(outputs, per_group * layer.groups)
        for o in range(outputs):
            start = o // (outputs // layer.groups) * per_group
            full[o, start : start + per_group] = counts[o]
        counts = full
    if features is not None and counts.shape[1] != features:
        counts = counts.view(counts.shape[0], features, -1).sum(2)
    return counts


def _effective(model: nn.Module) -> dict[str, int]:
    """Kept weights on a path from an input to an output, per layer of a chain."""
    found, layers, features = masks(model), [], None
    for name, layer in chain(model):
        if isinstance(layer, LAYERS):
            layers.append((name, _connections(layer, found[name], features)))
            features = layers[-1][1].shape[0]
    reached = []  # before each layer: which features some input reaches
    alive = None
    for _, counts in layers:
        alive = torch.ones(counts.shape[1], dtype=torch.bool) if alive is None else alive
        reached.append(alive.to(counts.device))
        alive = (counts[:, reached[-1]] > 0).any(1)
    read = None  # after each layer: which features some output reads
    effective = {}
    for (name, counts), inputs in zip(reversed(layers), reversed(reached), strict=True):
        read = counts.new_ones(counts.shape[0], dtype=torch.bool) if read is None else read
        effective[name] = int(counts[read][:, inputs].sum())
        read = (counts[read] > 0).any(0)
    return effective


def effective_weights(model: nn.Module) -> int:
    """Number of kept weights that lie on a path from an input to an output.

    Biases do not count, neither as weights nor as sources of a path. Raises TypeError for a model
    that is not a chain (see `chain`), ValueError for one without Linear or Conv2d layers.
    """
    effective = _effective(model)
    if not effective:
        raise ValueError("model: has no Linear or Conv2d layer, so no weights to count")
    return sum(effective.values())


def sparsity_report(model: nn.Module) -> "pandas.DataFrame":
    """One row a Linear or Conv2d layer: layer, weights, kept, density, effective.

    `kept` counts the weights that `masks` keeps, `density` is kept / weights, and `effective` those
    on a path from an input to an output (missing where the model is not a chain). Biases, batch
    norm and other layers are not counted. Sums over the rows speak for the network.
    """
    import pandas

    found = masks(model)
    if not found:
        raise ValueError("model: has no Linear or Conv2d layer, so nothing to report")
    try:
        effective = _effective(model)
    except TypeError:
        effective = {}
    rows = [
        {
            "layer": name,
            "weights": mask.numel(),
            "kept": (kept := int(mask.sum())),
            "density": kept / mask.numel(),
            "effective": effective.get(name),
        }
        for name, mask in found.items()
    ]
    return pandas.DataFrame(rows).astype({"effective": "Int64"})


class Select(nn.Module):
    """Keep the named input features: (…, inputs) ↦ (…, len(indices))."""

    def __init__(self, indices: Tensor):
        super().__init__()
        self.register_buffer("indices", indices)

    def forward(self, x: Tensor) -> Tensor:
        """Pick the columns."""
        return x.index_select(-1, self.indices)

    def extra_repr(self) -> str:
        """How many features, for print(model)."""
        return f"{len(self.indices)} features"


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(1, 1)  # then given its tensors: initialising one without inputs would warn
    layer.out_features, layer.in_features = weight.shape
    layer.weight, layer.bias = nn.Parameter(weight.clone()), nn.Parameter(bias.clone())
    return layer


@torch.no_grad()
def compact(model: nn.Module) -> nn.Sequential:
    """A smaller network with the outputs of the pruned one, for a chain of Linear layers.

    Gone are neurons that no output reads, inputs that no neuron reads (the network still takes the
    full input and picks the columns it uses: its first module is `Select`), and neurons without a
    living input, whose constant output moves into the biases they feed. Outputs equal those of
    ``model.eval()`` up to rounding. The result is in evaluation mode and shares no tensor with
    the model.

    Raises TypeError for a model that is not a chain of Linear layers, elementwise activations,
    dropout and a leading Flatten, ValueError for one without a Linear layer.
    """
    layers = list(chain(model))
    for position, (name, layer) in enumerate(layers):
        leading_flatten = isinstance(layer, nn.Flatten) and position == 0
        if not (leading_flatten or isinstance(layer, (nn.Linear, *ELEMENTWISE))):
            raise TypeError(
                f"model: {name!r} is a {type(layer).__name__}; compact handles chains of Linear layers "
                "with elementwise activations between them, after an optional Flatten"
            )
    lead: list[nn.Module] = []  # what runs before the first Linear layer
    blocks: list[list] = []  # [weight, bias, activations] of each Linear layer
    alive = constants = None  # of the features so far: which depend on an input, value of the others
    for _, layer in layers:
        if isinstance(layer, nn.Linear):
            weight = effective(layer)
            bias = weight.new_zeros(len(weight)) if layer.bias is None else layer.bias.clone()
            if blocks:
                bias += weight[:, ~alive] @ constants[~alive]
                weight = weight[:, alive]
                blocks[-1][:2] = blocks[-1][0][alive], blocks[-1][1][alive]
            alive, constants = (weight != 0).any(1), bias
            blocks.append([weight, bias, []])
        elif not isinstance(layer, (nn.Identity, nn.Dropout)):
            activation = copy.deepcopy(layer)
            (blocks[-1][2] if blocks else lead).append(activation)
            if blocks:
                constants = activation(constants.clone())
    if not blocks:
        raise ValueError("model: has no Linear layer to make smaller")

    modules: list[nn.Module] = []  # from the outputs back: drop what nothing reads
    read = torch.ones(len(blocks[-1][0]), dtype=torch.bool, device=blocks[-1][0].device)
    for weight, bias, activations in reversed(blocks):
        weight, bias = weight[read], bias[read]
        read = (weight != 0).any(0)
        modules = [_linear(weight[:, read], bias), *activations, *modules]
    return nn.Sequential(*lead, Select(read.nonzero().flatten()), *modules).eval()
