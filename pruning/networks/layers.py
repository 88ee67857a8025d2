"""What scores read off a model: its layers, their weights, and the inputs that reach them."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pruning.networks.masks import effective, find_gates
from pruning.networks.prunable import prunable

LAYERS = (nn.Linear, nn.Conv2d)
BATCH = 1000  # samples at a time where `inputs` is one tensor


def layers(model: nn.Module) -> dict[str, nn.Module]:
    """The layers that scores speak of, {name: Linear or Conv2d}. Raises ValueError if there is none."""
    found = {name: layer for name, layer, _ in prunable(model) if isinstance(layer, LAYERS)}
    if not found:
        raise ValueError("model: has no Linear or Conv2d layer to score")
    if gated := find_gates(model):
        raise ValueError(f"model: layers {sorted(gated)} are gated; call pruning.harden(model) first")
    return found


def weight(layer: nn.Module) -> Tensor:
    """The weight a layer computes with, without gradient."""
    return effective(layer)


def batches(inputs: Tensor | Iterable[Tensor], argument: str = "inputs") -> Iterator[Tensor]:
    """One tensor in slices along its first dimension, or the batches of an iterable as they come."""
    empty = True
    for batch in inputs.split(BATCH) if isinstance(inputs, Tensor) else inputs:
        if not isinstance(batch, Tensor):
            raise TypeError(f"{argument}: got a batch of type {type(batch).__name__}, needs tensors")
        if len(batch):
            empty = False
            yield batch
    if empty:
        raise ValueError(f"{argument}: got no samples, needs at least one")


def columns(layer: nn.Module, x: Tensor) -> Tensor:
    """What a layer's weights are multiplied with: (samples, groups, inputs of one output).

    For a convolution every position of the kernel on the image is a sample.
    """
    if isinstance(layer, nn.Linear):
        return x.reshape(-1, 1, layer.in_features)
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    x = F.pad(x, layer._reversed_padding_repeated_twice, mode=mode)
    patches = F.unfold(x, layer.kernel_size, layer.dilation, 0, layer.stride)
    return patches.transpose(1, 2).reshape(-1, layer.groups, patches.shape[1] // layer.groups)


def rows(layer: nn.Module, z: Tensor) -> Tensor:
    """A layer's output in the order of `columns`: (samples, groups, outputs of one group)."""
    if isinstance(layer, nn.Linear):
        return z.reshape(-1, 1, layer.out_features)
    return z.flatten(2).transpose(1, 2).reshape(-1, layer.groups, layer.out_channels // layer.groups)


@torch.no_grad()
def visit_layers(
    model: nn.Module,
    inputs: Tensor | Iterable[Tensor],
    visit: Callable[[str, nn.Module, Tensor, Tensor], None],
) -> None:
    """One pass in evaluation mode; `visit` gets (name, layer, `columns`, `rows`) of every layer and batch.

    The model is left in the mode it was in.
    """

    def hook(name):
        return lambda layer, args, z: visit(name, layer, columns(layer, args[0]), rows(layer, z))

    handles = [layer.register_forward_hook(hook(name)) for name, layer in layers(model).items()]
    was_training = model.training
    model.eval()
    try:
        for batch in batches(inputs):
            model(batch)
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()


def visit_inputs(
    model: nn.Module, inputs: Tensor | Iterable[Tensor], visit: Callable[[str, nn.Module, Tensor], None]
) -> None:
    """`visit_layers` for what needs the inputs alone."""
    visit_layers(model, inputs, lambda name, layer, x, z: visit(name, layer, x))


def reached(model: nn.Module, samples: dict[str, int]) -> None:
    """Raise ValueError naming the layers that got no samples: they have no statistics and so no score."""
    if unused := [name for name in layers(model) if not samples.get(name)]:
        raise ValueError(f"model: layers {unused} got no input in a forward pass, so they have no score")


def spread(layer: nn.Module, feature: Tensor) -> Tensor:
    """A number per (group, input) in the shape of the layer's weight."""
    shape = layer.weight.shape
    return feature.repeat_interleave(shape[0] // len(feature), 0).view(shape)


@dataclass
class InputStatistics:
    """Moments of one layer's inputs, shape (groups, inputs), in float64: sums over 10⁵ samples stay exact."""

    samples: int = 0
    sums: Tensor | float = 0.0
    squares: Tensor | float = 0.0

    def add(self, x: Tensor) -> None:
        """Take in a batch of `columns`."""
        x = x.double()
        self.samples += len(x)
        self.sums = self.sums + x.sum(0)
        self.squares = self.squares + x.square().sum(0)

    @property
    def mean(self) -> Tensor:
        """E[x]."""
        return self.sums / self.samples

    @property
    def norm(self) -> Tensor:
        """‖x‖₂ over the samples."""
        return self.squares.sqrt()

    @property
    def variance(self) -> Tensor:
        """Var(x) = E[x²] − E[x]², at least 0."""
        return (self.squares / self.samples - self.mean.square()).clamp_min(0)


def input_statistics(model: nn.Module, inputs: Tensor | Iterable[Tensor]) -> dict[str, InputStatistics]:
    """Moments of every layer's inputs, in one pass with constant memory."""
    found = {name: InputStatistics() for name in layers(model)}
    visit_inputs(model, inputs, lambda name, layer, x: found[name].add(x))
    reached(model, {name: statistics.samples for name, statistics in found.items()})
    return found
