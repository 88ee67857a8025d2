"""The graph of any model, by torch's own tracers.

`trace` gives the computation as ATen operations without in-place changes: ``torch.export`` on
example inputs, or, for a chain of Linear layers, ``make_fx``, which needs no examples and
takes milliseconds. What a module is called, how often it is used, whether it is called by
keyword, and whether its class overrides ``forward`` makes no difference: only the operations
count."""

import contextlib
import inspect
import io
import itertools
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, fx, nn
from torch._ops import HigherOrderOperator, OpOverload
from torch.func import functional_call
from torch.nn.utils import parametrize, prune
from torch.utils._pytree import TreeSpec, tree_leaves, tree_unflatten

from pruning.networks.copies import deep_copy
from pruning.networks.masks import check_masks
from pruning.networks.operations import argument, aten, where
from pruning.networks.prunable import listed, untie

# torch's tracers are imported where they are used: they take long, and most processes never
# trace
if TYPE_CHECKING:
    from torch.export import ExportedProgram

MANY = 16  # times as many samples as the examples, to see whether a number is followed
ASKED = 1024  # samples, the most that are tried where the forward pass asks for a number
UNBOUNDED = 2**40  # samples; torch.export's bounds are symbols that compare with numbers
Examples = Tensor | Sequence[Tensor] | Mapping[str, Tensor]


def varies(size: int | torch.SymInt) -> bool:
    """Whether a size depends on the number of samples, or on another length that was not
    given."""
    from torch.fx.experimental.symbolic_shapes import free_symbols

    return bool(free_symbols(size))


@dataclass
class Graph:
    """A traced model in evaluation mode, masks and other parametrizations written into its
    weights."""

    nodes: fx.Graph
    tensors: dict[
        fx.Node, tuple[str, Tensor]
    ]  # nodes that stand for parameters, buffers and constants
    examples: dict[fx.Node, Tensor]  # nodes that stand for inputs
    outputs: TreeSpec | None  # how the outputs are nested; None where there is one tensor
    buffers: set[fx.Node] = field(default_factory=set)  # of the tensors, those nobody trains
    names: dict[str, str] = field(default_factory=dict)  # of any name, the one in `tensors`
    trained: set[fx.Node] = field(default_factory=set)  # of the tensors, those with a gradient
    weights: frozenset[int] = frozenset()  # addresses of the data of what can be pruned

    @property
    def results(self) -> list[fx.Node]:
        """The nodes whose values are the model's outputs."""
        return [node for node in self.nodes.output_node().args[0] if isinstance(node, fx.Node)]

    @property
    def fixed(self) -> list[bool]:
        """Of each input, whether torch.export took its number of samples for a constant."""
        return [
            value.dim() > 0 and not varies(node.meta["val"].shape[0])
            for node, value in self.examples.items()
        ]

    @property
    def batch(self) -> torch.SymInt | None:
        """The number of samples, of the first input for which it is no constant."""
        sizes = (node.meta["val"].shape[0] for node, x in self.examples.items() if x.dim())
        return next(filter(varies, sizes), None)

    def is_batch(self, node: fx.Node) -> bool:
        """Whether an input has that number of samples, and no other length in its place."""
        value = node.meta["val"]
        if not value.dim() or not varies(value.shape[0]):
            return False
        return value.shape[0].node.expr == self.batch.node.expr

    def is_trained(self, node: fx.Node) -> bool:
        """Whether something with a gradient is among what a constant is computed from."""
        waiting = [node]
        while waiting:
            each = waiting.pop()
            if each in self.trained:
                return True
            waiting += each.all_input_nodes
        return False

    def nested(self, results: Sequence[object]) -> object:
        """Outputs as the model nests them, from those of `results`' order."""
        return (
            results[0] if self.outputs is None else tree_unflatten(list(results), self.outputs)
        )


def of_weights(hook: object) -> bool:
    """Whether a hook around a forward pass has to do with weights alone: one of this package,
    a mask of ``torch.nn.utils.prune``, or the old weight norm and spectral norm."""
    torchs = isinstance(hook, prune.BasePruningMethod) or hasattr(hook, "compute_weight")
    return torchs or str(getattr(hook, "__module__", "")).startswith("pruning.")


def plain_copy(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose weights are what the model computes with: no masks,
    gates, weight norm, spectral norm or other parametrizations, and no in-place
    activations. Raises ValueError for an average of masks."""
    check_masks(model)
    computed = (
        value
        for module in model.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and not value.is_leaf
    )  # such as the weight of ``torch.nn.utils.weight_norm``: deepcopy refuses them
    plain = deep_copy(model, {id(value): value.detach().clone() for value in computed}).eval()
    for module in plain.modules():
        if parametrize.is_parametrized(module):
            # copies share the class that holds the properties: the model must keep its own
            module.__class__ = type(
                type(module).__name__, type(module).__bases__, dict(vars(type(module)))
            )
            for name in list(module.parametrizations):
                untie(plain, module, name)
                parametrize.remove_parametrizations(module, name, leave_parametrized=True)
        for key, hook in list(module._forward_pre_hooks.items()):
            if isinstance(hook, prune.BasePruningMethod):
                untie(plain, module, hook._tensor_name)
                prune.remove(module, hook._tensor_name)
            elif hasattr(hook, "compute_weight"):  # weight_norm and spectral_norm, as hooks
                hook.remove(module)
                del module._forward_pre_hooks[key]
        if getattr(module, "inplace", False) is True:
            module.inplace = False
    return plain


def arguments(example_inputs: Examples) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    """Positional and keyword arguments. Raises TypeError for what is no tensor, sequence or
    dict of tensors."""
    if isinstance(example_inputs, Tensor):
        return (example_inputs,), {}
    if isinstance(example_inputs, Mapping):
        args, kwargs = (), dict(example_inputs)
    elif isinstance(example_inputs, Sequence):
        args, kwargs = tuple(example_inputs), {}
    else:
        raise TypeError(
            f"example_inputs: got {type(example_inputs).__name__}, needs a tensor, a tuple of"
            " tensors for the positional arguments, or a dict of tensors for keyword"
            " arguments"
        )
    for value in (*args, *kwargs.values()):
        if not isinstance(value, Tensor):
            raise TypeError(
                f"example_inputs: holds a {type(value).__name__}, needs tensors only"
            )
    return args, kwargs


def two_samples(example_inputs: Examples) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    """`arguments`, with one sample given twice: torch.export takes a batch of one for a
    constant. All are copies, because it takes one tensor in two places for one input."""

    def two(example: Tensor) -> Tensor:
        one = example.dim() and len(example) == 1
        return torch.cat([example, example]) if one else example.detach().clone()

    args, kwargs = arguments(example_inputs)
    return tuple(map(two, args)), {name: two(value) for name, value in kwargs.items()}


def other_samples(
    args: Sequence[Tensor], kwargs: Mapping[str, Tensor], fixed: Sequence[bool]
) -> Iterator[tuple[tuple[Tensor, ...], dict[str, Tensor]]]:
    """Arguments with other numbers of samples where `fixed` says so, by which a number shows
    that is taken for a constant."""
    given = list(zip((*args, *kwargs.values()), fixed, strict=True))
    for other in (
        lambda x: x[:1],
        lambda x: x[:2],
        lambda x: torch.cat([x, x[:1]]),
        lambda x: torch.cat([x] * MANY),
    ):
        values = [other(value) if constant else value for value, constant in given]
        yield (
            tuple(values[: len(args)]),
            dict(zip(kwargs, values[len(args) :], strict=True)),
        )


def trace(model: nn.Module, example_inputs: Examples) -> Graph:
    """The graph of any model that ``torch.export`` can follow, for any batch size.

    example_inputs : one tensor, a tuple of them (positional arguments), or a dict (keyword
        arguments), of the shapes the model is used with; the first dimension is the batch and
        may have another size later. One or two samples suffice.

    Raises TypeError with torch's reason for a model that cannot be traced, and for one that
    computes something else with other numbers of samples.
    """
    args, kwargs = two_samples(example_inputs)
    plain = plain_copy(model)
    try:
        exported = _exported(plain, args, kwargs)
        program = _simplified(exported)
    except Exception as error:
        reason = next(
            (line for line in str(error).splitlines() if line.strip()), type(error).__name__
        )
        raise TypeError(
            f"model: torch.export cannot trace {type(model).__name__} with these"
            f" example_inputs: {reason}"
        ) from error
    _check_operators(program)
    _check_batches(program)
    graph = _from_export(program, [*args, *kwargs.values()], first_names(plain))
    graph.weights = frozenset(getattr(m, name).data_ptr() for _, m, name in listed(plain))
    if any(fixed := graph.fixed):
        _check_branches(fixed, exported, plain, args, kwargs)
    _check_numbers(graph, plain, args, kwargs)
    return graph


def _exported(
    plain: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]
) -> "ExportedProgram":
    import torch.export

    named = inspect.signature(plain.forward).bind(*args, **kwargs).arguments
    dynamic = {name: _any_batch(value) for name, value in named.items()}
    with warnings.catch_warnings(), torch.enable_grad(), _without_logs():
        warnings.simplefilter("ignore")
        return torch.export.export(plain, args, kwargs, dynamic_shapes=dynamic, strict=False)


def _simplified(program: "ExportedProgram") -> "ExportedProgram":
    """Without in-place changes, and with SIMPLER's operations in place of composed ones. This
    takes three times as long as the export of a small model, so one that is simple already is
    returned as it is."""
    if all(map(_is_simple, program.graph.nodes)):
        return program
    with warnings.catch_warnings(), torch.enable_grad(), _without_logs():
        warnings.simplefilter("ignore")
        return program.run_decompositions(SIMPLER)


def _is_simple(node: fx.Node) -> bool:
    """Whether a node can stay as it is: it is used, changes nothing in place, and is one
    operation, not composed of others, but for those that are followed as they are."""
    op = node.target
    if node.op != "call_function":
        return True
    if not node.users or isinstance(op, HigherOrderOperator):
        return False
    if not isinstance(op, OpOverload):  # of Python's own
        return True
    if op in SIMPLER or op._schema.is_mutable:
        return False
    if op in IN_EVALUATION:
        return not argument(node, IN_EVALUATION[op])
    return op in WHOLE or not op.has_kernel_for_dispatch_key(COMPOSITE)


LOGGERS = (
    "_export.non_strict_utils",
    "_subclasses.fake_tensor",
    "fx.experimental.symbolic_shapes",
)


@contextlib.contextmanager
def _without_logs() -> Iterator[None]:
    """What fails in tracing is raised, so that torch need not log or print it too."""
    logs = [logging.getLogger(f"torch.{name}") for name in LOGGERS]
    for log in logs:
        log.addFilter(_drop)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        for log in logs:
            log.removeFilter(_drop)


def _drop(record: logging.LogRecord) -> bool:
    return False


def _check_branches(
    fixed: Sequence[bool],
    exported: "ExportedProgram",
    plain: nn.Module,
    args: tuple[Tensor, ...],
    kwargs: dict[str, Tensor],
) -> None:
    """Raise TypeError where another number of samples, which torch.export took for a constant,
    takes the model through other operations."""

    def operations(nodes: fx.Graph) -> list:
        return [node.target for node in nodes.nodes if node.op == "call_function"]

    for other in other_samples(args, kwargs, fixed):
        try:
            program = _exported(plain, *other)
        except Exception:
            continue  # the number is a constant for the model too
        if operations(program.graph) != operations(exported.graph):
            raise TypeError(
                "model: its forward pass branches on the number of samples, as len(x) gives"
                " it; what these example_inputs take needs to hold for any"
            )


def _check_operators(program: "ExportedProgram") -> None:
    """Raise TypeError for an operator that takes functions, such as a branch on data."""
    for node in program.graph.nodes:
        if isinstance(node.target, HigherOrderOperator):
            raise TypeError(
                f"model: {where(node)} runs torch.{node.target.name()}, which takes functions"
                " and cannot be followed"
            )


def _check_numbers(
    graph: Graph, plain: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]
) -> None:
    """Raise TypeError where the model computes something else of other numbers of samples: of
    one, since torch.export traces two or more and takes ``len(x) == 1`` for settled, and of
    those that the forward pass asks for."""
    batch = graph.batch
    for number in (1, *sorted(_asked_for(batch))) if batch is not None else ():
        if not _computes(graph, plain, args, kwargs, number):
            raise TypeError(
                "model: its forward pass branches on the number of samples; of"
                f" {number} it computes something else, and what is traced needs to hold for"
                " any number"
            )


def _asked_for(batch: torch.SymInt) -> set[int]:
    """Numbers of samples that the trace has found to be unequal to that of the examples."""
    return {
        int(guard.expr.rhs)
        for guard in batch.node.shape_env.guards
        if guard.expr.func.__name__ == "Unequality"
        and guard.expr.lhs == batch.node.expr
        and guard.expr.rhs.is_Integer
        and guard.expr.rhs <= ASKED
    }


def _computes(
    graph: Graph,
    plain: nn.Module,
    args: tuple[Tensor, ...],
    kwargs: dict[str, Tensor],
    number: int,
) -> bool:
    """Whether the graph computes what the model does of so many samples; True where the model
    takes no such number."""
    given = [
        torch.cat([x] * -(-number // len(x)))[:number] if graph.is_batch(node) else x
        for node, x in graph.examples.items()
    ]
    rest = iter(given)
    values = [
        graph.tensors[node][1] if node in graph.tensors else next(rest, None)
        for node in graph.nodes.nodes
        if node.op == "placeholder"
    ]
    with torch.no_grad():
        try:
            named = dict(zip(kwargs, given[len(args) :], strict=True))
            expected = plain(*given[: len(args)], **named)
        except Exception:
            return True
        with contextlib.suppress(Exception):
            found = fx.Interpreter(graph.nodes.owning_module).run(*values)
            return _same(tree_leaves(expected), found)
    return False


def _same(expected: Sequence[object], found: Sequence[object]) -> bool:
    """Whether outputs agree, to a hundredth of the largest number or what half precision
    leaves: another branch computes something else."""
    pairs = [(a, b) for a, b in zip(expected, found, strict=True) if isinstance(a, Tensor)]
    return all(a.shape == b.shape and _close(a, b) for a, b in pairs)


def _close(a: Tensor, b: Tensor) -> bool:
    eps = torch.finfo(a.dtype).eps if a.is_floating_point() else 0.0
    error = max(0.01, 8 * eps)
    return torch.allclose(a.double(), b.double(), error, error * _size(a), equal_nan=True)


def _size(x: Tensor) -> float:
    """The largest finite entry, by magnitude."""
    return float(x.double().nan_to_num(0, 0, 0).abs().amax()) if x.numel() else 0.0


def _any_batch(value: object) -> object:
    """That the first dimension may have any size, for each tensor of an argument; *args and
    **kwargs hold several."""
    if isinstance(value, dict):
        return {name: _any_batch(each) for name, each in value.items()}
    if isinstance(value, tuple):
        return tuple(map(_any_batch, value))
    return {0: torch.export.Dim.AUTO} if isinstance(value, Tensor) and value.dim() else None


def _check_batches(program: "ExportedProgram") -> None:
    """Raise TypeError for a program that holds for some numbers of samples only: torch.export
    follows the branch that the examples take."""
    for node in program.graph.nodes:
        value = node.meta.get("val") if node.op == "placeholder" else None
        batch = value.shape[0] if isinstance(value, Tensor) and value.dim() else 0
        if not isinstance(batch, torch.SymInt):
            continue
        allowed = program.range_constraints.get(batch.node.expr)
        if allowed is None:
            continue
        bounded = bool(allowed.upper < UNBOUNDED)
        if bounded or allowed.lower > 2:
            most = f"to {allowed.upper}" if bounded else "or more"
            raise TypeError(
                "model: its forward pass branches on the number of samples; with these"
                f" example_inputs it holds for {allowed.lower} {most} of them, and needs to"
                " hold for any"
            )


def _split(x: Tensor, sizes: int | list[int], dim: int = 0) -> list[Tensor]:
    """A split as slices, which can be cut one by one; along the batch it stays as it is."""
    length = x.shape[dim]
    if not isinstance(length, int):
        return NotImplemented
    sizes = [sizes] * -(-length // sizes) if isinstance(sizes, int) else sizes
    ends = list(itertools.accumulate(sizes))
    return [
        aten.slice.Tensor(x, dim, end - size, min(end, length))
        for size, end in zip(sizes, ends, strict=True)
    ]


def _glu(x: Tensor, dim: int = -1) -> Tensor:
    """A gated linear unit, as the product that it is."""
    half = x.shape[dim] // 2
    return aten.slice.Tensor(x, dim, 0, half) * aten.slice.Tensor(x, dim, half).sigmoid()


SIMPLER = {
    aten.split.Tensor: _split,
    aten.split_with_sizes.default: _split,
    aten.glu.default: _glu,
}
COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd
# composed operations that `run_decompositions` keeps, and others that are followed as they are
WHOLE = {
    *(op.default for op in (aten.linear, aten.conv1d, aten.conv2d, aten.conv3d, aten.matmul)),
    *(op.default for op in (aten.max_pool1d, aten.max_pool2d, aten.max_pool3d)),
    *(op.default for op in (aten.adaptive_avg_pool1d, aten.adaptive_avg_pool2d)),
    *(op.default for op in (aten.layer_norm, aten.group_norm, aten.prelu, aten.pad)),
    aten.scaled_dot_product_attention.default,
    aten.softmax.int,
    aten.flatten.using_ints,
}
IN_EVALUATION = {aten.batch_norm.default: "training", aten.dropout.default: "train"}


def first_names(model: nn.Module) -> dict[str, str]:
    """Of every name of a parameter or buffer, its first one in ``model.named_parameters()`` or
    ``named_buffers()``: a shared tensor has several, of which torch.export takes the last."""
    first: dict[int, str] = {}
    named = itertools.chain(
        model.named_parameters(remove_duplicate=False),
        model.named_buffers(remove_duplicate=False),
    )
    return {name: first.setdefault(id(value), name) for name, value in named}


def _from_export(
    program: "ExportedProgram", examples: list[Tensor], names: dict[str, str]
) -> Graph:
    from torch.export.graph_signature import InputKind

    tensors, inputs, buffers, trained = {}, {}, set(), set()
    placeholders = [node for node in program.graph.nodes if node.op == "placeholder"]
    remaining = iter(examples)
    for node, spec in zip(placeholders, program.graph_signature.input_specs, strict=True):
        if spec.kind is InputKind.USER_INPUT:
            inputs[node] = next(remaining)
        else:
            held = program.state_dict.get(spec.target)
            value = program.constants[spec.target] if held is None else held
            tensors[node] = names.get(spec.target, spec.target), value.detach()
            if value.requires_grad:
                trained.add(node)
        if spec.kind is InputKind.BUFFER:
            buffers.add(node)
    changed = [
        spec.target for spec in program.graph_signature.output_specs if spec.target is not None
    ]
    if changed:
        raise TypeError(
            f"model: its forward pass changes {changed} in evaluation mode; "
            "paths need one without side effects"
        )
    tree = program.call_spec.out_spec
    out = None if tree.is_leaf() else tree
    return Graph(program.graph, tensors, inputs, out, buffers, names, trained)


def trace_chain(model: nn.Module, features: int) -> Graph:
    """The graph of a model that maps (batch, features) tensors and has no branches on
    sizes."""
    from torch.fx.experimental.proxy_tensor import make_fx

    plain = plain_copy(model)
    tensors = {**dict(plain.named_parameters()), **dict(plain.named_buffers())}
    first = next(value for value in tensors.values() if value.is_floating_point())
    example = first.new_zeros(2, features)
    traced = make_fx(lambda state, x: functional_call(plain, state, (x,)), pre_dispatch=True)(
        tensors, example
    )
    *held, last = (node for node in traced.graph.nodes if node.op == "placeholder")
    named = {
        node: (name, value.detach())
        for node, (name, value) in zip(held, tensors.items(), strict=True)
    }
    trained = {
        node for node, value in zip(held, tensors.values(), strict=True) if value.requires_grad
    }
    return Graph(
        traced.graph, named, {last: example}, None, names=first_names(plain), trained=trained
    )
