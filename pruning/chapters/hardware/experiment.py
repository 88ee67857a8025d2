"""What does pruning buy on this machine, and from which density on does each form pay?

A network is pruned without training, since its speed does not depend on the values of its
weights, and is run in every form on one thread: as it is with masks, dense, compact, as sparse
matrices, in ONNX Runtime and in NumPy. Study "speed" records bytes and seconds, study "memory"
the peak memory of a process that runs one form.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from pruning.bounds import Count, Part, Positive
from pruning.chapters.hardware import forms, networks
from pruning.chapters.hardware.metrics import Metrics
from pruning.chapters.robustness.experiment import recorded
from pruning.comparison import LENET_WEIGHTS, PAPER_WEIGHTS
from pruning.evidence.configs import settle
from pruning.evidence.records import Record
from pruning.networks import sparsity

METHODS = ("scattered", "outputs", "gates")  # "gates": trained networks on record
COUNTERS = Path("/sys/class/powercap")  # of energy, where Linux has them
DENSITIES = {
    "lenet": (1.0, 0.1, 0.01, 0.0015),
    "cnn": (1.0, 0.3, 0.1, 0.03),
    "resnet20": (1.0, 0.3, 0.1, 0.03),
}
WHOLE = {"lenet": 0.01, "cnn": 0.03, "resnet20": 0.03}  # the least that whole outputs leave
ROUNDS = {"lenet": 60, "cnn": 15, "resnet20": 9}


@dataclass(frozen=True)
class Config:
    """One pruned network, measured on this machine."""

    metrics: ClassVar[type] = Metrics

    dataset: str = "generated"
    study: str = "speed"  # or "memory"
    method: str = "scattered"  # one of METHODS
    network: str = "lenet"  # one of ROUNDS
    density: Part = 1.0
    seed: Count = 0
    batch: Positive = 64
    rounds: Positive = 60

    def __post_init__(self):
        studies = ("speed", "memory")
        settle(self, dataset=("generated",), study=studies, method=METHODS, network=ROUNDS)
        if self.method == "gates" and self.network != "lenet":
            raise ValueError(f"network: got {self.network!r}, only 'lenet' is on record")


def pruned(config: Config) -> torch.nn.Module:
    """The network of a config, with its masks, in evaluation mode."""
    if config.method == "gates":
        return recorded(config.seed)
    model = networks.made(config.network, config.seed)
    if config.method == "scattered":
        networks.scatter(model, config.density, config.seed)
    else:
        networks.remove_outputs(model, config.network, config.density)
    return model


def run(config: Config) -> Record:
    """Measure one network: the metrics of one record."""
    model = pruned(config)
    example = networks.images(config.network, 2)
    found: Record = {
        **sparsity.totals(model, example),
        "test_accuracy": None,
        "energy_counter": any(COUNTERS.glob("*rapl*")) if COUNTERS.is_dir() else False,
        "provenance": {"data": "random images"},
    }
    if config.study == "memory":
        return found | {"peak_bytes": forms.peaks(model, config.network, config.batch)}
    ready = forms.forms(model, config.network, config.seed)
    return found | {"forms": _measured(ready, config)}


def _measured(ready: dict[str, forms.Form], config: Config) -> dict[str, Record]:
    """Bytes and seconds of each form, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found: dict[str, Record] = {name: {"bytes": size} for name, (_, size) in ready.items()}
    repeats = 10 if config.network == "lenet" else 1
    for label, count in (("one", 1), ("batch", config.batch)):
        inputs = (networks.images(config.network, count),), {}
        pieces = {name: lambda f=run, x=inputs: f(x) for name, (run, _) in ready.items()}
        seconds = forms.timed(pieces, config.rounds, repeats)
        for name, (cpu, wall) in seconds.items():
            found[name] |= {f"{label}_cpu": cpu, f"{label}_wall": wall}
    torch.set_num_threads(threads)
    return found


def configs(profile: str, seeds: int | None = None) -> list[Config]:
    """The runs of a profile. "quick": LeNet at two densities, few rounds. "paper":
    LeNet, the CNN and ResNet-20, three seeds, and the recorded networks of gates."""
    if profile == "quick":
        return [
            Config(method=method, density=density, seed=seed, rounds=5)
            for seed in range(seeds or 1)
            for method, density in itertools.product(("scattered", "outputs"), (0.3, 0.01))
        ]
    if profile != "paper":
        raise ValueError(f"profile: got {profile!r}, needs one of ['paper', 'quick']")
    found = []
    for seed, network in itertools.product(range(seeds or 3), DENSITIES):
        base = {"network": network, "seed": seed, "rounds": ROUNDS[network]}
        found += [
            Config(method=method, density=density, **base)
            for method in ("scattered", "outputs")
            for density in DENSITIES[network]
            if method == "scattered" or WHOLE[network] <= density < 1
        ]
        # the dense network is measured in the same run
        found.append(Config(study="memory", method="outputs", density=WHOLE[network], **base))
        if network == "lenet":
            density = PAPER_WEIGHTS / LENET_WEIGHTS
            found.append(Config(method="gates", density=density, **base))
    return found
