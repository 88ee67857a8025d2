"""The one training loop. Data lie in memory, batches are index lists, methods join in by
hooks."""

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from pruning.bounds import check_whole
from pruning.networks.batches import call, classes_exist, evaluation_mode, not_finite
from pruning.training.checkpoints import Checkpoint, Progress

# whether every training shows a bar: set by the command `pruning run`
SHOW_PROGRESS: ContextVar[bool] = ContextVar("show_progress", default=False)


class TrainingError(RuntimeError):
    """The loss stopped being a finite number."""


class Callback:
    """What a method does during training; every hook does nothing by default.

    `progress` is the fraction of steps taken so far, in [0, 1).
    """

    def start(self, model: nn.Module) -> None:
        """Before the optimizer is built: parameters may be added or masked here."""

    def penalty(self, model: nn.Module, progress: float) -> Tensor | None:
        """After the forward pass: a 0-dim term added to the loss, or None."""

    def after_step(self, model: nn.Module, progress: float) -> None:
        """After the optimizer's step."""

    def after_epoch(self, model: nn.Module, epoch: int) -> dict[str, float]:
        """After an epoch (counted from 1). Returns what is added to the epoch's entry of the
        history. The model must stay as it is."""
        return {}

    def finish(self, model: nn.Module) -> None:
        """After the last step."""

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must keep beyond the model's own state and what `start` sets up
        again."""
        return {}

    def load(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` returned; called after `start`."""


def check_progress(progress: float) -> None:
    """Raise ValueError unless `progress` is the fraction of a training, in [0, 1]."""
    if not 0 <= progress <= 1:
        raise ValueError(
            f"progress: got {progress!r}, needs the fraction of the training that has passed,"
            " in [0, 1]"
        )


def adam(model: nn.Module, lr: float = 1e-3) -> torch.optim.Optimizer:
    """torch's Adam in its fused form, the fastest on the CPU and on a GPU."""
    return torch.optim.Adam(model.parameters(), lr=lr, fused=True)


def _order(samples: int, generators: Sequence[torch.Generator] | None) -> Tensor:
    """In which order an epoch takes the samples: (samples,), or for a stack (networks,
    samples)."""
    if generators is None:
        return torch.randperm(samples)
    return torch.stack(
        [torch.randperm(samples, generator=generator) for generator in generators]
    )


def _check_finite(
    model: nn.Module, opt: torch.optim.Optimizer, sums: Tensor, where: str
) -> None:
    """Raise TrainingError, unless the sums of losses and every parameter are finite."""
    if torch.isfinite(sums).all() and all(
        bool(p.isfinite().all()) for p in model.parameters()
    ):
        return
    raise TrainingError(
        f"summed loss {sums[0].item()} and penalty {sums[1].item()} in {where}; "
        f"lower the learning rate (now {[group['lr'] for group in opt.param_groups]})"
    )


@contextlib.contextmanager
def _flushed_denormals() -> Iterator[None]:
    """Denormal numbers as 0 for a time: Adam's moments of a pruned weight decay into them,
    which makes its step 10 times slower. The setting is put back as it was; torch has no call
    that reads it.
    """
    before = (torch.tensor(1e-40) * 1).item() == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def _check_pairs(inputs: Tensor, targets: Tensor) -> None:
    for name, given in {"inputs": inputs, "targets": targets}.items():
        if not isinstance(given, Tensor):
            raise TypeError(
                f"{name}: got {type(given).__name__}, needs one tensor with all samples; a"
                " model that takes something else needs a loop of its own"
            )
    if len(inputs) != len(targets) or len(inputs) == 0:
        raise ValueError(
            f"targets: got {len(targets)} for {len(inputs)} inputs, needs as many, at"
            " least one"
        )


def fit(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    epochs: int,
    batch_size: int = 256,
    optimizer: Callable[[nn.Module], torch.optim.Optimizer] = adam,
    schedule: Callable[[float], float] | None = None,
    callbacks: Iterable[Callback] = (),
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    augment: Callable[[Tensor], Tensor] | None = None,
    precision: torch.dtype | None = None,
    checkpoint: Checkpoint | None = None,
    seed: int = 0,
    generators: Sequence[torch.Generator] | None = None,
    progress: bool = False,
) -> list[dict[str, float]]:
    """Train a model in place.

    Parameters
    ----------
    model : maps (batch, …) inputs to what `loss` takes; on the same device as the data.
    inputs, targets : the whole training set, samples first.
    epochs, batch_size : passes over the data (0 does nothing but the hooks), samples a step.
    optimizer : builds the optimizer from the model, after the callbacks' `start`.
    schedule : progress in [0, 1) ↦ factor on every learning rate.
    callbacks : the methods that take part, see `Callback`.
    loss : (outputs, targets) ↦ 0-dim tensor, the mean over the batch.
    augment : a batch of inputs ↦ the batch to train on, e.g. `images.crop_and_flip`.
    precision : the dtype of torch.autocast, e.g. torch.bfloat16; None for none.
    checkpoint : where to keep the state of the training. If the file is there, the training
        continues from it, to the same weights bit for bit. Give the model as it was at the
        first call.
    seed : fixes the order of the batches and everything sampled in training (gates, dropout);
        the caller's random state is left as it was.
    generators : of a stack of networks (`pruning.stacks`), one each, on the CPU, in place of
        the seed: network k takes its batches in the order that generators[k] gives.
    progress : show a bar.

    Returns
    -------
    One dict an epoch: epoch (from 1), loss (mean, without penalties), penalty (mean), and what
    the callbacks' `after_epoch` adds.

    Raises
    ------
    ValueError : inputs and targets of different lengths or none, epochs or batch_size out of
        range, a checkpoint of a stack.
    TypeError : inputs or targets that are no tensor, an optimizer or a learning rate
        scheduler in place of a function.
    TrainingError : the loss of an epoch is not finite; the model is left at the end of that
        epoch, the checkpoint at its last good state.
    CheckpointError : the checkpoint is another training's, or damaged.
    """
    _check_pairs(inputs, targets)
    check_whole("epochs", epochs, 0)
    check_whole("batch_size", batch_size, 1)
    if checkpoint is not None and generators is not None:
        raise ValueError(
            "checkpoint: got one for a stack of networks, needs None; a stack starts anew"
        )
    for name, given in {"optimizer": optimizer, "schedule": schedule}.items():
        if given is not None and not callable(given):
            raise TypeError(
                f"{name}: got a {type(given).__name__}, needs a function: optimizer(model)"
                " builds one, schedule(progress) gives a factor on its learning rates"
            )
    callbacks, device = list(callbacks), inputs.device
    settings = {
        "epochs": epochs,
        "batch_size": batch_size,
        "samples": len(inputs),
        "seed": seed,
    }
    devices = [device] if device.type == "cuda" else []
    with _flushed_denormals(), torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        for callback in callbacks:
            callback.start(model)
        opt = optimizer(model)
        rates = [group["lr"] for group in opt.param_groups]
        at = (
            Progress()
            if checkpoint is None
            else checkpoint.load(model, opt, callbacks, settings)
        )
        batches = -(-len(inputs) // batch_size)
        model.train()
        bar = tqdm(
            total=epochs,
            initial=len(at.history),
            disable=not (progress or SHOW_PROGRESS.get()),
            unit="epoch",
            leave=False,
        )
        for epoch in range(len(at.history) + 1, epochs + 1):
            where = f"epoch {epoch} of {epochs}"
            if at.order is None:
                # sums are read once an epoch: no synchronisation in between
                at.order, at.taken, at.sums = (
                    _order(len(inputs), generators),
                    0,
                    torch.zeros(2),
                )
            at.order, at.sums = at.order.to(device), at.sums.to(device)
            for index in at.order.split(batch_size, -1)[at.taken :]:
                done = ((epoch - 1) * batches + at.taken) / (epochs * batches)
                if schedule is not None:
                    factor = schedule(done)
                    for group, rate in zip(opt.param_groups, rates, strict=True):
                        group["lr"] = rate * factor
                x = inputs[index] if augment is None else augment(inputs[index])
                with torch.autocast(device.type, precision, enabled=precision is not None):
                    outputs = call(model, x)
                outputs = outputs if precision is None else outputs.float()
                with classes_exist(outputs):
                    prediction_loss = loss(outputs, targets[index])
                penalties = [p for c in callbacks if (p := c.penalty(model, done)) is not None]
                penalty = (
                    sum(penalties[1:], penalties[0])
                    if penalties
                    else torch.zeros((), device=device)
                )
                opt.zero_grad()
                (prediction_loss + penalty if penalties else prediction_loss).backward()
                opt.step()
                for callback in callbacks:
                    callback.after_step(model, done)
                at.sums += (
                    torch.stack([prediction_loss.detach(), penalty.detach()]) * index.shape[-1]
                )
                at.taken += 1
                if checkpoint is not None and checkpoint.due():
                    _check_finite(model, opt, at.sums, where)
                    checkpoint.save(model, opt, callbacks, at, settings)
            _check_finite(model, opt, at.sums, where)
            mean_loss, mean_penalty = (at.sums / len(inputs)).tolist()
            said = {"epoch": epoch, "loss": mean_loss, "penalty": mean_penalty}
            for callback in callbacks:
                said |= callback.after_epoch(model, epoch)
            at.history.append(said)
            at.order = None
            bar.update()
        bar.close()
        if checkpoint is not None:
            checkpoint.save(model, opt, callbacks, at, settings)
        for callback in callbacks:
            callback.finish(model)
    return at.history


@dataclass(frozen=True)
class Evaluation:
    """Mean loss and the fraction of targets whose largest logit is the right one."""

    loss: float
    accuracy: float


@torch.no_grad()
def evaluate(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    batch_size: int = 10_000,
    precision: torch.dtype | None = None,
) -> Evaluation:
    """Cross entropy and accuracy (a fraction) of a classifier in evaluation mode, over all
    samples.

    The model maps a batch to (batch, classes), or to (batch, classes, …) for a class at each
    place, such as a pixel, over which the means are taken too; `targets` are shaped as the
    outputs without the classes, int64. `precision` as in `fit`. Each module of the model is
    left in the mode it was in. Raises ValueError for no samples, for inputs and targets of
    different lengths, for a batch size below 1, for outputs without two classes or more or
    with a loss that is NaN, and for targets of another shape, another dtype, or that are no
    class of the model's; TypeError for inputs of another dtype than the model's.
    """
    _check_pairs(inputs, targets)
    if targets.dtype != torch.int64:
        raise ValueError(
            f"targets: got {targets.dtype}, needs the indices of classes, torch.int64"
        )
    check_whole("batch_size", batch_size, 1)
    loss, right, seen = 0.0, 0, 0
    with evaluation_mode(model):
        for x, y in zip(inputs.split(batch_size), targets.split(batch_size), strict=True):
            with torch.autocast(x.device.type, precision, enabled=precision is not None):
                logits = call(model, x)
            _check_classes(logits, y)
            logits = logits if precision is None else logits.float()
            if (wrong := (y < 0) | (y >= logits.shape[1])).any():
                at = wrong.nonzero()[0, 0].item()
                raise ValueError(
                    f"targets: got class {y[at].tolist()} for sample {seen + at}, needs one"
                    f" from 0 to {logits.shape[1] - 1}, as many as the model has outputs"
                )
            loss += F.cross_entropy(logits, y, reduction="sum").item()
            if math.isnan(loss):
                raise ValueError(f"model: its loss is NaN; {not_finite(model, x)}")
            right += int((logits.argmax(1) == y).sum())
            seen += len(y)
    return Evaluation(loss / targets.numel(), right / targets.numel())


def _check_classes(logits: Tensor, targets: Tensor) -> None:
    """Raise ValueError unless there are logits of two classes or more for each target."""
    if not isinstance(logits, Tensor) or logits.dim() < 2 or logits.shape[1] < 2:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(
            f"model: gave {got} for a batch, needs a tensor (batch, classes, …) with two"
            " classes or more"
        )
    shape = logits.shape[:1] + logits.shape[2:]
    if targets.shape != shape:
        raise ValueError(
            f"targets: got shape {tuple(targets.shape)} for outputs of shape"
            f" {tuple(logits.shape)}, needs {tuple(shape)}"
        )
