"""The one training loop. Data lie in memory, batches are index lists, methods join in by hooks."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm


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

    def finish(self, model: nn.Module) -> None:
        """After the last step."""


def batches(
    samples: int,
    batch_size: int,
    generator: torch.Generator | None = None,
    device: str | torch.device = "cpu",
) -> Iterator[Tensor]:
    """Index tensors of one epoch in random order; the last batch may be smaller.

    For data that fit in memory: ``inputs[index]`` on the device replaces a DataLoader's workers,
    collation and copies (`make bench` shows what that saves).
    """
    order = torch.randperm(samples, generator=generator).to(device)
    yield from order.split(batch_size)


def adam(model: nn.Module, lr: float = 1e-3) -> torch.optim.Optimizer:
    """torch's Adam in its fused form, the fastest on the CPU and on a GPU."""
    return torch.optim.Adam(model.parameters(), lr=lr, fused=True)


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
    seed: int = 0,
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
    seed : fixes the order of the batches and everything sampled in training (gates, dropout); the
        caller's random state is left as it was.
    progress : show a bar.

    Returns
    -------
    One dict an epoch: epoch (from 1), loss (mean, without penalties), penalty (mean).

    Raises
    ------
    ValueError : inputs and targets of different lengths or none, epochs or batch_size out of range.
    TrainingError : the loss of an epoch is not finite; the model is left at the end of that epoch.
    """
    if len(inputs) != len(targets) or len(inputs) == 0:
        raise ValueError(f"targets: got {len(targets)} for {len(inputs)} inputs, needs as many, at least one")
    if epochs < 0 or batch_size < 1:
        raise ValueError(f"epochs, batch_size: got {epochs}, {batch_size}, needs 0 or more and 1 or more")
    callbacks, device = list(callbacks), inputs.device
    # Adam's moments of a pruned weight decay into denormal numbers, which make its step 10 times slower
    torch.set_flush_denormal(True)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        for callback in callbacks:
            callback.start(model)
        opt = optimizer(model)
        rates = [group["lr"] for group in opt.param_groups]
        steps, step, history = epochs * -(-len(inputs) // batch_size), 0, []
        model.train()
        for epoch in tqdm(range(1, epochs + 1), disable=not progress, unit="epoch", leave=False):
            sums = torch.zeros(2, device=device)  # read once an epoch: no synchronisation in between
            for index in batches(len(inputs), batch_size, device=device):
                done = step / steps
                if schedule is not None:
                    factor = schedule(done)
                    for group, rate in zip(opt.param_groups, rates, strict=True):
                        group["lr"] = rate * factor
                prediction_loss = loss(model(inputs[index]), targets[index])
                penalties = [p for c in callbacks if (p := c.penalty(model, done)) is not None]
                penalty = sum(penalties[1:], penalties[0]) if penalties else torch.zeros((), device=device)
                opt.zero_grad()
                (prediction_loss + penalty if penalties else prediction_loss).backward()
                opt.step()
                for callback in callbacks:
                    callback.after_step(model, done)
                sums += torch.stack([prediction_loss.detach(), penalty.detach()]) * len(index)
                step += 1
            mean_loss, mean_penalty = (sums / len(inputs)).tolist()
            history.append({"epoch": epoch, "loss": mean_loss, "penalty": mean_penalty})
            if not torch.isfinite(sums).all():
                raise TrainingError(
                    f"loss {mean_loss} and penalty {mean_penalty} in epoch {epoch} of {epochs}; "
                    f"lower the learning rate (now {[g['lr'] for g in opt.param_groups]})"
                )
        for callback in callbacks:
            callback.finish(model)
    return history


@dataclass(frozen=True)
class Evaluation:
    """Mean loss and the fraction of samples whose largest logit is the right one."""

    loss: float
    accuracy: float


@torch.no_grad()
def evaluate(model: nn.Module, inputs: Tensor, targets: Tensor, batch_size: int = 10_000) -> Evaluation:
    """Cross entropy and accuracy (a fraction) of a classifier in evaluation mode, over all samples."""
    was_training = model.training
    model.eval()
    loss, right = 0.0, 0
    for x, y in zip(inputs.split(batch_size), targets.split(batch_size), strict=True):
        logits = model(x)
        loss += F.cross_entropy(logits, y, reduction="sum").item()
        right += int((logits.argmax(1) == y).sum())
    model.train(was_training)
    return Evaluation(loss / len(targets), right / len(targets))
