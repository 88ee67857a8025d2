"""Which weights of a model can be gated, masked, scored and counted: one list for the whole
package."""

import itertools
from collections.abc import Iterable
from typing import TypeVar

import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter

from pruning.networks.notices import notice

Model = TypeVar(
    "Model", bound=nn.Module
)  # what is changed in place is returned as the type it has

WEIGHTED = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)


def output_dim(module: nn.Module) -> int:
    """The dimension of a layer's weight that counts its outputs: 1 in transposed convolutions,
    else 0."""
    return 1 if getattr(module, "transposed", False) else 0


def weights_of(module: nn.Module) -> list[str]:
    """The names of the prunable parameters that a module itself holds, in the order of their
    registration."""
    if isinstance(module, WEIGHTED):
        return ["weight"]
    if isinstance(
        module, nn.MultiheadAttention
    ):  # its output projection is a Linear layer of its own
        joint = module._qkv_same_embed_dim
        return (
            ["in_proj_weight"]
            if joint
            else ["q_proj_weight", "k_proj_weight", "v_proj_weight"]
        )
    if isinstance(module, nn.RNNBase):
        return [name for name in module._flat_weights_names if name.startswith("weight")]
    if isinstance(module, nn.RNNCellBase):
        return ["weight_ih", "weight_hh"]
    return []


def key_of(name: str, parameter: str) -> str:
    """The key of a module's parameter: the module's name where it is "weight", else both, with
    a dot."""
    return name if parameter == "weight" else f"{name}.{parameter}".removeprefix(".")


def prunable(model: nn.Module) -> list[tuple[str, nn.Module, str]]:
    """The prunable weights of a model in the order of its modules: (key, module, name of the
    parameter).

    These are the weights of Linear and (transposed) convolution layers, the input projections
    of ``nn.MultiheadAttention``, and the input and recurrent weights of LSTM, GRU and RNN
    layers and cells. Embeddings, normalisations, biases and parameters of other modules are
    not among them.

    The key is the module's name in ``model.named_modules()`` where the parameter is called
    "weight", and otherwise that name, a dot and the parameter's name: "layers.0",
    "lstm.weight_hh_l0", "attention.in_proj_weight"; without the dot where the module is the
    model itself. A module that the model uses in several places is listed once.

    Raises ValueError for a lazy layer that has not seen its first batch, and for a weight that
    is a buffer, complex or stored sparsely.
    """
    found = listed(model)
    for each in found:
        check_weight(*each)
    return found


def listed(model: nn.Module) -> list[tuple[str, nn.Module, str]]:
    """`prunable`, of which nothing is checked: for those who choose some and check these."""
    return [
        (key_of(name, parameter), module, parameter)
        for name, module in model.named_modules()
        for parameter in weights_of(module)
    ]


def check_weight(key: str, module: nn.Module, parameter: str = "weight") -> None:
    """Raise ValueError for a weight that has no shape yet, is a buffer, complex, or stored
    sparsely: it has no masks, gates or scores."""
    _, held = _held(module, parameter)
    if isinstance(held, UninitializedParameter):
        raise ValueError(
            f"model: {key!r} has no shape yet; run one batch through the model first"
        )
    if module._buffers.get(parameter) is not None:
        raise ValueError(
            f"model: the {parameter} of {key!r} is a buffer, which no optimizer trains, needs"
            " a torch.nn.Parameter"
        )
    if held is not None and held.is_complex():
        raise ValueError(
            f"model: the {parameter} of {key!r} has dtype {held.dtype}, needs real numbers;"
            " complex weights have no gates, masks or scores"
        )
    if held is not None and held.layout is not torch.strided:
        raise ValueError(
            f"model: the {parameter} of {key!r} has layout {held.layout}, needs a dense"
            " tensor, such as its to_dense(); exact zeros in it count as removed"
        )


def selected(
    model: nn.Module,
    layers: Iterable[str] | None = None,
    ignore: Iterable[str] | None = None,
) -> list[tuple[str, nn.Module, str]]:
    """`prunable`, of which `layers` are taken (None: all) and `ignore` left out.

    Both hold keys of `prunable` or names of modules, which stand for all weights inside. Where
    `layers` is None, one warning names the parameters of two or more dimensions that no
    prunable weight covers, such as embeddings, except for those in `ignore`.

    Raises ValueError for a string in place of a list, for an unknown name, for a weight that
    other modules hold too (see `tied`) or that `check_weight` refuses, and where nothing is
    left.
    """
    found = listed(model)
    if not found:
        raise ValueError(
            "model: has no weights to prune, needs Linear, convolution, attention or recurrent"
            " layers"
        )
    names = [
        name for name, _ in itertools.chain(model.named_modules(), model.named_parameters())
    ]
    known = {*names, *(key for key, _, _ in found)}
    for argument, given in (("layers", layers), ("ignore", ignore)):
        if isinstance(given, str):
            raise ValueError(
                f"{argument}: got the string {given!r}, needs a list of names such as"
                f" [{given!r}]"
            )
        if unknown := [name for name in given or () if name not in known]:
            keys = [key for key, _, _ in found]
            raise ValueError(
                f"{argument}: got {unknown[0]!r}, needs some of {keys}, or modules above them"
            )
    left_out = list(ignore or ())
    chosen = [
        (key, module, parameter)
        for key, module, parameter in found
        if (layers is None or _inside(key, layers)) and not _inside(key, left_out)
    ]
    if not chosen:
        keys = [key for key, _, _ in found]
        raise ValueError(
            f"layers, ignore: got {layers}, {ignore}, which leave nothing of the weights"
            f" {keys}"
        )
    for each in chosen:
        check_weight(*each)
    if layers is None and (
        others := [name for name in uncovered(model) if not _inside(name, left_out)]
    ):
        notice(
            f"model: {others} have no gates and no scores, because they are not weights of"
            " Linear, convolution, attention or recurrent layers; they stay dense. If that is"
            f" meant, ignore={others} silences this warning"
        )
    check_untied(model, [key for key, _, _ in chosen])
    return chosen


def _inside(key: str, names: Iterable[str]) -> bool:
    return any(key == name or name == "" or key.startswith(f"{name}.") for name in names)


def uncovered(model: nn.Module) -> list[str]:
    """Names of the parameters of two or more dimensions that do not belong to a module of
    `prunable`."""
    modules = {module for _, module, _ in listed(model)}
    inside = {id(p) for module in modules for p in module.parameters(recurse=False)}
    inside |= {
        id(p)
        for module in modules
        if hasattr(module, "parametrizations")
        for p in module.parametrizations.parameters()
    }
    return [
        name for name, p in model.named_parameters() if id(p) not in inside and p.dim() >= 2
    ]


def tied(model: nn.Module) -> dict[str, list[str]]:
    """Prunable weights whose parameter other modules hold too: {key: the other places}.

    A mask or gate on one of the places would leave the others as they are.
    """
    places: dict[int, list[tuple[nn.Module, str]]] = {}
    for name, module in model.named_modules():
        for parameter, value in module._parameters.items():
            if value is not None:
                places.setdefault(id(value), []).append((module, _place(name, parameter)))
    found = {}
    for key, module, parameter in listed(model):
        owner, held = _held(module, parameter)
        others = [place for other, place in places.get(id(held), []) if other is not owner]
        if others:
            found[key] = others
    return found


def untie(model: nn.Module, module: nn.Module, parameter: str) -> None:
    """Give a masked or otherwise computed weight a parameter of its own where other modules
    hold it too: written into theirs, its value would change what they compute."""
    owner, held = _held(module, parameter)
    others = (each for each in model.modules() if each is not owner)
    if held is not None and any(
        value is held for each in others for value in each._parameters.values()
    ):
        name = next(name for name, value in owner._parameters.items() if value is held)
        own = nn.Parameter(held.detach().clone(), requires_grad=held.requires_grad)
        owner._parameters[name] = own


def _place(name: str, parameter: str) -> str:
    """How a parameter is called where nothing is masked or gated."""
    layer, _, inner = name.partition(".parametrizations.")
    return key_of(layer, inner or parameter.removesuffix("_orig"))


def _held(module: nn.Module, parameter: str) -> tuple[nn.Module, nn.Parameter | None]:
    """The module and the parameter from which a weight is computed, under a mask or gate; None
    where several are in its place."""
    if hasattr(module, "parametrizations") and parameter in module.parametrizations:
        owner = module.parametrizations[parameter]
        return owner, owner._parameters.get("original")
    own = module._parameters
    return module, own.get(parameter, own.get(f"{parameter}_orig"))


# what helps where a weight is tied, see `check_untied`
IGNORE = "ignore={places} leaves both out"
OWN = (
    "give each a parameter of its own, for instance by"
    " layer.weight = torch.nn.Parameter(layer.weight.detach().clone())"
)


def check_untied(model: nn.Module, keys: Iterable[str], remedy: str = IGNORE) -> None:
    """Raise ValueError where a parameter of these keys belongs to other modules too.

    remedy : what the caller's user can do, with {places} for the list of both.
    """
    shared = tied(model)
    for key in keys:
        if key in shared:
            raise ValueError(
                f"model: {key!r} shares its weight with {shared[key]}, which would not see a"
                f" gate or mask on it; {remedy.format(places=[key, *shared[key]])}"
            )
