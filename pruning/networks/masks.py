"""Masks: which weights of a model are kept, wherever that is written down.

A mask is a parametrization (``torch.nn.utils.parametrize``), as a learnable gate is: the
layer's ``weight`` becomes W ⊙ mask at every read, the optimizer continues to train W, and
``state_dict`` holds both. Every parametrization that has a method ``mask()`` counts as one, so
this module finds gates without importing them. Masks made by ``torch.nn.utils.prune`` are read
as well, and `set_mask` takes them over.

    where                                   what the layer computes with
    parametrizations with ``mask()``        original ⊙ mask
    ``weight_orig`` and ``weight_mask``     weight_orig ⊙ weight_mask
    neither                                 the weight, of which exact zeros count as removed
"""

from collections.abc import Container, Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

from pruning.networks.pickling import forget_flat_weights, make_picklable
from pruning.networks.prunable import Model, key_of, prunable, untie, weights_of


class Mask(nn.Module):
    """Parametrization W ↦ W ⊙ mask. Gradients of removed weights are 0.

    The buffer ``keep`` has the weight's dtype, 1 where a weight is kept and 0 elsewhere, so
    that applying it is one multiplication; `mask` gives it as booleans.
    """

    def __init__(self, mask: Tensor, dtype: torch.dtype):
        super().__init__()
        self.register_buffer("keep", mask.detach().to(dtype, copy=True))

    def forward(self, weight: Tensor) -> Tensor:
        """W ⊙ mask."""
        return weight * self.keep

    def right_inverse(self, weight: Tensor) -> Tensor:
        """A weight that is assigned is stored as it is; its removed entries stay removed."""
        return weight

    def mask(self) -> Tensor:
        """True where a weight is kept, shaped as the weight. Raises ValueError for a mask that
        is not made of 0 and 1, as the average of several is none."""
        return _binary(self.keep, "keep")

    def extra_repr(self) -> str:
        """Shape and number of kept weights, for print(model)."""
        return f"{tuple(self.keep.shape)}, kept={int(self.keep.count_nonzero())}"

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, strict, *args):
        if strict:
            name_other_form(state_dict, f"{prefix}keep", args[-1])
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, *args)


def _binary(mask: Tensor, name: str) -> Tensor:
    """A mask of numbers as booleans."""
    keep = mask != 0
    if not torch.equal(keep.to(mask.dtype), mask):
        value = mask[keep & (mask != 1)][0].item()
        raise ValueError(
            f"{name}: the mask holds {value:.3g}, needs 0 and 1 only; an average of models has"
            " no mask of its own: take the latest one, as torch.optim.swa_utils.AveragedModel"
            " does without use_buffers, or average after pruning"
        )
    return keep


def name_other_form(state_dict: Mapping[str, Tensor], own: str, error_msgs: list[str]) -> None:
    """Where a state dict lacks `own`, the key of a mask or of logits, add what to do to the
    errors of ``load_state_dict``."""
    if own not in state_dict:
        error_msgs.append(
            f"the state dict has no {own!r}: if it comes from this model while it was plain,"
            " masked or gated otherwise, load pruning.convert_state_dict(state_dict, model);"
            " if it is meant for a part of the model, load model.state_dict() | state_dict"
        )


def _list(module: nn.Module, parameter: str) -> list[nn.Module]:
    """The parametrizations of a parameter, first applied first."""
    return (
        list(module.parametrizations[parameter]) if is_parametrized(module, parameter) else []
    )


def is_parametrized(module: nn.Module, parameter: str = "weight") -> bool:
    """Whether the parameter is computed by ``torch.nn.utils.parametrize``."""
    return parametrize.is_parametrized(module, parameter)


def is_pruned(module: nn.Module, parameter: str = "weight") -> bool:
    """Whether the parameter carries a mask of ``torch.nn.utils.prune``."""
    return f"{parameter}_mask" in module._buffers and f"{parameter}_orig" in module._parameters


def is_masked(module: nn.Module, parameter: str = "weight") -> bool:
    """Whether the parameter carries a `Mask` or one of ``torch.nn.utils.prune``."""
    return is_pruned(module, parameter) or find_mask(module, parameter) is not None


def check_masks(model: nn.Module) -> None:
    """Raise ValueError where a mask, of any parameter, is not made of 0 and 1."""
    for module in model.modules():
        for name in [*module._buffers]:
            if name.endswith("_mask") and is_pruned(module, name.removesuffix("_mask")):
                _binary(module._buffers[name], name)
        if isinstance(module, Mask):
            module.mask()


def kept(module: nn.Module, parameter: str = "weight") -> Tensor:
    """What the masks of a parameter keep, boolean, shaped as it: True everywhere where there
    is none."""
    if is_masked(module, parameter):
        return mask_of(module, parameter)
    return torch.ones_like(effective(module, parameter), dtype=torch.bool)


def find_gates(model: nn.Module) -> dict[str, nn.Module]:
    """Parametrizations with ``mask()`` that are learnable gates and no `Mask`, by the keys of
    `prunable`."""
    return {
        key_of(name, parameter): each
        for name, module in model.named_modules()
        if parametrize.is_parametrized(module)
        for parameter in module.parametrizations
        for each in _list(module, parameter)
        if hasattr(each, "mask") and not isinstance(each, Mask)
    }


def check_ungated(model: nn.Module, among: Container[str] | None = None) -> None:
    """Raise ValueError for gates on the weights `among` (keys of `prunable`; None: all), and
    say what makes masks of them: the attribute ``hardening`` of their class."""
    gated = {
        key: each for key, each in find_gates(model).items() if among is None or key in among
    }
    if gated:
        calls = {
            getattr(each, "hardening", f"what makes a Mask of a {type(each).__name__}")
            for each in gated.values()
        }
        raise ValueError(
            f"model: layers {sorted(gated)} are gated; call {' and '.join(sorted(calls))},"
            " which makes masks of the gates"
        )


def find_mask(module: nn.Module, parameter: str = "weight") -> Mask | None:
    """The `Mask` of a parameter, if it has one."""
    return next((each for each in _list(module, parameter) if isinstance(each, Mask)), None)


def original(module: nn.Module, parameter: str = "weight") -> Tensor:
    """The trained parameter under the mask or gate: what the optimizer sees, removed weights
    included.

    Raises ValueError where another parametrization keeps several tensors in its place.
    """
    if is_pruned(module, parameter):
        return module._parameters[f"{parameter}_orig"]
    if not is_parametrized(module, parameter):
        return _plain(module, parameter)
    held = module.parametrizations[parameter]
    if not held.is_tensor:
        kinds = [type(each).__name__ for each in held]
        raise ValueError(
            f"layer: {parameter!r} is computed by {kinds} from several tensors, needs one"
        )
    return held.original


def _plain(module: nn.Module, parameter: str) -> Tensor:
    """The parameter itself, unless a hook computes it: that is a value of the last forward
    pass."""
    if parameter not in module._parameters:
        raise ValueError(
            f"layer: {parameter!r} of {module} is no parameter; it is computed by a forward"
            " hook, as the old torch.nn.utils.weight_norm and spectral_norm do it; use those"
            " of torch.nn.utils.parametrizations"
        )
    return module._parameters[parameter]


def mask_of(module: nn.Module, parameter: str = "weight") -> Tensor:
    """What is kept of one parameter, boolean, shaped as it. See the module."""
    if is_pruned(module, parameter):
        return _binary(module._buffers[f"{parameter}_mask"], f"{parameter}_mask")
    last = _list(module, parameter)[-1:]
    if last and hasattr(last[0], "mask"):
        return last[0].mask()
    return effective(module, parameter) != 0


@torch.no_grad()
def effective(module: nn.Module, parameter: str = "weight") -> Tensor:
    """The weight that the layer computes with in evaluation mode: gates closed or open,
    nothing sampled.

    It is read from the trained parameter, so it is right after an optimizer step as well,
    where the ``weight`` that ``torch.nn.utils.prune`` stores still is the one before.
    """
    if is_pruned(module, parameter):
        return original(module, parameter).detach() * module._buffers[f"{parameter}_mask"]
    if not is_parametrized(module, parameter):
        return _plain(module, parameter).detach()
    held = module.parametrizations[parameter]
    weight, rest = held.original if held.is_tensor else None, list(held)
    if weight is None:
        originals = [getattr(held, f"original{i}") for i in range(held.ntensors)]
        weight, rest = rest[0](*originals), rest[1:]
    for each in rest:
        weight = weight * each.mask() if isinstance(each, Mask) else _evaluated(each, weight)
    return weight.detach()


def _evaluated(parametrization: nn.Module, weight: Tensor) -> Tensor:
    was_training = parametrization.training
    try:
        return parametrization.eval()(weight)
    finally:
        parametrization.train(was_training)


def masks(model: nn.Module) -> dict[str, Tensor]:
    """What a model keeps of each prunable weight: {key: boolean mask shaped as the weight}.

    Keys are those of `prunable`: names of ``model.named_modules()``, with the parameter's name
    after it where that is not "weight". The mask is the deterministic mask of a gated layer,
    the mask of a pruned layer, and the weights that are not exactly 0 elsewhere.
    """
    return {key: mask_of(module, parameter) for key, module, parameter in prunable(model)}


@torch.inference_mode(False)  # what is made in that mode could never be trained
@torch.no_grad()
def set_mask(module: nn.Module, keep: Tensor, parameter: str = "weight") -> Mask:
    """Keep exactly the weights where `keep` is True, from now on.

    A mask that is there already is overwritten, and one of ``torch.nn.utils.prune`` is taken
    over with the weights under it. The trained parameter stays the same object, so an
    optimizer that holds it goes on. Raises ValueError for another shape.
    """
    weight = effective(module, parameter)
    if keep.shape != weight.shape:
        raise ValueError(f"keep: got shape {tuple(keep.shape)}, needs {tuple(weight.shape)}")
    if is_pruned(module, parameter):
        dense = original(module, parameter).detach().clone()
        prune.remove(module, parameter)
        module._parameters[parameter].copy_(dense)
    found = find_mask(module, parameter)
    if found is None:
        found = Mask(keep.to(weight.device), weight.dtype)
        parametrize_apart(module, parameter, found)
    else:
        found.keep.copy_(keep)
    return found


def parametrize_apart(module: nn.Module, parameter: str, parametrization: nn.Module) -> None:
    """``torch.nn.utils.parametrize.register_parametrization`` without a trial run, which would
    draw random numbers, and without a change to copies of the module."""
    _own_class(module)
    parametrize.register_parametrization(module, parameter, parametrization, unsafe=True)
    make_picklable(module)
    if (
        isinstance(module, nn.RNNBase)
        and _forget_flat_weights not in module._forward_hooks.values()
    ):
        module.register_forward_hook(_forget_flat_weights)


def unparametrize(module: nn.Module, parameter: str) -> None:
    """Put the trained parameter back in its place, as it is, without a change to copies of the
    module."""
    _own_class(module)
    parametrize.remove_parametrizations(module, parameter, leave_parametrized=False)


def check_free(key: str, module: nn.Module, parameter: str, argument: str = "model") -> None:
    """Raise ValueError for a weight that is no plain parameter, as gates and noise need it."""
    if is_masked(module, parameter):
        raise ValueError(
            f"{argument}: {key!r} carries a mask; call pruning.finalize(model) before gating,"
            " after which gates can reopen what was pruned"
        )
    kinds = [type(each).__name__ for each in _list(module, parameter)]
    if kinds:
        gated = any(hasattr(each, "mask") for each in _list(module, parameter))
        removal = f"torch.nn.utils.parametrize.remove_parametrizations(layer, {parameter!r})"
        raise ValueError(
            f"{argument}: {key!r} is gated or parametrized already, by {kinds}; "
            + ("gate a layer once" if gated else f"{removal} makes it plain")
        )
    if parameter not in module._parameters:
        raise ValueError(
            f"{argument}: {key!r} has no parameter {parameter!r}, which is computed by a"
            " forward hook, as the old torch.nn.utils.weight_norm and spectral_norm do it;"
            " remove it before gating"
        )


def _own_class(module: nn.Module) -> None:
    """Give a parametrized module a class of its own: ``copy.deepcopy`` lets copies share the
    class that holds the properties, so what is parametrized or removed on one would break the
    others."""
    if parametrize.is_parametrized(module):
        kind = type(module)
        module.__class__ = type(kind.__name__, kind.__bases__, dict(kind.__dict__))


@torch.no_grad()
def finalize(model: Model) -> Model:
    """Make all masks permanent: a plain model whose removed weights are 0, and nothing else of
    this package.

    Layers get their plain types back and parameters their places, so that the model saves,
    loads, pickles and deep-copies as one that was never pruned. Masks of
    ``torch.nn.utils.prune`` are made permanent too. A masked weight that is parametrized
    otherwise (weight norm, for instance) loses that as well: its value in evaluation mode
    becomes the parameter. A masked weight that another module holds too, without the mask, is
    no longer shared.

    In place; returns the same model. Nothing keeps removed weights at 0 in later training.
    Raises ValueError, before anything is changed, for gates, which `harden` (for others than
    `gate`'s that of their own module) turns into masks first, and for a mask that is not made
    of 0 and 1. A model without masks is returned as it is.
    """
    check_ungated(model)
    check_masks(model)
    for module in list(model.modules()):
        pruned = [
            name.removesuffix("_mask") for name in module._buffers if name.endswith("_mask")
        ]
        for parameter in [name for name in pruned if is_pruned(module, name)]:
            untie(model, module, parameter)
            prune.remove(module, parameter)
            _restore_order(module, parameter)
        for parameter in (
            list(module.parametrizations) if parametrize.is_parametrized(module) else ()
        ):
            if find_mask(module, parameter) is not None:
                untie(model, module, parameter)
                _remove_parametrizations(module, parameter)
                _restore_order(module, parameter)
    return model


def _remove_parametrizations(module: nn.Module, parameter: str) -> None:
    """Make the evaluated weight the parameter: the same object, unless there were several in
    its place."""
    weight, held = effective(module, parameter).clone(), module.parametrizations[parameter]
    trained = all(each.requires_grad for each in held.parameters(recurse=False))
    _own_class(module)
    parametrize.remove_parametrizations(
        module, parameter, leave_parametrized=not held.is_tensor
    )
    if held.is_tensor:
        module._parameters[parameter].copy_(weight)
    else:
        delattr(module, parameter)
        module.register_parameter(parameter, nn.Parameter(weight, requires_grad=trained))
    hooks = module._load_state_dict_pre_hooks
    for key in [k for k, each in hooks.items() if _of_torch_parametrizations(each.hook)]:
        del hooks[key]
    if isinstance(module, nn.RNNBase) and not parametrize.is_parametrized(module):
        for key in [
            key for key, hook in module._forward_hooks.items() if hook is _forget_flat_weights
        ]:
            del module._forward_hooks[key]
        module._init_flat_weights()


def _of_torch_parametrizations(hook: object) -> bool:
    """Whether weight norm left it to translate old state dicts; it cannot be pickled."""
    return getattr(hook, "__module__", None) == parametrizations.__name__


def _forget_flat_weights(module: nn.RNNBase, args, output) -> None:
    """A forward hook: what was computed in this pass need not stay."""
    forget_flat_weights(module)


def _restore_order(module: nn.Module, parameter: str) -> None:
    """Weights before biases, as torch's layers register them."""
    first = getattr(module, "_flat_weights_names", None) or [*weights_of(module), parameter]
    order = dict.fromkeys(
        [*(name for name in first if name in module._parameters), *module._parameters]
    )
    for name in order:
        module._parameters[name] = module._parameters.pop(name)
