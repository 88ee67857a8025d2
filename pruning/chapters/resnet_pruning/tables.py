"""What the chapter `resnet_pruning` shows of its records: selections, tables, sentences."""

import itertools

import numpy as np
import pandas

from pruning.chapters.resnet_pruning import rules
from pruning.chapters.resnet_pruning.experiment import HALF, MAIN, RATES, VARIANTS, configs
from pruning.chapters.resnet_pruning.looks import LOOKS
from pruning.evidence import records
from pruning.evidence.records import Record
from pruning.evidence.statistics import MIN_SEEDS, against, gain_interval
from pruning.figures.captions import PENDING

COMMAND = "pruning sweep resnet_pruning --profile cpu"
LATE_COLUMNS = {
    "unpruned": "unpruned",
    "pruned": "half removed",
    "recalibrated": "re-estimated",
}
METRICS = {  # as tables name them
    "accuracy_global": "global threshold",
    "accuracy_recalibrated": "global, re-estimated",
    "accuracy_layer": "threshold per layer",
}


def name(method: str) -> str:
    """A method as tables say it."""
    return LOOKS[method].label


def main(evidence: list[Record], **where) -> list[Record]:
    """Adam and StochGradAdam at the constant rate, in the book's order."""
    chosen = records.select(evidence, schedule="constant", **where)
    return [
        r
        for method in MAIN
        for r in chosen
        if r["method"] == method and "sampling" not in r["study"]
    ]


def exploded(evidence: list[Record], metric: str = "accuracy_global") -> list[Record]:
    """One record a pruning rate: `rate` in words, `test_accuracy` at that rate."""
    return [
        {
            "network": r["network"],
            "method": name(r["method"]),
            "seed": r["seed"],
            "test_accuracy": accuracy,
        }
        | {"rate": f"{100 * rate:.0f} %", "threshold": METRICS[metric]}
        for r in evidence
        for rate, accuracy in zip(r["rates"], r[metric], strict=True)
    ]


def by_rate(
    evidence: list[Record], metric: str = "accuracy_global", digits: int = 2
) -> pandas.DataFrame:
    """Mean ± deviation over seeds: rows pruning rates, columns methods."""
    table = records.mean_table(exploded(evidence, metric), ["rate"], ["method"], digits=digits)
    order = list(dict.fromkeys(name(r["method"]) for r in evidence))
    return table.reindex([f"{100 * rate:.0f} %" for rate in RATES])[order]


def at_half(evidence: list[Record]) -> pandas.DataFrame:
    """What is left at 50 %: rows thresholds, columns methods."""
    half = [
        r
        for metric in METRICS
        for r in exploded(evidence, metric)
        if r["rate"] == f"{100 * RATES[HALF]:.0f} %"
    ]
    order = list(dict.fromkeys(name(r["method"]) for r in evidence))
    return records.mean_table(half, ["threshold"], ["method"], digits=1).reindex(
        list(METRICS.values())
    )[order]


def against_paper(evidence: list[Record], claim: dict) -> pandas.DataFrame:
    """The paper's accuracies after 50 % pruning (claim S1) and ours on the same networks, one
    row each."""
    rows = {}
    for network, (ours, theirs) in claim["values"].items():
        row = {
            ("paper", "Adam"): f"{100 * theirs:.2f}",
            ("paper", "StochGradAdam"): f"{100 * ours:.2f}",
        }
        for method in ("adam", "stochgradadam"):
            part = records.select(
                main(evidence, epochs=claim["epochs"], network=network), method=method
            )
            said = (
                by_rate(part).iloc[HALF, 0] + f" ({len(part)} seeds)"
                if part
                else "not measured"
            )
            row["here", name(method)] = said
        rows[network] = row
    return pandas.DataFrame.from_dict(rows, orient="index")


def settings(evidence: list[Record]) -> pandas.DataFrame:
    """Every method, schedule and sampling rate: seeds, and the accuracy unpruned, at 50 %, and
    there with batch norm re-estimated; in the order of VARIANTS."""
    rows = []
    for schedule, method in itertools.product(("constant", "cosine"), VARIANTS):
        found = records.select(evidence, method=method, schedule=schedule)
        rates = sorted({r["sampling_rate"] for r in found})
        for sampling_rate in rates:
            part = records.select(found, sampling_rate=sampling_rate)
            cells = [
                by_rate(part, metric, digits=1).iloc[rate, 0]
                for metric, rate in (
                    ("accuracy_global", 0),
                    ("accuracy_global", HALF),
                    ("accuracy_recalibrated", HALF),
                )
            ]
            label = name(method) + (", cosine" if schedule == "cosine" else "")
            label += f", s = {sampling_rate:g}" if len(rates) > 1 else ""
            rows.append((label, len(part), *cells))
    columns = ["method", "seeds", "unpruned", "50 %", "re-estimated"]
    return pandas.DataFrame(rows, columns=columns).set_index("method")


def weights(evidence: list[Record]) -> pandas.DataFrame:
    """The spread of all prunable weights (claim S3) at the constant rate, mean over seeds,
    rows methods: standard deviation, excess kurtosis, share of the smallest."""
    rows = {}
    for method in VARIANTS:
        part = [
            r["weights"] for r in records.select(evidence, method=method, schedule="constant")
        ]
        if part:
            mean = {key: sum(w[key] for w in part) / len(part) for key in part[0]}
            rows[name(method)] = {
                "sd": f"{mean['sd']:.4f}",
                "kurtosis": f"{mean['kurtosis']:.1f}",
                "|w| < 0.01 (%)": f"{100 * mean['small']:.1f}",
            }
    return pandas.DataFrame.from_dict(rows, orient="index").rename_axis("method")


def missing(evidence: list[Record]) -> pandas.DataFrame:
    """The paper profile's runs that are not on record: study, network, schedule, runs missing
    of all."""
    listed = configs("paper")
    left = set(records.missing(listed, evidence))
    rows = [
        (
            c.study,
            f"ResNet-{c.depth}",
            "projection" if c.shortcut == "projection" else "He et al.",
            c in left,
        )
        for c in listed
    ]
    frame = pandas.DataFrame(rows, columns=["study", "network", "shortcuts", "missing"])
    grouped = frame.groupby(["study", "network", "shortcuts"], sort=False).missing.agg(
        ["sum", "count"]
    )
    return grouped.rename(columns={"sum": "runs missing", "count": "of"})


def late(evidence: list[Record], network: str) -> pandas.DataFrame:
    """The last epochs (`rules.late_epochs`) of the courses of a network: rows methods; columns
    seeds, and the mean ± deviation over seeds of the accuracy unpruned, with half of the
    weights gone, and that with batch norm re-estimated, beside how far the pruned accuracy
    moves from one epoch to the next."""
    rows = {}
    for method in VARIANTS:
        part = [
            r
            for r in records.select(evidence, method=method, network=network)
            if r.get("course")
        ]
        part = [
            r for r in part if "sampling" not in r["study"] and r["schedule"] == "constant"
        ]
        if not part:
            continue
        frame = records.table(part)
        cells = {
            title: records.plus_minus(100 * values.mean(), 100 * values.std(), 1)
            for key, title in LATE_COLUMNS.items()
            for values in [rules.late(frame, key)]
        }
        courses = [r["course"]["pruned"] for r in part]
        moves = [
            abs(np.diff(each[-rules.late_epochs(len(each)) - 1 :])).mean() for each in courses
        ]
        rows[name(method)] = (
            {"seeds": len(part)} | cells | {"change per epoch": f"{100 * np.mean(moves):.1f}"}
        )
    return pandas.DataFrame.from_dict(rows, orient="index").rename_axis("method")


def apart(
    evidence: list[Record], by: str, plain: str | float, key: str = "pruned"
) -> pandas.DataFrame:
    """How far groups of runs lie from the group `plain`, in points: a row a value of `by`, a
    field of a config.

    accuracy : with half of the weights gone, mean of the last epochs of each course, in per
    cent; `key` as of a course. gain, low, high, p : see `statistics.against`. Groups with
    fewer than three seeds of those that `plain` has are left out.
    """
    frame = records.table(r for r in evidence if r.get("course"))
    empty = pandas.DataFrame(columns=["accuracy", "gain", "low", "high", "p"], dtype=float)
    if frame.empty:
        return empty
    accuracy = (100 * rules.late(frame, key)).groupby([frame[by], frame.seed]).mean().unstack()
    if plain not in accuracy.index:
        return empty
    accuracy = accuracy.loc[:, accuracy.loc[plain].notna()].dropna(thresh=MIN_SEEDS)
    if len(accuracy) < 2:
        return empty
    found = against(accuracy, plain)
    return found.assign(accuracy=accuracy.mean(axis=1))[list(empty)]


def controls(evidence: list[Record], key: str = "pruned") -> pandas.DataFrame:
    """`apart` of the controls of the sampling rate 0.8, from StochGradAdam; Adam itself is no
    control."""
    chosen = [r for r in evidence if "sampling" not in r["study"] and r["method"] != "adam"]
    found = apart(chosen, "method", rules.OURS, key)
    return found.reindex([method for method in VARIANTS if method in found.index])


def shown_controls(evidence: list[Record]) -> pandas.DataFrame:
    """How far the controls lie from StochGradAdam, as a page shows it: with the pruned network
    as it is, and with batch norm re-estimated."""
    if controls(evidence).empty:
        return PENDING
    columns = {}
    for key in ("pruned", "recalibrated"):
        found = controls(evidence, key)
        columns[LATE_COLUMNS[key]] = found.apply(gain_interval, axis=1, digits=1).set_axis(
            map(name, found.index)
        )
    return pandas.DataFrame(columns).rename_axis("control")


def costs(evidence: list[Record]) -> pandas.DataFrame:
    """Seconds of a step and of an epoch with either optimizer, and StochGradAdam's over
    Adam's, of the whole step and of the optimizer's part alone."""
    rows = {}
    for one in records.select(evidence, study="overhead"):
        rows[one["network"]] = {
            f"{unit} (s), {name(method)}": f"{one[key][method]:.{digits}f}"
            for unit, key, digits in (
                ("step", "step_seconds", 3),
                ("epoch", "epoch_seconds", 0),
            )
            for method in (rules.THEIRS, rules.OURS)
        } | {
            "step, ratio": f"{one['step_ratio']:.2f}",
            "update alone, ratio": f"{one['update_ratio']:.2f}",
        }
    return pandas.DataFrame(rows)


def first_seed(evidence: list[Record]) -> list[Record]:
    """Adam's and StochGradAdam's network of the lowest seed."""
    pairs = (records.select(evidence, method=method) for method in MAIN[:2])
    return [min(pair, key=lambda r: r["seed"]) for pair in pairs if pair]


def sampled(evidence: list[Record]) -> list[Record]:
    """ResNet-20 on CIFAR-10 at every sampling rate on record, Adam's betas; 1 is Adam
    itself."""
    wanted = ("adam", "stochgradadam")
    return [
        r
        for r in evidence
        if r["study"] in ("short", "short sampling")
        and r["network"] == "ResNet-20"
        and r["method"] in wanted
        and r["schedule"] == "constant"
    ]
