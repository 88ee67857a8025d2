"""What the chapter `pixel_representatives` shows of its records: tables and sentences."""

import pandas

from pruning.evidence import records
from pruning.evidence.records import Record


def overview(evidence: list[Record]) -> pandas.DataFrame:
    """Per density: seeds, weights, accuracy, pixels used, neighbour ratio, Moran's I and its
    nulls."""
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
        "± over seeds": grouped.neighbour_ratio.std(),
        "Moran's I": grouped.morans_i.mean(),
        "± over seeds ": grouped.morans_i.std(),
        "Moran's I, shuffled": grouped.null.mean(),
        "shuffled among varying pixels": grouped.inside.mean(),
        "above that, in deviations": grouped.above.mean(),
    }
    table = pandas.DataFrame(table).sort_index(ascending=False)
    table.index = [f"{100 * density:g} %" for density in table.index]
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


def where(evidence: list[Record], label: str, value: float) -> str:
    """Which pixels, seed by seed, and which figure of their rule comes nearest to `value`, in
    words."""
    said, figures = [], {"precision": [], "recall": [], "accuracy": []}
    for record in evidence:
        rule = next(rule for rule in record["rules"] if rule["label"] == label)
        columns = record["shape"][1]
        pair = " and ".join(f"({p // columns}, {p % columns})" for p in rule["pixels"])
        said.append(f"{pair} in seed {record['seed']}")
        for key, values in figures.items():
            values.append(rule[key])
    mean = {key: sum(values) / len(values) for key, values in figures.items()}
    nearest = min(mean, key=lambda key: abs(mean[key] - value))
    return (
        f"{'; '.join(said)}. Nearest to {100 * value:.0f} % comes the {nearest},"
        f" {100 * mean[nearest]:.0f} %"
    )


def _f1(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def clearest(evidence: list[Record]) -> str:
    """The digit whose own two pixels make the best rule by F₁, mean over seeds."""
    return rules(evidence)["top two", "F₁"].idxmax()


def headline(table: pandas.DataFrame) -> str:
    """What a rule over two pixels can reach at best, in words."""
    digit = table["best", "F₁"].idxmax()
    row, two = table.loc[digit, "best"], table.loc["2", "best"]
    return (
        f"the best rule for 2 has precision {two['precision']:.0f} % at recall "
        f"{two['recall']:.0f} %, and the best for any digit is that for {digit}, precision "
        f"{row['precision']:.0f} % at recall {row['recall']:.0f} %"
    )


def caption(evidence: list[Record], profile: str) -> str:
    """One line of Markdown for under a figure."""
    frame = records.table(evidence)
    seeds = frame.groupby("density").seed.nunique()
    return (
        f"*{profile} profile · data: {', '.join(frame.dataset.unique())} · {seeds.min()} seeds"
        " a density · line: mean, band: lowest to highest seed · shuffled: mean ± 2"
        " deviations*"
    )
