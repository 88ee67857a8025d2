"""What the chapter `shap_agreement` shows of its records: tables and sentences."""

import math

import pandas

from pruning.chapters.shap_agreement.rules import diagonal, over_paths
from pruning.evidence import records
from pruning.evidence.claims import Claim
from pruning.evidence.records import Record
from pruning.evidence.statistics import LEVEL, above, both_sides, larger, mean_interval
from pruning.figures.captions import data_of, origin

NAMES = {"shap": "SHAP", "ig": "integrated gradients", "permutation": "permutation"}


def overview(evidence: list[Record]) -> pandas.DataFrame:
    """Per density: seeds, weights kept, accuracy, features with a path, and correlations of
    Eq. 4 with the other methods."""
    frame = records.table(evidence)
    grouped = frame.groupby("density")
    table = {"seeds": grouped.seed.nunique(), "kept": grouped.kept.mean().round()}
    table |= {"accuracy (%)": 100 * grouped.test_accuracy.mean()}
    frame["reached"] = _reached(frame)
    frame["order"] = over_paths(frame)

    def mean(column):
        return pandas.to_numeric(frame[column]).groupby(frame.density).mean()

    table["features with a path"] = mean("reached")
    for kind in ("pearson", "spearman"):
        for name, title in NAMES.items():
            table[f"{kind.title()}, {title}"] = mean(f"{kind}_{name}.value")
            if name == "shap":
                table |= {
                    f"{kind.title()}, {end}": mean(f"{kind}_shap.{end}")
                    for end in ("low", "high")
                }
    table["Spearman over features with a path, SHAP"] = mean("order")
    frame["line"] = [
        diagonal(*pair)
        for pair in zip(frame["importance.eq4"], frame["importance.shap"], strict=True)
    ]
    table["R² against the diagonal, SHAP"] = mean("line")
    table["explainers"] = mean("explainers_pearson")
    table = pandas.DataFrame(table).sort_index(ascending=False)
    table.index = [f"{100 * density:g} %" for density in table.index]
    return records.transposed(table, ["seeds", "kept"])


def times(evidence: list[Record]) -> pandas.DataFrame:
    """Milliseconds of each method and their ratio to Eq. 4, both the median over networks."""
    frame = records.table(evidence)
    titles = {"eq4": "Eq. 4"} | NAMES
    seconds = pandas.DataFrame(
        {title: frame[f"method_seconds.{name}"] for name, title in titles.items()}
    )
    ratios = seconds.div(seconds["Eq. 4"], axis="index")
    return pandas.DataFrame(
        {"milliseconds": 1000 * seconds.median(), "times as long as Eq. 4": ratios.median()}
    )


def in_three_digits(value: float) -> str:
    """A positive number with as many decimals as three digits leave: "0.260", "5,400"."""
    return f"{value:,.{max(0, 2 - math.floor(math.log10(value)))}f}"


def central(evidence: list[Record]) -> pandas.DataFrame:
    """Share of importance and of pixel variance inside the central squares of MNIST, mean ±
    deviation."""
    frame, rows = records.table(evidence), []
    for column in (name for name in frame if name.startswith("central.")):
        side = int(column.removeprefix("central."))
        ours, variance = (100 * frame[column].map(lambda pair, k=k: pair[k]) for k in (0, 1))
        rows.append(
            {
                "square": f"{side} × {side}",
                "area (%)": 100 * side**2 / 28**2,
                "importance (%)": f"{ours.mean():.1f} ± {ours.std():.1f}",
                "variance (%)": variance.mean(),
            }
        )
    return pandas.DataFrame(rows)


def maps(networks: list[Record], images: Record) -> dict[str, list[float]]:
    """Maps of the pixels, each of sum 1, by title: the importance in one network and its mean
    over all, and the variance in the training images, of which `images` is the record."""
    shares = [pandas.Series(record["importance"]) for record in networks]
    variance = pandas.Series(images["deviation"]) ** 2
    drawn = {
        "One network": shares[0],
        f"Mean of {len(shares)}": sum(shares) / len(shares),
        "Pixels' variance": variance,
    }
    return {title: (values / values.sum()).tolist() for title, values in drawn.items()}


def answer(
    evidence: list[Record], images: list[Record], board: dict[str, Claim]
) -> dict[str, str]:
    """The chapter's answers in sentences, by claim: agreement (G4), time (G9) and the centre
    of MNIST's images (G5), of which `images` are the records."""
    density, side = board["G4"]["density"], board["G5"]["side"]
    sparse = records.select(evidence, method="gates", density=density)
    dense = records.select(evidence, method="dense")
    rank, line = (
        [_over_seeds(part, kind) for part in (sparse, dense)] for kind in ("spearman", "line")
    )
    few, full = records.table(sparse), records.table(dense)
    order = over_paths(few), over_paths(full)
    paths = [mean_interval(values, within=(-1, 1)) for values in order]
    features, reached = len(sparse[0]["features"]), _reached(few)
    frame = records.table(evidence)
    ratio = frame["method_seconds.shap"] / frame["method_seconds.eq4"]
    shuffled = frame["method_seconds.permutation"] / frame["method_seconds.eq4"]
    centre = records.table(images)[f"central.{side}"]
    ours, variance = (100 * centre.map(lambda pair, k=k: pair[k]) for k in (0, 1))
    return {
        "G4": (
            "Structure and SHAP agree on which features have **no effect**. With"
            f" {100 * density:g} % of the weights {_from_to(features - reached)} of the"
            f" {features} features have no path, and both methods give them 0. This raises"
            f" Spearman's correlation over all features, which is {rank[0]}. Over the features"
            f" with a path it is **{paths[0]}** (above 0 with p = {above(order[0]):.2g} in a"
            " one-sided t-test; the interval is two-sided). This is"
            f" {_beside(*order)} the {paths[1]} of networks with all weights. The same feature"
            f" comes first by both methods in {_same_first(few)} of {len(few)} networks"
            f" ({_same_first(full)} of {len(full)} with all weights). The **values** disagree:"
            f" the points lie far from the diagonal, with R² = **{line[0]}** over the features"
            f" that either method uses, against {line[1]} with all weights. Over all features"
            f" it is {_over_seeds(sparse, 'every')}. The paper shows one plot without a"
            f" number. ({len(sparse)} seeds; brackets are 95 % intervals; Figures 1 to 3.)"
        ),
        "G9": (
            "Reading the weights is much **faster**: SHAP with `GradientExplainer` takes"
            f" **{_round(ratio.median())} times** as long in the median"
            f" ({_round(ratio.min())} to {_round(ratio.max())}) for {frame.explained.max()}"
            " samples. The time grows with the number of samples: it is"
            f" {_round((ratio / frame.explained).median())} times as long for each. Shuffling"
            f" the features takes {_round(shuffled.median())} times as long as reading the"
            f" weights. The paper gives no number, so the factor of {board['G9']['factor']:,}"
            " that the verdict requires is our choice."
        ),
        "G5": (
            f"On MNIST the central {side} × {side} pixels hold"
            f" **{mean_interval(ours, 0, (0, 100))} %** of the importance, and they are"
            f" {100 * side**2 / 28**2:.0f} % of the area. But they hold"
            f" {variance.mean():.0f} % of the pixels' variance, so the digits themselves are"
            " more central than what the network reads (Figure 4). The paper says no more than"
            " that they lie in the centre; the comparison with the variance is ours."
        ),
    }


def _reached(runs: pandas.DataFrame) -> pandas.Series:
    """How many features have a path, in each network."""
    return runs["importance.eq4"].map(lambda shares: sum(share > 0 for share in shares))


def _same_first(runs: pandas.DataFrame) -> int:
    """In how many networks one feature is the most important by Eq. 4 and by SHAP."""
    pairs = zip(runs["importance.eq4"], runs["importance.shap"], strict=True)
    return sum(ours.index(max(ours)) == theirs.index(max(theirs)) for ours, theirs in pairs)


def _from_to(counts: pandas.Series) -> str:
    """The smallest and the largest of some counts: "5 to 6", or one where they are equal."""
    return " to ".join(f"{count}" for count in sorted({counts.min(), counts.max()}))


def _beside(ours: pandas.Series, theirs: pandas.Series) -> str:
    """How the means of two groups of networks compare (Welch's two-sided t-test at 5 %)."""
    if both_sides(larger(ours, theirs), larger(theirs, ours)) >= LEVEL:
        return "not clearly apart from"
    return "clearly lower than" if ours.mean() < theirs.mean() else "clearly higher than"


def _over_seeds(evidence: list[Record], kind: str) -> str:
    """Mean and interval of R² against the diagonal ("line", or "every" for all features) or of
    a correlation with SHAP."""
    if kind in ("line", "every"):
        found = [
            diagonal(r["importance"]["eq4"], r["importance"]["shap"], kind == "every")
            for r in evidence
        ]
        return mean_interval(pandas.Series(found, dtype=float))
    found = [r[f"{kind}_shap"]["value"] for r in evidence]
    return mean_interval(pandas.Series(found, dtype=float), within=(-1, 1))


def _round(count: float) -> str:
    """A large number with two digits that count: "21,000"."""
    return f"{float(f'{count:.2g}'):,.0f}"


def caption(evidence: list[Record], drawn: str) -> str:
    """How a figure was drawn, and on what."""
    frame = records.table(evidence)
    return origin(
        "paper",
        data_of(evidence),
        f"{frame.seed.nunique()} networks per density",
        f"{frame.explained.max()} test samples explained",
        drawn,
    )
