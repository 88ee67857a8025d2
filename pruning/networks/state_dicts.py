"""State dicts of one model in its three forms: plain, masked, gated.

form     keys of a layer "fc"
plain    fc.weight
masked   fc.parametrizations.weight.original, ….weight.0.keep
gated    fc.parametrizations.weight.original, ….weight.0.logits
pruned   fc.weight_orig, fc.weight_mask, as ``torch.nn.utils.prune`` writes them
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from pruning.networks.masks import is_pruned

HELD = ("keep", "logits")  # what masks and gates write beside the original


def convert_state_dict(
    state_dict: Mapping[str, Tensor], model: nn.Module
) -> dict[str, Tensor]:
    """A state dict of any form in the form that `model` has, for ``model.load_state_dict``.

    Into a plain model go the weights with removed ones at 0. Into a masked one go the weights
    and what is kept of them: the mask or the open gates of the state dict, or all weights but
    exact zeros where it is plain. Into a gated one go the weights and logits; where the state
    dict has none, kept weights take the size of the model's own logits and removed ones its
    negative, so that the gates are open and closed as the mask is, and evaluation gives the
    same outputs.

    Parameters
    ----------
    state_dict : from a model of the same architecture; it is left as it is.
    model : gives the form, weight by weight, and is left as it is too.

    Raises ValueError where a key of the model has no counterpart, or the other way round. A
    masked weight that is parametrized otherwise too, by LoRA for instance, has no counterpart:
    `finalize` the model that the state dict comes from first, which merges the two.
    """
    given, found = dict(state_dict), {}
    for name, module in model.named_modules(remove_duplicate=False):
        prefix = f"{name}." if name else ""
        for parameter in _parameters(module):
            taken = _take(state_dict, given, prefix, parameter)
            if taken is not None:
                found |= _in_form(module, prefix, parameter, taken)
    wanted = model.state_dict()
    found |= {key: given.pop(key) for key in wanted if key in given}
    missing = [key for key in wanted if key not in found]
    left = [*given, *(key for key in found if key not in wanted)]
    if missing or left:
        said = [
            *([f"it has nothing for the model's {missing}"] if missing else []),
            *([f"the model has no place for its {left}"] if left else []),
        ]
        remedy = (
            "; what is parametrized otherwise than by masks and gates has no counterpart:"
            " pruning.finalize merges the two, call it first, on the model that the state dict"
            " comes from"
        )
        others = any("parametrizations." in key for key in left)
        raise ValueError(
            f"state_dict: does not fit this model: {', and '.join(said)}"
            f"{remedy if others else ''}"
        )
    return {key: found[key] for key in wanted}


@dataclass
class _Taken:
    """One parameter of a state dict: its values, what is kept of them, and the logits if it is
    gated."""

    weight: Tensor
    mask: Tensor | None = None
    logits: Tensor | None = None

    def masked(self) -> Tensor:
        """The values with removed ones at 0."""
        return self.weight if self.mask is None else self.weight * self.mask


def _parameters(module: nn.Module) -> list[str]:
    """Names of the parameters of a module as they are where nothing is masked or gated."""
    pruned = [name.removesuffix("_mask") for name in module._buffers if name.endswith("_mask")]
    pruned = [name for name in pruned if is_pruned(module, name)]
    plain = [name for name, value in module._parameters.items() if value is not None]
    held = list(module.parametrizations) if parametrize.is_parametrized(module) else []
    return [
        *(name for name in plain if name.removesuffix("_orig") not in pruned),
        *pruned,
        *held,
    ]


def _take(
    state_dict: Mapping[str, Tensor], given: dict[str, Tensor], prefix: str, parameter: str
) -> _Taken | None:
    """Remove the keys of a parameter from `given`; None where it has none, or another
    parametrization's."""
    inside = f"{prefix}parametrizations.{parameter}."
    if f"{prefix}{parameter}" in given:
        return _Taken(given.pop(f"{prefix}{parameter}"))
    if f"{prefix}{parameter}_mask" in given:
        mask = given.pop(f"{prefix}{parameter}_mask") != 0
        return _Taken(given.pop(f"{prefix}{parameter}_orig"), mask)
    keys = [key for key in given if key.startswith(inside) and key != f"{inside}original"]
    if f"{inside}original" not in given or any(
        key.rsplit(".", 1)[1] not in HELD for key in keys
    ):
        return None
    found = _Taken(given.pop(f"{inside}original"))
    for key in keys:
        value = given.pop(key)
        if key.endswith(".keep"):
            found.mask = value != 0
        else:
            found.logits, found.mask = value, (value > 0).expand_as(found.weight)
    if parameter == "bias" and not keys:  # a gate on outputs has its logits at the weight
        logits = [
            v
            for k, v in state_dict.items()
            if k.startswith(f"{prefix}parametrizations.weight.")
        ]
        found.mask = logits[-1].flatten() > 0
    return found


def _in_form(
    module: nn.Module, prefix: str, parameter: str, taken: _Taken
) -> dict[str, Tensor]:
    """The keys and values of one parameter in the form that the module has."""
    weight, mask = taken.weight, taken.weight != 0 if taken.mask is None else taken.mask
    if is_pruned(module, parameter):
        return {
            f"{prefix}{parameter}_orig": weight,
            f"{prefix}{parameter}_mask": mask.to(weight.dtype),
        }
    if not parametrize.is_parametrized(module, parameter):
        return {f"{prefix}{parameter}": taken.masked()}
    found = {f"parametrizations.{parameter}.original": weight}
    for position, each in enumerate(module.parametrizations[parameter]):
        own, place = each.state_dict(), f"parametrizations.{parameter}.{position}"
        if "keep" in own:
            found[f"{place}.keep"] = mask.to(own["keep"].dtype)
        elif (
            "logits" in own
            and taken.logits is not None
            and taken.logits.shape == own["logits"].shape
        ):
            found[f"{place}.logits"] = taken.logits
        elif "logits" in own:
            found[f"{place}.logits"] = _logits(own["logits"], mask)
        if "keep" not in own and own.get("logits", weight[:0]).shape != weight.shape:
            # gates on outputs cannot say which single weights are removed
            found[f"parametrizations.{parameter}.original"] = taken.masked()
    return {prefix + key: value for key, value in found.items()}


def _logits(own: Tensor, mask: Tensor) -> Tensor:
    """Logits of the model's own size, positive where something is kept."""
    for dim, size in enumerate(own.shape):
        if size != mask.shape[dim]:
            mask = mask.any(dim, keepdim=True)
    size = own.abs().clamp_min(torch.finfo(own.dtype).eps)
    return torch.where(mask, size, -size)
