"""Paths through any model: which entries an input reaches, which entries an output reads.

Every number in the network is followed as a truth value. A product of matrices becomes the
same product of zeros and ones, a sum becomes *or*, pooling becomes *or* over its window; an
activation function passes the truth value on. Run forwards, this says what changes with the
inputs; run backwards, by autograd through the same operations, it says what the outputs read.
A weight lies on a path if its input is reached and its output is read: exactly where the
gradient arrives. The same trick, with the weights' sizes in place of truth values, is the
score of SynFlow (Tanaka et al. 2020, arXiv:2006.05467).

Entries that no input reaches are constants. Their values are computed along the way on the
example inputs, so that multiplication by a constant 0 ends a path. This is the one place in
which paths are computed."""

import operator
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from pruning.networks import rules
from pruning.networks.graph import Graph
from pruning.networks.operations import nodes_in, operation, where
from pruning.networks.rules import Signal


@dataclass
class Reach:
    """What `reach` found, by the nodes of a graph and by the names of its tensors; all masks
    are boolean."""

    values: dict[fx.Node, object]  # on the example inputs: tensors, tuples of them, sizes
    depends: dict[fx.Node, Tensor]  # entries that change with an input
    read: dict[fx.Node, Tensor]  # entries that an output depends on
    effective: dict[str, Tensor]  # weights on a path from an input to an output
    variable: set[fx.Node]  # nodes that are computed from inputs


def _mapped(argument: object, pick: Callable[[object], object]) -> object:
    if isinstance(argument, (list, tuple)):
        return type(argument)(_mapped(each, pick) for each in argument)
    return pick(argument)


def _results(value: object) -> list[Tensor]:
    return (
        [each for each in value if isinstance(each, Tensor)]
        if isinstance(value, (list, tuple))
        else [value]
    )


def forward(
    graph: Graph, kept: dict[str, Tensor], sources: Tensor | None = None
) -> dict[fx.Node, object]:
    """The `Signal` of every node, with autograd from the outputs' `depends` to the tensors'
    `nonzero`."""
    signals: dict[fx.Node, object] = {}
    variable = set()  # nodes whose values may change with the inputs
    for node in graph.nodes.nodes:
        if node in graph.tensors:
            name, value = graph.tensors[node]
            nonzero = kept.get(name, value != 0).to(torch.float32).requires_grad_()
            signals[node] = Signal(value, torch.zeros_like(nonzero), nonzero, False)
        elif node in graph.examples:
            value = graph.examples[node]
            if sources is not None:
                value = value[:1].expand(len(sources), *value.shape[1:])
            depends = (
                torch.ones(value.shape, dtype=torch.float32, device=value.device)
                if sources is None
                else sources.clone()
            )
            signals[node] = Signal(
                value, depends.requires_grad_(), torch.ones_like(depends), True
            )
            variable.add(node)
        elif node.op == "get_attr":
            value = getattr(graph.nodes.owning_module, node.target)
            nonzero = (value != 0).to(torch.float32)
            signals[node] = Signal(value, torch.zeros_like(nonzero), nonzero, False)
        elif node.op == "call_function":
            _call(node, signals, variable, graph)
        elif node.op == "placeholder":
            signals[node] = None  # an argument that was left out
    return signals


def _call(
    node: fx.Node, signals: dict[fx.Node, object], variable: set[fx.Node], graph: Graph
) -> None:
    def signal(argument):
        return signals[argument] if isinstance(argument, fx.Node) else argument

    def value(argument):
        return rules.value_of(signal(argument))

    args, kwargs = (
        _mapped(tuple(node.args), value),
        {k: value(v) for k, v in node.kwargs.items()},
    )
    with torch.no_grad():
        result = node.target(*args, **kwargs)
    if not any(isinstance(each, Tensor) for each in _results(result)):
        signals[node] = result
        return
    if operation(node) is operator.getitem:
        signals[node] = signals[node.args[0]][node.args[1]]
        if node.args[0] in variable:
            variable.add(node)
        return
    changes = any(each in variable for each in nodes_in([*node.args, *node.kwargs.values()]))
    changes = changes and not rules.shape_only(node)
    if changes:
        variable.add(node)
        followed = rules.depends(node, _mapped(tuple(node.args), signal), result)
    else:
        followed = rules.constant(node, _mapped(tuple(node.args), signal), result)
        if followed is None:
            _check_weights(node, graph)
            followed = rules.plain(result)
    signals[node] = followed


def _check_weights(node: fx.Node, graph: Graph) -> None:
    """Raise TypeError where an operation that cannot be followed computes with weights."""
    waiting = [] if rules.shape_only(node) else [node]
    while waiting:
        each = waiting.pop()
        name, value = graph.tensors.get(each, (None, None))
        if name is not None and value.data_ptr() in graph.weights:
            raise TypeError(
                f"model: {where(node)} runs {node.target} on the weight {name!r}, through"
                " which paths cannot be followed"
            )
        waiting += each.all_input_nodes


def reach(
    graph: Graph, kept: dict[str, Tensor] | None = None, sources: Tensor | None = None
) -> Reach:
    """Follow all paths from the inputs to the outputs.

    Parameters
    ----------
    graph : from `pruning.networks.graph.trace`.
    kept : masks of the graph's tensors by name; where there is none, weights that are not
    exactly 0 count.
    sources : which entries of the (one) input are followed, shaped as a batch of inputs; None
        follows all. One row per input feature, each with a single 1, tells the features apart.

    Raises TypeError for an operation that cannot be followed, naming it and the module that
    runs it."""
    with torch.enable_grad():
        signals = forward(graph, kept or {}, sources)
        found = {node: each for node, each in signals.items() if isinstance(each, Signal)}
        outputs = [found[node].depends for node in graph.results if node in found]
        wanted = [
            *(each.depends for each in found.values()),
            *(found[n].nonzero for n in graph.tensors),
        ]
        tracked = [each for each in wanted if each.requires_grad]
        total = sum((each.sum() for each in outputs), torch.zeros(()))
        gradients = [None] * len(tracked)
        if total.requires_grad:
            gradients = torch.autograd.grad(total, tracked, allow_unused=True)
    arrived = {
        id(each): (
            torch.zeros_like(each, dtype=torch.bool) if gradient is None else gradient > 0.5
        )
        for each, gradient in zip(tracked, gradients, strict=True)
    }
    nothing = {
        node: torch.zeros_like(each.depends, dtype=torch.bool) for node, each in found.items()
    }
    effective: dict[str, Tensor] = {}
    for node, (name, _) in graph.tensors.items():  # torch.export has a node for each name
        used = arrived[id(found[node].nonzero)] & (found[node].nonzero > 0)
        effective[name] = effective[name] | used if name in effective else used
    return Reach(
        {node: rules.value_of(each) for node, each in signals.items()},
        {node: each.depends.detach() > 0 for node, each in found.items()},
        {node: arrived.get(id(each.depends), nothing[node]) for node, each in found.items()},
        effective,
        {node for node, each in found.items() if each.variable},
    )
