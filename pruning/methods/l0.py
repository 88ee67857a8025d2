r"""L0 regularisation through hard-concrete gates, on the weights of any ``nn.Module``.

Louizos, Welling, Kingma: "Learning Sparse Neural Networks through L0 Regularization", ICLR
2018, arXiv:1712.01312. Equations are numbered here.

    Eq. 1   s = sigmoid((log u − log(1 − u) + log α) / β),  u ~ U(0, 1);   s̄ = s·(ζ − γ) + γ
    Eq. 2   z = min(1, max(0, s̄));   forward pass: θ ⊙ z
    Eq. 3   P(z ≠ 0) = sigmoid(log α − β·log(−γ / ζ))
            loss = prediction loss + λ · Σ P(z ≠ 0)
    Eq. 4   ẑ = min(1, max(0, sigmoid(log α)·(ζ − γ) + γ));   evaluation: θ ⊙ ẑ

    symbol  name         meaning
    θ       weight       the layer's own weight, dense
    log α   log_alpha    location of a gate, the trained parameter
    β       temperature  of the concrete distribution, 2/3
    γ, ζ    LOW, HIGH    the interval (−0.1, 1.1) to which it is stretched before it is cut to
                         [0, 1]
    λ       factor       price of a kept weight; in the paper 0.1 / N for N training samples

Differs from the paper: every weight has a gate (the paper gates the inputs of a layer
together); a budget keeps the gates with the largest log α; the penalty may pull the expected
number of weights to a target instead of to 0, because no fixed λ ends at a given number.
"""

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from pruning.bounds import Amount, Fraction, Probability, Rate
from pruning.methods import shares
from pruning.methods.noise import logistic_noise
from pruning.networks import masks
from pruning.networks.prunable import prunable
from pruning.training import Callback
from pruning.training.recipes import HoldThenCosine, Method, Phase, Problem, finetune, setting

LOW, HIGH = -0.1, 1.1  # γ, ζ
PENALTIES = ("sum", "target")


class HardConcrete(nn.Module):
    """Parametrization θ ↦ θ ⊙ z. Made by `gate`; holds log α."""

    hardening = "pruning.methods.l0.harden(model, weights)"  # what makes masks of such gates

    def __init__(self, weight: Tensor, temperature: float, init: float):
        super().__init__()
        location = math.log(init) - math.log1p(-init)
        self.log_alpha = nn.Parameter(torch.full_like(weight, location, dtype=torch.float32))
        self.temperature = temperature

    def forward(self, weight: Tensor) -> Tensor:
        """θ ⊙ z in training mode, a new sample at each call; θ ⊙ ẑ in evaluation mode."""
        if not self.training:
            return weight * self.mean().to(weight.dtype)
        noise = logistic_noise(self.log_alpha)
        stretched = stretch(
            torch.sigmoid((noise + self.log_alpha) / self.temperature)
        )  # Eq. 1
        return weight * stretched.clamp(0, 1).to(weight.dtype)  # Eq. 2

    def mean(self) -> Tensor:
        """ẑ, in [0, 1], shaped as the weight."""
        return stretch(self.log_alpha.sigmoid()).clamp(0, 1)  # Eq. 4

    def open(self) -> Tensor:
        """P(z ≠ 0) of each gate, with gradient."""
        return torch.sigmoid(
            self.log_alpha - self.temperature * math.log(-LOW / HIGH)
        )  # Eq. 3

    def mask(self) -> Tensor:
        """Which weights are kept at evaluation: ẑ > 0."""
        return self.mean().detach() > 0


def stretch(concrete: Tensor) -> Tensor:
    """s ↦ s̄ of Eq. 1, from (0, 1) to (γ, ζ)."""
    return concrete * (HIGH - LOW) + LOW


def gate(model: nn.Module, temperature: float = 2 / 3, init: float = 0.5) -> nn.Module:
    """Put a hard-concrete gate on every weight of `pruning.prunable`, in place.

    Parameters
    ----------
    temperature : β, above 0.
    init : sigmoid(log α) of every gate at the start, in (0, 1).

    Returns the model. Warns of parameters that look like weights and are not covered. Raises
    ValueError for values out of range, a model without layers to gate, and weights that are
    masked, parametrized, or used by another module too.
    """
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature: got {temperature!r}, needs a finite number above 0")
    if not 0 < init < 1:
        raise ValueError(f"init: got {init!r}, needs a number strictly between 0 and 1")
    for module, parameter in shares.free(model).values():
        weight = module._parameters[parameter]
        gating = HardConcrete(weight, temperature, init).train(module.training)
        masks.parametrize_apart(module, parameter, gating)
    return model


def gates(model: nn.Module) -> dict[str, HardConcrete]:
    """The hard-concrete gates of a model, {key of `prunable`: gate}. Raises ValueError if
    there is none."""
    found = {
        key: each
        for key, each in masks.find_gates(model).items()
        if isinstance(each, HardConcrete)
    }
    if not found:
        masks.check_ungated(model)  # gates of other kinds
        raise ValueError("model: has no hard-concrete gate; call l0.gate(model) first")
    return found


def expected_weights(model: nn.Module) -> Tensor:
    """Σ P(z ≠ 0) over all gates (Eq. 3): the expected number of kept weights, a 0-dim tensor
    with gradient."""
    return torch.stack([gating.open().sum() for gating in gates(model).values()]).sum()


@torch.no_grad()
def harden(model: nn.Module, weights: int, allocation: shares.Shares = "global") -> nn.Module:
    """Keep the `weights` weights whose gates have the largest log α, as a fixed mask; θ ⊙ ẑ
    stays trainable.

    `allocation` says how layers share them, see `pruning.methods.shares`. In place; returns
    the model. Raises ValueError where there is no gate or too few weights.
    """
    found = gates(model)
    sizes = {name: gating.log_alpha.shape for name, gating in found.items()}
    locations = {name: gating.log_alpha for name, gating in found.items()}
    keep = shares.largest(locations, shares.by_layer(sizes, weights, allocation))
    for key, module, parameter in prunable(model):
        if key in found:
            masks.unparametrize(module, parameter)
            module._parameters[parameter].mul_(found[key].mean())
            masks.set_mask(module, keep[key], parameter)
    return model


class L0(Callback):
    """Training with hard-concrete gates; at the end exactly `weights` weights stay.

    Parameters
    ----------
    weights : the budget.
    factor : of the penalty: λ times the number of all weights for "sum", the weight of the
        distance for "target".
    penalty : "sum" is the paper's λ · Σ P(z ≠ 0); "target" is |log Σ P(z ≠ 0) − log aim|,
        where the aim falls exponentially from all weights to the budget.
    descent : fraction of the training after which the aim is the budget ("target").
    temperature, init : of `gate`. allocation : of `harden`.

    Raises ValueError for another penalty or values out of range.
    """

    def __init__(
        self,
        weights: int,
        factor: float = 1.0,
        penalty: str = "sum",
        descent: float = 0.5,
        temperature: float = 2 / 3,
        init: float = 0.5,
        allocation: shares.Shares = "global",
    ):
        if penalty not in PENALTIES:
            raise ValueError(f"penalty: got {penalty!r}, needs one of {PENALTIES}")
        if factor < 0 or not 0 < descent <= 1:
            raise ValueError(
                f"factor, descent: got {factor}, {descent}, needs at least 0 and (0, 1]"
            )
        self.weights, self.factor, self.form, self.descent = weights, factor, penalty, descent
        self.temperature, self.init, self.allocation = temperature, init, allocation

    def start(self, model: nn.Module) -> None:
        """Gate the layers."""
        gate(model, self.temperature, self.init)

    def penalty(self, model: nn.Module, progress: float) -> Tensor:
        """What the gates that may be open cost."""
        kept = expected_weights(model)
        total = sum(gating.log_alpha.numel() for gating in gates(model).values())
        if self.form == "sum":
            return self.factor * kept / total  # Eq. 3
        aim = total * (self.weights / total) ** min(1.0, progress / self.descent)
        return self.factor * (kept.log() - math.log(aim)).abs()

    def finish(self, model: nn.Module) -> None:
        """Keep the budget."""
        harden(model, self.weights, self.allocation)


@dataclass(frozen=True)
class Settings:
    """Of L0 regularisation beside other methods."""

    lr: Rate = setting(1e-2, "learning rate of weights and biases")
    finetune_lr: Rate = setting(3e-3, "their learning rate once the mask is fixed")
    gate_lr: Rate = setting(0.1, "learning rate of log α")
    temperature: Rate = setting(2 / 3, "temperature β of the gates")
    init: Probability = setting(0.5, "sigmoid(log α) at the start, in (0, 1)")
    factor: Amount = setting(3.0, "factor of the penalty")
    penalty: str = setting(
        "target", "'sum': of P(z ≠ 0), or 'target': its distance to the budget"
    )
    descent: Fraction = setting(
        0.5, "fraction of the epochs after which the target is the budget"
    )
    allocation: tuple[Fraction, ...] = setting(
        (), "share of the kept weights of each layer; (): layers compete"
    )

    def __post_init__(self):
        if self.penalty not in PENALTIES:
            raise ValueError(f"penalty: got {self.penalty!r}, needs one of {PENALTIES}")


def optimizer(model: nn.Module, lr: float, gate_lr: float) -> torch.optim.Optimizer:
    """Adam with a learning rate of the weights and one of log α."""
    locations = [gating.log_alpha for gating in gates(model).values()]
    known = {id(each) for each in locations}
    weights = [each for each in model.parameters() if id(each) not in known]
    groups = [{"params": weights, "lr": lr}, {"params": locations, "lr": gate_lr}]
    return torch.optim.Adam(groups, fused=True)


def phases(settings: Settings, problem: Problem) -> list[Phase]:
    """Gates and weights are learned together, then the weights under the fixed mask."""
    gating = L0(
        problem.weights,
        settings.factor,
        settings.penalty,
        settings.descent,
        settings.temperature,
        settings.init,
        settings.allocation or "global",
    )
    rates = partial(optimizer, lr=settings.lr, gate_lr=settings.gate_lr)
    return [
        Phase(problem.epochs, rates, HoldThenCosine(settings.descent), (gating,)),
        finetune(problem.finetune_epochs, settings.finetune_lr),
    ]


METHOD = Method(
    "l0",
    Settings,
    phases,
    label="L0, hard-concrete gates",
    short="L0",
    colour="#7b3294",
    marker="8",
)
