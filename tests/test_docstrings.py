"""Every name that a public docstring gives in backticks can be reached as it is written."""

import inspect
import pkgutil
import re

import pytest

import pruning


def documented():
    """(name, object, the class or module it belongs to) of everything public with a
    docstring."""
    for name in pruning.__all__:
        found = getattr(pruning, name)
        yield f"pruning.{name}", found, pruning
        public = {key: each for key, each in vars(found).items() if key[:1] != "_"}
        if inspect.isclass(found):
            members = public.items()
        elif inspect.ismodule(found):
            own = found.__name__
            members = [e for e in public.items() if getattr(e[1], "__module__", None) == own]
        else:
            members = ()
        for key, each in members:
            if inspect.getdoc(each) and (callable(each) or isinstance(each, property)):
                yield f"pruning.{name}.{key}", each, found


def parameters(found):
    try:
        return set(inspect.signature(found).parameters)
    except (TypeError, ValueError):
        return set()


def reachable(name, found, owner):
    """A parameter, an attribute, a name of ``pruning`` or of the same public module, or a full
    path."""
    if name in parameters(found) | parameters(owner):
        return True
    for path in (f"pruning.{name}", name):
        try:
            pkgutil.resolve_name(path)
        except (ImportError, AttributeError, ValueError):
            continue
        return True
    fields = {key for each in (found, owner) for key in getattr(each, "__annotations__", ())}
    return hasattr(found, name) or hasattr(owner, name) or name in fields


def test_names_that_do_not_exist_are_seen():
    assert reachable("prune_by_score", pruning.gate, pruning)
    assert reachable("granularity", pruning.gate, pruning)
    assert reachable("pruning.networks.layers.visit_layers", pruning.gate, pruning)
    assert not reachable("visit_layers", pruning.gate, pruning)
    assert not reachable("layer", pruning.sparsity_report, pruning)


@pytest.mark.parametrize(
    ("name", "found", "owner"), [pytest.param(*each, id=each[0]) for each in documented()]
)
def test_names_in_docstrings_are_reachable(name, found, owner):
    text = re.sub(r"``.*?``", "", inspect.getdoc(found) or "", flags=re.DOTALL)
    names = re.findall(r"`([^`]+)`", text)
    missing = [each for each in names if not reachable(each, found, owner)]
    assert not missing, f"{name}: {missing}"
