"""Every step on other people's architectures, made narrow: it works or is refused."""

import copy
import io
import pickle

import onnxruntime
import pytest
import torch
import torchvision.models as zoo
from torch import nn
from torch_models import tiny_bert

import pruning
from pruning.networks import hardware


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.encoder(x).mean(1))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(4, 6, batch_first=True), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


def resnet18():
    """An eighth of its channels, and of its stages the two kinds that there are, one block
    each. torchvision takes no width for these blocks, so it builds a network without memory,
    and the layers of its attributes anew."""
    block = zoo.resnet.BasicBlock
    with torch.device("meta"):
        model = zoo.ResNet(block, [1, 1, 1, 1], num_classes=3)
    model.inplanes = 8
    model.conv1, model.bn1 = nn.Conv2d(3, 8, 7, 2, 3, bias=False), nn.BatchNorm2d(8)
    model.layer1 = model._make_layer(block, 8, 1)
    model.layer2 = model._make_layer(block, 16, 1, stride=2)
    model.layer3, model.layer4, model.fc = nn.Sequential(), nn.Sequential(), nn.Linear(16, 3)
    return model


def vgg11_bn():
    plan = [4, "M", 8, "M", 8, 8, "M"]
    model = zoo.vgg.VGG(
        zoo.vgg.make_layers(plan, batch_norm=True), num_classes=3, init_weights=False
    )
    model.classifier = nn.Linear(8 * 7 * 7, 3)
    return model


def mobilenet_v3_small():
    """Its first five blocks: with and without squeeze-and-excitation, strides and shortcuts,
    and of both activations; the other six are like the last two."""
    plan = [
        (16, 3, 16, 16, True, "RE", 2),
        (16, 3, 72, 24, False, "RE", 2),
        (24, 3, 88, 24, False, "RE", 1),
        (24, 5, 96, 40, True, "HS", 2),
        (40, 5, 240, 40, True, "HS", 1),
    ]
    blocks = [zoo.mobilenetv3.InvertedResidualConfig(*block, 1, 0.25) for block in plan]
    return zoo.MobileNetV3(blocks, 64, num_classes=3)


IMAGES = (4, 3, 32, 32)
# of these, a convolutional network and one of attention, more is exported, which takes as long
# as all the rest; the others as compact networks alone
REPORTED = ("resnet18", "transformer encoder")
MODELS = {
    "resnet18": (resnet18, IMAGES),
    "vgg11_bn": (vgg11_bn, IMAGES),
    "densenet121": (lambda: zoo.DenseNet(4, (2, 1), 8, num_classes=3), IMAGES),
    "mobilenet_v3_small": (mobilenet_v3_small, IMAGES),
    "vit_b_16": (
        lambda: zoo.VisionTransformer(16, 8, 1, 2, 16, 32, num_classes=3),
        (4, 3, 16, 16),
    ),
    "transformer encoder": (Encoder, (4, 5, 8)),
    "lstm": (Recurrent, (4, 5, 4)),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("ignore")  # of the exporter, and of weights that no layer covers
def test_every_step(name, tmp_path):
    make, shape = MODELS[name]
    model, x, y = make(), torch.randn(shape), torch.tensor([0, 1, 2, 0])

    pruning.gate(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    before = [logits.detach().clone() for logits in pruning.gate_parameters(model)]
    loss = nn.functional.cross_entropy(model(x), y) + pruning.density_loss(model, 0.5)
    loss.backward()
    optimizer.step()
    logits = pruning.gate_parameters(model)
    assert not any(torch.equal(a, b) for a, b in zip(before, logits, strict=True))
    model.eval()
    gated = model(x)
    pruning.harden(model)
    torch.testing.assert_close(model(x), gated)

    pruning.prune_by_score(model, pruning.magnitude(model), sparsity=0.5)
    kept, total = counts(model)
    assert total - kept == -(-total // 2)
    if name == "lstm":
        with pytest.raises(ValueError, match="recurrent"):
            pruning.wanda(model, x)
    scores = pruning.wanda(model, x, ignore=["lstm"] if name == "lstm" else None)
    pruning.prune_by_score(model, scores, sparsity=0.6, scope="layer")
    for key, keep in pruning.masks(model).items():
        if key in scores:  # what was pruned before stays pruned
            assert int(keep.sum()) <= keep.numel() - -(-6 * keep.numel() // 10)
    report = pruning.sparsity_report(model).set_index("layer")
    assert all(
        report.loc[key, "kept"] == int(keep.sum())
        for key, keep in pruning.masks(model).items()
    )

    masked = model(x)
    twin = copy.deepcopy(model)
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    buffer.seek(0)
    for parameter in twin.parameters():
        parameter.data.zero_()
    twin.load_state_dict(torch.load(buffer))
    assert torch.equal(twin(x), masked)

    keys = list(make().state_dict())
    pruning.finalize(model)
    assert list(model.state_dict()) == keys
    torch.testing.assert_close(model(x), masked)
    assert torch.equal(pickle.loads(pickle.dumps(model))(x), model(x))

    path = tmp_path / "model.onnx"
    if name == "lstm":
        with pytest.raises(TypeError, match="paths cannot be followed"):
            pruning.export.to_onnx(model, path, x)
        return
    if name in REPORTED:
        same_in_onnx_runtime(model, x, masked, path)


def same_in_onnx_runtime(model, x, expected, path):
    """Written for one sample, run on all of x."""
    pruning.export.to_onnx(model, path, x[:1])
    session = onnxruntime.InferenceSession(path)
    found = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    expected = expected.detach()
    torch.testing.assert_close(torch.from_numpy(found), expected, atol=1e-4, rtol=1e-3)


@pytest.mark.filterwarnings("ignore")
def test_running_statistics_of_a_compact_network_are_not_trained():
    model = MODELS["densenet121"][0]().eval()  # its batch norms follow concatenations
    small = pruning.compact(model, torch.randn(IMAGES))
    norms = [m for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)]
    buffers = [name for name, _ in small.named_buffers() if "running" in name]
    assert 0 < len(buffers) <= 2 * len(norms)
    assert not [name for name, _ in small.named_parameters() if "running" in name]


def counts(model):
    kept = pruning.masks(model).values()
    return sum(int(keep.sum()) for keep in kept), sum(keep.numel() for keep in kept)


SCORES = {
    "magnitude": lambda model, x, y, ignore: pruning.magnitude(model, ignore=ignore),
    "random": lambda model, x, y, ignore: pruning.random_scores(model, ignore=ignore),
    "snip": lambda model, x, y, ignore: pruning.snip(model, x, y, ignore=ignore),
    "wanda": lambda model, x, y, ignore: pruning.wanda(model, x, ignore=ignore),
    "nnrelief": lambda model, x, y, ignore: pruning.nnrelief(model, x, ignore=ignore),
    "stade": lambda model, x, y, ignore: pruning.stade(model, x, ignore=ignore),
    "ria": lambda model, x, y, ignore: pruning.ria(model, x, ignore=ignore),
    "relative": lambda model, x, y, ignore: pruning.relative_importance(
        pruning.contribution_statistics(model, x, ignore=ignore)
    ),
}
OF_INPUTS = {"wanda", "nnrelief", "stade", "ria", "relative"}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("ignore")  # of layers without weights, and of what is not covered
def test_every_score_in_every_scope(name):
    torch.manual_seed(0)
    make, shape = MODELS[name]
    model, x, y = make().eval(), torch.randn(shape), torch.tensor([0, 1, 2, 0])
    recurrent = name == "lstm"
    for score, function in SCORES.items():
        if recurrent and score in OF_INPUTS:
            with pytest.raises(ValueError, match="recurrent"):
                function(model, x, y, None)
        found = function(model, x, y, ["lstm"] if recurrent and score in OF_INPUTS else None)
        for scope in ("global", "layer", "neuron"):
            pruned = pruning.prune_by_score(copy.deepcopy(model), found, 0.3, scope=scope)
            kept = [pruning.masks(pruned)[key] for key in found]
            total = sum(mask.numel() for mask in kept)
            removed = total - sum(int(mask.sum()) for mask in kept)
            assert removed >= 0.3 * total - 1e-6, (score, scope)
            if scope == "global":
                assert removed == -(-3 * total // 10), score


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("ignore")  # of the exporter, and of weights that no layer covers
def test_output_gates_to_a_compact_network_in_every_form(name, tmp_path, monkeypatch):
    torch.manual_seed(0)
    make, shape = MODELS[name]
    model, x, y = make(), torch.randn(shape), torch.tensor([0, 1, 2, 0])
    only = ["head"] if name == "lstm" else None  # the one layer there with outputs to gate
    pruning.gate(model, granularity="output", layers=only)
    optimizer = torch.optim.Adam(pruning.gate_parameters(model), lr=1.0)
    for _ in range(3):
        loss = nn.functional.cross_entropy(model(x), y) + pruning.density_loss(model, 0.5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for logits in pruning.gate_parameters(model):
        nn.init.normal_(logits)
    gated = model.eval()(x)
    pruning.harden(model)
    torch.testing.assert_close(model(x), gated)
    whole = pickle.loads(pickle.dumps(model))
    for each in (copy.deepcopy(model), whole, pruning.finalize(copy.deepcopy(model))):
        torch.testing.assert_close(each(x), gated, atol=1e-5, rtol=1e-4)
    if name == "lstm":
        for refuse in (pruning.compact, pruning.hardware_report):
            with pytest.raises(TypeError, match=r"'lstm' runs aten.lstm.*cannot be followed"):
                refuse(model, x)
        return
    report = pruning.sparsity_report(model, x[:1])
    assert (report.effective <= report.kept).all()
    small = pruning.compact(model, x[:1])
    torch.testing.assert_close(small(x), gated, atol=1e-4, rtol=1e-4)
    assert sum(p.numel() for p in small.parameters()) < sum(
        p.numel() for p in make().parameters()
    )
    torch.save(small, tmp_path / "small.pt")
    loaded = torch.load(tmp_path / "small.pt", weights_only=False)
    assert torch.equal(loaded(x), small(x))
    onnx, write = [], hardware.in_onnx_runtime
    if name in REPORTED:
        monkeypatch.setattr(
            hardware, "in_onnx_runtime", lambda *a: onnx.append(write(*a)) or onnx[-1]
        )
        costs = pruning.hardware_report(model, x[:1], batch=2, rounds=1)
        assert len(onnx) == 2  # the dense network and the compact one
        dense, compact = (costs[costs.network == n].macs.iloc[0] for n in ("dense", "compact"))
        assert compact <= dense
    else:
        onnx.append(write(small, x[:1]))
    for run, _ in onnx:
        (found,) = run(((x,), {}))
        torch.testing.assert_close(
            torch.from_numpy(found), gated.detach(), atol=1e-4, rtol=1e-3
        )


@pytest.mark.filterwarnings("ignore")  # of the exporter
def test_an_encoder_of_hugging_face_in_onnx_runtime(tmp_path):
    torch.manual_seed(0)
    model, ids = tiny_bert(30).eval(), torch.randint(0, 30, (3, 6))
    pruning.gate(model, granularity="output", ignore=["bert.embeddings"])
    for logits in pruning.gate_parameters(model):
        nn.init.normal_(logits)
    pruning.harden(model)
    batch = {"input_ids": ids, "attention_mask": (torch.arange(6) < 4).long().repeat(3, 1)}
    one = {key: value[:1] for key, value in batch.items()}
    pruning.export.to_onnx(model, tmp_path / "bert.onnx", one)
    session = onnxruntime.InferenceSession(tmp_path / "bert.onnx")
    found = session.run(None, {key: value.numpy() for key, value in batch.items()})[0]
    expected = model(**batch).logits.detach()
    torch.testing.assert_close(torch.from_numpy(found), expected, atol=1e-4, rtol=1e-3)
    costs = pruning.hardware_report(model, one, batch=2, rounds=1).set_index("network")
    assert costs.macs["compact"].max() < costs.macs["dense"].min()
