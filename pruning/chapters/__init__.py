"""One folder a chapter holds all of it: experiment, claims and their rules, tables, figures, captions.

The package knows no chapter by name: it finds them here. `experiment` defines `configs(profile, seeds)`,
which lists the runs, and `run(config)`, which makes one record. The other parts are optional.
"""

import importlib
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """The chapters by name: the folders that hold an experiment."""
    return sorted(path.parent.name for path in FOLDER.glob("*/experiment.py"))


def part(chapter: str, name: str) -> ModuleType | None:
    """A module of a chapter ("experiment", "rules", …); None if the chapter has no such file.

    Raises ValueError for a chapter that does not exist.
    """
    if chapter not in names():
        raise ValueError(f"chapter: got {chapter!r}, needs one of {names()}")
    if not (FOLDER / chapter / f"{name}.py").is_file():
        return None
    return importlib.import_module(f"{__name__}.{chapter}.{name}")
