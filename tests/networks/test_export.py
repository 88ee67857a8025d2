"""Files that run without the package, beside the network they were written from."""

import numpy as np
import pytest
import torch
from torch import nn

import pruning
from pruning.networks import export, rebuild, sparsity
from pruning.networks.masks import set_mask


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


class TwoOutputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 3), nn.Linear(4, 2)

    def forward(self, u, v):
        return {"logits": self.a(u), "aux": self.b(v)}


@pytest.mark.filterwarnings("ignore")  # of the exporter
def test_outputs_that_come_in_a_dict_keep_their_names(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    model, x = TwoOutputs().eval(), {"u": torch.randn(3, 4), "v": torch.randn(3, 4)}
    export.to_onnx(model, tmp_path / "two.onnx", x)
    session = onnxruntime.InferenceSession(tmp_path / "two.onnx")
    given = {name: value.numpy() for name, value in x.items()}
    for name, expected in model(**x).items():
        (found,) = session.run([name], given)
        np.testing.assert_allclose(found, expected.detach().numpy(), atol=1e-6)


def test_a_single_layer(tmp_path):
    model = pruning.prune_by_score(
        one := nn.Sequential(nn.Linear(9, 4)), pruning.magnitude(one), 0.5
    )
    export.to_numpy(model, tmp_path / "one.npz")
    x = torch.randn(3, 9)
    found = export.NumpyNetwork(tmp_path / "one.npz")(x.numpy())
    np.testing.assert_allclose(found, model(x).detach().numpy(), atol=1e-6)


def normalised():
    """Batch norm before the first layer, after a layer and after an activation, with
    statistics as after training; three quarters of the weights removed."""
    model = nn.Sequential(
        nn.BatchNorm1d(9),
        nn.Linear(9, 12),
        nn.BatchNorm1d(12, affine=False),
        nn.ReLU(),
        nn.Linear(12, 8, bias=False),
        nn.ReLU(),
        nn.Dropout(),
        nn.BatchNorm1d(8),
        nn.Linear(8, 4),
        nn.BatchNorm1d(4),
    )
    for module in model:
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            if module.affine:
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias)
    return pruning.prune_by_score(model.eval(), pruning.random_scores(model), 0.75)


def test_batch_norm_is_written_into_the_linear_layers(tmp_path):
    model, x = normalised(), torch.randn(50, 9)
    expected = model(x).detach()
    small = pruning.compact(model)
    assert {type(module) for module in small} == {rebuild.Select, nn.Linear, nn.ReLU}
    assert torch.allclose(small(x), expected, atol=1e-5)
    assert torch.allclose(pruning.compact(model, x)(x), expected, atol=1e-5)
    export.to_numpy(model, tmp_path / "network.npz")
    found = export.NumpyNetwork(tmp_path / "network.npz")(x.numpy())
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


@pytest.mark.parametrize(
    "norm",
    [
        nn.BatchNorm1d(4, track_running_stats=False),
        nn.Sequential(nn.ReLU(), nn.BatchNorm1d(4)),
    ],
)
def test_batch_norm_without_a_layer_to_take_it_is_refused(tmp_path, norm):
    model = nn.Sequential(nn.Linear(3, 4), norm).eval()
    with pytest.raises(TypeError, match=r"batch norm without running statistics.*example_inp"):
        pruning.compact(model)
    with pytest.raises(TypeError, match=r"pruning\.export\.to_onnx writes any model"):
        export.to_numpy(model, tmp_path / "network.npz")


def test_what_cannot_be_written_leaves_nothing(tmp_path):
    path = tmp_path / "network.npz"
    with pytest.raises(ValueError, match=r"has the activations .*'GELU'"):
        export.to_numpy(pruning.models.mlp((4, 3, 2), "gelu"), path)
    mixed = nn.Sequential(
        nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 2)
    )
    with pytest.raises(ValueError, match="needs one of"):
        export.to_numpy(mixed, path)
    with pytest.raises(
        TypeError, match=r"Sequential is none; pruning\.export\.to_onnx writes any"
    ):
        export.to_numpy(nn.Sequential(nn.Conv2d(1, 2, 3)), path)
    with pytest.raises(OSError, match="missing"):
        export.to_numpy(network(), tmp_path / "missing" / "network.npz")
    np.savez(tmp_path / "other.npz", something=np.zeros(3))
    with pytest.raises(ValueError, match="is no network"):
        export.NumpyNetwork(tmp_path / "other.npz")
    assert not path.exists()


def test_inputs_of_another_width_are_refused(tmp_path):
    model = network(sizes=(20, 30, 10), kept=200)
    keep = pruning.masks(model)["0"]
    keep[:, 15:] = False
    set_mask(model[0], keep)
    small, with_examples = pruning.compact(model), pruning.compact(model, torch.rand(2, 20))
    export.to_numpy(model, tmp_path / "network.npz")
    archive = export.NumpyNetwork(tmp_path / "network.npz")
    for width in (5, 16, 25):
        x = torch.rand(3, width)
        for net in (small, with_examples):
            with pytest.raises(ValueError, match=f"got {width} features, needs 20"):
                net(x)
        with pytest.raises(ValueError, match=r"x: got shape .*, needs \(batch, 20\)"):
            archive(x.numpy())
        with pytest.raises(ValueError, match=f"got {width} features, the model takes 20"):
            export.to_onnx(model, tmp_path / "network.onnx", width)
    with pytest.raises(ValueError, match=r"x: got shape \(20,\)"):
        archive(np.zeros(20, np.float32))
    assert not (tmp_path / "network.onnx").exists()


def test_a_flatten_at_the_beginning_is_left_out(tmp_path):
    model = nn.Sequential(nn.Flatten(), *network(sizes=(16, 10, 3), kept=90))
    export.to_numpy(model, tmp_path / "network.npz")
    x = torch.rand(5, 1, 4, 4)
    outputs = export.NumpyNetwork(tmp_path / "network.npz")(x.flatten(1).numpy())
    np.testing.assert_allclose(outputs, model(x).detach().numpy(), atol=1e-5)
