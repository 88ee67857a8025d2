r"""Sparse variational dropout, on the weights of any ``nn.Module``.

Molchanov, Ashukha, Vetrov: "Variational Dropout Sparsifies Deep Neural Networks", ICML 2017,
arXiv:1701.05369. Equations are numbered here.

    Eq. 1   w = θ + σ·ε,  ε ~ N(0, 1);   log α = log σ² − log θ²     noise on weights
    Eq. 2   y ~ N(Σ x·θ, Σ x²·σ²)                                   the same, on outputs
    Eq. 3   −KL ≈ k₁·sigmoid(k₂ + k₃·log α) − ½·log(1 + α⁻¹) − k₁,
            k₁ = 0.63576, k₂ = 1.87320, k₃ = 1.48695
            loss = mean prediction loss + (scale / N) · Σ KL;   kept: log α < 3

    symbol  name        meaning
    θ       weight      mean of a weight, the layer's own parameter
    log σ²  log_sigma2  logarithm of its variance, the second trained parameter
    α       log_alpha   noise over signal; a weight with a large α carries none
    N       samples     of the training set

Differs from the paper: a budget keeps the weights with the smallest log α; noise may be drawn
for the weights, once a batch, instead of for the outputs, which is half the work and a noisier
gradient.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils.hooks import RemovableHandle

from pruning.bounds import Amount, Fraction, Rate
from pruning.methods import shares
from pruning.networks import masks
from pruning.networks.layers import layers
from pruning.training import Callback
from pruning.training.recipes import HoldThenCosine, Method, Phase, Problem, finetune, setting

K1, K2, K3 = 0.63576, 1.87320, 1.48695
THRESHOLD = 3.0  # log α from which a weight is removed: dropout rate α / (1 + α) above 0.95
SAMPLING = ("local", "weight")


def kl_divergence(log_alpha: Tensor) -> Tensor:
    """KL from the log-uniform prior, elementwise; its constant makes it 0 as α → ∞."""
    negative = (
        K1 * torch.sigmoid(K2 + K3 * log_alpha) - 0.5 * F.softplus(-log_alpha) - K1
    )  # Eq. 3
    return -negative


class Noise(nn.Module):
    """Parametrization θ ↦ θ + σ·ε. Made by `dropout`; holds log σ²."""

    def __init__(self, weight: nn.Parameter, init: float, sampling: str):
        super().__init__()
        self.log_sigma2 = nn.Parameter(torch.full_like(weight, init, dtype=torch.float32))
        self.sampling = sampling
        self.hook: RemovableHandle | None = None  # where outputs are sampled
        self._means = (
            weight,
        )  # θ, for `log_alpha`; in a tuple: it is the layer's parameter, not ours

    def forward(self, weight: Tensor) -> Tensor:
        """In training mode a sample of the weight, or its mean where outputs are sampled; in
        evaluation
        mode the mean of what is kept."""
        if not self.training:
            return weight * self.mask()
        if self.sampling == "local":
            return weight
        return weight + (0.5 * self.log_sigma2).exp() * torch.randn_like(weight)  # Eq. 1

    def log_alpha(self) -> Tensor:
        """log α = log σ² − log θ², within ±8 as in the authors' code, with gradient."""
        return (self.log_sigma2 - self._means[0].square().add(1e-16).log()).clamp(-8, 8)

    def mask(self) -> Tensor:
        """Which weights are kept at evaluation: log α < 3."""
        return self.log_alpha().detach() < THRESHOLD


def _sample_output(layer: nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor:
    """A forward hook: the output with the noise that its weights' variances give it."""
    if not layer.training:
        return output
    x, variance = args[0], layer.parametrizations.weight[0].log_sigma2.exp()
    if isinstance(layer, nn.Linear):
        spread = F.linear(x.square(), variance)
    else:
        spread = layer._conv_forward(x.square(), variance, None)
    return output + (spread + 1e-8).sqrt() * torch.randn_like(output)  # Eq. 2


def dropout(model: nn.Module, init: float = -10.0, sampling: str = "local") -> nn.Module:
    """Give every weight of the Linear and Conv2d layers a variance of its own, in place.

    Parameters
    ----------
    init : log σ² at the start.
    sampling : "local" draws the layers' outputs, one noise a sample; "weight" draws the
        weights once a batch.

    Returns the model. Raises ValueError for another sampling, or a model without such layers.
    """
    if sampling not in SAMPLING:
        raise ValueError(f"sampling: got {sampling!r}, needs one of {SAMPLING}")
    for layer in layers(model).values():
        noise = Noise(layer.weight, init, sampling).train(layer.training)
        masks.parametrize_apart(layer, "weight", noise)
        if sampling == "local":
            noise.hook = layer.register_forward_hook(_sample_output)
    return model


def noises(model: nn.Module) -> dict[str, Noise]:
    """The variances of a model's weights, {layer name: Noise}. Raises ValueError if there is
    none."""
    found = {
        name.removesuffix("parametrizations.weight.0").removesuffix("."): module
        for name, module in model.named_modules()
        if isinstance(module, Noise)
    }
    if not found:
        raise ValueError(
            "model: has no variational dropout; call variational.dropout(model) first"
        )
    return found


def divergence(model: nn.Module) -> Tensor:
    """Σ KL over all weights of a model (Eq. 3), a 0-dim tensor with gradient."""
    return torch.stack(
        [kl_divergence(noise.log_alpha()).sum() for noise in noises(model).values()]
    ).sum()


@torch.no_grad()
def harden(model: nn.Module, weights: int, allocation: shares.Shares = "global") -> nn.Module:
    """Keep the `weights` weights with the smallest log α, as a fixed mask; their means stay
    trainable.

    `allocation` says how layers share them, see `pruning.methods.shares`. In place; returns
    the model. Raises ValueError where there is no variational dropout or too few weights.
    """
    found = noises(model)
    sizes = {name: noise.log_sigma2.shape for name, noise in found.items()}
    signal = {name: -noise.log_alpha() for name, noise in found.items()}
    keep = shares.largest(signal, shares.by_layer(sizes, weights, allocation))
    for name, noise in found.items():
        layer = model.get_submodule(name)
        if noise.hook is not None:
            noise.hook.remove()
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
        masks.set_mask(layer, keep[name])
    return model


class Variational(Callback):
    """Training with sparse variational dropout; at the end exactly `weights` weights stay.

    Parameters
    ----------
    weights : the budget.
    samples : N, of the training set.
    scale : factor of the divergence, 1 in the paper; more gives fewer weights.
    warm : fraction of the training over which it rises from 0, linearly.
    init, sampling : of `dropout`. allocation : of `harden`.

    Raises ValueError for values out of range.
    """

    def __init__(
        self,
        weights: int,
        samples: int,
        scale: float = 1.0,
        warm: float = 0.5,
        init: float = -10.0,
        sampling: str = "local",
        allocation: shares.Shares = "global",
    ):
        if samples < 1 or scale < 0 or not 0 <= warm <= 1:
            raise ValueError(
                f"samples, scale, warm: got {samples}, {scale}, {warm}, needs 1 or more, 0 or"
                " more, [0, 1]"
            )
        self.weights, self.samples, self.scale, self.warm = weights, samples, scale, warm
        self.init, self.sampling, self.allocation = init, sampling, allocation

    def start(self, model: nn.Module) -> None:
        """Give weights their variances."""
        dropout(model, self.init, self.sampling)

    def penalty(self, model: nn.Module, progress: float) -> Tensor:
        """The divergence's share of one sample."""
        risen = min(1.0, progress / self.warm) if self.warm else 1.0
        return self.scale * risen / self.samples * divergence(model)

    def finish(self, model: nn.Module) -> None:
        """Keep the budget."""
        harden(model, self.weights, self.allocation)


@dataclass(frozen=True)
class Settings:
    """Of sparse variational dropout beside other methods."""

    lr: Rate = setting(3e-3, "learning rate of weights and biases")
    finetune_lr: Rate = setting(3e-3, "their learning rate once the mask is fixed")
    noise_lr: Rate = setting(3e-2, "learning rate of log σ²")
    descent: Fraction = setting(
        0.5, "fraction of the epochs after which the learning rate falls"
    )
    scale: Amount = setting(1.0, "factor of the divergence; more gives fewer weights")
    warm: Fraction = setting(
        0.5, "fraction of the epochs over which the divergence rises from 0"
    )
    init: float = setting(-10.0, "log σ² at the start")
    sampling: Literal["local", "weight"] = setting(
        "local", "'local': noise on outputs, or 'weight': on the weights"
    )
    allocation: tuple[Fraction, ...] = setting(
        (), "share of the kept weights of each layer; (): layers compete"
    )

    def __post_init__(self):
        if self.sampling not in SAMPLING:
            raise ValueError(f"sampling: got {self.sampling!r}, needs one of {SAMPLING}")


def optimizer(model: nn.Module, lr: float, noise_lr: float) -> torch.optim.Optimizer:
    """Adam with a learning rate of the weights and one of log σ²."""
    variances = [noise.log_sigma2 for noise in noises(model).values()]
    known = {id(each) for each in variances}
    weights = [each for each in model.parameters() if id(each) not in known]
    groups = [{"params": weights, "lr": lr}, {"params": variances, "lr": noise_lr}]
    return torch.optim.Adam(groups, fused=True)


def phases(settings: Settings, problem: Problem) -> list[Phase]:
    """Means and variances are learned together, then the means under the fixed mask."""
    noise = Variational(
        problem.weights,
        len(problem.inputs),
        settings.scale,
        settings.warm,
        settings.init,
        settings.sampling,
        settings.allocation or "global",
    )
    rates = partial(optimizer, lr=settings.lr, noise_lr=settings.noise_lr)
    return [
        Phase(problem.epochs, rates, HoldThenCosine(settings.descent), (noise,)),
        finetune(problem.finetune_epochs, settings.finetune_lr),
    ]


METHOD = Method(
    "variational",
    Settings,
    phases,
    label="sparse variational dropout",
    short="variational dropout",
    colour="#a50026",
    marker="H",
)
