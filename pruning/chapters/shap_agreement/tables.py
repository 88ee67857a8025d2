"""What the chapter `shap_agreement` shows of its records: tables and sentences."""

import pandas

from pruning.evidence import records
from pruning.evidence.records import Record

NAMES = {"shap": "SHAP", "ig": "integrated gradients", "permutation": "permutation"}


def overview(evidence: list[Record]) -> pandas.DataFrame:
    """Per density: seeds, weights kept, accuracy, and correlations of Eq. 4 with the other
    methods."""
    frame = records.table(evidence)
    grouped = frame.groupby("density")
    table = {"seeds": grouped.seed.nunique(), "kept": grouped.kept.mean().round()}
    table |= {"accuracy (%)": 100 * grouped.test_accuracy.mean()}

    def mean(column):
        return pandas.to_numeric(frame[column]).groupby(frame.density).mean()

    for kind in ("pearson", "spearman"):
        for name, title in NAMES.items():
            table[f"{kind.title()}, {title}"] = mean(f"{kind}_{name}.value")
            if name == "shap":
                table |= {
                    f"{kind.title()}, {end}": mean(f"{kind}_shap.{end}")
                    for end in ("low", "high")
                }
    table["explainers"] = mean("explainers_pearson")
    table = pandas.DataFrame(table).sort_index(ascending=False)
    table.index = [f"{100 * density:g} %" for density in table.index]
    return records.transposed(table, ["seeds", "kept"])


def times(evidence: list[Record]) -> pandas.DataFrame:
    """Milliseconds of each method, median over networks, and their ratio to Eq. 4."""
    frame = records.table(evidence)
    median = {
        name: 1000 * frame[f"method_seconds.{name}"].median() for name in ("eq4", *NAMES)
    }
    rows = {"Eq. 4": median["eq4"]} | {title: median[name] for name, title in NAMES.items()}
    table = pandas.DataFrame({"milliseconds": rows})
    table["times Eq. 4"] = table.milliseconds / median["eq4"]
    return table


def central(evidence: list[Record]) -> pandas.DataFrame:
    """Share of importance and of pixel variance inside the central squares of MNIST, mean ±
    deviation."""
    frame, rows = records.table(evidence), []
    for column in (name for name in frame if name.startswith("central.")):
        side = int(column.removeprefix("central."))
        ours, variance = (100 * frame[column].map(lambda pair, k=k: pair[k]) for k in (0, 1))
        rows.append(
            {
                "central pixels": f"{side} × {side}",
                "share of the area (%)": 100 * side**2 / 28**2,
                "of the importance (%)": f"{ours.mean():.1f} ± {ours.std():.1f}",
                "of the variance (%)": variance.mean(),
                "seeds": frame.seed.nunique(),
            }
        )
    return pandas.DataFrame(rows)


def caption(evidence: list[Record], profile: str) -> str:
    """One line of Markdown for under a figure."""
    frame = records.table(evidence)
    return (
        f"*{profile} profile · data: {', '.join(frame.dataset.unique())} ·"
        f" {frame.seed.nunique()} seeds a density · {frame.explained.max()} test samples"
        " explained · line: mean, band: lowest to highest seed*"
    )
