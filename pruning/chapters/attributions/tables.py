"""What the chapter `attributions` shows of its records: tables and sentences."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas

from pruning.chapters.shap_agreement.rules import ordered
from pruning.evidence import records
from pruning.evidence.records import Record
from pruning.evidence.statistics import (
    LEVEL,
    above,
    both_sides,
    estimate,
    joined,
    mean_interval,
    minus,
)
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
    with integrated gradients over the features of Income, the latter also over the features
    with a path; from the chapter shap_agreement."""
    rows = [
        {
            "density": f"{100 * r['density']:g} %",
            "order": -r["density"],
            "seed": r["seed"],
            "kept": r["kept"],
            "Pearson": r["pearson_ig"]["value"],
            "Spearman": r["spearman_ig"]["value"],
            "path": _over_paths(r),
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
            "Spearman, features with a path": grouped.path.apply(estimate),
        }
    )


def _over_paths(record: Record) -> float:
    return ordered(record["importance"]["eq4"], record["importance"]["ig"])


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


def without_says(evidence: list[Record], count: int = 20) -> str:
    """What `without` shows of Eq. 4, in a sentence for each kind of network."""
    said = []
    for method, name in (("gates", "networks of gates"), ("dense", "dense networks")):
        found = records.select(evidence, study="pixels", method=method)
        ours, random = (
            pandas.Series([100 * r["without"][way][r["removed"].index(count)] for r in found])
            for way in ("eq4", "random")
        )
        said.append(
            f"In {name} it costs {mean_interval(random - ours, 1)} points more to remove the"
            f" {count} pixels that Eq. 4 ranks first than {count} random ones."
        )
    return minus(" ".join(said))


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
    """The same correlation on Income, at the largest density and at the smallest; and over the
    features with a path, wherever some have none."""
    found = records.select(income, dataset="income")
    if not found:
        return ""
    densities = sorted({record["density"] for record in found}, reverse=True)
    parts = {density: records.select(found, density=density) for density in densities}
    most, least = (
        f"{_interval(record['spearman_ig']['value'] for record in parts[density])} with"
        f" {100 * density:g} % of the weights"
        for density in (densities[0], densities[-1])
    )
    fewer = [
        f"{_interval(map(_over_paths, part))} with {100 * density:g} %"
        for density, part in parts.items()
        if any(_over_paths(record) != record["spearman_ig"]["value"] for record in part)
    ]
    seeds = len({record["seed"] for record in found})
    over = f" Over the features with a path it is {joined(fewer)}." if fewer else ""
    return f" On Income, with {seeds} seeds, it is {most} and {least}.{over}"


def _interval(correlations: Iterable[float]) -> str:
    return mean_interval(pandas.Series(correlations, dtype=float), within=(-1, 1))


GUIDES = (
    "**Low information does not mean safe to prune.**",
    "**Low information is a weak guide.**",
    "**Low information is not clearly a worse guide than relative importance.**",
)


def _guide(after: dict[str, pandas.Series]) -> str:
    """Whether pruning by information is clearly better than at random, and clearly worse than
    by relative importance: the accuracies of the same networks (paired t-tests at 5 %)."""
    if above(after["information"] - after["random"]) >= LEVEL:
        return GUIDES[0]
    return GUIDES[1 if above(after["relative"] - after["information"]) < LEVEL else 2]


def quarter(layer: Record, score: str) -> tuple[float, float]:
    """How much the loss changes without a weight of the lowest quarter by a score, over what
    it does without a weight of the whole sample: means, and medians."""
    values, change = (np.array(layer["sample"][key]) for key in (score, "loss"))
    lowest = change[values.argsort(kind="stable")[: max(1, len(values) // 4)]]
    return lowest.mean() / change.mean(), float(np.median(lowest) / np.median(change))


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
    middle = found[0]["sparsities"].index(0.75)
    after = {
        score: pandas.Series([100 * r["after_pruning"][score][middle] for r in found])
        for score in ("information", "random", "relative")
    }
    said = {
        score: f"{mean_interval(values, 1, (0, 100))} %" for score, values in after.items()
    }
    lowest = np.array(
        [[quarter(layer, "information") for layer in r["layers"].values()] for r in found]
    ).mean(0)
    means = joined(
        f"{mean:.2f} times{' as much as an average weight' * (number == 1)} in layer {number}"
        for number, (mean, _) in enumerate(lowest, start=1)
    )
    medians = joined(f"{median:.2f}" for _, median in lowest)
    second = (
        f"{_guide(after)} With 75 % of the weights of each layer removed, the accuracy is"
        f" {said['information']} by information, {said['random']} at random and"
        f" {said['relative']} by relative importance. How safe such weights are depends on the"
        " layer. A weight of the quarter with the least information, removed alone, changes"
        f" the loss by {means}. For medians these ratios are {medians}. The table under"
        " Figure 3 has the correlations for two estimates of the information."
    )
    compared = records.select(evidence, study="sampling")
    return [first, second, *([_said_of_sampling(compared)] if compared else [])]


# field of a record → what it compares; Adam's networks come before those they are beside
COMPARED = {
    "agreement": {
        "adam twice": "maps of two starts, Adam",
        "one of each": "maps of two starts, Adam and StochGradAdam",
        "stochgradadam twice": "maps of two starts, StochGradAdam",
        "adam, half removed": "maps before and after pruning, Adam",
        "stochgradadam, half removed": "maps before and after pruning, StochGradAdam",
    },
    "with_eq4": {
        "adam": "Eq. 4 and the mean size of the maps, Adam",
        "stochgradadam": "Eq. 4 and the mean size of the maps, StochGradAdam",
    },
}


def sampled(evidence: list[Record]) -> pandas.DataFrame:
    """One row a comparison: Spearman's correlation and its difference to that of Adam's
    networks above it, means over seeds with their 95 % intervals."""
    found, rows = records.select(evidence, study="sampling"), {}
    for field, titles in COMPARED.items():
        for key, title in titles.items():
            values = pandas.Series([r[field][key] for r in found])
            adams = key.startswith("adam")
            if adams:
                base = values
            rows[title] = {
                "correlation": mean_interval(values, within=(-1, 1)),
                "difference to Adam": "" if adams else mean_interval(values - base),
            }
    return pandas.DataFrame.from_dict(rows, orient="index")


def _said_of_sampling(found: list[Record]) -> str:
    """What sampling changes in the maps of integrated gradients, as far as a paired t-test
    carries it."""
    values = pandas.DataFrame([r["agreement"] for r in found])
    gain = values["one of each"] - values["adam twice"]
    if both_sides(above(gain), above(-gain)) >= LEVEL:
        head = "Sampled gradients do not clearly change what integrated gradients say"
    elif gain.mean() < 0:
        head = "Sampled gradients change what integrated gradients say"
    else:
        head = (
            "With sampled gradients integrated gradients say what they say of Adam's networks"
        )
    said = {name: mean_interval(each, within=(-1, 1)) for name, each in values.items()}
    more = {
        key: mean_interval(values[key] - values[base])
        for key, base in (
            ("one of each", "adam twice"),
            ("stochgradadam twice", "adam twice"),
            ("stochgradadam, half removed", "adam, half removed"),
        )
    }
    return (
        f"**{head}.** The maps of an image of MNIST in two LeNets that started differently"
        f" have a Spearman correlation of {said['adam twice']} if Adam trained both,"
        f" {said['one of each']} if StochGradAdam trained one (difference"
        f" {more['one of each']}) and {said['stochgradadam twice']} if it trained both"
        f" (difference {more['stochgradadam twice']}). With half of its weights removed, a"
        f" network's maps have one of {said['adam, half removed']} (Adam) and"
        f" {said['stochgradadam, half removed']} (StochGradAdam) with those before"
        f" (difference {more['stochgradadam, half removed']}). There are {len(found)} seeds."
    )


def caption(evidence: list[Record], profile: str, drawn: str) -> str:
    """One line of Markdown for under a figure."""
    seeds = len({record["seed"] for record in evidence})
    plural = "s" * (seeds > 1)
    return origin(profile, data_of(evidence), f"{seeds} seed{plural}", drawn)
