"""What scores read off a model: its prunable weights, and the inputs that reach them."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from pruning.networks import columns
from pruning.networks.batches import BATCH, Batches, batches, call, evaluating
from pruning.networks.masks import check_ungated, effective
from pruning.networks.positions import (
    Positions,
    real_positions,
    rows_that_count,
    say_padded,
)
from pruning.networks.prunable import OWN, check_untied, prunable, selected

LAYERS = (nn.Linear, nn.Conv2d)


@dataclass(frozen=True)
class Weight:
    """A prunable weight of a model; see `prunable` for its key."""

    key: str
    module: nn.Module
    parameter: str

    def value(self) -> Tensor:
        """What the layer computes with, without gradient, in float32 where the model has half
        precision."""
        value = effective(self.module, self.parameter)
        return value.to(torch.promote_types(value.dtype, torch.float32))

    def matrix(self) -> Tensor:
        """`value` in the form (groups, outputs, inputs)."""
        return columns.to_matrix(self.module, self.parameter, self.value())

    def shaped(self, matrix: Tensor) -> Tensor:
        """A number per entry of `matrix` in the shape of the weight."""
        shape = effective(self.module, self.parameter).shape
        return columns.from_matrix(self.module, self.parameter, matrix, shape)

    def bias(self) -> Tensor | None:
        """(groups, outputs), in the dtype of `value`, or None."""
        found = columns.bias(self.module, self.parameter)
        return (
            None
            if found is None
            else found.to(torch.promote_types(found.dtype, torch.float32))
        )


def weights(
    model: nn.Module, layers: Iterable[str] | None = None, ignore: Iterable[str] | None = None
) -> dict[str, Weight]:
    """The weights that scores speak of, by the keys of `prunable`: those that `selected`
    chooses.

    Warns and raises as `selected`. Raises ValueError too for gates (`harden` them first) and
    for weights and biases that are not finite.
    """
    chosen = {key: Weight(key, *owner) for key, *owner in selected(model, layers, ignore)}
    check_ungated(model, chosen)
    for key, weight in chosen.items():
        if not weight.value().numel():
            raise ValueError(
                f"model: layer {key!r} has no weights left to score; name it in ignore="
            )
        if not weight.value().isfinite().all():
            raise ValueError(
                f"model: the weight of layer {key!r} has NaN or infinite entries, needs finite"
                " ones"
            )
        if (bias := weight.bias()) is not None and not bias.isfinite().all():
            raise ValueError(
                f"model: the bias of layer {key!r} has NaN or infinite entries, needs finite"
                " ones"
            )
    return chosen


def layers(model: nn.Module) -> dict[str, nn.Module]:
    """{name: Linear or Conv2d layer}. Raises ValueError if there is none, or if one is gated
    or shares its weight with another module."""
    found = {name: layer for name, layer, _ in prunable(model) if isinstance(layer, LAYERS)}
    if not found:
        raise ValueError("model: has no Linear or Conv2d layer")
    check_untied(model, found, OWN)
    check_ungated(model)
    return found


@dataclass(frozen=True)
class Visit:
    """One call of a layer, in a pass over data: x (samples, groups, inputs), z (samples,
    groups, outputs)."""

    weight: Weight
    x: Tensor
    z: Tensor
    low: float  # the least entry of x, and the largest
    high: float


@torch.no_grad()
def visit_layers(
    model: nn.Module,
    inputs: Batches,
    chosen: dict[str, Weight],
    visit: Callable[[Visit], None],
    batch_size: int = BATCH,
    positions: Positions | None = None,
) -> None:
    """One pass in evaluation mode; `visit` gets every call of every chosen weight.

    A module that is called several times for a batch is visited as often. Every module of the
    model is left in the mode that it was in. `positions` says of a batch which positions of
    its sequences count.

    Raises ValueError, naming the layer, for inputs of a layer that are NaN or infinite, for
    weights whose inputs cannot be seen (those of recurrent layers), for layers that no input
    reaches, and for those of which `positions` says nothing; TypeError for inputs of another
    dtype than the layer's.
    """
    by_place = {(id(weight.module), weight.parameter): weight for weight in chosen.values()}
    hooked: dict[nn.Module, str] = {}
    for key, weight in chosen.items():
        if isinstance(weight.module, (nn.RNNBase, nn.RNNCellBase)):
            layer = key.removesuffix(weight.parameter).removesuffix(".")
            raise ValueError(
                f"model: {key!r} belongs to a recurrent layer, which does not show the inputs"
                f" of its weights: ignore={[layer]} leaves it out; magnitude, random_scores"
                " and snip score it"
            )
        own = type(weight.module).forward.__module__.startswith("torch.nn.")
        if not own or "forward" in vars(weight.module):
            raise ValueError(
                f"model: {key!r} has a forward of its own ({type(weight.module).__name__}), so"
                " what its weight is multiplied with is not known; name it in ignore="
            )
        hooked[weight.module] = key
    for name, module in model.named_modules():
        if (
            isinstance(module, nn.MultiheadAttention)
            and hooked.pop(module.out_proj, None) is not None
        ):
            hooked[module] = hooked.get(module, f"{name}.out_proj".removeprefix("."))
    seen = dict.fromkeys(chosen, 0)
    real: Tensor | None = None

    def check(key: str) -> Callable:
        def before(module, args, kwargs):
            x, wanted = _first(args, kwargs), next(module.parameters()).dtype
            if x.dtype != wanted and not torch.is_autocast_enabled(x.device.type):
                raise TypeError(
                    f"inputs: layer {key!r} got {x.dtype}, needs {wanted}; see Tensor.to"
                )

        return before

    def take(key: str) -> Callable:
        def after(module, args, kwargs, z):
            if isinstance(module, nn.MultiheadAttention):
                calls = columns.attention(module, args, kwargs)
            else:
                given = _first(args, kwargs)
                leading = given.shape[:-1] if isinstance(module, nn.Linear) else given.shape
                calls = [(module, "weight", leading, *columns.columns(module, given, z))]
            for owner, parameter, leading, x, outputs in calls:
                if (weight := by_place.get((id(owner), parameter))) is None:
                    continue
                rows = rows_that_count(weight.key, module, leading, real)
                if rows is not None:
                    x, outputs = x[rows], outputs[rows]
                if not x.numel():
                    continue
                low, high = (end.item() for end in x.aminmax())
                if not (math.isfinite(low) and math.isfinite(high)):
                    raise ValueError(
                        f"inputs: layer {weight.key!r} gets inputs that are NaN or infinite;"
                        " check the data, and the weights before it"
                    )
                seen[weight.key] += len(x)
                with torch.autocast(x.device.type, enabled=False):  # it is of the model alone
                    visit(Visit(weight, x, outputs, low, high))

        return after

    handles, padded = [], False
    for module, key in hooked.items():
        handles.append(module.register_forward_pre_hook(check(key), with_kwargs=True))
        # before hooks of the user's, which may return another output than W x + b
        hook = module.register_forward_hook(take(key), with_kwargs=True, prepend=True)
        handles.append(hook)
    try:
        with evaluating(model):
            for batch in batches(inputs, batch_size, model=model):
                real = real_positions(batch, positions)
                padded = padded or (positions is None and say_padded(batch))
                call(model, batch)
    finally:
        for handle in handles:
            handle.remove()
    if unused := [key for key, samples in seen.items() if not samples]:
        raise ValueError(
            f"model: layers {unused} got no input in a forward pass, so they have no score; "
            "name them in ignore="
        )


def _first(args: tuple, kwargs: dict) -> Tensor:
    """A layer's input, given by position or by keyword."""
    return args[0] if args else kwargs.get("input", kwargs.get("query"))


@dataclass
class InputStatistics:
    """Moments of one layer's inputs, shape (groups, inputs), in float64: sums over 10⁵ samples
    stay exact.

    Deviations from the mean are summed batch by batch and joined (Chan, Golub, LeVeque 1979),
    so that the variance stays exact where the mean is much larger than it.
    """

    samples: int = 0
    sums: Tensor | float = 0.0
    squares: Tensor | float = 0.0
    deviations: Tensor | float = field(default=0.0)  # Σ (x − mean)²

    def add(self, x: Tensor) -> None:
        """Take in a batch (samples, groups, inputs)."""
        x = x.double()
        sums, before, new = x.sum(0), self.samples, len(x)
        between = sums / new - (self.sums / before if before else 0.0)
        self.deviations = self.deviations + (x - sums / new).square().sum(0)
        self.deviations = self.deviations + between.square() * (before * new / (before + new))
        self.samples = before + new
        self.sums = self.sums + sums
        self.squares = self.squares + x.square().sum(0)

    @property
    def mean(self) -> Tensor:
        """E[x]."""
        return self.sums / self.samples

    @property
    def norm(self) -> Tensor:
        """‖x‖₂ over the samples."""
        return self.squares.sqrt()

    @property
    def variance(self) -> Tensor:
        """Var(x), divided by the number of samples."""
        return self.deviations / self.samples


def input_statistics(
    model: nn.Module,
    inputs: Batches,
    layers: Iterable[str] | None = None,
    ignore: Iterable[str] | None = None,
    batch_size: int = BATCH,
    positions: Positions | None = None,
) -> dict[str, InputStatistics]:
    """Moments of every layer's inputs, in one pass with constant memory: {key: an object with
    mean, norm, variance, each (groups, inputs)}.

    Parameters and errors as in `wanda`; `prune_by_score` takes the means.
    """
    chosen = weights(model, layers, ignore)
    found = {key: InputStatistics() for key in chosen}
    visit_layers(
        model,
        inputs,
        chosen,
        lambda call: found[call.weight.key].add(call.x),
        batch_size,
        positions,
    )
    return found
