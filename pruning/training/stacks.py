"""Many networks of one shape at once, as stacked tensors: one matrix product for all of them.

Each network keeps its own random numbers, masks and optimizer state, and takes the steps that
it would take alone, up to rounding. A method says itself how it is stacked, see
`pruning.training.recipes`. Tensors of a stack have the network as their first dimension.
"""

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import skip_init

from pruning.networks.masks import is_masked, kept, original, set_mask


class StackedLinear(nn.Module):
    """Linear layers of one shape side by side: weight (networks, out, in), bias (networks,
    out)."""

    def __init__(self, layers: Sequence[nn.Linear]):
        super().__init__()
        self.weight = nn.Parameter(torch.stack([original(layer).detach() for layer in layers]))
        self.bias = nn.Parameter(torch.stack([layer.bias.detach() for layer in layers]))

    def forward(self, x: Tensor) -> Tensor:
        """(networks, batch, in) ↦ (networks, batch, out)."""
        return torch.baddbmm(self.bias.unsqueeze(1), x, self.weight.transpose(1, 2))


def stack(models: Sequence[nn.Sequential]) -> nn.Sequential:
    """Chains of Linear layers and activations as one chain of stacked layers.

    Masks come along. Raises ValueError for no models, models of different shapes,
    layers other than Linear that have parameters, or Linear layers without a bias.
    """
    if not models:
        raise ValueError("models: got none, needs at least one")
    shapes = [
        [(name, tuple(p.shape)) for name, p in model.named_parameters()] for model in models
    ]
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError("models: have different shapes or masks, needs networks of one shape")
    stacked: list[nn.Module] = []
    for layers in zip(*models, strict=True):
        if not isinstance(layers[0], nn.Linear):
            if any(True for _ in layers[0].parameters()):
                raise ValueError(
                    f"models: got a {type(layers[0]).__name__}, needs Linear and activations"
                )
            stacked.append(copy.deepcopy(layers[0]))
            continue
        if layers[0].bias is None:
            raise ValueError("models: got a Linear layer without a bias, needs one with")
        stacked.append(StackedLinear(layers))
        if is_masked(layers[0]):
            set_mask(stacked[-1], torch.stack([kept(layer) for layer in layers]))
    return nn.Sequential(*stacked)


@torch.no_grad()
def unstack(stacked: nn.Sequential) -> list[nn.Sequential]:
    """The networks of a stack, one by one, with their masks: the inverse of `stack`. Harden
    gates before."""
    networks = next(len(layer.bias) for layer in stacked if isinstance(layer, StackedLinear))
    models = []
    for k in range(networks):
        layers: list[nn.Module] = []
        for layer in stacked:
            if not isinstance(layer, StackedLinear):
                layers.append(copy.deepcopy(layer))
                continue
            weight = original(layer)[k]
            outputs, inputs = weight.shape
            single = skip_init(
                nn.Linear, inputs, outputs, device=weight.device, dtype=weight.dtype
            )
            single.weight.copy_(weight)
            single.bias.copy_(layer.bias[k])
            if is_masked(layer):
                set_mask(single, kept(layer)[k])
            layers.append(single)
        models.append(nn.Sequential(*layers))
    return models


def on_device(
    generators: Sequence[torch.Generator], device: torch.device
) -> Sequence[torch.Generator]:
    """The same generators where the networks are on the CPU, else one on the device from each
    one's seed: as ``torch.manual_seed`` seeds both."""
    if device.type == "cpu":
        return generators
    return [
        torch.Generator(device).manual_seed(generator.initial_seed())
        for generator in generators
    ]


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Σ over networks of the mean over the batch: (networks, batch, classes), (networks,
    batch) ↦ 0-dim. No network's gradient depends on another."""
    return len(outputs) * F.cross_entropy(outputs.flatten(0, 1), targets.flatten())
