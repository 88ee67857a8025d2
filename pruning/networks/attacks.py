"""Adversarial examples within an L∞ ball, for classifiers of inputs in [0, 1].

FGSM (Goodfellow, Shlens and Szegedy 2015, arXiv:1412.6572), one step along the sign of the
gradient of the cross entropy L:

    x' = clip(x + ε sign ∇ₓL(x, y))                                                     (1)

PGD (Madry et al. 2018, arXiv:1706.06083), many smaller steps from a random point of the ball,
each projected onto the ball and onto [0, 1]:

    x⁰ ~ U[x − ε, x + ε],   xᵗ⁺¹ = Π(xᵗ + a sign ∇ₓL(xᵗ, y))                            (2)

    ε  eps    a  step    Π  the nearest point of the ball and of [0, 1]

Several restarts attack again what is still classified rightly.
"""

import contextlib
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pruning.networks.batches import evaluating


@contextlib.contextmanager
def _attacked(model: nn.Module) -> Iterator[None]:
    """In evaluation mode, and without gradients of the weights, which no attack needs."""
    asked = {p: p.requires_grad for p in model.parameters()}
    model.requires_grad_(False)
    try:
        with evaluating(model):
            yield
    finally:
        for parameter, needed in asked.items():
            parameter.requires_grad_(needed)


def _sign(model: nn.Module, x: Tensor, targets: Tensor) -> Tensor:
    x = x.detach().requires_grad_()
    loss = F.cross_entropy(model(x), targets, reduction="sum")
    return torch.autograd.grad(loss, x)[0].sign()


def _check(inputs: Tensor, eps: float) -> None:
    if not eps > 0:
        raise ValueError(f"eps: got {eps!r}, needs a number above 0")
    if inputs.min() < 0 or inputs.max() > 1:
        raise ValueError(
            f"inputs: have values from {inputs.min():g} to {inputs.max():g}, need [0, 1]"
        )


def fgsm(model: nn.Module, inputs: Tensor, targets: Tensor, eps: float) -> Tensor:
    """The inputs after one step of size ε (Eq. 1), with the shape of `inputs`.

    inputs : (samples, …), in [0, 1]. targets : (samples,), class indices. Raises ValueError
    for an ε that is not above 0, and for inputs out of [0, 1].
    """
    _check(inputs, eps)
    with _attacked(model):
        return (inputs + eps * _sign(model, inputs, targets)).clamp(0, 1)  # Eq. 1


def pgd(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    eps: float,
    *,
    steps: int = 20,
    step: float | None = None,
    random_start: bool = True,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The inputs after projected gradient steps in the ball of radius ε (Eq. 2).

    Parameters
    ----------
    inputs, targets, eps : as of `fgsm`.
    steps : how many. step : their size; 2.5 ε / steps where None, as Madry's challenge has it,
        which reaches any point of the ball from any other.
    random_start : begin anywhere in the ball; else at the inputs.
    generator : of the start, on the inputs' device; torch's own where None.

    Raises ValueError as `fgsm`, and for fewer than one step.
    """
    _check(inputs, eps)
    if steps < 1:
        raise ValueError(f"steps: got {steps}, needs 1 or more")
    step = 2.5 * eps / steps if step is None else step
    low, high = (inputs - eps).clamp_min(0), (inputs + eps).clamp_max(1)
    x = inputs
    if random_start:
        start = torch.rand(inputs.shape, generator=generator, device=inputs.device)
        x = (inputs + eps * (2 * start - 1)).clamp(0, 1)
    with _attacked(model):
        for _ in range(steps):
            x = (x + step * _sign(model, x, targets)).clamp(low, high)  # Eq. 2
    return x


@torch.no_grad()
def right(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """Which inputs a classifier in evaluation mode answers rightly: boolean, (samples,)."""
    with _attacked(model):
        return model(inputs).argmax(1) == targets


def withstood(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    attack: Callable[[nn.Module, Tensor, Tensor], Tensor],
    restarts: int = 1,
) -> Tensor:
    """Which inputs are still answered rightly after each of `restarts` attacks.

    attack : (model, inputs, targets) ↦ inputs, such as `functools.partial(pgd, eps=0.1)`; it
        is given only those inputs that no attack has changed the answer of so far.

    Returns booleans, (restarts, samples): row k says what stands after k + 1 attacks. An input
    that is answered wrongly without an attack never stands.
    """
    standing = right(model, inputs, targets)
    rows = []
    for _ in range(restarts):
        left = standing.nonzero().flatten()
        if len(left):
            found = attack(model, inputs[left], targets[left])
            standing = standing.clone()
            standing[left] = right(model, found, targets[left])
        rows.append(standing)
    return torch.stack(rows)


def first_order_distance(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """How far the nearest other class is in L∞, if the logits were linear: (samples,).

    min over the other classes k of (z_y − z_k) / ‖∇ₓ(z_y − z_k)‖₁, the first step of DeepFool
    (Moosavi-Dezfooli, Fawzi and Frossard 2016, arXiv:1511.04599). Exact for a linear model
    without bounds of the inputs; negative where the answer is wrong.
    """
    x = inputs.detach().requires_grad_()
    with _attacked(model):
        logits = model(x)
        margins = logits.gather(1, targets[:, None]) - logits
        distances = torch.full_like(logits, torch.inf)
        for k in range(logits.shape[1]):
            slope = torch.autograd.grad(margins[:, k].sum(), x, retain_graph=True)[0]
            ratio = margins[:, k] / slope.abs().flatten(1).sum(1)
            distances[:, k] = torch.where(targets == k, torch.inf, ratio)
    return distances.detach().amin(1)
