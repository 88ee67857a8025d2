"""Verdicts on the papers' claims, computed from book/claims.yml and the records by `pruning.rules`."""

import html
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas
import yaml

from pruning.data.datasets import CHECKOUT
from pruning.evidence import records
from pruning.rules import NOT_MEASURED, NOT_REPRODUCED, PARTLY, REPRODUCED, RULES


@dataclass(frozen=True)
class Verdict:
    """What the records say of one claim. `ours` is a sentence; empty where nothing is on record."""

    id: str
    paper: str
    place: str
    claim: str
    verdict: str
    seeds: int
    ours: str


def read(path: Path | None = None) -> list[dict[str, Any]]:
    """The claims of claims.yml as they are written. Raises ValueError for an entry without its fields."""
    path = path or (CHECKOUT or Path()) / "book" / "claims.yml"
    claims = yaml.safe_load(path.read_text(encoding="utf-8"))
    for entry in claims:
        if absent := {"id", "paper", "place", "claim"} - entry.keys():
            raise ValueError(f"{path}: claim {entry.get('id')!r} lacks {sorted(absent)}")
        if entry.get("rule", "at_least") not in RULES:
            raise ValueError(
                f"{path}: {entry['id']} has rule {entry['rule']!r}, needs one of {sorted(RULES)}"
            )
    return claims


def entry(name: str) -> dict[str, Any]:
    """One claim as it is written, by its id."""
    return next(claim for claim in read() if claim["id"] == name)


def judge(claim: dict, folder: Path | None = None) -> Verdict:
    """The verdict on one claim from the record files in `folder`."""
    verdict, seeds, ours = NOT_MEASURED, 0, ""
    if "rule" in claim:
        found = records.table(
            records.read((folder or records.records_folder()) / f"{claim['records']}.jsonl")
        )
        if not found.empty:
            verdict, seeds, ours = RULES[claim["rule"]](claim, found.query(claim["query"]))
    return Verdict(claim["id"], claim["paper"], claim["place"], claim["claim"], verdict, seeds, ours)


def scoreboard(folder: Path | None = None, path: Path | None = None) -> pandas.DataFrame:
    """One row a claim: id, paper, place, claim, verdict, seeds, ours."""
    return pandas.DataFrame([judge(claim, folder) for claim in read(path)])


VERDICT_COLOURS = {  # background, readable with black text in the light and the dark theme
    REPRODUCED: "#9fd8b4",
    PARTLY: "#f4d58a",
    NOT_REPRODUCED: "#f0a7a0",
    NOT_MEASURED: "#d3d7dc",
}


def as_html(board: pandas.DataFrame) -> str:
    """The scoreboard as an HTML list, one claim an item: legible at any width, unlike a table."""
    items = []
    style = "color:#111;border-radius:0.4em;padding:0.1em 0.5em;white-space:nowrap;"
    for row in board.itertuples():
        seeds = f", {row.seeds} seeds" if row.seeds else ""
        ours = f"<br><strong>Ours</strong>: {html.escape(row.ours)}{seeds}." if row.ours else ""
        items.append(
            f'<li><strong>{row.id}</strong> <span style="{style}background:{VERDICT_COLOURS[row.verdict]}">'
            f"{row.verdict}</span> "
            f"<br><strong>Claim</strong> ({html.escape(row.place)}): {html.escape(row.claim)}.{ours}</li>"
        )
    return f'<ul style="list-style:none;padding-left:0" class="scoreboard">{"".join(items)}</ul>'
