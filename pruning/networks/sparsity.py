"""What is left of a pruned network: counts, and the weights that matter.

A kept weight need not do anything: its neuron may have lost all its inputs, or nothing may
read its output. `effective_weights` counts those on a path from an input to an output (as does
the literature on very sparse networks, e.g. Vysogorets and Kempe 2023, arXiv:2107.02306)."""

import math
from typing import TYPE_CHECKING

from torch import Tensor, nn

from pruning.networks.chain import graph_of
from pruning.networks.graph import Examples
from pruning.networks.masks import masks
from pruning.networks.notices import notice
from pruning.networks.reach import reach

if TYPE_CHECKING:
    import pandas


def effective_masks(
    model: nn.Module, example_inputs: Examples | None = None
) -> dict[str, Tensor]:
    """Kept weights on a path from an input to an output: {key: boolean mask shaped as the
    weight}.

    Keys are those of `pruning.masks`. A weight that the forward pass does not use is on no
    path; one that it uses in several places is on those of all of them, under each of its
    keys. Raises as `effective_weights`."""
    kept, graph = masks(model), graph_of(model, example_inputs)
    plain = {key: _parameter(model, key) for key in kept}
    parameters = {key: graph.names.get(name, name) for key, name in plain.items()}
    found = reach(graph, {name: kept[key] for key, name in parameters.items()}).effective
    return {
        key: found[name] if name in found else kept[key] & False
        for key, name in parameters.items()
    }


def _parameter(model: nn.Module, key: str) -> str:
    """The parameter's name in the plain model; a key leaves out ".weight"."""
    modules = dict(model.named_modules())
    return f"{key}.weight".removeprefix(".") if key in modules else key


def effective_weights(model: nn.Module, example_inputs: Examples | None = None) -> int:
    """Number of kept weights that lie on a path from an input to an output.

    A path runs through single weights and single entries of the tensors between them, so that
    a weight of a convolution which only meets padding does not count. Biases do not count,
    neither as weights nor as sources of a path. An entry that is multiplied with a constant 0
    ends a path; one that ``masked_fill`` or ``torch.where`` overwrites is counted all the
    same.

    Parameters
    ----------
    model : any model, gated, pruned or dense; it is read in evaluation mode.
    example_inputs : a tensor, a tuple of tensors for the positional arguments, or a dict of
        tensors for keyword arguments, of the shapes the model is used with; one or two samples
        suffice. Chains of Linear layers, activations, dropout, batch norm and a leading
        Flatten need none.

    Raises TypeError for a model that needs `example_inputs` and has none, that torch.export
    cannot trace, or that runs an operation through which paths cannot be followed; ValueError
    for a chain without weights."""
    return sum(int(mask.sum()) for mask in effective_masks(model, example_inputs).values())


def sparsity_report(
    model: nn.Module, example_inputs: Examples | None = None
) -> "pandas.DataFrame":
    """One row a prunable weight: layer, weights, kept, density, effective.

    "layer" is the key of `pruning.masks`, "kept" counts the weights that it keeps, "density"
    is kept / weights (NaN for a layer without weights, which `compact` leaves of an emptied
    one), and "effective" counts those on a path from an input to an output: see
    `effective_weights`, also for `example_inputs`. Where it reads ``<NA>`` it is not known:
    models other than chains of Linear layers need `example_inputs`, and there are operations,
    such as recurrent layers, through which paths cannot be followed, which a warning names.
    pandas takes a sum of missing numbers for 0 unless it has ``min_count=1``.
    Biases, batch norm and other layers are not counted. Sums over the rows speak for the
    network."""
    import pandas  # takes as long to import as everything else here

    found = masks(model)
    if not found:
        raise ValueError("model: has no layer with prunable weights, so nothing to report")
    try:
        effective = effective_masks(model, example_inputs)
    except TypeError as error:
        effective = {}
        if example_inputs is not None:
            notice(f"effective weights are missing: {error}")
    rows = [
        {
            "layer": name,
            "weights": mask.numel(),
            "kept": (kept := int(mask.sum())),
            "density": kept / mask.numel() if mask.numel() else math.nan,
            "effective": int(effective[name].sum()) if name in effective else None,
        }
        for name, mask in found.items()
    ]
    return pandas.DataFrame(rows).astype({"effective": "Int64"})


def totals(model: nn.Module, example_inputs: Examples | None = None) -> dict[str, int]:
    """The sums of `sparsity_report`, by the names that records give them: "dense_weights",
    "kept" and "effective"."""
    report = sparsity_report(model, example_inputs)
    return {
        "dense_weights": int(report.weights.sum()),
        "kept": int(report.kept.sum()),
        "effective": int(report.effective.sum()),
    }
