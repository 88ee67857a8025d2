"""What the chapter `resnet_pruning` says of its records, in sentences that claim no more than
the 95 % interval over seeds carries."""

import pandas

from pruning.chapters.resnet_pruning import rules
from pruning.chapters.resnet_pruning.experiment import MAIN, SHORT
from pruning.chapters.resnet_pruning.tables import (
    LATE_COLUMNS,
    apart,
    controls,
    late,
    main,
    missing,
    name,
    sampled,
)
from pruning.evidence import records
from pruning.evidence.claims import Claim
from pruning.evidence.records import Record
from pruning.evidence.statistics import LEVEL, MIN_SEEDS, gain_interval, interval, joined
from pruning.figures.captions import DATA, data_of, origin, seed_count

COUNTS = ("no", "one", "two")


def _gain(runs: list[Record], column: str, factor: float = 1.0) -> pandas.Series:
    """StochGradAdam's value less Adam's, for the seeds that both have; "late unpruned" and the
    like are means of the last epochs of a course."""
    frame = records.table(runs)
    if frame.empty:
        return pandas.Series(dtype=float)
    if column.startswith("late "):
        frame[column] = rules.late(frame, column.removeprefix("late "))
    ours, theirs = (
        factor * frame[frame.method == m].set_index("seed")[column]
        for m in (rules.OURS, rules.THEIRS)
    )
    return (ours - theirs).dropna()


def _gain_by_rate(runs: list[Record]) -> pandas.DataFrame:
    """As `_gain`, of the accuracy after the last epoch, a column a pruning rate."""
    ours, theirs = (
        {r["seed"]: r["accuracy_global"] for r in runs if r["method"] == m}
        for m in (rules.OURS, rules.THEIRS)
    )
    ours, theirs = (pandas.DataFrame.from_dict(v, orient="index") for v in (ours, theirs))
    return (ours - theirs).dropna()


def led(
    gain: pandas.Series,
    unit: str = " points",
    digits: int = 1,
    leads: str = "leads by",
    unclear: str = "no clear lead",
) -> str:
    """Who leads and by how much, as far as the 95 % interval over seeds carries it. `gain` is
    StochGradAdam less Adam, one value a seed."""
    mean, found = gain.mean(), interval(gain)
    if found is None:
        seeds = f"{COUNTS[len(gain)]} seed{'s' * (len(gain) != 1)}"
        said = f"{mean:+.{digits}f}{unit} in {seeds}, which is no evidence"
    elif found[0] > 0 or found[1] < 0:
        leader = "StochGradAdam" if mean > 0 else "Adam"
        low, high = sorted(map(abs, found))
        said = f"{leader} {leads} {abs(mean):.{digits}f}{unit}"
        said += f" [{low:.{digits}f}, {high:.{digits}f}]"
    else:
        said = f"{unclear}, {mean:+.{digits}f}{unit}"
        said += " [{:+.{digits}f}, {:+.{digits}f}]".format(*found, digits=digits)
    return said.replace("-", "−")


def finding(runs: list[Record]) -> str:
    """Who leads at 50 % after the last epoch, in words for a caption."""
    lead = led(_gain(runs, "pruned_accuracy", 100), unclear="neither optimizer clearly leads")
    return f"With half of the weights removed after the last epoch, {lead}"


def wider(runs: list[Record]) -> str:
    """Whose weights have the larger standard deviation, in words."""
    words = {"leads": "has wider weights, by", "unclear": "no clear difference"}
    return led(_gain(runs, "weights.sd"), "", 4, **words)


def ready(evidence: list[Record], claim: Claim) -> list[str]:
    """The claim's networks of which both optimizers have enough seeds on record."""
    chosen = main(
        evidence, epochs=claim["epochs"], dataset=claim["dataset"], shortcut="projection"
    )
    frame = records.table(r for r in chosen if r["method"] in MAIN[:2] and r.get("course"))
    if frame.empty:
        return []
    seeds = frame.groupby(["network", "method"]).seed.nunique().unstack(fill_value=0)
    seeds = seeds.reindex(columns=list(MAIN[:2]), fill_value=0).min(axis=1)
    return [n for n in claim["networks"] if seeds.get(n, 0) >= MIN_SEEDS]


def pair(evidence: list[Record], network: str, claim: Claim) -> list[Record]:
    """Adam's and StochGradAdam's runs of a network, with courses: of the claim's own networks
    those of its length, of others the short ones."""
    where = (
        {"epochs": claim["epochs"], "shortcut": "projection"}
        if network in claim["networks"]
        else {"study": "short"}
    )
    chosen = main(evidence, network=network, dataset=claim["dataset"], **where)
    return [r for r in chosen if r["method"] in MAIN[:2] and r.get("course")]


def shown(evidence: list[Record], claim: Claim) -> list[Record]:
    """The runs that the figures draw: those of the first network of the claim that is ready,
    else ResNet-20's."""
    return pair(evidence, [*ready(evidence, claim), "ResNet-20"][0], claim)


def _late(runs: list[Record], key: str) -> str:
    """Both optimizers' accuracy, mean of the last epochs, and who leads."""
    rows, column = late(runs, runs[0]["network"]), LATE_COLUMNS[key]
    ours, theirs = (rows.loc[name(m), column] for m in (rules.OURS, rules.THEIRS))
    return (
        f"**{ours} %** after StochGradAdam and **{theirs} %** after Adam"
        f" ({led(_gain(runs, f'late {key}', 100))})"
    )


def about(runs: list[Record]) -> str:
    """Network, data, epochs and seeds: "ResNet-20 on CIFAR-10, 20 epochs, one seed"."""
    seeds = len({r["seed"] for r in runs})
    one = runs[0]
    count = COUNTS[seeds] if seeds < len(COUNTS) else f"{seeds}"
    return (
        f"{one['network']} on {DATA.get(one['dataset'], one['dataset'])},"
        f" {one['epochs']} epochs,"
        f" {count} seed{'s' * (seeds != 1)}"
    )


FOUND = {  # claim → what a pair of optimizers means for it
    "S1": rules.said_of_half,
    "S2": rules.said_of_rates,
    "S3": rules.said_of_spread,
}


def answer(evidence: list[Record], claims: dict[str, Claim]) -> dict[str, str]:
    """The chapter's answers in sentences, by claim: the claim's own networks where they are
    on record, else ResNet-20 beside the note that they are not."""
    claim = claims["S1"]
    networks = ready(evidence, claim)
    runs = [pair(evidence, network, claim) for network in networks or ["ResNet-20"]]
    runs = [part for part in runs if len(_gain(part, "late pruned"))]
    said = {"S1": [], "S2": [], "S3": []}
    if not networks:
        said["S1"].append(still_missing(evidence, claim))
        if runs:
            said["S1"].append(
                "Here a smaller network takes their place, which does not decide the paper's"
                " claims."
            )
    for part in runs:
        network = part[0]["network"]
        before, by_rate = _gain(part, "late unpruned"), _gain_by_rate(part)
        said["S1"].append(
            f"With half of its weights removed, {network} has {_late(part, 'pruned')}. This is"
            f" the mean of the last {rules.late_epochs(part[0]['epochs'])} of"
            f" {part[0]['epochs']} epochs{_brackets(before)}."
        )
        said["S2"].append(
            f"Before pruning, {network} has {_late(part, 'unpruned')} in the mean of the same"
            " epochs. After the last epoch StochGradAdam is ahead"
            f" {rules.ahead_in_words(by_rate)}."
        )
        sds = records.table(part).groupby("method")["weights.sd"].mean()
        said["S3"].append(
            f"The standard deviation of the weights of {network} is"
            f" **{sds[rules.OURS]:.3f}** after StochGradAdam and **{sds[rules.THEIRS]:.3f}**"
            f" after Adam ({wider(part)})."
        )
        if len(before) >= MIN_SEEDS:
            (both,) = rules.pairs(records.table(part)).values()
            where = f"In {network}" if networks else "In this smaller network"
            for key, found in FOUND.items():
                said[key].append(f"{where} {found(claim, both)}.")
    paper = "; ".join(
        f"{100 * ours:.2f} and {100 * theirs:.2f} % for {network}"
        for network, (ours, theirs) in claim["values"].items()
        if network in (networks or claim["networks"][:1])
    )
    said["S1"].append(f"The paper has {paper} (Figure 1).")
    tried = controls(records.select(evidence, study="short"))
    if len(tried):
        apart_by = joined(
            f"{gain_interval(row, 1)} points for {IN_WORDS[method]}"
            for method, row in tried.iterrows()
        )
        wait = len(SHORT) - len(tried)
        more = f"; {wait} of {len(SHORT)} controls lack seeds" if wait else ""
        said["S1"].append(
            "Is the sampling the reason? With half of ResNet-20 removed, the difference from"
            f" StochGradAdam is {apart_by}. So {_clear(tried, 'it', 'control')} (Figure"
            f" 4{more})."
        )
    said["S2"].append(
        "The paper says that StochGradAdam is ahead before pruning and at every rate (Figures"
        " 1 and 3)."
    )
    said["S3"].append(
        "The paper shows wider weights. The parts of it that we have give no number"
        " (Figure 6)."
    )
    return {key: " ".join(sentences) for key, sentences in said.items()}


def _brackets(gain: pandas.Series) -> str:
    """What brackets hold, where there are any."""
    return "" if interval(gain) is None else "; brackets hold 95 % intervals over seeds"


def reestimated(runs: list[Record]) -> str:
    """What batch norm has to do with it, in sentences: where re-estimated statistics bring
    back most of what pruning cost, it says so."""
    said = (
        "With batch norm's statistics re-estimated, and no weight touched, the same pruned"
        f" networks have {_late(runs, 'recalibrated')}."
    )
    frame = records.table(runs)
    whole, pruned, again = (
        rules.late(frame, key).mean() for key in ("unpruned", "pruned", "recalibrated")
    )
    if again - pruned > (whole - pruned) / 2:
        said += " So most of the damage comes from statistics that no longer fit."
    return said


def still_missing(evidence: list[Record], claim: Claim) -> str:
    """Which of the claim's networks lack runs on record, in a sentence."""
    left = [n for n in claim["networks"] if n not in ready(evidence, claim)]
    if not left:
        return "All of the paper's networks are on record."
    todo = missing(evidence)
    runs = f"{todo['runs missing'].sum()} of {todo['of'].sum()}"
    are = "is" if len(left) == 1 else "are"
    return (
        f"**{joined(left)} {are} not measured yet.** They need {claim['epochs']} epochs and"
        f" {MIN_SEEDS} seeds with each optimizer, which takes a GPU or days of computing."
        f" {runs} runs of the paper-scale list are missing."
    )


def moves(runs: list[Record]) -> str:
    """How far the pruned accuracy moves from one epoch to the next, in sentences."""
    rows = late(runs, runs[0]["network"])
    ours, theirs = (rows.loc[name(m), "change per epoch"] for m in (rules.OURS, rules.THEIRS))
    return (
        "From one epoch to the next the accuracy with half of the weights removed moves by"
        f" {ours} points on average after StochGradAdam and by {theirs} after Adam"
        f" ({about(runs)}). So"
        " the last epoch of one training is largely a matter of luck."
    )


IN_WORDS = {  # a control within a sentence
    "adam, 0.8 of the batch": "Adam on 0.8 of the batch",
    "adam, 0.894 of the rate": "Adam at 0.894 of the rate",
    "stochgradadam, author's β₁": "StochGradAdam with the author's β₁",
    "adam, author's β₁": "Adam with the author's β₁",
}


def _clear(found: pandas.DataFrame, plain: str, what: str) -> str:
    """Which groups of `tables.apart` lie clearly above or below `plain`: "no rate is clearly
    apart from s = 1"."""
    sure = found[found.p < LEVEL]
    if sure.empty:
        return f"no {what} is clearly apart from {plain}"
    named = [
        f"{IN_WORDS.get(group) or f's = {group:g}'} is clearly"
        f" {'above' if gain > 0 else 'below'} {plain}"
        for group, gain in sure.gain.items()
    ]
    return joined(named)


def _apart(found: dict[str, pandas.DataFrame], plain: str, what: str) -> str:
    """What is clearly apart from `plain` by either measure, and what the intervals leave
    open."""
    pruned, again = (found[key] for key in ("pruned", "recalibrated"))
    far, near = (part[["low", "high"]].abs().max(axis=None) for part in (pruned, again))
    return (
        f"With half of the weights removed, {_clear(pruned, plain, what)}. With batch norm"
        f" re-estimated too, {_clear(again, plain, what)}. The 95 % intervals of these"
        f" differences reach {far:.1f} points from 0, and with batch norm re-estimated"
        f" {near:.1f}: what lies within them is not excluded. *Clearly* means p < {LEVEL:g}"
        + (f" after a correction for {len(pruned)} {what}s (Holm)." * (len(pruned) > 1) or ".")
    )


def mask(evidence: list[Record]) -> str:
    """Whether the controls do what StochGradAdam does, in sentences, and which of them lack
    seeds."""
    found = {key: controls(evidence, key) for key in ("pruned", "recalibrated")}
    here = set(found["pruned"].index)
    absent = [IN_WORDS[method] for method in SHORT if method not in here]
    wait = f"Fewer than {MIN_SEEDS} seeds are on record of {joined(absent)}." if absent else ""
    said = _apart(found, "StochGradAdam", "control") if here else ""
    return f"{said} {wait}".strip()


def rates(evidence: list[Record]) -> str:
    """Whether any sampling rate differs from 1, which is Adam, in sentences; empty without
    enough seeds of another one than 0.8."""
    runs = sampled(evidence)
    found = {key: apart(runs, "sampling_rate", 1.0, key) for key in ("pruned", "recalibrated")}
    if len(found["pruned"]) < 2:  # 0.8 alone is the chapter's main comparison
        return ""
    return _apart(found, "s = 1", "rate")


def caption(runs: list[Record], drawn: str = "") -> str:
    """The small print of a figure: scale, network, data, epochs, seeds, and what is drawn."""
    if not runs:
        return origin("paper", "nothing on record yet")
    study = runs[0]["study"].split()[0]
    profile = {"paper": "paper", "modern": "paper", "quick": "quick"}.get(study, "short")
    groups = records.table(runs).groupby(["network", "method", "sampling_rate"])
    seeds = seed_count(groups.seed.nunique())
    epochs = f"{runs[0]['epochs']} epochs"
    return origin(profile, runs[0]["network"], data_of(runs), epochs, seeds, drawn)
