"""How gates train beside other methods: the density's way down, the settings, many networks as
one stack.

The gates themselves, with the paper's equations, are in `pruning.methods.gates`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from pruning.bounds import Amount, Count, Fraction, Probability, Rate
from pruning.methods import gates, hardening, noise
from pruning.networks.prunable import prunable
from pruning.training import Callback
from pruning.training.recipes import (
    HoldThenCosine,
    Method,
    Phase,
    Problem,
    Stack,
    finetune,
    setting,
)
from pruning.training.stacks import StackedLinear, on_device


@dataclass(frozen=True)
class Settings:
    """Chosen on validation splits."""

    lr: Rate = setting(1e-2, "learning rate of weights and biases")
    finetune_lr: Rate = setting(3e-3, "their learning rate once the mask is fixed")
    gate_lr: Rate = setting(0.1, "learning rate of the logits ℓ")
    tau: Rate = setting(2.0, "temperature τ of the soft gate, above 0")
    init: Probability = setting(0.9, "keep probability θ^g at the start, in (0, 1)")
    alpha: Amount = setting(1.0, "factor α of the density loss")
    penalty: str = setting("log", "'log': |log mean(g) − log D|, or 'absolute': |mean(g) − D|")
    target: str = setting("falling", "'falling': D falls from 1, 'constant': D from the start")
    descent: Fraction = setting(0.5, "fraction of the epochs after which the target is D")
    allocation: tuple[Fraction, ...] = setting(
        (), "share of the kept weights of each layer; (): one loss for all"
    )
    at_most: Count = setting(0, "budget: of more open gates the largest so many stay; 0: all")

    def __post_init__(self):
        if self.penalty not in ("log", "absolute"):
            raise ValueError(f"penalty: got {self.penalty!r}, needs 'log' or 'absolute'")
        if self.target not in ("falling", "constant"):
            raise ValueError(f"target: got {self.target!r}, needs 'falling' or 'constant'")
        if self.allocation and not math.isclose(sum(self.allocation), 1):
            raise ValueError(f"allocation: got {self.allocation}, needs shares that sum to 1")


# Eq. 3 as printed. Its pull on a gate is α/N at every density, that of the log form α/(N·D):
# it needs a larger α, which comes from the search too; a smaller one misses the target.
AS_PRINTED = Settings(penalty="absolute", alpha=1000.0)


def target(settings: Settings, progress: float, density: float | Tensor) -> float | Tensor:
    """D_target at this point of the training, on its way to `density`."""
    if settings.target == "constant":
        return density
    return density ** min(1.0, progress / settings.descent)


class Gating(Callback):
    """Learnable gates (Eq. 1 to 3) during the training, the mask θ^g > ½ at its end."""

    def __init__(
        self, settings: Settings, density: float, granularity: gates.Granularity = "weight"
    ):
        self.settings, self.density, self.granularity = settings, density, granularity

    def start(self, model: nn.Module) -> None:
        """Put a gate on every weight, or on every output. Raises ValueError for shares of
        another number of layers."""
        _check_shares(self.settings, len(prunable(model)))
        tau, init = self.settings.tau, self.settings.init
        gates.gate(model, tau=tau, init=init, granularity=self.granularity)

    def penalty(self, model: nn.Module, progress: float) -> Tensor:
        """α · the density loss of Eq. 3."""
        if self.settings.allocation:
            found = list(gates.gates(model).values())
            return self.settings.alpha * self.by_layer(found, progress)
        aim, log = (
            target(self.settings, progress, self.density),
            self.settings.penalty == "log",
        )
        return self.settings.alpha * gates.density_loss(model, aim, log)

    def by_layer(self, found: list[gates.Gate], progress: float) -> Tensor:
        """One density loss a layer, weighted by its gates: each keeps the share that
        `allocation` says."""
        counts = [gate.logits.numel() for gate in found]
        losses = []
        for gate, share, count in zip(found, self.settings.allocation, counts, strict=True):
            density = min(1.0, self.density * share * sum(counts) / count)
            aim = target(self.settings, progress, density)
            loss = gates.off_target(gate.kept, count, aim, self.settings.penalty == "log")
            losses.append(count * loss)
        return sum(losses[1:], losses[0]) / sum(counts)

    def finish(self, model: nn.Module) -> None:
        """Fix the mask."""
        hardening.fix(model, self.settings.at_most or None)


def _check_shares(settings: Settings, layers: int) -> None:
    if settings.allocation and len(settings.allocation) != layers:
        raise ValueError(
            f"allocation: got {settings.allocation}, needs {layers} shares, one a layer"
        )


@dataclass(frozen=True)
class Optimizer:
    """Adam with a learning rate of the weights and one of the logits."""

    lr: float
    gate_lr: float

    def __call__(self, model: nn.Module) -> torch.optim.Optimizer:
        """The optimizer of a model."""
        logits = gates.gate_parameters(model)
        known = {id(p) for p in logits}
        weights = [p for p in model.parameters() if id(p) not in known]
        groups = [{"params": weights, "lr": self.lr}, {"params": logits, "lr": self.gate_lr}]
        return torch.optim.Adam(groups, fused=True)


def _learning(settings: Settings, epochs: int, gating: Callback) -> Phase:
    optimizer = Optimizer(settings.lr, settings.gate_lr)
    return Phase(epochs, optimizer, HoldThenCosine(settings.descent), (gating,))


def phases(settings: Settings, problem: Problem) -> list[Phase]:
    """Gates and weights are learned together, then the weights under the fixed mask."""
    if problem.sizes:  # of other networks the layers are known when training starts
        _check_shares(settings, len(problem.sizes) - 1)
    gating = Gating(settings, problem.density)
    return [
        _learning(settings, problem.epochs, gating),
        finetune(problem.finetune_epochs, settings.finetune_lr),
    ]


class StackedGate(gates.Gate):
    """A gate for each network: temperature and initial keep probability are (networks,), each
    network samples from its own generator, and Σ g has one value a network."""

    stacked = 1

    def __init__(
        self, weight: Tensor, tau: Tensor, init: Tensor, generators: Sequence[torch.Generator]
    ):
        super().__init__(weight, 1.0, 0.5)
        self.tau = tau.to(weight).view(-1, 1, 1)
        with torch.no_grad():
            self.logits.copy_(init.to(weight).logit().view(-1, 1, 1))
        self.generators = generators

    def noise(self) -> Tensor:
        """As that of `Gate`, drawn network by network."""
        drawn = torch.empty_like(self.logits)
        for network, out, generator in zip(self.logits, drawn, self.generators, strict=True):
            noise.logistic_noise(network, generator, out)
        return drawn

    def extra_repr(self) -> str:
        """Shape and temperatures."""
        return f"{tuple(self.logits.shape)}, tau={self.tau.flatten().tolist()}"


def gate_stack(
    stacked: nn.Sequential, tau: Tensor, init: Tensor, generators: Sequence[torch.Generator]
) -> nn.Sequential:
    """`pruning.gate` for a stack.

    tau and init are (networks,); generators are those of `training.fit`.
    """
    # one stream of random numbers for all layers
    generators = on_device(generators, next(stacked.parameters()).device)
    for layer in stacked:
        if isinstance(layer, StackedLinear):
            gating = StackedGate(layer.weight, tau, init, generators)
            parametrize.register_parametrization(layer, "weight", gating, unsafe=True)
    return stacked


def kept(stacked: nn.Sequential) -> tuple[Tensor, int]:
    """Σ g of each network in the last training forward pass, and the gates of one network."""
    found = [module for module in stacked.modules() if isinstance(module, StackedGate)]
    return sum(each.kept for each in found), sum(each.logits[0].numel() for each in found)


class StackedGating(Callback):
    """`Gating` of a stack, whose networks differ in density, tau, init and alpha alone."""

    def __init__(
        self,
        settings: Sequence[Settings],
        problems: Sequence[Problem],
        generators: Sequence[torch.Generator],
    ):
        self.settings, self.generators = settings, generators
        self.densities = [problem.density for problem in problems]

    def start(self, model: nn.Module) -> None:
        """Put a gate on every weight of every network."""
        device = next(model.parameters()).device
        tau, init, self.alpha = (
            torch.tensor([getattr(each, name) for each in self.settings], device=device)
            for name in ("tau", "init", "alpha")
        )
        self.density = torch.tensor(self.densities, device=device)
        gate_stack(model, tau, init, self.generators)

    def penalty(self, model: nn.Module, progress: float) -> Tensor:
        """Σ over networks of α · the density loss."""
        aim = target(self.settings[0], progress, self.density)
        log = self.settings[0].penalty == "log"
        return (self.alpha * gates.off_target(*kept(model), aim, log)).sum()

    def finish(self, model: nn.Module) -> None:
        """Fix the masks."""
        hardening.fix(model, self.settings[0].at_most or None)


def stacked_phases(
    settings: Sequence[Settings],
    problems: Sequence[Problem],
    generators: Sequence[torch.Generator],
) -> list[Phase]:
    """`phases` for a stack."""
    first, problem = settings[0], problems[0]
    return [
        _learning(first, problem.epochs, StackedGating(settings, problems, generators)),
        finetune(problem.finetune_epochs, first.finetune_lr),
    ]


METHOD = Method(
    "gates",
    Settings,
    phases,
    label="learnable gates",
    short="gates",
    colour="#0173b2",
    marker="o",
    stack=Stack(
        phases,
        stacked_phases,
        varies=("tau", "init", "alpha"),
        fits=lambda settings: not settings.allocation,
    ),
)
