"""A smaller network with the outputs of the pruned one: what nothing needs is cut out.

Torch-Pruning (Fang et al. 2023, arXiv:2301.12900) cuts by a dependency graph as well, but it
decides by scores and does not keep the outputs: it drops what a dead channel still adds, the
constant that batch norm and the activation make of it, and it removes from a residual sum what
another branch needs. So the cutting here is our own; `make bench` has both side by side."""

import contextlib
import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pruning.networks.batchnorm import fold_batch_norm
from pruning.networks.chain import ELEMENTWISE, EXAMPLES, chain, linear_nodes
from pruning.networks.copies import deep_copy
from pruning.networks.cuts import Cuts, shared_weights
from pruning.networks.graph import (
    Examples,
    Graph,
    arguments,
    other_samples,
    plain_copy,
    trace,
    trace_chain,
    two_samples,
)
from pruning.networks.operations import BATCH_NORM, operation
from pruning.networks.reach import reach
from pruning.networks.rebuild import Select, rebuild, smaller_layer

CHAINED = (nn.Linear, nn.BatchNorm1d, *ELEMENTWISE)
TOLERANCE = 1e-4  # of the outputs, relative to the largest
NOISE = 100  # times the rounding of small outputs
HALF = 8  # times the rounding of half precision, where that is more


@torch.no_grad()
def compact(model: nn.Module, example_inputs: Examples | None = None) -> nn.Module:
    """A smaller network with the outputs of the pruned one.

    Neurons and channels that no output reads are cut out. So are those that no input reaches;
    the layers after them take over their constant values. For inputs of shape (batch,
    features), features that nothing reads are cut out too. The network still takes the full
    input and picks the columns it uses. Batch norm is written into the layer before it, if
    that is used once. A weight or buffer that is used by ``F.linear`` or ``F.conv2d`` becomes
    a layer.
    Outputs equal those of ``model.eval()`` up to rounding, which is checked on the examples
    and on random inputs. Features that are normalised over, attended to or multiplied with
    each other all stay, and single zeros inside a layer stay zeros. A layer that is used
    several times is cut where that makes the network smaller, and then there may be copies of
    it; a model that would get larger is returned as a plain copy. The result is in evaluation
    mode and shares no tensor with the model.

    Parameters
    ----------
    model : any model that torch.export can trace, gated, pruned or dense.
    example_inputs : as for `effective_weights`. Chains of Linear layers, activations, dropout
        and batch norm need none. Inputs that are no (batch, features) tables must have the
        examples' shape later, apart from the batch size.

    Returns
    -------
    torch.nn.Module
        For a chain without examples, an ``nn.Sequential`` of Linear layers and activations
        that begins with a ``Select`` of inputs (after the model's Flatten); otherwise a
        ``torch.fx.GraphModule`` whose layers keep their names. It saves, pickles and
        deep-copies as any module.

    Raises TypeError for a model that needs `example_inputs` and has none, that torch.export
    cannot trace, that branches on the number of samples or makes a constant of it, or that
    runs an operation through which paths cannot be followed; ValueError for a chain without a
    Linear layer and for an average of masks; RuntimeError should the outputs differ.
    """
    if example_inputs is None:
        small = _compact_chain(model)
        examples = ((next(model.parameters()).new_zeros(2, _features(model)),), {})
    else:
        graph = trace(model, example_inputs)
        fold_batch_norm(graph)
        found = reach(graph)
        small = rebuild(graph, found, Cuts(graph, found))
        if shared := shared_weights(graph):
            # each use of a weight may be cut in another way, which takes a copy of it
            whole = rebuild(graph, found, Cuts(graph, found, whole=shared))
            small = min(whole, small, key=_size)
        examples = arguments(example_inputs)
    plain = plain_copy(model)
    if example_inputs is not None:
        _check_constants(plain, small, graph, example_inputs)
    _check(plain, small, *examples)
    # a buffer may have become a layer; what is computed from shared weights, a copy of them
    buffers = sum(buffer.numel() for buffer in plain.buffers())
    if example_inputs is not None and _size(small) > _size(plain) + buffers:
        return plain.eval()
    return small


def _check_constants(
    model: nn.Module, small: nn.Module, graph: Graph, example_inputs: Examples
) -> None:
    """Raise TypeError where torch.export took the number of samples for a constant, and the
    model does not."""
    if not any(graph.fixed):
        return
    for args, kwargs in other_samples(*two_samples(example_inputs), graph.fixed):
        try:
            expected = _tensors(model(*args, **kwargs))
        except Exception:
            continue  # it is one for the model too
        with contextlib.suppress(Exception):
            found = _tensors(small(*args, **kwargs))
            if all(_error(*pair) is None for pair in zip(expected, found, strict=True)):
                continue
        raise TypeError(
            "model: its forward pass makes a constant of the number of samples, as len(x) and"
            " int(x.shape[0]) do, so what is cut out would hold for the examples' number only;"
            " x.shape[0] is followed"
        )


def _size(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def _features(model: nn.Module) -> int:
    return next(layer.in_features for _, layer in chain(model) if isinstance(layer, nn.Linear))


def _compact_chain(model: nn.Module) -> nn.Sequential:
    layers = list(chain(model))
    for position, (name, layer) in enumerate(layers):
        leading_flatten = isinstance(layer, nn.Flatten) and position == 0
        if not (leading_flatten or isinstance(layer, CHAINED)):
            raise TypeError(
                f"model: {name!r} is a {type(layer).__name__}; without example_inputs compact "
                "handles chains of Linear layers, elementwise activations, dropout and batch "
                f"norm, after an optional Flatten; {EXAMPLES}"
            )
    if not any(isinstance(layer, nn.Linear) for _, layer in layers):
        raise ValueError("model: has no Linear layer to make smaller")
    graph = trace_chain(model, _features(model))
    fold_batch_norm(graph, copies=True)  # each layer of the chain is written anew
    if any(operation(node) in BATCH_NORM for node in graph.nodes.nodes):
        raise TypeError(
            "model: has batch norm without running statistics, or with no Linear layer right "
            f"before or after it, so that it cannot be written into one; {EXAMPLES}"
        )
    found = reach(graph)
    cuts = Cuts(graph, found)
    nodes = iter(linear_nodes(graph))
    modules: list[nn.Module] = []
    first = True
    for _, layer in layers:
        if isinstance(layer, nn.Linear):
            node = next(nodes)
            if first:
                modules.append(Select(cuts.folds[node].keep))
                first = False
            modules.append(smaller_layer(node, graph, cuts, found))
            if modules[-1].bias is None:
                modules[-1].bias = nn.Parameter(
                    modules[-1].weight.new_zeros(modules[-1].out_features),
                    requires_grad=modules[-1].weight.requires_grad,
                )
        elif not isinstance(layer, (nn.Identity, nn.Dropout, nn.BatchNorm1d)):
            modules.append(copy.deepcopy(layer))
    return nn.Sequential(*modules).eval()


def _check(model: nn.Module, small: nn.Module, args: tuple, kwargs: dict) -> None:
    """Raise RuntimeError unless both compute the same on the examples and on random inputs of
    their shapes, where the outputs are finite: not every function takes any number."""
    generator = torch.Generator().manual_seed(0)

    def random(x: Tensor) -> Tensor:
        if not x.is_floating_point():
            return x
        return torch.randn(x.shape, generator=generator).to(x)

    others = {name: random(x) for name, x in kwargs.items()}
    both = [(args, kwargs), (tuple(map(random, args)), others)]
    found, expected = ([_tensors(m(*a, **k)) for a, k in both] for m in (small, model))
    exact = None  # it takes a copy of the model, which large outputs do not need
    for which, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        for place, pair in enumerate(zip(theirs, ours, strict=True)):
            if _error(*pair, pair[0]) is None:
                continue
            exact = exact or _in_double(model, both)
            reference = exact[which][place] if exact[which] else None
            if (error := _error(*pair, reference)) is None:
                continue
            most = pair[0][pair[0].isfinite()].abs().max()
            raise RuntimeError(
                f"compact: the smaller network's outputs differ by {error:.2g} from the"
                f" model's, which are up to {most:.2g}; this is a defect of compact"
            )


def _in_double(
    model: nn.Module, both: list[tuple[tuple, dict]]
) -> list[list[Tensor]] | list[None]:
    """A model's outputs in double precision, [] for none; None where it does not run in it."""

    def double(x: Tensor) -> Tensor:
        return x.double() if x.is_floating_point() else x

    try:
        exact = deep_copy(model).double()
        return [
            _tensors(exact(*map(double, a), **{name: double(x) for name, x in k.items()}))
            for a, k in both
        ]
    except Exception:  # as of a model that computes with constants of one precision
        return [None] * len(both)


def _error(expected: Tensor, found: Tensor, exact: Tensor | None = None) -> float | None:
    """By how much finite outputs differ, if that is more than rounding: a part of the largest
    output, or, of small ones, much more than `expected` differs from `exact`."""
    finite = expected.isfinite()
    if not finite.any():
        return None
    error = (expected - found)[finite].abs().max().item()
    size = expected[finite].abs().max().item()
    rounding = torch.finfo(expected.dtype).eps if expected.is_floating_point() else 0
    allowed = max(TOLERANCE, HALF * rounding)
    if exact is None or not expected.is_floating_point():
        return None if error <= allowed * max(1.0, size) else error
    noise = (expected - exact)[finite].abs().max().item()
    return None if error <= max(allowed * size, NOISE * noise) else error


def _tensors(outputs: object) -> list[Tensor]:
    if isinstance(outputs, Tensor):
        return [outputs]
    if not isinstance(outputs, (Mapping, list, tuple)):
        return []  # None and numbers, which torch.export keeps as they are
    return [
        each
        for part in (outputs.values() if isinstance(outputs, Mapping) else outputs)
        for each in _tensors(part)
    ]
