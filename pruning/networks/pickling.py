"""Gated and masked layers in pickles and in ``torch.save(model)``.

``torch.nn.utils.parametrize`` gives a layer a class made for it alone, which no pickle can
name, and therefore refuses. A layer with gates and masks is written as one of its plain class,
with its trained parameters in place and the gates and masks beside them; reading puts them on
again. Whole models travel to other processes and into checkpoints in this way.

A recurrent layer also holds the weights that it computed last. They belong to a graph, which
no copy takes, so they are dropped."""

import copy

from torch import nn
from torch.nn.utils import parametrize


def make_picklable(module: nn.Module) -> None:
    """Let a parametrized module be pickled, as long as gates and masks are all it carries, and
    be copied at any time."""
    kind = type(module)
    kind.__reduce_ex__ = _reduce
    if isinstance(module, nn.RNNBase):
        kind.__deepcopy__ = _copy


def forget_flat_weights(module: nn.RNNBase) -> None:
    """Drop the weights that a recurrent layer keeps from its last forward pass or ``to``. The
    next pass finds that they have changed and computes them anew."""
    module._flat_weights = []
    module._flat_weight_refs = [_gone] * len(module._flat_weights_names)


def _gone() -> None:
    """What a weak reference to a lost weight gives."""


def _copy(module: nn.RNNBase, memo: dict) -> nn.RNNBase:
    """``__deepcopy__`` of a parametrized recurrent layer."""
    forget_flat_weights(module)
    copied = type(module).__new__(type(module))
    memo[id(module)] = copied
    copied.__dict__ = copy.deepcopy(module.__dict__, memo)
    return copied


def _reduce(module: nn.Module, protocol: int) -> tuple:
    """The plain class, and the state and parametrizations that `_restore` gives its instance.

    Raises RuntimeError for a parametrization that is neither a gate nor a mask: what it would
    do to a parameter that it is registered on anew is not known."""
    held = dict(module.parametrizations.items())
    for parameter, found in held.items():
        if foreign := [type(e).__name__ for e in found if not hasattr(e, "mask")]:
            raise RuntimeError(
                f"model: {parameter!r} of a {type(module).__bases__[0].__name__} is"
                f" parametrized by {foreign} beside gates or masks, so the model cannot be"
                " pickled; save model.state_dict(), or call pruning.finalize(model) first"
            )
    kind = type(module).__bases__[0]
    state = dict(super(type(module), module).__getstate__())
    originals = {parameter: found.original for parameter, found in held.items()}
    state["_parameters"] = originals | state["_parameters"]
    state["_modules"] = {k: m for k, m in state["_modules"].items() if k != "parametrizations"}
    if isinstance(module, nn.RNNBase):
        state["_flat_weights"] = [
            state["_parameters"].get(name) for name in module._flat_weights_names
        ]  # what is there is computed, by this very `__getstate__`
        forget_flat_weights(module)
    layers = {parameter: list(found) for parameter, found in held.items()}
    return _new, (kind,), (state, layers), None, None, _restore


def _new(kind: type[nn.Module]) -> nn.Module:
    return kind.__new__(kind)


def _restore(module: nn.Module, written: tuple[dict, dict[str, list[nn.Module]]]) -> None:
    state, held = written
    module.__setstate__(state)
    for parameter, found in held.items():
        for each in found:
            training = each.training
            parametrize.register_parametrization(module, parameter, each, unsafe=True)
            each.train(training)
    make_picklable(module)
