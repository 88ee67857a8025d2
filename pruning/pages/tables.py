"""A Sphinx extension: HTML that a cell printed, made for reading on a phone as on a desk.

Names of the index move up beside those of the columns. An interval may begin a new line.
A table of more than `MOST` rows is folded, one click away. One that is wider than the page
says so.
"""

import re

from bs4 import BeautifulSoup
from bs4.element import Tag
from docutils import nodes
from sphinx.application import Sphinx

MOST = 12
PENDING = "not measured yet"  # all that a table says whose runs are not on record
PIECES = re.compile(r"(.*\S) (\[[^\]]+\])|(\S+) (± \S+)")


def tidy(html: str) -> str:
    """The HTML of an output. In its tables the names of the index stand in the row of the
    columns, and an interval or deviation is a piece of its own, which a narrow page puts below
    the mean."""
    if "<table" not in html:
        return html
    soup = BeautifulSoup(html, "html.parser")
    for table in soup("table"):
        if table.tbody is not None and table.tbody.get_text().strip() == PENDING:
            said = soup.new_tag("p", string="This table is not measured yet.")
            table.replace_with(said)
            continue
        _join_headers(table)
        for cell in table("td"):
            if found := PIECES.fullmatch(cell.get_text().strip()):
                cell.clear()
                for piece in filter(None, found.groups()):
                    span = soup.new_tag("span", string=piece)
                    span["class"] = "piece"
                    cell.append(span)
                    cell.append(" ")
    return str(soup)


def _join_headers(table: Tag) -> None:
    """Pandas writes the names of the index as a row of their own."""
    rows = [] if table.thead is None else table.thead("tr")
    first = table.select_one("tbody tr")
    if len(rows) < 2 or first is None:
        return
    levels = len(first("th"))
    *above, last = (row(["th", "td"]) for row in rows)
    names = [cell.get_text().strip() for cell in last]
    if not any(names[:levels]) or any(names[levels:]) or len(above[-1]) != len(last):
        return
    for cell, name in zip(above[-1][:levels], names, strict=False):
        cell.string = name
    rows[-1].decompose()


def folded(html: str) -> str:
    """The HTML of an output, inside a <details> if its table has more than MOST rows in its
    body."""
    body = html.partition("<tbody")[2].partition("</tbody>")[0]
    rows = len(re.findall(r"<tr\b", body))
    if rows <= MOST:
        return html
    return (
        f'<details class="fold"><summary>Show the table ({rows}'
        f" rows)</summary>{html}</details>"
    )


def _mend(app: Sphinx, doctree: nodes.document, page: str) -> None:
    if page.startswith("chapters/"):
        for output in doctree.findall(nodes.raw):
            if "html" in output.get("format", "").split():
                html = output.astext().replace(
                    " %", "\N{NO-BREAK SPACE}%"
                )  # no line begins with a sign
                output[:] = [nodes.Text(folded(tidy(html)))]


def setup(app: Sphinx) -> dict:
    """Once all outputs are in place. A script marks the tables that a page is too narrow
    for."""
    app.add_js_file("tables.js", loading_method="defer")
    app.connect("doctree-resolved", _mend)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
