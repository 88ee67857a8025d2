"""Why do gates win at a few hundred weights? Their networks, taken apart and trained again.

Study "networks" trains the networks of the frontier once more and records them whole. Study
"again" takes one, keeps a part of what it is (an arm) and trains with new weights; study
"rates" chooses the learning rate of each arm on a validation split. Study "moving" goes on
training a whole network while connections are exchanged for those with the largest gradients.
"""

import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from pruning import comparison, training
from pruning.bounds import Amount, Count, Fraction, Positive
from pruning.chapters.opponents.tables import final
from pruning.chapters.why_gates_win import arms
from pruning.chapters.why_gates_win.metrics import Metrics
from pruning.evidence import records
from pruning.evidence.configs import choose, make, settle
from pruning.evidence.records import Record, Together
from pruning.methods import gates_training
from pruning.methods.rigl import RigL
from pruning.networks import masks, models, structure, wirings
from pruning.training.recipes import Adam, HoldThenCosine

WEIGHTS = comparison.PAPER_WEIGHTS
NETWORKS, AGAIN = 10, 3  # gated networks, one a seed; how often each is trained again
# the wiring kept, and what of the weights: "new", "signs" of those found, "first" ones,
# "found" ones
ARMS = {
    "found": (arms.mask, "found"),
    "signs": (arms.mask, "signs"),
    "first": (arms.mask, "first"),
    "mask": (arms.mask, "new"),
    "degrees": (arms.degrees, "new"),
    "inputs": (arms.inputs, "new"),
    "pixels": (arms.pixels, "new"),
    "paths": (arms.paths, "new"),
    "layers": (arms.layers, "new"),
}
RATES = (0.01, 0.03, 0.1)
RATE = dict.fromkeys(ARMS, 0.03)
OPPONENTS = (
    "rigl",
    "gradual",
    "deepr",
    "variational",
    "rewind",
    "l0",
    "synflow",
    "set",
)  # trained again too
MOVED = (0.0, 0.01, 0.05, 0.15)  # of each layer's connections, at each of the first epochs


HIDDEN = {"mnist": (300, 100), "digits": (32, 16)}
STUDIES = ("networks", "again", "rates", "moving")


@dataclass(frozen=True)
class Config:
    """One run: a gated network, or one of its parts trained again."""

    metrics: ClassVar[type] = Metrics

    dataset: str = "mnist"
    study: str = "networks"  # one of STUDIES
    method: str = "gates"  # whose network it is
    arm: str = "gates"  # what of it is kept, one of ARMS; "gates" for the network itself
    weights: Positive = WEIGHTS
    network: Count = 0  # seed of the network
    wiring: str = ""  # of another method's network: its `checksum`
    seed: Count = 0  # of the weights that are trained, and of what an arm draws
    rate: Amount = 0.0  # learning rate
    epochs: Count = 0
    fraction: Fraction = 0.0  # of the connections that move
    split: str = "test"

    def __post_init__(self):
        settle(self, dataset=HIDDEN, study=STUDIES, method=("gates", *OPPONENTS))
        choose(self, split=comparison.SPLITS, arm=("gates", *ARMS))
        unused = {
            "networks": {
                "arm": "gates",
                "rate": 0.0,
                "epochs": 0,
                "fraction": 0.0,
                "split": "test",
            },
            "moving": {"arm": "gates"},
        }.get(self.study, {"fraction": 0.0})
        for name, value in unused.items():
            if getattr(self, name) != value:
                raise ValueError(
                    f"{name}: got {getattr(self, name)!r}, study {self.study!r} makes no use"
                    " of it"
                )
        if self.wiring and self.method == "gates":
            raise ValueError(
                f"wiring: got {self.wiring!r}, a network of gates is named by its seed"
            )
        if self.study in ("again", "rates") and self.arm == "gates":
            raise ValueError(f"arm: got 'gates', needs one of {list(ARMS)}")
        for name in ("rate", "epochs") if self.study != "networks" else ():
            if not getattr(self, name):
                raise ValueError(f"{name}: got 0, needs a number above 0")


def _network(config: Config) -> Record:
    """Train one network of gates as the frontier's records say, and keep all of it."""
    data = comparison.load(config.dataset, "test")
    printed = comparison.Config(settings=gates_training.AS_PRINTED, seed=config.network)
    settings = comparison.budgeted(printed, config.weights)
    if config.dataset != "mnist":
        hidden = HIDDEN[config.dataset]
        total = models.weight_count(
            (data.train.inputs.shape[1], *hidden, len(data.class_names))
        )
        settings = make(
            comparison.Config,
            dataset=config.dataset,
            density=config.weights / total,
            seed=config.network,
            hidden=hidden,
            batch_size=64,
            at_most=config.weights,
        )
    model, told = comparison.train(settings, data)
    layers = [layer for layer in model if isinstance(layer, nn.Linear)]
    return comparison.measured(settings, data, model, told) | {
        "widths": [layers[0].in_features, *(layer.out_features for layer in layers)],
        "connections": structure.connections(model),
        "bias_values": [layer.bias.tolist() for layer in layers],
    }


def checksum(network: Record) -> str:
    """Tells a network on record from others of its method and seed."""
    return hashlib.sha256(json.dumps(network["connections"]).encode()).hexdigest()[:8]


@lru_cache(maxsize=64)
def network(dataset: str, method: str, weights: int, seed: int, wiring: str = "") -> Record:
    """A whole network, from the records; outside of MNIST it is trained where there is none.

    The networks of other methods than gates are those of the chapter "Strong opponents"; of
    several with one seed it is that with the `checksum` `wiring`.
    Raises LookupError for a network of MNIST that is not on record.
    """
    own = {"dataset": dataset, "method": method, "weights": weights, "network": seed}
    path = records.records_folder() / "why_gates_win.jsonl"
    study = "networks"
    if method != "gates":
        own = {"dataset": dataset, "method": method, "kept": weights, "seed": seed}
        path, study = path.with_name("opponents.jsonl"), "opponents"
    found = [
        r
        for r in records.read_again(path)
        if r["study"] == study and own.items() <= r.items() and wiring in ("", checksum(r))
    ]
    if found:
        return found[-1]
    if dataset == "mnist":
        own |= {"wiring": wiring} if wiring else {}
        raise LookupError(f"{path}: has no network {own}; run the study {study!r} first")
    return _network(Config(dataset, method=method, weights=weights, network=seed))


Layers = list[Tensor]


def parts(record: Record) -> tuple[Layers, Layers, Layers]:
    """Masks, weights and biases of a network on record, layer by layer."""
    widths = record["widths"]
    weights = [torch.zeros(o, i) for i, o in itertools.pairwise(widths)]
    kept = [torch.zeros(o, i, dtype=torch.bool) for i, o in itertools.pairwise(widths)]
    for level, i, o, weight in record["connections"]:
        weights[level][o, i], kept[level][o, i] = weight, True
    return kept, weights, [torch.tensor(values) for values in record["bias_values"]]


def _untrained(widths: Sequence[int], activation: str, seed: int) -> tuple[Layers, Layers]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = models.mlp(widths, activation)
    layers = [layer for layer in model if isinstance(layer, nn.Linear)]
    return [layer.weight.detach() for layer in layers], [
        layer.bias.detach() for layer in layers
    ]


def prepared(config: Config, varying: Tensor) -> tuple[Layers, Layers, Layers]:
    """Weights, masks and biases that an arm begins with."""
    kept, weights, biases = parts(
        network(config.dataset, config.method, config.weights, config.network, config.wiring)
    )
    widths = [kept[0].shape[1], *(len(layer) for layer in kept)]
    rewire, start = ARMS[config.arm]
    rng = np.random.default_rng([config.network, config.seed, list(ARMS).index(config.arm)])
    chosen = rewire(kept, varying, rng)
    if start == "found":
        return weights, chosen, biases
    # seeds of networks go from 0 on, those of new weights from 1000: none meets its own again
    seed = config.network if start == "first" else 1000 + 100 * config.network + config.seed
    new, offsets = _untrained(widths, "silu", seed)
    if start == "signs":
        new = [value.abs() * weight.sign() for value, weight in zip(new, weights, strict=True)]
    return new, chosen, offsets


def again(configs: list[Config]) -> list[Record]:
    """Train the arms of many networks side by side; they share dataset, split, rate and
    epochs."""
    first = configs[0]
    data = comparison.load(first.dataset, first.split)
    varying = data.train.inputs.std(0) > 0
    starts = [prepared(config, varying) for config in configs]
    model = wirings.Wirings(*(list(part) for part in zip(*starts, strict=True)), "silu")
    training.fit(
        model,
        data.train.inputs,
        data.train.targets,
        epochs=first.epochs,
        batch_size=256 if len(data.train) > 10_000 else 64,
        optimizer=Adam(first.rate),
        schedule=HoldThenCosine(0.0),
        loss=wirings.cross_entropy,
        seed=first.seed,
    )
    name, other = ("test", "validation") if first.split == "test" else ("validation", "test")
    tested = wirings.accuracies(model, data.test.inputs, data.test.targets)
    trained = wirings.accuracies(model, data.train.inputs, data.train.targets)
    return [
        {
            "kept": sum(int(layer.sum()) for layer in chosen),
            "kept_by_layer": [int(layer.sum()) for layer in chosen],
            "effective": sum(int(layer.sum()) for layer in wirings.living(chosen)),
            f"{name}_accuracy": accuracy,
            f"{other}_accuracy": None,
            "train_accuracy": fitted,
            "provenance": {"data": data.checksum},
        }
        for (_, chosen, _), accuracy, fitted in zip(starts, tested, trained, strict=True)
    ]


def _moving(config: Config) -> Record:
    """Continue training a whole network while a share of its connections moves after each
    epoch."""
    data = comparison.load(config.dataset, config.split)
    kept, weights, biases = parts(
        network(config.dataset, config.method, config.weights, config.network)
    )
    model = models.mlp([kept[0].shape[1], *(len(layer) for layer in kept)], "silu")
    layers = {
        name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear)
    }
    with torch.no_grad():
        for layer, weight, bias in zip(layers.values(), weights, biases, strict=True):
            layer.weight.copy_(weight)
            layer.bias.copy_(bias)
    batch_size = 256 if len(data.train) > 10_000 else 64
    found = dict(zip(layers, kept, strict=True))
    moves = RigL(
        config.weights,
        fraction=config.fraction,
        every=-(-len(data.train) // batch_size),
        masks=found,
    )
    training.fit(
        model,
        data.train.inputs,
        data.train.targets,
        epochs=config.epochs,
        batch_size=batch_size,
        optimizer=Adam(config.rate),
        schedule=HoldThenCosine(0.75),
        callbacks=[moves],
        seed=config.seed,
    )
    after = masks.masks(model)
    return {
        "kept": sum(int(mask.sum()) for mask in after.values()),
        "effective": sum(int(layer.sum()) for layer in wirings.living(list(after.values()))),
        "stayed": sum(int((after[name] & found[name]).sum()) for name in after),
        "test_accuracy": (
            training.evaluate(model, data.test.inputs, data.test.targets).accuracy
        ),
        "train_accuracy": (
            training.evaluate(model, data.train.inputs, data.train.targets).accuracy
        ),
        "validation_accuracy": None,
        "provenance": {"data": data.checksum},
    }


def run(config: Config) -> Record:
    """The metrics of one record."""
    if config.study == "networks":
        return _network(config)
    if config.study == "moving":
        return _moving(config)
    return again([config])[0]


def groups(configs: list[Config]) -> list[list[Config]]:
    """Arms of one seed, rate, length and split train side by side, thirty at a time."""
    alike: dict[object, list[Config]] = {}
    for config in configs:
        key: object = config
        if config.study in ("again", "rates"):
            key = (
                config.dataset,
                config.study,
                config.seed,
                config.rate,
                config.epochs,
                config.split,
            )
        alike.setdefault(key, []).append(config)
    return [group[i : i + 30] for group in alike.values() for i in range(0, len(group), 30)]


def opponents() -> list[Record]:
    """The other methods' networks of WEIGHTS weights on record, with the settings that their
    search has chosen."""
    known = final(records.read_again(records.records_folder() / "opponents.jsonl"))
    return [r for r in known if r["kept"] == WEIGHTS and r["method"] in OPPONENTS]


TOGETHER = Together(groups, again)
EPOCHS = 40


def configs(profile: str, seeds: int | None = None) -> list[Config]:
    """The runs of a profile: "quick" on digits; "paper" the ten networks of 404 weights, all
    arms three times, the wirings of `opponents` likewise, and what moves; "search" the arms'
    learning rates, on the validation split."""
    if profile == "quick":
        base = {"dataset": "digits", "weights": 100, "rate": 0.03, "epochs": 30}
        return [
            Config(study="again", arm=arm, network=network, seed=seed, **base)
            for seed in range(seeds or 2)
            for network in range(2)
            for arm in ARMS
        ]
    if profile == "search":
        return [
            Config(
                study="rates",
                arm=arm,
                network=network,
                rate=rate,
                epochs=EPOCHS,
                split="validation",
            )
            for rate in RATES
            for network in range(3)
            for arm in ARMS
        ]
    if profile != "paper":
        raise ValueError(
            f"profile: got {profile!r}, needs one of ['paper', 'quick', 'search']"
        )
    theirs = opponents()
    found = [Config(network=network, seed=network) for network in range(NETWORKS)]
    found += [
        Config(
            study="again", arm=arm, network=network, seed=seed, rate=RATE[arm], epochs=EPOCHS
        )
        for seed in range(seeds or AGAIN)
        for arm in ARMS
        for network in range(NETWORKS)
    ]
    found += [
        Config(
            study="again",
            method=method,
            arm="mask",
            network=whole["seed"],
            wiring=checksum(whole),
            seed=seed,
            rate=RATE["mask"],
            epochs=EPOCHS,
        )
        for seed in range(seeds or AGAIN)
        for method in OPPONENTS
        for whole in theirs
        if whole["method"] == method
    ]
    found += [
        Config(
            study="moving",
            network=network,
            seed=network,
            rate=3e-3,
            epochs=20,
            fraction=fraction,
        )
        for network in range(3)
        for fraction in MOVED
    ]
    return found
