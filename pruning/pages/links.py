"""A Sphinx extension: links that nobody has to write.

A word of the glossary links to its explanation where a page first uses it, with the
explanation as hover text. A public name of the package in `code type` links to the API
reference.
"""

import re

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

import pruning

GLOSSARY, API = "glossary", "api"
APART = (
    nodes.title,
    nodes.reference,
    nodes.raw,
    nodes.literal,
    nodes.literal_block,
    nodes.math,
)


def explanations(app: Sphinx) -> dict[str, tuple[str, str]]:
    """Term → (where its explanation stands, the explanation)."""
    found = {}
    for item in app.env.get_doctree(GLOSSARY).findall(nodes.definition_list_item):
        text = " ".join(item[-1].astext().split())
        for term in item.findall(nodes.term):
            found[term.astext()] = (term["ids"][0], text)
    return found


def pattern(terms: list[str]) -> re.Pattern:
    """Any of the terms as a word, singular or plural; one in small letters may begin with a
    capital."""
    words = []
    for term in sorted(terms, key=len, reverse=True):
        first = term[0]
        start = f"[{first}{first.upper()}]" if term.islower() else re.escape(first)
        words.append(start + re.escape(term[1:]))
    return re.compile(rf"(?<![\w-])({'|'.join(words)})s?(?![\w-])")


def _link_terms(app: Sphinx, doctree: nodes.document, page: str) -> None:
    known = explanations(app)
    words, seen = pattern(list(known)), set()
    for text in list(doctree.findall(nodes.Text)):
        inside, above = False, text.parent
        while above is not None and not inside:
            inside, above = isinstance(above, APART), above.parent
        if inside or not isinstance(
            text.parent, (nodes.paragraph, nodes.emphasis, nodes.strong)
        ):
            continue
        made, rest = [], str(text)
        while match := words.search(rest):
            term = match[1] if match[1] in known else match[1][0].lower() + match[1][1:]
            made.append(nodes.Text(rest[: match.start()]))
            if term in seen:
                made.append(nodes.Text(match[0]))
            else:
                seen.add(term)
                where, explained = known[term]
                uri = f"{app.builder.get_relative_uri(page, GLOSSARY)}#{where}"
                link = nodes.reference(
                    "", match[0], refuri=uri, internal=True, classes=["term"]
                )
                link["reftitle"] = explained
                made.append(link)
            rest = rest[match.end() :]
        if made:
            text.parent.replace(text, [*made, nodes.Text(rest)])


def _link_names(app: Sphinx, doctree: nodes.document, page: str) -> None:
    documented = app.env.get_domain("py").objects
    for literal in list(doctree.findall(nodes.literal)):
        name = literal.astext().split("(")[0].removeprefix("pruning.")
        target = documented.get(f"pruning.{name}")
        if target is None or name.split(".")[0] not in pruning.__all__:
            continue
        if isinstance(literal.parent, (nodes.reference, addnodes.desc_signature, nodes.title)):
            continue
        uri = f"{app.builder.get_relative_uri(page, target.docname)}#{target.node_id}"
        link = nodes.reference("", "", refuri=uri, internal=True)
        literal.replace_self(link)
        link += literal


def _link(app: Sphinx, doctree: nodes.document, page: str) -> None:
    if page != API:
        _link_names(app, doctree, page)
    if page not in (API, GLOSSARY, "references"):
        _link_terms(app, doctree, page)


def _plain_citations(
    app: Sphinx, page: str, template: str, context: dict, doctree: object
) -> None:
    # docutils calls them a list whose children are no list items: screen readers stumble
    context["body"] = context.get("body", "").replace(
        '<div role="list" class="citation-list">', "<div>"
    )


def setup(app: Sphinx) -> dict:
    """Link when all pages are read."""
    app.connect("doctree-resolved", _link)
    app.connect("html-page-context", _plain_citations)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
