"""The scoreboard: every chapter's claims and what the records say of them."""

import html
import inspect
import json
import re
from pathlib import Path

import pandas

from pruning import chapters
from pruning.evidence import claims, records
from pruning.evidence.claims import Claim, Rule
from pruning.evidence.statistics import (
    NOT_MEASURED,
    NOT_REPRODUCED,
    PARTLY,
    REPRODUCED,
    SMALL_SCALE,
    VERDICTS,
    minus,
)
from pruning.files import CHECKOUT

VERDICT_COLOURS = {  # background, readable with black text in the light and the dark theme
    REPRODUCED: "#9fd8b4",
    PARTLY: "#f4d58a",
    NOT_REPRODUCED: "#f0a7a0",
    SMALL_SCALE: "#b9d3ee",
    NOT_MEASURED: "#d3d7dc",
}


def rules(chapter: str) -> dict[str, Rule]:
    """The rules that a chapter brings: the functions of (claim, evidence) in its rules.py, by
    name."""
    module = chapters.part(chapter, "rules")
    functions = inspect.getmembers(module, inspect.isfunction) if module else []
    return {
        name: f
        for name, f in functions
        if list(inspect.signature(f).parameters) == ["claim", "evidence"]
    }


def of(chapter: str) -> dict[str, Claim]:
    """A chapter's claims as they are written, by id."""
    path = chapters.FOLDER / chapter / "claims.yml"
    return (
        {claim["id"]: claim for claim in claims.read(path, rules(chapter))}
        if path.is_file()
        else {}
    )


def _by_id(pair: tuple[str, Claim]) -> tuple[str, int]:
    letters, number = re.fullmatch(r"(\D+)(\d+)", pair[1]["id"]).groups()
    return letters, int(number)


def all_claims() -> list[tuple[str, Claim]]:
    """(chapter, claim) of every claim, ordered by id."""
    pairs = [
        (chapter, claim) for chapter in chapters.names() for claim in of(chapter).values()
    ]
    return sorted(pairs, key=_by_id)


def board(chapter: str | None = None, folder: Path | None = None) -> pandas.DataFrame:
    """One row a claim: id, paper, place, claim, verdict, seeds, ours, chapter; the claims of
    one chapter or of all.

    Raises FileNotFoundError if the folder of the records does not exist, and RecordError for a
    record that is wrong.
    """
    folder = folder or records.records_folder()
    if not folder.is_dir():
        raise FileNotFoundError(
            f"records: got the folder {str(folder)!r}, which does not exist; "
            "$PRUNING_RECORDS must name one, such as book/records of a checkout"
        )
    chosen = (
        all_claims()
        if chapter is None
        else [(chapter, claim) for claim in of(chapter).values()]
    )
    named = {claim["records"] for _, claim in chosen if "records" in claim}
    tables = {name: records.table(chapters.evidence(name, folder)) for name in named}
    verdicts = [
        claims.judge(claim, rules(its), tables.get(claim.get("records"), pandas.DataFrame()))
        for its, claim in chosen
    ]
    return pandas.DataFrame(verdicts).assign(chapter=[its for its, _ in chosen])


def badge(verdict: str) -> str:
    """A verdict as a coloured label, in HTML."""
    style = "color:#111;border-radius:0.4em;padding:0.1em 0.5em;white-space:nowrap;"
    return f'<span style="{style}background:{VERDICT_COLOURS[verdict]}">{verdict}</span>'


def tally_html(rows: pandas.DataFrame) -> str:
    """How many claims have each verdict, as a line of HTML."""
    counts = rows.verdict.value_counts()
    said = [f"{badge(name)} {counts[name]}" for name in VERDICTS if name in counts]
    return f"<p>{len(rows)} claims: {', '.join(said)}.</p>"


def _title(chapter: str) -> str:
    """The title of a chapter's page: the first heading of its notebook."""
    if CHECKOUT is None:  # a package has no pages
        return chapters.title(chapter)
    path = CHECKOUT / "notebooks" / f"{chapter}.ipynb"
    first = json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"]
    return "".join(first).partition("\n")[0].removeprefix("# ")


def as_html(rows: pandas.DataFrame) -> str:
    """The scoreboard as an HTML list, one claim an item: legible at any width, unlike a
    table."""
    items = []
    for row in rows.itertuples():
        seeds = f" ({row.seeds} seeds)" if row.seeds else ""
        ours = (
            f"<br><strong>Ours</strong>{seeds}: {html.escape(minus(row.ours))}"
            if row.ours
            else ""
        )
        title = _title(row.chapter)
        items.append(
            f"<li><strong>{row.id}</strong> {badge(row.verdict)}<br><strong>Claim</strong>"
            f" ({html.escape(row.place)}): {html.escape(row.claim)}.{ours}<br>"
            f'<strong>Chapter</strong>: <a href="{row.chapter}.html">{title}</a>'
            "</li>"
        )
    return (
        f'<ul style="list-style:none;padding-left:0" class="scoreboard">{"".join(items)}</ul>'
    )
