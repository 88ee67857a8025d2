"""What the chapter `relative_importance` shows of its records: selections, tables,
sentences."""

from collections.abc import Iterable
from typing import Any

import pandas

from pruning import methods
from pruning.chapters.relative_importance import rules, words
from pruning.chapters.relative_importance.experiment import OTHERS, READING
from pruning.evidence import records
from pruning.evidence.claims import chosen
from pruning.evidence.configs import flat
from pruning.evidence.records import Record
from pruning.evidence.statistics import joined, mean_interval, minus, percent_interval
from pruning.figures.captions import LINES, data_of, origin
from pruning.methods import relative
from pruning.methods.oneshot import Score

# what lies on the line of another score, magnitude's and STADE's, and is not drawn
HIDDEN = ("magnitude live", "stade corrected")


def _is_reading(record: Record) -> bool:
    return all(record[key] == value for key, value in READING.items())


def compared(evidence: list[Record]) -> list[Record]:
    """Relative importance in the chosen reading and threshold; every competitor under the
    threshold whose mean over seeds is highest, per network, sparsity and fine-tune; and the
    unpruned networks.
    """
    frame = records.table(evidence)
    cell = ["scaling", "activation", "activity", "method", "sparsity", "finetune_epochs"]
    mean = frame.groupby([*cell, "scope"]).test_accuracy.mean()
    best = {key: mean[key].idxmax() for key in mean.index.droplevel("scope").unique()}
    return [
        record
        for record in evidence
        if record["method"] == "unpruned"
        or (record["method"] == "relative" and _is_reading(record))
        or (
            record["method"] in OTHERS
            and best[tuple(record[key] for key in cell)] == record["scope"]
        )
    ]


def name(method: str) -> str:
    """How tables and sentences name a score."""
    return method if method == "unpruned" else methods.find(method, Score).short


def labelled(evidence: list[Record]) -> list[Record]:
    """Records with `score`, which tells readings apart, `threshold` and `training` in words,
    and `setting`, what differs from the defaults."""
    default = flat(relative.Settings())
    symbols = {"alpha": "α", "beta": "β", "decay": "s", "tolerance": "tolerance"}
    said = []
    for record in evidence:
        score = name(record["method"])
        if record["method"] == "relative":
            score += f": {words.reading(record['kind'], record['blind'])}"
        moved = [
            f"{symbol} = {record[key]:g}"
            for key, symbol in symbols.items()
            if record.get(key, default[key]) != default[key]
        ]
        if record.get("form", default["form"]) != default["form"]:
            moved.append("|μ| · σ")
        said.append(
            record
            | {
                "score": score,
                "threshold": words.SCOPES[record["scope"]],
                "training": words.training(record["activity"]),
                "setting": ", ".join(moved) or "α = β = s = 1",
            }
        )
    return said


def runs_of(claim: dict, evidence: list[Record]) -> pandas.DataFrame:
    """The runs that a claim is about."""
    return chosen(records.table(evidence), claim["where"])


def answers(claims: dict[str, dict], evidence: list[Record]) -> dict[str, str]:
    """The chapter's answers by claim, from the runs that the rules look at."""
    return {
        "R1": _reached(claims["R1"], runs_of(claims["R1"], evidence)),
        "R2": _ahead(claims["R2"], runs_of(claims["R2"], evidence)),
        "R3": _changed(claims["R3"], runs_of(claims["R3"], evidence)),
        "R4": _gained(claims["R4"], runs_of(claims["R4"], evidence)),
    }


def _reached(claim: dict, runs: pandas.DataFrame) -> str:
    picked, normalised = rules.reached(claim, runs)
    return (
        "With 75 % of the weights removed the network classifies"
        f" **{percent_interval(picked)}** of MNIST's test images"
        f" correctly{words.aware(claim['chosen']['activity'])}, under the reading of the"
        f" method that a validation split chose ({len(picked)} seeds; brackets are 95 %"
        f" intervals). The paper reports {100 * claim['value']:.2f} %.{_plain(claim, runs)}"
        " The normalised contribution, which gives the method its name, reaches at most"
        f" {percent_interval(normalised)}. {rules.counted(claim, runs)} (*Figure 3*)."
    )


def _plain(claim: dict, runs: pandas.DataFrame) -> str:
    """What the chosen reading reaches without the penalty of its training, in a sentence;
    empty where that is not on record, or no other network."""
    picked = claim["chosen"]
    plain = chosen(runs, picked | {"activity": 0.0}).test_accuracy
    if not picked["activity"] or plain.empty:
        return ""
    return f" After plain training the same reading reaches {percent_interval(plain)}."


def reaching(claim: dict, runs: pandas.DataFrame) -> str:
    """Which combinations reach the paper's number, with their means and intervals, in
    words."""
    said = [
        f"{percent_interval(row.accuracies)} ({words.combination(*cell)})"
        for cell, row in rules.reaching(claim, runs).iterrows()
    ]
    value = f"{100 * claim['value']:.2f} %"
    return (
        f"These means reach {value}: {joined(said)}." if said else f"No mean reaches {value}."
    )


def _ahead(claim: dict, runs: pandas.DataFrame) -> str:
    found = rules.leads(claim, runs)
    ahead, behind = rules.clear(found.items())
    means = 100 * found.mean()
    return (
        f"Relative importance is clearly ahead of the best competitor in **{ahead.sum()} of"
        f" {len(ahead)}** cases and clearly behind in {behind.sum()} (*Figure 4*). A case is"
        f" {words.kinds(claim['cells'])}. The mean differences reach from"
        f" {signed(means.min())} to {signed(means.max())} points.{_masks_alone(claim, runs)}"
        " The paper says that the method is ahead at 25 to 75 % sparsity, for different"
        " activations."
    )


CORRECTED = "stade corrected"  # changes biases too, not the mask alone


def _masks_alone(claim: dict, runs: pandas.DataFrame) -> str:
    """The same counts among competitors that change nothing but the mask, in a sentence;
    empty where there are no others."""
    if CORRECTED not in set(runs.method):
        return ""
    others = [method for method in claim["others"] if method != CORRECTED]
    ahead, behind = rules.clear(rules.leads(claim | {"others": others}, runs).items())
    return (
        f" One competitor ({name(CORRECTED)}) changes biases too. Without it the method is"
        f" clearly ahead in {ahead.sum()} and clearly behind in {behind.sum()}."
    )


def _changed(claim: dict, runs: pandas.DataFrame) -> str:
    found = rules.changes(claim, runs)
    better, worse = rules.clear(found.items())
    means = 100 * found.mean()
    named = "; ".join(words.case(claim["cells"], cell) for cell in better.index[better])
    return (
        f"Pruning-aware training makes the pruned network clearly more accurate in"
        f" **{better.sum()} of {len(better)}** cases{f' ({named})' if named else ''} and"
        f" clearly less accurate in {worse.sum()}. The mean changes reach from"
        f" {signed(means.min())} to {signed(means.max())} points (*Figure 5* has the ReLU"
        " network at 75 %). The paper's abstract gives no number."
    )


def _gained(claim: dict, runs: pandas.DataFrame) -> str:
    groups, absent = rules.over_control(claim, runs)
    said = ""
    if groups.ngroups:
        means, ahead = groups.mean(), rules.clearly_above(groups)
        best = means.idxmax()
        said = (
            "The best pruned network is"
            f" **{mean_interval(groups.get_group(best))} points** above the unpruned network"
            f" that was fine-tuned alike ({words.case(claim['cells'], best)}). It is clearly"
            f" above it in {ahead.sum()} of {len(means)} cases, once their number is taken"
            " into account. "
        )
    said += f"The paper reports up to {100 * claim['value']:.2f} points."
    if absent:
        said += (
            f" In {absent} further cases the unpruned network was not fine-tuned alike, so"
            " there is nothing to compare with yet."
        )
    return said


def signed(points: float, digits: int = 2) -> str:
    """A difference in points with its sign, "−0.41", and none at zero."""
    said = minus(f"{points:+.{digits}f}")
    return said if float(said.replace("−", "-")) else said.lstrip("+")


def behind(evidence: list[Record], sparsities: Iterable[float] = (0.75, 0.9, 0.95)) -> str:
    """Which scores have a higher mean than relative importance at one λ and each sparsity, the
    best first, in words; only scores that are drawn."""
    frame = records.table(evidence)
    mean = frame.pivot_table(index="method", columns="sparsity", values="test_accuracy")
    parts = []
    for sparsity in sparsities:
        column = mean[sparsity].drop([*HIDDEN, "unpruned"], errors="ignore")
        above = column[column > column["relative"]].sort_values(ascending=False)
        named = joined(map(name, above.index)) if len(above) else "none"
        parts.append(f"{named} with {100 * sparsity:g} % removed")
    one = evidence[0]
    tuned = ", after fine-tuning," if one["finetune_epochs"] else ""
    return (
        f"At {words.training(one['activity'])}{tuned} these scores have a higher mean than"
        f" relative importance: {'; '.join(parts)}."
    )


def beside(evidence: list[Record], sparsity: float = 0.75) -> str:
    """By how many points relative importance differs from every other score at one λ and
    sparsity, paired by seed, in words."""
    at = records.table(records.select(evidence, sparsity=sparsity))
    wide = 100 * at.pivot_table(index="seed", columns="method", values="test_accuracy")
    wide = wide[wide.mean().sort_values(ascending=False).index]
    others = wide.columns.drop("relative")
    said = [
        f"{mean_interval(wide['relative'] - wide[other])} ({name(other)})" for other in others
    ]
    return (
        f"With {100 * sparsity:g} % removed relative importance has"
        f" {mean_interval(wide['relative'])} %. Its differences from the other scores are"
        f" {joined(said)} points, over {len(wide)} seeds and paired; each interval is for one"
        " difference."
    )


def at_penalty(evidence: list[Record], activity: float) -> str:
    """Mean accuracies at one λ and 75 %, competitors under their best thresholds, in words."""
    at = compared(records.select(evidence, activity=activity, sparsity=0.75))
    mean = 100 * records.table(at).groupby("method").test_accuracy.mean()
    mean = mean.drop("unpruned", errors="ignore").sort_values(ascending=False)
    said = [f"{value:.2f} % ({name(method)})" for method, value in mean.items()]
    return f"The mean accuracies at {words.training(activity)} are {joined(said)}."


def best_over_penalties(evidence: list[Record]) -> str:
    """Which score and λ leave the most accurate network at 75 %, in words."""
    at = [r for r in compared(evidence) if r["sparsity"] == 0.75 and r["method"] != "unpruned"]
    mean = 100 * records.table(at).groupby(["method", "activity"]).test_accuracy.mean()
    method, activity = mean.idxmax()
    ours = mean["relative"].idxmax()
    return (
        f"The highest mean of all is that of {name(method)} at {words.training(activity)}"
        f" ({mean.max():.2f} %). Relative importance has its highest at"
        f" {words.training(ours)} ({mean['relative', ours]:.2f} %)."
    )


def overlap(evidence: list[Record]) -> pandas.DataFrame:
    """Per cent of the weights that a reading keeps and Wanda keeps too, under the same
    threshold."""
    table = records.table(labelled(records.select(evidence, method="relative"))).pivot_table(
        index=["score", "threshold"], columns="sparsity", values="overlap_wanda"
    )
    return (100 * table).rename(columns="{:.0%}".format)


def normality(evidence: list[Record]) -> pandas.DataFrame:
    """Kolmogorov-Smirnov distances to the fitted normal, one row a network, reading and
    layer."""
    fields = ["ks_single", "ks_means", "zero_share"]
    rows = records.table(evidence)[["activation", "kind", *fields]].explode(fields)
    rows.insert(2, "layer", rows.groupby(level=0).cumcount() + 1)
    rows = rows.sort_values(["activation", "kind", "layer"])
    rows["activation"] = rows.activation.map(words.ACTIVATIONS)
    rows["kind"] = rows.kind.map(words.KINDS)
    rows.columns = ["activation", "contribution", "layer", "samples", "means", "zeros"]
    return rows


def blindness(evidence: list[Record]) -> pandas.DataFrame:
    """How often neurons are in their blind range, and the share that is there on every
    training image, in per cent, mean over seeds."""
    fields = ["blind_fraction", "always_blind"]
    networks = records.select(evidence, method="unpruned", finetune_epochs=0)
    rows = records.table(labelled(networks))[["activation", "training", *fields]]
    rows = rows.explode(fields)
    rows.insert(2, "layer", rows.groupby(level=0).cumcount() + 1)
    rows[fields] = 100 * rows[fields].astype(float)
    rows["activation"] = rows.activation.map(words.ACTIVATIONS)
    found = rows.groupby(["activation", "training", "layer"])[fields].mean()
    return found.set_axis(["blind (%)", "always blind (%)"], axis=1).reset_index()


def means(evidence: list[Record], columns: list[str], rows: Any = "score") -> pandas.DataFrame:
    """Mean ± deviation over seeds in per cent, one row a score, columns in words."""
    said = [
        record
        | {
            field: words.value(field, record[field])
            for field in columns
            if field in words.FIELDS
        }
        for record in labelled(evidence)
    ]
    rows = [rows] if isinstance(rows, str) else rows
    return records.mean_table(said, rows, columns)


def caption(evidence: list[Record], profile: str, drawn: str = "") -> str:
    """One line of Markdown for under a figure."""
    frame = records.table(evidence)
    if frame.empty:
        return origin(profile, "nothing on record yet")
    one = evidence[0]
    seeds = frame.seed.nunique()
    return origin(
        profile,
        data_of(evidence[:1]),
        f"{' and '.join(map(str, one['hidden']))} hidden neurons",
        f"{one['epochs']} epochs",
        f"{seeds} seed{'s' * (seeds > 1)}",
        drawn or f"{LINES} · error on a log scale",
    )
