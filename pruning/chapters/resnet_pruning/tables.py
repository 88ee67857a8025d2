"""What the chapter `resnet_pruning` shows of its records: selections, tables, sentences."""

import numpy as np
import pandas

from pruning.chapters.resnet_pruning import rules
from pruning.chapters.resnet_pruning.experiment import HALF, MAIN, RATES, VARIANTS, configs
from pruning.chapters.resnet_pruning.looks import LOOKS
from pruning.evidence import records
from pruning.evidence.records import Record
from pruning.evidence.statistics import MIN_SEEDS, interval
from pruning.figures import captions

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
    """Every method and schedule: seeds, and the accuracy unpruned, at 50 %, and there with
    batch norm re-estimated; in the order of VARIANTS."""
    rows = []
    for schedule in ("constant", "cosine"):
        for method in VARIANTS:
            part = records.select(evidence, method=method, schedule=schedule)
            if not part:
                continue
            cells = [
                by_rate(part, metric, digits=1).iloc[rate, 0]
                for metric, rate in (
                    ("accuracy_global", 0),
                    ("accuracy_global", HALF),
                    ("accuracy_recalibrated", HALF),
                )
            ]
            label = name(method) + (", cosine" if schedule == "cosine" else "")
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
                "below 0.01 (%)": f"{100 * mean['small']:.1f}",
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
    """The last ten epochs of the courses of a network: rows methods; columns seeds, and the
    mean ± deviation over seeds of the accuracy unpruned, with half of the weights gone, and
    that with batch norm re-estimated, beside how far the pruned accuracy moves from one epoch
    to the next."""
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
        moves = [abs(np.diff(r["course"]["pruned"][-rules.LATE - 1 :])).mean() for r in part]
        rows[name(method)] = (
            {"seeds": len(part)} | cells | {"moves an epoch": f"{100 * np.mean(moves):.1f}"}
        )
    return pandas.DataFrame.from_dict(rows, orient="index").rename_axis("method")


def _gain(evidence: list[Record], column: str, factor: float = 1.0) -> pandas.Series:
    """StochGradAdam's value less Adam's, for the seeds that both have."""
    frame = records.table(evidence).set_index("seed")
    ours, theirs = (
        factor * frame[frame.method == m][column] for m in (rules.OURS, rules.THEIRS)
    )
    return (ours - theirs).dropna()


def _led(gain: pandas.Series, unit: str, digits: int) -> str:
    """Who leads, as far as the 95 % interval over seeds carries it."""
    said = f"{gain.mean():+.{digits}f}{unit}"
    found = interval(gain)
    if found is None:
        return f"{said} in {len(gain)} seed{'s' * (len(gain) != 1)}: no evidence of a lead"
    said = f"{said} [{found[0]:+.{digits}f}, {found[1]:+.{digits}f}], {len(gain)} seeds"
    if found[0] > 0:
        return f"StochGradAdam leads: {said}"
    return f"Adam leads: {said}" if found[1] < 0 else f"no clear lead: {said}"


def finding(evidence: list[Record]) -> str:
    """StochGradAdam less Adam at 50 % after the last epoch, in words for a title."""
    return _led(_gain(evidence, "pruned_accuracy", 100), " points", 1)


def wider(evidence: list[Record]) -> str:
    """StochGradAdam's standard deviation of the weights less Adam's, in words for a title."""
    gain = _gain(evidence, "weights.sd")
    said = _led(gain, "", 4)
    for leader, words in (
        ("StochGradAdam leads", "StochGradAdam's weights spread wider"),
        ("Adam leads", "Adam's weights spread wider"),
        ("no clear lead", "no clear difference in spread"),
        ("no evidence of a lead", "no evidence of a difference"),
    ):
        said = said.replace(leader, words)
    return said


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


def verdict(evidence: list[Record], claim: dict) -> str:
    """What the records carry, in Markdown: the claim's own networks first, then ResNet-20's
    course."""
    todo = missing(evidence)
    left, listed = int(todo["runs missing"].sum()), int(todo["of"].sum())
    frame = records.table(
        records.select(evidence, epochs=claim["epochs"], dataset=claim["dataset"])
    )
    ready = [
        network
        for network in claim["networks"]
        if len(frame)
        and frame[frame.network == network].groupby("method").seed.nunique().min() >= MIN_SEEDS
    ]
    if ready:
        said = [
            f"Of the paper's networks, {', '.join(ready)} have three seeds; the verdicts above"
            " are theirs."
        ]
    else:
        said = [
            "**The paper's tables are not measured.** They need its networks after"
            f" {claim['epochs']} epochs with three seeds; {left} of the {listed} runs at paper"
            " scale are missing."
        ]
    pair = [
        r
        for r in main(evidence, study="short", network="ResNet-20")
        if r["method"] in MAIN[:2]
    ]
    gains = {key: _late_gain(pair, key) for key in LATE_COLUMNS}
    if not len(gains["pruned"]):
        return said[0]
    rows = late(pair, "ResNet-20")
    ours, theirs = (rows.loc[name(method)] for method in (rules.OURS, rules.THEIRS))
    said += [
        (
            f"ResNet-20, {pair[0]['epochs']} epochs, with half of its weights removed, mean of"
            f" the last {rules.LATE} epochs: {ours['half removed']} % after StochGradAdam,"
            f" {theirs['half removed']} % after Adam ({_led(gains['pruned'], ' points', 1)})."
        ),
        (
            f"Unpruned: {ours['unpruned']} and {theirs['unpruned']} %"
            f" ({_led(gains['unpruned'], ' points', 1)})."
        ),
        (
            "With batch norm's statistics re-estimated and no weight touched, the same pruned"
            f" networks have {ours['re-estimated']} and {theirs['re-estimated']} %"
            f" ({_led(gains['recalibrated'], ' points', 1)}): most of what pruning seems to"
            " destroy are statistics that no longer fit."
        ),
        (
            f"From one epoch to the next the pruned accuracy moves by {ours['moves an epoch']}"
            f" points after StochGradAdam and by {theirs['moves an epoch']} after Adam. The"
            " last epoch of one training is therefore largely a matter of luck."
        ),
    ]
    return "\n".join(f"- {line}" for line in said)


def _late_gain(evidence: list[Record], key: str) -> pandas.Series:
    """StochGradAdam less Adam in points, mean of the last epochs, for the seeds that both
    have."""
    frame = records.table(evidence)
    if frame.empty:
        return pandas.Series(dtype=float)
    frame = frame.assign(late=100 * rules.late(frame, key)).set_index("seed")
    ours, theirs = (
        frame[frame.method == method].late for method in (rules.OURS, rules.THEIRS)
    )
    return (ours - theirs).dropna()


def caption(evidence: list[Record], profile: str, drawn: str = captions.LINES) -> str:
    """One line of Markdown for under a figure; `drawn` says what a line or a cell of it is."""
    if not evidence:
        return f"*{profile} profile: nothing on record yet.*"
    frame = records.table(evidence)
    seeds = frame.groupby(["network", "method"]).seed.nunique()
    count = (
        f"{seeds.min()}" if seeds.min() == seeds.max() else f"{seeds.min()} to {seeds.max()}"
    )
    epochs = " or ".join(map(str, sorted(frame.epochs.unique())))
    data, networks = (
        ", ".join(sorted(frame[column].unique())) for column in ("dataset", "network")
    )
    return (
        f"*{profile} profile · data: {data} · {networks} · {epochs} epochs · "
        f"{count} seed{'s' * (count != '1')} · {drawn}*"
    )
