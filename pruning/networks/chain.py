"""Chains: nested ``nn.Sequential`` whose layers run one after another. They need no example
inputs."""

import itertools
from collections.abc import Iterator

from torch import nn

from pruning.networks.graph import Examples, Graph, of_weights, trace, trace_chain
from pruning.networks.operations import aten, operation
from pruning.networks.prunable import WEIGHTED

ELEMENTWISE = (
    nn.Identity,
    nn.Dropout,
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.ELU,
    nn.CELU,
    nn.SELU,
    nn.GELU,
    nn.SiLU,
    nn.Mish,
    nn.Sigmoid,
    nn.Tanh,
    nn.Softplus,
    nn.Softsign,
    nn.Hardtanh,
    nn.Hardswish,
    nn.Hardsigmoid,
    nn.LogSigmoid,
)
PER_FEATURE = (
    *ELEMENTWISE,
    nn.Dropout2d,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d,
)
LAYERS = (*WEIGHTED, *PER_FEATURE, nn.Flatten)
EXAMPLES = "give example_inputs, such as one batch, so that torch.export can trace it"


def _is(module: nn.Module, kinds: tuple[type, ...]) -> bool:
    """Whether a module is of these kinds and computes as they do: a subclass may override
    ``forward``."""
    return any(
        isinstance(module, kind) and type(module).forward is kind.forward for kind in kinds
    )


def chain(
    model: nn.Module, prefix: str = "", instead: str = EXAMPLES
) -> Iterator[tuple[str, nn.Module]]:
    """The layers of nested ``nn.Sequential`` in the order in which they run, with their names.

    A module that runs in several places comes up several times. Raises TypeError at a module
    whose computation cannot be read off: one with branches, with a ``forward`` of its own,
    also as an attribute, or with forward hooks. The message ends with `instead`, what the
    caller can do."""
    kind = type(model).__name__
    hooks = itertools.chain(model._forward_pre_hooks.values(), model._forward_hooks.values())
    if not all(of_weights(hook) for hook in hooks):
        raise TypeError(
            f"model: {prefix or 'the model itself'}, a {kind}, has forward hooks; {instead}"
        )
    if "forward" in vars(model):
        raise TypeError(
            f"model: {prefix or 'the model itself'}, a {kind}, has another forward than its"
            f" class; {instead}"
        )
    if _is(model, LAYERS):
        yield prefix, model
    elif _is(model, (nn.Sequential,)):
        for name, child in model._modules.items():
            yield from chain(child, f"{prefix}.{name}" if prefix else name, instead)
    else:
        raise TypeError(
            f"model: {prefix or 'the model itself'} is a {kind}, not a layer of a chain;"
            f" {instead}"
        )


def graph_of(model: nn.Module, example_inputs: Examples | None = None) -> Graph:
    """The graph of any model with example inputs, or of a chain that begins with a Linear
    layer without.

    Raises TypeError for a model that cannot be traced, ValueError for a chain without layers
    that have weights."""
    if example_inputs is not None:
        return trace(model, example_inputs)
    weighted = [(name, layer) for name, layer in chain(model) if isinstance(layer, WEIGHTED)]
    if not weighted:
        raise ValueError("model: has no Linear or convolution layer, so no weights to count")
    for name, layer in weighted:
        if not isinstance(layer, nn.Linear):
            raise TypeError(
                f"model: {name!r} is a {type(layer).__name__}, whose paths depend "
                f"on the size of the image; {EXAMPLES}"
            )
    return trace_chain(model, weighted[0][1].in_features)


def linear_nodes(graph: Graph) -> list:
    """The nodes of a graph that are Linear layers, in the order in which they run."""
    return [node for node in graph.nodes.nodes if operation(node) is aten.linear]
