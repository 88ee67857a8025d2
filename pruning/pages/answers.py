"""The box with which a chapter answers its question, and the table of where its numbers come
from."""

import html
import re
from collections.abc import Iterable

import pandas
from IPython.display import HTML
from pandas.io.formats.style import Styler

from pruning.evidence import records
from pruning.evidence.records import Record
from pruning.figures.captions import FOLD
from pruning.pages import scoreboard

TAIL = re.compile(r"(?<=\b[0-9a-f]{12})[0-9a-f]{8,}\b|, seed \d+$")  # of no use to a reader

ORIGINS = {  # in a record's provenance → what the table calls it
    "data": "checksum of the data",
    "commit": "commit of the code",
    "device": "device",
    "threads": "threads",
}


def box(chapter: str, sentences: dict[str, str]) -> HTML:
    """A verdict and a sentence for each claim of a chapter, to be displayed by a notebook.

    `sentences` holds what the chapter says of a claim, by the claim's id, with **bold**,
    *emphasis* and `code`. What follows a `captions.FOLD` is folded.
    """
    verdicts = scoreboard.board(chapter).set_index("id").verdict
    return _admonition(
        [(scoreboard.badge(verdicts[name]), said) for name, said in sentences.items()]
    )


def plain(*sentences: str) -> HTML:
    """The box of a chapter that answers an open question and judges no claim; sentences as in
    `box`."""
    return _admonition([("", said) for said in sentences])


def _admonition(items: list[tuple[str, str]]) -> HTML:
    paragraphs = []
    for badge, said in items:
        text = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", html.escape(said, quote=False))
        text = re.sub(r"\*(.+?)\*", r"<em>\1</em>", text)
        text = re.sub(r"`(.+?)`", r"<code>\1</code>", text)
        text, _, more = text.partition(FOLD)
        paragraphs.append(f"<p>{badge} {text}</p>" if badge else f"<p>{text}</p>")
        if more:
            paragraphs.append(
                f'<details class="fold"><summary>More numbers</summary><p>{more}</p></details>'
            )
    title = '<p class="admonition-title">The answer</p>'
    return HTML(f'<div class="admonition important">{title}{"".join(paragraphs)}</div>')


def provenance(evidence: Iterable[Record]) -> Styler:
    """A small table: how many runs, how long they took on one thread each, data, commits,
    devices and versions. Checksums and commits are cut to twelve characters."""
    origin = records.table(evidence).filter(like="provenance.")
    if origin.empty:
        origin = pandas.DataFrame({"provenance.seconds": []})
    origin.columns = [name.removeprefix("provenance.") for name in origin.columns]
    rows = {"runs on record": f"{len(origin):,}"}
    rows["hours of computing"] = f"{origin['seconds'].sum() / 3600:.1f}"
    titles = {name: title for name, title in ORIGINS.items() if name in origin}
    titles |= {
        name: name.removeprefix("versions.") for name in origin if name.startswith("versions.")
    }
    for name, title in titles.items():
        values = origin[name].dropna().map(lambda value: TAIL.sub("", str(value)))
        rows[title] = ", ".join(dict.fromkeys(values))
    table = pandas.DataFrame({"": rows}).style.hide(axis="columns")
    table = table.format(escape="html").format_index(escape="html")
    return table.set_table_attributes('class="provenance"')
