"""Which positions of padded sequences count as samples, in a pass over data.

A Linear layer in a language model is applied to every position of every sequence, padded ones
included. What comes out there is never read, so it should not count in a score.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pruning.networks.notices import notice

Positions = Callable[[Any], Tensor]


def real_positions(batch: Any, positions: Positions | None) -> Tensor | None:
    """(samples, length), True where a position of the batch counts; None where all count.

    Raises ValueError where `positions` gives something else.
    """
    if positions is None:
        return None
    found = positions(batch)
    if not isinstance(found, Tensor) or found.dim() != 2:
        got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(
            f"positions: gave {got} for a batch, needs a tensor (samples, length), 1 or True"
            " where a position counts"
        )
    return found != 0


def say_padded(batch: Any) -> bool:
    """Warn if a batch says, as Hugging Face's do, that it has padded positions; whether it
    does."""
    mask = batch.get("attention_mask") if isinstance(batch, Mapping) else None
    padded = isinstance(mask, Tensor) and mask.dim() == 2 and bool((mask == 0).any())
    if padded:
        notice(
            "inputs: the attention_mask is 0 at padded positions, which count as samples all"
            " the same; positions=lambda batch: batch['attention_mask'] leaves them out"
        )
    return padded


def rows_that_count(
    key: str, module: nn.Module, leading: torch.Size | None, real: Tensor | None
) -> Tensor | None:
    """Which rows of a layer's input, flattened to (rows, features), count; None for all.

    leading : its shape without the features, or None for several sequences. The shapes
        (samples, length, …) and (samples · length,) are counted by position, and (samples,)
        is counted whole.

    Raises ValueError for other shapes.
    """
    if real is None or leading == real.shape[:1]:
        return None
    if isinstance(module, nn.MultiheadAttention) and not module.batch_first:
        real = real.T
    if leading is not None and leading[:2] == real.shape:
        return real.reshape(*real.shape, *[1] * (len(leading) - 2)).expand(leading).flatten()
    if leading == (real.numel(),):
        return real.flatten()
    got = "several sequences" if leading is None else f"inputs of {(*leading, 'features')}"
    raise ValueError(
        f"positions: are {tuple(real.shape)} for a batch, but layer {key!r} gets {got}; name"
        " it in ignore=, or score it without positions"
    )
