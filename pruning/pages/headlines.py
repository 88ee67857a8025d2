"""What the home page and the README say first: a sentence and a verdict for each paper, and
the tally.

As a Sphinx extension it brings the directives `headlines` and `tally`, drawn from the records
whenever the book is built.
"""

import html
import re
from dataclasses import dataclass
from functools import lru_cache

import pandas
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from pruning import chapters
from pruning.evidence import claims, records
from pruning.evidence.statistics import VERDICTS
from pruning.pages import scoreboard, tables


@dataclass(frozen=True)
class Headline:
    """A sentence about one paper's central claim; `sentence` is Markdown, with its number in
    bold."""

    paper: str
    chapter: str
    verdict: str
    sentence: str


def _verdicts() -> pandas.Series:
    """The verdict of every claim by its id, found once while no record changes: cards and
    tiles stand on one page."""
    files = sorted(records.records_folder().glob("*.jsonl*"))
    changes = [(str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in files]
    return _verdicts_of(tuple(changes))


@lru_cache(maxsize=1)
def _verdicts_of(changes: tuple) -> pandas.Series:
    return scoreboard.board().set_index("id").verdict


def headlines() -> list[Headline]:
    """What chapters bring in their readme.py: `HEADLINE`, a claim's id and its paper in words,
    and `headline(claim, found)`, the sentence. One a paper, in the order of the papers."""
    verdicts = _verdicts()
    made = []
    for chapter in chapters.names():
        part = chapters.part(chapter, "readme")
        if hasattr(part, "headline"):
            name, paper = part.HEADLINE
            claim = scoreboard.of(chapter)[name]
            evidence = records.table(chapters.evidence(claim["records"]))
            found = claims.chosen(evidence, claim["where"])
            headline = Headline(paper, chapter, verdicts[name], part.headline(claim, found))
            made.append((claim["figure"], headline))  # begins with the number of the paper
    return [headline for _, headline in sorted(made, key=lambda pair: pair[0])]


def tally() -> dict[str, int]:
    """How many claims have each verdict."""
    counts = _verdicts().value_counts()
    return {verdict: int(counts.get(verdict, 0)) for verdict in VERDICTS}


class Headlines(SphinxDirective):
    """Three cards, one a paper."""

    def run(self) -> list[nodes.Node]:
        """Raw HTML; chapters lie in the folder `chapters` beside the page."""
        self.env.note_reread()
        cards = []
        for headline in headlines():
            sentence = re.sub(
                r"\*\*(.+?)\*\*",
                r"<strong>\1</strong>",
                tables.typeset(html.escape(headline.sentence, quote=False)),
            )
            colour = scoreboard.VERDICT_COLOURS[headline.verdict]
            cards.append(
                '<li><span class="verdict"'
                f' style="background:{colour}">{headline.verdict}</span> '
                f'<a href="chapters/{headline.chapter}.html">{headline.paper}</a>'
                f"<p>{sentence}</p></li>"
            )
        return [nodes.raw("", f'<ul class="headlines">{"".join(cards)}</ul>', format="html")]


class Tally(SphinxDirective):
    """A tile a verdict, with the number of claims."""

    def run(self) -> list[nodes.Node]:
        """Raw HTML, linked to the scoreboard."""
        self.env.note_reread()
        tiles = [
            f'<li style="background:{scoreboard.VERDICT_COLOURS[verdict]}">'
            f'<a href="chapters/scoreboard.html"><strong>{count}</strong> {verdict}</a></li>'
            for verdict, count in tally().items()
            if count
        ]
        return [nodes.raw("", f'<ul class="tally">{"".join(tiles)}</ul>', format="html")]


def setup(app: Sphinx) -> dict:
    """Register the directives."""
    app.add_directive("headlines", Headlines)
    app.add_directive("tally", Tally)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
