import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

import pruning
from pruning import cli
from pruning.pages import book

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "book" / "_build" / "html"
WEB = r"(?:https?:)?//"


@pytest.fixture(scope="session")
def pages(html):
    """The text of every rendered page."""
    found = sorted(p for p in html.rglob("*.html") if "_static" not in p.parts)
    assert html / "index.html" in found
    return {path: path.read_text(encoding="utf-8") for path in found}


def test_no_traceback_and_no_warning_in_any_output(pages):
    for notebook in (ROOT / "book" / "chapters").glob("*.ipynb"):
        for cell in nbformat.read(notebook, as_version=4).cells:
            for output in cell.get("outputs", []):
                assert output.output_type != "error", notebook
                assert output.get("name") != "stderr", (notebook, output.text)
    for path, text in pages.items():
        assert "Traceback (most recent call last)" not in text, path


def test_every_image_exists_and_every_figure_cell_drew_one(pages):
    for path, text in pages.items():
        for source in re.findall(r'<img[^>]*src="([^"]+)"', text):
            assert (path.parent / source).resolve().is_file(), (path, source)
    for notebook in (ROOT / "book" / "chapters").glob("*.ipynb"):
        for cell in nbformat.read(notebook, as_version=4).cells:
            if "plt.show()" in cell.source:
                drawn = [mime for o in cell.outputs for mime in o.get("data", {})]
                assert "image/svg+xml" in drawn, cell.source
                alt = cell.metadata.mystnb.image.alt
                assert f'alt="{alt}"' in pages[HTML / "chapters" / f"{notebook.stem}.html"]


def test_it_weighs_less_than_15_mb_and_runs_no_script_for_formulas(pages):
    files = [path for path in HTML.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 15e6
    assert not [path for path in files if "mathjax" in path.name.lower()]
    method = pages[HTML / "chapters" / "compression_curves.html"]
    assert method.count("<math") > 10
    assert "<merror" not in "".join(pages.values())


def test_nothing_is_loaded_from_the_network(pages):
    for path, text in pages.items():
        for tag in re.findall(r"<(?:script|link|img|iframe|source|video|audio)\b[^>]*>", text):
            if 'rel="canonical"' in tag:
                continue
            assert not re.search(rf'(?:src|href|data-src)\s*=\s*["\']?{WEB}', tag), (path, tag)
        for script in re.findall(r"<script[^>]*>(.*?)</script>", text, re.DOTALL):
            assert not re.search(r"https?://\S+\.(?:m?js|css|woff2?)\b", script), (
                path,
                script[:200],
            )
    for sheet in HTML.joinpath("_static").rglob("*.css"):
        css = sheet.read_text(encoding="utf-8", errors="replace")
        assert not re.search(rf"(?:@import\s+|url\(\s*)['\"]?{WEB}", css), sheet


def test_links_between_pages_lead_somewhere(pages):
    for path, text in pages.items():
        for link in re.findall(r'<a[^>]*href="([^"#:]+?)(?:#[^"]*)?"', text):
            assert (path.parent / link).exists(), (path, link)


def test_every_reference_leads_to_its_paper(pages):
    entries = re.findall(r"@\w+\{(\w+),", (ROOT / "book" / "references.bib").read_text())
    listed = re.split(r'<div class="citation"', pages[HTML / "references.html"])[1:]
    assert len(listed) == len(entries)
    for entry in listed:
        assert re.search(
            r'href="https://(arxiv\.org|doi\.org|openreview\.net|ieeexplore\.ieee\.org)', entry
        ), entry


def test_public_names_and_words_of_the_glossary_are_linked(pages):
    chapter = pages[HTML / "chapters" / "compression_curves.html"]
    for name in ("gate", "density_loss", "harden"):
        assert f'href="../api.html#pruning.{name}"' in chapter
    term = re.search(
        r'<a class="term reference internal" href="../glossary.html#term-[\w-]+"'
        r' title="([^"]+)"',
        chapter,
    )
    assert len(term[1]) > 20
    for name in pruning.__all__:
        if not isinstance(getattr(pruning, name), types.ModuleType):
            assert f'id="pruning.{name}"' in pages[HTML / "api.html"], name


def test_prose_has_its_numbers(pages):
    answer = pages[HTML / "chapters" / "compression_curves.html"].split("The answer")[1]
    said = re.sub(r"<[^>]+>", "", answer)
    assert re.search(r"classifies \d\d\.\d\d \[\d\d\.\d\d, \d\d\.\d\d\]\s%", said)
    assert "{glue" not in "".join(pages.values())


def test_a_drawing_gets_lighter_in_its_paths_alone():
    figure = '<g id="m1.23456"><path d="M 10.123456 -0.5 \nL 7 8.999999 z" x="1.23456"/></g>'
    light = '<g id="m1.23456"><path d="M 10.12 -0.5 \nL 7 8.99 z" x="1.23456"/></g>'
    assert book.lighter(figure) == light == book.lighter(light)
    wide = (
        "<svg>\n <metadata>\n  <date/>\n </metadata>\n <!-- a\n b -->\n  <g>\n </g>\n</svg>\n"
    )
    assert book.lighter(wide) == "<svg>\n<g>\n</g>\n</svg>\n"


def test_second_build_executes_and_renders_nothing(pages, capsys):
    assert cli.main(["book"]) == 0
    said = capsys.readouterr().out
    assert "executed" not in said
    assert len(re.findall(r"notebook.*: up to date", said)) == len(
        list((ROOT / "notebooks").glob("*.ipynb"))
    )
    assert "\npages up to date (" in said


# ---- what makes a notebook stale, on a project of its own
# ------------------------------------------


def project(folder, code="print(1 + 1)"):
    (folder / "notebooks").mkdir()
    (folder / "inputs").mkdir()
    (folder / "inputs" / "a.txt").write_text("1")
    parameters = new_code_cell('profile = "quick"', metadata={"tags": ["parameters"]})
    notebook = new_notebook(cells=[new_markdown_cell("# T"), parameters, new_code_cell(code)])
    notebook.metadata["pruning"] = {"inputs": ["inputs/*.txt"]}
    notebook.metadata["kernelspec"] = {
        "name": "python3",
        "language": "python",
        "display_name": "Python 3",
    }
    nbformat.write(notebook, folder / "notebooks" / "one.ipynb")
    return folder / "notebooks" / "one.ipynb"


def test_fingerprint_follows_cells_inputs_parameters_and_versions(tmp_path):
    notebook = project(tmp_path)
    first = book.fingerprint(notebook, {"profile": "quick"})
    assert book.fingerprint(notebook, {"profile": "quick"}) == first
    assert book.fingerprint(notebook, {"profile": "paper"}) != first
    (tmp_path / "inputs" / "b.txt").write_text("2")
    second = book.fingerprint(notebook, {"profile": "quick"})
    assert second != first
    (tmp_path / "constraints.txt").write_text("torch==1")
    third = book.fingerprint(notebook, {"profile": "quick"})
    assert third != second
    content = json.loads(notebook.read_text())
    content["cells"][2]["source"] = "print(3)"
    notebook.write_text(json.dumps(content))
    assert book.fingerprint(notebook, {"profile": "quick"}) != third


def test_modules_used_follows_imports_through_one_another():
    names = {
        path.relative_to(book.PACKAGE).as_posix()
        for path in book.modules_used("from pruning.evidence import claims")
    }
    assert {
        "__init__.py",
        "evidence/claims.py",
        "evidence/records.py",
        "data/datasets.py",
    } <= names
    assert not {"cli.py", "book.py", "plots.py"} & names
    deeper = book.modules_used("from pruning.chapters.compression_curves import experiment")
    assert book.PACKAGE / "chapters" / "compression_curves" / "experiment.py" in deeper
    assert book.PACKAGE / "methods" / "gates.py" in deeper
    assert book.modules_used("import numpy") == []


def test_execute_once_then_only_when_stale_and_never_half(tmp_path):
    notebook, target = project(tmp_path), tmp_path / "chapters" / "one.ipynb"
    assert book.execute(notebook, target, {"profile": "quick"})
    executed = nbformat.read(target, as_version=4)
    assert executed.cells[-1].outputs[0].text == "2\n"
    assert str(tmp_path) not in target.read_text(), "a path of this machine in a page"
    assert not book.execute(notebook, target, {"profile": "quick"})
    content = json.loads(notebook.read_text())
    content["cells"][2]["source"] = "raise ValueError('no')"
    notebook.write_text(json.dumps(content))
    before = target.read_bytes()
    with pytest.raises(book.BookError, match=r"(?s)one\.ipynb.*ValueError: no"):
        book.execute(notebook, target, {"profile": "quick"})
    assert target.read_bytes() == before
    assert [p.name for p in target.parent.iterdir() if p.suffix != ".lock"] == ["one.ipynb"]


def test_an_executed_notebook_that_was_cut_off_is_executed_again(tmp_path):
    notebook, target = project(tmp_path), tmp_path / "chapters" / "one.ipynb"
    target.parent.mkdir()
    for content in ("", "\0" * 50, '{"cells": ['):
        target.write_text(content)
        assert book._fingerprint_in(target) is None
    assert book.execute(notebook, target, {"profile": "quick"})
    assert nbformat.read(target, as_version=4).cells[-1].outputs[0].text == "2\n"


def test_an_execution_that_is_killed_leaves_nothing_after_the_next(tmp_path):
    kill = (
        "import os, signal\nif not os.path.exists('again'):\n    open('again', 'w').close()\n"
    )
    notebook = project(tmp_path, f"{kill}    os.kill(os.getppid(), signal.SIGKILL)")
    target = tmp_path / "chapters" / "one.ipynb"
    work = (
        "import sys; from pathlib import Path; from pruning.pages import book;"
        " book.execute(Path(sys.argv[1]), Path(sys.argv[2]), {'profile': 'quick'})"
    )
    command = [sys.executable, "-c", work, str(notebook), str(target)]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    assert not target.exists()
    assert len(list(target.parent.glob(".one-*"))) == 1
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0
    assert {path.name for path in target.parent.iterdir()} == {"one.ipynb", ".one.lock"}


def test_only_must_name_a_notebook():
    with pytest.raises(book.BookError, match="only: got 'nothing', needs one of"):
        book.build(only="nothing")


@pytest.fixture
def tiny(tmp_path):
    """A book of two pages that goes through `render`, without a notebook."""
    (tmp_path / "book").mkdir()
    config = "title: tiny\nexecute:\n  execute_notebooks: 'off'\n"
    (tmp_path / "_config.yml").write_text(config)
    toc = "format: jb-book\nroot: index\nchapters:\n- file: one\n"
    (tmp_path / "_toc.yml").write_text(toc)
    for name in ("index", "one"):
        (tmp_path / "book" / f"{name}.md").write_text(f"# Page {name}\n\nIts words.\n")
    return tmp_path


def assert_whole(root):
    html = root / "book" / "_build" / "html"
    for name in ("index", "one"):
        text = (html / f"{name}.html").read_text(encoding="utf-8")
        assert "Its words." in text
        assert text.rstrip().endswith("</html>")
        for sheet in re.findall(r'href="(_static/[^"?]+\.css)', text):
            assert (html / sheet).is_file(), sheet


RENDER = "import sys; from pathlib import Path; from pruning.pages import book;"
RENDER += " book.render(Path(sys.argv[1]))"


def test_rendering_that_is_killed_or_half_deleted_is_done_by_the_next(tiny):
    build = tiny / "book" / "_build"
    process = subprocess.Popen(
        [sys.executable, "-c", RENDER, str(tiny)], cwd=ROOT, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while (
        not (build / ".doctrees").is_dir()
        and process.poll() is None
        and time.monotonic() < deadline
    ):
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)  # with the jupyter-book that it has started
    assert process.wait() == -signal.SIGKILL
    assert not (build / "html" / "one.html").is_file(), "killed too late to say anything"
    (build / ".doctrees" / "one.doctree").write_bytes(b"\x80\x05")  # as if in mid-write
    assert book.render(tiny)
    assert_whole(tiny)
    (build / "html" / "one.html").unlink()
    shutil.rmtree(build / "html" / "_static")
    (build / ".doctrees" / "one.doctree").unlink()
    assert book.render(tiny)
    assert_whole(tiny)
    assert not book.render(tiny)


# ---- what makes the pages stale, with a rendering that writes a file a page
# ------------------------------------------


@pytest.fixture
def stub(tiny, monkeypatch):
    """The project `tiny` with a package, records and data of its own; `stub.done` lists what
    each rendering found: no pages, or those of an earlier one."""
    files = [*CHANGES, "site/torch-1.dist-info/METADATA", "notebooks/one.ipynb"]
    for name in files:
        (tiny / name).parent.mkdir(parents=True, exist_ok=True)
        (tiny / name).write_text("1")
    monkeypatch.setattr(book, "PACKAGE", tiny / "pruning")
    monkeypatch.setattr(book.sysconfig, "get_path", lambda name: str(tiny / "site"))
    monkeypatch.delenv("PRUNING_DATA", raising=False)
    monkeypatch.setenv("PRUNING_DATA_MIRROR", str(tiny / "mirror"))
    monkeypatch.setenv("PRUNING_RECORDS", str(tiny / "elsewhere"))
    done = []

    def render(root, html):
        done.append("the rest" if html.exists() else "all")
        (html / "_static").mkdir(parents=True, exist_ok=True)
        for name in ("index.html", "one.html", "_static/book.css"):
            (html / name).write_text("words")

    monkeypatch.setattr(book, "_render", render)
    return types.SimpleNamespace(root=tiny, build=tiny / "book" / "_build", done=done)


OURS = "pruning/pages/links.py"  # an extension of Sphinx
CHANGES = [
    "_config.yml",
    "_toc.yml",
    "constraints.txt",
    "CHANGELOG.md",
    "CITATION.cff",
    "data/README.md",
    "data/cache/MNIST/raw/images.gz",
    "mirror/MNIST/raw/images.gz",
    "elsewhere/smallest.jsonl",
    "book/one.md",
    "book/references.bib",
    "book/_static/book.css",
    "book/chapters/one.ipynb",
    "book/records/smallest.jsonl.xz",
    "pruning/chapters/smallest/claims.yml",
    "pruning/methods/gates.py",
    OURS,
]


@pytest.mark.parametrize("name", CHANGES)
def test_what_a_page_is_made_from_renders_again(stub, name):
    path = stub.root / name
    renamed = path.with_name("renamed")
    changes = [
        lambda: path.write_text("2"),
        lambda: path.rename(renamed),
        lambda: renamed.unlink(),
    ]
    assert book.render(stub.root)
    for change in changes:
        assert not book.render(stub.root)
        change()
        assert book.render(stub.root)
    assert stub.done == ["all", *["all" if name == OURS else "the rest"] * 3]


def test_another_version_of_a_package_renders_all_anew(stub):
    assert book.render(stub.root)
    site = stub.root / "site"
    (site / "torch-1.dist-info").rename(site / "torch-2.dist-info")
    assert book.render(stub.root)
    assert not book.render(stub.root)
    assert stub.done == ["all", "all"]


def test_what_no_page_is_made_from_renders_nothing(stub):
    assert book.render(stub.root)
    for name in (
        "book/chapters/.one.lock",
        "book/_build/coverage/index.html",
        "data/cache/checkpoints/1.pt",
        "pruning/methods/__pycache__/gates.pyc",
        "notebooks/one.ipynb",  # the page is made from the executed one
        "tests/test_one.py",
        ".coverage",
    ):
        (stub.root / name).parent.mkdir(parents=True, exist_ok=True)
        (stub.root / name).write_text("2")
    os.utime(stub.root / "book" / "one.md", (1, 1))
    assert not book.render(stub.root)


DAMAGE = {
    "a page is missing": lambda build: (build / "html" / "one.html").unlink(),
    "a page is cut off": lambda build: (build / "html" / "one.html").write_text("w"),
    "a style sheet is empty": lambda build: (build / "html/_static/book.css").write_text(""),
    "a file too many": lambda build: (build / "html" / "two.html").write_text("words"),
    "no page is left": lambda build: shutil.rmtree(build / "html"),
    "no note is left": lambda build: (build / ".made-from").unlink(),
    "the note is empty": lambda build: (build / ".made-from").write_text(""),
    "the note is cut off": lambda build: (build / ".made-from").write_text('{"by": "'),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_pages_that_are_not_as_they_were_rendered_are_rendered_anew(stub, damage):
    assert book.render(stub.root)
    DAMAGE[damage](stub.build)
    assert book.render(stub.root)
    assert not book.render(stub.root)
    assert stub.done == ["all", "all"]


def test_a_rendering_that_fails_is_done_anew(stub, monkeypatch):
    assert book.render(stub.root)
    (stub.root / "book" / "one.md").write_text("{nothing}")
    whole = book._render

    def fail(root, html):
        whole(root, html)  # Sphinx has read the page, and would not warn of it again
        raise book.BookError("jupyter-book failed")

    monkeypatch.setattr(book, "_render", fail)
    for _ in range(2):
        with pytest.raises(book.BookError):
            book.render(stub.root)
    assert stub.done == ["all", "the rest", "all"]


def test_a_page_that_changes_while_it_is_rendered_is_rendered_again(stub, monkeypatch):
    whole = book._render

    def slow(root, html):
        whole(root, html)
        (root / "book" / "one.md").write_text("2")

    monkeypatch.setattr(book, "_render", slow)
    assert book.render(stub.root)
    monkeypatch.setattr(book, "_render", whole)
    assert book.render(stub.root)
    assert not book.render(stub.root)
