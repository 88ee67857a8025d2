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
from torch.utils.hooks import RemovableHandle

from pruning.bounds import Amount, Fraction, Rate
from pruning.methods import shares
from pruning.networks import masks
from pruning.networks.prunable import WEIGHTED, prunable
from pruning.training import Callback
from pruning.training.recipes import HoldThenCosine, Method, Phase, Problem, finetune, setting

K1, K2, K3 = 0.63576, 1.87320, 1.48695
THRESHOLD = 3.0  # log α from which a weight is removed: dropout rate α / (1 + α) above 0.95
SAMPLING = ("local", "weight")
ATTENTION = nn.MultiheadAttention


def kl_divergence(log_alpha: Tensor) -> Tensor:
    """KL from the log-uniform prior, elementwise; its constant makes it 0 as α → ∞."""
    negative = (
        K1 * torch.sigmoid(K2 + K3 * log_alpha) - 0.5 * F.softplus(-log_alpha) - K1
    )  # Eq. 3
    return -negative


class Noise(nn.Module):
    """Parametrization θ ↦ θ + σ·ε. Made by `dropout`; holds log σ²."""

    hardening = "pruning.methods.variational.harden(model, weights)"  # makes masks of such

    def __init__(self, weight: nn.Parameter, init: float, sampling: str):
        super().__init__()
        self.log_sigma2 = nn.Parameter(torch.full_like(weight, init, dtype=torch.float32))
        self.sampling = sampling
        self.hook: RemovableHandle | None = None  # where outputs are sampled
        self.read = self.sampled = False  # whether the mean was used, and an output sampled
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
            self.read = True
            return weight
        std = (0.5 * self.log_sigma2).exp().to(weight.dtype)
        return weight + std * torch.randn_like(weight)  # Eq. 1

    def log_alpha(self) -> Tensor:
        """log α = log σ² − log θ², within ±8 as in the authors' code, with gradient."""
        means = self._means[0]
        means = means.to(torch.promote_types(means.dtype, torch.float32))
        return (self.log_sigma2 - means.square().add(1e-16).log()).clamp(-8, 8)

    def mask(self) -> Tensor:
        """Which weights are kept at evaluation: log α < 3."""
        return self.log_alpha().detach() < THRESHOLD


def _sample_output(layer: nn.Module, args: tuple, kwargs: dict, output: Tensor) -> Tensor:
    """A forward hook: the output with the noise that its weights' variances give it."""
    if not layer.training:
        return output
    noise = layer.parametrizations.weight[0]
    noise.sampled = True
    x = (args[0] if args else kwargs["input"]).square()
    variance = noise.log_sigma2.exp().to(x.dtype)
    if isinstance(layer, nn.Linear):
        spread = F.linear(x, variance)
    elif layer.transposed:
        spread = _transposed(layer, x, variance, output.shape)
    else:
        spread = layer._conv_forward(x, variance, None)
    return output + (spread + 1e-8).sqrt() * torch.randn_like(output)  # Eq. 2


def _transposed(layer: nn.Module, x: Tensor, weight: Tensor, shape: torch.Size) -> Tensor:
    """What a transposed convolution computes with another weight and no bias; `shape` is that
    of its output."""
    sides = weight.dim() - 2
    convolve = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[sides - 1]
    padding = layer._output_padding(
        x,
        list(shape[-sides:]),
        layer.stride,
        layer.padding,
        layer.kernel_size,
        sides,
        layer.dilation,
    )
    return convolve(
        x, weight, None, layer.stride, layer.padding, padding, layer.groups, layer.dilation
    )


def _shows_outputs(model: nn.Module) -> set[nn.Module]:
    """Layers whose outputs are linear in their weight and pass a hook: attention reads the
    weight of its last layer without calling it."""
    hidden = {each.out_proj for each in model.modules() if isinstance(each, ATTENTION)}
    return {each for each in model.modules() if isinstance(each, WEIGHTED)} - hidden


def dropout(model: nn.Module, init: float = -10.0, sampling: str = "local") -> nn.Module:
    """Give every weight of `pruning.prunable` a variance of its own, in place.

    Parameters
    ----------
    init : log σ² at the start.
    sampling : "local" draws the outputs of Linear and convolution layers, one noise a sample,
        and the weights of attention and recurrent layers as "weight" does; "weight" draws all
        weights once a batch.

    Returns the model. Warns of parameters that look like weights and are not covered. Raises
    ValueError for another sampling, a model without weights to prune, and weights that are
    masked, parametrized, or used by another module too.
    """
    if sampling not in SAMPLING:
        raise ValueError(f"sampling: got {sampling!r}, needs one of {SAMPLING}")
    found = shares.free(model)
    shown = _shows_outputs(model) if sampling == "local" else set()
    for module, parameter in found.values():
        how = "local" if module in shown else "weight"
        noise = Noise(module._parameters[parameter], init, how).train(module.training)
        masks.parametrize_apart(module, parameter, noise)
        if how == "local":
            noise.hook = module.register_forward_hook(_sample_output, with_kwargs=True)
    return model


def noises(model: nn.Module) -> dict[str, Noise]:
    """The variances of a model's weights, {key of `prunable`: Noise}. Raises ValueError if
    there is none."""
    found = {
        key: each for key, each in masks.find_gates(model).items() if isinstance(each, Noise)
    }
    if not found:
        masks.check_ungated(model)  # gates of other kinds
        raise ValueError(
            "model: has no variational dropout; call variational.dropout(model) first"
        )
    return found


def divergence(model: nn.Module) -> Tensor:
    """Σ KL over all weights of a model (Eq. 3), a 0-dim tensor with gradient.

    Raises RuntimeError where the model reads a layer's weight without calling the layer, so
    that its outputs were not sampled.
    """
    found = noises(model)
    if unseen := [key for key, each in found.items() if each.read and not each.sampled]:
        raise RuntimeError(
            f"divergence: the model reads the weights of {unseen} without calling these"
            " layers, so that their outputs have no noise; needs sampling='weight'"
        )
    return torch.stack(
        [kl_divergence(noise.log_alpha()).sum() for noise in found.values()]
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
    for key, module, parameter in prunable(model):
        if key in found:
            if (hook := found[key].hook) is not None:
                hook.remove()
            masks.unparametrize(module, parameter)
            masks.set_mask(module, keep[key], parameter)
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
