"""Relative importance and its competitors on LeNet-300-100 (arXiv:2410.16151).

A network is trained once, with or without the activity penalty, and every score, threshold and
sparsity prunes a copy of it; a short fine-tune may follow. Scores see the training set, never
the test set.
"""

import copy
import itertools
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from scipy import stats as distributions

from pruning import comparison, methods
from pruning.bounds import Count, Fraction
from pruning.chapters.relative_importance.metrics import Metrics
from pruning.chapters.relative_importance.scoring import (
    SCALINGS,
    Network,
    evaluate,
    overlap,
    part,
    prune,
    statistics,
    trained,
    unpruned_accuracy,
)
from pruning.evidence.configs import changed, settle
from pruning.evidence.records import Record
from pruning.methods import relative, scores
from pruning.methods.oneshot import Score
from pruning.networks import models, sparsity
from pruning.networks.layers import layers
from pruning.training import recipes
from pruning.training.recipes import setting

DATASETS = ("mnist", "fashion_mnist", "income", "digits", "breast_cancer")

STUDIES = ("table", "sensitivity", "penalty", "scaling", "distribution", "search")
BATCH_OF_MEANS = 100  # samples averaged where the central limit theorem is tried


@dataclass(frozen=True)
class Unpruned:
    """Settings of "unpruned": how often neurons are blind."""

    tolerance: float | None = setting(None, "of the blind ranges")


@dataclass(frozen=True)
class Distribution:
    """Settings of "distribution": single contributions beside the normal distribution."""

    kind: str = setting("absolute", "contribution: 'relative', 'absolute' or 'output'")
    tolerance: float | None = setting(None, "of the blind ranges")
    blind: bool = setting(True, "whether contributions within a blind range count 0")


UNSCORED = {"unpruned": Unpruned, "distribution": Distribution}


@dataclass(frozen=True)
class Config(Network):
    """One pruned network. `settings` are those of the method; None stands for its defaults."""

    metrics: ClassVar[type] = Metrics

    method: str = "relative"  # a `Score`, or one of UNSCORED
    sparsity: Fraction = 0.75
    scope: str = "global"
    finetune_epochs: Count = 0
    settings: Any = None
    study: str = "table"  # one of STUDIES

    def __post_init__(self):
        settle(
            self,
            dataset=DATASETS,
            scope=scores.SCOPES,
            study=STUDIES,
            split=comparison.SPLITS,
            scaling=SCALINGS,
            activation=models.ACTIVATIONS,
            architecture=("mlp",),
        )

    @staticmethod
    def settings_of(method: str) -> type:
        """The dataclass of a method's settings."""
        return UNSCORED[method] if method in UNSCORED else methods.find(method, Score).settings


def _distribution(config: Config) -> Record:
    """Contributions of single weights beside the fitted normal: Kolmogorov-Smirnov distances
    of a random thousand of each layer, of the means of 100 of their samples, and the
    histograms of four.
    """
    model, data = trained(part(config))
    s = config.settings
    found = statistics(part(config), s.kind, s.tolerance, s.blind)
    generator = torch.Generator().manual_seed(config.seed)
    order = torch.randperm(len(data.train.inputs), generator=generator)[: 100 * BATCH_OF_MEANS]
    inputs = data.train.inputs[order]
    distances: dict[str, list[float]] = {"single": [], "means": []}
    zero_share, shown = [], []
    for name, layer in list(layers(model).items())[:-1]:
        score = (found[name].mean.abs() + found[name].std).flatten()
        live = (score > 0).nonzero().flatten()
        picked = live[torch.randperm(len(live), generator=generator)[:1000]]
        ranked = live[score[live].argsort(descending=True)]
        picked = torch.cat([ranked[[0, len(ranked) // 2]], picked])
        columns = layer.in_features
        c = relative.contributions(
            model, inputs, name, picked // columns, picked % columns, s.kind
        )
        batches = (
            c[: len(c) // BATCH_OF_MEANS * BATCH_OF_MEANS]
            .unflatten(0, (-1, BATCH_OF_MEANS))
            .mean(1)
        )
        for key, sample in (("single", c), ("means", batches)):
            sample = sample[:, sample.std(0) > 0].double().numpy()
            fitted = (sample - sample.mean(0)) / sample.std(0)
            distances[key].append(
                [distributions.kstest(column, "norm").statistic for column in fitted.T]
            )
        zero_share.append((c == 0).double().mean().item())
        for k, label in enumerate(("highest score", "median score")):
            counts, edges = torch.histogram(c[:, k].double(), 40)
            shown.append(
                {
                    "layer": name,
                    "weight": label,
                    "samples": len(c),
                    "mean": c[:, k].mean().item(),
                    "std": c[:, k].std().item(),
                    "zero": (c[:, k] == 0).double().mean().item(),
                    "counts": counts.int().tolist(),
                    "edges": [round(e, 9) for e in edges.tolist()],
                }
            )
    medians = {
        key: [float(torch.tensor(d).median()) for d in found]
        for key, found in distances.items()
    }
    return {
        "ks_single": medians["single"],
        "ks_means": medians["means"],
        "zero_share": zero_share,
        "histograms": shown,
    }


def run(config: Config) -> Record:
    """Train (or take the network of the run before), score, prune, perhaps fine-tune, and
    measure."""
    model, data = trained(part(config))
    more: Record = {}
    if config.method not in UNSCORED:
        model = prune(config)
        if config.method == "relative" and not config.finetune_epochs:
            more["overlap_wanda"] = overlap(config)
    elif config.method == "unpruned":
        model = copy.deepcopy(model)
        found = statistics(part(config), "relative", config.settings.tolerance, True)
        more["blind_fraction"] = [s.blind.mean().item() for s in found.values()][:-1]
        more["always_blind"] = [(s.blind == 1).double().mean().item() for s in found.values()][
            :-1
        ]
    else:
        more = _distribution(config)
    if config.finetune_epochs:
        recipes.train(
            model,
            data.train.inputs,
            data.train.targets,
            [recipes.finetune(config.finetune_epochs, config.lr / 2)],
            batch_size=config.batch_size,
            seed=config.seed + 1,
        )
    after = evaluate(part(config), model, data)
    report = sparsity.sparsity_report(model)
    # a validation run must not touch the test set, so its figures go by another name
    accuracy, other = (
        ("test", "validation") if config.split == "test" else ("validation", "test")
    )
    return {
        "kept": int(report.kept.sum()),
        "kept_by_layer": report.kept.tolist(),
        # paths are counted in chains of Linear layers alone
        "effective": int(report.effective.sum()) if report.effective.notna().all() else None,
        f"{accuracy}_accuracy": after.accuracy,
        f"{accuracy}_loss": after.loss,
        f"{other}_accuracy": None,
        "unpruned_accuracy": unpruned_accuracy(part(config)),
        **more,
        "provenance": {"data": data.checksum},
    }


KINDS = ("relative", "absolute", "output")
PENALISED = ("unpruned", "relative", "magnitude", "wanda", "stade", "ria")  # compared over λ
FINETUNED = ("relative", "magnitude", "wanda")  # at every sparsity
# not fine-tuned: variants, what compression_curves fine-tunes, and what lies far behind before
# it
NOT_TUNED = ("magnitude live", "stade corrected", "snip", "nnrelief")
OTHERS = (
    "magnitude",
    "magnitude live",
    "wanda",
    "nnrelief",
    "stade",
    "stade corrected",
    "ria",
    "snip",
    "random",
)
AWARE = 0.1  # λ of pruning-aware training, from the search
READING = {  # the reading that the search chose among those with blind ranges
    "kind": "absolute",
    "blind": True,
    "alpha": 1.0,
    "beta": 1.0,
    "decay": 1.0,
    "form": "sum",
    "scope": "global",
}
SPARSITIES = (0.25, 0.5, 0.75, 0.9, 0.95)  # the first three are the paper's


def _table(network: Config, sparsities=SPARSITIES, finetune=True) -> list[Config]:
    """Everything that is done to one network: all scores, thresholds, sparsities, with and
    without fine-tune.

    Fine-tuned are the readings with blind ranges but "output", and at the sparsities at which
    all scores lie close together before it only what the verdicts rest on.
    """
    readings = [{"kind": kind} for kind in KINDS]
    readings += [{"kind": kind, "blind": False} for kind in KINDS if kind != "output"]
    scored = [changed(network, **reading) for reading in readings]
    tuned = [
        config
        for config in scored
        if config.settings.blind and config.settings.kind != "output"
    ]
    others = [changed(network, method=name) for name in OTHERS]
    scored += others
    tuned += [config for config in others if config.method not in NOT_TUNED]
    done = [(config, 0, fraction) for config in scored for fraction in sparsities]
    if finetune:
        done += [
            (config, 1, fraction)
            for config in tuned
            for fraction in sparsities
            if fraction >= 0.75
            or (
                config.method in FINETUNED
                and getattr(config.settings, "kind", "absolute") == "absolute"
            )
        ]
    unpruned = [
        changed(network, method="unpruned", sparsity=0.0, finetune_epochs=e) for e in (0, 1)
    ]
    return unpruned[: 1 + finetune] + [
        changed(config, scope=scope, sparsity=fraction, finetune_epochs=epochs)
        for config, epochs, fraction in done
        for scope in scores.SCOPES
    ]


def _sensitivity(network: Config) -> list[Config]:
    """α, β, s, form and tolerance, one at a time around α = β = s = 1, at 75 and 90 %."""
    moves = [{}, {"beta": 0.0}, {"beta": 0.25}, {"beta": 0.5}, {"beta": 2.0}, {"alpha": 0.0}]
    moves += [{"form": "product"}, *({"decay": s} for s in (0.25, 0.5, 0.8, 1.25))]
    if network.activation != "relu":
        moves += [{"tolerance": t} for t in (0.001, 0.1, 0.5)]
    network = changed(network, study="sensitivity")
    return [
        changed(network, **({"kind": kind, "scope": scope, "sparsity": fraction} | move))
        for kind, move in itertools.product(("relative", "absolute"), moves)
        for scope, fraction in itertools.product(("global", "layer"), (0.75, 0.9))
    ]


def _search(seeds) -> list[Config]:
    """λ, the reading and its threshold, at 75 % on ReLU, on the validation split."""
    base = Config(study="search", split="validation")
    found = []
    for seed, activity in itertools.product(seeds, (0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 1.0)):
        network = changed(base, seed=seed, activity=activity)
        found += _table(network, (0.75,), finetune=False)
        found += [
            changed(network, kind=kind, blind=blind, scope=scope, **move)
            for kind in ("relative", "absolute")
            for blind in (True, False)
            for move in ({"alpha": 0.0}, {"alpha": 0.5}, {"beta": 0.5})
            for scope in scores.SCOPES
        ]
    return found


def configs(profile: str, seeds: int | None = None) -> list[Config]:
    """The runs of a profile, those that matter most first.

    "quick": digits, two seeds, two activations, three sparsities. "paper": MNIST, five seeds,
    three activations, all scores under all thresholds, and the sensitivities. "search":
    validation split.
    """
    if profile == "quick":
        found = []
        for seed, activity, activation in itertools.product(
            range(seeds or 2), (0.0, AWARE), ("relu", "tanh")
        ):
            network = Config(
                dataset="digits",
                hidden=(32, 16),
                batch_size=64,
                epochs=30,
                seed=seed,
                activity=activity,
                activation=activation,
            )
            found += [
                c for c in _table(network, (0.25, 0.5, 0.75), False) if c.scope == "global"
            ]
        return found
    if profile == "paper":
        networks = [
            Config(seed=seed, activation=activation, activity=activity)
            for seed in range(seeds or 5)
            for activation, activity in itertools.product(
                ("relu", "sigmoid", "tanh"), (0.0, AWARE)
            )
        ]
        found = []
        for network in networks:
            found += _table(network, finetune=False)
            found += _sensitivity(network) if network.activation != "sigmoid" else []
            if not network.seed:
                found += [
                    changed(
                        network,
                        method="distribution",
                        study="distribution",
                        sparsity=0.0,
                        kind=kind,
                    )
                    for kind in ("relative", "absolute")
                ]
        for seed in range(seeds or 5):
            for activity in (0.01, 0.03, 0.3, 1.0):
                network = Config(seed=seed, activity=activity, study="penalty")
                found += [
                    c
                    for c in _table(network, (0.75,), finetune=False)
                    if c.method in PENALISED
                ]
            scaled = Config(seed=seed, scaling="standardised", study="scaling")
            found += _table(scaled, (0.75, 0.9), finetune=False)
        for network in networks:  # fine-tuning takes most of the time: last
            found += [config for config in _table(network) if config.finetune_epochs]
        return found
    if profile == "search":
        return _search(range(seeds or 3))
    raise ValueError(f"profile: got {profile!r}, needs one of ['paper', 'quick', 'search']")
