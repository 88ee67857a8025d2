"""The chapter on attacks and shifts."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from pruning import comparison, masks, sparsity_report, training
from pruning.chapters.robustness import experiment
from pruning.evidence import records

FAST = replace(experiment.QUICK, epochs=4, finetune_epochs=2)


@pytest.fixture
def quickly(monkeypatch):
    """The networks that others are attacked from, trained for a few epochs."""
    monkeypatch.setattr(experiment, "QUICK", FAST)
    experiment.transferred.cache_clear()
    yield
    experiment.transferred.cache_clear()


class Scaled(nn.Module):
    """The same answers, with logits so far apart that the cross entropy has no gradient."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return 1e6 * self.model(x)


def test_masked_gradients_are_noticed(quickly, digits):
    model = experiment.network(replace(FAST, method="dense", density=1.0), digits)
    honest = experiment.under_attack(model, "digits")
    masked = experiment.under_attack(Scaled(model), "digits")
    assert masked["attacked_accuracy"] == honest["attacked_accuracy"]
    assert max(honest["missed"]) < 0.02
    assert max(masked["missed"]) > 0.3
    assert honest["pgd"][-1][-1] < 0.05


def test_the_curves_of_a_record_fit_together(quickly):
    config = replace(FAST, method="magnitude", density=0.3)
    (record,) = records.sweep(experiment.run, [config], None, jobs=1, progress=False)
    rows = len(experiment.EPSILONS)
    pgd = torch.tensor(record["pgd"])
    assert pgd.shape == (experiment.RESTARTS, rows)
    assert (pgd[1:] <= pgd[:-1]).all()
    for name in ("fgsm", "random", "transfer_dense", "transfer_gates", "missed"):
        assert len(record[name]) == rows
    strong = experiment.EPSILONS.index(0.1)
    assert pgd[-1][strong] <= record["fgsm"][strong]
    assert record["fgsm"][strong] < record["random"][strong] <= record["attacked_accuracy"]
    assert record["kept"] == round(0.3 * record["dense_weights"])
    assert 0 < record["inputs_read"] <= 64
    for name, levels in experiment.LEVELS.items():
        assert len(record["corrupted"][name]) == len(levels)
    assert record["distance"] == sorted(record["distance"])


def test_relative_importance_and_magnitude_prune_the_same_network(digits):
    one, other = (
        experiment.network(replace(FAST, method=m, density=0.3, finetune_epochs=0), digits)
        for m in ("relative", "magnitude")
    )
    assert sparsity_report(one).kept.sum() == sparsity_report(other).kept.sum()
    both = masks(one)["0"] & masks(other)["0"]
    assert both.any()
    assert torch.equal(one[0].weight[both], other[0].weight[both])
    assert not torch.equal(masks(one)["0"], masks(other)["0"])


def test_sampled_gradients_train_another_network(digits):
    one, other = (
        experiment.network(replace(FAST, method=method, density=0.3), digits)
        for method in ("stochgrad", "magnitude")
    )
    assert sparsity_report(one).kept.sum() == sparsity_report(other).kept.sum()
    assert not torch.equal(one[0].weight, other[0].weight)


def test_a_recorded_network_has_its_recorded_accuracy(mnist):
    path = records.records_folder() / "why_gates_win.jsonl"
    (known,) = records.select(records.read(path), study="networks", network=0)
    model = experiment.recorded(0)
    found = training.evaluate(model, mnist.test.inputs, mnist.test.targets)
    assert found.accuracy == pytest.approx(known["test_accuracy"], abs=2e-4)
    assert sparsity_report(model).kept.sum() == comparison.PAPER_WEIGHTS


def test_only_networks_on_record_are_called_recorded():
    with pytest.raises(ValueError, match="source: got 'recorded' for 'dense'"):
        experiment.Config(method="dense", source="recorded")
    with pytest.raises(ValueError, match="method: got 'rigl'"):
        experiment.Config(method="rigl")


def test_the_attacked_networks_are_not_those_attacked_from():
    wanted = {replace(c, density=1.0) for c in experiment.configs("paper")}
    for surrogate in experiment._surrogates("mnist"):
        assert replace(surrogate, density=1.0) not in wanted
