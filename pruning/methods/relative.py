r"""Relative importance of weights (Hussien, Afifi, Nguyen, Cheriet 2024, arXiv:2410.16151).

One reading of a paper whose full text was not available to us: its words are in the abstract, the formulas
are ours, and the chapter shows how much the reading matters. For a weight w of a neuron with pre-activation
z = Σ_k w_k·a_k + b, activation f and input a, on one sample:

    relative    c = |w·a| / (Σ_k |w_k·a_k| + |b|)      its share of what its neuron adds up
    absolute    c = w·a
    output      c = |f(z) − f(z − w·a)|                what the neuron's output changes without it

and c = 0 (first two) where z and z − w·a lie in the same blind range of f: an interval on which |f′| is at
most a tolerance, so that the weight changes nothing there. With μ and σ the mean and standard deviation of
c over the samples and l = 0, 1, … the layer,

    score = s^l · (α·|μ| + β·σ)      or      s^l · |μ|^α · σ^β

    μ  mean    σ  std    α  alpha    β  beta    s  decay    λ  the factor of `activity_penalty`

A layer's activation is the module its output goes into directly; behind batch norm, pooling or a functional
activation there is none, and no blind range.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pruning.methods.activations import activations_after, blind_ranges
from pruning.methods.oneshot import Score
from pruning.networks.layers import batches, layers, reached, visit_layers, weight
from pruning.training.recipes import setting

KINDS = ("relative", "absolute", "output")
FORMS = ("sum", "product")
BLOCK = 8
CHUNK = 2**20  # numbers at a time where samples × outputs × inputs must be looked at one by one


@dataclass(frozen=True)
class ContributionStatistics:
    """A layer's contributions over the samples.

    samples : how many; for a convolution every position of its kernel on an image is one.
    mean, std : μ and σ (divided by `samples`), float64, shaped as the weight.
    blind : fraction of the samples whose z lies in a blind range, one number an output.
    """

    samples: int
    mean: Tensor
    std: Tensor
    blind: Tensor


class _Moments:
    """Σ c, Σ c² and counts of a layer, in float64: there the difference of two sums stays exact enough."""

    def __init__(self, layer: nn.Module, activation: nn.Module | None, kind: str, ranges: list):
        self.layer, self.activation, self.kind, self.ranges = layer, activation, kind, ranges
        self.samples, self.blind, self.first, self.second = 0, 0.0, 0.0, 0.0

    def add(self, x: Tensor, z: Tensor) -> None:
        """Take in a batch: x (samples, groups, inputs), z (samples, groups, outputs)."""
        dtype = torch.promote_types(x.dtype, torch.float32)
        x, z = x.to(dtype).transpose(0, 1), z.to(dtype).transpose(0, 1)  # groups first, for matmul
        w = weight(self.layer).to(dtype).view(len(x), -1, x.shape[2])
        flat = sum(((z >= low) & (z <= high) for low, high in self.ranges), torch.zeros_like(z) > 0)
        if self.kind == "output":
            first, second = _output_sums(x, w, z, self.activation)
        else:
            first, second = self._sums(x, w, z, flat)
        self.first, self.second = self.first + first, self.second + second
        self.blind = self.blind + flat.sum(1, dtype=torch.float64).flatten()
        self.samples += x.shape[1]

    def _sums(self, x, w, z, flat):
        """Σ c and Σ c² over the samples, (groups, outputs, inputs)."""
        share = torch.ones_like(z)
        if self.kind == "relative":
            x, w, signed = x.abs(), w.abs(), (x, w)
            total = x @ w.transpose(1, 2)
            if self.layer.bias is not None:
                total += self.layer.bias.detach().abs().view(len(w), 1, -1)
            share = torch.where(total > 0, 1 / total, 0.0)
        else:
            signed = (x, w)
        seen = share.masked_fill(flat, 0.0).transpose(1, 2)
        # c is a product of a number per neuron and one per input, so its sums are matrix products:
        first = w * (seen @ x)  # Σ_s c = w ⊙ (seenᵀ x)
        second = w.square() * (seen.square() @ x.square())
        # where c hardly varies, float32 is too short for the difference of the two
        steady = second * x.shape[1] < 1.001 * first.square()
        first, second = first.double(), second.double()
        for g in steady.any(2).any(1).nonzero().flatten().tolist():
            o = steady[g].any(1)
            exact, double = seen[g, o].double(), x[g].double()
            first[g, o] = w[g, o].double() * (exact @ double)
            second[g, o] = w[g, o].double().square() * (exact.square() @ double.square())
        for low, high in self.ranges:
            for c, where in _escapes(*signed, z, low, high):
                g, s, o, i = where
                c = c.abs() * share[g, s, o] if self.kind == "relative" else c
                place = (g * w.shape[1] + o) * w.shape[2] + i
                for sums, values in ((first, c), (second, c.square())):
                    added = torch.bincount(place, values.double(), minlength=w.numel())
                    sums += added.view(w.shape)
        return first, second

    def result(self) -> ContributionStatistics:
        """The statistics of all that was added."""
        shape, n = self.layer.weight.shape, self.samples
        mean, square = (sums.view(shape) / n for sums in (self.first, self.second))
        return ContributionStatistics(n, mean, (square - mean.square()).clamp_min(0).sqrt(), self.blind / n)


def _escapes(x, w, z, low, high) -> Iterator[tuple[Tensor, tuple[Tensor, ...]]]:
    """Contributions w·x whose removal takes z out of [low, high], and their (group, sample, output, input).

    Few do, so the search narrows down: to pairs (sample, neuron) whose z is nearer to an end than the
    largest |w| times the largest |x|, then to their blocks of inputs of which that is true.
    """
    inputs = x.shape[2]
    x, w = (F.pad(t, (0, -inputs % BLOCK)).unflatten(2, (-1, BLOCK)) for t in (x, w))
    size = w.abs()
    if low == -torch.inf and (x >= 0).all():
        size = -w  # then only negative weights lead out
    size, reach = size.amax(3), x.abs().amax(3)
    margin = torch.minimum(z - low, high - z)  # negative outside
    near = (margin >= 0) & (margin < reach.amax(2)[:, :, None] * size.amax(2)[:, None, :])
    for g, s, o in (pairs.unbind(1) for pairs in near.nonzero().split(max(1, CHUNK // w.shape[2]))):
        pair, block = (reach[g, s] * size[g, o] > margin[g, s, o][:, None]).nonzero(as_tuple=True)
        g, s, o = g[pair], s[pair], o[pair]
        c = w[g, o, block] * x[g, s, block]
        at = z[g, s, o][:, None]
        leaves = c < at - high if low == -torch.inf else (c > at - low) | (c < at - high)
        one, i = leaves.nonzero(as_tuple=True)
        yield c[one, i], (g[one], s[one], o[one], block[one] * BLOCK + i)


def _output_sums(x, w, z, activation):
    """Σ c and Σ c² of c = |f(z) − f(z − w·x)|, every one of them computed."""
    f = activation or nn.Identity()
    first = torch.zeros(w.shape, dtype=torch.float64, device=w.device)
    second = torch.zeros_like(first)
    for part_x, part_z in zip(*(t.split(max(1, CHUNK // w[:1].numel()), dim=1) for t in (x, z)), strict=True):
        before = part_z[..., None]
        c = (f(before.clone()) - f(before - part_x[:, :, None, :] * w[:, None])).abs()
        first += c.sum(1, dtype=torch.float64)
        second += c.square().sum(1, dtype=torch.float64)
    return first, second


def contribution_statistics(
    model: nn.Module,
    inputs: Tensor | Iterable[Tensor],
    kind: str = "relative",
    tolerance: float | None = None,
    blind: bool = True,
) -> dict[str, ContributionStatistics]:
    """Mean and standard deviation of every weight's contribution, and how often its neuron is blind.

    Parameters
    ----------
    inputs : one tensor, samples first, or an iterable of batches, read once.
    kind : "relative", "absolute" or "output", see the module.
    tolerance : of the blind range, see `blind_ranges`; "output" needs none.
    blind : count contributions within a blind range as 0; False ignores blind ranges.

    One pass in evaluation mode, constant memory, moments in float64 from matrix products in the model's
    precision. "output" computes samples × weights numbers one by one: give it thousands of samples, not all.

    Raises ValueError for an unknown kind, a tolerance out of range, no samples, or a layer not reached.
    """
    if kind not in KINDS:
        raise ValueError(f"kind: got {kind!r}, needs one of {KINDS}")
    stream = batches(inputs)
    first = next(stream)
    after = activations_after(model, first[:1])
    moments = {
        name: _Moments(
            layer, after.get(name), kind, blind_ranges(after.get(name), tolerance) if blind else []
        )
        for name, layer in layers(model).items()
    }
    visit_layers(model, itertools.chain([first], stream), lambda name, layer, x, z: moments[name].add(x, z))
    reached(model, {name: moment.samples for name, moment in moments.items()})
    return {name: moment.result() for name, moment in moments.items()}


def relative_importance(
    stats: dict[str, ContributionStatistics],
    alpha: float = 1.0,
    beta: float = 1.0,
    decay: float = 1.0,
    form: str = "sum",
) -> dict[str, Tensor]:
    """Scores from contributions: s^l·(α·|μ| + β·σ), or s^l·|μ|^α·σ^β, {layer: tensor shaped as the weight}.

    Parameters
    ----------
    stats : from `contribution_statistics`; l counts its layers from 0 in their order.
    alpha, beta : factors of mean and deviation (exponents in the product), 0 or more, not both 0.
    decay : s > 0; below 1 later layers score lower. It matters where layers compete, ``scope="global"``;
        for layers pruned apart use `layer_sparsities`.
    form : "sum" or "product".

    A weight whose neuron is blind on all samples, with and without it, scores 0, the lowest there is.
    Raises ValueError for values out of range.
    """
    if not (alpha >= 0 and beta >= 0 and alpha + beta > 0):
        raise ValueError(f"alpha, beta: got {alpha!r}, {beta!r}, needs 0 or more, not both 0")
    if not decay > 0:
        raise ValueError(f"decay: got {decay!r}, needs a number above 0")
    if form not in FORMS:
        raise ValueError(f"form: got {form!r}, needs one of {FORMS}")

    def score(mean, std):
        if form == "sum":
            return alpha * mean.abs() + beta * std
        return mean.abs() ** alpha * std**beta

    return {name: decay**level * score(s.mean, s.std) for level, (name, s) in enumerate(stats.items())}


def layer_sparsities(model: nn.Module, sparsity: float, decay: float = 1.0) -> dict[str, float]:
    """Fractions to remove per layer, ∝ s^l and `sparsity` in all; for `prune_by_score` by layer or neuron.

    A layer whose fraction would pass 1 − 1/its weights stays there and the others take the rest. Raises
    ValueError for values out of range.
    """
    if not 0 <= sparsity < 1 or not decay > 0:
        raise ValueError(f"sparsity, decay: got {sparsity!r}, {decay!r}, needs [0, 1) and above 0")
    sizes = {name: layer.weight.numel() for name, layer in layers(model).items()}
    ratio = {name: decay**level for level, name in enumerate(sizes)}
    most = {name: 1 - 1 / size for name, size in sizes.items()}
    full: dict[str, float] = {}
    while True:
        free = [name for name in sizes if name not in full]
        rest = sparsity * sum(sizes.values()) - sum(sizes[name] * share for name, share in full.items())
        scale = rest / sum(sizes[name] * ratio[name] for name in free) if free else 0.0
        over = {name: most[name] for name in free if scale * ratio[name] > most[name]}
        if not over:
            return {name: full.get(name, scale * ratio[name]) for name in sizes}
        full |= over


def contributions(
    model: nn.Module, inputs: Tensor, layer: str, outputs: Tensor, sources: Tensor, kind: str = "relative"
) -> Tensor:
    """Contributions of chosen weights of a Linear layer, sample by sample: (samples, weights).

    `outputs` and `sources` are the weights' rows and columns. Blind ranges at the default tolerance. What
    `contribution_statistics` sums up, for looking at its distribution.
    """
    if kind not in KINDS:
        raise ValueError(f"kind: got {kind!r}, needs one of {KINDS}")
    found = layers(model)
    if not isinstance(found.get(layer), nn.Linear):
        raise ValueError(f"layer: got {layer!r}, needs a Linear layer of {sorted(found)}")
    activation = activations_after(model, inputs[:1]).get(layer)
    parts = []

    def visit(name, module, x, z):
        if name != layer:
            return
        w, x, z = weight(module), x[:, 0], z[:, 0, outputs]
        c = w[outputs, sources] * x[:, sources]
        if kind == "output":
            f = activation or nn.Identity()
            parts.append((f(z.clone()) - f(z - c)).abs())
            return
        ranges = blind_ranges(activation)
        blind = sum(
            ((torch.minimum(z, z - c) >= low) & (torch.maximum(z, z - c) <= high) for low, high in ranges),
            torch.zeros_like(c) > 0,
        )
        if kind == "relative":
            bias = 0.0 if module.bias is None else module.bias.detach().abs()
            total = (x.abs() @ w.abs().T + bias)[:, outputs]
            c = torch.where(total > 0, c.abs() / total, 0.0)
        parts.append(c.masked_fill(blind, 0.0))

    visit_layers(model, inputs, visit)
    return torch.cat(parts)


@dataclass(frozen=True)
class Settings:
    """The reading that the validation split chose among those with blind ranges."""

    kind: str = setting("absolute", "contribution: 'relative', 'absolute' or 'output'")
    alpha: float = setting(1.0, "factor α of |μ|")
    beta: float = setting(1.0, "factor β of σ")
    decay: float = setting(1.0, "s: below 1 later layers keep fewer weights")
    form: str = setting("sum", "'sum' or 'product' of mean and deviation")
    tolerance: float | None = setting(None, "of the blind ranges; None: 0.01 for smooth activations, else 0")
    blind: bool = setting(True, "whether contributions within a blind range count 0")


def importance(model: nn.Module, inputs: Tensor, settings: Settings) -> dict[str, Tensor]:
    """`relative_importance` of a model from a whole training set."""
    s = settings
    stats = contribution_statistics(model, inputs, s.kind, s.tolerance, s.blind)
    return relative_importance(stats, s.alpha, s.beta, s.decay, s.form)


RELATIVE = Score(
    "relative",
    importance,
    needs=("inputs", "settings"),
    label="relative importance",
    short="relative importance",
    colour="#332288",
    marker="o",
    settings=Settings,
)
