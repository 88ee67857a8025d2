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
code keeps their absolute values, which their networks start at 0); activations that are
modules, and normalisations by the sample's own statistics, are taken as the identity, which
ReLU is on positive inputs. All other parameters take part with their absolute values.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from pruning.bounds import Fraction, Positive, Rate
from pruning.methods import shares
from pruning.networks import masks
from pruning.networks.batches import evaluating
from pruning.networks.chain import ELEMENTWISE
from pruning.networks.graph import Examples, arguments, plain_copy
from pruning.networks.notices import notice
from pruning.networks.prunable import WEIGHTED, prunable
from pruning.training.recipes import Adam, HoldThenCosine, Method, Phase, Problem, setting

Ones = tuple[tuple[Tensor, ...], dict[str, Tensor]]  # arguments by position and by keyword
SKIPPED = (
    *ELEMENTWISE,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
    nn.LocalResponseNorm,
    nn.modules.instancenorm._InstanceNorm,
)


def scored(model: nn.Module) -> list[str]:
    """The weights that have a flow: those of Linear and convolution layers, by the keys of
    `prunable`.

    The projections of attention meet in a softmax, the weights of recurrent layers in gates,
    so that neither carries a share of R. Raises ValueError for a model without layers to
    score, for gates, and for a weight that other modules hold too.
    """
    found = [key for key, module, _ in prunable(model) if isinstance(module, WEIGHTED)]
    if not found:
        raise ValueError(
            "model: has no Linear or convolution layer, whose weights have a flow"
        )
    return list(shares.sizes(model, found))


def synflow(model: nn.Module, inputs: Examples) -> dict[str, Tensor]:
    """The synaptic flow through each weight (Eq. 2), in float64, keyed as all scores.

    Parameters
    ----------
    inputs : a tensor, a tuple of tensors for the positional arguments, or a dict of tensors
        for keyword arguments. They give the shape of a sample; the values of floating point
        numbers are not used.

    Linear and convolution layers have a score. Pruned weights carry no flow. The model is left
    as it was. Warns of prunable weights that have no score, of weights that no flow reaches
    although nothing is pruned, and of a model whose flow is not proportional to its inputs,
    because of an activation or a product in a forward pass: there the law holds in parts only.

    Raises ValueError for a model without layers to score, and for one with differences or a
    softmax, whose flow is negative or nothing; TypeError for inputs that are no floating point
    numbers.
    """
    ones = _ones(inputs)
    keys = scored(model)
    found, total, twice = _scores(model, ones, keys)
    if others := [key for key, _, _ in prunable(model) if key not in keys]:
        notice(
            f"model: {others} have no score, because no flow can be told for the weights of"
            " attention and recurrent layers; they stay dense"
        )
    owners = shares.owners(model, keys)
    bare = {
        key: count
        for key, score in found.items()
        if (count := int(((score == 0) & (masks.effective(*owners[key]) != 0)).sum()))
    }
    if bare and all(masks.kept(*owner).all() for owner in owners.values()):
        if not any(score.any() for score in found.values()):
            raise ValueError(
                "model: no flow reaches the outputs where the inputs are ones; needs a model"
                " that adds up paths, without differences and softmax"
            )
        notice(
            f"model: no flow runs through some weights, {bare}, so that they score 0 and go"
            " first; they lead nowhere, or an operation such as attention or the choice of an"
            " expert takes no notice of them where the inputs are ones"
        )
    if not torch.isclose(twice, 2 * total, rtol=1e-6, atol=0):
        notice(
            "model: the flow is not proportional to the inputs, because its forward pass has"
            " activations other than ReLU, products, or sums with constants; the scores of a"
            " layer need not sum to the flow"
        )
    return found


def _sum(outputs: object) -> Tensor:
    """Of all outputs, also of those in a dict or a tuple."""
    found = [each.sum() for each in tree_leaves(outputs) if isinstance(each, Tensor)]
    if not found:
        raise TypeError(f"model: returns a {type(outputs).__name__}, needs a tensor in it")
    return torch.stack(found).sum()


def _scores(
    model: nn.Module, ones: Ones, keys: list[str]
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Eq. 2 for the weights of `keys`, Eq. 1, and the flow of inputs of twos."""
    args, kwargs = ones
    flow = plain_copy(model).double()
    for module in list(flow.modules()):
        for name, child in module.named_children():
            batch_norm = isinstance(child, nn.modules.batchnorm._BatchNorm)
            if batch_norm and child.running_mean is not None:
                child.running_mean.zero_()
            elif batch_norm or isinstance(child, SKIPPED):
                setattr(module, name, nn.Identity())
    for name, parameter in flow.named_parameters():
        parameter.requires_grad_(False)
        parameter.zero_() if "bias" in name.rpartition(".")[2] else parameter.abs_()
    owners = {key: module for key, module, _ in prunable(flow) if key in keys}
    weights = [owners[key].weight.requires_grad_() for key in keys]
    if broken := [k for k, w in zip(keys, weights, strict=True) if not w.isfinite().all()]:
        raise ValueError(
            f"model: the weights of {broken} have NaN or infinite entries, needs finite ones"
        )
    with evaluating(flow), torch.enable_grad():
        total = _sum(flow(*args, **kwargs))  # Eq. 1
        twice = _sum(flow(*map(_twice, args), **{k: _twice(x) for k, x in kwargs.items()}))
    gradients = torch.autograd.grad(total, weights, materialize_grads=True)
    found = {
        key: gradient * weight.detach()  # Eq. 2
        for key, gradient, weight in zip(keys, gradients, weights, strict=True)
    }
    least = -1e-9 * max(score.abs().max().item() for score in found.values() if score.numel())
    if negative := [k for k, score in found.items() if score.numel() and score.min() < least]:
        raise ValueError(
            f"model: the flow through {negative} is negative; needs a model that adds up"
            " paths, without differences and softmax"
        )
    return found, total.detach(), twice.detach()


def _ones(inputs: Examples) -> Ones:
    """One sample of ones; integers, such as a graph's edges, stay as they are."""
    args, kwargs = arguments(inputs)
    given = [*args, *kwargs.values()]
    if not any(x.is_floating_point() for x in given):
        kinds = ", ".join(str(x.dtype) for x in given)
        raise TypeError(
            f"inputs: got {kinds}, needs floating point numbers, because the flow"
            " starts with ones in the place of the inputs, which embeddings do not take"
        )
    alike = len({len(x) for x in given if x.dim()}) == 1

    def ones(x: Tensor) -> Tensor:
        x = x[:1] if alike and x.dim() else x
        return torch.ones_like(x, dtype=torch.float64) if x.is_floating_point() else x

    return tuple(map(ones, args)), {name: ones(x) for name, x in kwargs.items()}


def _twice(x: Tensor) -> Tensor:
    return 2 * x if x.is_floating_point() else x


def prune(
    model: nn.Module,
    inputs: Examples,
    weights: int,
    rounds: int = 100,
    allocation: shares.Shares = "global",
) -> nn.Module:
    """Keep exactly `weights` weights by the flow through them, over `rounds` rounds (Eq. 3).

    Parameters
    ----------
    inputs : as in `synflow`.
    weights : of the Linear and convolution layers, which have a score; others are not counted
        and stay dense. A pruned model loses weights from those that it has left.
    allocation : how layers share the weights, see `pruning.methods.shares`.

    In place; returns the model. Warns and raises as `synflow`, and ValueError for values out
    of range.
    """
    if rounds < 1:
        raise ValueError(f"rounds: got {rounds!r}, needs 1 or more")
    keys = scored(model)
    final = shares.by_layer(shares.sizes(model, keys), weights, allocation)
    full = shares.left(model, final, keys)
    scores = synflow(model, inputs)
    for done, kept in enumerate(shares.descending(full, final, rounds)):
        if done:
            scores = _scores(model, _ones(inputs), keys)[0]
        shares.keep_largest(model, scores, kept)
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
