"""Can gates remove whole neurons, and is the small network that is left worth the trouble?

`pruning.gate(granularity="output")` puts one gate on each hidden neuron, weights and bias
together. `pruning.compact` cuts out the neurons whose gates are closed, which leaves a smaller
dense network. It is compared with two networks that train from new random weights for as many
epochs in all. One has as many neurons in each layer as the gates have left, the control that
Liu et al. 2019 (arXiv:1810.05270) demand for every pruning of whole units. The other has about
as many weights, and all its hidden layers are narrowed by one factor. If gates choose the
right neurons, they beat the first. If they choose the right number in each layer, the first
beats the second.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from pruning import comparison, training
from pruning.bounds import Amount, Count, Fraction, Part, Positive, Rate
from pruning.data import datasets
from pruning.evidence.compared import sizes as sizes_of
from pruning.evidence.configs import changed, choose, settle
from pruning.evidence.metrics import Metrics as Base
from pruning.evidence.metrics import at_most, demand, on_split
from pruning.evidence.records import Record
from pruning.methods import gates_training
from pruning.networks import models
from pruning.networks.compact import compact
from pruning.networks.masks import masks
from pruning.training import recipes
from pruning.training.recipes import HoldThenCosine, Phase

STUDIES = ("neurons", "neurons search")
DENSITIES = (0.3, 0.1, 0.03)
SEEDS = 3
# the learning rates that are tried, as many for gates as for networks from scratch; the first
# ones are guesses
GATE_RATES, SCRATCH_RATES = (0.1, 0.03, 0.3), (3e-3, 1e-3, 1e-2)


class Metrics(Base, kw_only=True):
    """Of the three networks. Accuracies are those of the config's split."""

    kept: Count
    effective: Count
    sizes: list[Count]
    scratch_accuracy: Fraction
    narrow_sizes: list[Positive] | None
    narrow_accuracy: Fraction | None
    validation_accuracy: Fraction | None

    def agrees(self, config: Any) -> None:
        """Layers are within the full network's, and weights are those of the layers."""
        on_split(self, config.split)
        full = sizes_of(config)
        demand("sizes, layers", len(self.sizes), len(full))
        for layer, (size, most) in enumerate(zip(self.sizes, full, strict=True)):
            at_most(f"sizes[{layer}]", size, most, "the layer's neurons")
        demand("kept", self.kept, models.weight_count(tuple(self.sizes)))
        narrow = models.narrow_sizes(full, self.kept)
        demand("narrow_sizes", self.narrow_sizes, None if narrow is None else list(narrow))


@dataclass(frozen=True)
class Neurons:
    """Gates on the hidden neurons of one network, and two networks from scratch. `density` is
    the share of the gated weights that may stay, an open neuron with all its inputs."""

    metrics: ClassVar[type] = Metrics

    dataset: str = "mnist"
    method: str = "gates on neurons"
    density: Part = 0.1
    seed: Count = 0
    hidden: tuple[Positive, ...] = (300, 100)
    activation: str = "silu"
    epochs: Positive = 20
    finetune_epochs: Positive = 10
    batch_size: Positive = 256
    lr: Rate = 3e-3
    gate_lr: Rate = GATE_RATES[0]
    alpha: Amount = 3.0
    scratch_lr: Rate = SCRATCH_RATES[0]
    split: str = "test"
    study: str = "neurons"

    def __post_init__(self):
        settle(self, dataset=("mnist", "fashion_mnist", "digits"), split=comparison.SPLITS)
        choose(self, method=("gates on neurons",), activation=models.ACTIVATIONS)
        choose(self, study=STUDIES)


def gated(config: Neurons, data: datasets.Dataset) -> nn.Sequential:
    """The network that gates have left, cut to size."""
    full = sizes_of(config)
    budget = round(config.density * models.weight_count(full[:-1]))
    settings = gates_training.Settings(
        lr=config.lr,
        gate_lr=config.gate_lr,
        alpha=config.alpha,
        at_most=budget,
    )
    phases = [
        Phase(
            config.epochs,
            gates_training.Optimizer(config.lr, config.gate_lr),
            HoldThenCosine(settings.descent),
            (gates_training.Gating(settings, config.density, granularity="output"),),
        ),
        recipes.finetune(config.finetune_epochs, config.lr),
    ]
    return _trained(config, data, full, phases)


def from_scratch(
    config: Neurons, data: datasets.Dataset, sizes: tuple[int, ...]
) -> nn.Sequential:
    """A dense network of these sizes, trained for as many epochs in all."""
    phase = recipes.finetune(config.epochs + config.finetune_epochs, config.scratch_lr)
    return _trained(config, data, sizes, [phase])


def _trained(
    config: Neurons, data: datasets.Dataset, sizes: tuple[int, ...], phases: list[Phase]
) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = models.mlp(sizes, config.activation)
    recipes.train(
        model,
        data.train.inputs,
        data.train.targets,
        phases,
        seed=config.seed,
        batch_size=config.batch_size,
    )
    return model.eval()


def left(model: nn.Sequential, full: tuple[int, ...]) -> tuple[int, ...]:
    """The sizes of a network with whole neurons under masks: how many of each layer are
    open."""
    open_ = [int(keep.any(1).sum()) for keep in masks(model).values()]
    return full[0], *open_[:-1], full[-1]


def run(config: Neurons) -> Record:
    """Train the three networks and measure them: the metrics of one record.

    Raises TrainingError where the gates leave a layer without neurons.
    """
    data = comparison.load(config.dataset, config.split)

    def accuracy(model: nn.Module) -> float:
        return training.evaluate(model, data.test.inputs, data.test.targets).accuracy

    model = gated(config, data)
    sizes = left(model, sizes_of(config))
    if not all(sizes):
        raise training.TrainingError(f"gates: a layer has no neuron left, sizes {sizes}")
    kept = models.weight_count(sizes)
    narrow = models.narrow_sizes(sizes_of(config), kept)
    ours, name = accuracy(compact(model)), f"{config.split}_accuracy"
    return {
        "kept": kept,
        "effective": kept,
        "sizes": list(sizes),
        **dict.fromkeys(("test_accuracy", "validation_accuracy")),
        name: ours,
        "scratch_accuracy": accuracy(from_scratch(config, data, sizes)),
        "narrow_sizes": None if narrow is None else list(narrow),
        "narrow_accuracy": (
            None if narrow is None else accuracy(from_scratch(config, data, narrow))
        ),
        "provenance": {"data": data.checksum},
    }


def searches() -> list[Neurons]:
    """The learning rates on the validation split, at the middle density."""
    return [
        Neurons(
            density=DENSITIES[1],
            gate_lr=gate_lr,
            scratch_lr=scratch_lr,
            split="validation",
            study="neurons search",
        )
        for gate_lr, scratch_lr in zip(GATE_RATES, SCRATCH_RATES, strict=True)
    ]


def configs(evidence: list[Record], seeds: int | None = None) -> list[Neurons]:
    """The runs on the test set, with the best learning rates of the search; with the first
    ones where it is not on record."""
    done = {
        (r["gate_lr"], r["scratch_lr"]): r for r in evidence if r["study"] == "neurons search"
    }
    base = Neurons()
    if all((c.gate_lr, c.scratch_lr) in done for c in searches()):
        found = list(done.values())
        gates = max(found, key=lambda r: r["validation_accuracy"])
        scratch = max(found, key=lambda r: r["scratch_accuracy"])
        base = changed(base, gate_lr=gates["gate_lr"], scratch_lr=scratch["scratch_lr"])
    return [
        changed(base, density=density, seed=seed)
        for seed in range(seeds or SEEDS)
        for density in DENSITIES
    ]
