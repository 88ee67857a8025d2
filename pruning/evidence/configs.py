"""Configs and their flat form: the fields of a record, and what can be set from the shell.

A config is a frozen dataclass. One of its fields may be `settings`, a frozen dataclass of the
config's method; the class then says which by ``settings_of(method)``. On disk and on the
command line the fields of both stand side by side, so that tau is tau wherever it is kept.
"""

import dataclasses
import math
from ast import literal_eval
from collections.abc import Collection, Iterable, Sequence
from functools import cache
from typing import Any, TypeVar, get_args, get_type_hints

import msgspec

from pruning.evidence.schema import said

C = TypeVar("C")


def flat(config: Any) -> dict[str, Any]:
    """The fields of a config, those of its settings among them."""
    found = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    settings = found.pop("settings", None)
    return found | (dataclasses.asdict(settings) if settings is not None else {})


# Of each class once, since `dataclasses.fields` is slow and records are read by the thousand
@cache
def _own(kind: type) -> tuple[str, ...]:
    """The names of a dataclass's fields, `settings` left out."""
    return tuple(f.name for f in dataclasses.fields(kind) if f.name != "settings")


@cache
def _flat_names(kind: type, settings: type | None) -> dict[str, bool]:
    """The flat names of a config with these settings, and whether they belong to the
    settings."""
    names = dict.fromkeys(_own(kind), False)
    return names | (dict.fromkeys(_own(settings), True) if settings else {})


@cache
def _default_method(kind: type) -> Any:
    """The method of a config that names none; "" if its class has no methods."""
    return next((f.default for f in dataclasses.fields(kind) if f.name == "method"), "")


def _names(kind: type, values: dict[str, Any]) -> dict[str, bool]:
    """The flat names of a config with these values, and whether they belong to its
    settings."""
    if not hasattr(kind, "settings_of"):
        return _flat_names(kind, None)
    return _flat_names(kind, kind.settings_of(values.get("method", _default_method(kind))))


def _split(kind: type, values: dict[str, Any], method: str) -> tuple[dict, dict]:
    """`values` as those of the config and those of its method's settings."""
    names = _names(kind, {"method": method})
    if unknown := sorted(values.keys() - names.keys()):
        of = f" of method {method!r}" if method else ""
        raise ValueError(
            f"{unknown[0]}: no setting{of}, needs one of {', '.join(sorted(names))}"
        )
    mine = {name: value for name, value in values.items() if not names[name]}
    return mine, {name: value for name, value in values.items() if names[name]}


@cache
def _fields(kind: type) -> type[msgspec.Struct]:
    """The fields of a dataclass with their annotations, for msgspec to check."""
    hints = get_type_hints(kind, include_extras=True)
    return msgspec.defstruct(kind.__name__, [(name, hints[name]) for name in _own(kind)])


@cache
def _numbers(kind: type) -> tuple[str, ...]:
    """The names of the fields of a dataclass that may be floats."""
    hints = get_type_hints(kind)
    return tuple(n for n in _own(kind) if {float, Any} & {hints[n], *get_args(hints[n])})


def _check_types(values: Any) -> None:
    try:
        msgspec.convert(values, _fields(type(values)), from_attributes=True)
    except msgspec.ValidationError as error:
        raise ValueError(said(error, flat(values))) from None
    for name in _numbers(type(values)):
        value = getattr(values, name)
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name}: got {value!r}, needs a finite number")


def settle(config: Any, **choices: Collection[Any]) -> None:
    """Check a new config, and give it the default settings of its method if it has none.

    For ``__post_init__``. `choices` are the values that a field may have. Raises ValueError
    for a field of another type or out of its bounds (see `pruning.bounds`), an unknown method,
    or the settings of another method.
    """
    _check_types(config)
    choose(config, **choices)
    if not hasattr(config, "settings_of"):
        return
    kind = config.settings_of(config.method)
    if config.settings is None:
        object.__setattr__(config, "settings", kind())
    if type(config.settings) is not kind:
        raise ValueError(
            f"settings: got {config.settings!r}, needs those of {config.method!r}: {kind()!r}"
        )
    _check_types(config.settings)


def choose(config: Any, **choices: Collection[Any]) -> None:
    """Check fields that have one of some values; all that is left to do for a class of configs
    whose base settles them. Raises ValueError as `settle`."""
    for name, known in choices.items():
        if getattr(config, name) not in known:
            raise ValueError(
                f"{name}: got {getattr(config, name)!r}, needs one of {list(known)}"
            )


def make(kind: type[C], /, **values: Any) -> C:
    """A config from flat values. Raises ValueError for a name its method does not know."""
    return _made(kind, *_split(kind, values, values.get("method", _default_method(kind))))


def _made(kind: type[C], mine: dict[str, Any], theirs: dict[str, Any]) -> C:
    """A config from its own fields and those of its method's settings."""
    if hasattr(kind, "settings_of"):
        method = mine.get("method", _default_method(kind))
        mine["settings"] = kind.settings_of(method)(**theirs)
    return kind(**mine)


def changed(config: C, /, **values: Any) -> C:
    """A config with other flat values. Another method starts from its own default settings.

    Raises ValueError for a name that the method does not know.
    """
    method = values.get("method", getattr(config, "method", ""))
    mine, theirs = _split(type(config), values, method)
    if hasattr(config, "settings"):
        same = method == config.method
        settings = config.settings if same else type(config).settings_of(method)()
        mine["settings"] = dataclasses.replace(settings, **theirs)
    return dataclasses.replace(config, **mine)


def of_record(record: dict[str, Any], kind: type[C]) -> C:
    """The config that a record was made with.

    Fields of the record that neither the config nor its method's settings have are ignored.
    """
    names = _names(kind, record)
    mine: dict[str, Any] = {}
    theirs: dict[str, Any] = {}
    for name, value in record.items():
        if name in names:
            part = theirs if names[name] else mine
            part[name] = tuple(value) if isinstance(value, list) else value
    return _made(kind, mine, theirs)


def measured(record: dict[str, Any], kind: type) -> dict[str, Any]:
    """The fields of a record that belong to no config of its method."""
    names = _names(kind, record)
    return {name: value for name, value in record.items() if name not in names}


def parse(config: Any, assignments: Iterable[str]) -> dict[str, Any]:
    """``name=value`` texts as flat values for `changed`, each of the type its field has now.

    A value is a Python literal, or else a text. Raises ValueError in one line for a text
    without "=", an unknown name, or a value of another type.
    """
    texts = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise ValueError(f"set: got {assignment!r}, needs name=value")
        texts[name] = text
    if "method" in texts:
        config = changed(config, method=texts["method"])
    known = flat(config)
    found = {}
    for name, text in texts.items():
        if name not in known:
            choice = ", ".join(sorted(known))
            raise ValueError(f"{name}: no such setting, needs one of {choice}")
        found[name] = _typed(name, text, known[name])
    return found


def _typed(name: str, text: str, like: Any) -> Any:
    """A text as a value of the type of `like`."""
    if isinstance(like, str):
        return text
    try:
        value = literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    if isinstance(like, float) and type(value) is int:
        value = float(value)
    if isinstance(like, tuple) and isinstance(value, (int, float, list)):
        value = tuple(value) if isinstance(value, list) else (value,)
    fits = type(value) is type(like)
    if like is None:
        fits = value is None or isinstance(value, (int, float))
    if not fits or (isinstance(value, float) and not math.isfinite(value)):
        kind = "a number or None" if like is None else f"a value such as {like!r}"
        raise ValueError(f"{name}: got {text!r}, needs {kind}")
    return value


def narrowed(configs: Sequence[C], assignments: Iterable[str]) -> list[C]:
    """A list of configs, narrowed or changed by ``name=value`` texts, one after the other.

    If some configs have the value, those stay. If none has it, all that know the name are
    changed to it, each once. Raises ValueError for a name that none knows, or a value of
    another type.
    """
    found = list(configs)
    for assignment in assignments:
        name = assignment.partition("=")[0]
        knowing = [config for config in found if name in flat(config)]
        value = parse((knowing or found)[0], [assignment])[name]
        having = [config for config in knowing if flat(config)[name] == value]
        found = having or [changed(config, **{name: value}) for config in knowing]
    return list(dict.fromkeys(found))
