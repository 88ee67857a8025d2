r"""One-shot scores and pruning by them: the neighbours that the three methods are compared with.

A score is {layer name: tensor shaped as the weight}, larger = keep; `prune_by_score` turns any of them into
masks (`networks.masks`). W is a layer's weight (outputs first), x one of its inputs over the samples.

    magnitude   |W|
    wanda       |W| · ‖x‖₂                                  Sun et al. 2023, arXiv:2306.11695
    snip        |W · ∂L/∂W|                                 Lee et al. 2018, arXiv:1810.02340
    nnrelief    mean |W·x| as a share of its neuron's       Dekhovich et al. 2021, arXiv:2109.10795
    stade       W² · Var(x)                                 Mecke et al. 2025, arXiv:2503.22451
    ria         (|W| / column sum + |W| / row sum) · ‖x‖₂^½   Zhang et al. 2024, ICLR

Wanda, STADE and NNrelief compare weights of one neuron: use them with ``scope="neuron"`` for the papers'
own reading (NNrelief also globally, see there).
"""

import math
import warnings
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from pruning.networks.layers import (
    InputStatistics,
    batches,
    input_statistics,
    layers,
    reached,
    spread,
    visit_inputs,
    weight,
)
from pruning.networks.masks import kept, set_mask

Scores = dict[str, Tensor]
SCOPES = ("global", "layer", "neuron")


def magnitude(model: nn.Module) -> Scores:
    """|W|: what magnitude pruning keeps the largest of. Raises ValueError for a model without layers."""
    return {name: weight(layer).abs() for name, layer in layers(model).items()}


def random_scores(model: nn.Module, generator: torch.Generator | None = None) -> Scores:
    """Uniform in [0, 1): random pruning, from a CPU generator where one is given."""
    return {
        name: torch.rand(layer.weight.shape, generator=generator).to(layer.weight.device)
        for name, layer in layers(model).items()
    }


def _by_inputs(model, inputs, formula: Callable[[Tensor, InputStatistics, Callable], Tensor]) -> Scores:
    statistics = input_statistics(model, inputs)
    return {
        name: formula(
            weight(layer),
            statistics[name],
            lambda feature, layer=layer: spread(layer, feature).to(layer.weight.dtype),
        )
        for name, layer in layers(model).items()
    }


def wanda(model: nn.Module, inputs: Tensor | Iterable[Tensor]) -> Scores:
    """|W| · ‖x‖₂ (arXiv:2306.11695, Eq. 1), meant to be compared within each output neuron.

    `inputs` is one tensor, samples first, or an iterable of batches; the same in `nnrelief`, `stade`, `ria`.
    Raises ValueError where it has no samples or a layer is not reached.
    """
    return _by_inputs(model, inputs, lambda w, s, shaped: w.abs() * shaped(s.norm))


def stade(model: nn.Module, inputs: Tensor | Iterable[Tensor]) -> Scores:
    """W² · Var(x) (arXiv:2503.22451): the variance a weight adds to its neuron. The mean it adds can go
    into the bias, see `prune_by_score`."""
    return _by_inputs(model, inputs, lambda w, s, shaped: w.square() * shaped(s.variance))


def ria(model: nn.Module, inputs: Tensor | Iterable[Tensor]) -> Scores:
    """(|W| / Σ of its input's column + |W| / Σ of its neuron's row) · ‖x‖₂^½ (ICLR 2024)."""

    def formula(w, s, shaped):
        size = w.abs()
        row = size.flatten(1).sum(1).view(-1, *[1] * (w.dim() - 1))
        return (_share(size, size.sum(0)) + _share(size, row)) * shaped(s.norm.sqrt())

    return _by_inputs(model, inputs, formula)


def _share(part: Tensor, total: Tensor) -> Tensor:
    """part / total, and 0 where the total is 0."""
    return torch.where(total > 0, part / total, 0.0)


def nnrelief(model: nn.Module, inputs: Tensor | Iterable[Tensor]) -> Scores:
    """What the connections stronger than this one leave of their neuron's total (arXiv:2109.10795).

    The importance of a connection is mean |W·x|, the bias is one more connection with |b|, and NNrelief keeps
    the strongest that make up a share α of each neuron's total. A connection is kept if those before it
    reach less than α: that is score > 1 − α, so one global threshold on this score is the paper's rule.
    """
    sums = dict.fromkeys(layers(model), 0.0)
    samples = dict.fromkeys(sums, 0)

    def visit(name, layer, x):
        sums[name] = sums[name] + x.abs().sum(0, dtype=torch.float64)
        samples[name] += len(x)

    visit_inputs(model, inputs, visit)
    reached(model, samples)
    scores = {}
    for name, layer in layers(model).items():
        w = weight(layer)
        strength = w.double().abs() * spread(layer, sums[name] / samples[name])
        bias = w.new_zeros(len(w)) if layer.bias is None else layer.bias.detach().abs()
        connections = torch.cat([strength.flatten(1), bias.double()[:, None]], 1)
        share = _share(connections, connections.sum(1, keepdim=True))
        order = share.argsort(dim=1, descending=True, stable=True)
        before = share.gather(1, order).cumsum(1) - share.gather(1, order)
        left = torch.empty_like(share).scatter_(1, order, 1 - before)
        # a neuron that is always 0 has no shares: its connections are the last to keep
        left = torch.where(connections.sum(1, keepdim=True) > 0, left, 0.0)
        scores[name] = left[:, :-1].reshape(w.shape).to(w.dtype)
    return scores


def snip(
    model: nn.Module,
    inputs: Tensor | Iterable[Tensor],
    targets: Tensor | Iterable[Tensor],
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
) -> Scores:
    """Connection sensitivity |W · ∂L/∂W| (arXiv:1810.02340, Eq. 6), L the mean loss over all samples.

    Computed in the model's present mode; gradients already stored in it stay. The paper takes it at
    initialisation with ``scope="global"``. Raises ValueError if inputs and targets do not pair up.
    """
    found = layers(model)
    weights = [layer.weight for layer in found.values()]
    if isinstance(inputs, Tensor) and isinstance(targets, Tensor) and len(inputs) != len(targets):
        raise ValueError(f"targets: got {len(targets)} for {len(inputs)} inputs, needs as many")
    total, samples = [torch.zeros_like(w) for w in weights], 0
    for x, y in zip(batches(inputs), batches(targets, "targets"), strict=True):
        # a pruned layer's weight is computed when it is read, so the loss must be asked for that tensor
        with parametrize.cached():
            outputs = model(x)
            weights = [layer.weight for layer in found.values()]
        for sums, grad in zip(total, torch.autograd.grad(loss(outputs, y), weights), strict=True):
            sums += grad * len(x)
        samples += len(x)
    return {
        name: (layer.weight.detach() * sums / samples).abs()
        for (name, layer), sums in zip(found.items(), total, strict=True)
    }


def _removed(scores: Tensor, pruned: Tensor, count: int) -> Tensor:
    """True at the `count` lowest scores of each row, those pruned already first, equal ones by position."""
    if count == 0:
        return torch.zeros_like(pruned)
    scores = scores.masked_fill(pruned, -math.inf)
    threshold = scores.kthvalue(count, dim=1, keepdim=True).values
    lowest = scores <= threshold
    if (lowest.sum(1) == count).all():
        return lowest
    below, equal = scores < threshold, scores == threshold
    return below | (equal & (equal.cumsum(1) <= count - below.sum(1, keepdim=True)))


def _count(sparsity: float, weights: int) -> int:
    """⌈sparsity · weights⌉, where 0.1 · 30 is 3 and not the 3.0000000000000004 of floating point."""
    return math.ceil(sparsity * weights - 1e-6)


def _checked(
    model: nn.Module, scores: Scores, sparsity: float | dict[str, float], scope: str
) -> dict[str, nn.Module]:
    fractions = sparsity.values() if isinstance(sparsity, dict) else [sparsity]
    if not all(0 <= fraction < 1 for fraction in fractions):
        raise ValueError(f"sparsity: got {sparsity!r}, needs a fraction removed in [0, 1)")
    if scope not in SCOPES:
        raise ValueError(f"scope: got {scope!r}, needs one of {SCOPES}")
    if isinstance(sparsity, dict) and (scope == "global" or sparsity.keys() != scores.keys()):
        raise ValueError(
            f"sparsity: got one for {sorted(sparsity)} with scope {scope!r}, "
            f"needs one for each of {sorted(scores)} with scope 'layer' or 'neuron', or a single number"
        )
    if not scores:
        raise ValueError("scores: got none, needs the score of at least one layer")
    known = layers(model)
    for name, score in scores.items():
        if name not in known:
            raise ValueError(f"scores: got layer {name!r}, needs some of {sorted(known)}")
        if score.shape != known[name].weight.shape:
            raise ValueError(
                f"scores: got shape {tuple(score.shape)} for layer {name!r}, "
                f"needs {tuple(known[name].weight.shape)}"
            )
        if score.isnan().any():
            raise ValueError(f"scores: got NaN in layer {name!r}, needs numbers")
    return {name: known[name] for name in scores}


@torch.no_grad()
def prune_by_score(
    model: nn.Module,
    scores: Scores,
    sparsity: float | dict[str, float],
    scope: str = "global",
    input_means: dict[str, InputStatistics] | None = None,
) -> nn.Module:
    """Remove the weights with the lowest scores: a `Mask` on each layer.

    Parameters
    ----------
    scores : {layer name: tensor shaped as the weight}, larger = keep. Only these layers are pruned.
    sparsity : fraction removed, in [0, 1). ⌈sparsity · N⌉ weights are removed, N being all that were
        scored ("global"), those of each layer ("layer") or of each output neuron ("neuron").
        Where layers do not compete, a fraction a layer may be given: {layer name: fraction}.
        Equal scores go in the order of layers and positions. Weights pruned before stay pruned and count.
    scope : where scores compete.
    input_means : from `input_statistics`, to move what the removed weights gave on average, W · E[x], into
        the biases (STADE's correction; layers without a bias are left alone).

    In place; returns the model. Warns where a layer loses all its weights. Raises ValueError, before
    anything is changed, for values out of range, unknown layers, other shapes, and NaN.
    """
    found = _checked(model, scores, sparsity, scope)
    flat = {name: score.detach().flatten(1) for name, score in scores.items()}
    kept_now = {name: kept(layer) for name, layer in found.items()}
    pruned = {name: ~mask.flatten(1) for name, mask in kept_now.items()}
    if scope == "global":
        one = torch.cat([score.reshape(1, -1) for score in flat.values()], 1)
        gone = torch.cat([p.reshape(1, -1) for p in pruned.values()], 1)
        lost = _removed(one, gone, _count(sparsity, one.numel()))
        removed = dict(zip(flat, lost.split([score.numel() for score in flat.values()], 1), strict=True))
    else:
        fraction = sparsity if isinstance(sparsity, dict) else dict.fromkeys(flat, sparsity)
        rows = {name: (1, -1) if scope == "layer" else flat[name].shape for name in flat}
        removed = {
            name: _removed(
                flat[name].reshape(rows[name]),
                pruned[name].reshape(rows[name]),
                _count(fraction[name], flat[name].reshape(rows[name]).shape[1]),
            )
            for name in flat
        }
    for name, layer in found.items():
        mask = ~removed[name].view(layer.weight.shape) & kept_now[name]
        if not mask.any():
            warnings.warn(f"layer {name!r} has no weight left", stacklevel=2)
        if input_means is not None and layer.bias is not None:
            mean = spread(layer, input_means[name].mean).to(layer.bias.dtype)
            layer.bias += (weight(layer) * mean * ~mask).flatten(1).sum(1)
        set_mask(layer, mask)
    return model
