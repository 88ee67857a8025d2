import copy

import pytest
import torch

from pruning import methods, training
from pruning.chapters.relative_importance import experiment as ri
from pruning.chapters.relative_importance import scoring, tables
from pruning.evidence import records
from pruning.evidence.configs import changed, make
from pruning.methods import scores
from pruning.methods.oneshot import Score
from pruning.networks import sparsity
from pruning.training import recipes

QUICK = ri.Config(dataset="digits", hidden=(32, 16), batch_size=64, epochs=20, sparsity=0.5)
WEIGHTS = 64 * 32 + 32 * 16 + 160


@pytest.fixture(scope="module")
def by_method():
    return {
        name: records.run_one(ri.run, changed(QUICK, method=name))
        for name in (*methods.found(Score), "unpruned")
    }


def test_every_score_makes_a_full_record(by_method):
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
        assert record["kept"] == (WEIGHTS if method == "unpruned" else WEIGHTS // 2)
        assert sum(record["kept_by_layer"]) == record["kept"]
        assert record["unpruned_accuracy"] == by_method["unpruned"]["test_accuracy"] > 0.9
        assert 0.1 <= record["test_accuracy"] <= 1


def test_data_tell_more_than_chance(by_method):
    for method in ("relative", "wanda", "stade", "ria"):
        assert by_method[method]["test_accuracy"] > by_method["random"]["test_accuracy"] + 0.1


def test_every_record_starts_from_the_same_network(digits):
    first = copy.deepcopy(ri.trained(ri.part(QUICK))[0].state_dict())
    ri.run(changed(QUICK, finetune_epochs=1))
    ri.run(changed(QUICK, method="stade corrected"))  # changes biases, of its copy
    after = ri.trained(ri.part(QUICK))[0].state_dict()
    assert all(torch.equal(first[name], after[name]) for name in first)


def test_same_config_same_record():
    config = changed(QUICK, finetune_epochs=1, activity=0.1)
    first, again = (clear_and_run(config) for _ in range(2))
    assert first == again
    assert clear_and_run(changed(config, seed=1))["test_loss"] != first["test_loss"]


def clear_and_run(config):
    for cached in (
        scoring.trained,
        scoring.statistics,
        scoring._scored,
        scoring.unpruned_accuracy,
        scoring._means,
    ):
        cached.cache_clear()
    record = records.run_one(ri.run, config)
    record.pop("provenance")
    return record


def test_the_mask_is_the_scores_own_and_survives_fine_tuning(monkeypatch):
    fitted = []
    fit = training.fit
    for module in (training, recipes):
        monkeypatch.setattr(
            module, "fit", lambda model, *a, **k: fitted.append(model) or fit(model, *a, **k)
        )
    config = changed(QUICK, method="wanda", scope="neuron", finetune_epochs=2)
    scoring.trained.cache_clear()
    ri.run(config)
    dense, tuned = fitted
    expected = scores.prune_by_score(
        copy.deepcopy(dense),
        scores.wanda(dense, ri.trained(ri.part(config))[1].train.inputs),
        0.5,
        "neuron",
    )
    for name, mask in sparsity.masks(expected).items():
        assert torch.equal(mask, sparsity.masks(tuned)[name])
        assert (tuned.get_submodule(name).weight[~mask] == 0).all()


def test_magnitude_live_spends_nothing_on_constant_pixels(digits):
    config = changed(QUICK, method="magnitude live", sparsity=0.2)
    constant = digits.train.inputs.amax(0) == digits.train.inputs.amin(0)
    assert constant.any()
    mask = next(iter(sparsity.masks(ri.prune(config)).values()))
    assert not mask[:, constant].any()
    plain = next(iter(sparsity.masks(ri.prune(changed(config, method="magnitude"))).values()))
    assert plain[:, constant].any()


def test_pruning_aware_training_makes_neurons_less_active():
    inputs = ri.trained(ri.part(QUICK))[1].train.inputs
    plain = ri.trained(ri.part(QUICK))[0][:2](inputs).abs().mean()
    aware = ri.trained(ri.part(changed(QUICK, activity=0.3)))[0][:2](inputs).abs().mean()
    assert aware < plain / 2


def test_overlap_of_a_mask_with_itself_and_with_chance():
    wanda = changed(QUICK, method="wanda")
    assert ri.overlap(wanda) == 1
    assert ri.overlap(changed(QUICK, method="random")) == pytest.approx(0.5, abs=0.05)
    assert ri.overlap(QUICK) > 0.8  # absolute contributions lie close to Wanda's score


def test_decay_moves_sparsity_between_layers():
    found = {
        s: records.run_one(ri.run, changed(QUICK, scope="layer", decay=s)) for s in (0.5, 1.0)
    }
    assert found[0.5]["kept_by_layer"][0] < found[1.0]["kept_by_layer"][0]
    assert found[0.5]["kept"] == pytest.approx(found[1.0]["kept"], abs=3)


def test_standardised_pixels_have_mean_zero():
    data = ri.trained(ri.part(changed(QUICK, scaling="standardised", epochs=1)))[1]
    assert data.train.inputs.mean().abs() < 1e-5
    assert data.train.inputs.std() == pytest.approx(1)


def test_distribution_record(digits):
    found = ri.run(changed(QUICK, method="distribution", sparsity=0.0, activation="tanh"))
    assert len(found["histograms"]) == 4
    for histogram in found["histograms"]:
        assert sum(histogram["counts"]) == histogram["samples"] == len(digits.train.inputs)
        assert len(histogram["edges"]) == len(histogram["counts"]) + 1
    assert all(0 < d < 1 for d in found["ks_single"] + found["ks_means"])


def test_a_validation_run_never_reports_on_the_test_set():
    found = ri.run(changed(QUICK, split="validation"))
    assert found["test_accuracy"] is None
    assert 0 <= found["validation_accuracy"] <= 1


def test_profiles():
    for profile in ("quick", "paper", "search"):
        configs = ri.configs(profile)
        assert len(set(configs)) == len(configs)
    paper = ri.configs("paper")
    table = [c for c in paper if c.study == "table"]
    assert {c.seed for c in table} == set(range(5))
    assert {c.activation for c in table} == {"relu", "sigmoid", "tanh"}
    assert {0.25, 0.5, 0.75, 0.9, 0.95} <= {c.sparsity for c in table}
    for method in ("relative", *ri.OTHERS):
        mine = [c for c in table if c.method == method and c.seed == 0]
        assert {(c.scope, c.finetune_epochs, c.activity) for c in mine} == {
            (scope, epochs, activity)
            for scope in scores.SCOPES
            for epochs in ((0,) if method in ri.NOT_TUNED else (0, 1))
            for activity in (0.0, ri.AWARE)
        }
    assert all(c.split == "validation" for c in ri.configs("search"))
    with pytest.raises(ValueError, match="profile: got 'papers'"):
        ri.configs("papers")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"method": "magic"}, "method: got 'magic'"),
        ({"scaling": "log"}, "scaling: got 'log'"),
        ({"split": "train"}, "split: got 'train'"),
        ({"method": "wanda", "decay": 0.5}, "decay: no setting of method 'wanda'"),
    ],
)
def test_a_wrong_config_is_named(change, words):
    with pytest.raises(ValueError, match=words):
        ri.run(changed(QUICK, **change))


def test_real_mnist_at_three_quarters(mnist):
    config = make(ri.Config, epochs=1, activity=ri.AWARE, **ri.READING)
    record = records.run_one(ri.run, config)
    assert record["kept"] == 266_200 // 4
    assert record["test_accuracy"] > 0.92


def test_tables_put_competitors_under_their_best_threshold():
    base = {
        "scaling": "raw",
        "activation": "relu",
        "activity": 0.0,
        "sparsity": 0.75,
        "finetune_epochs": 0,
    }
    base |= ri.READING | {"tolerance": None, "kind": "absolute"}

    def record(method, scope, accuracy, seed=0, **more):
        return (
            base
            | {"method": method, "scope": scope, "test_accuracy": accuracy, "seed": seed}
            | more
        )

    found = [record("wanda", "layer", 0.9 + 0.01 * s, s) for s in (0, 1)]
    found += [record("wanda", "global", 0.95 - 0.1 * s, s) for s in (0, 1)]  # one lucky seed
    found += [record("relative", "global", 0.94), record("relative", "layer", 0.99)]
    found += [
        record("relative", "global", 0.99, beta=0.0),
        record("unpruned", "global", 0.98, sparsity=0.0),
    ]
    shown = tables.compared(found)
    assert [(r["method"], r["scope"]) for r in shown] == [
        ("wanda", "layer"),
        ("wanda", "layer"),
        ("relative", "global"),
        ("unpruned", "global"),
    ]
    said = tables.at_penalty(found, 0.0)
    assert "94.00 % (relative importance) and 90.50 % (Wanda)" in said
    named = tables.labelled([record("relative", "layer", 0.9, beta=0.25, blind=False)])[0]
    assert named["score"] == "relative importance: absolute, blind ranges ignored"
    assert (named["setting"], named["threshold"]) == ("β = 0.25", "each layer")
    assert "relative importance at λ = 0 (94.00 %)" in tables.best_over_penalties(found)
