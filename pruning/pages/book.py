"""From notebooks to the rendered book: execute what changed, then render.

An executed notebook carries the fingerprint of everything it was made from: its own cells and
parameters, the modules of this package that it imports, directly or through one another, the
files that its metadata lists as inputs, and the pinned versions. Where the fingerprint still
holds the notebook is not executed again. The pages carry one too.
"""

import ast
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path

from pruning.pages.sooner import JUPYTER_BOOK  # isort: split

import joblib
import nbformat
import papermill
from filelock import FileLock
from jupyter_core.utils import ensure_event_loop

from pruning.files import CHECKOUT, PACKAGE

# the kernel draws what a browser can enlarge; a notebook that is opened by hand keeps its own
# format; kernels that run at once share no file of past commands; the modules that a notebook
# loads are many objects, and looking for garbage among them would take a tenth of its time
KERNEL = [
    "--log-level=CRITICAL",
    "--InlineBackend.figure_formats={'svg'}",
    "--HistoryManager.enabled=False",
    "--IPKernelApp.exec_lines=['__import__(\"gc\").set_threshold(100_000, 20, 20)']",
]
MOST_KERNELS = 4  # each takes about 1 GB
SVG = "image/svg+xml"
PATHS = re.compile(r'\bd="[^"]*"')  # the only numbers of an SVG that may be rounded
DECIMALS = re.compile(r"(\.\d\d)\d+")
UNSEEN = re.compile(r"\n(?:\s|<!--.*?-->|<metadata>.*?</metadata>)+", re.DOTALL)


class BookError(RuntimeError):
    """A notebook that fails or a page that does not render."""


# Python 3.11 counts the parser's depth where all threads write: two at once can fail
# ("AST constructor recursion depth mismatch")
_PARSING = threading.Lock()


@cache
def _imports(source: str, package: str = "") -> frozenset[str]:
    """Dotted names a piece of code imports; ``from a import b`` counts as a and a.b.

    ``from .a import b`` counts where the code is that of a `package`.
    """
    found = set()
    with _PARSING:
        tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (package or not node.level):
            module = ".".join(filter(None, [package if node.level else "", node.module]))
            found.add(module)
            found.update(f"{module}.{alias.name}" for alias in node.names)
    return frozenset(found)


def modules_used(source: str) -> list[Path]:
    """Files of this package that a piece of code imports, directly or through one another.

    Names that a package loads on first use are listed in its __init__.pyi: all of them count.
    """
    used, todo = set(), set(_imports(source))
    while todo:
        parts = todo.pop().split(".")
        if parts[0] != PACKAGE.name:
            continue
        for length in range(1, len(parts) + 1):  # importing a.b runs a/__init__ first
            name, base = ".".join(parts[:length]), PACKAGE.parent.joinpath(*parts[:length])
            for path in (base / "__init__.py", base / "__init__.pyi", base.with_suffix(".py")):
                if path.is_file() and path not in used:
                    used.add(path)
                    inside = name if path.suffix == ".pyi" else ""
                    todo |= _imports(path.read_text(encoding="utf-8"), inside)
    return sorted(used)


def fingerprint(notebook: Path, parameters: dict) -> str:
    """sha256 over everything that the executed notebook depends on."""
    content = nbformat.read(notebook, as_version=4)
    cells = [
        [cell.cell_type, cell.source, cell.metadata.get("tags", [])] for cell in content.cells
    ]
    code = "\n".join(cell.source for cell in content.cells if cell.cell_type == "code")
    root = notebook.parent.parent
    files = [*modules_used(code), root / "constraints.txt"]
    for pattern in content.metadata.get("pruning", {}).get("inputs", []):
        files += sorted({*root.glob(pattern), *root.glob(f"{pattern}.xz")})  # packed records
    digest = hashlib.sha256(json.dumps([cells, parameters, KERNEL], sort_keys=True).encode())
    for path in files:
        if path.is_file():
            digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _fingerprint_in(executed: Path) -> str | None:
    """What an executed notebook was made from; None if the file was cut off."""
    try:
        content = nbformat.read(executed, as_version=4)
    except ValueError:  # not JSON
        return None
    return content.metadata.get("pruning", {}).get("fingerprint")


def execute(notebook: Path, target: Path, parameters: dict) -> bool:
    """Execute a notebook into `target` unless that is up to date; returns whether it was
    executed.

    Of two processes at the same target the second waits. A failing notebook raises BookError
    and leaves `target` as it was.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_name(f".{target.stem}.lock")):
        made_from = fingerprint(notebook, parameters)
        if target.is_file() and _fingerprint_in(target) == made_from:
            return False
        _execute_into(target, notebook, parameters, made_from)
    return True


def _execute_into(target: Path, notebook: Path, parameters: dict, made_from: str) -> None:
    prefix = f".{target.stem}-"
    for left in target.parent.glob(f"{prefix}*"):  # an execution that was killed
        shutil.rmtree(left)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=prefix) as folder:
        out = Path(folder) / target.name
        try:
            papermill.execute_notebook(
                notebook,
                out,
                parameters=parameters,
                cwd=notebook.parent,
                kernel_name="python3",
                progress_bar=False,
                log_output=False,
                extra_arguments=KERNEL,
            )
        except papermill.PapermillExecutionError as error:
            raise BookError(f"{notebook.name}: {error}") from error
        executed = nbformat.read(out, as_version=4)
        executed.metadata.setdefault("pruning", {})["fingerprint"] = made_from
        # papermill's own record holds times and paths of this machine
        executed.metadata.pop("papermill", None)
        for cell in executed.cells:
            cell.metadata.pop("papermill", None)
            cell.metadata.pop("execution", None)
            if "injected-parameters" in cell.metadata.get("tags", []):
                cell.metadata.tags.append("remove-cell")
        nbformat.write(executed, out)
        out.replace(target)


def build(profile: str = "quick", only: str | None = None, root: Path | None = None) -> int:
    """Execute the notebooks that changed and render the pages to book/_build/html.

    Raises BookError for a failing notebook, an unknown `only`, or any warning of Sphinx.
    """
    root = root or CHECKOUT
    if root is None:
        raise BookError(
            "book: the notebooks are part of a checkout of the project, not of the package"
        )
    notebooks = sorted((root / "notebooks").glob("*.ipynb"))
    if only is not None and only not in {path.stem for path in notebooks}:
        raise BookError(
            f"only: got {only!r}, needs one of {[path.stem for path in notebooks]}"
        )
    wanted = [path for path in notebooks if only in (None, path.stem)]
    run = partial(_execute, chapters=root / "book" / "chapters", profile=profile)
    kernels = min(joblib.cpu_count(), MOST_KERNELS, len(wanted))
    with _cores_each(joblib.cpu_count() // kernels):
        pool = ThreadPoolExecutor(kernels)  # of threads, since each waits for its kernel
        try:
            for number, said in enumerate(pool.map(run, wanted), start=1):
                print(f"notebook {number} of {len(wanted)}, {said}", flush=True)
        finally:
            pool.shutdown(cancel_futures=True)  # after a failure no other begins
    start = time.monotonic()
    done = "rendered" if render(root) else "up to date"
    print(f"pages {done} ({time.monotonic() - start:.0f} s)", flush=True)
    print(f"open {root / 'book' / '_build' / 'html' / 'index.html'}")
    return 0


@contextmanager
def _cores_each(count: int) -> Iterator[None]:
    """Kernels that start in the block use `count` cores each, so that none waits for
    another's."""
    names = ("LOKY_MAX_CPU_COUNT", "OMP_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, str(count)))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def _execute(notebook: Path, chapters: Path, profile: str) -> str:
    """What happened to a notebook, and how long it took."""
    start = time.monotonic()
    try:
        executed = execute(notebook, chapters / notebook.name, {"profile": profile})
    finally:
        ensure_event_loop().close()  # this thread's, on which nbclient spoke to the kernel
    seconds = time.monotonic() - start
    return f"{notebook.stem}: {'executed' if executed else 'up to date'} ({seconds:.0f} s)"


def _walk(folder: Path) -> Iterator[Path]:
    """Files in a folder, in order, without hidden ones and what is built or downloaded."""
    for where, folders, names in os.walk(folder):
        leave = ("_build", "cache", "__pycache__")
        folders[:] = sorted(n for n in folders if n not in leave and not n.startswith("."))
        yield from (Path(where) / name for name in sorted(names) if not name.startswith("."))


def _made_from(root: Path) -> dict[str, str]:
    """sha256 over what renders the pages, "by", and over all that they tell, "from"."""

    def digest(said: list[str], files: Iterable[Path]) -> str:
        found = hashlib.sha256(json.dumps(said).encode())
        for path in files:
            found.update(os.path.relpath(path, root).encode())
            found.update(hashlib.sha256(path.read_bytes()).digest())
        return found.hexdigest()

    site = Path(sysconfig.get_path("purelib"))
    installed = [sys.version, *sorted(path.name for path in site.glob("*.dist-info"))]
    folders = [root / "book", root / "data", PACKAGE]
    if records := os.environ.get("PRUNING_RECORDS"):
        folders.append(Path(records))
    # a page shows images of MNIST where it is at hand
    cache = os.environ.get("PRUNING_DATA") or root / "data" / "cache"
    folders += [
        Path(at) / "MNIST" for at in (cache, os.environ.get("PRUNING_DATA_MIRROR")) if at
    ]
    files = [path for path in sorted(root.glob("[!.]*")) if path.is_file()]
    for folder in folders:
        files += _walk(folder)
    return {"by": digest(installed, _walk(PACKAGE / "pages")), "from": digest([], files)}


def _rendered(html: Path) -> dict[str, int]:
    """The size of every file of the rendered pages."""
    return {
        path.relative_to(html).as_posix(): path.stat().st_size
        for path in html.rglob("*")
        if path.is_file()
    }


def render(root: Path) -> bool:
    """Render book/ with jupyter-book, every warning an error, unless the pages are up to date;
    returns whether it was rendered.

    A note beside the pages says what they were made from and lists their files. All pages are
    rendered anew where it is missing, since a rendering was killed or failed, where a file is
    not as it says, and where our extensions of Sphinx or the packages installed have changed.
    Of two processes the second waits.
    """
    build = root / "book" / "_build"
    html, note = build / "html", build / ".made-from"
    build.mkdir(parents=True, exist_ok=True)
    with FileLock(build / ".lock"):
        made_from = _made_from(root)
        try:
            before = json.loads(note.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # not there, or cut off
            before = {}
        whole = before.get("files") == _rendered(html)
        if whole and before == made_from | {"files": before["files"]}:
            return False
        if not whole or before["by"] != made_from["by"]:
            for folder in (html, build / ".doctrees"):
                shutil.rmtree(folder, ignore_errors=True)
        note.unlink(missing_ok=True)
        _render(root, html)
        made_from["files"] = _rendered(html)
        note.write_text(json.dumps(made_from), encoding="utf-8")
    return True


def _render(root: Path, html: Path) -> None:
    command = [
        *(sys.executable, "-c", JUPYTER_BOOK),
        "build",
        str(root / "book"),
        *("--path-output", str(root / "book")),
        *("--config", str(root / "_config.yml")),
        *("--toc", str(root / "_toc.yml")),
        "--warningiserror",
        "--keep-going",
        "--quiet",
    ]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BookError(f"jupyter-book failed:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    # 5 MB of the theme that no reader loads: maps of its scripts, its translations, and fonts
    # that it has in a smaller format too
    shutil.rmtree(html / "_static" / "locales", ignore_errors=True)
    for pattern in ("*.map", "*.ttf"):
        for unused in (html / "_static").rglob(pattern):
            unused.unlink()
    for notebook in (html / "_sources").rglob("*.ipynb"):  # 1 MB of indentation
        content = json.loads(notebook.read_text(encoding="utf-8"))
        for cell in content["cells"]:
            for output in cell.get("outputs", []):
                if drawing := output.get("data", {}).get(SVG):
                    output["data"][SVG] = lighter("".join(drawing))
        compact = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
        notebook.write_text(compact, encoding="utf-8")
    for image in (html / "_images").glob("*.svg"):
        image.write_text(lighter(image.read_text(encoding="utf-8")), encoding="utf-8")
    text = "".join(page.read_text(encoding="utf-8") for page in html.rglob("*.html"))
    for image in (html / "_images").glob("*"):
        if image.name not in text:
            image.unlink()  # a figure of an earlier build


def lighter(svg: str) -> str:
    """A drawing whose paths have two decimals, a hundredth of a point, in place of six: they
    are most of what a figure weighs. Comments and indentation go too."""
    bare = UNSEEN.sub("\n", svg)
    return PATHS.sub(lambda path: DECIMALS.sub(r"\1", path[0]), bare)
