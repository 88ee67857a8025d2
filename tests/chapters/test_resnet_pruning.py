import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pruning import training
from pruning.chapters.resnet_pruning import experiment as resnet_pruning
from pruning.chapters.resnet_pruning.experiment import (
    HALF,
    RATES,
    VARIANTS,
    Averaged,
    Config,
    optimizer,
    variant,
)
from pruning.evidence import records
from pruning.methods.stochgrad import StochGradAdam
from pruning.networks import models

TINY = Config(
    "digits", 8, "identity", epochs=2, batch_size=128, precision="float32", study="quick"
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PRUNING_DATA", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def trained():
    data = resnet_pruning.load("digits", "cpu")
    return (
        resnet_pruning.train(replace(TINY, epochs=4, augment=True, schedule="cosine"), data)[
            0
        ],
        data,
    )


def prunable(model):
    return {
        name: module.weight
        for name, module in model.named_modules()
        if isinstance(module, (nn.Conv2d, nn.Linear))
    }


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_global_pruning_removes_the_smallest_weights_of_all_and_nothing_else(trained, rate):
    model, _ = trained
    every = torch.cat([w.detach().abs().flatten() for w in prunable(model).values()])
    threshold = every.sort().values[
        math.ceil(rate * len(every)) - 1
    ]  # ψ: what goes is not above it
    network = resnet_pruning.pruned(model, rate, "global")
    after, zeros = prunable(network), 0
    for name, weight in prunable(model).items():
        kept = weight.abs() > threshold
        assert torch.equal(after[name], weight * kept)
        zeros += int((~kept).sum())
    assert zeros == math.ceil(rate * len(every))
    # a mask leaves the dense weight in place under another name; all else is as it was
    rest = {
        name.replace("parametrizations.weight.original", "weight"): p
        for name, p in network.named_parameters()
    }
    assert set(rest) == {name for name, _ in model.named_parameters()}
    for name, value in model.named_parameters():
        if name.removesuffix(".weight") not in after:
            assert torch.equal(rest[name], value), name
    for name, value in model.named_buffers():
        assert torch.equal(network.get_buffer(name), value), name


def test_pruning_by_layer_removes_the_same_share_of_each(trained):
    model, _ = trained
    for name, weight in prunable(resnet_pruning.pruned(model, 0.4, "layer")).items():
        assert int((weight == 0).sum()) == math.ceil(0.4 * weight.numel()), name
    assert resnet_pruning.pruned(model, 0.0, "global") is not model


def test_recalibration_is_the_mean_over_batches(trained):
    model, data = trained
    network = resnet_pruning.pruned(model, 0.6, "global")
    before = training.evaluate(network, data.test.inputs, data.test.targets).accuracy
    inputs = data.train.inputs[:1000]
    resnet_pruning.recalibrate(network, inputs)
    with torch.no_grad():
        z = [network[0](part) for part in inputs.split(500)]
    assert torch.allclose(
        network[1].running_mean, sum(part.mean((0, 2, 3)) for part in z) / 2, atol=1e-5
    )
    assert torch.allclose(
        network[1].running_var, sum(part.var((0, 2, 3)) for part in z) / 2, rtol=1e-4
    )
    assert network[1].momentum == 0.1, "momentum comes back"
    after = training.evaluate(network, data.test.inputs, data.test.targets).accuracy
    assert after > before
    assert torch.equal(
        prunable(network)["0"] == 0,
        prunable(resnet_pruning.pruned(model, 0.6, "global"))["0"] == 0,
    )


def test_the_course_is_measured_on_every_second_image_and_leaves_the_network_alone(trained):
    model, data = trained
    before = {name: value.clone() for name, value in model.state_dict().items()}
    sample = data.train.inputs[:300]
    course = resnet_pruning.Course(data.test, sample, None)
    model.train()
    said = course.after_epoch(model, 1)
    assert model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    half = resnet_pruning.pruned(model, 0.5, "global").eval()
    anew = copy.deepcopy(half)
    resnet_pruning.recalibrate(anew, sample, None, resnet_pruning.COURSE_BATCH)
    model.eval()
    x, y = data.test.inputs[::2], data.test.targets[::2]
    for name, network in (
        ("unpruned", model),
        ("pruned", half),
        ("recalibrated", anew.eval()),
    ):
        with torch.no_grad():
            right = sum(
                int(network(image[None]).argmax() == label)
                for image, label in zip(x, y, strict=True)
            )
        assert said[name] == right / len(y), name


def test_confusion_counts_by_true_and_predicted_class(trained):
    model, data = trained
    found = resnet_pruning.confusion(model, data.test, 10, None)
    expected = torch.zeros(10, 10, dtype=torch.int64)
    with torch.no_grad():
        for true, predicted in zip(
            data.test.targets, model.eval()(data.test.inputs).argmax(1), strict=True
        ):
            expected[true, predicted] += 1
    assert torch.equal(found, expected)
    accuracy = training.evaluate(model, data.test.inputs, data.test.targets).accuracy
    assert found.trace() / found.sum() == pytest.approx(accuracy)


def test_weight_statistics():
    values = torch.tensor([-0.3, -0.005, 0.0, 0.02, 0.1, 0.9], dtype=torch.float64)
    x = values.numpy()
    found = resnet_pruning.weight_statistics(values)
    assert found["sd"] == pytest.approx(x.std(ddof=1))
    assert found["kurtosis"] == pytest.approx(((x - x.mean()) ** 4).mean() / x.var() ** 2 - 3)
    assert found["small"] == pytest.approx(2 / 6)
    assert found["mean_magnitude"] == pytest.approx(np.abs(x).mean())
    normal = torch.randn(200_000, dtype=torch.float64)
    assert abs(resnet_pruning.weight_statistics(normal)["kurtosis"]) < 0.05


def test_the_average_of_the_weights_against_a_loop():
    torch.manual_seed(0)
    model = models.cifar_resnet(8, channels=1)
    average, now = Averaged(0.9), model.state_dict()
    average.start(model)
    kept = {name: value.clone() for name, value in now.items()}
    for _ in range(4):
        with torch.no_grad():
            for value in now.values():
                value += torch.randn_like(value) if value.is_floating_point() else 1
        average.after_step(model, 0.0)
        kept = {
            name: (
                0.9 * kept[name] + 0.1 * now[name]
                if value.is_floating_point()
                else now[name].clone()
            )
            for name, value in kept.items()
        }
        if (
            _ == 0
        ):  # torch's average begins with the first update, not with the initial weights
            kept = {name: value.clone() for name, value in now.items()}
    average.finish(model)
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            assert torch.allclose(value, kept[name], atol=1e-5), name


def test_every_variant_reaches_its_optimizer():
    model = nn.Linear(3, 2)
    base = Config()
    made = {name: optimizer(variant(name, base), model) for name in VARIANTS}
    assert all(
        type(made[name]) is torch.optim.Adam for name in VARIANTS if name.startswith("adam,")
    )
    assert type(made["adamw"]) is torch.optim.AdamW
    assert type(made["sgd"]) is torch.optim.SGD
    stochastic = made["stochgradadam"].param_groups[0]
    assert isinstance(made["stochgradadam"], StochGradAdam)
    assert (stochastic["sampling_rate"], stochastic["betas"], stochastic["lr"]) == (
        0.8,
        (0.9, 0.999),
        0.01,
    )
    for name in ("stochgradadam, author's β₁", "adam, author's β₁"):
        group = made[name].param_groups[0]
        assert (group["betas"], group["eps"]) == ((0.81, 0.999), 1e-7)
    assert made["adam, 0.894 of the rate"].param_groups[0]["lr"] == pytest.approx(
        0.00894, abs=5e-6
    )
    assert variant("adam, 0.8 of the batch", base).batch_factor == 0.8
    assert (
        made["sgd"].param_groups[0]["momentum"],
        made["sgd"].param_groups[0]["weight_decay"],
    ) == (
        0.9,
        5e-4,
    )
    with pytest.raises(ValueError, match="method: got 'adagrad', needs one of"):
        variant("adagrad", base)
    with pytest.raises(ValueError, match="optimizer: got 'lion'"):
        optimizer(replace(base, optimizer="lion"), model)


def test_a_record_holds_what_the_chapter_needs_and_is_the_same_again(cache, monkeypatch):
    config = replace(variant("stochgradadam", TINY), augment=True)
    record, again = (records.run_one(resnet_pruning.run, config) for _ in range(2))
    times = ("provenance", "training_seconds")
    assert {k: v for k, v in record.items() if k not in times} == {
        k: v for k, v in again.items() if k not in times
    }
    assert record["network"] == "ResNet-8"
    assert record["parameters"] == 75_002  # counted by hand: identity shortcuts, one channel
    assert record["rates"] == list(RATES)
    for scope in ("global", "recalibrated", "layer"):
        assert len(record[f"accuracy_{scope}"]) == len(RATES)
    assert (
        record["test_accuracy"] == record["accuracy_global"][0] == record["accuracy_layer"][0]
    )
    assert record["pruned_accuracy"] == record["accuracy_global"][HALF]
    for name, rate in (("before", 0), ("after", HALF)):
        counts = np.array(record[f"confusion_{name}"])
        assert counts.trace() / counts.sum() == pytest.approx(record["accuracy_global"][rate])
    assert sum(record["histogram"]) <= record["kept"]
    assert len(record["weights_by_layer"]) == len(record["layers"]) == 8
    assert len(record["train_loss"]) == 2
    assert {name: len(values) for name, values in record["course"].items()} == {
        "unpruned": 2,
        "pruned": 2,
        "recalibrated": 2,
    }
    assert {"data", "device", "seconds", "commit"} <= record["provenance"].keys()
    assert not list(cache.rglob("*.safetensors")), "the checkpoint of a finished run is gone"


def test_a_run_goes_on_from_its_checkpoint(cache, monkeypatch):
    config = variant("stochgradadam", TINY)
    whole = records.run_one(resnet_pruning.run, config)
    steps = []

    class Interrupted(StochGradAdam):
        def step(self, closure=None):
            steps.append(1)
            if len(steps) == 15:
                raise KeyboardInterrupt
            return super().step(closure)

    with monkeypatch.context() as patch:
        patch.setattr(resnet_pruning, "StochGradAdam", Interrupted)
        patch.setattr(resnet_pruning.Checkpoint, "due", lambda self: True)
        with pytest.raises(KeyboardInterrupt):
            records.run_one(resnet_pruning.run, config)
    assert len(list(cache.rglob("*.safetensors"))) == 1
    resumed = records.run_one(resnet_pruning.run, config)
    assert resumed["accuracy_global"] == whole["accuracy_global"]
    assert resumed["weights"] == whole["weights"]
    assert resumed["train_loss"] == whole["train_loss"]


def test_the_papers_networks_have_projections():
    config, data = (
        replace(TINY, depth=20, shortcut="projection"),
        resnet_pruning.load("digits", "cpu"),
    )
    network = resnet_pruning.untrained(config, data)
    assert len(prunable(network)) == 22
    # counted by hand, for images of one channel
    assert sum(parameter.numel() for parameter in network.parameters()) == 272_970


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schedule": "linear"}, "schedule: got 'linear'"),
        ({"precision": "fp8"}, "precision: got 'fp8'"),
        ({"depth": 34, "shortcut": "projection"}, "depth: got 34"),
        ({"dataset": "breast_cancer"}, "dataset: got 'breast_cancer', needs one of"),
    ],
)
def test_bad_settings_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        resnet_pruning.run(replace(TINY, **change))


def test_profiles():
    paper = resnet_pruning.configs("paper")
    assert len(paper) == len(set(paper))
    main = [c for c in paper if c.study == "paper" and c.depth == 56]
    assert {(c.method, c.seed) for c in main} >= {
        (m, s) for m in ("adam", "stochgradadam") for s in range(3)
    }
    assert all(
        (c.dataset, c.epochs, c.batch_size, c.lr, c.augment)
        == ("cifar10", 50, 256, 0.01, False)
        for c in main
    )
    assert {c.method for c in paper if c.depth == 20} == set(VARIANTS)
    cpu = resnet_pruning.configs("cpu")
    assert {(c.dataset, c.depth, c.epochs) for c in cpu} == {("cifar10", 20, 20)}
    assert [(c.method, c.seed) for c in cpu[:2]] == [("adam", 0), ("stochgradadam", 0)]
    for rate in (0.5, 0.6, 0.7, 0.8, 0.9):
        assert any(c.sampling_rate == rate for c in cpu)
    with pytest.raises(ValueError, match="profile: got 'fast'"):
        resnet_pruning.configs("fast")


def test_bf16_and_float32_agree_on_a_trained_network(trained):
    model, data = trained
    one, other = (
        training.evaluate(model, data.test.inputs, data.test.targets, precision=p)
        for p in (None, torch.bfloat16)
    )
    assert other.loss == pytest.approx(one.loss, rel=0.05)
    assert abs(other.accuracy - one.accuracy) <= 0.02


def test_autocast_training_is_a_plain_autocast_loop():
    x, y = torch.randn(32, 1, 8, 8), torch.arange(32) % 10
    results = []
    for ours in (True, False):
        torch.manual_seed(0)
        model = models.cifar_resnet(8, channels=1)
        if ours:
            training.fit(
                model, x, y, epochs=1, batch_size=16, seed=7, precision=torch.bfloat16
            )
        else:
            torch.manual_seed(7)
            opt = training.adam(model)
            for index in torch.randperm(32).split(16):
                with torch.autocast("cpu", torch.bfloat16):
                    logits = model(x[index])
                loss = F.cross_entropy(logits.float(), y[index])
                opt.zero_grad()
                loss.backward()
                opt.step()
        results.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.allclose(*results, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sampling_rate": 0.8}, "sampling_rate: got 0.8, needs 1 for 'adam'"),
        ({"optimizer": "sgd", "eps": 1e-7}, "betas, eps: got .*'sgd'"),
    ],
)
def test_a_setting_that_the_optimizer_ignores_is_refused(change, words):
    with pytest.raises(ValueError, match=words):
        resnet_pruning.optimizer(resnet_pruning.Config(**change), nn.Linear(2, 2))
