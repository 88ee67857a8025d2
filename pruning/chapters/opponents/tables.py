"""What the chapter shows of its records: methods at the same numbers of weights, and the
margin of gates."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas
import yaml

from pruning.chapters.opponents.experiment import SHARES, SPACES, TRIED, Config, best
from pruning.comparison import LENET_WEIGHTS, PAPER_WEIGHTS
from pruning.evidence import configs as flat
from pruning.evidence import records
from pruning.evidence.records import Record
from pruning.methods import find

PUBLISHED = Path(__file__).with_name("published.yml")


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


def comparison(evidence: list[Record], gates: list[Record]) -> pandas.DataFrame:
    """One row a method and number of weights, the best first: settings tried on the validation
    split, seeds,
    weights kept and effective, accuracy on the test set in per cent.

    `evidence` are the records of this chapter, `gates` those of the gates at about these
    weights.
    """
    tested = final(evidence)
    tried = records.select(evidence, study="search", dataset="mnist")
    rows = []
    for weights in SHARES:
        near = [r for r in gates if 0.95 * weights <= r["kept"] <= 1.05 * weights]
        groups = {"gates": near} | {
            method: [r for r in tested if r["method"] == method and budget(r) == weights]
            for method in SPACES
        }
        for method, part in groups.items():
            if not part:
                continue
            accuracy = 100 * np.array([r["test_accuracy"] for r in part])
            rows.append(
                {
                    "weights": weights,
                    "method": find(method).short,
                    "tried": sum(
                        r["method"] == method and budget(r) == weights for r in tried
                    ),
                    "seeds": len({r["seed"] for r in part}),
                    "kept": np.mean([r["kept"] for r in part]),
                    "effective": np.mean([r["effective"] for r in part]),
                    "mean": accuracy.mean(),
                    "sd": accuracy.std(ddof=1) if len(part) > 1 else np.nan,
                }
            )
    columns = ["weights", "method", "tried", "seeds", "kept", "effective", "mean", "sd"]
    table = pandas.DataFrame(rows, columns=columns)
    return table.sort_values(["weights", "mean"], ascending=[True, False], ignore_index=True)


def searched(evidence: list[Record]) -> pandas.DataFrame:
    """One row a method and number of weights: settings tried of TRIED, the best validation
    accuracy and its
    settings."""
    rows = []
    for record in records.select(evidence, study="search", dataset="mnist"):
        settings = {name: record[name] for name in SPACES[record["method"]]}
        rows.append(
            {
                "weights": budget(record),
                "method": find(record["method"]).short,
                "accuracy": 100 * record["validation_accuracy"],
                "settings": ", ".join(
                    f"{name} {said(value)}" for name, value in settings.items()
                ),
            }
        )
    if not rows:
        return pandas.DataFrame(columns=["weights", "method", "tried", "accuracy", "settings"])
    frame = pandas.DataFrame(rows).sort_values("accuracy", ascending=False)
    grouped = frame.groupby(["weights", "method"], sort=True)
    table = grouped.first()
    table.insert(0, "tried", [f"{count} of {TRIED}" for count in grouped.size()])
    return table.reset_index()


def gates(smallest: list[Record], curves: list[Record]) -> list[Record]:
    """The gates' own records on MNIST: with a budget of 404 weights, and the curves up to 2
    %."""
    budgeted = [
        r
        for r in records.select(smallest, study="frontier", method="gates", dataset="mnist")
        if r.get("at_most") and r["kept"] <= PAPER_WEIGHTS
    ]
    open_ended = records.select(curves, study="curves", method="gates", dataset="mnist")
    return budgeted + [r for r in open_ended if 500 < r["kept"] < 8000]


def said(value: object) -> str:
    """A setting's value in words; shares of layers in per cent."""
    if isinstance(value, (list, tuple)):
        return " : ".join(f"{100 * share:.0f}" for share in value) or "open"
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)


def margin(table: pandas.DataFrame, weights: int) -> str:
    """By how many points gates are ahead of the best opponent at a number of weights, in
    words."""
    part = table[table.weights == weights]
    ours, others = part[part.method == "gates"], part[part.method != "gates"]
    if ours.empty or others.empty:
        return f"at {weights:,} weights nothing is on record yet"
    second = others.sort_values("mean").iloc[-1]
    gap = ours["mean"].iloc[0] - second["mean"]
    seeds = f"{second.seeds} seed{'s' if second.seeds > 1 else ''}"
    return (
        f"at {weights:,} weights {gap:+.1f} points on {second.method} "
        f"({second['mean']:.1f} %, {seeds}, {second.tried} of {TRIED} settings tried)"
    )
