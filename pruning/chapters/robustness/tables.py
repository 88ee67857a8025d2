"""What the chapter `robustness` shows of its records: tables and sentences."""

import numpy as np
import pandas

from pruning.chapters.robustness.experiment import EPSILONS
from pruning.evidence.records import Record
from pruning.evidence.statistics import (
    LEVEL,
    difference,
    holm,
    joined,
    larger,
    mean_interval,
)
from pruning.figures.captions import FOLD, data_of, origin, seed_count

AT = 0.05  # the ε of the tables
SHOWN = {"noise": 0.2, "shift": 2, "rotate": 20.0}  # the levels of the tables
TENTH = 0.1  # an ε that defeats all of these networks
LONG = 50  # epochs; more are named
COUNTS = {"weights": "{:,.0f}", "pixels read": "{:.0f}"}  # formats of `overview`
FIRST = ["weights", "clean", f"PGD {AT:g}", "half at ε"]  # its columns; others fold
SHOWN_AS = ("noise", "shift", "rotation")
NAMES = {
    "gates": "gates",
    "dense": "dense",
    "magnitude": "magnitude",
    "relative": "relative importance",
    "stochgrad": "StochGradAdam, magnitude",
}


def kind(record: Record) -> str:
    """What a network is, in words: all seeds of it have the same."""
    if record["method"] != "dense":
        return f"{NAMES[record['method']]}, {100 * record['density']:.2g} %"
    epochs = record["epochs"] + record["finetune_epochs"]
    if record["density"] == 1:
        return "dense, stopped early" if epochs < 3 else "dense"
    longer = f", {epochs} epochs" if epochs > LONG else ""
    return f"dense, {record['kept']:,} weights{longer}"


def radius(record: Record) -> float:
    """The ε at which PGD leaves half of all images right, between the measured ones by a
    line; NaN where fewer are right without an attack."""
    accuracy = np.array([record["attacked_accuracy"], *record["pgd"][-1]])
    if accuracy[0] < 0.5:
        return float("nan")
    epsilons = np.array([0.0, *record["epsilons"]])
    return float(np.interp(-0.5, -accuracy, epsilons))


def frame(evidence: list[Record]) -> pandas.DataFrame:
    """One row a network: kind, method, seed, kept, inputs, and, in per cent, clean, fgsm, pgd
    (at AT), radius and distance (of the range of a pixel), and the SHOWN level of each
    corruption."""
    rows = []
    for record in evidence:
        at = record["epsilons"].index(AT)
        row = {
            "kind": kind(record),
            "method": record["method"],
            "whole": record["density"] == 1,
            "epochs": record["epochs"] + record["finetune_epochs"],
            "long": record["epochs"] + record["finetune_epochs"] > LONG,
            "seed": record["seed"],
            "kept": record["kept"],
            "inputs": record["inputs_read"],
            "clean": 100 * record["test_accuracy"],
            "fgsm": 100 * record["fgsm"][at],
            "pgd": 100 * record["pgd"][-1][at],
            "radius": 100 * radius(record),
            "distance": 100 * record["distance"][1],
        }
        for name, level in SHOWN.items():
            where = record["levels"][name].index(level)
            row[name] = 100 * record["corrupted"][name][where]
        rows.append(row)
    return pandas.DataFrame(rows)


def overview(evidence: list[Record]) -> pandas.DataFrame:
    """One row a kind of network, the most weights first, as means over seeds in per cent,
    that of the radius with its 95 % interval."""
    grouped = frame(evidence).groupby("kind")
    table = pandas.DataFrame(
        {
            "seeds": grouped.seed.nunique(),
            "weights": grouped.kept.mean(),
            "pixels read": grouped.inputs.mean(),
            "clean": grouped.clean.mean(),
            f"FGSM {AT:g}": grouped.fgsm.mean(),
            f"PGD {AT:g}": grouped.pgd.mean(),
            "half at ε": grouped.radius.apply(mean_interval, digits=1),
            "first order": grouped.distance.mean(),
            f"noise {SHOWN['noise']:g}": grouped.noise.mean(),
            f"shift {SHOWN['shift']} px": grouped["shift"].mean(),
            f"turn {SHOWN['rotate']:g}°": grouped["rotate"].mean(),
        }
    )
    table = table.sort_values("weights", ascending=False, kind="stable")
    return table.rename_axis("network")


def nearest(rows: pandas.DataFrame, name: str) -> str:
    """The kind of narrowed dense network whose mean clean accuracy is nearest to a kind's."""
    mean = rows.groupby("kind").clean.mean()
    alike = (rows.method == "dense") & ~rows.whole & ~rows.long
    narrow = rows[alike].kind.unique()
    return (mean[narrow] - mean[name]).abs().idxmin()


def _early(rows: pandas.DataFrame) -> str:
    return next(name for name in rows.kind if "stopped" in name)


def compared(evidence: list[Record]) -> pandas.DataFrame:
    """A row a pair of a pruned and a dense network, pruned minus dense, in points, with
    Welch's 95 % interval. The dense networks are the narrowed one of the nearest clean
    accuracy, the whole one stopped early, and the whole one."""
    rows, table = frame(evidence), {}
    columns = {"clean": "clean", "half at ε": "radius", f"PGD {AT:g}": "pgd"}
    columns |= dict(zip(SHOWN_AS, SHOWN, strict=True))
    for name in _pruned(rows):
        for other in (nearest(rows, name), _early(rows), "dense"):
            ours, theirs = rows[rows.kind == name], rows[rows.kind == other]
            table[name, other] = {
                title: difference(ours[column], theirs[column])
                for title, column in columns.items()
            }
    found = pandas.DataFrame(table.values())
    found.index = pandas.MultiIndex.from_tuples(table, names=["pruned", "dense"])
    return found


def _pruned(rows: pandas.DataFrame) -> list[str]:
    return list(rows[rows.method != "dense"].kind.unique())


def _sides(rows: pandas.DataFrame, others: dict[str, str]) -> dict[str, int]:
    """{pruned kind: 1 or −1 where it is clearly harder or easier to fool than the dense kind
    that `others` names, else 0}: Welch's two-sided test of the radii, corrected for the number
    of kinds (Holm)."""
    radii = dict(list(rows.groupby("kind").radius))
    harder = [larger(radii[name], radii[other]) for name, other in others.items()]
    easier = [larger(radii[other], radii[name]) for name, other in others.items()]
    clear = holm(np.minimum(1, 2 * np.minimum(harder, easier))) < LEVEL
    sides = np.where(np.less(harder, easier), 1, -1)
    return {name: int(s) for name, s in zip(others, sides * clear, strict=True)}


def checks(evidence: list[Record]) -> pandas.Series:
    """Over all networks: what would be large, or high, if gradients were masked, in per
    cent."""
    at = {eps: k for k, eps in enumerate(evidence[0]["epsilons"])}
    stronger = [
        min(record["fgsm"][k], record["transfer_dense"][k], record["transfer_gates"][k])
        - record["pgd"][-1][k]
        for record in evidence
        for k in at.values()
    ]
    restarts = [max(np.subtract(r["pgd"][0], r["pgd"][-1])) for r in evidence]
    return 100 * pandas.Series(
        {
            "images that another attack fools and PGD does not": max(
                max(record["missed"]) for record in evidence
            ),
            "points by which FGSM or examples for other networks beat PGD": max(
                0.0, -min(stronger)
            ),
            "points that three more random starts of PGD cost": max(restarts),
            f"images that are right under PGD with ε = {max(at):g}": max(
                record["pgd"][-1][at[max(at)]] for record in evidence
            ),
        }
    )


def masked_says(evidence: list[Record]) -> str:
    """Whether `checks` has a sign of masked gradients, in a sentence."""
    largest = checks(evidence).max()
    if largest < LARGE:
        return (
            f"None of the four is large, since the largest is {largest:.1f} %. So we see no"
            " sign of masked gradients."
        )
    return f"The largest is {largest:.1f} %, so gradients may be masked in some network."


def caption(evidence: list[Record], profile: str, drawn: str) -> str:
    """One line of Markdown for under a figure: profile, data, networks, seeds, what is
    drawn."""
    rows = frame(evidence)
    seeds = rows.groupby("kind").seed.nunique()
    return origin(
        profile,
        data_of(evidence),
        f"{len(rows)} networks",
        f"{seed_count(seeds)} of a kind",
        f"{evidence[0]['attacked']:,} test images attacked",
        drawn,
    )


def four(evidence: list[Record]) -> list[str]:
    """The kinds that the curves show: the smallest network of gates, the narrow dense network
    of its accuracy, and the whole dense network, trained to the end and stopped early."""
    rows = frame(evidence)
    few = rows[rows.method == "gates"].sort_values("kept").kind.iloc[0]
    return [few, nearest(rows, few), _early(rows), "dense"]


LARGE = 5.0  # per cent of the images; masked gradients would spare more
VERDICTS = {1: "**No.**", 0: "**The seeds do not decide it.**", -1: "**Yes.**"}  # all alike


def answer(evidence: list[Record]) -> list[str]:
    """The chapter's answer in sentences: the smallest network of gates beside dense ones; all
    kinds beside narrowed and beside whole dense ones; accuracy and brittleness; shifts."""
    rows = frame(evidence)
    mean = rows.groupby("kind")[["clean", "radius"]].mean()
    few, narrow, early, dense = four(evidence)
    kept = rows[rows.kind == few].kept.max()
    kinds = _pruned(rows)
    alike = _sides(rows, {name: nearest(rows, name) for name in kinds})
    whole = _sides(rows, dict.fromkeys(kinds, dense))
    found = {*alike.values(), *whole.values()}
    verdict = VERDICTS[found.pop()] if len(found) == 1 else "**It depends on the comparison.**"
    epsilon = {name: f"ε = {radius / 100:.3f}" for name, radius in mean.radius.items()}
    clean = {name: f"{accuracy:.1f} %" for name, accuracy in mean.clean.items()}
    table = compared(evidence)
    first = (
        f"{verdict} Networks of gates with {kept:,} weights classify {clean[few]} of the"
        " unchanged test images correctly. The attack PGD leaves half of"
        f" {evidence[0]['attacked']:,} images right at {epsilon[few]}, where ε is how far it"
        " may change each pixel, from 0 (black) to 1 (white). Narrow dense networks"
        f" of about that accuracy ({clean[narrow]}) are down to half at {epsilon[narrow]}."
        f" Whole dense networks that stopped training after one epoch ({clean[early]}) are"
        f" down to half at {epsilon[early]}.{FOLD}In per cent of a pixel's range, the ε of the"
        " gates minus that of the networks stopped early is"
        f" {table.loc[(few, early), 'half at ε']} (brackets are 95 % intervals)."
        f" {_in_one_step(evidence)}"
    )
    if len(kinds) == 1:
        second = "Other kinds of pruned networks are not on record yet."
    else:
        second = (
            f"We compare {len(kinds)} kinds of pruned networks with dense ones twice. Against"
            " the narrowed dense network of the nearest clean accuracy"
            f" {_counted(alike)}. Against the whole dense network ({clean[dense]} of the"
            f" unchanged images, down to half at {epsilon[dense]}) {_counted(whole)}. Both"
            " counts are corrected for the number of kinds."
        )
    at = EPSILONS.index(TENTH)
    most = 100 * max(record["pgd"][-1][at] for record in evidence)
    second += (
        f" No network is robust: at ε = {TENTH:g} PGD leaves at most {most:.0f} % of the"
        f" images right.{_longer(rows, narrow, dense) if len(kinds) > 1 else ''}"
    )
    third = (
        "On images that are changed without an attack, the accuracy of gates with"
        f" {kept:,} weights minus that of a dense network is, in points,"
        f" {_shifted(table.loc[(few, narrow)])} for the narrow network, and"
        f" {_shifted(table.loc[(few, early)])} for the one stopped early."
    )
    return [first, second, third]


def _in_one_step(evidence: list[Record]) -> str:
    """What FGSM leaves right of the kinds of `four`, in a sentence."""
    mean = frame(evidence).groupby("kind").fgsm.mean()
    few, narrow, early, dense = (f"{mean[name]:.1f} %" for name in four(evidence))
    return (
        f"FGSM, a single step of ε = {AT:g}, leaves {few} right for gates, {narrow} for the"
        f" narrow networks, {early} for those stopped early and {dense} for whole dense ones."
    )


def _longer(rows: pandas.DataFrame, narrow: str, dense: str) -> str:
    """That gates trained longer than the whole dense network, and what as long a training
    does to the narrow one, in sentences; empty where that is not on record."""
    ours = rows[rows.method == "gates"].epochs.min()
    theirs = rows[rows.kind == dense].epochs.max()
    size = rows[rows.kind == narrow].kept.iloc[0]
    alike = (rows.method == "dense") & (rows.kept == size)
    again = rows[alike & (rows.epochs == ours)].radius
    if ours <= theirs or again.empty:
        return ""
    return (
        f" Gates trained for {ours} epochs, and the whole dense networks for {theirs}. After"
        f" {ours} epochs the narrow ones are down to half at ε = {again.mean() / 100:.3f}, so"
        " the comparison of gates with whole networks may depend on the length of the"
        " training."
    )


def _shifted(row: pandas.Series) -> str:
    return joined(f"{row[name]} under {name}" for name in SHOWN_AS)


def _counted(sides: dict[str, int]) -> str:
    """How many kinds are clearly harder to fool, easier, and neither; which ones, where these
    are not all."""
    said = []
    for side, words in ((1, "harder to fool"), (-1, "easier to fool"), (0, "not decided")):
        names = [name for name, found in sides.items() if found == side]
        if len(names) == len(sides):
            return f"all {len(names)} are {words}"
        if names:
            be = "is" if len(names) == 1 else "are"
            said.append(f"{len(names)} {be} {words} ({'; '.join(names)})")
    return joined(said)


def said_of_shifts(evidence: list[Record]) -> str:
    """Which of the four kinds of networks is the best and the worst under each corruption."""
    rows = frame(evidence)
    mean = rows[rows.kind.isin(four(evidence))].groupby("kind")[list(SHOWN)].mean()
    said = []
    for rank, found in (("highest", mean.idxmax()), ("lowest", mean.idxmin())):
        under: dict[str, list[str]] = {}
        for title, name in zip(SHOWN_AS, SHOWN, strict=True):
            under.setdefault(found[name], []).append(title)
        parts = [f"for *{kind}* under {joined(titles)}" for kind, titles in under.items()]
        said.append(f"The mean accuracy is {rank} {joined(parts)}.")
    return " ".join(said)
