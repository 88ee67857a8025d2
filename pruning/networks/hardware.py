"""What a pruned network costs on this machine, beside the dense one."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pruning.networks.batches import evaluating
from pruning.networks.compact import compact
from pruning.networks.copies import deep_copy
from pruning.networks.export import onnx_program
from pruning.networks.graph import Examples, arguments, plain_copy
from pruning.networks.prunable import prunable
from pruning.networks.timing import interleaved

if TYPE_CHECKING:
    import pandas

Arguments = tuple[tuple[Tensor, ...], dict[str, Tensor]]
Form = tuple[Callable[[Arguments], object], int]  # computes the outputs; bytes of its file


def hardware_report(
    model: nn.Module, example_inputs: Examples, batch: int = 64, rounds: int = 20
) -> "pandas.DataFrame":
    """Size and speed of a model and of its `pruning.compact` form, in every runtime that is
    here.

    The dense model is the model itself with its removed weights stored as zeros. Both run in
    torch and, where the packages onnx, onnxscript and onnxruntime are installed, in ONNX
    Runtime; a compact network of Linear and Conv2d layers also runs as sparse matrices (SciPy
    CSR). A runtime that has no numbers of the model's precision is left out. All of them take
    turns, and the latencies are medians, with as many threads as torch uses.

    Parameters
    ----------
    model : any model that `pruning.compact` handles.
    example_inputs : as for `pruning.compact`; latencies are measured on its first sample and
        on `batch` samples, repeated from it as often as needed.
    rounds : measurements of each latency.

    Returns
    -------
    pandas.DataFrame
        One row a network and runtime: network, runtime, weights (not 0, of the prunable
        layers; those that a model uses by ``F.linear`` or ``F.conv2d`` are a layer in its
        compact form alone), bytes (of the file that the runtime loads), macs (multiplications
        for one sample: of all weights, for CSR of those that are not 0), ms_one, ms_batch
        (latency in milliseconds), speedup_one, speedup_batch (over the dense model in torch),
        and fastest: whether no runtime has a lower latency for the batch.

    Raises as `pruning.compact`, and ValueError for a batch or rounds below 1.
    """
    import pandas  # takes long to import

    if batch < 1 or rounds < 1:
        raise ValueError(f"batch, rounds: got {batch}, {rounds}, needs 1 or more of each")
    dense = plain_copy(model)
    small = _compact(model, example_inputs)
    one, many = _repeated(example_inputs, 1), _repeated(example_inputs, batch)
    rows, pieces = [], {}
    for name, network in (("dense", dense), ("compact", small)):
        weights = sum(int((getattr(m, p) != 0).sum()) for _, m, p in prunable(network))
        found = {
            "torch": in_torch(network),
            "ONNX Runtime": in_onnx_runtime(network, example_inputs),
        }
        if name == "compact":
            found["SciPy CSR"] = in_csr(network)
        for runtime, (run, size) in ((r, f) for r, f in found.items() if f is not None):
            macs = _macs(network, one, of_zeros=runtime != "SciPy CSR")
            rows.append(
                {
                    "network": name,
                    "runtime": runtime,
                    "weights": weights,
                    "bytes": size,
                    "macs": macs,
                }
            )
            pieces[name, runtime] = run
    table = pandas.DataFrame(rows)
    for column, inputs in (("one", one), ("batch", many)):
        timed = {key: lambda run=run, x=inputs: run(x) for key, run in pieces.items()}
        medians = list(interleaved(timed, rounds, warmup=3).values())
        table[f"ms_{column}"] = [1e3 * seconds for seconds in medians]
        table[f"speedup_{column}"] = [medians[0] / seconds for seconds in medians]
    table["fastest"] = table.ms_batch == table.ms_batch.min()
    return table


def _compact(model: nn.Module, example_inputs: Examples) -> nn.Module:
    """A chain as one, because its Linear layers can be sparse matrices."""
    try:
        return compact(model)
    except (TypeError, ValueError):
        pass
    return compact(model, example_inputs)


def _repeated(example_inputs: Examples, batch: int) -> Arguments:
    def samples(x: Tensor) -> Tensor:
        return x.repeat(-(-batch // len(x)), *[1] * (x.dim() - 1))[:batch] if x.dim() else x

    args, kwargs = arguments(example_inputs)
    return tuple(map(samples, args)), {name: samples(x) for name, x in kwargs.items()}


def _macs(network: nn.Module, one: Arguments, of_zeros: bool = True) -> int:
    """Multiplications for one sample: of all weights, or of those that are not 0."""
    skipped, hooks = [], []

    def skip(module: nn.Module, inputs: object, outputs: Tensor) -> None:
        if len(module.weight):
            places = outputs.numel() // len(module.weight)
            skipped.append(places * int((module.weight == 0).sum()))

    if not of_zeros:
        hooks = [m.register_forward_hook(skip) for _, m, _ in prunable(network)]
    # the counter does not see into attention's fused kernels
    with evaluating(network), FlopCounterMode(display=False) as counter, torch.no_grad():
        network(*one[0], **one[1])
    for hook in hooks:
        hook.remove()
    return counter.get_total_flops() // 2 - sum(skipped)


def in_torch(network: nn.Module) -> Form:
    """A network as it is, and the bytes of its parameters as a safetensors file."""

    def run(inputs: Arguments) -> object:
        with torch.inference_mode():
            return network(*inputs[0], **inputs[1])

    tensors = network.state_dict().items()  # shared ones are stored once
    once = {(v.data_ptr(), v.shape, v.stride()): (name, v) for name, v in tensors}
    return run, len(save({name: v.contiguous().clone() for name, v in once.values()}))


def in_onnx_runtime(network: nn.Module, example_inputs: Examples) -> Form | None:
    """A network in ONNX Runtime, and the bytes of its files; None where the packages are
    missing, and for bfloat16. It uses as many threads as torch does now."""
    try:
        import onnxruntime
        import onnxscript  # noqa: F401, the exporter needs it
    except ImportError:
        return None
    if any(value.dtype is torch.bfloat16 for value in network.state_dict().values()):
        return None  # its layers have no kernels of that precision on a CPU, NumPy no numbers
    program = onnx_program(network, example_inputs)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        program.save(path)
        size = sum(each.stat().st_size for each in Path(folder).iterdir())
        session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )
    names = [each.name for each in session.get_inputs()]

    def run(inputs: Arguments) -> object:
        values = [each.numpy() for each in (*inputs[0], *inputs[1].values())]
        return session.run(None, dict(zip(names, values, strict=True)))

    return run, size


class SparseLayer(nn.Module):
    """A Linear or Conv2d layer as a SciPy CSR matrix; a convolution multiplies the columns of
    the unfolded image."""

    def __init__(self, layer: nn.Linear | nn.Conv2d):
        from scipy.sparse import csr_matrix

        super().__init__()
        self.matrix = csr_matrix(layer.weight.detach().flatten(1).numpy())
        self.bias = None if layer.bias is None else layer.bias.detach()
        self.unfold = (
            nn.Unfold(layer.kernel_size, layer.dilation, layer.padding, layer.stride)
            if isinstance(layer, nn.Conv2d)
            else None
        )

    @property
    def arrays(self) -> list[np.ndarray]:
        """What its file holds."""
        bias = [] if self.bias is None else [self.bias.numpy()]
        return [self.matrix.data, self.matrix.indices, self.matrix.indptr, *bias]

    def forward(self, x: Tensor) -> Tensor:
        """As the layer, without gradients."""
        if self.unfold is None:
            found = self._product(x.flatten(0, -2).T).T.contiguous()
            found = found if self.bias is None else found + self.bias
            return found.unflatten(0, x.shape[:-1])
        columns = self.unfold(x)  # (samples, inputs, places)
        found = self._product(columns.transpose(0, 1).flatten(1))
        found = found.unflatten(1, columns.shape[::2]).transpose(0, 1).contiguous()
        sizes = [
            (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
            for size, kernel, dilation, padding, stride in zip(
                x.shape[2:],
                self.unfold.kernel_size,
                self.unfold.dilation,
                self.unfold.padding,
                self.unfold.stride,
                strict=True,
            )
        ]
        found = found if self.bias is None else found + self.bias[:, None]
        return found.unflatten(2, sizes)

    def _product(self, columns: Tensor) -> Tensor:
        return torch.from_numpy(np.asarray(self.matrix @ columns.numpy()))


def in_csr(network: nn.Module) -> Form | None:
    """A compact network with SciPy's sparse matrices in place of its layers, and their bytes;
    None where a layer is neither Linear nor a plain Conv2d."""
    sparse = deep_copy(network)
    layers = {key: (module, parameter) for key, module, parameter in prunable(sparse)}
    if not layers or not all(_can_be_csr(*owner) for owner in layers.values()):
        return None
    for key, (module, _) in layers.items():
        sparse.set_submodule(key, SparseLayer(module))
    arrays = [
        array
        for module in sparse.modules()
        if isinstance(module, SparseLayer)
        for array in module.arrays
    ]
    others = [value.numpy() for value in sparse.state_dict().values()]
    return in_torch(sparse)[0], sum(each.nbytes for each in (*arrays, *others))


def _can_be_csr(module: nn.Module, parameter: str) -> bool:
    if getattr(module, parameter).dtype not in (torch.float32, torch.float64):
        return False  # SciPy has no smaller numbers
    plain = type(module) is nn.Linear or (
        type(module) is nn.Conv2d
        and module.groups == 1
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
    )
    return plain and parameter == "weight"
