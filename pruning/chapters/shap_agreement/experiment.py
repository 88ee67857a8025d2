"""Importance from structure beside SHAP (Fig 3a of arXiv:2311.12526), over densities and
seeds.

Networks are trained as `pruning.comparison` says. The methods explain the logit of the second
class minus that of the first, on a part of the test set.
"""

import time
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from pruning import comparison, training
from pruning.bounds import Positive
from pruning.chapters.shap_agreement.metrics import Metrics
from pruning.data import datasets
from pruning.evidence.configs import changed, choose
from pruning.evidence.records import Record
from pruning.networks import attribution, importance, sparsity

DATASETS = ("income", "breast_cancer")  # of two classes
DRAWS = 1000  # of the bootstrap


@dataclass(frozen=True)
class Config(comparison.Config):
    """One network and what it says of its inputs; two classes only."""

    metrics: ClassVar[type] = Metrics

    dataset: str = "income"
    hidden: tuple[Positive, ...] = (100, 50)
    explained: Positive = 300  # test samples whose SHAP values are averaged
    background: Positive = 200  # training samples that stand for "feature absent"
    checked: Positive = 50  # samples explained by PermutationExplainer as well
    study: str = "agreement"

    def __post_init__(self):
        super().__post_init__()
        choose(self, dataset=DATASETS, study=("agreement",))


def shares(evidence: Tensor) -> Tensor:
    """Importances scaled to sum 1."""
    return evidence.double() / evidence.double().sum().clamp_min(1e-300)


def correlation(a: Tensor, b: Tensor, kind: str) -> Record:
    """Pearson's or Spearman's correlation over features with its 95 % bootstrap interval.

    None where one of the two is constant.
    """
    measure = {"pearson": stats.pearsonr, "spearman": stats.spearmanr}[kind]
    x, y = a.numpy(), b.numpy()
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return {"value": None, "low": None, "high": None}
    generator = np.random.default_rng(0)
    draws = generator.integers(len(x), size=(DRAWS, len(x)))
    found = [measure(x[d], y[d]).statistic for d in draws if np.ptp(x[d]) and np.ptp(y[d])]
    low, high = np.quantile(found, [0.025, 0.975])
    return {"value": float(measure(x, y).statistic), "low": float(low), "high": float(high)}


def _timed(function, repeats: int = 1):
    start = time.perf_counter()
    for _ in range(repeats):
        result = function()
    return result, (time.perf_counter() - start) / repeats


def explain(model: nn.Module, data: datasets.Dataset, config: Config) -> Record:
    """Importances of all methods, their times and their agreement with Eq. 4."""
    generator = torch.Generator().manual_seed(config.seed)
    train, test = data.train.inputs, data.test.inputs
    background = train[torch.randperm(len(train), generator=generator)[: config.background]]
    order = torch.randperm(len(test), generator=generator)[: config.explained]
    inputs, targets = test[order], data.test.targets[order]
    model.eval()
    difference = attribution.LogitDifference(model)
    found, seconds = {}, {}
    structure, seconds["eq4"] = _timed(lambda: importance.feature_importance(model), 20)
    reached = structure[structure.sum(1) > 0]
    found["eq4"] = reached.mean(0) if len(reached) else structure.sum(0)
    values, seconds["shap"] = _timed(
        lambda: attribution.gradient_shap_values(
            difference, background, inputs, seed=config.seed
        )
    )
    found["shap"] = values.abs().mean(0)
    baseline = train.mean(0, keepdim=True)
    gradients, seconds["ig"] = _timed(
        lambda: attribution.integrated_gradients(difference, baseline, inputs)
    )
    found["ig"] = gradients.abs().mean(0)
    found["permutation"], seconds["permutation"] = _timed(
        lambda: attribution.permutation_importance(model, inputs, targets, seed=config.seed)
    )
    checked = attribution.permutation_shap_values(
        difference, background, inputs[: config.checked], config.seed
    )
    on_the_same = (
        values[: config.checked].abs().mean(0).double(),
        checked.abs().mean(0).double(),
    )
    agreement = {
        f"{kind}_{name}": correlation(shares(found["eq4"]), shares(found[name]), kind)
        for kind in ("pearson", "spearman")
        for name in ("shap", "ig", "permutation")
    }
    return {
        "importance": {
            name: [round(v, 8) for v in shares(f).tolist()] for name, f in found.items()
        },
        "method_seconds": seconds,
        "explainers_pearson": correlation(*on_the_same, "pearson")["value"],
        **agreement,
    }


def run(config: Config) -> Record:
    """Train, prune, explain."""
    data = datasets.load(config.dataset)
    model, told = comparison.train(config, data)
    report = sparsity.sparsity_report(model)
    return {
        "features": list(data.feature_names),
        "dense_weights": told["dense_weights"],
        "kept": int(report.kept.sum()),
        "effective": int(report.effective.sum()),
        "test_accuracy": (
            training.evaluate(model, data.test.inputs, data.test.targets).accuracy
        ),
        **explain(model, data, config),
        "provenance": {"data": data.checksum},
    }


def configs(profile: str, seeds: int | None = None) -> list[Config]:
    """ "quick": breast_cancer, two seeds. "paper": Income, five seeds, and the dense network
    as control."""
    if profile == "quick":
        base = Config(
            dataset="breast_cancer", hidden=(16, 8), batch_size=64, explained=60, checked=20
        )
        base = changed(base, background=50)
        densities, count = (0.2, 0.05), 2
    elif profile == "paper":
        base, densities, count = Config(), (0.1, 0.02, 0.005, 0.002), 5
    else:
        raise ValueError(f"profile: got {profile!r}, needs one of ['paper', 'quick']")
    return [
        changed(base, seed=seed, density=density, method="dense" if density == 1 else "gates")
        for seed in range(seeds or count)
        for density in (1.0, *densities)
    ]
