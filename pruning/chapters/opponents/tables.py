"""What the chapter shows of its records: methods at the same numbers of weights, and the
margin of gates."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas
import yaml

from pruning.chapters.opponents.experiment import (
    SEEDS,
    SHARES,
    SPACES,
    Config,
    best,
    configs,
)
from pruning.comparison import LENET_WEIGHTS, PAPER_WEIGHTS
from pruning.evidence import configs as flat
from pruning.evidence import records
from pruning.evidence.records import Record
from pruning.evidence.statistics import LEVEL, holm, interval, joined, larger
from pruning.figures.captions import data_of, numbered, origin
from pruning.methods import find

PUBLISHED = Path(__file__).with_name("published.yml")
OURS = "gates"


def published() -> list[dict]:
    """Points that others published: name, weights, accuracy in per cent, source."""
    return yaml.safe_load(PUBLISHED.read_text(encoding="utf-8"))


def budget(record: Record) -> int:
    """The number of weights that a record was asked for."""
    return round(record["density"] * LENET_WEIGHTS)


def final(evidence: list[Record]) -> list[Record]:
    """The runs with the settings that the search has found so far, none with earlier ones."""
    wanted = {config for weights in SHARES for config in best(weights, 0, evidence)}
    tested = records.select(evidence, study="opponents", dataset="mnist")
    return [r for r in tested if replace(flat.of_record(r, Config), seed=0) in wanted]


def comparison(evidence: list[Record]) -> pandas.DataFrame:
    """One row a number of weights and method, the best first.

    screened, searched : settings tried on the validation split for a fifth of the epochs, and
    for all. seeds, kept, effective : of the runs on the test set. mean, sd, low, high :
    accuracy in per cent and its 95 % interval. lead : of the gates, in points. p : that the
    gates are not more accurate, Welch's t-test, corrected for all rows (Holm).
    """
    tested = final(evidence)
    rows, groups = [], {}
    for weights in SHARES:
        for method in SPACES:
            part, screened, searched = (
                [r for r in some if r["method"] == method and budget(r) == weights]
                for some in (
                    tested,
                    *(records.select(evidence, study=s) for s in ("screen", "search")),
                )
            )
            if not part:
                continue
            accuracy = pandas.Series([100 * r["test_accuracy"] for r in part])
            groups[weights, method] = accuracy
            low, high = interval(accuracy) or (np.nan, np.nan)
            rows.append(
                {
                    "weights": weights,
                    "method": method,
                    "screened": len(screened),
                    "searched": len(searched),
                    "seeds": len({r["seed"] for r in part}),
                    "kept": np.mean([r["kept"] for r in part]),
                    "effective": np.mean([r["effective"] for r in part]),
                    "mean": accuracy.mean(),
                    "sd": accuracy.std(),
                    "low": low,
                    "high": high,
                }
            )
    names = "weights method screened searched seeds kept effective mean sd low high"
    table = pandas.DataFrame(rows, columns=names.split())
    ours = table[table.method == OURS].set_index("weights")["mean"]
    table["lead"] = (table.weights.map(ours) - table["mean"]).where(table.method != OURS)
    compared = table[table.lead.notna()]
    table.loc[compared.index, "p"] = holm(
        larger(groups[row.weights, OURS], groups[row.weights, row.method])
        for row in compared.itertuples()
    )
    return table.sort_values(["weights", "mean"], ascending=[True, False], ignore_index=True)


def shown(table: pandas.DataFrame) -> pandas.DataFrame:
    """`comparison` as it is printed: the methods by their names, the interval as one."""
    found = table.assign(
        method=table.method.map(lambda name: find(name).short),
        interval=[
            "–" if np.isnan(row.low) else f"[{row.low:.2f}, {row.high:.2f}]"
            for row in table.itertuples()
        ],
    )
    names = "weights method seeds kept effective mean sd interval lead p screened searched"
    return found[names.split()]


def first_look(evidence: list[Record]) -> pandas.DataFrame:
    """One row a run, the best first: method, weights kept and effective, test accuracy, a
    fraction."""
    columns = {"kept": "kept", "effective": "effective", "test_accuracy": "test accuracy"}
    rows = records.table(r for r in evidence if r["test_accuracy"] is not None)
    found = rows[list(columns)].rename(columns=columns)
    found.insert(0, "method", [find(name).short for name in rows.method])
    return found.sort_values("test accuracy", ascending=False)


def searched(evidence: list[Record]) -> pandas.DataFrame:
    """One row a method and number of weights: the settings that won the search, with their
    validation accuracy in per cent."""
    rows = []
    for record in records.select(evidence, study="search", dataset="mnist"):
        settings = {name: record[name] for name in SPACES[record["method"]]}
        rows.append(
            {
                "weights": budget(record),
                "method": find(record["method"]).short,
                "accuracy": 100 * record["validation_accuracy"],
                "settings": in_words(settings),
            }
        )
    if not rows:
        return pandas.DataFrame(columns=["weights", "method", "accuracy", "settings"])
    frame = pandas.DataFrame(rows).sort_values("accuracy", ascending=False)
    return frame.groupby(["weights", "method"], sort=True).first().reset_index()


def smaller_and_larger(smallest: list[Record], curves: list[Record]) -> list[Record]:
    """The gates' records of other chapters on MNIST: with a budget of 404 weights, and the
    curves up to 3 %."""
    budgeted = [
        r
        for r in records.select(smallest, study="frontier", method=OURS, dataset="mnist")
        if r.get("at_most") and r["kept"] <= PAPER_WEIGHTS
    ]
    open_ended = records.select(curves, study="curves", method=OURS, dataset="mnist")
    return budgeted + [r for r in open_ended if 500 < r["kept"] < 8000]


WORDS = {  # setting → how a page calls it, where its name in the code is no word
    "tau": "τ",
    "alpha": "α",
    "init": "start",
    "descent": "falling part",
    "lr": "rate",
    "gate_lr": "gate rate",
    "noise_lr": "noise rate",
    "finetune_lr": "fine-tuning rate",
    "allocation": "layers",
    "at_most": "at most",
    "l1": "L1",
}


def in_words(settings: Mapping[str, object]) -> str:
    """Settings as a page names them: "τ 30, start 0.5, gate rate 0.1"."""
    return ", ".join(
        f"{WORDS.get(name, name)} {said(value)}" for name, value in settings.items()
    )


def said(value: object) -> str:
    """A setting's value in words; shares of layers in per cent."""
    if isinstance(value, (list, tuple)):
        return " : ".join(f"{100 * share:.0f}" for share in value) or "open"
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)


def margin(table: pandas.DataFrame, weights: int) -> str:
    """A sentence: how far gates are ahead of the best opponent at a number of weights."""
    part = table[table.weights == weights]
    ours, others = part[part.method == OURS], part[part.method != OURS]
    if ours.empty or others.empty:
        return f"With {weights:,} weights the comparison is not on record yet."
    mine, second = ours.iloc[0], others.iloc[0]
    ahead = "clearly " if second.p < LEVEL else ""
    ahead += "ahead of" if second.lead > 0 else "behind"
    verb = "are" if second.p < LEVEL or second.lead <= 0 else "are not clearly"
    seeds = f"{second.seeds} seed{'s' if second.seeds > 1 else ''}"
    return (
        f"With {weights:,} weights gates reach **{mine['mean']:.2f} %** and {verb} {ahead} the"
        f" best opponent, {find(second.method).short}, with {second['mean']:.2f} %"
        f" ({second.lead:+.2f} points, {seeds})."
    )


def answer(table: pandas.DataFrame) -> list[str]:
    """The chapter's answer: how often gates lead clearly, and a sentence for each number of
    weights."""
    compared = table[table.lead.notna()]
    clear = int((compared.p < LEVEL).sum())
    first = (
        f"Gates are clearly ahead in {clear} of {len(compared)} comparisons. Their"
        " search began with settings from earlier validation runs, that of the opponents with"
        " guesses."
    )
    return [first, *(margin(table, weights) for weights in SHARES)]


def missing(evidence: list[Record]) -> str:
    """What is not on record yet, in sentences; empty where every method has all its seeds at
    every number of weights."""
    done = {(budget(r), r["method"], r["seed"]) for r in final(evidence)}
    lacking = []
    for weights in SHARES:
        absent = [
            find(method).short
            for method in SPACES
            if any((weights, method, seed) not in done for seed in range(SEEDS))
        ]
        if absent:
            lacking.append(f"with {weights:,} weights for {joined(absent)}")
    if not lacking:
        return ""
    runs = sum(
        len(records.missing(configs(name), evidence)) for name in ("screen", "search", "paper")
    )
    return (
        f"The comparison is not complete. It lacks up to {runs} runs:"
        f" {'; '.join(lacking)}. A method may have some seeds already. Until all are on"
        " record, it is shown with the best settings found so far, and the lead of the gates"
        " may shrink."
    )


def caption(tested: list[Record]) -> str:
    """One line of Markdown for under the ranking."""
    seeds = sorted({r["seed"] for r in tested})
    return numbered(
        1,
        "The distance from the first row to the second is the lead of the best method. A dot"
        " is a seed, and the bar is the 95 % interval of the mean. An open symbol means that"
        " gates are not clearly ahead of the method. A method below the left edge is drawn at"
        " the edge, with its number.",
        origin(
            "paper",
            data_of(tested),
            f"{len(tested)} runs, up to {len(seeds)} seeds per method",
        ),
    )


def published_caption(gates: list[Record]) -> str:
    """One line of Markdown for under the frontier."""
    return numbered(
        2,
        "Compare dots and crosses at equal numbers of weights. A dot is a run of the gates,"
        " and a cross is a published number. The table has the sources.",
        origin("paper", data_of(gates), f"{len(gates)} runs"),
    )


def sources(points: list[dict]) -> pandas.DataFrame:
    """One row a published point: method, weights, accuracy in per cent, source."""
    columns = {"name": "method", "weights": "weights", "accuracy": "accuracy (%)"}
    return pandas.DataFrame(points)[[*columns, "source"]].rename(columns=columns)
