"""The modules of a network whose channels were cut: smaller layers, and the graph that runs
them."""

import itertools

import torch
from torch import Tensor, fx, nn

from pruning.networks.batchnorm import is_tuple
from pruning.networks.cuts import Cuts, adjusted
from pruning.networks.graph import Graph
from pruning.networks.operations import (
    BATCH_NORM,
    PRODUCTS,
    TRANSPOSED,
    argument,
    aten,
    entry_by_entry,
    operation,
)
from pruning.networks.reach import Reach

KINDS = {
    aten.linear: nn.Linear,
    aten.conv1d: nn.Conv1d,
    aten.conv2d: nn.Conv2d,
    aten.conv3d: nn.Conv3d,
    aten.conv_transpose1d: nn.ConvTranspose1d,
    aten.conv_transpose2d: nn.ConvTranspose2d,
    aten.conv_transpose3d: nn.ConvTranspose3d,
}


class Select(nn.Module):
    """Keep input features: (…, inputs) ↦ (…, kept). `keep` is boolean, (inputs,)."""

    def __init__(self, keep: Tensor):
        super().__init__()
        self.features = len(keep)
        self.register_buffer("indices", keep.nonzero().flatten())

    def forward(self, x: Tensor) -> Tensor:
        """Pick the columns. Raises ValueError for another number of features."""
        if x.shape[-1] != self.features:
            raise ValueError(f"x: got {x.shape[-1]} features, needs {self.features}")
        return x.index_select(-1, self.indices)

    def extra_repr(self) -> str:
        """How many features, for print(model)."""
        return f"{len(self.indices)} of {self.features} features"


class Shape(nn.Module):
    """Refuse inputs of another shape than the one that the network was made smaller for."""

    def __init__(self, sizes: tuple[int, ...]):
        super().__init__()
        self.sizes = tuple(sizes)

    def forward(self, x: Tensor) -> Tensor:
        """The input itself. Raises ValueError for another shape."""
        if x.shape[1:] != self.sizes:
            raise ValueError(f"x: got shape {tuple(x.shape)}, needs (batch, *{self.sizes})")
        return x

    def extra_repr(self) -> str:
        """The shape without the batch, for print(model)."""
        return f"{self.sizes}"


def smaller_layer(node: fx.Node, graph: Graph, cuts: Cuts, reach: Reach) -> nn.Module:
    """The module of a layer, without the inputs and outputs that are cut; what was frozen
    stays so."""
    kind, fold = operation(node), cuts.folds[node]
    weight = reach.values[node.args[1]]
    bias_node = argument(node, "bias")
    bias = None if bias_node is None else reach.values[bias_node].clone()
    groups = argument(node, "groups", 1)
    cut = cuts.kept.get(node)
    rows = (
        fold.keep.new_ones(reach.values[node].shape[_channel_dim(node, reach)])
        if cut is None
        else cut.keep
    )
    if groups > 1:
        stay = rows.view(groups, -1).any(1)
        weight = weight.unflatten(0, (groups, -1))[stay].flatten(0, 1)
        groups = int(stay.sum())
    else:
        weight = weight.transpose(0, 1) if kind in TRANSPOSED else weight
        taken = torch.einsum("oi...,i->o...", weight, fold.constants)
        if fold.carrier is None:
            if fold.constants.any():
                total = taken.reshape(len(taken), -1).sum(1)
                bias = total if bias is None else bias + total
        else:
            weight = weight.clone()
            carried = reach.values[node.args[0]].movedim(_channel_dim(node, reach), 0)[
                fold.carrier
            ]
            read = reach.read[node.args[0]].movedim(_channel_dim(node, reach), 0)[fold.carrier]
            weight[:, fold.carrier] += taken / carried[read][0]
        weight = weight[rows][:, fold.keep]
        weight = weight.transpose(0, 1) if kind in TRANSPOSED else weight
    bias = None if bias is None else bias[rows]
    layer = _module(
        node, weight.contiguous().clone(), bias, groups, int(rows.sum()), int(fold.keep.sum())
    )
    layer.weight.requires_grad_(graph.is_trained(node.args[1]))
    if layer.bias is not None:  # one that takes over constants is trained with the weights
        layer.bias.requires_grad_(graph.is_trained(bias_node or node.args[1]))
    return layer


def _channel_dim(node: fx.Node, reach: Reach) -> int:
    return reach.values[node].dim() - 1 if operation(node) is aten.linear else 1


def _module(
    node: fx.Node, weight: Tensor, bias: Tensor | None, groups: int, outputs: int, inputs: int
):
    kind = KINDS[operation(node)]
    if kind is nn.Linear:
        layer = nn.Linear(1, 1, bias=bias is not None, device="meta")
        layer.out_features, layer.in_features = weight.shape
    else:
        names = [
            name
            for name in ("stride", "padding", "dilation", "output_padding")
            if argument(node, name)
        ]
        options = {name: _tuple(argument(node, name)) for name in names}
        layer = kind(
            inputs,
            outputs,
            tuple(weight.shape[2:]),
            groups=groups,
            bias=bias is not None,
            device="meta",
            **options,
        )
    layer.weight = nn.Parameter(weight)
    layer.bias = None if bias is None else nn.Parameter(bias.clone())
    return layer


def _alike(a: nn.Module, b: nn.Module) -> bool:
    """Whether two uses of one layer, cut, are still the same layer."""
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=False)
    return repr(a) == repr(b) and all(torch.equal(x, y) for x, y in pairs)


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b)


def _tuple(option: object) -> object:
    return tuple(option) if isinstance(option, (list, tuple)) else option


def rebuild(graph: Graph, found: Reach, cuts: Cuts) -> fx.GraphModule:
    """The traced model without what is cut: layers as modules under their old names, the rest
    as ATen calls."""
    modules: dict[str, object] = {}
    nodes, made = fx.Graph(), {}
    taken = set()
    layers: dict[fx.Node, list[str]] = {}  # names of the modules made of each weight
    parameters: dict[fx.Node, list[nn.Parameter]] = {}  # made of each tensor

    def path(wanted: str) -> str:
        names = itertools.chain([wanted], (f"{wanted}_{n}" for n in itertools.count(1)))
        taken.add(name := next(each for each in names if each not in taken))
        return name

    def tied(node: fx.Node, parameter: nn.Parameter) -> nn.Parameter:
        """A parameter of the graph's tensor, once for all its uses that are cut alike."""
        for each in parameters.setdefault(node, []):
            if each.requires_grad == parameter.requires_grad and _equal(each, parameter):
                return each
        parameters[node].append(parameter)
        return parameter

    def static(node: fx.Node, cut: Tensor | None = None, dim: int = 0) -> fx.Node | float:
        value = found.values[node]
        if isinstance(value, float):  # that was read from a weight
            return value
        value = (
            value.clone()
            if cut is None
            else value.movedim(dim, 0)[cut].movedim(0, dim).clone()
        )
        name = path(
            (graph.tensors[node][0] if node in graph.tensors else node.name).replace(".", "_")
        )
        trained = value.is_floating_point() and graph.is_trained(node)
        kept = (
            node in graph.tensors and node not in graph.buffers
        )  # a parameter, if a frozen one
        modules[name] = (
            tied(node, nn.Parameter(value, requires_grad=trained))
            if trained or (kept and value.is_floating_point())
            else value
        )
        return nodes.get_attr(name)

    def use(node: fx.Node) -> fx.Node:
        return static(node) if node in cuts.static else made[node]

    for node in graph.examples:
        made[node] = nodes.placeholder(node.name)
    for node in graph.examples:
        if (cut := cuts.kept.get(node)) is not None:
            modules[name := path("select")] = Select(cut.keep)
            made[node] = nodes.call_module(name, (made[node],))
        elif found.values[node].dim() > 2:
            modules[name := path("shape")] = Shape(tuple(found.values[node].shape[1:]))
            made[node] = nodes.call_module(name, (made[node],))
    for node in graph.nodes.nodes:
        if node.op != "call_function" or node in cuts.static:
            continue
        kind, cut = operation(node), cuts.kept.get(node)
        if node in cuts.folds:
            name = (
                graph.tensors[node.args[1]][0] if node.args[1] in graph.tensors else node.name
            )
            layer = smaller_layer(node, graph, cuts, found)
            uses = layers.setdefault(node.args[1], [])
            same = next((n for n in uses if _alike(layer, modules[n])), None)
            if same is None:
                for each, held in zip(("weight", "bias"), node.args[1:3], strict=False):
                    if held is not None:  # a bias may be new, of constants that are cut
                        setattr(layer, each, tied(held, getattr(layer, each)))
                same = path(name.removesuffix("weight").strip("._") or "layer")
                modules[same] = layer
                uses.append(same)
            made[node] = nodes.call_module(same, (made[node.args[0]],))
        elif kind in {aten.dropout, aten.feature_dropout, aten.alpha_dropout}:
            made[node] = made[node.args[0]]
        elif kind in BATCH_NORM:
            source = cuts.kept.get(node.args[0])  # its statistics lie along dimension 1
            keep = source.keep if source is not None and source.dim == 1 else None
            if keep is not None and not keep.any():  # torch has no batch norm of no channels
                given = made[node.args[0]]
                made[node] = (given,) if is_tuple(node) else given
                continue
            parts = [None if e is None else static(e, keep) for e in node.args[1:5]]
            made[node] = nodes.call_function(
                node.target, (made[node.args[0]], *parts, *node.args[5:])
            )
        elif cut is not None and (entry_by_entry(node) or kind in PRODUCTS):
            size = found.values[node].dim()

            def operand(each, cut=cut, size=size, kind=kind):
                if each not in cuts.static:
                    return made[each]
                value = found.values[each]
                if isinstance(value, float):
                    return value
                dim = cut.dim - (size - value.dim())
                if kind is aten.prelu:  # its slopes lie along dimension 1
                    dim = 0 if cut.dim == 1 else -1
                whole = value.dim() == 0 or dim < 0 or value.shape[dim] == 1
                return static(each) if whole else static(each, cut.keep, dim)

            args = fx.node.map_arg(tuple(node.args), operand)
            made[node] = nodes.call_function(node.target, args, dict(node.kwargs))
        else:
            args = fx.node.map_arg(adjusted(node, cuts.kept, found), use)
            made[node] = nodes.call_function(
                node.target, args, fx.node.map_arg(dict(node.kwargs), use)
            )
    nodes.output(graph.nested(fx.node.map_arg(tuple(graph.nodes.output_node().args[0]), use)))
    small = fx.GraphModule(modules, nodes, "Compact").eval()
    small.graph.eliminate_dead_code()
    small.recompile()
    return small
