"""The methods that experiments compare, as callbacks of the one training loop, in one dict.

Each is made from an experiment's config and reads its own hyper-parameters from it. A new method is a class
here and a line in METHODS; tables, legends and the tests that every method must pass follow from that.
"""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from pruning import training
from pruning.data import datasets
from pruning.methods import activations, gates, hardening, rewiring, scores
from pruning.networks import models
from pruning.networks.masks import set_mask
from pruning.training import stacks


def hold_then_cosine(hold: float):
    """Learning rate factor: 1 up to `hold`, then half a cosine down to 0.02."""

    def factor(progress: float) -> float:
        fallen = max(0.0, (progress - hold) / (1 - hold)) if hold < 1 else 0.0
        return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * fallen))

    return factor


class ActivityPenalty(training.Callback):
    """λ · Σ over hidden layers of mean |output|: the pruning-aware training of arXiv:2410.16151."""

    def __init__(self, factor: float):
        self.factor = factor

    def start(self, model):
        self.hooks = activations.activity_penalty(model)
        self.activity = self.hooks.__enter__()

    def penalty(self, model, progress):
        return self.factor * self.activity.take()

    def finish(self, model):
        self.hooks.__exit__(None, None, None)


class Method(training.Callback):
    """What takes part in the comparison; hooks of `training.Callback` that it does not need do nothing."""

    stacks = False  # whether many networks of it may train as one stack: `start` is all that it does

    def __init__(self, config: Any):
        self.config = config

    def sizes(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        """The network to train, from the dense one."""
        return sizes

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return training.adam(model, self.config.finetune_lr)


class Gates(Method):
    """Learnable gates (Eq. 1 to 3), then the mask θ^g > ½."""

    stacks = True

    def start(self, model):
        gates.gate(model, tau=self.config.tau, init=self.config.init)

    def optimizer(self, model):
        logits = gates.gate_parameters(model)
        known = {id(p) for p in logits}
        weights = [p for p in model.parameters() if id(p) not in known]
        groups = [
            {"params": weights, "lr": self.config.lr},
            {"params": logits, "lr": self.config.gate_lr},
        ]
        return torch.optim.Adam(groups, fused=True)

    def target(self, progress: float, density: float | torch.Tensor) -> float | torch.Tensor:
        """D_target at this point of the training, on its way to `density`."""
        if self.config.target == "constant":
            return density
        return density ** min(1.0, progress / self.config.descent)

    def penalty(self, model, progress):
        log = self.config.penalty == "log"
        if not self.config.allocation:
            target = self.target(progress, self.config.density)
            return self.config.alpha * gates.density_loss(model, target, log)
        return self.config.alpha * self.by_layer(list(gates.gates(model).values()), progress, log)

    def by_layer(self, found: list[gates.Gate], progress: float, log: bool) -> torch.Tensor:
        """One density loss a layer, weighted by its gates: `allocation` says which share of the weights each
        layer keeps."""
        counts = [gate.logits.numel() for gate in found]
        losses = []
        for gate, share, count in zip(found, self.config.allocation, counts, strict=True):
            density = min(1.0, self.config.density * share * sum(counts) / count)
            target = self.target(progress, density)
            losses.append(count * gates.off_target(gate.kept, count, target, log))
        return sum(losses[1:], losses[0]) / sum(counts)

    def finish(self, model):
        hardening.harden(model, self.config.at_most or None)


class StackedGates(Gates):
    """The gates of a stack; the configs differ in seed, density, tau, init and alpha alone."""

    def __init__(self, configs: Sequence[Any], generators: Sequence[torch.Generator]):
        super().__init__(configs[0])
        self.configs, self.generators = configs, generators

    def start(self, model):
        device = next(model.parameters()).device
        tau, init, self.density, self.alpha = (
            torch.tensor([getattr(config, name) for config in self.configs], device=device)
            for name in ("tau", "init", "density", "alpha")
        )
        stacks.gate(model, tau, init, self.generators)

    def penalty(self, model, progress):
        target, log = self.target(progress, self.density), self.config.penalty == "log"
        return (self.alpha * gates.off_target(*stacks.kept(model), target, log)).sum()


class RandomDeletion(Method):
    """Weights deleted at random, over the whole network, before training; the structure stays."""

    stacks = True

    def start(self, model):
        layers = [layer for layer in model if isinstance(layer, nn.Linear)]
        counts = [layer.weight.numel() for layer in layers]
        removed = sum(counts) - round(self.config.density * sum(counts))
        keep = torch.ones(sum(counts), dtype=torch.bool)
        if removed:
            keep[torch.rand(sum(counts)).topk(removed).indices] = False
        for layer, part in zip(layers, keep.split(counts), strict=True):
            set_mask(layer, part.view_as(layer.weight))


class Dense(Method):
    """A fully connected network of that size: the hidden layers narrowed until the weights fit."""

    stacks = True

    def sizes(self, sizes):
        narrow = models.narrow_sizes(sizes, round(self.config.density * models.weight_count(sizes)))
        if narrow is None:
            raise ValueError(f"density: got {self.config.density}, no dense network {sizes} is that small")
        return narrow


class SET(Method):
    """Sparse evolutionary training, rewired after every epoch but the last."""

    def __init__(self, config):
        super().__init__(config)
        epochs = config.epochs + config.finetune_epochs
        self.rewiring = rewiring.SET(config.density, max(0, epochs - 1), config.fraction)

    def start(self, model):
        self.rewiring.start(model)

    def after_step(self, model, progress):
        self.rewiring.after_step(model, progress)


class DeepR(SET):
    """Deep rewiring at the optimizer's learning rate."""

    def __init__(self, config):
        Method.__init__(self, config)
        factor = hold_then_cosine(config.descent)
        self.rewiring = rewiring.DeepR(config.density, lambda p: config.finetune_lr * factor(p), config.l1)


class OneShot(Method):
    """A trained dense network, pruned once by a score; subclasses say which."""

    scope = "global"

    def scores(self, model: nn.Module, data: datasets.Dataset) -> scores.Scores:
        """{layer name: tensor shaped as the weight}, larger = keep."""
        raise NotImplementedError

    def prune(self, model, data):
        found = self.scores(model, data)
        with warnings.catch_warnings():  # an emptied layer shows in the record: nothing is effective
            warnings.filterwarnings("ignore", "layer .* has no weight left")
            scores.prune_by_score(model, found, 1 - self.config.density, self.scope)


class Magnitude(OneShot):
    """The largest |W| of the whole network."""

    def scores(self, model, data):
        return scores.magnitude(model)


class Wanda(OneShot):
    """The largest |W| · ‖x‖ of every neuron."""

    scope = "neuron"

    def scores(self, model, data):
        return scores.wanda(model, data.train.inputs)


class SNIP(OneShot):
    """Connection sensitivity of the whole network, before training, from the training set."""

    def scores(self, model, data):
        return scores.snip(model, data.train.inputs, data.train.targets)


METHODS = {
    "gates": Gates, "random": RandomDeletion, "dense": Dense, "set": SET, "deepr": DeepR,
    "magnitude": Magnitude, "wanda": Wanda, "snip": SNIP,
}  # fmt: skip
