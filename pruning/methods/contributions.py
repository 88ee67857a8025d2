r"""The contributions of weights to their neurons, over data: what `pruning.methods.relative`
scores.

For a weight w of a neuron with pre-activation z = Σ_k w_k·a_k + b, activation f and input a,
on one sample:

    relative    c = |w·a| / (Σ_k |w_k·a_k| + |b|)      its share of what its neuron adds up
    absolute    c = w·a
    output      c = |f(z) − f(z − w·a)|      what the neuron's output changes without it

and c = 0 (first two) where z and z − w·a lie in the same blind range of f: an interval on
which |f′| is at most a tolerance, so that the weight changes nothing there.

A layer's activation is the module its output goes into directly; behind batch norm, pooling or
a functional activation there is none, and no blind range.

Without blind ranges c is w times a number u of the neuron (its share, 1 / total) and one of
the input, so Σ c = w ⊙ (uᵀ a) and Σ c² = w² ⊙ ((u²)ᵀ a²) are matrix products. With them, u is
0 on the samples on which the neuron is blind, and then the contributions are added that lead
out of a blind range. They are few: only pairs of a sample and a neuron are searched whose z is
nearer to an end of the range than the neuron's largest weight times the sample's largest
input.
"""

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pruning.methods.activations import activations_after, blind_ranges
from pruning.networks.batches import BATCH, Batches, batches
from pruning.networks.layers import Visit, Weight, visit_layers, weights
from pruning.networks.positions import Positions

Kind = Literal["relative", "absolute", "output"]
KINDS = get_args(Kind)
CHUNK = 2**17  # numbers that a cache holds, where contributions are looked at one by one
SHORT = 8  # batches that are summed in float32
SAFE = 1e15  # float32 holds a number from 1 / SAFE to SAFE, its square and its inverse


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


def _inside(z: Tensor, ranges: list[tuple[float, float]]) -> Tensor:
    """1 where z lies in one of the ranges, 0 elsewhere, in z's dtype: faster than booleans."""
    inside = None
    for low, high in ranges:
        if low == -math.inf:
            here = z.clone().le_(high)
        elif high == math.inf:
            here = z.clone().ge_(low)
        else:
            here = z.clone().le_(high).mul_(z.clone().ge_(low))
        inside = here if inside is None else inside.add_(here)
    return torch.zeros_like(z) if inside is None else inside


class _Moments:
    """Σ c / w, Σ (c / w)² ("output": Σ c, Σ c²) and counts of a layer.

    Sums are float32 within `SHORT` batches and float64 beyond. Where contributions hardly vary
    in a batch, float32 is too short for the difference of the two sums: these neurons are
    summed in float64.
    """

    def __init__(self, weight: Weight, activation: nn.Module | None, kind: str, ranges: list):
        self.weight, self.activation, self.kind, self.ranges = weight, activation, kind, ranges
        self.w, self.bias = (
            weight.matrix(),
            weight.bias(),
        )  # (groups, outputs, inputs), (groups, outputs)
        self.size = self.w.abs()
        self.largest = self.size.max().item()
        self.samples, self.blind = 0, self.w.new_zeros(self.w.shape[:2], dtype=torch.float64)
        self.sums = [torch.zeros_like(self.w, dtype=torch.float64) for _ in range(2)]
        self.recent, self.pending = [torch.zeros_like(self.w) for _ in range(2)], 0

    def add(self, call: Visit) -> None:
        """Take in a batch."""
        x, z = (
            t.transpose(0, 1).contiguous() for t in (call.x, call.z)
        )  # (groups, samples, …)
        if (
            not x.dtype == z.dtype == self.w.dtype
        ):  # half precision: z again, from the numbers that c is computed from
            x = x.to(self.w.dtype)
            z = x @ self.w.mT + (0 if self.bias is None else self.bias[:, None])
        far = max(abs(call.low), abs(call.high))
        dtype = self.w.dtype if 1 / SAFE < far < SAFE else torch.float64
        if not 1 / SAFE < far * self.largest < SAFE:  # of a product: z may be 0 or infinite
            dtype, x, w = torch.float64, x.double(), self.w.double()
            z = x @ w.mT + (0 if self.bias is None else self.bias[:, None])
        inside = _inside(z, self.ranges) if self.ranges else None
        self.samples += x.shape[1]
        if inside is not None:
            self.blind += inside.sum(1)
        if self.kind == "output":
            sums = _output_sums(*(t.to(dtype) for t in (x, self.w, z)), self.activation)
        else:
            sums = self._sums(x, z, inside, call.low >= 0, dtype)
        if sums[0].dtype == torch.float64:
            return self._add_exact(sums)
        spread = torch.addcmul(
            sums[1], sums[0], sums[0], value=-1.001 / x.shape[1]
        )  # Σ c² − 1.001 (Σ c)² / n
        if spread.amin() < 0:
            rows = (spread.amin(2) < 0).any(0).nonzero().flatten()
            self._add_exact(self._sums(x, z, inside, call.low >= 0, torch.float64, rows), rows)
            for short in sums:
                short[:, rows] = 0
        for recent, short in zip(self.recent, sums, strict=True):
            recent += short
        self.pending += 1
        if self.pending == SHORT:
            self._flush()

    def _add_exact(
        self, sums: tuple[Tensor, Tensor], rows: Tensor | slice = slice(None)
    ) -> None:
        for total, part in zip(self.sums, sums, strict=True):
            total[:, rows] += part

    def _flush(self) -> None:
        self._add_exact(self.recent)
        self.recent, self.pending = [recent.zero_() for recent in self.recent], 0

    def _sums(
        self,
        x: Tensor,
        z: Tensor,
        inside: Tensor | None,
        positive: bool,
        dtype: torch.dtype,
        rows: Tensor | slice = slice(None),
    ) -> tuple[Tensor, Tensor]:
        """Σ c / w and Σ (c / w)² over the samples, (groups, outputs, inputs), of all neurons
        or some."""
        a = (x if positive or self.kind == "absolute" else x.abs()).to(dtype)
        if self.kind == "absolute":
            share = torch.ones_like(z[..., rows], dtype=dtype)
        else:
            size = self.size[:, rows].to(dtype).mT
            if self.bias is None:
                share = a @ size
            else:
                share = torch.baddbmm(self.bias[:, None, rows].abs().to(dtype), a, size)
            least, most = (end.item() for end in share.aminmax())
            if least == 0:  # neurons without any contribution, of which every share is 0
                share.masked_fill_(share == 0, math.inf)
                least = share.amin().item()
            if dtype != torch.float64 and not (least > 1 / SAFE and most < SAFE):
                return self._sums(x, z, inside, positive, torch.float64, rows)
            share = share.reciprocal_()
        seen = share
        if inside is not None:  # u of the neurons that are not blind: u − u · inside
            seen = torch.addcmul(share, share, inside[..., rows].to(dtype), value=-1)
        first = seen.mT @ a
        second = seen.square().mT @ a.square()
        w, z = self.w[:, rows].to(z.dtype), z[..., rows]
        for low, high in self.ranges:
            within = inside[..., rows] if len(self.ranges) == 1 else _inside(z, [(low, high)])
            if math.isfinite(low):
                _add_escapes(first, second, x, a, w, share, z - low, within, positive)
            if math.isfinite(high):
                _add_escapes(first, second, x, a, -w, share, high - z, within, positive)
        return first, second

    def result(self) -> ContributionStatistics:
        """The statistics of all that was added."""
        self._flush()
        w = self.w.double()
        factor = {"relative": w.abs(), "absolute": w, "output": torch.ones_like(w)}[self.kind]
        mean, square = (total.div_(self.samples) for total in self.sums)
        std = square.addcmul_(mean, mean, value=-1).clamp_min_(0).sqrt_().mul_(factor.abs())
        mean, std = self.weight.shaped(mean.mul_(factor)), self.weight.shaped(std)
        return ContributionStatistics(
            self.samples, mean, std, (self.blind / self.samples).flatten()
        )


def _add_escapes(first, second, x, a, outwards, share, margin, inside, positive):
    """Add the contributions of blind neurons that are larger than their margin to an end of
    the range.

    x, a (groups, samples, inputs); outwards, the signed weights, (groups, outputs, inputs);
    share, margin and inside (groups, samples, outputs). What escapes is decided in the model's
    precision, in which z is known. Pairs of a sample and a neuron that are near enough are
    looked at in blocks of inputs.
    """
    inputs, same = x.shape[2], a is x
    block = min(
        range(min(128, inputs), min(64, inputs) - 1, -1), key=lambda size: -inputs % size
    )
    if inputs % block:
        x, a, outwards = (F.pad(t, (0, -inputs % block)) for t in (x, a, outwards))
    x, a, outwards = (
        t.reshape(-1, block) for t in (x, a, outwards)
    )  # rows of one sample or one output
    blocks = -(-inputs // block)
    reach, most = (
        (t if positive else t.abs()).amax(1).view(-1, blocks) for t in (x, outwards)
    )
    bound = reach.amax(1).view(*share.shape[:2], 1) * most.amax(1).view(len(share), 1, -1)
    # floats are compared and multiplied faster than booleans
    group, output, sample = bound.gt_(margin).mul_(inside).mT.nonzero(as_tuple=True)
    margin, share = margin[group, sample, output], share[group, sample, output]
    output, sample = (
        group * most.shape[0] // len(first) + output,
        group * inside.shape[1] + sample,
    )
    near = reach.index_select(0, sample).mul_(most.index_select(0, output)) > margin[:, None]
    at, pair = near.t().nonzero(as_tuple=True)
    row, source, place = (
        output[pair] * blocks + at,
        sample[pair] * blocks + at,
        at * len(most) + output[pair],
    )
    sums = [
        outwards.new_zeros(outwards.shape, dtype=first.dtype) for _ in range(2)
    ]  # rows by `place`
    step = max(1, CHUNK // block)
    for start in range(0, len(pair), step):
        part = slice(start, start + step)
        parts, factor = x.index_select(0, source[part]), share[pair[part]]
        escapes = outwards.index_select(0, row[part]).mul_(parts)
        escapes.gt_(margin[pair[part], None])  # 1 where a contribution escapes, else 0
        parts = (parts if same else a.index_select(0, source[part])).mul_(escapes)
        low, high = place[start].item(), place[part][-1].item() + 1  # places go upwards
        counts = torch.bincount(place[part] - low, minlength=high - low)
        starts, every = counts.cumsum(0) - counts, torch.arange(len(parts), device=x.device)
        for total in sums:
            added = F.embedding_bag(
                every, parts, starts, mode="sum", per_sample_weights=factor
            )
            total[low:high] += added
            parts, factor = parts.square_(), factor.square()
    for total, added in zip((first, second), sums, strict=True):
        added = added.view(blocks, *total.shape[:2], block).permute(1, 2, 0, 3)
        total += added.reshape(*total.shape[:2], -1)[..., :inputs]


def _output_sums(x, w, z, activation):
    """Σ c and Σ c² of c = |f(z) − f(z − w·x)|, every one of them computed."""
    f = activation or nn.Identity()
    first = torch.zeros(w.shape, dtype=torch.float64, device=w.device)
    second = torch.zeros_like(first)
    for part_x, part_z in zip(
        *(t.split(max(1, CHUNK // w[:1].numel()), dim=1) for t in (x, z)), strict=True
    ):
        before = part_z[..., None]
        c = (f(before.clone()) - f(before - part_x[:, :, None, :] * w[:, None])).abs()
        first += c.sum(1, dtype=torch.float64)
        second += c.square().sum(1, dtype=torch.float64)
    return first, second


def contribution_statistics(
    model: nn.Module,
    inputs: Batches,
    kind: Kind = "relative",
    tolerance: float | None = None,
    blind: bool = True,
    *,
    layers: Iterable[str] | None = None,
    ignore: Iterable[str] | None = None,
    batch_size: int = BATCH,
    positions: Positions | None = None,
) -> dict[str, ContributionStatistics]:
    """Mean and standard deviation of every weight's contribution, and how often its neuron is
    blind.

    Parameters
    ----------
    inputs : one tensor, samples first, or batches of any form as in `wanda`, read once.
    kind : "relative", "absolute" or "output", see the module.
    tolerance : of the blind range, see `blind_ranges`; "output" needs none.
    blind : count contributions within a blind range as 0; False ignores blind ranges.
    layers, ignore : names of weights, or of modules that hold them, to look at and to leave
        out.
    batch_size : samples at a time, which bounds the memory of the pass.
    positions : of padded sequences those that count, as in `wanda`.

    One pass in evaluation mode, constant memory, moments in float64 from matrix products in
    the model's precision. "output" computes samples × weights numbers one by one: give it
    thousands of samples, not all.

    Raises ValueError for an unknown kind, a tolerance out of range, no samples, inputs of a
    layer that are NaN or infinite, a layer not reached, or one whose output goes into
    different activations.
    """
    if kind not in KINDS:
        raise ValueError(f"kind: got {kind!r}, needs one of {KINDS}")
    chosen = weights(model, layers, ignore)
    stream = batches(inputs, batch_size, model=model)
    first = next(stream)
    after = activations_after(model, first)
    moments = {}
    for key, weight in chosen.items():
        ranges = blind_ranges(after.get(key), tolerance) if blind else []
        moments[key] = _Moments(weight, after.get(key), kind, ranges)
    visit_layers(
        model,
        itertools.chain([first], stream),
        chosen,
        lambda call: moments[call.weight.key].add(call),
        batch_size,
        positions,
    )
    return {key: moment.result() for key, moment in moments.items()}


def contributions(
    model: nn.Module,
    inputs: Batches,
    layer: str,
    outputs: Tensor,
    sources: Tensor,
    kind: Kind = "relative",
) -> Tensor:
    """Contributions of chosen weights of a Linear layer, sample by sample: (samples, weights).

    `outputs` and `sources` are the weights' rows and columns. Blind ranges at the default
    tolerance. What `contribution_statistics` sums up, for looking at its distribution.
    """
    if kind not in KINDS:
        raise ValueError(f"kind: got {kind!r}, needs one of {KINDS}")
    found = weights(model)
    if layer not in found or not isinstance(found[layer].module, nn.Linear):
        raise ValueError(f"layer: got {layer!r}, needs a Linear layer of {sorted(found)}")
    activation = activations_after(model, next(batches(inputs))).get(layer)
    w, bias, ranges = found[layer].matrix()[0], found[layer].bias(), blind_ranges(activation)
    parts = []

    def visit(call: Visit) -> None:
        x, z = call.x[:, 0], call.z[:, 0, outputs]
        before = c = w[outputs, sources] * x[:, sources]
        if kind == "output":
            f = activation or nn.Identity()
            parts.append((f(z.clone()) - f(z - c)).abs())
            return
        if kind == "relative":
            total = (x.abs() @ w.abs().T + (0.0 if bias is None else bias.abs()))[:, outputs]
            c = torch.where(total > 0, c.abs() / total, 0.0)
        if ranges:
            unseen = sum(_inside(z, [each]) * _inside(z - before, [each]) for each in ranges)
            c = c.masked_fill(unseen > 0, 0.0)
        parts.append(c)

    visit_layers(model, inputs, {layer: found[layer]}, visit)
    return torch.cat(parts)
