"""A pruned network as a file that runs without this package: ONNX, or a small archive for
plain NumPy.

Both hold the `compact` network, which gives the outputs of the pruned one. The archive lists
every living connection once, so its size follows the weights that are left:

    import numpy as np
    from pruning.networks.export import NumpyNetwork

    logits = NumpyNetwork("network.npz")(images)  # (batch, inputs) ↦ (batch, outputs)

`NumpyNetwork` needs NumPy alone and may be copied out of here.
"""

import itertools
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pruning.networks.compact import compact
from pruning.networks.graph import Examples, two_samples
from pruning.networks.rebuild import Select

ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "relu": lambda z: np.maximum(z, 0),
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "tanh": np.tanh,
    "silu": lambda z: z / (1 + np.exp(-z)),
    "none": lambda z: z,
}
_NAMES = {nn.ReLU: "relu", nn.Sigmoid: "sigmoid", nn.Tanh: "tanh", nn.SiLU: "silu"}


class NumpyNetwork:
    """A network from the archive that `to_numpy` writes; ValueError for a file that is
    something else."""

    def __init__(self, path: str | Path):
        with np.load(path, allow_pickle=False) as file:
            if "activation" not in file or str(file["activation"]) not in ACTIVATIONS:
                raise ValueError(
                    f"path: {path} is no network that pruning.export.to_numpy wrote"
                )
            self.features = int(file["features"]) if "features" in file else None
            self.inputs, sizes = file["inputs"], [int(size) for size in file["sizes"]]
            self.activation = ACTIVATIONS[str(file["activation"])]
            ends, bias_ends = np.cumsum(file["counts"])[:-1], np.cumsum(sizes[1:])[:-1]
            edges = (np.split(file[name], ends) for name in ("targets", "sources", "values"))
            self.weights = [np.zeros((o, i), np.float32) for i, o in itertools.pairwise(sizes)]
            for weight, target, source, value in zip(self.weights, *edges, strict=True):
                weight[target, source] = value
            self.biases = np.split(file["biases"], bias_ends)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(batch, inputs) ↦ (batch, outputs). Raises ValueError for another shape."""
        if x.ndim != 2 or self.features not in (None, x.shape[1]):
            raise ValueError(f"x: got shape {x.shape}, needs (batch, {self.features})")
        x = x[:, self.inputs]
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = self.activation(x @ weight.T + bias)
        return x @ self.weights[-1].T + self.biases[-1]


def _written(path: str | Path, write: Callable[[Path], None]) -> int:
    """Write to a temporary name, move, and say how many bytes it took."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path.stat().st_size


@torch.no_grad()
def to_numpy(model: nn.Module, path: str | Path) -> int:
    """Write a pruned chain of Linear layers as an archive for `NumpyNetwork`; returns its size
    in bytes.

    Batch norm is written into the Linear layers, and a Flatten before them is left out: the
    archive takes one row a sample. Raises TypeError for a model that is no such
    chain, ValueError for activations that are not all the same one of relu, sigmoid, tanh,
    silu, or a layer of more than 65,535 neurons.
    """
    try:
        modules = list(compact(model))
    except TypeError as error:
        raise TypeError(
            "model: to_numpy writes chains of Linear layers, activations, dropout and batch"
            f" norm next to a Linear layer, and {type(model).__name__} is none;"
            " pruning.export.to_onnx writes any model that compact handles"
        ) from error
    select, *rest = modules[1:] if isinstance(modules[0], nn.Flatten) else modules
    layers = [module for module in rest if isinstance(module, nn.Linear)]
    found = [
        _NAMES.get(type(m), type(m).__name__) for m in rest if not isinstance(m, nn.Linear)
    ]
    regular = len(found) == len(layers) - 1 and all(
        isinstance(m, nn.Linear) for m in rest[::2]
    )
    if (
        not isinstance(select, Select)
        or not regular
        or len(set(found)) > 1
        or not set(found) <= set(ACTIVATIONS)
    ):
        raise ValueError(
            f"model: has the activations {found} around {len(layers)} Linear layers, needs one"
            f" of {sorted(_NAMES.values())} between all of them"
        )
    sizes = [len(select.indices), *(layer.out_features for layer in layers)]
    if max(sizes) > np.iinfo(np.uint16).max:
        raise ValueError(f"model: has layers of {sizes} neurons, needs at most 65,535")
    living = [layer.weight.nonzero().T for layer in layers]
    values = [
        layer.weight[target, source]
        for layer, (target, source) in zip(layers, living, strict=True)
    ]
    targets, sources = torch.cat(living, 1).cpu().numpy().astype(np.uint16)
    arrays = {
        "activation": np.array(found[0] if found else "none"),
        "sizes": np.array(sizes, np.uint16),
        "features": np.array(select.features, np.uint32),
        "inputs": select.indices.cpu().numpy().astype(np.uint32),
        "counts": np.array([len(value) for value in values], np.uint32),
        "targets": targets,
        "sources": sources,
        "values": torch.cat(values).cpu().numpy().astype(np.float32),
        "biases": torch.cat([layer.bias for layer in layers]).cpu().numpy().astype(np.float32),
    }

    def write(where: Path) -> None:
        with where.open("wb") as file:
            np.savez_compressed(file, **arrays)

    return _written(path, write)


def onnx_program(model: nn.Module, example_inputs: Examples) -> torch.onnx.ONNXProgram:
    """A model as an ONNX program for any batch size; needs the extra `export` (onnx,
    onnxscript)."""
    args, kwargs = two_samples(example_inputs)
    alone = len(args) == 1 and not kwargs
    names = {"input_names": ["inputs"], "output_names": ["outputs"]} if alone else {}
    with torch.no_grad():
        outputs = model(*args, **kwargs)
    if isinstance(outputs, Mapping) and all(isinstance(e, Tensor) for e in outputs.values()):
        names["output_names"] = [str(key) for key in outputs]
    batch = [
        {0: torch.export.Dim.DYNAMIC} if x.dim() else None for x in (*args, *kwargs.values())
    ]
    shapes = dict(zip(kwargs, batch, strict=True)) if kwargs else tuple(batch)
    return torch.onnx.export(
        model, args, kwargs=kwargs, dynamo=True, verbose=False, dynamic_shapes=shapes, **names
    )


def to_onnx(model: nn.Module, path: str | Path, example_inputs: int | Examples) -> int:
    """Write the compact network as ONNX and return the size of the file in bytes.

    A model with one input tensor has "inputs" (batch, …) ↦ "outputs"; otherwise inputs keep
    their names, and so do outputs that come in a dict. The batch may have any size.

    Parameters
    ----------
    example_inputs : as for `pruning.compact`; for a chain of Linear layers the number of
        features of the full input will do.

    Needs the extra `export` (onnx, onnxscript). Raises as `pruning.compact`.
    """
    if isinstance(example_inputs, int):
        small = compact(model)
        features = next(m.features for m in small if isinstance(m, Select))
        if example_inputs != features:
            raise ValueError(
                f"example_inputs: got {example_inputs} features, the model takes {features}"
            )
        example_inputs = torch.zeros(2, features)
    else:
        small = compact(model, example_inputs)
    program = onnx_program(small, example_inputs)
    return _written(path, lambda where: program.save(where))
