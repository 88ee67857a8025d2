"""The command `pruning`: data, chapters, sweeps, claims and the book, for the terminal."""

import argparse
import dataclasses
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import NoReturn

from pruning import chapters

# Commands import what they need when they run, so that `pruning --help` answers at once.


# of argparse: name=value, as often and as many as one likes
SET = {"nargs": "+", "action": "extend", "default": [], "metavar": "NAME=VALUE"}


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, needs a whole number of at least 1")
    return int(text)


def _jobs(text: str) -> int:
    if text == "-1":
        return -1
    try:
        return _positive(text)
    except argparse.ArgumentTypeError:
        needs = "needs a whole number of at least 1, or -1 for one process a core"
        raise argparse.ArgumentTypeError(f"got {text!r}, {needs}") from None


def _data(_: argparse.Namespace) -> int:
    from pruning.data import datasets

    frame = datasets.status()
    print(f"cache:  {datasets.cache_folder()}")
    print(f"mirror: {datasets.mirror_folder() or 'none ($PRUNING_DATA_MIRROR)'}\n")
    for row in frame.itertuples():
        size = f"{row.size:>12,} bytes" if row.size else ""
        print(f"{row.dataset:14} {row.where:13} {row.file:38} {size}")
    for row in frame[frame["where"].isin(["missing", "altered"])].itertuples():
        get = row.source
        if row.where == "missing":
            get = f"get it from {row.source or 'a mirror: it has no URL'}"
        print(f"\n{row.dataset}: {row.file} is {row.where}: {get}")
        download = ", or let `pruning sweep` download it" if row.source else ""
        print(f"  and put it at {datasets.cache_folder() / row.file}{download}")
    return int((frame["where"] == "altered").any())


def _chapters(arguments: argparse.Namespace) -> int:
    for name in chapters.names():
        print(name if arguments.names else f"{name:22} {chapters.title(name)}")
    return 0


def _methods(arguments: argparse.Namespace) -> int:
    from pruning import methods

    if arguments.method is None:
        for name, method in sorted(methods.found(methods.Method).items()):
            print(f"{name:12} {method.label}")
        return 0
    method = methods.find(arguments.method)
    print(f"{method.name}: {method.label}")
    for field in dataclasses.fields(method.settings):
        print(f"  {field.name} = {field.default!r:10}  {field.metadata['help']}")
    return 0


def _run(arguments: argparse.Namespace) -> int:
    from pruning.evidence import configs, records
    from pruning.training import loop

    experiment = chapters.part(arguments.chapter, "experiment")
    base = experiment.Config()
    config = configs.changed(base, **configs.parse(base, arguments.set))
    shown = loop.SHOW_PROGRESS.set(True)
    try:
        record = records.run_one(experiment.run, config)
    finally:
        loop.SHOW_PROGRESS.reset(shown)
    if arguments.out:
        records.append(Path(arguments.out), record)
    for name, value in record.items():
        if not isinstance(value, dict) and len(str(value)) < 80 and value is not None:
            print(f"{name:32} {value}")
    for said in _unlike_asked(record):
        print(f"pruning: {said}", file=sys.stderr)
    return 0


def _unlike_asked(record: dict) -> list[str]:
    """What a user would overlook in a record: far more weights than were asked for, and layers
    without any."""
    from pruning.methods.hardening import MANY

    kept, density, total = (record.get(key) for key in ("kept", "density", "dense_weights"))
    said = []
    if None not in (kept, density, total) and kept > MANY * density * total:
        said.append(
            f"{kept:,} weights are kept, {round(density * total):,} were asked for: train"
            f" longer, or, with gates, set a budget (--set at_most={round(density * total)})"
        )
    if 0 in (record.get("kept_by_layer") or ()):
        said.append(
            f"a layer has no weights left: {record['kept_by_layer']} are kept by layer"
        )
    return said


def _sweep(arguments: argparse.Namespace) -> int:
    from pruning.evidence import cluster, records
    from pruning.evidence.configs import narrowed
    from pruning.evidence.sweep import sweep

    experiment = chapters.part(arguments.chapter, "experiment")
    configs = experiment.configs(arguments.profile, arguments.seeds)
    if arguments.data:
        configs = chapters.on_data(arguments.chapter, configs, arguments.data)
    configs = narrowed(configs, arguments.set)
    path = Path(arguments.out or records.records_folder() / f"{arguments.chapter}.jsonl")
    todo = len(records.missing(configs, records.read(path)))
    print(
        f"{arguments.chapter}, {arguments.profile}: {todo} of {len(configs)} runs to do →"
        f" {path}"
    )
    if arguments.dry_run:
        return 0
    here = arguments.scheduler is None
    with nullcontext() if here else cluster.workers(arguments.scheduler):
        together = getattr(experiment, "TOGETHER", None)
        runs = sweep(
            experiment.run,
            configs,
            path,
            jobs=arguments.jobs,
            together=together,
            retry=arguments.retry,
        )
        for _ in runs:
            pass
    return 0


def _records(arguments: argparse.Namespace) -> int:
    from pruning.evidence import records

    paths = [Path(file.removesuffix(".xz")) for file in arguments.files]
    if not paths and arguments.do_what == "pack":
        raise ValueError("records: pack needs the file to pack")
    for path in paths:
        if not path.is_file() and not records.packed(path).is_file():
            raise ValueError(f"records: there is no file {path}")
    names = chapters.names()
    wrong = 0
    for found in records.check(
        paths or _record_files(),
        lambda path: chapters.kinds(path.stem) if path.stem in names else (),
    ):
        alone = "" if found.path.stem in names else f"; {found.path.stem!r} is no chapter"
        if not found.error and alone and not paths:
            error = f"{found.path}: belongs to no chapter; needs the name of one of {names}"
            found = dataclasses.replace(found, error=error)
        if found.error:
            wrong += 1
            print(f"pruning: {found.error}", file=sys.stderr)
            continue
        if arguments.do_what == "pack":
            records.pack(found.path)
        print(f"{found.path}: {found.count} records, all sound{alone}")
    return int(wrong > 0)


def _record_files() -> list[Path]:
    """The files in the folder of records. Raises ValueError if there is none."""
    from pruning.evidence import records

    folder = records.records_folder()
    if not folder.is_dir():
        raise ValueError(f"records: there is no folder {folder}")
    found = {folder / path.name.removesuffix(".xz") for path in folder.glob("*.jsonl*")}
    if not found:
        raise ValueError(
            f"records: {folder} has no record file; $PRUNING_RECORDS must name a folder of"
            " them, such as book/records of a checkout"
        )
    return sorted(found)


def _claims(_: argparse.Namespace) -> int:
    from pruning.pages import scoreboard

    board = scoreboard.board()
    _record_files()  # without any of them no verdict means anything
    for row in board.itertuples():
        seeds = f"{row.seeds:>2} seeds" if row.seeds else ""
        print(f"{row.id}  {row.verdict:14} {seeds:8}  {row.claim}")
        if row.ours:
            print(f"{'':29}ours: {row.ours}")
    return 0


def _book(arguments: argparse.Namespace) -> int:
    try:
        from pruning.pages import book
    except ModuleNotFoundError as error:
        raise _needs_book("book", error) from None
    return book.build(profile=arguments.profile, only=arguments.only)


def _needs_book(command: str, error: ModuleNotFoundError) -> ValueError:
    return ValueError(
        f'{command}: needs the package {error.name}, which comes with the extra "book"; '
        "in a checkout: pip install --editable '.[book]'"
    )


def _readme(_: argparse.Namespace) -> int:
    from pruning.files import CHECKOUT

    try:
        from pruning.pages import readme
    except ModuleNotFoundError as error:
        raise _needs_book("readme", error) from None
    if CHECKOUT is None:
        raise ValueError(
            "readme: README.md is part of a checkout of the project, not of the package"
        )
    readme.refresh(CHECKOUT)
    return 0


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    main = _Parser(prog="pruning", description=__doc__)
    commands = main.add_subparsers(required=True, metavar="command")
    data = commands.add_parser(
        "data", help="what data there is, what is missing, how to get it"
    )
    data.set_defaults(do=_data)
    listed = commands.add_parser("chapters", help="list the chapters that have an experiment")
    listed.add_argument("--names", action="store_true", help="print the names alone")
    listed.set_defaults(do=_chapters)
    known = commands.add_parser("methods", help="list the methods, or the settings of one")
    known.add_argument("method", nargs="?", help="a method's name, for its settings")
    known.set_defaults(do=_methods)
    one = commands.add_parser("run", help="train one network and print what is found")
    one.add_argument("chapter", choices=chapters.names())
    one.add_argument(
        "--set", **SET, help="its config, e.g. method=gates density=0.01 tau=3 seed=5"
    )
    one.add_argument("--out", help="record file to append to (default: none)")
    one.set_defaults(do=_run)
    sweep = commands.add_parser(
        "sweep", help="run a chapter's experiments that are not on record yet"
    )
    sweep.add_argument("chapter", choices=chapters.names())
    sweep.add_argument(
        "--profile",
        default="paper",
        help="one of the chapter's lists of runs (default: paper)",
    )
    sweep.add_argument(
        "--data", help="another data set than the profile's, e.g. cifar10-jpeg for cifar10"
    )
    sweep.add_argument(
        "--seeds", type=_positive, help="number of seeds, from 0 (default: the profile's)"
    )
    sweep.add_argument(
        "--jobs", type=_jobs, default=-1, help="processes, -1 for one a core (default)"
    )
    sweep.add_argument(
        "--scheduler", help="a Dask scheduler's address, or file:PATH: run on its workers"
    )
    sweep.add_argument(
        "--set",
        **SET,
        help="only the runs with these values; if no run has one, it is given to all",
    )
    sweep.add_argument("--out", help="record file (default: book/records/<chapter>.jsonl)")
    sweep.add_argument(
        "--retry", action="store_true", help="run again what failed in an earlier sweep"
    )
    sweep.add_argument("--dry-run", action="store_true", help="only say what is missing")
    sweep.set_defaults(do=_sweep)
    kept = commands.add_parser("records", help="check record files, or pack a long one")
    kept.add_argument(
        "do_what",
        choices=["check", "pack"],
        metavar="check|pack",
        help=(
            "check: every field, no config twice; pack: check, then move FILE.jsonl into"
            " FILE.jsonl.xz"
        ),
    )
    kept.add_argument(
        "files", nargs="*", metavar="FILE", help="FILE.jsonl (check: default all)"
    )
    kept.set_defaults(do=_records)
    board = commands.add_parser(
        "claims", help="the papers' claims and what the records say of them"
    )
    board.set_defaults(do=_claims)
    readme = commands.add_parser("readme", help="bring README's table and figures up to date")
    readme.set_defaults(do=_readme)
    book = commands.add_parser(
        "book", help="execute the notebooks that changed and render the book"
    )
    book.add_argument("--profile", default="quick", choices=["quick", "paper"])
    book.add_argument("--only", help="execute and render with this notebook alone")
    book.set_defaults(do=_book)
    return main


def main(argv: list[str] | None = None) -> int:
    """Run the command; an expected error is one line on stderr and exit status 1."""
    arguments = parser().parse_args(argv)
    try:
        status = arguments.do(arguments)
        sys.stdout.flush()  # what is short is written here
        return status
    except BrokenPipeError:  # the reader of the output, such as `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, RuntimeError, OSError) as error:
        print(f"pruning: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
