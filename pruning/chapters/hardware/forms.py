"""A pruned network in every form in which it can be run here, and how each is timed."""

import ast
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from pruning.chapters.hardware import networks
from pruning.networks import export, hardware
from pruning.networks.compact import compact
from pruning.networks.graph import plain_copy
from pruning.networks.hardware import Form

CHAINS = ("lenet",)  # the networks that NumPy can run


@lru_cache(maxsize=4)
def dense(network: str, seed: int) -> dict[str, Form]:
    """The dense forms of a network, made once: its values do not change how long it takes."""
    model = networks.made(network, seed)
    return {
        "dense, torch": hardware.in_torch(model),
        "dense, ONNX Runtime": hardware.in_onnx_runtime(model, networks.images(network, 2)),
    }


def small(model: nn.Module, network: str) -> nn.Module:
    """The compact network."""
    return compact(model, None if network in CHAINS else networks.images(network, 2))


def forms(model: nn.Module, network: str, seed: int) -> dict[str, Form]:
    """Every form of a network with masks, by name: what computes its outputs, and bytes."""
    little = small(model, network)
    found = dense(network, seed) | {
        "masked, torch": (hardware.in_torch(model)[0], len(save(_tensors(model)))),
        "compact, torch": hardware.in_torch(little),
        "compact, ONNX Runtime": hardware.in_onnx_runtime(little, networks.images(network, 2)),
    }
    found["compact, CSR"] = hardware.in_csr(little)
    if network in CHAINS:
        found["compact, NumPy"] = in_numpy(model)
    return found


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.contiguous().clone() for name, value in model.state_dict().items()}


def in_numpy(model: nn.Module) -> Form:
    """The archive of `export.to_numpy`, run by NumPy alone."""
    with tempfile.TemporaryDirectory() as folder:
        size = export.to_numpy(model, Path(folder, "network.npz"))
        network = export.NumpyNetwork(Path(folder, "network.npz"))
    return lambda inputs: network(inputs[0][0].numpy()), size


def timed(
    pieces: dict[str, Callable[[], object]], rounds: int, repeats: int = 1
) -> dict[str, tuple[float, float]]:
    """Seconds of each piece: the median of the processor time and the least wall-clock time.

    The pieces take turns, A B C A B C …, so that a slow spell of the machine affects all of
    them. Processor time does not count what other processes use of the machine. Each
    measurement is the mean of `repeats` calls; the first three rounds are left out.
    """
    cpu: dict[str, list[float]] = {name: [] for name in pieces}
    wall: dict[str, list[float]] = {name: [] for name in pieces}
    for turn in range(rounds + 3):
        for name, piece in pieces.items():
            began, ran = time.perf_counter(), time.process_time()
            for _ in range(repeats):
                piece()
            ran, took = time.process_time() - ran, time.perf_counter() - began
            if turn >= 3:
                cpu[name].append(ran / repeats)
                wall[name].append(took / repeats)
    return {name: (statistics.median(cpu[name]), min(wall[name])) for name in pieces}


# the kernel's count of the most that the process ever held (Linux); getrusage would count the
# memory of the parent too
END = """
status = open("/proc/self/status").read()
print(status.split("VmHWM:")[1].split()[0])
"""
TORCH = """
import sys, torch
torch.set_num_threads(1)
network, inputs = torch.load(sys.argv[1], weights_only=False), torch.rand({shape})
with torch.inference_mode():
    network(inputs)
"""
ONNX = """
import sys, numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options)
session.run(None, {{"inputs": numpy.zeros({shape}, numpy.float32)}})
"""
NUMPY = """
import sys, itertools, numpy as np
from pathlib import Path
{code}
NumpyNetwork(sys.argv[1])(np.zeros({shape}, np.float32))
"""


def peaks(model: nn.Module, network: str, batch: int) -> dict[str, int]:
    """Bytes of memory that a process of its own takes at most to load a form and run one
    batch, by form; the interpreter and the libraries are part of it."""
    shape = (batch, *networks.NETWORKS[network][1])
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "network")
        dense_model, little = plain_copy(model), small(model, network)
        for name, one in (("dense, torch", dense_model), ("compact, torch", little)):
            torch.save(one, path)
            found[name] = _peak(TORCH.format(shape=shape), path)
        export.to_onnx(model, path, networks.images(network, 2))
        found["compact, ONNX Runtime"] = _peak(ONNX.format(shape=shape), path)
        if network in CHAINS:
            export.to_numpy(model, path)
            code = _alone("NumpyNetwork", "ACTIVATIONS")
            found["compact, NumPy"] = _peak(NUMPY.format(shape=shape, code=code), path)
    return found


def _alone(*names: str) -> str:
    """The source of these names of `pruning.networks.export`, which need no other of it."""
    tree = ast.parse(Path(export.__file__).read_text(encoding="utf-8"))
    found = []
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name in names:
            found.append(ast.unparse(node))
        elif isinstance(node, ast.AnnAssign) and ast.unparse(node.target) in names:
            found.append(f"{ast.unparse(node.target)} = {ast.unparse(node.value)}")
    return "\n".join(found)


def _peak(script: str, path: Path) -> int:
    command = [sys.executable, "-c", script + END, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return 1024 * int(done.stdout)  # from KiB
