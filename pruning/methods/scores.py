r"""One-shot scores and pruning by them: the neighbours that the three methods are compared
with.

A score is {layer name: tensor shaped as the weight}, larger = keep; `prune_by_score` turns any
of them into masks (`networks.masks`). W is a layer's weight (outputs first), x one of its
inputs over the samples.

    magnitude   |W|
    wanda       |W| · ‖x‖₂                                  Sun et al. 2023, arXiv:2306.11695
    snip        |W · ∂L/∂W|                                 Lee et al. 2018, arXiv:1810.02340
    nnrelief    mean |W·x| as a share of its neuron's   Dekhovich et al. 2021, arXiv:2109.10795
    stade       W² · Var(x)                                 Mecke et al. 2025, arXiv:2503.22451
    ria         (|W| / column sum + |W| / row sum) · ‖x‖₂^½   Zhang et al. 2024, ICLR

Wanda, STADE and NNrelief compare weights of one neuron: use them with ``scope="neuron"`` for
the papers' own reading (NNrelief also globally, see there).
"""

import contextlib
import math
import numbers
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import zip_longest
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils._pytree import tree_leaves

from pruning.networks.batches import (
    BATCH,
    Batches,
    call,
    classes_exist,
    length,
    not_finite,
    pairs,
    same_buffers,
)
from pruning.networks.columns import bias, from_matrix, groups, to_matrix
from pruning.networks.layers import (
    InputStatistics,
    Visit,
    input_statistics,
    visit_layers,
    weights,
)
from pruning.networks.masks import check_ungated, effective, kept, set_mask
from pruning.networks.notices import say_emptied
from pruning.networks.positions import Positions
from pruning.networks.prunable import Model, check_untied, check_weight, listed

Scores = dict[str, Tensor]
Names = Iterable[str] | None
Scope = Literal["global", "layer", "neuron"]
SCOPES = get_args(Scope)


def magnitude(model: nn.Module, *, layers: Names = None, ignore: Names = None) -> Scores:
    """|W|. Magnitude pruning keeps the weights with the largest.

    `layers` and `ignore` name the weights to score, as in `wanda`, in every score.
    Raises ValueError for a model without weights, for gates, and for weights that are not
    finite.
    """
    return {
        key: weight.value().abs() for key, weight in weights(model, layers, ignore).items()
    }


def random_scores(
    model: nn.Module,
    generator: torch.Generator | None = None,
    *,
    layers: Names = None,
    ignore: Names = None,
) -> Scores:
    """Uniform in [0, 1): random pruning, from a CPU generator where one is given."""
    values = {key: weight.value() for key, weight in weights(model, layers, ignore).items()}
    return {
        key: torch.rand(w.shape, generator=generator).to(w.device) for key, w in values.items()
    }


def _by_inputs(
    model: nn.Module,
    inputs: Batches,
    of_weight: Callable[[Tensor], Tensor],
    of_input: Callable[[InputStatistics], Tensor],
    options: tuple[Names, Names, int, Positions | None],
) -> Scores:
    """`of_weight` (groups, outputs, inputs) times `of_input` (groups, inputs).

    In the weight's precision, float32 or more; in float64 where that overflows or underflows.
    """
    statistics = input_statistics(model, inputs, *options)
    scores = {}
    for key, weight in weights(model, statistics).items():
        w, feature = weight.matrix(), of_input(statistics[key])[:, None]
        score, exact = of_weight(w) * feature.to(w.dtype), of_weight(w.double()) * feature
        fits = score.isfinite().all() and torch.equal(score == 0, exact == 0)
        scores[key] = weight.shaped(score if fits else exact)
    return scores


def wanda(
    model: nn.Module,
    inputs: Batches,
    *,
    layers: Names = None,
    ignore: Names = None,
    batch_size: int = BATCH,
    positions: Positions | None = None,
) -> Scores:
    """|W| · ‖x‖₂ (arXiv:2306.11695, Eq. 1), meant to be compared within each output neuron.

    Parameters
    ----------
    inputs : one tensor, samples first, or batches as `pruning.networks.batches.batches` takes
        them: tensors, pairs (inputs, targets), dicts of arguments, or what a ``DataLoader``
        yields.
    layers, ignore : names of weights, or of modules that hold them, to score and to leave out.
    batch_size : samples at a time, which bounds the memory of a pass; a larger batch is split.
    positions : which positions of padded sequences count. It is a function of a batch, as the
        model is called with it, and gives a tensor (samples, length), 1 or True where a
        position counts, such as ``lambda batch: batch["attention_mask"]``. By default every
        position is a sample, with a warning where an "attention_mask" in the batch says
        otherwise.

    The same in `nnrelief`, `stade`, `ria`. Scores are float32 for models of half precision,
    and float64 where float32 overflows. Raises ValueError where there are no samples, inputs
    of a layer are NaN or infinite, a layer is not reached, or what its weight is multiplied
    with cannot be seen (recurrent layers).
    """
    options = layers, ignore, batch_size, positions
    return _by_inputs(model, inputs, torch.abs, lambda s: s.norm, options)


def stade(
    model: nn.Module,
    inputs: Batches,
    *,
    layers: Names = None,
    ignore: Names = None,
    batch_size: int = BATCH,
    positions: Positions | None = None,
) -> Scores:
    """W² · Var(x) (arXiv:2503.22451): the variance a weight adds to its neuron. The mean it
    adds can go into the bias, see `prune_by_score`. Parameters as in `wanda`."""
    options = layers, ignore, batch_size, positions
    return _by_inputs(model, inputs, torch.square, lambda s: s.variance, options)


def ria(
    model: nn.Module,
    inputs: Batches,
    *,
    layers: Names = None,
    ignore: Names = None,
    batch_size: int = BATCH,
    positions: Positions | None = None,
) -> Scores:
    """(|W| / Σ of its input's column + |W| / Σ of its neuron's row) · ‖x‖₂^½ (ICLR 2024).

    Parameters as in `wanda`. A column of a grouped convolution is one input within its group.
    """

    def relative(w: Tensor) -> Tensor:
        size = w.abs()
        return _share(size, size.sum(1, keepdim=True)) + _share(
            size, size.sum(2, keepdim=True)
        )

    options = layers, ignore, batch_size, positions
    return _by_inputs(model, inputs, relative, lambda s: s.norm.sqrt(), options)


def _share(part: Tensor, total: Tensor) -> Tensor:
    """part / total, and 0 where the total is 0."""
    return torch.where(total > 0, part / total, 0.0)


def nnrelief(
    model: nn.Module,
    inputs: Batches,
    *,
    layers: Names = None,
    ignore: Names = None,
    batch_size: int = BATCH,
    positions: Positions | None = None,
) -> Scores:
    """The share of a neuron's total that all stronger connections leave (arXiv:2109.10795).

    The importance of a connection is mean |W·x|, the bias is one more connection with |b|, and
    NNrelief keeps the strongest that make up a share α of each neuron's total. A connection is
    kept if those before it reach less than α: that is score > 1 − α, so one global threshold
    on this score is the paper's rule. Parameters as in `wanda`.
    """
    chosen = weights(model, layers, ignore)
    sums = dict.fromkeys(chosen, 0.0)
    samples = dict.fromkeys(chosen, 0)

    def visit(call: Visit) -> None:
        sums[call.weight.key] = sums[call.weight.key] + call.x.abs().sum(
            0, dtype=torch.float64
        )
        samples[call.weight.key] += len(call.x)

    visit_layers(model, inputs, chosen, visit, batch_size, positions)
    scores = {}
    for key, weight in chosen.items():
        w, bias = weight.matrix(), weight.bias()
        strength = w.double().abs() * (sums[key] / samples[key])[:, None]
        bias = w.new_zeros(w.shape[:2]) if bias is None else bias.abs()
        connections = torch.cat([strength, bias.double()[..., None]], 2)
        share = _share(connections, connections.sum(2, keepdim=True))
        order = share.argsort(dim=2, descending=True, stable=True)
        before = share.gather(2, order).cumsum(2) - share.gather(2, order)
        left = torch.empty_like(share).scatter_(2, order, 1 - before)
        # a neuron that is always 0 has no shares: its connections are the last to keep
        left = torch.where(connections.sum(2, keepdim=True) > 0, left, 0.0)
        scores[key] = weight.shaped(left[..., :-1]).to(w.dtype)
    return scores


def snip(
    model: nn.Module,
    inputs: Batches,
    targets: Tensor | Iterable[Tensor] | None = None,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    *,
    layers: Names = None,
    ignore: Names = None,
    batch_size: int = BATCH,
) -> Scores:
    """Connection sensitivity |W · ∂L/∂W| (arXiv:1810.02340, Eq. 6), L the mean loss over all
    samples.

    Parameters
    ----------
    inputs : as in `wanda`.
    targets : as many as inputs, in the same batches; None where `inputs` yields pairs (inputs,
        targets), whose targets are a tensor, or a tuple, list or dict of them, as several
        tasks have them.
    loss : (outputs, targets) ↦ 0-dim tensor, the mean over the batch. Of a tuple of targets it
        gets a list. The default suits classification, with an output a class; a regression
        needs a loss of its own, such as ``torch.nn.functional.mse_loss``.

    Computed in the model's present mode, with gradients also under ``torch.no_grad``; buffers
    (running statistics), gradients already stored, and what is frozen stay as they are. The
    paper takes it at initialisation with ``scope="global"``. Raises ValueError if inputs and
    targets do not pair up, the default loss is given a single output a sample, of which it is
    constant, a loss is not finite, a layer is not reached, or batch norm in training mode gets
    a batch of one sample.
    """
    chosen = weights(model, layers, ignore)
    if (
        isinstance(inputs, Tensor)
        and isinstance(targets, Tensor)
        and len(inputs) != len(targets)
    ):
        raise ValueError(
            f"targets: got {len(targets)} for {len(inputs)} inputs, needs as many"
        )
    values = {key: weight.value() for key, weight in chosen.items()}
    total, samples = {key: torch.zeros_like(value) for key, value in values.items()}, 0
    with same_buffers(model), _trainable(model):
        for x, y, size in _with_targets(inputs, targets, batch_size):
            # a pruned layer's weight is computed when it is read, so the loss must be asked
            # for that tensor
            with torch.inference_mode(False), torch.enable_grad(), parametrize.cached():
                outputs = _trained(model, x, size)
                if loss is F.cross_entropy:
                    _check_classes(outputs)
                with classes_exist(outputs):
                    value = loss(outputs, y)
                read = [getattr(weight.module, weight.parameter) for weight in chosen.values()]
            if not isinstance(value, Tensor) or value.numel() != 1:
                got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                raise ValueError(
                    f"loss: gave {got} on a batch, needs one number, the mean over the batch;"
                    " see reduction="
                )
            if not value.isfinite():
                raise ValueError(
                    f"loss: got {value.item()} on a batch, needs a finite number;"
                    f" {not_finite(model, x)}"
                )
            gradients = torch.autograd.grad(value, read, allow_unused=True)
            for key, gradient in zip(chosen, gradients, strict=True):
                if gradient is None:
                    raise ValueError(
                        f"model: the loss does not depend on layer {key!r}; name it in ignore="
                    )
                total[key] += gradient.to(total[key].dtype) * size
            samples += size
    return {key: (value * total[key] / samples).abs() for key, value in values.items()}


@contextlib.contextmanager
def _trainable(model: nn.Module) -> Iterator[None]:
    """Parameters that are frozen have gradients in the block."""
    frozen = [p for p in model.parameters() if not p.requires_grad]
    try:
        for p in frozen:
            p.requires_grad_(p.is_floating_point())
        yield
    finally:
        for p in frozen:
            p.requires_grad_(False)


def _trained(model: nn.Module, x: Any, size: int) -> Any:
    """The outputs for a batch, in the model's present mode."""
    try:
        return call(model, x)
    except ValueError as error:
        if size > 1 or "more than 1 value per channel" not in str(error):
            raise
        raise ValueError(
            "inputs: got a batch of one sample, of which batch norm in training mode has no"
            " variance; needs two samples or more in every batch (a DataLoader with"
            " drop_last=True, or another batch_size), or model.eval()"
        ) from error


def _check_classes(outputs: Any) -> None:
    """Raise TypeError for outputs that are no tensor, ValueError for those of which the
    cross-entropy is constant."""
    if not isinstance(outputs, Tensor):
        raise TypeError(
            "loss: got the default, torch.nn.functional.cross_entropy, for outputs that are a"
            f" {type(outputs).__name__}; needs a loss that takes them, such as"
            ' lambda outputs, targets: cross_entropy(outputs["logits"], targets)'
        )
    if outputs.dim() == 1 or outputs.shape[1:2] == (1,):
        raise ValueError(
            "loss: got the default, torch.nn.functional.cross_entropy, for outputs of shape"
            f" {tuple(outputs.shape)}: with one output a sample it is constant, so every score"
            " would be 0; needs a loss for one output, such as torch.nn.functional.mse_loss or"
            " binary_cross_entropy_with_logits"
        )


def _with_targets(inputs: Batches, targets: Tensor | Iterable[Tensor] | None, batch_size: int):
    """Batches of (inputs, targets, number of samples)."""
    found = (
        pairs(_of_two(inputs), batch_size)
        if targets is None
        else _paired(inputs, targets, batch_size)
    )
    for x, y in found:
        size = length(x)
        parts = [each for each in tree_leaves(y) if isinstance(each, Tensor) and each.dim()]
        if not parts:
            raise ValueError(
                "targets: got None and batches without targets, needs pairs (inputs, targets)"
            )
        if wrong := [len(each) for each in parts if len(each) != size]:
            raise ValueError(
                f"targets: got a batch of {wrong[0]} for {size} inputs, needs as many"
            )
        yield x, y, size


def _paired(inputs: Batches, targets: Tensor | Iterable[Tensor], batch_size: int):
    """Batches of inputs with those of the targets, as many."""
    labels = pairs(targets, batch_size, "targets")
    for given, wanted in zip_longest(pairs(inputs, batch_size), labels):
        if given is None or wanted is None:
            number = "more" if given is None else "fewer"
            raise ValueError(f"targets: got {number} batches than inputs, needs as many")
        yield given[0], wanted[0]


def _of_two(inputs: Batches) -> Iterator[Any]:
    """The batches, of which none has more parts than inputs and targets: the rest would be
    dropped."""
    for batch in [inputs] if isinstance(inputs, (Tensor, Mapping)) else inputs:
        if isinstance(batch, (tuple, list)) and len(batch) > 2:
            raise ValueError(
                f"inputs: got a batch of {len(batch)} parts, needs pairs (inputs, targets);"
                " targets of several tasks go into one tuple, (inputs, (first, second))"
            )
        yield batch


def _removed(scores: Tensor, pruned: Tensor, count: int) -> Tensor:
    """True at the `count` lowest scores of each row, those pruned already first, equal ones by
    position."""
    if count == 0:
        return torch.zeros_like(pruned)
    lowest_score = torch.finfo(scores.dtype).min  # −inf itself is for what is pruned already
    scores = scores.clamp_min(lowest_score).masked_fill(pruned, -math.inf)
    threshold = scores.kthvalue(count, dim=1, keepdim=True).values
    lowest = scores <= threshold
    if (lowest.sum(1) == count).all():
        return lowest
    below, equal = scores < threshold, scores == threshold
    return below | (equal & (equal.cumsum(1) <= count - below.sum(1, keepdim=True)))


def _count(sparsity: float, weights: int) -> int:
    """⌈sparsity · weights⌉, where 0.1 · 30 is 3 and not the 3.0000000000000004 of floating
    point."""
    return math.ceil(sparsity * weights - 1e-6)


def check_mapping(scores: object) -> None:
    """Raise TypeError for scores that are no dict."""
    if not isinstance(scores, Mapping):
        raise TypeError(
            f"scores: got {type(scores).__name__}, needs a dict of a tensor for each layer"
        )


def owners(model: nn.Module, scores: Scores) -> dict[str, tuple[nn.Module, str]]:
    """The module and parameter of each weight that has a score, by its key.

    Raises TypeError for scores that are no dict of tensors of floating point numbers, and
    ValueError for none, an unknown key, a gated layer, a weight that other modules hold too,
    another shape, and NaN.
    """
    check_mapping(scores)
    if not scores:
        raise ValueError("scores: got none, needs the score of at least one layer")
    known = {key: (module, parameter) for key, module, parameter in listed(model)}
    check_untied(model, scores, "leave both out of the scores, as ignore={places} does it")
    check_ungated(model, scores)
    for name, score in scores.items():
        if name not in known:
            raise ValueError(f"scores: got layer {name!r}, needs some of {sorted(known)}")
        check_weight(name, *known[name])
        if not isinstance(score, Tensor) or not score.is_floating_point():
            kind = score.dtype if isinstance(score, Tensor) else type(score).__name__
            raise TypeError(
                f"scores: got {kind} for layer {name!r}, needs a tensor of floating point"
                " numbers"
            )
        shape = kept(*known[name]).shape
        if score.shape != shape:
            raise ValueError(
                f"scores: got shape {tuple(score.shape)} for layer {name!r}, needs"
                f" {tuple(shape)}"
            )
        if score.isnan().any():
            raise ValueError(f"scores: got NaN in layer {name!r}, needs numbers")
    return {name: known[name] for name in scores}


def _checked(
    model: nn.Module, scores: Scores, sparsity: float | dict[str, float], scope: str
) -> dict[str, tuple[nn.Module, str]]:
    check_mapping(scores)
    fractions = sparsity.values() if isinstance(sparsity, dict) else [sparsity]
    if not all(
        isinstance(fraction, numbers.Real) and 0 <= fraction < 1 for fraction in fractions
    ):
        raise ValueError(f"sparsity: got {sparsity!r}, needs a fraction removed in [0, 1)")
    if scope not in SCOPES:
        raise ValueError(f"scope: got {scope!r}, needs one of {SCOPES}")
    if isinstance(sparsity, dict) and (scope == "global" or sparsity.keys() != scores.keys()):
        raise ValueError(
            f"sparsity: got one for {sorted(sparsity)} with scope {scope!r}, needs one for"
            f" each of {sorted(scores)} with scope 'layer' or 'neuron', or a single number"
        )
    return owners(model, scores)


def _check_means(found: dict[str, tuple[nn.Module, str]], input_means: object) -> None:
    """Raise ValueError unless there are statistics of each layer with a bias to move."""
    for name, owner in found.items():
        if bias(*owner, trained=True) is None:
            continue
        given = input_means.get(name) if isinstance(input_means, dict) else input_means
        if not isinstance(given, InputStatistics):
            raise ValueError(
                f"input_means: got {type(given).__name__} for layer {name!r}, needs what"
                " pruning.input_statistics gives for the layers that are pruned"
            )


@torch.no_grad()
def prune_by_score(
    model: Model,
    scores: Scores,
    sparsity: float | dict[str, float],
    scope: Scope = "global",
    input_means: dict[str, InputStatistics] | None = None,
) -> Model:
    """Remove the weights with the lowest scores: a `Mask` on each layer.

    Parameters
    ----------
    scores : {layer name: tensor shaped as the weight}, larger = keep. Only these layers are
        pruned.
    sparsity : fraction removed, in [0, 1). ⌈sparsity · N⌉ weights are removed, N being all
        that were scored ("global"), those of each layer ("layer") or of each output neuron
        ("neuron"). Where layers do not compete, a fraction a layer may be given: {layer name:
        fraction}. Equal scores go in the order of layers and positions. Weights pruned before
        stay pruned and count.
    scope : where scores compete.
    input_means : from `input_statistics`, to move what the removed weights gave on average, W
        · E[x], into the biases (STADE's correction; layers without a bias are left alone).

    In place; returns the model. An optimizer that holds the weights goes on; its saved state
    or a moving average from before does not fit afterwards, because parametrizing puts a
    weight behind its bias in ``model.parameters()``. Warns of layers that lose all their
    weights. Raises ValueError, before anything is changed, for values out of range, unknown
    layers, a weight that other modules hold too, other shapes, and NaN.
    """
    found = _checked(model, scores, sparsity, scope)
    if input_means is not None:
        _check_means(found, input_means)
    kept_now = {name: kept(*owner) for name, owner in found.items()}

    def rows(name: str, values: Tensor) -> Tensor:
        """What competes, one row each."""
        return (
            to_matrix(*found[name], values).flatten(0, 1)
            if scope == "neuron"
            else values.reshape(1, -1)
        )

    flat = {name: rows(name, score.detach()) for name, score in scores.items()}
    pruned = {name: ~rows(name, mask) for name, mask in kept_now.items()}
    if scope == "global":
        one, gone = (torch.cat(list(parts.values()), 1) for parts in (flat, pruned))
        lost = _removed(one, gone, _count(sparsity, one.numel()))
        removed = dict(
            zip(flat, lost.split([score.numel() for score in flat.values()], 1), strict=True)
        )
    else:
        fraction = sparsity if isinstance(sparsity, dict) else dict.fromkeys(flat, sparsity)
        removed = {
            name: _removed(
                flat[name], pruned[name], _count(fraction[name], flat[name].shape[1])
            )
            for name in flat
        }
    emptied = []
    for name, (module, parameter) in found.items():
        lost = removed[name]
        if scope == "neuron":
            matrix = lost.unflatten(0, (groups(module, parameter), -1))
            lost = from_matrix(module, parameter, matrix, kept_now[name].shape)
        mask = ~lost.view(kept_now[name].shape) & kept_now[name]
        if not mask.any():
            emptied.append(name)
        if (
            input_means is not None
            and (shift := bias(module, parameter, trained=True)) is not None
        ):
            w, gone = (
                to_matrix(module, parameter, t) for t in (effective(module, parameter), ~mask)
            )
            shift += (w * input_means[name].mean.to(shift.dtype)[:, None] * gone).sum(2)
        set_mask(module, mask, parameter)
    say_emptied(emptied)
    return model
