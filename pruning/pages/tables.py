"""A Sphinx extension: HTML that a cell printed, made for reading on a phone as on a desk.

Names of the index move up beside those of the columns. An interval may begin a new line.
A number below 0 has a minus sign. A table of more than `MOST` rows is folded, one click away.
One that is wider than a phone is read there a row as a paragraph; each of its cells carries
the name of its column. Apostrophes are round, and no line begins with "%".
"""

import re
from collections.abc import Iterator

from bs4 import BeautifulSoup
from bs4.element import Tag
from docutils import nodes
from sphinx.application import Sphinx

from pruning.evidence.statistics import minus

MOST = 12
PENDING = "not measured yet"  # all that a table says whose runs are not on record
PIECES = re.compile(r"(.*\S) (\[[^\]]+\])|(\S+) (± \S+)")
LONG = re.compile(r"[\w.]{12,}")
INSIDE = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=\.)(?=\w)")  # where a long name may break
APOSTROPHE = re.compile(r"(?<=\w)'(?=s\b)|(?<=s)'(?= )")
PERCENT = re.compile(r"(?<=[\d\]>]) %")
CODE = re.compile(r"<code>([^<]+)</code>")
WORD, SPAN = re.compile(r"(\S+)"), r'<span class="pre">\1</span>'
PROSE = (nodes.paragraph, nodes.emphasis, nodes.strong)


def typeset(text: str) -> str:
    """A text or HTML with round apostrophes, with "%" on the line of its number, and with the
    words of a command as in the prose, where a narrow page breaks between them alone."""
    text = CODE.sub(lambda found: f"<code>{WORD.sub(SPAN, found[1])}</code>", text)
    return PERCENT.sub("\N{NO-BREAK SPACE}%", APOSTROPHE.sub("’", text))


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
        if "dataframe" in table.get("class", []):  # the look of the styled ones
            del table["class"], table["border"]
        _join_headers(table)
        _label(table)
        for head in table("th"):
            if "%" in (text := head.get_text()) and not head.find(True):
                head.string = spaced(text)
            if LONG.search(text := head.get_text().strip()):
                head.clear()
                head.extend(_breakable(soup, text))
        for cell in table("td"):
            if not cell.find(True):
                cell.string = spaced(minus(cell.get_text().strip()))
            if found := PIECES.fullmatch(cell.get_text().strip()):
                cell.clear()
                for piece in filter(None, found.groups()):
                    span = soup.new_tag("span", string=piece)
                    span["class"] = "piece"
                    cell.append(span)
                    cell.append(" ")
    return str(soup)


def spaced(text: str) -> str:
    """A text with a space before the sign of each percentage."""
    return re.sub(r"(?<=\d)%", "\N{NO-BREAK SPACE}%", text)


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
        cell["class"] = "index_name"
    rows[-1].decompose()


def _label(table: Tag) -> None:
    """Each cell of the body carries the names above it, from top to bottom."""
    columns: list[list[str]] = []
    for row in [] if table.thead is None else table.thead("tr"):
        heads = [
            head.get_text().strip()
            for head in row(["th", "td"])
            for _ in range(int(head.get("colspan", 1)))
        ]
        columns += [[] for _ in range(len(heads) - len(columns))]
        for names, head in zip(columns, heads, strict=False):
            names += [head] if head else []
    for row in table.select("tbody tr"):
        cells = row("td")
        for cell, names in zip(reversed(cells), reversed(columns), strict=False):
            if names:
                cell["data-label"] = ", ".join(names)


def _breakable(soup: BeautifulSoup, text: str) -> Iterator[str | Tag]:
    """A text whose long names may break where a capital or a part begins."""
    for word in re.split(r"(\s+)", text):
        parts = INSIDE.split(word) if LONG.search(word) else [word]
        yield parts[0]
        for part in parts[1:]:
            yield soup.new_tag("wbr")
            yield part


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
    for text in list(doctree.findall(nodes.Text)):
        if isinstance(text.parent, PROSE) and PERCENT.search(text):
            text.parent.replace(text, nodes.Text(PERCENT.sub("\N{NO-BREAK SPACE}%", text)))
    if page.startswith("chapters/"):
        for output in doctree.findall(nodes.raw):
            if "html" in output.get("format", "").split():
                output[:] = [nodes.Text(folded(tidy(typeset(output.astext()))))]


def setup(app: Sphinx) -> dict:
    """Once all outputs are in place. A script marks the tables that a page is too narrow
    for."""
    app.add_js_file("tables.js", loading_method="defer")
    app.connect("doctree-resolved", _mend)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
