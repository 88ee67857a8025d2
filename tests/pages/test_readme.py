import html
import json
import re
import subprocess
import sys
import types
from pathlib import Path

import pandas
import pytest
from markdown_it import MarkdownIt

from pruning.pages import headlines, readme, scoreboard
from pruning.pages.headlines import Headline

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


# each block with names of its own; torch and what else they import is loaded once for all
PASTED = """
import json, sys
for number, block in enumerate(json.load(sys.stdin), start=1):
    exec(compile(block, f"block {number}", "exec"), {"__name__": "__main__"})
    print(end="\\f")
"""


def test_python_blocks_work_as_pasted(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert blocks
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PASTED],
        cwd=tmp_path,
        input=json.dumps(blocks),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *said, rest = done.stdout.split("\f")
    assert (len(said), rest) == (len(blocks), "")
    for block, printed in zip(blocks, said, strict=True):
        assert "density" in printed, block


def test_table_is_what_the_records_say():
    assert readme.with_evidence(TEXT) == TEXT, "run `pruning readme`"


def test_markers_are_needed():
    with pytest.raises(ValueError, match="needs the lines"):
        readme.with_evidence("nothing here")


def test_links_and_make_targets_exist():
    for link in re.findall(r"\]\((?!https?:)([^)#]+)\)", TEXT):
        assert (ROOT / link).exists(), link
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"\bmake (\w+)", TEXT):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_versions_agree():
    import pruning

    assert f'version = "{pruning.__version__}"' in (ROOT / "pyproject.toml").read_text()
    assert f"version: {pruning.__version__}" in (ROOT / "CITATION.cff").read_text()
    about = (ROOT / "book" / "about.md").read_text()
    assert f"version {pruning.__version__}" in about
    assert f"version = {{{pruning.__version__}}}" in about
    pins = dict(
        re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    )
    for name, version in re.findall(
        r"- ([\w.-]+)==(\S+)", (ROOT / "environment.yml").read_text()
    ):
        assert pins[name] == version, name


def test_what_records_say_is_escaped_in_tables_and_pages(monkeypatch):
    """A value in a record is text: it is no tag, and no cell of its own."""
    hostile = (
        "<script>alert(1)</script> | b\n# c [d](https://e.org) `f` *g* **h** _i_ ~~j~~ &lt;k"
    )
    chapter, claim = next(iter(scoreboard.all_claims()))
    row = {"id": claim["id"], "chapter": chapter, "claim": hostile, "place": hostile}
    board = pandas.DataFrame([row | {"ours": hostile, "seeds": 3, "verdict": "not measured"}])
    monkeypatch.setattr(scoreboard, "board", lambda: board)
    monkeypatch.setattr(scoreboard, "all_claims", lambda: [(chapter, claim)])
    *head, written = readme.evidence_table().splitlines()
    assert written.count("|") == head[0].count("|")
    for said in (written, scoreboard.as_html(board)):
        assert "<script" not in said
        assert said.count("&lt;script>") + said.count("&lt;script&gt;") >= 2
    page = (
        MarkdownIt("commonmark")
        .enable(["table", "strikethrough"])
        .render("\n".join([*head, written]))
    )
    _, cell = re.findall(r"<td>(.*?)</td>", page)[2:4]
    assert html.unescape(cell) == " ".join(hostile.split()) + " (3 seeds)"
    assert "https://" not in readme.escaped("https://e.org $a$")  # nor does a bare URL link
    assert readme.escaped("$a$") == r"\$a\$"


def test_a_chapters_sentence_brings_neither_tags_nor_lines(monkeypatch):
    said = Headline("P", "pathways", "partly", "A **bold** <img src=x>\n\n# B")
    monkeypatch.setattr(headlines, "headlines", lambda: [said])
    (line,) = readme.first_lines().splitlines()
    assert line.endswith("A **bold** &lt;img src=x> # B")
    part = types.SimpleNamespace(sentence=lambda: said.sentence)
    monkeypatch.setattr(readme, "_bring", lambda what: {"pathways": part})
    assert readme.sentences() == "A **bold** &lt;img src=x> # B"
