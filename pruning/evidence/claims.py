"""Verdicts on the papers' claims, computed from the records by a rule a claim.

A claim is an entry of a chapter's claims.yml. Its `rule` takes the claim and the records that
its `where` selects, and returns the verdict, the number of seeds, and a sentence with numbers.
`where` holds pairs of field and value; a list of values stands for any of them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas
import yaml

from pruning.evidence.statistics import NOT_MEASURED

Claim = dict[str, Any]
Rule = Callable[[Claim, pandas.DataFrame], tuple[str, int, str]]


@dataclass(frozen=True)
class Verdict:
    """What the records say of one claim. `ours` is a sentence; empty where nothing is on
    record."""

    id: str
    paper: str
    place: str
    claim: str
    verdict: str
    seeds: int
    ours: str


def read(path: Path, rules: Mapping[str, Rule]) -> list[Claim]:
    """The claims of a file as they are written. Raises ValueError for an entry without its
    fields, or with a rule that is not one of `rules`."""
    claims = yaml.safe_load(path.read_text(encoding="utf-8"))
    for entry in claims:
        if absent := {"id", "paper", "place", "claim"} - entry.keys():
            raise ValueError(f"{path}: claim {entry.get('id')!r} lacks {sorted(absent)}")
        if "rule" in entry and entry["rule"] not in rules:
            raise ValueError(
                f"{path}: {entry['id']} has rule {entry['rule']!r}, needs one of"
                f" {sorted(rules)}"
            )
    return claims


def chosen(evidence: pandas.DataFrame, where: Mapping[str, Any]) -> pandas.DataFrame:
    """The rows whose fields have these values, or one of them where a list is given; None is
    the value of a field that a record does not have.

    Raises ValueError for a field that no record has.
    """
    if unknown := sorted(where.keys() - set(evidence.columns)):
        raise ValueError(f"where: got {unknown}, but no record has such a field")
    for field, value in where.items():
        values = value if isinstance(value, list) else [value]
        fits = evidence[field].isin(values)
        evidence = evidence[fits | evidence[field].isna() if None in values else fits]
    return evidence


def judge(claim: Claim, rules: Mapping[str, Rule], evidence: pandas.DataFrame) -> Verdict:
    """The verdict on one claim from the table of the records that it names."""
    verdict, seeds, ours = NOT_MEASURED, 0, ""
    if "rule" in claim and not evidence.empty:
        verdict, seeds, ours = rules[claim["rule"]](claim, chosen(evidence, claim["where"]))
    return Verdict(
        claim["id"], claim["paper"], claim["place"], claim["claim"], verdict, seeds, ours
    )
