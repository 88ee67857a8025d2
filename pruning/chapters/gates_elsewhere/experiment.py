"""Do gates keep their lead on Fashion-MNIST, and in a convolutional network on CIFAR-10?

Gates stand beside the three strongest opponents of the chapter `opponents`, random deletion
and dense networks. Every method is given the same search on a validation split: three values
of one learning rate, once where few weights are left and once where many are. In the
convolutional network it is four values of the weights' rate, or eight pairs of this rate and
the gates' rate. Everything else is what was found on MNIST. The two densities of the chapter
`pixel_representatives` are measured on Fashion-MNIST as there.

One run of LeNet-300-100 takes half a minute to three minutes on one core, one of the
convolutional network one to six; the profile "paper" takes about six hours of one core,
"search" an hour and a half.
"""

import itertools
from dataclasses import dataclass
from functools import cache
from typing import ClassVar

from pruning import comparison
from pruning.chapters.gates_elsewhere import convolutional, neurons
from pruning.chapters.gates_elsewhere.metrics import Metrics
from pruning.chapters.opponents.experiment import SHARES
from pruning.chapters.pixel_representatives import experiment as representatives
from pruning.comparison import CHOSEN, LENET_WEIGHTS, PAPER_WEIGHTS
from pruning.evidence import configs as flat
from pruning.evidence import records
from pruning.evidence.compared import sizes
from pruning.evidence.configs import changed
from pruning.evidence.records import Record
from pruning.methods import gates_training
from pruning.networks import models, small

DATASETS = ("fashion_mnist", "cifar10", "mnist", "digits")
STUDIES = ("curves", "headline", "temperature", "cnn", "search")
METHODS = ("gates", "rigl", "gradual", "l0", "random", "dense")
FEW = PAPER_WEIGHTS / LENET_WEIGHTS
# densities of the MNIST curve; up to FEWEST the settings for few weights are used
DENSITIES = (0.5, 0.2, 0.1, 0.05, 0.018, 0.01, 0.004, FEW, 0.001)
FEWEST = 0.005
CNN_DENSITIES = (0.5, 0.1, 0.01)
TEMPERATURES = (0.01, 0.1, 1.0, 10.0)
TAU_DENSITIES = (0.1, 0.01, FEW)
TAU_DATASETS = ("fashion_mnist", "mnist")
CNN_WEIGHTS = small.convnet_weights((3, 32, 32), 10, small.WIDTHS)  # on CIFAR-10
SEARCHED = {"few": FEW, "many": 0.05, "cnn": 0.05}  # regime → density of its search
# where few weights are left, what the search of `opponents` found on MNIST
FOR_FEW = {
    "gates": CHOSEN | {"penalty": "absolute"},
    "rigl": {"every": 30},
    "l0": {"factor": 10.0, "allocation": SHARES[PAPER_WEIGHTS]},
    "gradual": {"score": "deviation", "end": 0.5, "finetune_lr": 1e-2},
}
# method → the learning rate that is searched, and its values; the first is a guess
RATES = {
    "gates": ("gate_lr", (0.1, 0.03, 0.3)),
    "l0": ("gate_lr", (0.03, 0.1, 0.3)),
    "rigl": ("finetune_lr", (1e-2, 3e-2, 3e-3)),
    "gradual": ("lr", (3e-3, 1e-2, 1e-3)),
    "random": ("finetune_lr", (3e-3, 1e-2, 1e-3)),
    "dense": ("finetune_lr", (3e-3, 1e-2, 1e-3)),
}
# the convolutional network: the rate of the weights, and that of the gates where there are any
TWO_RATES = [
    *({"lr": 1e-2, "gate_lr": rate} for rate in (0.1, 0.03, 0.3, 1.0)),
    *({"lr": lr, "gate_lr": rate} for lr in (3e-3, 1e-3) for rate in (0.1, 1.0)),
]
CNN_RATES = {
    "gates": TWO_RATES,
    "l0": TWO_RATES,
    "rigl": [{"finetune_lr": rate} for rate in (1e-2, 3e-2, 3e-3, 1e-3)],
    "gradual": [{"lr": rate} for rate in (3e-3, 1e-2, 1e-3, 3e-2)],
    "random": [{"finetune_lr": rate} for rate in (3e-3, 1e-2, 1e-3, 3e-2)],
    "dense": [{"finetune_lr": rate} for rate in (3e-3, 1e-2, 1e-3, 3e-4)],
}
SEEDS = 3


@dataclass(frozen=True)
class Config(comparison.Config):
    """One network. `hidden` are its hidden neurons, or the channels of a "cnn"."""

    metrics: ClassVar[type] = Metrics

    dataset: str = "fashion_mnist"
    network: str = "mlp"  # or "cnn"
    split: str = "test"  # or "validation"
    study: str = "curves"  # one of STUDIES

    def __post_init__(self):
        super().__post_init__()
        flat.choose(self, dataset=DATASETS, method=METHODS, network=("mlp", "cnn"))
        flat.choose(self, split=comparison.SPLITS, study=STUDIES)


CONFIGS = (Config, neurons.Neurons, representatives.Config, representatives.Pixels)
Run = Config | neurons.Neurons | representatives.Config | representatives.Pixels


def run(config: Run) -> Record:
    """Train, prune, measure: the metrics of one record."""
    if isinstance(config, neurons.Neurons):
        return neurons.run(config)
    if not isinstance(config, Config):
        return representatives.run(config)
    if config.network == "cnn":
        return convolutional.run(config)
    data = comparison.load(config.dataset, config.split)
    return comparison.measured(config, data, *comparison.train(config, data))


HEADLINE = Config(study="headline")  # trained as long as the networks on MNIST
SHORT = Config(epochs=10, finetune_epochs=5)
CNN = Config(
    "cifar10",
    network="cnn",
    hidden=small.WIDTHS,
    activation="relu",
    study="cnn",
    epochs=6,
    finetune_epochs=2,
)


def regime(config: Config) -> str:
    """Which search a config takes its settings from."""
    if config.network == "cnn":
        return "cnn"
    return "few" if config.density <= FEWEST else "many"


def tried(base: Config, method: str, density: float) -> list[Config]:
    """A method at a density with each of the learning rates that are tried."""
    at = changed(base, method=method, density=density)
    if regime(at) == "few":
        settings = dict(FOR_FEW.get(method, {}))
        if method == "gates":
            weights = round(density * models.weight_count(sizes(at)))
            # Eq. 3's pull on a gate is α/N at every density
            settings |= {
                "alpha": CHOSEN["alpha"] * PAPER_WEIGHTS / weights,
                "at_most": weights,
            }
        at = changed(at, **settings)
    if at.network == "cnn":
        return [changed(at, **rates) for rates in CNN_RATES[method]]
    name, values = RATES[method]
    return [changed(at, **{name: value}) for value in values]


@cache
def searches(name: str) -> tuple[Config, ...]:
    """The runs of one regime's search, all methods."""
    base = changed(CNN, epochs=3, finetune_epochs=1) if name == "cnn" else SHORT
    base = changed(base, split="validation", study="search")
    density = SEARCHED[name]
    return tuple(
        config
        for method in METHODS
        # no dense network is as small as the few weights
        if method != "dense" or name != "few"
        for config in tried(base, method, density)
    )


def chosen(base: Config, method: str, density: float, evidence: list[Record]) -> Config:
    """A method with the learning rate that is best on the validation split; the first where
    the search of its regime is not complete for every method."""
    options = tried(base, method, density)
    listed = searches(regime(options[0]))
    done = {
        flat.of_record(r, Config): r["validation_accuracy"]
        for r in records.select(evidence, study="search")
    }
    mine = [config for config in listed if config.method == method]
    if not mine or any(config not in done for config in listed):
        return options[0]
    accuracy = [done[config] for config in mine]
    return options[accuracy.index(max(accuracy))]


def _fits(base: Config, method: str, density: float) -> bool:
    """Whether there is such a network: not every density has a dense one."""
    if method != "dense" or base.network == "cnn":
        return True
    full = sizes(base)
    weights = round(density * models.weight_count(full))
    return models.narrow_sizes(full, weights) is not None


def _grid(base: Config, densities, evidence: list[Record]) -> list[Config]:
    """Every method at every density, and the whole dense network."""
    pairs = [("dense", 1.0), *itertools.product(METHODS, densities)]
    return [chosen(base, m, d, evidence) for m, d in pairs if _fits(base, m, d)]


def _budgeted(config: Config) -> Config:
    """The convolutional network with a budget for its gates: where 1 % of the weights is asked
    for, the rate that is best at 5 % leaves four times as many gates open."""
    if config.method != "gates":
        return config
    return changed(config, at_most=round(config.density * CNN_WEIGHTS))


def _temperatures(base: Config, densities, evidence: list[Record]) -> list[Config]:
    base = changed(base, study="temperature")
    gates = [chosen(base, "gates", density, evidence) for density in densities]
    return [changed(config, tau=tau) for config in gates for tau in TEMPERATURES]


def _representatives(seed: int) -> list[representatives.Config]:
    """The networks of the chapter `pixel_representatives`, on Fashion-MNIST."""
    few = representatives.Config(
        "fashion_mnist",
        density=comparison.FEWEST,
        settings=gates_training.AS_PRINTED,
        seed=seed,
    )
    return [few, representatives.Config("fashion_mnist", density=0.04, seed=seed)]


def configs(profile: str, seeds: int | None = None) -> list[Run]:
    """The runs of a profile, those that matter most first.

    "quick": digits, one seed. "search": the learning rates, on validation splits. "paper":
    whole neurons on MNIST, Fashion-MNIST at 404 weights, the maps of pixels, CIFAR-10, the
    temperature on two data sets, and the whole curves, three seeds.
    """
    known = records.read_again(records.records_folder() / "gates_elsewhere.jsonl")
    if profile == "search":
        return [
            *neurons.searches(),
            *(config for name in SEARCHED for config in searches(name)),
        ]
    if profile == "quick":
        digits = {"dataset": "digits", "batch_size": 64, "epochs": 25, "finetune_epochs": 5}
        mlp = changed(SHORT, hidden=(32, 16), **digits)
        cnn = changed(CNN, hidden=(8, 8, 8, 8), **digits)
        found = _grid(mlp, (0.1,), []) + _grid(cnn, (0.2,), [])[:2]
        found += _temperatures(mlp, (0.1,), [])
        found.append(neurons.Neurons(density=0.3, hidden=(32, 16), **digits))
        return [changed(config, seed=seed) for seed in range(seeds or 1) for config in found]
    if profile != "paper":
        names = ["paper", "quick", "search"]
        raise ValueError(f"profile: got {profile!r}, needs one of {names}")
    count = range(seeds or SEEDS)
    trouser = representatives.Pixels("fashion_mnist", label="trouser")
    grids = [
        _grid(HEADLINE, (FEW,), known),
        [_budgeted(c) for c in _grid(CNN, CNN_DENSITIES, known)],
        [
            c
            for name in TAU_DATASETS
            for c in _temperatures(changed(SHORT, dataset=name), TAU_DENSITIES, known)
        ],
        _grid(SHORT, DENSITIES, known),
    ]
    headline, *others = (
        [changed(c, seed=seed) for seed in count for c in grid] for grid in grids
    )
    whole_neurons = neurons.configs(known, seeds)
    maps = [c for seed in count for c in _representatives(seed)]
    return [trouser, *whole_neurons, *headline, *maps, *itertools.chain(*others)]
