"""Does Eq. 4 agree with other attributions on pixels, is a weight of low information safe to
prune, and does sampling gradients change what a network's attributions say?

Study "pixels" compares Eq. 4 with integrated gradients, gradient × input and the gradient's
size on MNIST, and removes the pixels that each of them ranks first. Study "information" takes
weights of a dense network, computes the mutual information between their contribution and
their neuron, and removes each of them alone. Study "sampling" is in the module of this name.
"""

import copy
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from pruning import comparison, training
from pruning.bounds import Count, Part, Positive
from pruning.chapters.attributions import information, sampling
from pruning.chapters.attributions.metrics import Metrics
from pruning.chapters.robustness.experiment import SOURCES, check_source, recorded
from pruning.data import datasets
from pruning.evidence.configs import settle
from pruning.evidence.records import Record
from pruning.methods import relative, scores
from pruning.networks import importance, sparsity
from pruning.networks.attribution import integrated_gradients

DATASETS = ("mnist", "digits")
STUDIES = ("pixels", "information", "sampling")
METHODS = ("gates", "dense")
REMOVED = (5, 10, 20, 40, 80)  # of the first pixels
SPARSITIES = (0.5, 0.75, 0.9)
SAMPLES = 2000  # images that information is estimated from
WEIGHTS, ESTIMATED = 400, 100  # of each layer: removed alone; estimated by scikit-learn


@dataclass(frozen=True)
class Config:
    """One network."""

    metrics: ClassVar[type] = Metrics

    dataset: str = "mnist"
    study: str = "pixels"  # one of STUDIES
    method: str = "gates"  # one of METHODS
    density: Part = 1.0
    seed: Count = 0
    source: str = "trained"  # or "recorded": a whole network of the chapter why_gates_win
    hidden: tuple[Positive, ...] = (300, 100)
    epochs: Count = 15
    finetune_epochs: Count = 5
    batch_size: Positive = 256

    def __post_init__(self):
        settle(self, dataset=DATASETS, study=STUDIES, method=METHODS, source=SOURCES)
        comparison.trains(self)
        check_source(self)
        mine = self.method, self.hidden, self.density, self.finetune_epochs
        if self.study == "sampling" and mine != ("dense", (300, 100), 1.0, 0):
            raise ValueError(
                f"method, hidden, density, finetune_epochs: got {mine} for study='sampling',"
                " needs 'dense', (300, 100), 1.0, 0"
            )


@lru_cache(maxsize=1)
def trained(dataset: str, settings: comparison.Config) -> nn.Sequential:
    """A network; both studies look at the same dense one."""
    return comparison.train(settings, comparison.load(dataset))[0].eval()


def network(config: Config) -> nn.Sequential:
    """The network of a config."""
    if config.study == "sampling":
        return sampling.trained(config, "adam", config.seed + sampling.OTHER)
    if config.source == "recorded":
        return recorded(config.seed)
    return trained(config.dataset, comparison.shared(config, config.method))


class OwnLogit(nn.Module):
    """(batch, features) ↦ (batch, 1): the logit of the class that the network answers."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """The largest logit, one column."""
        return self.model(x).amax(1, keepdim=True)


def attributed(model: nn.Sequential, train: Tensor, x: Tensor) -> dict[str, Tensor]:
    """One importance a feature by each attribution, nothing negative: {name: (features,)}.

    The mean over outputs (Eq. 4) or of the absolute value over the images x (the others).
    "deviation" is the deviation of the feature in the training set, whatever the network.
    """
    structure = importance.feature_importance(model)
    reached = structure[structure.sum(1) > 0]
    logits, baseline = OwnLogit(model), train.mean(0, keepdim=True)
    point = x.clone().requires_grad_()
    gradient = torch.autograd.grad(logits(point).sum(), point)[0]
    return {
        "eq4": reached.mean(0),
        "ig": integrated_gradients(logits, baseline, x).abs().mean(0),
        "gradient_input": ((x - baseline) * gradient).abs().mean(0),
        "gradient": gradient.abs().mean(0),
        "deviation": train.std(0),
    }


def correlations(found: dict[str, Tensor], among: Tensor) -> Record:
    """Pearson's and Spearman's correlation of Eq. 4 with each other attribution over the
    features `among` (boolean)."""
    measures = {"pearson": stats.pearsonr, "spearman": stats.spearmanr}
    ours = found["eq4"][among].numpy()
    return {
        kind: {
            name: float(measure(ours, other[among].numpy()).statistic)
            for name, other in found.items()
            if name != "eq4"
        }
        for kind, measure in measures.items()
    }


def without_first(
    model: nn.Module, data: datasets.Dataset, order: Tensor, counts: tuple[int, ...]
) -> list[float]:
    """Test accuracy after the first pixels of an order take their mean of the training set."""
    mean, found = data.train.inputs.mean(0), []
    for count in counts:
        x = data.test.inputs.clone()
        x[:, order[:count]] = mean[order[:count]]
        found.append(training.evaluate(model, x, data.test.targets).accuracy)
    return found


def pixels(model: nn.Sequential, data: datasets.Dataset, config: Config) -> Record:
    """Attributions of one network, their agreement with Eq. 4, and accuracy without the pixels
    that each ranks first."""
    found = attributed(model, data.train.inputs, sampling.explained(data)[0])
    varying, read = data.train.inputs.std(0) > 0, found["eq4"] > 0
    generator = torch.Generator().manual_seed(config.seed)
    orders = {name: value.argsort(descending=True) for name, value in found.items()}
    orders["random"] = torch.randperm(len(varying), generator=generator)
    counts = tuple(k for k in REMOVED if k < len(varying))
    record: Record = {
        "read": int(read.sum()),
        "varying_pixels": correlations(found, varying),
        "read_pixels": correlations(found, read & varying),
        "removed": list(counts),
        "without": {
            name: without_first(model, data, order, counts) for name, order in orders.items()
        },
    }
    if config.seed == 0:
        record["shape"] = list(data.image_shape)
        record["maps"] = {
            name: [round(v, 7) for v in (value / value.sum()).tolist()]
            for name, value in found.items()
        }
    return record


def informed(model: nn.Sequential, data: datasets.Dataset, config: Config) -> Record:
    """Information, scores and the loss without it, of a sample of weights of each layer; and
    test accuracy after pruning by each score."""
    generator = torch.Generator().manual_seed(config.seed)
    order = torch.randperm(len(data.train), generator=generator)[:SAMPLES]
    x, targets = data.train.inputs[order], data.train.targets[order]
    found = {
        "information": {
            name: information.gaussian(model.get_submodule(name), given)
            for name, given in information.inputs_of(model, data.train.inputs).items()
        },
        "relative": relative.importance(model, data.train.inputs, relative.Settings()),
        "magnitude": scores.magnitude(model),
        "wanda": scores.wanda(model, data.train.inputs),
        "random": scores.random_scores(model, generator),
    }
    layers = {}
    for name, given in information.inputs_of(model, x).items():
        layers[name] = _sampled(model, name, given, targets, found, generator)
    return {
        "layers": layers,
        "sparsities": list(SPARSITIES),
        "after_pruning": {
            name: [_pruned(model, data, score, sparsity) for sparsity in SPARSITIES]
            for name, score in found.items()
        },
    }


def _sampled(model, name, given, targets, found, generator) -> Record:
    layer = model.get_submodule(name)
    live = (given.std(0) > 0).nonzero().flatten()
    outputs = torch.randint(layer.out_features, (WEIGHTS,), generator=generator)
    chosen = live[torch.randint(len(live), (WEIGHTS,), generator=generator)]
    pairs = list(zip(outputs.tolist(), chosen.tolist(), strict=True))
    change = np.abs(information.losses_without(model, name, given, targets, pairs))
    values = {
        key: score[name][outputs, chosen].double().numpy() for key, score in found.items()
    }
    estimate = information.estimated(layer, given, pairs[:ESTIMATED])
    record: Record = {
        "spearman": {
            key: float(stats.spearmanr(value, change).statistic)
            for key, value in values.items()
        },
        "estimate_and_formula": float(
            stats.spearmanr(estimate, values["information"][:ESTIMATED]).statistic
        ),
        "estimate": float(stats.spearmanr(estimate, change[:ESTIMATED]).statistic),
    }
    return record | {
        "sample": {
            "information": [round(v, 5) for v in values["information"].tolist()],
            "relative": [float(f"{v:.4g}") for v in values["relative"].tolist()],
            "loss": [float(f"{v:.4g}") for v in change.tolist()],
        }
    }


def _pruned(model, data, score, sparsity: float) -> float:
    thinner = copy.deepcopy(model)
    scores.prune_by_score(thinner, score, sparsity, "layer")
    return training.evaluate(thinner, data.test.inputs, data.test.targets).accuracy


def run(config: Config) -> Record:
    """The metrics of one record."""
    data = comparison.load(config.dataset)
    model = network(config)
    study = {"pixels": pixels, "information": informed, "sampling": sampling.compared}
    return {
        **sparsity.totals(model),
        "test_accuracy": training.evaluate(
            model, data.test.inputs, data.test.targets
        ).accuracy,
        **study[config.study](model, data, config),
        "provenance": {"data": data.checksum},
    }


def configs(profile: str, seeds: int | None = None) -> list[Config]:
    """The runs of a profile. "quick": digits, one seed. "paper": MNIST; networks of 404
    weights on record and dense ones, and weights of dense ones, three seeds; and networks
    with and without sampled gradients, five."""
    if profile == "quick":
        quick = {"dataset": "digits", "hidden": (32, 16), "batch_size": 64}
        base = Config(density=0.06, epochs=20, finetune_epochs=10, **quick)
    elif profile == "paper":
        few = comparison.PAPER_WEIGHTS / comparison.LENET_WEIGHTS
        base = Config(density=few, source="recorded")
    else:
        raise ValueError(f"profile: got {profile!r}, needs one of ['paper', 'quick']")
    dense = replace(base, method="dense", density=1.0, source="trained")
    kinds = (base, dense, replace(dense, study="information"))
    count = seeds or (1 if profile == "quick" else 3)
    found = [replace(kind, seed=seed) for seed in range(count) for kind in kinds]
    if profile == "quick":
        return found
    sampled = replace(dense, study="sampling", epochs=sampling.MLP.epochs, finetune_epochs=0)
    return found + [replace(sampled, seed=seed) for seed in range(seeds or 5)]
