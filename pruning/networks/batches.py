"""Batches of any form, and a model in evaluation mode for the time of a pass over them."""

import contextlib
import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils._pytree import tree_leaves

from pruning.bounds import check_whole
from pruning.networks.notices import notice

BATCH = 1000  # samples at a time, unless the caller says otherwise
Batches = Tensor | Mapping[str, Any] | Iterable[Any]


def batches(
    inputs: Batches,
    batch_size: int = BATCH,
    argument: str = "inputs",
    model: nn.Module | None = None,
) -> Iterator[Tensor | Mapping[str, Any]]:
    """What a model is called with, at most `batch_size` samples at a time.

    `inputs` is one tensor, samples first; one dict of the model's arguments by keyword; or an
    iterable of batches, such as a ``DataLoader``, read once. A batch is a tensor, a dict, or a
    tuple or list whose first element is one of them, (inputs, targets) for instance. The other
    elements are not given to the model: warns where `model` takes several arguments and there
    are three elements or more, such as (ids, mask, targets).

    Raises TypeError for a batch of another type, ValueError for no samples, a batch size below
    1, and a dict to be split whose tensors have different lengths, other than 1.
    """
    for batch, _ in pairs(inputs, batch_size, argument, model):
        yield batch


def pairs(
    inputs: Batches,
    batch_size: int = BATCH,
    argument: str = "inputs",
    model: nn.Module | None = None,
) -> Iterator[tuple]:
    """As `batches`, each with the targets that its tuple or list holds in second place, or
    None."""
    check_whole("batch_size", batch_size, 1)
    whole = isinstance(inputs, (Tensor, Mapping, PackedSequence))
    if not whole and not hasattr(inputs, "__iter__") and not hasattr(inputs, "__getitem__"):
        raise TypeError(
            f"{argument}: got {type(inputs).__name__}, needs a tensor, a dict of tensors, or"
            " an iterable of batches"
        )
    empty = True
    for batch in [inputs] if whole else inputs:
        parts = isinstance(batch, (tuple, list)) and not isinstance(batch, PackedSequence)
        first, *rest = batch if parts and batch else (batch,)
        if empty and model is not None:
            _say_left_out(model, first, rest)
        targets = rest[0] if rest else None
        samples = length(first, argument)
        empty = empty and samples == 0
        if samples > batch_size and (others := uneven(first)):
            raise ValueError(
                f"{argument}: {others} are not as long as the {samples} samples, so that parts"
                f" of batch_size={batch_size} would not belong together; needs"
                f" batch_size={samples}, or smaller batches"
            )
        starts = list(range(0, samples, batch_size))
        if samples % batch_size == 1 and samples > 1 and batch_size > 2:
            starts[-1] -= 1  # batch norm in training mode cannot take a last batch of one
        for start, stop in itertools.pairwise([*starts, samples]):
            part = slice(start, stop)
            yield _part(first, part, samples), _part(targets, part, samples)
    if empty:
        raise ValueError(f"{argument}: got no samples, needs at least one")


def _say_left_out(model: nn.Module, first: Any, rest: list) -> None:
    """Warn where a batch has parts that the model could take, besides targets."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    taken = [
        p for p in inspect.signature(model.forward).parameters.values() if p.kind in kinds
    ]
    several = len(taken) > 1 and not isinstance(taken[1].default, bool)
    if several and len(rest) > 1 and not isinstance(first, Mapping):
        notice(
            f"inputs: of each batch of {len(rest) + 1} parts the model gets the first alone;"
            f" to give it more, make a dict of its arguments {[p.name for p in taken]}"
        )


def length(batch: Any, argument: str = "inputs") -> int:
    """How many samples a batch has: the length of its first tensor."""
    tensors = batch.values() if isinstance(batch, Mapping) else [batch]
    for tensor in tensors:
        if isinstance(tensor, Tensor) and tensor.layout != torch.strided:
            raise TypeError(
                f"{argument}: got a batch stored as {tensor.layout}, needs a dense tensor; see"
                " Tensor.to_dense, or to_padded_tensor"
            )
        if isinstance(tensor, Tensor) and tensor.dim():
            return len(tensor)
    raise TypeError(
        f"{argument}: got a batch of type {type(batch).__name__}, needs a tensor with samples"
        " first, a dict of such tensors, or a tuple or list that begins with one of them"
    )


def uneven(batch: Any) -> list[str]:
    """The tensors of a dict that cannot be split with its samples: of another length, other
    than 1. A graph's edges are such."""
    if not isinstance(batch, Mapping):
        return []
    samples = length(batch)
    return [
        key
        for key, value in batch.items()
        if isinstance(value, Tensor) and value.dim() and len(value) not in (1, samples)
    ]


def _part(batch: Any, part: slice, samples: int) -> Any:
    """Some of a batch's samples: a slice of its tensors, and of those in a dict, a tuple or a
    list."""
    if isinstance(batch, Mapping):
        return {key: _part(value, part, samples) for key, value in batch.items()}
    if isinstance(batch, (tuple, list)):
        return [_part(value, part, samples) for value in batch]
    if isinstance(batch, Tensor) and batch.dim() and len(batch) == samples:
        return batch[part]
    return batch


def call(model: nn.Module, batch: Tensor | Mapping[str, Any]) -> Any:
    """The model's output for one of `batches`.

    Raises TypeError for a dict with a key that is no argument of the model's ``forward``, for
    a batch that lacks one, and for numbers of another dtype than the model's where it cannot
    compute with them.
    """
    mapped = isinstance(batch, Mapping)
    try:
        return model(**batch) if mapped else model(batch)
    except TypeError as error:
        if f"{type(model).__name__}.forward() missing" in str(error):
            raise TypeError(
                f"inputs: {error}; a model of several arguments needs batches that are dicts"
                " of them, and labels go beside it: ({…}, labels)"
            ) from error
        for key in batch if mapped else ():
            if f"unexpected keyword argument {key!r}" in str(error):
                raise TypeError(
                    f"inputs: got a batch with {key!r}, which {type(model).__name__} does not"
                    " take; a dict needs the arguments of the model's forward alone, and"
                    " labels go beside it: (inputs, targets) or ({…}, labels)"
                ) from error
        raise
    except RuntimeError as error:
        if "dtype" not in str(error) and "scalar type" not in str(error):
            raise
        wanted = next((p.dtype for p in model.parameters() if p.is_floating_point()), None)
        found = {x.dtype for x in tree_leaves(batch) if isinstance(x, Tensor)} - {wanted}
        if wanted is None or not found:
            raise
        got = ", ".join(map(str, found))
        raise TypeError(
            f"inputs: got {got}, the model computes in {wanted}; see Tensor.to"
        ) from error


def not_finite(model: nn.Module, batch: Tensor | Mapping[str, Any]) -> str:
    """For an error: which module is the first whose outputs for a batch are NaN or
    infinite."""
    found: list[str] = []

    def after(name: str) -> Callable:
        def hook(module, args, outputs):
            numbers = [x for x in tree_leaves(outputs) if isinstance(x, Tensor)]
            if not all(bool(x.isfinite().all()) for x in numbers):
                found.append(name)

        return hook

    handles = [
        module.register_forward_hook(after(name))
        for name, module in model.named_modules()
        if not any(module.children())
    ]
    try:
        with torch.no_grad():
            call(model, batch)
    finally:
        for handle in handles:
            handle.remove()
    where = f"layer {found[0]!r} is the first that gives" if found else "no layer gives"
    return f"{where} NaN or infinite numbers; check the inputs and the weights"


@contextlib.contextmanager
def classes_exist(outputs: object) -> Iterator[None]:
    """A class of the targets that the outputs lack is named by the argument, not by torch."""
    try:
        yield
    except IndexError as error:
        if "out of bounds" not in str(error) or not isinstance(outputs, Tensor):
            raise
        raise ValueError(
            f"targets: {str(error).rstrip('.')}; needs classes from 0 to"
            f" {outputs.shape[1] - 1}, as many as the model has outputs"
        ) from error


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """`evaluation_mode`, in which attention layers run without their fused kernels, which
    would bypass the layers inside, and after which buffers are what they were: some models
    count or average in evaluation mode too."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with evaluation_mode(model), same_buffers(model):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


@contextlib.contextmanager
def same_buffers(model: nn.Module) -> Iterator[None]:
    """Buffers are the same objects after the block, and hold what they held before."""
    buffers = [
        (module, name, buffer, buffer.clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    try:
        yield
    finally:
        with torch.no_grad():
            for module, name, buffer, before in buffers:
                module._buffers[name] = buffer
                if not torch.equal(buffer, before):
                    buffer.copy_(before)


@contextlib.contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, after which each submodule is in the mode that it was in before."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
