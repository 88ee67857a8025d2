"""The smallest network as a file: how large it is, and how fast it runs."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas
import torch
from safetensors.torch import save

from pruning.chapters.smallest.experiment import rebuilt
from pruning.evidence.records import Record
from pruning.networks import export, models
from pruning.networks.compact import compact
from pruning.networks.timing import interleaved


def sizes(record: Record) -> tuple[int, int]:
    """Bytes of the dense network, and of a record's compact one as a file for NumPy."""
    dense = len(save(models.mlp(record["widths"], record["activation"]).state_dict()))
    with tempfile.TemporaryDirectory() as folder:
        return dense, export.to_numpy(rebuilt(record), Path(folder, "network.npz"))


@torch.no_grad()
def deployed(
    record: Record, dense_accuracy: float, rounds: int = 200, batch: int = 1000
) -> pandas.DataFrame:
    """The network of a record in three forms beside the dense one: bytes on disk, test
    accuracy, and the time of one image and of a batch, measured here, on one thread.

    The accuracies are the record's and `dense_accuracy`, fractions: the three forms are
    checked here to compute what the recorded network does. Raises AssertionError if one does
    not.
    """
    model = rebuilt(record)
    dense, small = models.mlp(record["widths"], record["activation"]).eval(), compact(model)
    with tempfile.TemporaryDirectory() as folder:
        size = {
            "dense, torch": len(save(dense.state_dict())),
            "compact, torch": len(save(small.state_dict())),
            "compact, ONNX": export.to_onnx(
                model, Path(folder, "network.onnx"), record["widths"][0]
            ),
            "compact, NumPy": export.to_numpy(model, Path(folder, "network.npz")),
        }
        plain, onnx = (
            export.NumpyNetwork(Path(folder, "network.npz")),
            _onnx(Path(folder, "network.onnx")),
        )
    forms: dict[str, Callable] = {
        "dense, torch": lambda x: dense(torch.from_numpy(x)),
        "compact, torch": lambda x: small(torch.from_numpy(x)),
        "compact, ONNX": onnx,
        "compact, NumPy": plain,
    }
    accuracy = dict.fromkeys(size, 100 * record["test_accuracy"]) | {
        "dense, torch": 100 * dense_accuracy
    }
    table = pandas.DataFrame({"bytes": size, "accuracy (%)": accuracy})
    x = torch.rand(batch, record["widths"][0])
    for name in set(forms) - {"dense, torch"}:
        np.testing.assert_allclose(forms[name](x.numpy()), model(x), atol=1e-3, err_msg=name)
    for column, samples, unit, times in (
        ("one image (µs)", 1, 1e6, rounds),
        (f"{batch:,} images (ms)", batch, 1e3, 20),
    ):
        x = torch.rand(samples, record["widths"][0]).numpy()
        pieces = {name: lambda form=form, x=x: form(x) for name, form in forms.items()}
        seconds = interleaved(pieces, rounds=times, warmup=0)
        table[column] = {name: unit * value for name, value in seconds.items()}
    return table


def _onnx(path: Path) -> Callable:
    import onnxruntime  # part of the book's extra only

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        path.read_bytes(), options, providers=["CPUExecutionProvider"]
    )
    return lambda x: session.run(None, {"inputs": x})[0]
