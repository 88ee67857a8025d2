"""N:M sparsity: of every M weights that follow one another in a row, N are kept.

Mishra et al. 2021, "Accelerating sparse deep neural networks", arXiv:2104.08378 (2:4, which
sparse tensor cores run twice as fast); Zhou et al. 2021, "Learning N:M fine-grained structured
sparse neural networks from scratch", arXiv:2102.04010.

A row is what one output multiplies: for a Linear layer its inputs, for a convolution the
inputs of each kernel position in turn, since libraries lay kernels out with the channels last.
"""

from numbers import Integral

import torch
from torch import Tensor

from pruning.methods.scores import owners
from pruning.networks.masks import kept, set_mask
from pruning.networks.prunable import Model


def n_m_mask(scores: Tensor, n: int, m: int) -> Tensor:
    """True at the `n` largest of each `m` scores that follow one another in the last
    dimension.

    Equal scores are kept in the order of their positions. Raises ValueError where the last
    dimension is no multiple of m, and for n and m out of range.
    """
    _check_sizes(n, m)
    if scores.shape[-1] % m:
        raise ValueError(
            f"scores: got rows of {scores.shape[-1]}, needs a multiple of m = {m}"
        )
    grouped = scores.unflatten(-1, (-1, m))
    order = grouped.argsort(descending=True, stable=True)[..., :n]
    return torch.zeros_like(grouped, dtype=torch.bool).scatter_(-1, order, True).flatten(-2)


def _check_sizes(n: int, m: int) -> None:
    if not (isinstance(n, Integral) and isinstance(m, Integral) and 0 < n <= m):
        raise ValueError(f"n, m: got {n!r}, {m!r}, needs whole numbers with 0 < n ≤ m")


@torch.no_grad()
def prune_n_m(model: Model, scores: dict[str, Tensor], n: int = 2, m: int = 4) -> Model:
    """Keep the `n` weights with the largest scores of every group of `m`, exactly: a `Mask` on
    each layer.

    A group is `m` successive inputs of one output: in a Linear layer, m successive columns of
    a row of its weight; in a convolution, m successive input channels (within its group) at
    one kernel position, along dimension 1 of its weight.

    Parameters
    ----------
    scores : {key: tensor shaped as the weight}, larger = keep, as `prune_by_score` takes them.
        Only these weights are pruned; what was pruned before stays pruned, and is the first to
        go in its group.
    n, m : 2 and 4 for sparse tensor cores; whole numbers.

    In place; returns the model. Raises, before anything is changed, TypeError for scores that
    are no dict of tensors, and ValueError for n and m out of range, an unknown key, a gated
    layer, a weight that other modules hold too or that is a transposed convolution's, another
    shape, NaN, and a row that is no multiple of m.

    Examples
    --------
    >>> pruning.prune_n_m(model, pruning.wanda(model, inputs, ignore=["classifier"]))
    """
    _check_sizes(n, m)
    found = owners(model, scores)
    masks = {}
    for key, score in scores.items():
        before = kept(*found[key])
        if getattr(found[key][0], "transposed", False):
            raise ValueError(
                f"scores: {key!r} is a transposed convolution, whose rows are not contiguous"
            )
        if score.shape[1] % m:
            raise ValueError(
                f"scores: {key!r} has rows of {score.shape[1]}, needs a multiple of m = {m};"
                f" leave it out of the scores, with ignore=[{key!r}] where they are computed"
            )
        inputs_last = score.masked_fill(~before, -torch.inf).movedim(1, -1)
        masks[key] = n_m_mask(inputs_last, n, m).movedim(-1, 1) & before
    for key, mask in masks.items():
        set_mask(found[key][0], mask, found[key][1])
    return model
