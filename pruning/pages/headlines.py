"""What the home page and the README say first: a sentence and a verdict for each paper, and the tally.

As a Sphinx extension it brings the directives `headlines` and `tally`, drawn from the records whenever
the book is built.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import pandas
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from pruning.evidence import claims, records
from pruning.evidence.claims import Claim
from pruning.evidence.statistics import VERDICTS
from pruning.pages import scoreboard


@dataclass(frozen=True)
class Headline:
    """A sentence about one paper's central claim; `sentence` is Markdown, with its number in bold."""

    paper: str
    chapter: str
    verdict: str
    sentence: str


def _found(claim: Claim) -> pandas.DataFrame:
    path = records.records_folder() / f"{claim['records']}.jsonl"
    return claims.chosen(records.table(records.read(path)), claim["where"])


def _few_weights(claim: Claim) -> str:
    found = _found(claim)
    return (
        f"A network with {claim['weights']} of its 266,200 weights classifies "
        f"**{100 * found.test_accuracy.mean():.2f} %** of MNIST's test images correctly "
        f"(mean of {found.seed.nunique()} seeds). The paper says: above {100 * claim['value']:.0f} %."
    )


def _survival(claim: Claim) -> str:
    found = _found(claim)
    found = found[found.network.isin(claim["networks"])]
    if found.empty:
        return "No ResNet of the paper's sizes is on record yet."
    network = min(found.network)
    longest = found[found.network == network].epochs.max()
    runs = found[(found.network == network) & (found.epochs == longest)]
    ours, adam = (
        100 * runs[runs.method == name].pruned_accuracy.mean() for name in ("stochgradadam", "adam")
    )
    theirs = " and ".join(f"{100 * value:.2f}" for value in claim["values"][network])
    data = " and ".join(sorted(runs.dataset.unique()))
    seeds = runs.seed.nunique()
    return (
        f"{network} with half of its weights pruned keeps **{ours:.1f} %** after training with "
        f"StochGradAdam and {adam:.1f} % with Adam ({longest} epochs, {seeds} seed{'s' * (seeds > 1)}, "
        f"{data}). The paper says: {theirs} %."
    )


def _three_quarters(claim: Claim) -> str:
    found = _found(claim)
    return (
        f"With 75 % of its weights pruned by relative importance a network still classifies "
        f"**{100 * found.test_accuracy.mean():.2f} %** of MNIST correctly (mean of {found.seed.nunique()} "
        f"seeds). The paper says: {100 * claim['value']:.2f} %."
    )


SAID: dict[str, tuple[str, Callable[[Claim], str]]] = {  # claim → paper in words, its sentence
    "G1": ("Learnable gates", _few_weights),
    "S1": ("Gradient sampling", _survival),
    "R1": ("Relative importance", _three_quarters),
}


def headlines() -> list[Headline]:
    """One headline a paper, in the order of the book."""
    verdicts = scoreboard.board().set_index("id").verdict
    written = {claim["id"]: (chapter, claim) for chapter, claim in scoreboard.all_claims()}
    found = []
    for name, (paper, say) in SAID.items():
        chapter, claim = written[name]
        found.append(Headline(paper, chapter, verdicts[name], say(claim)))
    return found


def tally() -> dict[str, int]:
    """How many claims have each verdict."""
    counts = scoreboard.board().verdict.value_counts()
    return {verdict: int(counts.get(verdict, 0)) for verdict in VERDICTS}


class Headlines(SphinxDirective):
    """Three cards, one a paper."""

    def run(self) -> list[nodes.Node]:
        """Raw HTML; chapters lie in the folder `chapters` beside the page."""
        self.env.note_reread()
        cards = []
        for headline in headlines():
            sentence = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", headline.sentence)
            colour = scoreboard.VERDICT_COLOURS[headline.verdict]
            cards.append(
                f'<li><span class="verdict" style="background:{colour}">{headline.verdict}</span> '
                f'<a href="chapters/{headline.chapter}.html">{headline.paper}</a><p>{sentence}</p></li>'
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
