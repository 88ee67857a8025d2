r"""SynFlow: a mask from the weights at initialisation alone, by paths, without data.

Tanaka, Kunin, Yamins, Ganguli: "Pruning neural networks without any data by iteratively
conserving synaptic flow", NeurIPS 2020, arXiv:2006.05467. Equations are numbered here.

    Eq. 1   R = 1ᵀ · (∏ |W_l|) · 1       the flow through all paths from inputs to outputs
    Eq. 2   S(w) = ∂R / ∂w ⊙ w           a weight's score: the flow through it
    Eq. 3   weights kept after round k of n: all · (budget / all)^(k / n); scores are taken
            anew each round

    symbol  name     meaning
    S       scores   {layer name: tensor shaped as the weight}
    n       rounds   100 in the paper

The scores of each layer sum to R (the conservation law), so what is left in a layer that loses
weights gets larger scores: unlike with one-shot scores no layer is emptied while another is
full.

Differs from the paper: biases do not take part, without which the law is exact (the authors'
code keeps their absolute values, which their networks start at 0); activations are taken as
the identity, which ReLU is on positive inputs.
"""

import copy
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from pruning.bounds import Fraction, Positive, Rate
from pruning.methods import shares
from pruning.networks import masks
from pruning.networks.chain import ELEMENTWISE
from pruning.networks.layers import layers
from pruning.training.recipes import Adam, HoldThenCosine, Method, Phase, Problem, setting


def synflow(model: nn.Module, inputs: Tensor) -> dict[str, Tensor]:
    """The synaptic flow through each weight (Eq. 2), in float64, keyed as all scores.

    `inputs` gives the shape of a sample; its values are not used. Pruned weights carry no
    flow. The model is left as it was. Raises ValueError for a model without layers to score,
    TypeError for inputs that are no floating point numbers.
    """
    if not inputs.is_floating_point():
        raise TypeError(
            f"inputs: got {inputs.dtype}, needs floating point numbers, because the flow"
            " starts with ones in the place of the inputs, which embeddings do not take"
        )
    flow = copy.deepcopy(model).double().eval()
    for module in list(flow.modules()):
        for name, child in module.named_children():
            if isinstance(child, ELEMENTWISE):
                setattr(module, name, nn.Identity())
    found = layers(flow)
    originals = [masks.original(layer) for layer in found.values()]
    with torch.no_grad():
        for layer, weight in zip(found.values(), originals, strict=True):
            weight.abs_()
            if layer.bias is not None:
                layer.bias.zero_()
    total = flow(torch.ones_like(inputs[:1], dtype=torch.float64)).sum()  # Eq. 1
    gradients = torch.autograd.grad(total, originals)
    return {
        name: gradient * weight.detach()  # Eq. 2
        for name, gradient, weight in zip(found, gradients, originals, strict=True)
    }


def prune(
    model: nn.Module,
    inputs: Tensor,
    weights: int,
    rounds: int = 100,
    allocation: shares.Shares = "global",
) -> nn.Module:
    """Keep exactly `weights` weights by the flow through them, over `rounds` rounds (Eq. 3).

    Parameters
    ----------
    inputs : as in `synflow`.
    allocation : how layers share the weights, see `pruning.methods.shares`.

    In place; returns the model. Linear and Conv2d layers have a score and are counted, others
    stay dense. Raises ValueError for values out of range.
    """
    if rounds < 1:
        raise ValueError(f"rounds: got {rounds!r}, needs 1 or more")
    sizes = shares.sizes(model, layers(model))
    for kept in shares.descending(sizes, weights, rounds, allocation):
        shares.keep_largest(model, synflow(model, inputs), kept)
    return model


@dataclass(frozen=True)
class Settings:
    """Of SynFlow beside other methods."""

    finetune_lr: Rate = setting(1e-2, "learning rate")
    descent: Fraction = setting(
        0.5, "fraction of the epochs after which the learning rate falls"
    )
    rounds: Positive = setting(100, "rounds n of scoring and pruning")
    allocation: tuple[Fraction, ...] = setting(
        (), "share of the kept weights of each layer; (): layers compete"
    )


def phases(settings: Settings, problem: Problem) -> list[Phase]:
    """The mask of the untrained network, then one training of what is left."""
    mask = partial(
        prune,
        inputs=problem.inputs[:1],
        weights=problem.weights,
        rounds=settings.rounds,
        allocation=settings.allocation or "global",
    )
    schedule = HoldThenCosine(settings.descent)
    return [Phase(problem.all_epochs, Adam(settings.finetune_lr), schedule, before=mask)]


METHOD = Method(
    "synflow",
    Settings,
    phases,
    label="SynFlow, before training",
    short="SynFlow",
    colour="#4d4d4d",
    marker="d",
)
