"""Verdicts on the papers' claims, computed from book/claims.yml and the records.

A rule takes a claim and the records that its query selects, and says whether the claim holds, in a
sentence with numbers. Fewer than three seeds are no evidence for a verdict.
"""

import html
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas
import yaml

from pruning import records
from pruning.datasets import CHECKOUT

REPRODUCED, PARTLY, NOT_REPRODUCED, NOT_MEASURED = "reproduced", "partly", "not reproduced", "not measured"
VERDICTS = (REPRODUCED, PARTLY, NOT_REPRODUCED, NOT_MEASURED)
MIN_SEEDS = 3


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


def percent(values: pandas.Series) -> str:
    """Mean ± standard deviation of fractions, in per cent."""
    return f"{100 * values.mean():.2f} ± {100 * values.std():.2f} %"


def at_least(claim: dict, found: pandas.DataFrame) -> tuple[str, int, str]:
    """The mean over seeds exceeds `value` and no seed keeps more than `weights` (where the claim names a
    number): reproduced; only some seed does both: partly."""
    if found.empty:
        return NOT_MEASURED, 0, ""
    accuracy, seeds = found.test_accuracy, found.seed.nunique()
    best = f"{100 * accuracy.max():.2f} %"
    ours = f"{percent(accuracy)}, best {best}, with {int(found.kept.max()):,} weights or fewer"
    if seeds < MIN_SEEDS:
        return NOT_MEASURED, seeds, ours
    small = found.kept <= claim.get("weights", float("inf"))
    if small.all() and accuracy.mean() > claim["value"]:
        return REPRODUCED, seeds, ours
    return PARTLY if (small & (accuracy > claim["value"])).any() else NOT_REPRODUCED, seeds, ours


def ahead(claim: dict, found: pandas.DataFrame) -> tuple[str, int, str]:
    """At every density where both are on record `method` has the higher mean than each of `others`."""
    if found.empty:
        return NOT_MEASURED, 0, ""
    mean = found.pivot_table(index="density", columns="method", values="test_accuracy")
    seeds = int(found.groupby(["method", "density"]).seed.nunique().min())
    wins, parts = [], []
    for other in claim["others"]:
        if other not in mean or claim["method"] not in mean:
            parts.append(f"{other}: not on record")
            continue
        both = mean[[claim["method"], other]].dropna()
        won = both[claim["method"]] > both[other]
        wins.append(won)
        parts.append(f"{other}: ahead at {won.sum()} of {len(won)} densities")
    ours = "; ".join(parts)
    if seeds < MIN_SEEDS or len(wins) < len(claim["others"]):
        return NOT_MEASURED, seeds, ours
    won = pandas.concat(wins)
    return REPRODUCED if won.all() else PARTLY if won.any() else NOT_REPRODUCED, seeds, ours


def stays_high(claim: dict, found: pandas.DataFrame) -> tuple[str, int, str]:
    """At `density`, within `tolerance` of the dense network, and ahead of `other` by more than the
    standard deviations of both: reproduced; one of the two: partly."""
    sparse = found[found.density == claim["density"]]
    method, other = (sparse[sparse.method == claim[k]].test_accuracy for k in ("method", "other"))
    dense = found[(found.method == "dense") & (found.density == 1)].test_accuracy
    seeds = min(len(method), len(other), len(dense))
    if not seeds:
        return NOT_MEASURED, 0, ""
    ours = (
        f"{claim['method']} {percent(method)}, dense {percent(dense)}, {claim['other']} {percent(other)}, "
        f"at {100 * claim['density']:g} % of the weights"
    )
    if seeds < MIN_SEEDS:
        return NOT_MEASURED, seeds, ours
    near = dense.mean() - method.mean() <= claim["tolerance"]
    far_above = method.mean() - other.mean() > method.std() + other.std()
    return REPRODUCED if near and far_above else PARTLY if near or far_above else NOT_REPRODUCED, seeds, ours


def _cells(found: pandas.DataFrame, cells: list[str], by: list[str] | None = None) -> pandas.DataFrame:
    """Accuracy, one row a seed, one column a cell (and combination of `by`)."""
    return found.pivot_table(index="seed", columns=[*cells, *(by or [])], values="test_accuracy")


def _where(cells: list[str], cell: Any) -> str:
    values = cell if isinstance(cell, tuple) else (cell,)
    return ", ".join(f"{name} {value}" for name, value in zip(cells, values, strict=True))


def best_in_cells(claim: dict, found: pandas.DataFrame) -> tuple[str, int, str]:
    """In every cell the rows that `ours` selects have a higher mean than each of `others`, every one of them
    under its best threshold: reproduced; in some cells: partly. A lead counts as clear beyond two standard
    errors of the difference, seed by seed."""
    cells = claim["cells"]
    ours = _cells(found.query(claim["ours"]), cells)
    theirs = _cells(found[found.method.isin(claim["others"])], cells, ["method", "scope"])
    if ours.empty or theirs.empty:
        return NOT_MEASURED, 0, ""
    seeds = int(min(ours.count().min(), theirs.count().min()))
    ahead = clear = behind = 0
    for cell in ours:
        best = theirs[cell].mean().idxmax()
        lead = (ours[cell] - theirs[cell][best]).dropna()
        noise = 2 * lead.std() / len(lead) ** 0.5
        ahead += lead.mean() > 0
        clear += lead.mean() > noise
        behind += lead.mean() < -noise
    total = len(ours.columns)
    said = (
        f"ahead of the best competitor in {ahead} of {total} cells ({', '.join(cells)}), "
        f"clearly in {clear}; clearly behind in {behind}"
    )
    if seeds < MIN_SEEDS:
        return NOT_MEASURED, seeds, said
    return REPRODUCED if ahead == total else PARTLY if ahead else NOT_REPRODUCED, seeds, said


def improves(claim: dict, found: pandas.DataFrame) -> tuple[str, int, str]:
    """In every cell the rows that `ours` selects have a higher mean than those that `base` selects:
    reproduced; in some: partly."""
    ours, base = (_cells(found.query(claim[key]), claim["cells"]) for key in ("ours", "base"))
    if ours.empty or base.empty:
        return NOT_MEASURED, 0, ""
    gain = (ours - base).dropna(axis=1, how="all")
    seeds, mean = int(gain.count().min()), gain.mean()
    least, most = (
        f"{100 * mean[cell]:+.2f} points ({_where(claim['cells'], cell)})"
        for cell in (mean.idxmin(), mean.idxmax())
    )
    said = f"higher in {(mean > 0).sum()} of {len(mean)} cells: from {least} to {most}"
    if seeds < MIN_SEEDS:
        return NOT_MEASURED, seeds, said
    return REPRODUCED if (mean > 0).all() else PARTLY if (mean > 0).any() else NOT_REPRODUCED, seeds, said


def gains(claim: dict, found: pandas.DataFrame) -> tuple[str, int, str]:
    """The largest mean gain over the unpruned network, over cells, reaches `value`: reproduced; some gain is
    larger than two standard errors: partly."""
    if found.empty:
        return NOT_MEASURED, 0, ""
    found = found.assign(gain=found.test_accuracy - found.unpruned_accuracy)
    grouped = found.groupby(claim["cells"]).gain
    mean, seeds = grouped.mean(), int(grouped.count().min())
    best = mean.idxmax()
    noise = 2 * grouped.std()[best] / grouped.count()[best] ** 0.5
    spread = f"{100 * mean[best]:+.2f} ± {100 * grouped.std()[best]:.2f} points"
    said = f"at most {spread} ({_where(claim['cells'], best)})"
    if seeds < MIN_SEEDS:
        return NOT_MEASURED, seeds, said
    reached = mean[best] >= claim["value"]
    return REPRODUCED if reached else PARTLY if mean[best] > noise else NOT_REPRODUCED, seeds, said


Rule = Callable[[dict, pandas.DataFrame], tuple[str, int, str]]
RULES: dict[str, Rule] = {
    rule.__name__: rule for rule in (at_least, ahead, stays_high, best_in_cells, improves, gains)
}


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
