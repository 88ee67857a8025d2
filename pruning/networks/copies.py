"""Copies of models whose functions compute with the copy.

``copy.deepcopy`` takes a function as it is. One that a model holds, such as a lambda that
calls ``self.layer``, a ``forward`` that was wrapped, or a hook, still computes with the layers
of the model in the copy.
"""

import copy
import functools
from collections.abc import Mapping
from types import CellType, FunctionType, MethodType
from typing import Any, TypeVar

from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


def deep_copy(model: M, memo: dict[int, Any] | None = None) -> M:
    """``copy.deepcopy``, in which every function that a module holds, as an attribute or as a
    forward hook, refers to the copies of the modules and tensors that it refers to in the
    model: in its closure, in its defaults, or by global names. `memo` as of
    ``copy.deepcopy``."""
    memo = {} if memo is None else memo
    copied = copy.deepcopy(model, memo)
    moved = _Moved(memo)
    for module in copied.modules():
        for held in (vars(module), module._forward_hooks, module._forward_pre_hooks):
            for name, value in list(held.items()):
                if isinstance(value, (FunctionType, MethodType, functools.partial)):
                    held[name] = moved(value)
    return copied


class _Moved:
    """What stands in a copy for an object: the copies of modules and tensors, functions that
    refer to these, and anything else as it is."""

    def __init__(self, memo: Mapping[int, Any]):
        self._memo = memo
        self._functions: dict[int, FunctionType] = {}

    def __call__(self, value: Any) -> Any:
        if isinstance(value, (nn.Module, Tensor)):
            return self._memo.get(id(value), value)
        if not self._refers(value, {}):
            return value
        if isinstance(value, FunctionType):
            return self._functions.get(id(value)) or self._function(value)
        if isinstance(value, MethodType):
            return MethodType(value.__func__, self(value.__self__))
        if isinstance(value, functools.partial):
            keywords = {name: self(each) for name, each in value.keywords.items()}
            return functools.partial(self(value.func), *map(self, value.args), **keywords)
        if isinstance(value, dict):
            return {key: self(each) for key, each in value.items()}
        return type(value)(map(self, value))

    def _refers(self, value: Any, seen: dict[int, Any]) -> bool:
        """Whether a value leads to a module or tensor that was copied."""
        if id(value) in seen:
            return False
        seen[id(value)] = value  # which keeps it alive, and so its number its own
        if isinstance(value, (nn.Module, Tensor)):
            return id(value) in self._memo
        return any(self._refers(part, seen) for part in _parts(value))

    def _function(self, function: FunctionType) -> FunctionType:
        cells = tuple(CellType() for _ in function.__closure__ or ())
        again = FunctionType(
            function.__code__, dict(function.__globals__), function.__name__, None, cells
        )
        self._functions[id(function)] = again  # before what may refer to it
        for cell, old in zip(cells, function.__closure__ or (), strict=True):
            if _filled(old):
                cell.cell_contents = self(old.cell_contents)
        again.__globals__.update({k: self(v) for k, v in _read(function).items()})
        again.__defaults__ = self(function.__defaults__)
        again.__kwdefaults__ = self(function.__kwdefaults__)
        again.__dict__.update(function.__dict__)
        again.__module__, again.__qualname__ = function.__module__, function.__qualname__
        return again


def _parts(value: Any) -> list[Any]:
    """The objects that one refers to, as far as they may lead to a module."""
    if isinstance(value, FunctionType):
        cells = [c.cell_contents for c in value.__closure__ or () if _filled(c)]
        read = _read(value).values()
        return [*cells, *read, value.__defaults__, value.__kwdefaults__]
    if isinstance(value, MethodType):
        return [value.__self__]
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if type(value) is dict:
        return list(value.values())
    return list(value) if type(value) in (list, tuple) else []


def _read(function: FunctionType) -> dict[str, Any]:
    """The globals that a function reads and that may lead to a module."""
    known = function.__globals__
    return {
        name: known[name]
        for name in _names(function)
        if name in known and _may_refer(known[name], function)
    }


def _may_refer(value: Any, function: FunctionType) -> bool:
    """Whether a global that a function reads may lead to a module: functions of other files,
    such as torch's, do not."""
    if isinstance(value, FunctionType):
        return value.__globals__ is function.__globals__
    return isinstance(value, (nn.Module, Tensor, MethodType, functools.partial))


def _filled(cell: CellType) -> bool:
    """Whether a variable has a value yet."""
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False


def _names(function: FunctionType) -> set[str]:
    """The names that a function reads, also in functions that are written inside of it."""
    waiting, names = [function.__code__], set()
    while waiting:
        code = waiting.pop()
        names |= set(code.co_names)
        waiting += [each for each in code.co_consts if hasattr(each, "co_names")]
    return names
