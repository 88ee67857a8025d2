r"""Feature importance from structure (Zhang, Tao, Zhang 2023, arXiv:2311.12526, Eq. 4).

The share that neuron i has in what flows into neuron j of the next layer,

    F_ij = |W_ij| / Σ_k |W_kj|      (Eq. 4; pruned weights are 0)

multiplied over the layers, says how much of an output comes from each input: the sum over all
paths between them of the products of shares along the path.

Differs from the paper: connections from neurons that no input reaches carry a constant, not a
feature, so they are left out before shares are taken. Without that a row would sum to less
than 1."""

import torch
from torch import Tensor, nn

from pruning.networks.chain import ELEMENTWISE, chain, graph_of, linear_nodes
from pruning.networks.masks import effective
from pruning.networks.prunable import check_weight
from pruning.networks.reach import reach

FOLLOWED = (
    "importance follows nested nn.Sequential of Linear layers with elementwise activations,"
    " dropout and batch norm, after an optional Flatten; pruning.networks.attribution explains"
    " any model"
)


def _batch_norm_factors(layer: nn.BatchNorm1d) -> Tensor:
    scale = (
        torch.ones_like(layer.running_var) if layer.weight is None else layer.weight.detach()
    )
    return (scale / (layer.running_var + layer.eps).sqrt()).abs().double()


def absolute_weights(model: nn.Module) -> list[Tensor]:
    """|W| of each layer of a chain of Linear layers, (outputs, inputs), float64, pruned
    weights 0.

    Batch norm is folded: into the Linear layer right before it, or into the one after it.
    Raises TypeError for a layer that cannot be followed, ValueError for a model without a
    Linear layer."""
    sizes: list[Tensor] = []
    columns, last = None, None  # factors for the next layer's inputs; the module before
    for position, (name, layer) in enumerate(chain(model, instead=FOLLOWED)):
        if isinstance(layer, nn.Linear):
            check_weight(name, layer)
            size = effective(layer).abs().double()
            sizes.append(size if columns is None else size * columns)
            columns = None
        elif isinstance(layer, nn.BatchNorm1d):
            if layer.running_var is None:
                raise TypeError(
                    f"model: {name!r} has no running statistics, so it cannot be folded into"
                    " weights"
                )
            factors = _batch_norm_factors(layer)
            if isinstance(last, nn.Linear):
                sizes[-1] = sizes[-1] * factors[:, None]
            else:
                columns = factors if columns is None else columns * factors
        elif not (
            isinstance(layer, ELEMENTWISE) or (isinstance(layer, nn.Flatten) and position == 0)
        ):
            raise TypeError(f"model: {name!r} is a {type(layer).__name__}; {FOLLOWED}")
        if not isinstance(layer, (nn.Dropout, nn.Identity)):
            last = layer
        if sizes and not sizes[-1].isfinite().all():
            raise ValueError(
                f"model: weights are NaN or infinite at layer {name!r}, needs finite ones"
            )
    if not sizes:
        raise ValueError("model: has no Linear layer, so no structure to read importance from")
    return sizes


@torch.no_grad()
def feature_importance(model: nn.Module) -> Tensor:
    """How much of each output comes from each input (Eq. 4), (outputs, inputs), float64,
    nothing negative.

    The share of neuron i in neuron j of the next layer, F_ij = |W_ij| / Σ_k |W_kj|, is
    multiplied along every path and summed over the paths: with shares as matrices (outputs,
    inputs), the product F_L ⋯ F_2 F_1. A row sums to 1, or to 0 where no input reaches the
    output. For chains of Linear layers, gated, pruned or dense, with activations, dropout,
    batch norm and a leading Flatten. Batch norm is folded into the weights first, since it
    scales what a neuron receives or passes on; activations are not looked at.

    Raises TypeError for a model that is no such chain, ValueError for one without a Linear
    layer and for weights that are complex, sparse or not finite."""
    sizes, graph = absolute_weights(model), graph_of(model)
    depends = reach(graph).depends
    importance = None  # of the inputs for the neurons so far, (neurons, inputs)
    for size, node in zip(sizes, linear_nodes(graph), strict=True):
        size = size * depends[node.args[0]].any(0)  # a constant neuron passes no feature on
        total = size.sum(1, keepdim=True)
        share = torch.where(total > 0, size / total, 0.0)  # Eq. 4
        importance = share if importance is None else share @ importance
    return importance
