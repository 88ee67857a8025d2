"""Relative importance and its competitors on LeNet-300-100 (arXiv:2410.16151).

A network is trained once, with or without the activity penalty, and every score, threshold and sparsity
prunes a copy of it; a short fine-tune may follow. Scores see the training set, never the test set.
"""

import copy
import itertools
import warnings
from dataclasses import dataclass, fields, replace
from functools import lru_cache

import torch
from scipy import stats as distributions
from torch import Tensor, nn

from pruning import datasets, models, relative, scores, sparsity, training
from pruning.experiments.methods import ActivityPenalty, hold_then_cosine
from pruning.layers import input_statistics, layers
from pruning.records import Record

OUTPUT_SAMPLES = 2000  # the "output" reading looks at every weight of every sample
BATCH_OF_MEANS = 100  # samples averaged where the central limit theorem is tried


@dataclass(frozen=True)
class Network:
    """What a network is trained from."""

    dataset: str = "mnist"
    split: str = "test"  # or "validation": a part of the training set stands in for the test set
    scaling: str = "raw"  # pixels in [0, 1], or "standardised": one mean and deviation for all pixels
    activation: str = "relu"
    activity: float = 0.0  # λ of the activity penalty: pruning-aware training
    seed: int = 0
    hidden: tuple[int, ...] = (300, 100)
    epochs: int = 20
    batch_size: int = 256
    lr: float = 2e-3


@dataclass(frozen=True)
class Config(Network):
    """One pruned network."""

    method: str = "relative"  # of SCORES, or "unpruned", "distribution" (of single contributions)
    sparsity: float = 0.75
    scope: str = "global"
    finetune_epochs: int = 0
    kind: str = "absolute"  # the rest: of relative importance
    alpha: float = 1.0
    beta: float = 1.0
    decay: float = 1.0
    form: str = "sum"
    tolerance: float | None = None
    blind: bool = True
    study: str = "table"  # or "sensitivity", "scaling", "distribution", "search"


def part(config: Config) -> Network:
    """The network that a config prunes."""
    return Network(**{field.name: getattr(config, field.name) for field in fields(Network)})


@lru_cache(maxsize=2)
def _data(name: str, split: str, scaling: str) -> datasets.Dataset:
    data = datasets.load(name)
    data = data if split == "test" else data.validation()
    if scaling == "raw":
        return data
    if scaling != "standardised":
        raise ValueError(f"scaling: got {scaling!r}, needs 'raw' or 'standardised'")
    mean, std = data.train.inputs.mean(), data.train.inputs.std()
    train, test = (replace(s, inputs=(s.inputs - mean) / std) for s in (data.train, data.test))
    return replace(data, train=train, test=test)


@lru_cache(maxsize=1)
def trained(network: Network) -> tuple[nn.Sequential, datasets.Dataset]:
    """The network and its data; kept for the runs that follow on the same one. Prune a copy."""
    data = _data(network.dataset, network.split, network.scaling)
    sizes = (data.train.inputs.shape[1], *network.hidden, len(data.class_names))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(network.seed)
        model = models.mlp(sizes, network.activation)
    training.fit(
        model, data.train.inputs, data.train.targets, epochs=network.epochs, seed=network.seed,
        batch_size=network.batch_size, optimizer=lambda model: training.adam(model, network.lr),
        schedule=hold_then_cosine(0.0),
        callbacks=[ActivityPenalty(network.activity)] if network.activity else [],
    )  # fmt: skip
    return model, data


@lru_cache(maxsize=1)
def _unpruned(network: Network) -> float:
    model, data = trained(network)
    return training.evaluate(model, data.test.inputs, data.test.targets).accuracy


@lru_cache(maxsize=3)
def statistics(network: Network, kind: str, tolerance: float | None, blind: bool) -> dict:
    """Contribution statistics over the training set (for "output" a part of it)."""
    model, data = trained(network)
    inputs = data.train.inputs
    if kind == "output":
        inputs = inputs[:: max(1, len(inputs) // OUTPUT_SAMPLES)]
    return relative.contribution_statistics(model, inputs, kind, tolerance, blind)


def _relative(model, data, config):
    found = statistics(part(config), config.kind, config.tolerance, config.blind)
    return relative.relative_importance(found, config.alpha, config.beta, config.decay, config.form)


def _magnitude_live(model, data, config):
    """Magnitude, told which pixels never change: what data-driven scores get for nothing."""
    found = scores.magnitude(model)
    first = next(iter(found))
    x = data.train.inputs
    return found | {first: found[first] * (x.amax(0) > x.amin(0))}


SCORES = {
    "relative": _relative,
    "magnitude": lambda model, data, config: scores.magnitude(model),
    "magnitude live": _magnitude_live,
    "wanda": lambda model, data, config: scores.wanda(model, data.train.inputs),
    "nnrelief": lambda model, data, config: scores.nnrelief(model, data.train.inputs),
    "stade": lambda model, data, config: scores.stade(model, data.train.inputs),
    "stade corrected": lambda model, data, config: scores.stade(model, data.train.inputs),
    "ria": lambda model, data, config: scores.ria(model, data.train.inputs),
    "snip": lambda model, data, config: scores.snip(model, data.train.inputs, data.train.targets),
    "random": lambda model, data, config: scores.random_scores(
        model, torch.Generator().manual_seed(config.seed)
    ),
}


@lru_cache(maxsize=2)
def _scored(config: Config) -> dict[str, Tensor]:
    model, data = trained(part(config))
    return SCORES[config.method](model, data, config)


def _score(config: Config) -> dict[str, Tensor]:
    """The scores of a config, kept for the runs that differ only in threshold, sparsity and fine-tune."""
    return _scored(replace(config, sparsity=0.0, scope="global", finetune_epochs=0, study="table"))


@lru_cache(maxsize=1)
def _means(network: Network):
    model, data = trained(network)
    return input_statistics(model, data.train.inputs)


def prune(config: Config) -> nn.Sequential:
    """A pruned copy of the config's network, not fine-tuned."""
    model = copy.deepcopy(trained(part(config))[0])
    means = _means(part(config)) if config.method == "stade corrected" else None
    # under a threshold for each layer, the decay moves sparsity between layers; globally it moves scores
    apart = config.scope != "global" and config.decay != 1
    wanted = relative.layer_sparsities(model, config.sparsity, config.decay) if apart else config.sparsity
    with warnings.catch_warnings():  # an emptied layer shows in the record: nothing is effective
        warnings.filterwarnings("ignore", "layer .* has no weight left")
        return scores.prune_by_score(model, _score(config), wanted, config.scope, means)


def overlap(config: Config, other: str = "wanda") -> float:
    """Fraction of the weights a config keeps that `other` keeps too, under the same threshold."""
    ours, theirs = (sparsity.masks(prune(c)) for c in (config, replace(config, method=other, decay=1.0)))
    both = sum(int((ours[name] & theirs[name]).sum()) for name in ours)
    return both / max(1, sum(int(mask.sum()) for mask in ours.values()))


def _distribution(config: Config) -> Record:
    """Contributions of single weights beside the fitted normal: Kolmogorov-Smirnov distances of a random
    thousand of each layer, of the means of 100 of their samples, and the histograms of four."""
    model, data = trained(part(config))
    found = statistics(part(config), config.kind, config.tolerance, config.blind)
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
        c = relative.contributions(model, inputs, name, picked // columns, picked % columns, config.kind)
        batches = c[: len(c) // BATCH_OF_MEANS * BATCH_OF_MEANS].unflatten(0, (-1, BATCH_OF_MEANS)).mean(1)
        for key, sample in (("single", c), ("means", batches)):
            sample = sample[:, sample.std(0) > 0].double().numpy()
            fitted = (sample - sample.mean(0)) / sample.std(0)
            distances[key].append([distributions.kstest(column, "norm").statistic for column in fitted.T])
        zero_share.append((c == 0).double().mean().item())
        for k, label in enumerate(("highest score", "median score")):
            counts, edges = torch.histogram(c[:, k].double(), 40)
            shown.append({
                "layer": name, "weight": label, "samples": len(c), "mean": c[:, k].mean().item(),
                "std": c[:, k].std().item(), "zero": (c[:, k] == 0).double().mean().item(),
                "counts": counts.int().tolist(), "edges": [round(e, 9) for e in edges.tolist()],
            })  # fmt: skip
    medians = {key: [float(torch.tensor(d).median()) for d in found] for key, found in distances.items()}
    return {"ks_single": medians["single"], "ks_means": medians["means"], "zero_share": zero_share,
            "histograms": shown}  # fmt: skip


def run(config: Config) -> Record:
    """Train (or take the network of the run before), score, prune, perhaps fine-tune, and measure."""
    if config.method not in (*SCORES, "unpruned", "distribution"):
        raise ValueError(f"method: got {config.method!r}, needs one of {sorted(SCORES)}, or 'unpruned'")
    model, data = trained(part(config))
    more: Record = {}
    if config.method in SCORES:
        model = prune(config)
        if config.method == "relative" and not config.finetune_epochs:
            more["overlap_wanda"] = overlap(config)
    elif config.method == "unpruned":
        model = copy.deepcopy(model)
        found = statistics(part(config), "relative", config.tolerance, True)
        more["blind_fraction"] = [s.blind.mean().item() for s in found.values()][:-1]
        more["always_blind"] = [(s.blind == 1).double().mean().item() for s in found.values()][:-1]
    else:
        more = _distribution(config)
    if config.finetune_epochs:
        training.fit(
            model, data.train.inputs, data.train.targets, epochs=config.finetune_epochs,
            batch_size=config.batch_size, seed=config.seed + 1, schedule=hold_then_cosine(0.0),
            optimizer=lambda model: training.adam(model, config.lr / 2),
        )  # fmt: skip
    after = training.evaluate(model, data.test.inputs, data.test.targets)
    report = sparsity.sparsity_report(model)
    # a validation run must not touch the test set, so its figures go by another name
    accuracy, other = ("test", "validation") if config.split == "test" else ("validation", "test")
    return {
        "kept": int(report.kept.sum()),
        "kept_by_layer": report.kept.tolist(),
        "effective": int(report.effective.sum()),
        f"{accuracy}_accuracy": after.accuracy,
        f"{accuracy}_loss": after.loss,
        f"{other}_accuracy": None,
        "unpruned_accuracy": _unpruned(part(config)),
        **more,
        "provenance": {"data": data.checksum},
    }


KINDS = ("relative", "absolute", "output")
OTHERS = tuple(name for name in SCORES if name != "relative")
AWARE = 0.1  # λ of pruning-aware training, from the search
READING = {"kind": "absolute", "scope": "global"}  # the reading that the search chose
SPARSITIES = (0.25, 0.5, 0.75, 0.9, 0.95)  # the first three are the paper's


def _table(network: Config, sparsities=SPARSITIES, finetune=True) -> list[Config]:
    """Everything that is done to one network: all scores, thresholds, sparsities, with and without fine-tune.

    Only the readings with blind ranges are fine-tuned, and not the one that stands for every sample.
    """
    readings = [{"kind": kind} for kind in KINDS]
    readings += [{"kind": kind, "blind": False} for kind in KINDS if kind != "output"]
    scored = [replace(network, **reading) for reading in readings]
    scored += [replace(network, method=name) for name in OTHERS]
    tuned = [config for config in scored if config.blind and config.kind != "output"] if finetune else []
    return [replace(network, method="unpruned", sparsity=0.0)] + [
        replace(config, scope=scope, sparsity=fraction, finetune_epochs=epochs)
        for epochs, list_of in ((0, scored), (1, tuned))
        for config in list_of
        for scope, fraction in itertools.product(scores.SCOPES, sparsities)
    ]


def _sensitivity(network: Config) -> list[Config]:
    """α, β, s, form and tolerance, one at a time around α = β = s = 1, at 75 and 90 %."""
    moves = [{}, {"beta": 0.0}, {"beta": 0.25}, {"beta": 0.5}, {"beta": 2.0}, {"alpha": 0.0}]
    moves += [{"form": "product"}, *({"decay": s} for s in (0.25, 0.5, 0.8, 1.25))]
    if network.activation != "relu":
        moves += [{"tolerance": t} for t in (0.001, 0.1, 0.5)]
    network = replace(network, study="sensitivity")
    return [
        replace(network, **({"kind": kind, "scope": scope, "sparsity": fraction} | move))
        for kind, move in itertools.product(("relative", "absolute"), moves)
        for scope, fraction in itertools.product(("global", "layer"), (0.75, 0.9))
    ]


def _search(seeds) -> list[Config]:
    """λ, the reading and its threshold, at 75 % on ReLU, on the validation split."""
    base = Config(study="search", split="validation")
    found = []
    for seed, activity in itertools.product(seeds, (0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 1.0)):
        network = replace(base, seed=seed, activity=activity)
        found += _table(network, (0.75,), finetune=False)
        found += [
            replace(network, kind=kind, blind=blind, scope=scope, **move)
            for kind in ("relative", "absolute")
            for blind in (True, False)
            for move in ({"alpha": 0.0}, {"alpha": 0.5}, {"beta": 0.5})
            for scope in scores.SCOPES
        ]
    return found


def configs(profile: str, seeds: int | None = None) -> list[Config]:
    """The runs of a profile, those that matter most first.

    "quick": digits, two seeds, two activations, three sparsities. "paper": MNIST, five seeds, three
    activations, all scores under all thresholds, and the sensitivities. "search": validation split.
    """
    if profile == "quick":
        found = []
        for seed, activity, activation in itertools.product(
            range(seeds or 2), (0.0, AWARE), ("relu", "tanh")
        ):
            network = Config(
                dataset="digits", hidden=(32, 16), batch_size=64, epochs=30, seed=seed,
                activity=activity, activation=activation,
            )  # fmt: skip
            found += [c for c in _table(network, (0.25, 0.5, 0.75), False) if c.scope == "global"]
        return found
    if profile == "paper":
        found = []
        for seed in range(seeds or 5):
            for activation, activity in itertools.product(("relu", "sigmoid", "tanh"), (0.0, AWARE)):
                network = Config(seed=seed, activation=activation, activity=activity)
                found += _table(network)
                found += _sensitivity(network) if activation != "sigmoid" else []
                if not seed:
                    found += [
                        replace(network, method="distribution", study="distribution", sparsity=0.0, kind=k)
                        for k in ("relative", "absolute")
                    ]
            scaled = Config(seed=seed, scaling="standardised", study="scaling")
            found += _table(scaled, (0.75, 0.9), finetune=False)
        return found
    if profile == "search":
        return _search(range(seeds or 3))
    raise ValueError(f"profile: got {profile!r}, needs one of ['paper', 'quick', 'search']")
