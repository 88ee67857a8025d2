"""Paths, smaller networks and files of models of every kind, beside perturbation and the model
itself."""

import copy
import pickle

import numpy as np
import pandas
import pytest
import torch
import torch.nn.functional as F
import torchvision
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrizations
from torch_models import tiny_bert

import pruning
from pruning.networks import export, graph
from pruning.networks.chain import graph_of
from pruning.networks.hardware import hardware_report
from pruning.networks.masks import set_mask
from pruning.networks.reach import reach
from pruning.networks.sparsity import effective_masks
from pruning.networks.structure import reaches


def randomized(model):
    """Weights and statistics of batch norm as after training, in float64."""
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return model.eval()


def channels_removed(model, share=0.5):
    """Whole output channels masked, as gates of granularity "output" leave them."""
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            keep = torch.rand(len(module.weight)) >= share
            set_mask(
                module,
                keep.view(-1, *[1] * (module.weight.dim() - 1)).expand_as(module.weight),
            )
    return model


class Everything(nn.Module):
    """A residual sum, a concatenation, depthwise and grouped convolutions, gating, pooling."""

    def __init__(self, width, tail):
        super().__init__()
        self.stem = nn.Conv2d(2, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.block = nn.Conv2d(width, width, 3, padding=1)
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.grouped = nn.Conv2d(2 * width, 2 * width, 1, groups=2)
        self.after = nn.BatchNorm2d(2 * width)
        self.squeeze = nn.Linear(2 * width, 2 * width)
        self.head = nn.Linear(2 * width * (4 if tail else 1), 3)
        self.tail = tail

    def forward(self, x):
        x = torch.tanh(self.norm(self.stem(x)))
        y = x + torch.tanh(self.block(input=x))  # called by keyword
        z = torch.cat([torch.tanh(self.depthwise(y)), F.avg_pool2d(y, 3, 1, 1)], 1)
        z = F.silu(self.after(self.grouped(z)))
        z = z * torch.sigmoid(self.squeeze(z.mean((2, 3))))[:, :, None, None]
        z = F.max_pool2d(z, 2) if self.tail else F.adaptive_avg_pool2d(z, 1)
        return self.head(z.flatten(1))


def matters(model, x, weight, place):
    """Whether changing a weight changes an output."""
    with torch.no_grad():
        before, old = model(x), weight[place].item()
        weight[place] = old * 1.37 + 0.011
        after = model(x)
        weight[place] = old
    return not torch.equal(before, after)


def without_constants(model):
    """No biases and no shifts: what no input reaches is 0, so that only paths from inputs
    matter."""
    for module in model.modules():
        if getattr(module, "bias", None) is not None:
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.zero_()
    return model


@settings(
    max_examples=3, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(st.integers(0, 10**6), st.sampled_from([0.3, 0.6]), st.booleans())
def test_a_weight_is_effective_if_and_only_if_changing_it_matters(seed, share, tail):
    torch.manual_seed(seed)
    model = without_constants(randomized(Everything(3, tail)))
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.weight.data *= torch.rand(module.weight.shape) >= share
    x = torch.randn(8, 2, 4, 4)
    found = effective_masks(model, x[:1])
    model = model.double()
    for key, mask in found.items():
        weight = model.get_submodule(key).weight
        for place in (weight != 0).nonzero().tolist():
            place = tuple(place)
            assert bool(mask[place]) == matters(model, x.double(), weight, place), (key, place)


@settings(
    max_examples=3, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(st.integers(0, 10**6), st.sampled_from([0.3, 0.6, 0.9]), st.booleans())
def test_compact_is_smaller_with_the_same_outputs(seed, share, tail):
    torch.manual_seed(seed)
    model = channels_removed(randomized(Everything(6, tail)), share)
    small, x = pruning.compact(model, torch.randn(1, 2, 4, 4)), torch.randn(7, 2, 4, 4)
    torch.testing.assert_close(small(x), model(x), atol=1e-4, rtol=0)
    sizes = [
        sum(p.numel() for p in each.parameters()) for each in (small, Everything(6, tail))
    ]
    assert sizes[0] < sizes[1]


def small_vit():
    return torchvision.models.VisionTransformer(32, 8, 1, 2, 16, 32)


def encoder():
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 1)


IMAGES = (1, 3, 64, 64)
MODELS = {
    "resnet8": (lambda: pruning.models.cifar_resnet(8), (1, 3, 32, 32), 0.8),
    "resnet18": (torchvision.models.resnet18, IMAGES, 0.8),
    "vit": (small_vit, (1, 3, 32, 32), 1.0),
    "encoder": (encoder, (1, 5, 16), 1.0),
}


@pytest.mark.parametrize("name", MODELS)
def test_models_of_others(name, tmp_path):
    torch.manual_seed(0)
    build, shape, at_most = MODELS[name]
    model, x = channels_removed(randomized(build())), torch.randn(3, *shape[1:])
    small = pruning.compact(model, torch.zeros(shape))
    torch.testing.assert_close(small(x), model(x), atol=1e-4, rtol=1e-4)
    sizes = [sum(p.numel() for p in each.parameters()) for each in (small, build())]
    assert sizes[0] <= at_most * sizes[1]
    for other in (copy.deepcopy(small), pickle.loads(pickle.dumps(small))):
        other.load_state_dict(small.state_dict())
        assert torch.equal(other(x), small(x))
    if name == "resnet8":
        onnxruntime = pytest.importorskip("onnxruntime")
        export.to_onnx(model, tmp_path / "network.onnx", torch.zeros(shape))
        session = onnxruntime.InferenceSession(
            tmp_path / "network.onnx", providers=["CPUExecutionProvider"]
        )
        (found,) = session.run(["outputs"], {"inputs": x.numpy()})
        np.testing.assert_allclose(found, model(x).detach().numpy(), atol=1e-4)
        report = pruning.sparsity_report(model, torch.zeros(shape))
        assert (report.effective <= report.kept).all()
    if len(shape) == 4:
        with pytest.raises(ValueError, match="got shape"):
            small(torch.randn(1, 3, 40, 40))


class Residual(nn.Module):
    """Operations that torch.export leaves composed, changes in place, or that nobody uses."""

    def __init__(self, how):
        super().__init__()
        self.conv, self.head, self.how = nn.Conv2d(2, 2, 3, padding=1), nn.Linear(2, 3), how

    def forward(self, x):
        y = self.how(self.conv(x)) + x
        return self.head(y.mean((2, 3)))


@pytest.mark.parametrize(
    ("how", "simple"),
    [
        (torch.relu, True),
        (lambda y: F.scaled_dot_product_attention(y, y, y), True),
        (lambda y: F.max_pool2d(y, 3, 1, 1), True),
        (lambda y: F.max_pool1d(y[0], 3, 1, 1), True),
        (lambda y: F.max_pool3d(y, 3, 1, 1), True),
        (lambda y: F.adaptive_avg_pool2d(y, 4), True),
        (lambda y: F.adaptive_avg_pool1d(y[0], 4), True),
        (lambda y: F.conv1d(y[0], torch.ones(4, 4, 1)), True),
        (lambda y: F.conv3d(y[:, None], torch.ones(1, 1, 1, 1, 1))[:, 0], True),
        (lambda y: F.layer_norm(y, (4, 4)), True),
        (lambda y: F.group_norm(y, 2), True),
        (lambda y: F.prelu(y, torch.ones(2)), True),
        (lambda y: F.pad(y, (1, 1))[..., 1:-1], True),
        (lambda y: y.softmax(1), True),
        (lambda y: y @ y, True),
        (torch.relu_, False),
        (lambda y: y.flatten(2).unflatten(2, (4, 4)), False),
        (lambda y: torch.cat(y.split(1, 1), 1), False),
        (lambda y: F.batch_norm(y, torch.zeros(2), torch.ones(2), training=True), False),
        (lambda y: F.dropout(y, 0.5, training=True), False),
        (lambda y: y.topk(4, 2)[0], False),  # whose places nobody uses
    ],
)
def test_a_graph_that_is_simple_already_is_what_torch_would_make_of_it(how, simple):
    model, x = Residual(how).eval(), torch.randn(2, 2, 4, 4)
    program = graph._exported(model, (x,), {})
    found, whole = graph._simplified(program), program.run_decompositions(graph.SIMPLER)
    assert (found is program) == simple
    assert [(node.op, node.target) for node in found.graph.nodes] == [
        (node.op, node.target) for node in whole.graph.nodes
    ]


@pytest.mark.parametrize(
    "how",
    [
        lambda y: F.batch_norm(y, torch.zeros(2), torch.ones(2), training=True),
        lambda y: F.dropout(y, 0.5, training=True),
    ],
)
def test_what_is_random_or_of_the_batch_in_evaluation_mode_is_refused(how):
    with pytest.raises(TypeError):
        pruning.compact(Residual(how).eval(), torch.randn(2, 2, 4, 4))


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_what_stays_composed_is_computed_as_what_it_is_composed_of(share, monkeypatch):
    """Batch norm, dropout in evaluation mode and flatten."""
    torch.manual_seed(0)
    layers = nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(), nn.Conv2d(6, 4, 2)
    model = nn.Sequential(
        *layers, nn.ReLU(), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3)
    )
    model, x = channels_removed(randomized(model), share), torch.randn(5, 2, 5, 5)
    seen = pruning.sparsity_report(model, x[:1])
    small = pruning.compact(model, x[:1])
    torch.testing.assert_close(small(x), model(x), atol=1e-5, rtol=1e-4)
    monkeypatch.setattr(graph, "_is_simple", lambda node: False)  # all is decomposed
    pandas.testing.assert_frame_equal(pruning.sparsity_report(model, x[:1]), seen)
    again = pruning.compact(model, x[:1])
    shapes = [[(n, p.shape) for n, p in each.named_parameters()] for each in (small, again)]
    assert shapes[0] == shapes[1]
    torch.testing.assert_close(again(x), small(x), atol=1e-6, rtol=1e-5)


def test_a_constant_channel_behind_padding_is_exact_at_the_border():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 1), nn.Conv2d(4, 2, 3, padding=1), nn.Flatten(2))
    model[0].weight.data[1:] = 0  # three channels are the constants of their biases
    small, x = pruning.compact(model, torch.zeros(1, 1, 5, 5)), torch.randn(2, 1, 5, 5)
    torch.testing.assert_close(small(x), model(x), atol=1e-5, rtol=0)
    assert (
        small.get_submodule("0").out_channels == 2
    )  # one constant channel stands for all three


@pytest.mark.parametrize("examples", [None, torch.zeros(1, 4)])
def test_an_emptied_layer_leaves_a_network_of_constants(examples, tmp_path):
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)), torch.randn(5, 4)
    set_mask(model[0], torch.zeros(3, 4, dtype=torch.bool))
    small = pruning.compact(model, examples)
    again = pruning.compact(small, torch.zeros(1, 4))
    for each in (small, again):
        torch.testing.assert_close(each(x), model(x))
        report = pruning.sparsity_report(each, torch.zeros(1, 4))
        assert report[["weights", "kept", "effective"]].eq(0).all(axis=None)
        assert report.density.isna().all()
        with pytest.raises(ValueError, match="no weights left to score; name it in ignore="):
            pruning.magnitude(each)


def test_only_whole_residual_channels_go():
    torch.manual_seed(0)

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            x = self.a(x)
            return self.c(x + self.b(x))

    model = Residual()
    model.b.weight.data[:2] = 0  # but a's neurons are needed
    model.a.weight.data[3] = model.b.weight.data[3] = 0  # dead in both branches
    model.b.weight.data[:, 3] = 0
    small = pruning.compact(model, torch.zeros(1, 4))
    assert [small.get_submodule(n).out_features for n in "abc"] == [3, 3, 2]
    x = torch.randn(5, 4)
    torch.testing.assert_close(small(x), model(x), atol=1e-5, rtol=0)


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


class Backwards(nn.Sequential):
    def forward(self, x):
        for module in reversed(list(self)):
            x = module(x)
        return x


def test_modules_used_twice_and_classes_with_their_own_forward():
    torch.manual_seed(0)
    shared, x = nn.Linear(4, 4), torch.randn(3, 4)
    shared.weight.data[0] = 0
    twice = nn.Sequential(shared, nn.Tanh(), shared, nn.Tanh(), nn.Linear(4, 2))
    torch.testing.assert_close(pruning.compact(twice)(x), twice(x))
    assert pruning.effective_weights(twice) == 12 + 3 * 2  # the dead neuron is a constant
    for model in (
        nn.Sequential(Doubled(4, 4), nn.ReLU(), nn.Linear(4, 2)),
        Backwards(nn.Linear(4, 2), nn.ReLU(), nn.Linear(4, 4)),
    ):
        with pytest.raises(TypeError, match="not a layer of a chain; give example_inputs"):
            pruning.compact(model)
        torch.testing.assert_close(pruning.compact(model, x)(x), model(x))
        assert pruning.effective_weights(model, x) == 24


def test_a_hook_on_a_layer_is_not_overlooked():
    model, x = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1)), torch.randn(2, 3)
    model[0].register_forward_hook(lambda module, args, output: -output)
    with pytest.raises(TypeError, match="forward hooks"):
        pruning.compact(model)
    torch.testing.assert_close(pruning.compact(model, x)(x), model(x))


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize(
    "put",
    [
        parametrizations.weight_norm,
        parametrizations.spectral_norm,
        nn.utils.weight_norm,
        nn.utils.spectral_norm,
    ],
)
def test_weight_and_spectral_norm(put):
    torch.manual_seed(0)
    model, x = (
        nn.Sequential(put(nn.Linear(4, 5)), nn.Tanh(), nn.Linear(5, 2)),
        torch.randn(3, 4),
    )
    model(x)
    model.eval()
    before = [value.clone() for value in model.state_dict().values()]
    torch.testing.assert_close(pruning.compact(model)(x), model(x))
    if put in (parametrizations.weight_norm, parametrizations.spectral_norm):
        assert pruning.effective_weights(model, x) == 30
    else:  # the old ones have no weight to mask
        with pytest.raises(ValueError, match="computed by a forward hook"):
            pruning.effective_weights(model, x)
    assert all(map(torch.equal, before, model.state_dict().values()))


class Attention(nn.MultiheadAttention):
    def forward(self, x):
        return super().forward(x, x, x, need_weights=False)[0]


def test_attention_follows_keys_and_values():
    """Values that are the same for all keys make queries and keys irrelevant."""
    torch.manual_seed(0)
    model, x = Attention(4, 2, batch_first=True), torch.randn(1, 3, 4)
    dense = {key: int(mask.sum()) for key, mask in effective_masks(model, x).items()}
    assert dense == {"in_proj_weight": 48, "out_proj": 16}
    model.in_proj_weight.data[8:] = 0  # values are their biases
    nn.init.normal_(model.in_proj_bias)
    assert pruning.effective_weights(model, x) == 0


class Unfollowed(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.lstm = nn.LSTM(4, 4, batch_first=True)

    def forward(self, x):
        return self.lstm(self.inner(x))[0]


class Branching(nn.Linear):
    def forward(self, x):
        return super().forward(x) if x.sum() > 0 else x


@pytest.mark.parametrize("find", [pruning.effective_weights, pruning.compact])
def test_what_cannot_be_followed_is_named(find):
    with pytest.raises(
        TypeError, match=r"'lstm' runs aten.lstm.input, through which paths cannot"
    ):
        find(Unfollowed(), torch.zeros(1, 3, 4))
    with pytest.raises(TypeError, match="cannot trace Branching"):
        find(Branching(4, 4), torch.zeros(1, 4))
    with pytest.raises(TypeError, match=r"example_inputs: got int"):
        find(Branching(4, 4), 3)
    with pytest.warns(UserWarning, match=r"effective weights are missing: model: 'lstm'"):
        report = pruning.sparsity_report(Unfollowed(), torch.zeros(1, 3, 4))
    assert report.effective.isna().all()


def test_reaches_of_a_convolution_by_perturbation():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 1, 2), nn.Tanh(), nn.Flatten(), nn.Linear(4, 2))
    model[0].weight.data[0, 0, 0] = 0
    model[3].weight.data[0, :3] = 0
    x = torch.randn(1, 1, 3, 3)
    found = reaches(model, x)
    jacobian = torch.autograd.functional.jacobian(lambda x: model(x)[0], x).flatten(1)
    assert torch.equal(found, jacobian != 0)


def test_a_linear_layer_on_an_image_without_flatten():
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Linear(3, 2))
    model[0].weight.data[1] = 0
    x = torch.randn(2, 1, 3, 3)
    assert pruning.effective_weights(model, x) == 1 + 6
    torch.testing.assert_close(pruning.compact(model, x)(x), model(x))


def test_the_graph_leaves_the_model_as_it_was():
    model = pruning.gate(pruning.models.mlp((4, 3, 2)), init=0.5)
    before = copy.deepcopy(model.state_dict())
    reach(graph_of(model))
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model(torch.randn(2, 4)).sum().backward()


def test_fused_attention_is_counted_in_the_multiplications():
    model, x = encoder().eval(), torch.randn(2, 5, 16)
    report = hardware_report(model, x, batch=2, rounds=1).set_index(["network", "runtime"])
    # nothing is pruned, so both do the same multiplications
    assert report.macs["dense", "torch"] == report.macs["compact", "torch"]
    linear = sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Linear))
    assert report.macs["dense", "torch"] > 5 * linear  # five positions, and the attention


def test_a_padded_batch_goes_through_a_compact_transformer():
    """A Hugging Face model casts, compares and indexes its attention mask."""
    torch.manual_seed(0)
    model = tiny_bert(30)
    with torch.no_grad():  # as large as after training, so that attention matters
        for weight in model.parameters():
            weight.mul_(20 if weight.dim() == 2 else 1)
    scores = pruning.magnitude(model, ignore=["bert.embeddings"])
    pruning.prune_by_score(model, scores, 0.9)
    ids = torch.randint(0, 30, (3, 6))
    small = pruning.compact(
        model, {"input_ids": ids[:1], "attention_mask": torch.ones(1, 6, dtype=torch.long)}
    )
    padded = {"input_ids": ids, "attention_mask": (torch.arange(6) < 4).long().expand(3, 6)}
    expected = model(**padded).logits
    found = small(**padded)
    torch.testing.assert_close(found["logits"], expected, atol=1e-5, rtol=1e-4)
    sizes = [sum(p.numel() for p in each.parameters()) for each in (small, model)]
    assert sizes[0] < 0.9 * sizes[1]
    assert not torch.allclose(model(ids).logits, expected, atol=1e-3)


def test_hardware_report_of_a_sparse_chain():
    model = pruning.models.mlp((40, 30, 3))
    pruning.prune_by_score(model, pruning.random_scores(model), 0.9)
    report = hardware_report(model, torch.randn(1, 40), batch=8, rounds=3)
    small = report[report.network == "compact"].set_index("runtime")
    kept = int(report[report.network == "dense"].weights.iloc[0])
    assert kept == pruning.sparsity_report(model).kept.sum()
    assert small.weights.eq(pruning.effective_weights(model)).all()
    assert report.macs.iloc[0] == 40 * 30 + 30 * 3
    assert small.macs["SciPy CSR"] == pruning.effective_weights(model)
    assert report.fastest.sum() == 1
    assert (report[["ms_one", "ms_batch", "bytes"]] > 0).all(axis=None)
    with pytest.raises(ValueError, match="batch, rounds: got 0"):
        hardware_report(model, torch.randn(1, 40), batch=0)


@pytest.mark.parametrize(("samples", "said"), [(2, "2 to 8 of them"), (50, "9 or more of")])
def test_a_branch_on_the_number_of_samples_is_refused(samples, said):
    class Branch(nn.Linear):
        def forward(self, x):
            out = super().forward(x)
            return 2 * out if x.shape[0] > 8 else out

    model = Branch(4, 3)
    for use in (pruning.compact, pruning.effective_weights):
        with pytest.raises(TypeError, match=f"branches on the number of samples.*{said}"):
            use(model, torch.rand(samples, 4))


@pytest.mark.parametrize("samples", [1, 2, 50])
def test_a_branch_on_a_number_that_python_reads_is_refused(samples):
    class Branch(nn.Module):
        def __init__(self, flat):
            super().__init__()
            self.first, self.second, self.flat = nn.Linear(4, 4), nn.Linear(4, 4), flat

        def forward(self, x):
            x = self.first(x.view(len(x), -1))
            return self.second(x) if self.flat or len(x) > 8 else x

    examples = torch.rand(samples, 2, 2)
    for use in (pruning.compact, pruning.effective_weights):
        with pytest.raises(TypeError, match=r"branches on the number of samples, as len\(x\)"):
            use(Branch(False), examples)
    # without a branch the number is in the way of `compact` alone
    assert pruning.effective_weights(Branch(True), examples) == 32


def test_a_wrapper_that_passes_all_arguments_on_is_followed():
    class Wrapper(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

        def forward(self, *args, **kwargs):
            return self.module(*args, **kwargs)

    inner = pruning.prune_by_score(
        net := pruning.models.mlp((6, 8, 3)), pruning.magnitude(net), 0.7
    ).eval()
    x, other = torch.rand(5, 6), torch.rand(9, 6)
    for examples in (x, {"input": x}):
        small = pruning.compact(Wrapper(inner), examples)
        given = {"input": other} if isinstance(examples, dict) else None
        found = small(**given) if given else small(other)
        torch.testing.assert_close(found, inner(other))


@pytest.mark.parametrize("factor", [lambda x: 1 + (len(x) > 8), lambda x: int(x.shape[0])])
def test_a_number_of_samples_that_is_no_longer_followed_is_refused(factor):
    class Scaled(nn.Linear):
        def forward(self, x):
            return super().forward(x.view(len(x), -1)) * factor(x)

    model = Scaled(4, 3)
    for samples in (1, 2, 50):
        with pytest.raises(TypeError, match=r"constant of the number of samples, as len\(x\)"):
            pruning.compact(model, torch.rand(samples, 2, 2))
    assert pruning.effective_weights(model, torch.rand(2, 2, 2)) == 12


def test_a_default_of_double_precision_changes_nothing():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        layers = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)
        model, x = nn.Sequential(*layers).eval(), torch.randn(4, 6)
        pruning.prune_by_score(model, pruning.magnitude(model), 0.5)
        small = pruning.compact(model, x)
        report = pruning.sparsity_report(model, x)
        importance = pruning.feature_importance(model)
        expected = model(x)
    finally:
        torch.set_default_dtype(before)
    torch.testing.assert_close(small(x), expected)
    assert report.effective.sum() == pruning.effective_weights(model, x)
    torch.testing.assert_close(importance, pruning.feature_importance(model))


def test_a_first_dimension_that_is_fixed_is_followed_without_a_word(capfd):
    class Convolution(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 5), nn.Linear(5, 2)
            self.register_buffer("adjacency", torch.rand(7, 7) / 7)

        def forward(self, x):
            return self.second(torch.relu(self.adjacency @ self.first(x)))

    model, x = Convolution(), torch.randn(7, 4)
    assert pruning.effective_weights(model, x) == 30
    torch.testing.assert_close(pruning.compact(model, x)(x), model(x))
    assert capfd.readouterr() == ("", "")


class TwoLayers(nn.Module):
    """`a` (8 to 16) and `b` (16 to 4) in a forward pass that is given."""

    def __init__(self, how):
        super().__init__()
        self.a, self.b, self.how = nn.Linear(8, 16), nn.Linear(16, 4), how

    def forward(self, x):
        return self.how(self, x)


def two_layers(how, sparsity=0.85):
    torch.manual_seed(0)
    model = TwoLayers(how).eval()
    scores = pruning.magnitude(model)
    return pruning.prune_by_score(model, scores, sparsity, scope="layer")


def same_of_any_batch(model, small):
    for count in (1, 3, 7):
        x = torch.randn(count, 8)
        torch.testing.assert_close(small(x), model(x), atol=1e-5, rtol=1e-4)


def frozen(self, x):
    with torch.no_grad():
        hidden = self.a(x).relu()
    return self.b(hidden)


def not_autocast(self, x):
    with torch.autocast("cpu", enabled=False):
        hidden = self.a(x).relu()
    return self.b(hidden)


@pytest.mark.parametrize(
    "forward", [frozen, not_autocast, lambda self, x: self.b(self.a(x).relu().detach())]
)
def test_a_path_is_no_gradient_and_needs_none(forward):
    plain = two_layers(lambda self, x: self.b(self.a(x).relu()))
    model, x = two_layers(forward), torch.randn(4, 8)
    assert pruning.effective_weights(model, x) == pruning.effective_weights(plain, x) > 0
    small = pruning.compact(model, x)
    same_of_any_batch(model, small)
    assert sum(p.numel() for p in small.parameters()) < 212  # of the model


def test_a_branch_on_data_is_named():
    def forward(self, x):
        how = (torch.sin, torch.cos)
        return self.b(torch.cond(x.sum() > 0, *how, (self.a(x),)))

    for find in (pruning.compact, pruning.effective_weights):
        with pytest.raises(TypeError, match=r"runs torch\.cond, which takes functions"):
            find(two_layers(forward), torch.randn(4, 8))


@pytest.mark.parametrize("examples", [1, 2, 5])
@pytest.mark.parametrize(
    "asks",
    [
        lambda x: x.shape[0] == 1,
        lambda x: x.size(0) > 1,
        lambda x: len(x) == 1,
        lambda x: x.shape[0] == 7,
        lambda x: x.shape[0] != 4,
    ],
)
def test_a_branch_on_one_number_of_samples_is_refused(asks, examples):
    def forward(self, x):
        hidden = self.a(x)
        return self.b((hidden * 0 if asks(x) else hidden).relu())

    model, x = two_layers(forward, 0.5), torch.randn(examples, 8)
    for find in (pruning.compact, pruning.effective_weights):
        with pytest.raises(TypeError, match="branches on the number of samples"):
            find(model, x)


def test_a_number_that_is_asked_for_in_vain_is_no_branch():
    def forward(self, x):
        hidden = self.a(x)
        return self.b(hidden.relu() if x.shape[0] == 7 else F.relu(hidden))

    model = two_layers(forward)
    same_of_any_batch(model, pruning.compact(model, torch.randn(4, 8)))


@pytest.mark.parametrize(
    ("reshaped", "smaller"),
    [
        (lambda h: h.view(-1).tanh().view(h.shape), False),
        (lambda h: h.flatten().tanh().view(h.shape), False),
        (lambda h: h.reshape(-1, 4).tanh().view(h.shape), False),
        (lambda h: h.view(-1).mul_(2).view(h.shape), False),
        (lambda h: h.T.tanh().T, True),
    ],
)
def test_channels_that_are_joined_with_the_batch_stay(reshaped, smaller):
    model = two_layers(lambda self, x: self.b(reshaped(self.a(x))))
    small = pruning.compact(model, torch.randn(4, 8))
    same_of_any_batch(model, small)
    assert (sum(p.numel() for p in small.parameters()) < 212) == smaller


def test_a_number_that_is_read_from_a_weight_is_a_constant(capfd):
    for forward in (
        lambda self, x: self.b(self.a(x) / self.b.weight.abs().max().item()),
        lambda self, x: self.b(self.a(x)) * self.b.weight.detach().abs().max().item(),
    ):
        model = two_layers(forward)
        same_of_any_batch(model, pruning.compact(model, torch.randn(4, 8)))
    # torch cannot trace what Python reads, and says so once
    model = two_layers(lambda self, x: self.b(self.a(x)) * float(self.a.bias.detach()[0]))
    capfd.readouterr()
    with pytest.raises(TypeError, match=r"cannot trace TwoLayers.*data-dependent"):
        pruning.compact(model, torch.randn(4, 8))
    assert capfd.readouterr() == ("", "")


class TiedWords(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.hidden = nn.Embedding(50, 8), nn.Linear(8, 8)
        self.head = nn.Linear(8, 50, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, words):
        return self.head(self.hidden(self.embed(words)).relu())


def test_tied_weights_that_are_cut_alike_stay_tied(tmp_path):
    torch.manual_seed(0)
    model, words = TiedWords().eval(), torch.randint(50, (2, 5))
    scores = pruning.magnitude(model, ignore=["embed", "head"])
    pruning.prune_by_score(model, scores, 0.5)
    small = pruning.compact(model, words)
    torch.testing.assert_close(small(words), model(words))
    torch.save(small, tmp_path / "small.pt")
    loaded = torch.load(tmp_path / "small.pt", weights_only=False)
    for each in (small, copy.deepcopy(small), loaded):
        assert sum(p.numel() for p in each.parameters()) == 50 * 8 + 8 * 8 + 8
    small(words).square().sum().backward()
    model(words).square().sum().backward()
    found = next(p for p in small.parameters() if p.shape == (50, 8))
    torch.testing.assert_close(found.grad, model.embed.weight.grad)


def test_an_input_without_samples_keeps_its_length():
    """A mask of the sequence is no batch, though its first dimension may vary too."""

    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 4)

        def forward(self, x, mask):
            return self.b(mask @ self.a(x).relu())

    torch.manual_seed(0)
    model = Masked().eval()
    pruning.prune_by_score(model, pruning.magnitude(model), 0.85, scope="layer")
    mask = torch.ones(5, 5).tril()
    small = pruning.compact(model, (torch.randn(2, 5, 8), mask))
    for count in (1, 4):
        x = torch.randn(count, 5, 8)
        torch.testing.assert_close(small(x, mask), model(x, mask))


def test_a_number_beside_the_samples_is_followed():
    class Scaled(TwoLayers):
        def forward(self, scale, x):
            return self.b(self.a(x) * scale)

    torch.manual_seed(0)
    model, scale = Scaled(None).eval(), torch.tensor(2.0)
    pruning.prune_by_score(model, pruning.magnitude(model), 0.85, scope="layer")
    small = pruning.compact(model, (scale, torch.randn(4, 8)))
    for count in (1, 7):
        x = torch.randn(count, 8)
        torch.testing.assert_close(small(scale, x), model(scale, x))


def test_a_dimension_of_one_sample_is_lost_as_the_model_loses_it():
    model = two_layers(lambda self, x: self.b(self.a(x)).squeeze())
    same_of_any_batch(model, pruning.compact(model, torch.randn(4, 8)))


def test_biases_that_are_new_are_not_tied():
    """Two layers without a bias take over the same constants, which are not one bias."""

    class TwoHeads(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Conv2d(2, 8, 1)
            self.b, self.c = (nn.Conv2d(8, 4, 1, stride=2, bias=False) for _ in range(2))

        def forward(self, x):
            hidden = self.a(x).relu()
            return self.b(hidden) + 2 * self.c(hidden).tanh()

    torch.manual_seed(0)
    model = TwoHeads().eval()
    with torch.no_grad():
        model.a.weight[:4] = 0  # half of the hidden channels are constants
        model.a.bias[:4] = 1
        model.c.weight.copy_(model.b.weight)
    small = pruning.compact(model, torch.randn(2, 2, 4, 4))
    x = torch.randn(3, 2, 4, 4)
    torch.testing.assert_close(small(x), model(x))
    assert torch.equal(small.b.bias, small.c.bias)
    assert small.b.bias.abs().max() > 0
    assert small.b.bias is not small.c.bias
    assert small.b.weight is not small.c.weight
