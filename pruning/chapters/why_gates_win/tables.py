"""What the chapter shows of its records: arms, what networks share, what moves, the
conditions."""

import itertools
from collections.abc import Sequence

import numpy as np
import pandas
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from pruning.chapters.smallest import tables as smallest
from pruning.chapters.why_gates_win import arms
from pruning.chapters.why_gates_win.experiment import ARMS, WEIGHTS, checksum, parts
from pruning.evidence import records
from pruning.evidence.records import Record
from pruning.evidence.statistics import (
    LEVEL,
    MIN_SEEDS,
    interval,
    joined,
    mean_interval,
    minus,
    welch,
)
from pruning.methods import find

KEPT = {  # in words
    "found": "everything",
    "signs": "wiring and signs",
    "first": "wiring and first weights",
    "mask": "wiring",
    "degrees": "number of connections of each pixel and neuron",
    "inputs": "number of inputs of each neuron",
    "pixels": "wiring, but pixels change places",
    "paths": "number of neurons, all weights on paths",
    "layers": "number of weights of each layer",
}


def by_arm(evidence: list[Record], accuracy: str = "test_accuracy") -> pandas.DataFrame:
    """One row an arm, in the order of ARMS: networks and runs, effective weights, accuracies
    in per cent.

    The deviation is that of the networks' means: the networks are the sample, not the runs.
    """
    frame = records.table(evidence)
    rows = []
    for arm in ARMS:
        part = frame[frame.arm == arm]
        if part.empty:
            continue
        means = 100 * part.groupby("network")[accuracy].mean()
        rows.append(
            {
                "kept": KEPT[arm],
                "networks": len(means),
                "runs": len(part),
                "effective": part.effective.mean(),
                "mean": means.mean(),
                "sd": means.std(),
                "train": 100 * part.train_accuracy.mean(),
            }
        )
    return pandas.DataFrame(rows, index=[arm for arm in ARMS if arm in set(frame.arm)])


def plus_minus(table: pandas.DataFrame, arm: str) -> str:
    """A row of `by_arm` in words: mean ± deviation."""
    row = table.loc[arm]
    return records.plus_minus(row["mean"], row["sd"], 1)


def overlap(
    evidence: Sequence[Record], varying: Tensor, likely: Tensor, draws: int = 20
) -> pandas.DataFrame:
    """What the networks of two seeds share, in the mean over pairs, beside three chances.

    pixels : those that both read.
    connections : from a pixel to a neuron of the first layer; neurons are matched so that the
        most are shared.

    Chance draws as many pixels uniformly among those that vary ("uniform"), or in proportion
    to `likely` ("by deviation"), and for connections keeps what pixels and neurons have
    ("degrees"). Deviations are those of the mean over pairs, between `draws` repetitions.
    """
    rng = np.random.default_rng(0)
    first = [parts(record)[0][0] for record in evidence]
    read = [mask.any(0) for mask in first]
    sizes = [int(pixels.sum()) for pixels in read]
    pairs = list(itertools.combinations(range(len(evidence)), 2))
    places = varying.nonzero().flatten().numpy()
    weight = likely[varying].double().numpy()
    rows = {"pixels": {"shared": np.mean([int((read[a] & read[b]).sum()) for a, b in pairs])}}
    for name, chances in (("uniform", None), ("by deviation", weight / weight.sum())):
        means = []
        for _ in range(draws):
            drawn = [set(rng.choice(places, size, replace=False, p=chances)) for size in sizes]
            means.append(np.mean([len(drawn[a] & drawn[b]) for a, b in pairs]))
        rows["pixels"] |= {name: np.mean(means), f"{name} sd": np.std(means)}
    rows["connections"] = {"shared": np.mean([_matched(first[a], first[b]) for a, b in pairs])}
    means = []
    for _ in range(draws):
        rewired = [arms.degrees([mask], varying, rng)[0] for mask in first]
        means.append(np.mean([_matched(rewired[a], rewired[b]) for a, b in pairs]))
    rows["connections"] |= {"degrees": np.mean(means), "degrees sd": np.std(means)}
    table = pandas.DataFrame.from_dict(rows, orient="index")
    table.insert(0, "of", [np.mean(sizes), np.mean([int(mask.sum()) for mask in first])])
    return table


def overlap_shown(table: pandas.DataFrame) -> pandas.DataFrame:
    """`overlap` as a page shows it: a column for pixels and one for connections, each chance
    with its deviation."""
    found = table[["of", "shared"]].map("{:.0f}".format)
    for chance in ("uniform", "by deviation", "degrees"):
        found[chance] = [
            "–" if np.isnan(mean) else records.plus_minus(mean, sd, 1)
            for mean, sd in zip(table[chance], table[f"{chance} sd"], strict=True)
        ]
    return found.rename(columns={"of": "in a network", "shared": "in both of two"}).T


def _matched(a: Tensor, b: Tensor) -> int:
    """Connections that two layers share, neurons matched for the most."""
    a, b = (mask[mask.any(1)].double() for mask in (a, b))
    common = (a @ b.T).numpy()
    return int(common[linear_sum_assignment(common, maximize=True)].sum())


def moved(evidence: list[Record], networks: Sequence[Record]) -> pandas.DataFrame:
    """One row a fraction: networks, connections of the start that are left, accuracy before
    and after, and the change beside no exchange of the same networks, in points."""
    if not evidence:
        names = ["fraction", "networks", "left", "before", "after", "change"]
        return pandas.DataFrame(columns=names)
    before = {record["network"]: record["test_accuracy"] for record in networks}
    frame = records.table(evidence)
    frame["before"] = frame.network.map(before)
    grouped = frame.groupby("fraction")
    after = 100 * frame.pivot_table("test_accuracy", "network", "fraction")
    return pandas.DataFrame(
        {
            "networks": grouped.network.nunique(),
            "left": grouped.stayed.mean(),
            "before": 100 * grouped.before.mean(),
            "after": 100 * grouped.test_accuracy.mean(),
            "change": [
                mean_interval((after[fraction] - after[0.0]).dropna())
                if fraction and 0.0 in after
                else "–"
                for fraction in after
            ],
        }
    ).reset_index()


CONDITIONS = {  # setting → the family of its moves in the ablation, and the name on a page
    "tau": ("τ", "temperature τ"),
    "descent": ("falling part", "share of the training until the target is reached"),
    "init": ("start", "keep probability at the start"),
}


def conditions(ablation: list[Record]) -> pandas.DataFrame:
    """How gates train near the target density: one setting moved at a time, on the validation
    split, from the records of the chapter "How small".

    One row a value: seeds, weights kept, and the points of accuracy gained over no move, with
    p (NaN for no move, see `statistics.against`).
    """
    named = records.table(smallest.labelled(ablation)).drop_duplicates("move")
    moves = smallest.moves(ablation)
    rows = []
    for name, (family, said) in CONDITIONS.items():
        tried = named[named.family.isin(["none", family])].sort_values(name)
        for move, value in zip(tried.move, tried[name], strict=True):
            row = moves.loc[move]
            seen = {"seeds": int(row.seeds), "kept": row.kept, "p": row.p}
            gain = 0.0 if move == "none" else row.gain
            rows.append({"setting": said, "value": value, "gain": gain} | seen)
    return pandas.DataFrame(rows)


def conditions_say(table: pandas.DataFrame) -> str:
    """Which values of `conditions` are clearly better or worse, in sentences."""
    if table.p.isna().all():
        return f"Fewer than {MIN_SEEDS} seeds are on record, too few to tell."
    clear = table[table.p < LEVEL]
    parts = {
        verb: [
            f"{row.setting} {row.value:g} ({row.gain:+.1f} points, {row.kept:,.0f} weights)"
            for row in clear[sign * clear.gain > 0].itertuples()
        ]
        for verb, sign in (("gain", 1), ("lose", -1))
    }
    said = " ".join(
        f"These values clearly {verb}: {joined(found)}."
        if found
        else f"No value clearly {verb}s."
        for verb, found in parts.items()
    )
    return minus(f"{said} The p-values are corrected for all moves of that chapter.")


def networks(evidence: list[Record], weights: int = WEIGHTS) -> list[Record]:
    """The gates' own networks on record, by seed."""
    whole = records.select(evidence, study="networks", method="gates", weights=weights)
    return sorted(whole, key=lambda record: record["network"])


def inputs_that_vary(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Which inputs vary over the samples, boolean, and each one's standard deviation."""
    deviation = inputs.std(0)
    return deviation > 0, torch.nan_to_num(deviation)


def moving_says(table: pandas.DataFrame) -> str:
    """What `moved` shows, in sentences: every exchange beside none. Fewer networks than
    MIN_SEEDS are no evidence, and it says so."""
    if 0 not in set(table.fraction) or len(table) < 2:
        return "Runs with an exchange are not on record yet."
    still = table[table.fraction == 0].after.iloc[0]
    changes = [
        f"{row.change} at {100 * row.fraction:g} %"
        for row in table[table.fraction > 0].itertuples()
    ]
    count = int(table.networks.min())
    said = (
        f"Without an exchange further training ends at {still:.2f} %. In points, an exchange"
        f" changes this accuracy by {joined(changes)} ({_networks(count)}, measured on the"
        " test set). Where the interval includes 0, these networks show no effect: the"
        " exchange finds no better wiring, which does not mean that there is none."
    )
    if count < MIN_SEEDS:
        return (
            f"{said} This is no evidence yet, with {count} of {MIN_SEEDS} networks on record."
        )
    return said


def each_wiring(evidence: list[Record], networks: list[Record]) -> pandas.DataFrame:
    """One row a network of a method: its own accuracy, and that of its wiring with new
    weights, in per cent. `networks` are the methods' own, recorded whole. What was taken from
    others, such as those of earlier settings, does not count."""
    own = {
        (r["method"], r["network"] if r["method"] == "gates" else checksum(r)): r
        for r in networks
    }
    taken: dict[tuple[str, int | str], list[float]] = {}
    for r in records.select(evidence, arm="mask"):
        key = r["method"], r["network"] if r["method"] == "gates" else r.get("wiring", "")
        if key in own:
            taken.setdefault(key, []).append(100 * r["test_accuracy"])
    rows = [
        {
            "method": find(key[0]).short,
            "own": 100 * own[key]["test_accuracy"],
            "wiring": np.mean(accuracies),
            "effective": own[key]["effective"],
        }
        for key, accuracies in taken.items()
    ]
    return pandas.DataFrame(rows, columns=["method", "own", "wiring", "effective"])


def wirings_of(each: pandas.DataFrame) -> pandas.DataFrame:
    """One row a method, the best wiring first: how many networks, and means of
    `each_wiring`."""
    grouped = each.groupby("method")
    table = grouped[["own", "wiring", "effective"]].mean()
    table.insert(0, "networks", grouped.size())
    return table.sort_values("wiring", ascending=False).reset_index()


def arms_say(table: pandas.DataFrame) -> str:
    """What `by_arm` shows, in sentences."""
    said = {arm: plus_minus(table, arm) for arm in table.index}
    return (
        f"The gates' wiring with new weights of random signs reaches {said['mask']} %. With"
        f" the signs of the trained weights it reaches {said['signs']} %, and with the weights"
        f" with which the gated training began {said['first']} %. Every loss of wiring costs"
        " more. If only each pixel's and each neuron's number of connections is kept,"
        f" {said['degrees']} % are left. If the pixels change places, it is"
        f" {said['pixels']} %, and on random wirings with all weights on paths"
        f" {said['paths']} %. If only the number of weights of each layer is kept, most of"
        f" them lie on no path, and {said['layers']} % are left."
    )


def overlap_says(table: pandas.DataFrame) -> str:
    """What `overlap` shows, in sentences."""
    pixels, connections = table.loc["pixels"], table.loc["connections"]
    return (
        f"A network reads {pixels.of:.0f} pixels, and two networks share {pixels.shared:.0f}."
        " Pixels drawn in proportion to their standard deviation would share"
        f" {pixels['by deviation']:.0f}. Of {connections.of:.0f} connections of the first"
        f" layer they share {connections.shared:.0f}. Wirings with the same number of"
        f" connections of each pixel and neuron would share {connections.degrees:.0f}. So"
        " gates return to the same pixels more often than chance, and yet most connections of"
        " a network are its own."
    )


def read_by(networks: Sequence[Record]) -> Tensor:
    """How many of the networks read each pixel."""
    return torch.stack([parts(record)[0][0].any(0) for record in networks]).sum(0)


def _by_network(evidence: list[Record], arm: str) -> pandas.Series:
    """Accuracy in per cent by network, mean over what was trained again."""
    frame = records.table(records.select(evidence, arm=arm))
    if frame.empty:
        return pandas.Series(dtype=float)
    return 100 * frame.groupby("network").test_accuracy.mean()


def answer(
    again: list[Record], networks: Sequence[Record], wirings: pandas.DataFrame
) -> list[str]:
    """The chapter's answer in sentences, from the arms, the networks themselves, and the
    table of `wirings_of`."""
    own = pandas.Series({r["network"]: 100 * r["test_accuracy"] for r in networks})
    arms = ("mask", "signs", "paths", "degrees", "pixels")
    wiring, signs, random, degrees, pixels = (_by_network(again, arm) for arm in arms)
    others = wirings[wirings.method != find("gates").short]
    said = [
        "They found **the wiring**, that is, which connections to keep. If new weights are"
        " trained on the connections of a network of gates, the accuracy is"
        f" **{mean_interval(wiring, 1)} %**. On a random wiring of the same shape, with all"
        f" weights on paths, it is **{mean_interval(random, 1)} %** (*Figure 1*). The"
        f" {len(wiring)} networks of gates themselves, with {networks[0]['kept']} weights on"
        f" MNIST, reach {mean_interval(own, 1)} %. Brackets are 95 % intervals.",
        "The signs of the trained weights are worth another"
        f" {mean_interval(signs - wiring, 1)} points, and their sizes"
        f" {mean_interval(own - signs, 1)}.",
    ]
    if len(degrees) and len(pixels):
        said.append(
            "Part of it is how many connections each pixel and neuron has. With these numbers"
            f" kept, and each connection drawn anew, {mean_interval(degrees, 1)} % are left:"
            f" they are worth {_share(degrees - random, wiring - random)} % of what the wiring"
            " is worth above a random one. If the pixels change places,"
            f" {mean_interval(pixels, 1)} % are left."
        )
    if len(others):
        best, few = others.iloc[0], others.networks.min() < MIN_SEEDS
        lacks = "The strong opponents lack this wiring. " if best.wiring < wiring.min() else ""
        hint = f" Fewer than {MIN_SEEDS} networks of an opponent are a hint and no evidence."
        said.append(
            f"{'' if few else lacks}Trained in the same way, the best wiring of a strong"
            f" opponent ({best.method}, {_networks(best.networks)}) reaches"
            f" {best.wiring:.1f} % (*Figure 2*).{hint if few else ''}"
        )
    return said


def _share(part: pandas.Series, whole: pandas.Series) -> str:
    """In per cent, the mean over networks with its interval."""
    return mean_interval((100 * part / whole).dropna(), 0)


def _networks(count: int) -> str:
    return f"{count} network{'s' if count > 1 else ''}"


def wirings_say(each: pandas.DataFrame) -> str:
    """How far the opponents' wirings are from the gates', in sentences: the best of them, and
    which part of the gap between the networks themselves lies in the wirings."""
    name, table = find("gates").short, wirings_of(each)
    gates, others = table[table.method == name], table[table.method != name]
    if gates.empty or others.empty:
        return "Wirings to compare are not on record yet."
    ours, best = gates.iloc[0], others.iloc[0]
    points = ours.wiring - best.wiring
    parts = (each[each.method == method].wiring for method in (name, best.method))
    low, high = sorted(np.sign(points) * np.array(welch(*parts) or (np.nan, np.nan)))
    between = "" if np.isnan(low) else f" [{low:.1f}, {high:.1f}]"
    said = (
        f"The best wiring of an opponent is that of {best.method}"
        f" ({_networks(best.networks)}). New weights on it are {abs(points):.1f}{between}"
        f" points {'less' if points > 0 else 'more'} accurate than new weights on the wiring"
        f" of the gates ({_networks(ours.networks)})."
    )
    behind = others[others.own < ours.own].set_index("method")
    if len(behind) < 2:
        return said
    share = 100 * (ours.wiring - behind.wiring) / (ours.own - behind.own)
    return (
        f"{said} Of the lead of the gates' own networks over an opponent's, between"
        f" {share.min():.0f} % ({share.idxmin()}) and {share.max():.0f} % ({share.idxmax()})"
        " is left when new weights are trained on both wirings."
    )


def moral(again: list[Record], networks: Sequence[Record]) -> str:
    """What new weights lose, and the chapter in one sentence, as far as the records carry it:
    most of what a random wiring lacks must come with the wiring alone, beyond the 95 %
    interval over networks."""
    own = pandas.Series({r["network"]: 100 * r["test_accuracy"] for r in networks})
    arms = ("mask", "paths", "degrees")
    wiring, random, degrees = (_by_network(again, arm) for arm in arms)
    share = 100 * (wiring - random) / (own - random)
    found = interval(share.dropna())
    if found is None or found[0] <= 50:
        return "**The records do not say yet what gates find.**"
    alike = (
        f", and {_share(wiring - degrees, own - degrees)} % of their lead over one in which"
        " each pixel and neuron has as many connections as with gates"
        if len(degrees)
        else ""
    )
    return (
        f"New weights on the wiring of the gates lose {mean_interval(own - wiring, 1)} points,"
        f" and on a random wiring of the same shape {mean_interval(own - random, 1)}. **Gates"
        " find which connections to keep. That alone is worth"
        f" {mean_interval(share, 0)} % of their lead over a random network of the same"
        f" shape**{alike}."
    )
