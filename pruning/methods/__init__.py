"""The methods that prune, one file each, and what they share. `find` looks through them."""

import importlib
import pkgutil
from functools import lru_cache
from typing import TypeVar

from pruning.training.recipes import Method

T = TypeVar("T")


def collect(kind: type[T], modules: list[object]) -> dict[str, T]:
    """The objects of a kind in modules, by name. Raises ValueError for two of one name."""
    found: dict[str, T] = {}
    for module in modules:
        for value in vars(module).values():
            if not isinstance(value, kind):
                continue
            if found.setdefault(value.name, value) is not value:
                raise ValueError(
                    f"name: two {kind.__name__} objects are called {value.name!r}"
                )
    return found


@lru_cache
def found(kind: type[T]) -> dict[str, T]:
    """All objects of a kind in the modules of this folder, {name: object}."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return collect(kind, [importlib.import_module(f"{__name__}.{name}") for name in names])


def find(name: str, kind: type[T] = Method) -> T:
    """A method (or another kind) by its name. Raises ValueError if there is none."""
    known = found(kind)
    if name not in known:
        raise ValueError(f"method: got {name!r}, needs one of {sorted(known)}")
    return known[name]
