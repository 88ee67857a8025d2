"""A Sphinx extension: a table of more than `MOST` rows that a cell printed is folded, one
click away."""

import re

from docutils import nodes
from sphinx.application import Sphinx

MOST = 12


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


def _fold(app: Sphinx, doctree: nodes.document, page: str) -> None:
    if page.startswith("chapters/"):
        for output in doctree.findall(nodes.raw):
            if "html" in output.get("format", "").split():
                output[:] = [nodes.Text(folded(output.astext()))]


def setup(app: Sphinx) -> dict:
    """Fold once all outputs are in place."""
    app.connect("doctree-resolved", _fold)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
