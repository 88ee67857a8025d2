"""One folder a chapter holds all of it: experiment, claims and their rules, tables, figures,
captions.

The package knows no chapter by name: it finds them here. CONTRIBUTING.md says how to add one.
`experiment` defines `configs(profile, seeds)`, which lists the runs, and `run(config)`, which
makes one record; `DATASETS` names the data sets that its runs can be on, and `TOGETHER` says
how several runs train at once, if they do. `CONFIGS` lists
the classes of its configs, if `Config` is not the only one, and each class names as `metrics`
what a run of it yields. `claims.yml` and `rules` bring the chapter's
claims, `readme` its part of README.md. All but `experiment` are optional.
"""

import ast
import importlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

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


def kinds(chapter: str) -> tuple[type, ...]:
    """The classes of a chapter's configs: `CONFIGS` of its experiment, or `Config` alone."""
    experiment = part(chapter, "experiment")
    return getattr(experiment, "CONFIGS", None) or (experiment.Config,)


def evidence(chapter: str, folder: Path | None = None) -> list[dict[str, Any]]:
    """A chapter's records, each checked against what its runs yield; `folder` is that of all
    records unless it is given.

    A file that has not changed is read once a process. Raises RecordError that names file,
    line and field of a record that is wrong.
    """
    from pruning.evidence import records

    path = (folder or records.records_folder()) / f"{chapter}.jsonl"
    return records.read_again(path, kinds(chapter))


def title(chapter: str) -> str:
    """The first line of the docstring of a chapter's experiment, read without importing it."""
    source = (FOLDER / chapter / "experiment.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").split("\n")[0]


def on_data(chapter: str, configs: Sequence[Any], dataset: str) -> list[Any]:
    """The chapter's configs on another data set, each once.

    Raises ValueError if the chapter's runs cannot be on that data set.
    """
    suited = getattr(part(chapter, "experiment"), "DATASETS", ())
    if not suited:
        raise ValueError(
            f"data: got {dataset!r}, but the runs of {chapter} are not on a data set"
        )
    if dataset not in suited:
        raise ValueError(f"data: got {dataset!r}, {chapter} needs one of {list(suited)}")
    return list(dict.fromkeys(replace(config, dataset=dataset) for config in configs))
