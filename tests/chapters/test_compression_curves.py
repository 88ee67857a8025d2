from dataclasses import replace

import pytest
import torch
from torch import nn

from pruning import comparison
from pruning.chapters.compression_curves import experiment as cc
from pruning.evidence import records
from pruning.evidence.configs import changed
from pruning.methods import baselines, gates_training
from pruning.networks import models, sparsity
from pruning.networks.compact import compact
from pruning.training.recipes import HoldThenCosine

QUICK = cc.Config(
    dataset="digits", hidden=(32, 16), batch_size=32, epochs=20, finetune_epochs=4, density=0.1
)


@pytest.fixture(scope="module")
def by_method():
    names = ("gates", "random", "dense", "magnitude", "snip")
    return {name: records.run_one(cc.run, changed(QUICK, method=name)) for name in names}


def test_every_method_makes_a_full_record(by_method):
    for method, record in by_method.items():
        fields = {
            "method",
            "dataset",
            "seed",
            "kept",
            "effective",
            "test_accuracy",
            "provenance",
        }
        assert fields <= record.keys()
        assert record["method"] == method
        assert (
            0
            < record["effective"]
            <= record["kept"]
            <= record["dense_weights"]
            == 64 * 32 + 32 * 16 + 160
        )
        assert sum(record["kept_by_layer"]) == record["kept"]
        assert 0.1 < record["test_accuracy"] <= 1
        assert {"commit", "versions", "device", "data", "seconds"} <= record[
            "provenance"
        ].keys()


def test_a_record_is_flat_and_gives_its_config_back(by_method):
    for record in by_method.values():
        assert not {"settings"} & record.keys()
        assert records.config_of(record, cc.Config) == changed(QUICK, method=record["method"])
    assert by_method["gates"]["tau"] == 2.0
    assert "tau" not in by_method["random"]
    earlier = by_method["random"] | {
        "tau": 2.0,
        "fraction": 0.3,
    }  # as the first version wrote them
    assert records.missing([changed(QUICK, method="random")], [earlier]) == []


def test_gates_beat_a_random_structure(by_method):
    assert by_method["gates"]["test_accuracy"] > by_method["random"]["test_accuracy"] + 0.1


def test_same_config_same_record():
    short = changed(QUICK, method="gates", epochs=4, finetune_epochs=1)
    first, again = (records.run_one(cc.run, short) for _ in range(2))
    for record in (first, again):
        record.pop("provenance")
    assert again == first
    other = records.run_one(cc.run, changed(short, seed=1))
    assert other["test_loss"] != again["test_loss"]


@pytest.mark.parametrize("method", ["gates", "random", "set", "magnitude"])
def test_a_compact_network_computes_the_same(method, digits):
    model, _ = comparison.train(
        changed(QUICK, method=method, epochs=4, finetune_epochs=2), digits
    )
    for name, mask in sparsity.masks(model).items():
        assert (model.get_submodule(name).weight[~mask] == 0).all()
    small = compact(model)
    x = digits.test.inputs
    assert torch.allclose(small(x), model.eval()(x), atol=1e-4)


def test_a_validation_run_never_reads_the_test_set(digits):
    spoiled = replace(digits, test=None)  # touching it would raise
    config = changed(QUICK, split="validation", epochs=2, finetune_epochs=1)
    comparison.train(config, spoiled.validation())
    record = records.run_one(cc.run, config)
    assert record["test_accuracy"] is None
    assert 0 <= record["validation_accuracy"] <= 1
    assert "test_loss" not in record


def test_target_falls_from_one_to_the_density():
    falling, constant = (
        gates_training.Settings(descent=0.5),
        gates_training.Settings(target="constant"),
    )
    found = [gates_training.target(falling, p, 0.01) for p in (0.0, 0.25, 0.5, 0.9)]
    assert found == pytest.approx([1.0, 0.1, 0.01, 0.01])
    assert gates_training.target(constant, 0.0, 0.01) == 0.01


def test_layers_keep_the_shares_that_are_asked_for(digits):
    shares = (0.4, 0.35, 0.25)
    config = changed(QUICK, density=0.15, allocation=shares, alpha=10.0, epochs=20)
    model, _ = comparison.train(config, digits)
    kept = sparsity.sparsity_report(model).kept
    assert (kept / kept.sum()).tolist() == pytest.approx(shares, abs=0.07)


def test_schedule_holds_then_falls():
    factor = HoldThenCosine(0.5)
    assert [factor(p) for p in (0.0, 0.5, 0.75, 1.0)] == pytest.approx([1, 1, 0.51, 0.02])
    assert HoldThenCosine(0.0)(0.5) == pytest.approx(0.51)


def test_profiles():
    for profile in ("quick", "paper", "search"):
        configs = cc.configs(profile)
        assert len(set(configs)) == len(configs)
    curves = [c for c in cc.configs("paper") if c.study == "curves"]
    for dataset in ("mnist", "income"):
        densities = {c.density for c in curves if c.dataset == dataset and c.method == "gates"}
        assert len(densities) >= 8
        assert max(densities) >= 0.5
        assert min(densities) <= 0.001
        for method, count in {"gates": 10, "random": 5, "dense": 5}.items():
            seeds = {c.seed for c in curves if c.dataset == dataset and c.method == method}
            assert seeds == set(range(count))
    assert all(c.split == "validation" for c in cc.configs("search"))
    assert {c.seed for c in cc.configs("paper", seeds=6)} == set(range(6))
    with pytest.raises(ValueError, match="profile: got 'papers'"):
        cc.configs("papers")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"method": "magic"}, "method: got 'magic'"),
        ({"penalty": "linear"}, "penalty: got 'linear'"),
        ({"target": "cubic"}, "target: got 'cubic'"),
        (
            {"method": "set", "tau": 3.0},
            "tau: no setting of method 'set', needs one of .*fraction",
        ),
        ({"settings": baselines.Settings()}, "settings: got Settings.*needs those of 'gates'"),
        ({"allocation": (0.5, 0.5)}, "allocation: got \\(0.5, 0.5\\), needs 3 shares"),
        ({"allocation": (0.5, 0.5, 0.5)}, "that sum to 1"),
        ({"method": "dense", "density": 0.001}, "density: got 0.001"),
    ],
)
def test_a_wrong_config_is_named(change, words, digits):
    set_to = replace if "settings" in change else changed
    with pytest.raises(ValueError, match=words):
        comparison.train(set_to(QUICK, **change), digits)


def test_real_mnist_keeps_its_accuracy_at_five_per_cent(mnist):
    half = replace(
        mnist.train, inputs=mnist.train.inputs[:30_000], targets=mnist.train.targets[:30_000]
    )
    config = cc.Config(density=0.05, epochs=3, finetune_epochs=1)
    model, _ = comparison.train(config, replace(mnist, train=half))
    kept = int(sparsity.sparsity_report(model).kept.sum())
    assert kept == pytest.approx(0.05 * 266_200, rel=0.2)  # three epochs are short
    right = (model.eval()(mnist.test.inputs).argmax(1) == mnist.test.targets).float().mean()
    assert right > 0.95


def test_real_income_at_one_per_cent_beats_the_constant_answer(income):
    model, _ = comparison.train(
        changed(cc.INCOME, density=0.01, epochs=6, finetune_epochs=2), income
    )
    assert int(sparsity.sparsity_report(model).kept.sum()) <= 80
    assert sparsity.effective_weights(model) > 0
    right = (model.eval()(income.test.inputs).argmax(1) == income.test.targets).float().mean()
    assert right > 0.82  # always "<=50K" is right for 0.764


def test_dense_method_trains_the_narrow_network(digits):
    model, _ = comparison.train(
        changed(QUICK, method="dense", density=0.5, epochs=1, finetune_epochs=0), digits
    )
    widths = tuple(m.out_features for m in model if isinstance(m, nn.Linear))
    assert (64, *widths) == models.narrow_sizes((64, 32, 16, 10), 1360)


def test_references_are_scikit_learn_s_own(tmp_path):
    from sklearn.linear_model import LogisticRegression

    from pruning.chapters.compression_curves.references import Reference
    from pruning.data import datasets

    record = records.run_one(cc.run, Reference("breast_cancer"))
    data = datasets.load("breast_cancer")
    model = LogisticRegression(max_iter=1000).fit(
        data.train.inputs.numpy(), data.train.targets.numpy()
    )
    assert record["test_accuracy"] == model.score(
        data.test.inputs.numpy(), data.test.targets.numpy()
    )
    assert record["kept"] == 30
    boosted = records.run_one(cc.run, Reference("breast_cancer", "gradient_boosting"))
    assert boosted["kept"] is None
    assert 0.9 < boosted["test_accuracy"] < 1
    with pytest.raises(ValueError, match="method: got 'forest'"):
        Reference(method="forest")
    path = tmp_path / "r.jsonl"
    records.append(path, record)
    assert records.missing([Reference("breast_cancer"), cc.Config()], records.read(path)) == [
        cc.Config()
    ]


@pytest.mark.parametrize("density", [0, 5, -0.1, float("nan")])
def test_a_density_out_of_range_is_named_before_anything_is_loaded(density):
    with pytest.raises(ValueError, match=r"density: got .*, needs `float` [<>]"):
        cc.Config(density=density)
