"""A Sphinx extension: this package's docstrings, which are plain text, made ready for autodoc.

Docstrings are written to be read in a terminal: |x| is a magnitude, * a product, `name` a
name, and a parameter's description follows its name on the same line. Sphinx would take these
for markup.
"""

import re
from typing import Any

from sphinx.application import Sphinx

SECTIONS = ("Parameters", "Attributes", "Raises", "Returns", "Yields", "Notes")


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def prepared(lines: list[str]) -> list[str]:
    """The docstring's lines with markup characters escaped and descriptions on lines of their
    own."""
    found, section = [], ""
    for number, line in enumerate(lines):
        following = lines[number + 1] if number + 1 < len(lines) else ""
        header = line in SECTIONS and set(following) == {"-"}
        section = line if header else section
        header = header or set(line) == {"-"}
        line = re.sub(r"(?<!`)`([^`]+)`(?!`)", r"``\1``", line)
        pieces = re.split(r"(``.*?``)", line)  # literals stay as they are
        pieces[::2] = [re.sub(r"([|*\\]|_(?=\W|$))", r"\\\1", piece) for piece in pieces[::2]]
        line = "".join(pieces)
        described = re.match(r"(\w[\w*, .]*) : (.+)", line)
        if section not in ("Returns", "Yields", "Notes") and described:
            found += [described[1], f"    {described[2]}"]
        elif (
            section in ("Parameters", "Attributes", "Raises")
            and re.match(r"\S", line)
            and not header
        ):
            found += ["", "", line]  # a paragraph: the section is over
            section = ""
        else:
            before = found[-1] if found else ""
            if not section and line and before and _indent(line) != _indent(before):
                found.append("")  # markup wants a blank line where the indentation changes
            found.append(line)
    return found


def _process(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    # a module's docstring explains the paper with equations set in columns; its chapter says
    # the same
    lines[:] = [] if what == "module" else prepared(lines)


def setup(app: Sphinx) -> dict:
    """Prepare docstrings before napoleon reads their sections."""
    app.connect("autodoc-process-docstring", _process, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
