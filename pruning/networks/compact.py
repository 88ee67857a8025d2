"""A smaller network with the outputs of the pruned one: what nothing needs is cut out.

Torch-Pruning (Fang et al. 2023, arXiv:2301.12900) cuts by a dependency graph as well, but it
decides by scores and does not keep the outputs: it drops what a dead channel still adds, the
constant that batch norm and the activation make of it, and it removes from a residual sum what
another branch needs. So the cutting here is our own; `make bench` has both side by side."""

import copy

import torch
from torch import Tensor, nn

from pruning.networks.batchnorm import fold_batch_norm
from pruning.networks.chain import ELEMENTWISE, EXAMPLES, chain, linear_nodes
from pruning.networks.cuts import Cuts
from pruning.networks.graph import Examples, arguments, plain_copy, trace, trace_chain
from pruning.networks.operations import BATCH_NORM, operation
from pruning.networks.reach import reach
from pruning.networks.rebuild import Select, rebuild, smaller_layer

CHAINED = (nn.Linear, nn.BatchNorm1d, *ELEMENTWISE)
TOLERANCE = 1e-4  # of the outputs, relative to the largest


@torch.no_grad()
def compact(model: nn.Module, example_inputs: Examples | None = None) -> nn.Module:
    """A smaller network with the outputs of the pruned one.

    Neurons and channels that no output reads are cut out. So are those that no input reaches;
    the layers after them take over their constant values. For inputs of shape (batch,
    features), features that nothing reads are cut out too. The network still takes the full
    input and picks the columns it uses. Batch norm is written into the layer before it.
    Outputs equal those of ``model.eval()`` up to rounding, which is checked on random inputs.
    Features that are normalised over, attended to or multiplied with each other all stay, and
    single zeros inside a layer stay zeros. The result is in evaluation mode and shares no
    tensor with the model.

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
    cannot trace, or that runs an operation through which paths cannot be followed; ValueError
    for a chain without a Linear layer; RuntimeError should the outputs differ.
    """
    if example_inputs is None:
        small = _compact_chain(model)
        examples = ((next(model.parameters()).new_zeros(2, _features(model)),), {})
    else:
        graph = trace(model, example_inputs)
        fold_batch_norm(graph)
        found = reach(graph)
        small = rebuild(graph, found, Cuts(graph, found))
        examples = arguments(example_inputs)
    _check(plain_copy(model), small, *examples)
    return small


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
    fold_batch_norm(graph)
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
                modules.append(Select(cuts.folds[node].keep.nonzero().flatten()))
                first = False
            modules.append(smaller_layer(node, cuts, found))
            if modules[-1].bias is None:
                modules[-1].bias = nn.Parameter(
                    modules[-1].weight.new_zeros(modules[-1].out_features)
                )
        elif not isinstance(layer, (nn.Identity, nn.Dropout, nn.BatchNorm1d)):
            modules.append(copy.deepcopy(layer))
    return nn.Sequential(*modules).eval()


def _check(model: nn.Module, small: nn.Module, args: tuple, kwargs: dict) -> None:
    """Raise RuntimeError unless both compute the same on inputs of the examples' shapes."""
    generator = torch.Generator().manual_seed(0)

    def random(x: Tensor) -> Tensor:
        if not x.is_floating_point():
            return x
        return torch.randn(x.shape, generator=generator).to(x)

    args = tuple(map(random, args))
    kwargs = {name: random(x) for name, x in kwargs.items()}
    pairs = zip(
        _tensors(model(*args, **kwargs)), _tensors(small(*args, **kwargs)), strict=True
    )
    for expected, found in pairs:
        error, size = (expected - found).abs().max().item(), expected.abs().max().item()
        if not error <= TOLERANCE * max(1.0, size):
            raise RuntimeError(
                f"compact: the smaller network's outputs differ by {error:.2g} from the "
                f"model's, which are up to {size:.2g}; this is a defect of compact"
            )


def _tensors(outputs: object) -> list[Tensor]:
    if isinstance(outputs, Tensor):
        return [outputs]
    return [
        each
        for part in (outputs.values() if isinstance(outputs, dict) else outputs)
        for each in _tensors(part)
    ]
