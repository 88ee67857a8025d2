"""What the chapter `stochgrad_elsewhere` shows of its records: tables and sentences."""

import pandas

from pruning.chapters.relative_importance.tables import signed
from pruning.chapters.resnet_pruning import rules, tables
from pruning.chapters.resnet_pruning.experiment import RATES
from pruning.chapters.resnet_pruning.metrics import NAMES
from pruning.evidence import records
from pruning.evidence.records import Record
from pruning.evidence.statistics import (
    LEVEL,
    MIN_SEEDS,
    both_sides,
    chance,
    difference,
    extremes,
    holm,
    joined,
    larger,
    mean_interval,
)
from pruning.figures.captions import (
    FOLD,
    PENDING,
    answered,
    data_of,
    origin,
    seed_count,
)

COMMAND = "pruning sweep stochgrad_elsewhere --profile paper"
OURS, THEIRS, CONTROL = "stochgradadam", "adam", "adam, 0.8 of the batch"


def at_half(
    evidence: list[Record], key: str = "pruned"
) -> dict[str, dict[str, pandas.Series]]:
    """{network: {method: accuracy in per cent, the mean of the last epochs of each course}} of
    those with three seeds or more; `key` as of a course."""
    frame = records.table(records.select(evidence, study="course"))
    found: dict[str, dict[str, pandas.Series]] = {}
    for name in NAMES.values():
        part = frame[frame.network == name] if len(frame) else frame
        groups = {
            method: 100 * rules.late(group, key)
            for method, group in (part.groupby("method") if len(part) else ())
            if group.seed.nunique() >= MIN_SEEDS
        }
        if OURS in groups and THEIRS in groups:
            found[name] = groups
    return found


def leads(evidence: list[Record]) -> pandas.DataFrame:
    """One row a network: accuracy with half of the weights gone, mean of the last epochs, and
    the lead of StochGradAdam over Adam and over Adam on 0.8 of the batch, in points, with
    p-values that it is not ahead (Welch, Holm)."""
    rows = []
    for name, groups in at_half(evidence).items():
        row = {"network": name} | {
            tables.name(method): mean_interval(values, 1) for method, values in groups.items()
        }
        row["lead over Adam"] = groups[OURS].mean() - groups[THEIRS].mean()
        row["p, Adam"] = larger(groups[OURS], groups[THEIRS])
        if CONTROL in groups:
            row["lead over 0.8"] = groups[OURS].mean() - groups[CONTROL].mean()
            row["p, 0.8"] = larger(groups[OURS], groups[CONTROL])
        rows.append(row)
    if not rows:
        return PENDING
    table = pandas.DataFrame(rows).set_index("network")
    for column in ("p, Adam", "p, 0.8"):
        if column in table:
            table[column] = holm(table[column])
    return table


def shown(table: pandas.DataFrame) -> pandas.DataFrame:
    """`leads` as a page shows it: a column a network."""
    if table is PENDING:
        return table
    said = {
        name: [f"{value:.2g}" for value in column]
        if name.startswith("p, ")
        else [signed(value, 1) for value in column]
        if name.startswith("lead ")
        else column.fillna("–")
        for name, column in table.items()
    }
    names = {
        "lead over 0.8": f"lead over {tables.name(CONTROL)}",
        "p, 0.8": "p, 0.8 of the batch",
    }
    return pandas.DataFrame(said, index=table.index).T.rename(index=names)


def late(evidence: list[Record]) -> pandas.DataFrame:
    """`resnet_pruning.tables.late` of every network on record."""
    found = records.select(evidence, study="course")
    parts = {
        name: tables.late(found, name)
        for name in NAMES.values()
        if records.select(found, network=name)
    }
    return pandas.concat(parts, names=["network"]) if parts else PENDING


def turned(table: pandas.DataFrame) -> pandas.DataFrame:
    """`late` with a column an optimizer, and without the numbers of seeds: a phone has room
    for it."""
    if table is PENDING:
        return table
    measures = table.drop(columns="seeds").stack(future_stack=True)
    measures.index.names = ["network", "method", "measure"]
    found = measures.unstack("method", sort=False)
    return found.fillna("–").rename_axis(columns=None)


def sampled(evidence: list[Record], network: str) -> list[Record]:
    """The runs of a network at every sampling rate; 1 is Adam itself."""
    return [
        r
        for r in records.select(evidence, network=network)
        if r["study"] == "sampling"
        or (r["study"] == "course" and r["method"] in (OURS, THEIRS))
    ]


def caption(evidence: list[Record], drawn: str) -> str:
    """One line of Markdown for under a figure."""
    if not evidence:
        return origin("recorded", "nothing on record yet", f"`{COMMAND}`")
    frame = records.table(evidence)
    seeds = frame.groupby(["network", "method", "sampling_rate"]).seed.nunique()
    epochs = " or ".join(str(e) for e in sorted(frame.epochs.unique()))
    return origin("recorded", data_of(evidence), seed_count(seeds), f"{epochs} epochs", drawn)


def answer(evidence: list[Record]) -> list[str]:
    """The chapter's answer in sentences: other networks, the sampling rate, the long term."""
    said = {
        "Does StochGradAdam help other networks?": _helps(evidence),
        "Which sampling rate is best, from 0.5 to 1?": _rates(evidence),
        "Does StochGradAdam generalise in the long term?": _long(evidence),
    }
    return answered(said, COMMAND)


def _a(name: str) -> str:
    """A network within a sentence: "a GRU", but "DenseNet"."""
    return f"a {name}" if name.isupper() else name


def _helps(evidence: list[Record]) -> str:
    groups = at_half(evidence)
    if not groups:
        return ""
    table = leads(evidence)
    ahead = (table["p, Adam"] < LEVEL).sum()
    somewhere, cases, closely = _every_rate(evidence)
    word = "Yes." if ahead == len(groups) else "In part." if somewhere else "Not clearly."
    parts = [
        f"{mean_interval(found[OURS], 1)} against {mean_interval(found[THEIRS], 1)} %"
        f" in {_a(name)}"
        for name, found in groups.items()
    ]
    absent = [name for name in NAMES.values() if name not in groups]
    are = "is" if len(absent) == 1 else "are"
    said = f" {joined(absent)} {are} not measured yet." if absent else ""
    return (
        f"{word} With half of the weights removed it is clearly ahead of Adam in **{ahead} of"
        f" {len(groups)}** networks. {cases}{said}{FOLD}With half of the weights removed, the"
        f" accuracies of StochGradAdam and of Adam are {joined(parts)}, the mean of the last"
        f" epochs.{closely}"
    )


Rates = dict[str, pandas.DataFrame]  # method → accuracy in per cent, a column a pruning rate


def _by_rate(evidence: list[Record], scope: str) -> dict[str, Rates]:
    """{network: accuracy after the last epoch}, of the networks of `at_half`."""
    frame = records.table(records.select(evidence, study="course"))
    return {
        name: {
            method: 100 * pandas.DataFrame(part[f"accuracy_{scope}"].tolist())
            for method, part in frame[frame.network == name].groupby("method")
        }
        for name in at_half(evidence)
    }


def _every_rate(evidence: list[Record]) -> tuple[bool, str, str]:
    """Whether StochGradAdam is clearly ahead in some network at some pruning rate; in how
    many; and the differences where these are few. All cases are one family, two-sided. Where
    none is clear, the one with the smallest p stands for them."""
    by_rate, by_layer = (_by_rate(evidence, scope) for scope in ("global", "layer"))
    # the first rate is the unpruned network
    cases = [(name, rate) for name in by_rate for rate in list(by_rate[name][OURS])[1:]]
    pairs = [(by_rate[name][OURS][rate], by_rate[name][THEIRS][rate]) for name, rate in cases]
    chances = holm(both_sides(larger(a, b), larger(b, a)) for a, b in pairs)
    leads = [ours.mean() - theirs.mean() for ours, theirs in pairs]
    more, less = (
        [
            case
            for case, p, lead in zip(cases, chances, leads, strict=True)
            if p < LEVEL and sign * lead > 0
        ]
        for sign in (1, -1)
    )
    said = (
        f"Over all {len(cases)} cases of a network and a pruning rate, after the last epoch,"
        f" it is clearly ahead in {_named(more)} and clearly behind in {_named(less)}."
    )
    closely = " One threshold removes the smallest weights of the whole network."
    close = more if len(more) <= FEW else []
    least = chances.argmin()
    if not more and not less and chances[least] < 1:
        close = [cases[least]]
        closely += (
            f" Of all {len(cases)} cases the smallest p, corrected for their number, is"
            f" {chance(chances[least])}."
        )
    closely += "".join(_closely(by_rate, by_layer, *case) for case in close)
    if close:
        closely += " Each interval is for one difference, and a case is named for its p."
    return bool(more), said, closely


def _closely(
    by_rate: dict[str, Rates], by_layer: dict[str, Rates], name: str, rate: int
) -> str:
    """The differences of one case, from Adam and from the control, and with a threshold for
    each layer, in sentences."""
    groups = {method: frame[rate] for method, frame in by_rate[name].items()}
    layers = by_layer[name]
    said = (
        f" In {_case((name, rate))} StochGradAdam has {groups[OURS].mean():.1f} % and Adam"
        f" {groups[THEIRS].mean():.1f} %, a difference of"
        f" {difference(groups[OURS], groups[THEIRS])} points. With a threshold for each layer"
        f" it is {difference(layers[OURS][rate], layers[THEIRS][rate])}."
    )
    if CONTROL in groups:
        said += (
            " The difference from Adam on 0.8 of the batch is"
            f" {difference(groups[OURS], groups[CONTROL])}."
        )
    return said


def _case(case: tuple[str, int]) -> str:
    return f"{_a(case[0])} at {100 * RATES[case[1]]:.0f} %"


FEW = 3  # cases that a sentence names


def _named(cases: list[tuple[str, int]]) -> str:
    """How many cases there are, and which, where they are few."""
    few = 0 < len(cases) <= FEW
    return f"{len(cases)} ({joined(map(_case, cases))})" if few else f"{len(cases)}"


def _rates(evidence: list[Record]) -> str:
    parts, tallies, absent = [], {}, []
    for name in NAMES.values():
        frame = records.table(sampled(evidence, name))
        rates = set() if frame.empty else set(frame.sampling_rate)
        half = 100 * rules.late(frame, "pruned") if rates else ()
        groups = dict(list(half.groupby(frame.sampling_rate))) if rates else {}
        if len(rates) < 6 or min(map(len, groups.values())) < MIN_SEEDS:
            absent.append(name)
            continue
        low, high = extremes({rate: group.mean() for rate, group in groups.items()})
        parts.append(
            f"In {_a(name)} the mean goes from {mean_interval(groups[low], 1)} % (s = {low:g})"
            f" to {mean_interval(groups[high], 1)} % (s = {high:g})."
        )
        tallies[name] = _over_adam(groups)
    if not parts:
        return ""
    are = "is" if len(absent) == 1 else "are"
    missing = f" {joined(absent)} {are} not measured yet at all six rates." if absent else ""
    ahead, behind = (
        _tally({name: tally[side] for name, tally in tallies.items()}) for side in (0, 1)
    )
    return (
        f"With half of the weights removed, {ahead} clearly ahead of s = 1, which is Adam, and"
        f" {behind} clearly behind it. In each network we tried 5 rates below 1.{missing}"
        f"{FOLD}{' '.join(parts)} All are accuracies with half of the weights removed."
    )


def _tally(counts: dict[str, int]) -> str:
    """How many rates below 1 there are, by network: "1 rate (1 in a VGG) is"."""
    some = {_a(name): count for name, count in counts.items() if count}
    if not some:
        return "no rate below 1 is"
    named = joined(f"{count} in {name}" for name, count in some.items())
    total = sum(some.values())
    return f"1 rate ({named}) is" if total == 1 else f"{total} rates ({named}) are"


def _over_adam(groups: dict[float, pandas.Series]) -> tuple[int, int]:
    """How many sampling rates are clearly ahead of 1, and behind it, two-sided."""
    others, adam = [rate for rate in groups if rate != 1], groups[1.0]
    chances = holm(
        both_sides(larger(groups[rate], adam), larger(adam, groups[rate])) for rate in others
    )
    clear = [
        groups[rate].mean() - adam.mean()
        for rate, p in zip(others, chances, strict=True)
        if p < LEVEL
    ]
    ahead, behind = (sum(sign * lead > 0 for lead in clear) for sign in (1, -1))
    return ahead, behind


def _long(evidence: list[Record]) -> str:
    frame = records.table(records.select(evidence, study="long"))
    counts = frame.groupby("method").seed.nunique() if len(frame) else {}
    if min(counts.get(method, 0) for method in (OURS, THEIRS)) < MIN_SEEDS:
        return ""
    (ours, theirs), (pruned, half) = (
        [
            100 * rules.late(frame[frame.method == method].set_index("seed"), measure)
            for method in (OURS, THEIRS)
        ]
        for measure in ("unpruned", "pruned")
    )
    return (
        f"After {frame.epochs.max()} epochs the unpruned LeNet-300-100 has"
        f" {mean_interval(ours)} % with StochGradAdam and {mean_interval(theirs)} % with Adam."
        f" The difference on the same seeds is {mean_interval(ours - theirs)} points. With"
        f" half of the weights removed they have {mean_interval(pruned)} and"
        f" {mean_interval(half)} %; the difference is {mean_interval(pruned - half)} points."
        f" All are means of the last {rules.late_epochs(frame.epochs.max())} epochs."
    )
