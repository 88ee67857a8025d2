"""Files that run without the package, beside the network they were written from."""

import numpy as np
import pytest
import torch
from torch import nn

import pruning
from pruning.networks import export, sparsity


def network(activation="silu", kept=4000, sizes=(784, 20, 12, 10)):
    torch.manual_seed(1)
    model = pruning.models.mlp(sizes, activation)
    total = pruning.models.weight_count(sizes)
    return pruning.prune_by_score(model, pruning.random_scores(model), 1 - kept / total)


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh", "silu"])
def test_numpy_gives_the_outputs_of_the_pruned_network(tmp_path, activation):
    model = network(activation)
    export.to_numpy(model, tmp_path / "network.npz")
    x = torch.rand(50, 784)
    outputs = export.NumpyNetwork(tmp_path / "network.npz")(x.numpy())
    assert outputs.dtype == np.float32
    np.testing.assert_allclose(outputs, model.eval()(x).detach().numpy(), atol=1e-5)


def test_the_archive_is_as_small_as_the_network(tmp_path):
    model = network(kept=404, sizes=(60, 10, 10, 10))
    size = export.to_numpy(model, tmp_path / "network.npz")
    assert size == (tmp_path / "network.npz").stat().st_size < 8000
    with np.load(tmp_path / "network.npz") as file:
        assert len(file["values"]) == sparsity.effective_weights(model)
    assert [p.name for p in tmp_path.iterdir()] == ["network.npz"]  # no temporary file


def test_onnx_gives_the_outputs_of_the_pruned_network(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    model = network()
    size = export.to_onnx(model, tmp_path / "network.onnx", 784)
    assert size == (tmp_path / "network.onnx").stat().st_size
    session = onnxruntime.InferenceSession(
        tmp_path / "network.onnx", providers=["CPUExecutionProvider"]
    )
    for batch in (1, 7):
        x = torch.rand(batch, 784)
        (outputs,) = session.run(["outputs"], {"inputs": x.numpy()})
        np.testing.assert_allclose(outputs, model.eval()(x).detach().numpy(), atol=1e-5)


def test_a_single_layer(tmp_path):
    model = pruning.prune_by_score(
        one := nn.Sequential(nn.Linear(9, 4)), pruning.magnitude(one), 0.5
    )
    export.to_numpy(model, tmp_path / "one.npz")
    x = torch.randn(3, 9)
    found = export.NumpyNetwork(tmp_path / "one.npz")(x.numpy())
    np.testing.assert_allclose(found, model(x).detach().numpy(), atol=1e-6)


def test_what_cannot_be_written_leaves_nothing(tmp_path):
    path = tmp_path / "network.npz"
    with pytest.raises(ValueError, match=r"has the activations .*'GELU'"):
        export.to_numpy(pruning.models.mlp((4, 3, 2), "gelu"), path)
    mixed = nn.Sequential(
        nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 2)
    )
    with pytest.raises(ValueError, match="needs one of"):
        export.to_numpy(mixed, path)
    with pytest.raises(TypeError, match="compact handles chains"):
        export.to_numpy(nn.Sequential(nn.Conv2d(1, 2, 3)), path)
    with pytest.raises(OSError, match="missing"):
        export.to_numpy(network(), tmp_path / "missing" / "network.npz")
    np.savez(tmp_path / "other.npz", something=np.zeros(3))
    with pytest.raises(ValueError, match="is no network"):
        export.NumpyNetwork(tmp_path / "other.npz")
    assert not path.exists()
