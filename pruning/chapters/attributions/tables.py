"""What the chapter `attributions` shows of its records: tables and sentences."""

from collections.abc import Sequence

import numpy as np
import pandas

from pruning.evidence import records
from pruning.evidence.records import Record
from pruning.evidence.statistics import estimate, mean_interval
from pruning.figures.captions import data_of, origin

NAMES = {
    "eq4": "Eq. 4",
    "ig": "integrated gradients",
    "gradient_input": "gradient × input",
    "gradient": "gradient",
    "deviation": "deviation of the pixel",
    "random": "random pixels",
}
SCORES = {
    "information": "mutual information (Gaussian)",
    "estimate": "mutual information (scikit-learn)",
    "relative": "relative importance",
    "wanda": "Wanda",
    "magnitude": "magnitude",
    "random": "random",
}
PIXELS = {"varying_pixels": "all pixels", "read_pixels": "pixels read"}
KINDS = {"gates": "gates", "dense": "dense"}


def kind(record: Record) -> str:
    """What a network is, in words."""
    return f"{KINDS[record['method']]}, {record['kept']:,} weights"


def agreement(evidence: list[Record], measure: str = "spearman") -> pandas.DataFrame:
    """One row an attribution, a column a kind of network: its correlation with Eq. 4 over the
    pixels that vary, and where a network reads fewer, over those: mean ± deviation over seeds
    and the 95 % interval of the mean. `measure` is "spearman" or "pearson"."""
    found = records.select(evidence, study="pixels")
    table: dict[tuple[str, str], dict[str, str]] = {}
    for method in dict.fromkeys(r["method"] for r in found):
        part = records.select(found, method=method)
        kinds = sorted({kind(record) for record in part})
        reads_all = all(r["read_pixels"] == r["varying_pixels"] for r in part)
        for among, title in list(PIXELS.items())[: 1 if reads_all else None]:
            values = pandas.DataFrame([r[among][measure] for r in part])
            table[kinds[0], title] = {
                NAMES[name]: estimate(column) for name, column in values.items()
            }
    return pandas.DataFrame(table)


def on_income(evidence: list[Record]) -> pandas.DataFrame:
    """One row a density: seeds, weights, and Pearson's and Spearman's correlation of Eq. 4
    with integrated gradients over the features of Income; from the chapter shap_agreement."""
    rows = [
        {
            "density": f"{100 * r['density']:g} %",
            "order": -r["density"],
            "seed": r["seed"],
            "kept": r["kept"],
            "Pearson": r["pearson_ig"]["value"],
            "Spearman": r["spearman_ig"]["value"],
        }
        for r in records.select(evidence, dataset="income")
    ]
    grouped = pandas.DataFrame(rows).sort_values("order").groupby("density", sort=False)
    return pandas.DataFrame(
        {
            "seeds": grouped.seed.nunique(),
            "weights": grouped.kept.mean().map("{:,.0f}".format),
            "Pearson": grouped.Pearson.apply(estimate),
            "Spearman": grouped.Spearman.apply(estimate),
        }
    )


def without(evidence: list[Record], count: int = 20) -> pandas.DataFrame:
    """One row an attribution, a column a kind of network: test accuracy in per cent after its
    first `count` pixels are removed, mean ± deviation over seeds."""
    table: dict[str, dict[str, str]] = {}
    for record in records.select(evidence, study="pixels"):
        at = record["removed"].index(count)
        for name, values in record["without"].items():
            table.setdefault(NAMES[name], {}).setdefault(kind(record), []).append(values[at])
    said = {
        name: {k: estimate(100 * pandas.Series(v), (0, 100)) for k, v in row.items()}
        for name, row in table.items()
    }
    return pandas.DataFrame.from_dict(said, orient="index")


def informed(evidence: list[Record]) -> pandas.DataFrame:
    """One row a score, a column a layer: Spearman's correlation with how much the loss changes
    without the weight, mean ± deviation over seeds and the 95 % interval of the mean."""
    found = records.select(evidence, study="information")
    table: dict[str, dict[str, str]] = {}
    for number, layer in enumerate(found[0]["layers"], start=1):
        column = table[f"layer {number}"] = {}
        for score, title in SCORES.items():
            values = [
                part["estimate"] if score == "estimate" else part["spearman"][score]
                for part in (record["layers"][layer] for record in found)
            ]
            column[title] = estimate(pandas.Series(values))
    return pandas.DataFrame(table)


def pruned(evidence: list[Record]) -> pandas.DataFrame:
    """One row a score, a column a sparsity: test accuracy in per cent without fine-tuning,
    the mean over seeds with its 95 % interval."""
    found = records.select(evidence, study="information")
    rows = {}
    for score in found[0]["after_pruning"]:
        rows[SCORES[score]] = {
            f"{100 * sparsity:g} % removed": mean_interval(
                100 * pandas.Series([r["after_pruning"][score][k] for r in found]), 1, (0, 100)
            )
            for k, sparsity in enumerate(found[0]["sparsities"])
        }
    return pandas.DataFrame.from_dict(rows, orient="index")


def _mean(evidence: list[Record], method: str, among: str) -> str:
    found = records.select(evidence, study="pixels", method=method)
    return mean_interval(pandas.Series([r[among]["spearman"]["ig"] for r in found]))


def _said_of_income(income: Sequence[Record]) -> str:
    """The same correlation on Income, at the largest density and at the smallest."""
    by_density: dict[float, list[float]] = {}
    for record in records.select(income, dataset="income"):
        by_density.setdefault(record["density"], []).append(record["spearman_ig"]["value"])
    if not by_density:
        return ""
    most, least = (
        f"{mean_interval(pandas.Series(by_density[end]), within=(-1, 1))} with"
        f" {100 * end:g} % of the weights"
        for end in (max(by_density), min(by_density))
    )
    return f" On Income it is {most} and {least}."


def answer(evidence: list[Record], income: Sequence[Record] = ()) -> list[str]:
    """The chapter's answers in sentences; `income` are the records of shap_agreement."""
    pixels = records.select(evidence, study="pixels")
    seeds = len({r["seed"] for r in pixels})
    over_all, over_read, dense = (
        _mean(pixels, method, among)
        for method, among in (
            ("gates", "varying_pixels"),
            ("gates", "read_pixels"),
            ("dense", "varying_pixels"),
        )
    )
    first = (
        "**Eq. 4 says which pixels a sparse network reads, and only roughly how much they"
        " count.** In networks of gates with 404 weights Spearman's correlation of Eq. 4 with"
        f" integrated gradients is {over_all} over all pixels of MNIST that vary, but"
        f" {over_read} over those that are read. In dense networks it is {dense}. There are"
        f" {seeds} seeds of each; brackets are 95 % intervals.{_said_of_income(income)}"
    )
    found = records.select(evidence, study="information")
    layers = [part for record in found for part in record["layers"].values()]
    by = {
        score: np.array([part["spearman"][score] for part in layers])
        for score in ("information", "relative")
    }
    middle = found[0]["sparsities"].index(0.75)
    after = {
        score: 100 * np.mean([r["after_pruning"][score][middle] for r in found])
        for score in ("information", "relative")
    }
    worse = by["information"].max() < by["relative"].min()
    verdict = "**Low information does not mean safe to prune.**" if worse else "**In part.**"
    second = (
        f"{verdict} The correlation of mutual information with the change of the loss without"
        f" the weight is {by['information'].min():.2f} to {by['information'].max():.2f} over"
        f" layers and seeds. That of relative importance is {by['relative'].min():.2f} to"
        f" {by['relative'].max():.2f}. With 75 % of the weights removed the accuracy is"
        f" {after['information']:.1f} % by information and {after['relative']:.1f} % by"
        " relative importance."
    )
    return [first, second]


def caption(evidence: list[Record], profile: str, drawn: str) -> str:
    """One line of Markdown for under a figure."""
    seeds = len({record["seed"] for record in evidence})
    plural = "s" * (seeds > 1)
    return origin(profile, data_of(evidence), f"{seeds} seed{plural}", drawn)
