"""What the chapter `pixel_representatives` shows of its records: tables and sentences."""

import numpy as np
import pandas

from pruning.chapters.pixel_representatives.rules import null_ratios, picks, supported
from pruning.evidence import records
from pruning.evidence.claims import Claim
from pruning.evidence.records import Record
from pruning.evidence.statistics import mean_interval
from pruning.figures.captions import data_of, origin


def overview(evidence: list[Record]) -> pandas.DataFrame:
    """Per density, the one achieved: seeds, weights, accuracy, pixels used, neighbour ratio,
    Moran's I and its nulls."""
    frame = records.table(evidence)
    frame["null"] = frame.morans_i_null.map(lambda pair: pair[0])
    frame["inside"] = frame.morans_i_null_inside.map(lambda pair: pair[0])
    frame["above"] = frame.apply(
        lambda row: (row.morans_i - row.morans_i_null_inside[0]) / row.morans_i_null_inside[1],
        axis=1,
    )
    grouped = frame.groupby("density")
    table = {
        "seeds": grouped.seed.nunique(),
        "kept": grouped.kept.mean(),
        "accuracy (%)": 100 * grouped.test_accuracy.mean(),
        "pixels used": grouped.pixels_used.mean(),
        "neighbour ratio": grouped.neighbour_ratio.mean(),
        "neighbour ratio, ± over seeds": grouped.neighbour_ratio.std(),
        "Moran's I": grouped.morans_i.mean(),
        "Moran's I, ± over seeds": grouped.morans_i.std(),
        "Moran's I, shuffled": grouped.null.mean(),
        "Moran's I, shuffled among pixels that vary": grouped.inside.mean(),
        "Moran's I, in standard deviations above that": grouped.above.mean(),
    }
    table = pandas.DataFrame(table).sort_index(ascending=False)
    achieved = (frame.kept / frame.dense_weights).groupby(frame.density).mean()
    table.index = [f"{100 * achieved[density]:.2g} %" for density in table.index]
    return records.transposed(table, ["seeds", "kept", "pixels used"])


def rules(evidence: list[Record]) -> pandas.DataFrame:
    """Per digit: precision, recall, accuracy and F₁ of its two top pixels; then of the best
    pair among the pixels that it reads most, and of the best pair of all. Per cent, mean over
    seeds."""
    rows = []
    for record in evidence:
        for rule in record["rules"]:
            row: dict = {("", "digit"): rule["label"]}
            for title, one in (
                ("top two", rule),
                ("best read", rule["best_read"]),
                ("best", rule["best"]),
            ):
                for key in ("precision", "recall", "accuracy"):
                    row[title, key] = 100 * one[key]
                row[title, "F₁"] = _f1(row[title, "precision"], row[title, "recall"])
            rows.append(row)
    frame = pandas.DataFrame(rows)
    frame.columns = pandas.MultiIndex.from_tuples(frame.columns)
    mean = frame.groupby(("", "digit")).mean()
    mean.index.name = "digit"
    return mean


def _f1(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def rule(record: Record, label: str) -> Record:
    """What a network's record says of the two pixels of a digit."""
    return next(rule for rule in record["rules"] if rule["label"] == label)


def answer(evidence: list[Record], board: dict[str, Claim]) -> dict[str, str]:
    """The chapter's answers in sentences, by claim: representatives (G7), two pixels (G8)."""
    thin, two = board["G7"], board["G8"]
    ratios = null_ratios(records.table(evidence), thin["few"], thin["many"])
    said = {name: mean_interval(ratios[name]) for name in ratios}
    pairs = records.select(evidence, study="pixels")[0]["pairs"][-1]  # above ½ is on
    support = supported(records.table(evidence)).get(pairs["on"])
    picked = f": {picks(support)}" if support else ""
    found = records.table(
        rule(record, two["label"])
        for record in records.select(evidence, density=two["density"])
    )
    precision, recall, accuracy = (
        mean_interval(100 * found[name], 0, (0, 100))
        for name in ("precision", "recall", "accuracy")
    )
    counts = np.array([found.inside.map(sum), found.outside.map(sum)]).mean(1)
    base = 100 * counts[0] / counts.sum()
    return {
        "G7": (
            "Neighbours do matter less: around the twenty most important pixels they have"
            f" **{said['few']}** of those pixels' importance with 0.15 % of the weights, and"
            f" {said['many']} with 4 %. But the network does **not keep its pixels apart**."
            " If the same importances lay on pixels drawn at random, in proportion to the map"
            f" of 4 %, the ratio would be {said['in_proportion']}. The paper shows maps and"
            f" gives no number. ({len(ratios)} seeds; brackets are 95 % intervals; Figures 2"
            " and 3.)"
        ),
        "G8": (
            f"If both of the two most important pixels are on, the image is a"
            f" “{two['label']}” in **{precision} %** of the cases, and not in"
            f" {100 * two['value']:.0f} % as in the paper. Of all images {base:.0f} % are that"
            f" digit. On the training images {pairs['reaching']:,} of {pairs['pairs']:,} pairs"
            f" are as precise as the paper says{picked}. The most precise of the networks' own"
            f" pairs has a precision of {100 * found.precision.max():.0f} %. If the paper"
            f" means accuracy, ours is {accuracy} %, and always answering “no” has"
            f" {100 - base:.0f} %. The rule finds {recall} % of the digit's images"
            " (Figures 4 and 5)."
        ),
    }


def caption(evidence: list[Record], drawn: str) -> str:
    """How a figure was drawn, and on what."""
    seeds = records.table(evidence).groupby("density").seed.nunique()
    return origin("paper", data_of(evidence), f"{seeds.min()} networks per density", drawn)
