"""Activations: on what range each is blind, which layer feeds which, and how active neurons
are.

For pruning by relative importance (arXiv:2410.16151), see `pruning.relative`.
"""

import contextlib
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pruning.networks.batches import batches, call, evaluating, uneven
from pruning.networks.chain import ELEMENTWISE
from pruning.networks.prunable import prunable
from pruning.training import Callback

SMOOTH = (nn.Sigmoid, nn.Tanh, nn.SiLU, nn.GELU)
ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, *SMOOTH)
HIDDEN = (
    *(kind for kind in ELEMENTWISE if kind not in (nn.Identity, nn.Dropout)),
    *(nn.PReLU, nn.RReLU, nn.Threshold, nn.Hardshrink, nn.Softshrink, nn.Tanhshrink),
)


def blind_ranges(
    activation: nn.Module | None, tolerance: float | None = None
) -> list[tuple[float, float]]:
    """Intervals of z on which |f′(z)| ≤ tolerance · max |f′|, in ascending order.

    `activation` is a ReLU, LeakyReLU, Sigmoid, Tanh, SiLU or GELU module; anything else, and
    None, has no blind range. Default tolerance: 0 for the first two, 0.01 for the others,
    which are flat nowhere. Raises ValueError for a tolerance outside [0, 1).
    """
    if tolerance is not None and not 0 <= tolerance < 1:
        raise ValueError(
            f"tolerance: got {tolerance!r}, needs a fraction of max |f′| in [0, 1), or None"
        )
    if isinstance(activation, nn.ReLU):
        return [(-torch.inf, 0.0)]
    if isinstance(activation, nn.LeakyReLU):
        slope = abs(activation.negative_slope)
        return [(-torch.inf, 0.0)] if slope <= (tolerance or 0.0) * max(1.0, slope) else []
    if not isinstance(activation, SMOOTH) or tolerance == 0:
        return []

    from scipy.optimize import brentq

    def derivative(z):
        with torch.inference_mode(False), torch.enable_grad():
            z = torch.as_tensor(z, dtype=torch.float64).clone().requires_grad_()
            # of a copy: an activation may work in place
            return torch.autograd.grad(activation(z.clone()).sum(), z)[0]

    grid = torch.linspace(-40, 40, 8001, dtype=torch.float64)
    slopes = derivative(grid)
    limit = (0.01 if tolerance is None else tolerance) * slopes.abs().max().item()
    points, ends = grid.tolist(), []
    for level in (limit, -limit):
        above = slopes > level
        ends += [
            brentq(
                lambda z, level=level: derivative(z).item() - level, points[i], points[i + 1]
            )
            for i in (above[1:] != above[:-1]).nonzero().flatten().tolist()
        ]
    ends = [-torch.inf, *sorted(ends), torch.inf]
    inside = [
        max(-40.0, low) / 2 + min(40.0, high) / 2 for low, high in itertools.pairwise(ends)
    ]
    flat = [abs(derivative(z).item()) <= limit for z in inside]
    return [
        pair for pair, is_flat in zip(itertools.pairwise(ends), flat, strict=True) if is_flat
    ]


def activations_after(
    model: nn.Module, batch: Tensor | Mapping[str, Any]
) -> dict[str, nn.Module]:
    """{layer: the activation module that takes its output}, from one forward pass in
    evaluation mode.

    `batch` is one of `batches`, of which one sample is used where it can be split. Raises
    ValueError for a layer that is called several times and whose outputs go into different
    activations.
    """
    taken: dict[str, list[tuple[Tensor, nn.Module | None]]] = {}

    def before(activation, args, kwargs):
        given = args[0] if args else kwargs["input"]
        for outputs in taken.values():
            outputs[:] = [(z, activation if z is given else found) for z, found in outputs]

    def after(name):
        return lambda layer, args, output: taken.setdefault(name, []).append((output, None))

    hooks = [
        m.register_forward_pre_hook(before, with_kwargs=True)
        for m in model.modules()
        if isinstance(m, ACTIVATIONS)
    ]
    hooks += [
        module.register_forward_hook(
            after(key), prepend=True
        )  # what hooks return is another z
        for key, module, parameter in prunable(model)
        if parameter == "weight"
    ]
    try:
        with evaluating(model), torch.no_grad():
            call(model, batch if uneven(batch) else next(batches(batch, 1)))
    finally:
        for hook in hooks:
            hook.remove()
    found = {}
    for name, outputs in taken.items():
        kinds = {activation for _, activation in outputs}
        if len({repr(activation) for activation in kinds}) > 1:
            raise ValueError(
                f"model: layer {name!r} is called {len(outputs)} times and its outputs go into"
                f" different activations, {sorted(map(repr, kinds))}; name it in ignore="
            )
        if (activation := kinds.pop()) is not None:
            found[name] = activation
    return found


class Activity:
    """What `activity_penalty` collects; `take` gives Σ over layers and forward passes of mean
    |output|, and starts anew.

    Passes without gradients (a validation under ``torch.no_grad``) do not count, nor do those
    that checkpointing repeats in the backward pass."""

    def __init__(self):
        self.means: list[Tensor] = []

    def collect(self, module: nn.Module, args: tuple, output: Tensor) -> None:
        """Forward hook of an activation."""
        if not torch.is_grad_enabled():
            return
        mean = output.abs().mean()  # checkpointing repeats it, and must find it again
        if torch._C._current_graph_task_id() == -1:  # not within a backward pass
            self.means.append(mean)

    def take(self) -> Tensor:
        """The sum over all calls of hidden layers since the last `take`: of two passes over
        half a batch it is twice that of one over the whole.

        0-dim tensor with gradient. Raises RuntimeError if no forward pass came before, or
        none with gradients."""
        if not self.means:
            raise RuntimeError(
                "activity: no forward pass with gradients through the model's activation"
                " modules since the last take(); under checkpointing needs"
                " checkpoint(…, use_reentrant=False)"
            )
        total, self.means = sum(self.means[1:], self.means[0]), []
        return total


@contextlib.contextmanager
def activity_penalty(model: nn.Module) -> Iterator[Activity]:
    """Collect the mean |neuron output| of every hidden layer, for pruning-aware training.

    Hidden outputs are those of modules that are activations (PReLU, Hardswish, … too), so
    logits do not count, nor what functions such as ``torch.relu`` give. ``take()`` gives
    the sum over layers, not their mean, of all forward passes with gradients since the last
    ``take()``. Raises ValueError for a model without such a module.

    Examples
    --------
    >>> with pruning.activity_penalty(model) as activity:
    ...     loss = cross_entropy(model(x), y) + lam * activity.take()
    """
    modules = [module for module in model.modules() if isinstance(module, HIDDEN)]
    if not modules:
        raise ValueError(
            f"model: has none of {[kind.__name__ for kind in HIDDEN]} to collect from"
        )
    activity = Activity()
    hooks: list = [module.register_forward_hook(activity.collect) for module in modules]
    try:
        yield activity
    finally:
        for hook in hooks:
            hook.remove()


class ActivityPenalty(Callback):
    """λ · Σ over hidden layers of mean |output|: the pruning-aware training of
    arXiv:2410.16151."""

    def __init__(self, factor: float):
        self.factor = factor

    def start(self, model: nn.Module) -> None:
        """Collect from now on."""
        self.hooks = activity_penalty(model)
        self.activity = self.hooks.__enter__()

    def penalty(self, model: nn.Module, progress: float) -> Tensor:
        """λ · the activity of this forward pass."""
        return self.factor * self.activity.take()

    def finish(self, model: nn.Module) -> None:
        """Collect no more."""
        self.hooks.__exit__(None, None, None)
