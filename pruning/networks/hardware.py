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
from pruning.networks.chain import ELEMENTWISE
from pruning.networks.compact import compact
from pruning.networks.export import onnx_program
from pruning.networks.graph import Examples, arguments, plain_copy
from pruning.networks.prunable import prunable
from pruning.networks.rebuild import Select
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
    Runtime; a compact chain of Linear layers also runs as sparse matrices (SciPy CSR). All of
    them take turns, and the latencies are medians, with as many threads as torch uses.

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
        layers), bytes (of the file that the runtime loads), macs (multiplications for one
        sample: of all weights, for CSR of those that are not 0), ms_one, ms_batch (latency in
        milliseconds), speedup_one, speedup_batch (over the dense model in torch), and fastest:
        whether no runtime has a lower latency for the batch.

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
            macs = weights if runtime == "SciPy CSR" else _macs(network, one)
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


def _macs(network: nn.Module, one: Arguments) -> int:
    # the counter does not see into attention's fused kernels
    with evaluating(network), FlopCounterMode(display=False) as counter, torch.no_grad():
        network(*one[0], **one[1])
    return counter.get_total_flops() // 2


def in_torch(network: nn.Module) -> Form:
    """A network as it is, and the bytes of its parameters as a safetensors file."""

    def run(inputs: Arguments) -> object:
        with torch.inference_mode():
            return network(*inputs[0], **inputs[1])

    state = {name: value.contiguous().clone() for name, value in network.state_dict().items()}
    return run, len(save(state))


def in_onnx_runtime(network: nn.Module, example_inputs: Examples) -> Form | None:
    """A network in ONNX Runtime, and the bytes of its files; None where the packages are
    missing. It uses as many threads as torch does now."""
    try:
        import onnxruntime
        import onnxscript  # noqa: F401, the exporter needs it
    except ImportError:
        return None
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


def in_csr(network: nn.Module) -> Form | None:
    """A compact chain with SciPy's sparse matrices in place of its Linear layers, and their
    bytes; None for other networks."""
    from scipy.sparse import csr_matrix

    steps = list(network) if isinstance(network, nn.Sequential) else []
    if not steps or not all(
        isinstance(m, (Select, nn.Linear, nn.Flatten, *ELEMENTWISE)) for m in steps
    ):
        return None
    sparse = {
        m: (csr_matrix(m.weight.detach().numpy()), m.bias.detach().numpy()[:, None])
        for m in steps
        if isinstance(m, nn.Linear)
    }

    def run(inputs: Arguments) -> Tensor:
        (x,) = inputs[0] or tuple(inputs[1].values())
        with torch.inference_mode():
            for module in steps:
                if module not in sparse:
                    x = module(x)
                    continue
                weight, bias = sparse[module]
                x = torch.from_numpy(np.asarray(weight @ x.numpy().T + bias).T)
        return x

    arrays = (
        part
        for weight, bias in sparse.values()
        for part in (weight.data, weight.indices, weight.indptr, bias)
    )
    indices = sum(m.indices.numpy().nbytes for m in steps if isinstance(m, Select))
    return run, sum(each.nbytes for each in arrays) + indices
