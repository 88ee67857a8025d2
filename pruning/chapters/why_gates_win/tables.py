"""What the chapter shows of its records: arms, what networks share, what moves, the
conditions."""

import itertools
from collections.abc import Sequence

import numpy as np
import pandas
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from pruning.chapters.why_gates_win import arms
from pruning.chapters.why_gates_win.experiment import ARMS, WEIGHTS, parts
from pruning.evidence import records
from pruning.evidence.records import Record
from pruning.methods import find

KEPT = {  # in words
    "found": "everything",
    "signs": "wiring, signs",
    "first": "wiring, first weights",
    "mask": "wiring",
    "degrees": "each one's number of connections",
    "inputs": "each neuron's number of inputs",
    "pixels": "wiring, but pixels change places",
    "paths": "number of neurons; all on paths",
    "layers": "number of weights a layer",
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
    to `likely` ("by variance"), and for connections keeps what pixels and neurons have
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
    for name, chances in (("uniform", None), ("by variance", weight / weight.sum())):
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


def _matched(a: Tensor, b: Tensor) -> int:
    """Connections that two layers share, neurons matched for the most."""
    a, b = (mask[mask.any(1)].double() for mask in (a, b))
    common = (a @ b.T).numpy()
    return int(common[linear_sum_assignment(common, maximize=True)].sum())


def moved(evidence: list[Record], networks: Sequence[Record]) -> pandas.DataFrame:
    """One row a fraction: networks, connections of the start that are left, accuracy before
    and after."""
    if not evidence:
        return pandas.DataFrame(columns=["fraction", "networks", "left", "before", "after"])
    before = {record["network"]: record["test_accuracy"] for record in networks}
    frame = records.table(evidence)
    frame["before"] = frame.network.map(before)
    grouped = frame.groupby("fraction")
    return pandas.DataFrame(
        {
            "networks": grouped.network.nunique(),
            "left": grouped.stayed.mean(),
            "before": 100 * grouped.before.mean(),
            "after": 100 * grouped.test_accuracy.mean(),
        }
    ).reset_index()


CONDITIONS = {  # setting → the values that the ablation moved it to, in words
    "tau": "temperature τ",
    "descent": "share of the training until the target is reached",
    "init": "keep probability at the start",
}


def conditions(ablation: list[Record]) -> pandas.DataFrame:
    """How gates train near the target density: one setting moved at a time, on the validation
    split.

    One row a value: seeds, weights kept, and the points of accuracy gained over the same seeds
    without a move. From the records of the chapter "How small".
    """
    frame = records.table(ablation)
    frame["allocation"] = frame.allocation.map(tuple)
    fixed = [
        "alpha",
        "lr",
        "gate_lr",
        "finetune_lr",
        "batch_size",
        "epochs",
        "density",
        "allocation",
    ]
    usual = {name: frame[name].mode()[0] for name in [*CONDITIONS, *fixed]}
    rows = []
    for name, said in CONDITIONS.items():
        same = np.logical_and.reduce([frame[n] == v for n, v in usual.items() if n != name])
        moved = frame[same].groupby([name, "seed"])[["kept", "validation_accuracy"]].mean()
        plain = moved.xs(usual[name], level=name).validation_accuracy
        for value, part in moved.groupby(level=name):
            part = part.droplevel(name)
            gain = 100 * (part.validation_accuracy - plain.reindex(part.index)).dropna()
            rows.append(
                {
                    "setting": said,
                    "value": value,
                    "seeds": len(gain),
                    "kept": part.kept.mean(),
                    "gain": gain.mean(),
                }
            )
    return pandas.DataFrame(rows)


def networks(evidence: list[Record], weights: int = WEIGHTS) -> list[Record]:
    """The gates' own networks on record, by seed."""
    whole = records.select(evidence, study="networks", method="gates", weights=weights)
    return sorted(whole, key=lambda record: record["network"])


def inputs_that_vary(inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Which inputs vary over the samples, boolean, and each one's standard deviation."""
    deviation = inputs.std(0)
    return deviation > 0, torch.nan_to_num(deviation)


def moving_says(table: pandas.DataFrame) -> str:
    """What `moved` shows, in a sentence: the best exchange beside none."""
    if 0 not in set(table.fraction) or len(table) < 2:
        return "Runs with an exchange are not on record yet."
    still = table[table.fraction == 0].after.iloc[0]
    best = table[table.fraction > 0].sort_values("after").iloc[-1]
    return (
        f"Without an exchange the training goes on to {still:.1f} %, with the best of them to "
        f"{best.after:.1f} %, of the connections at the start {best.left:.0f} being left."
    )


def wirings_of(evidence: list[Record], networks: list[Record]) -> pandas.DataFrame:
    """One row a method, the best first: the accuracy of its own networks, and of their wiring
    with new
    weights, in per cent. `networks` are the methods' own, recorded whole."""
    again = records.table([r for r in evidence if r["arm"] == "mask"])
    rows = []
    for method, part in again.groupby("method"):
        seeds = set(part.network)
        own = [
            100 * r["test_accuracy"]
            for r in networks
            if r["method"] == method and r.get("network", r["seed"]) in seeds
        ]
        means = 100 * part.groupby("network").test_accuracy.mean()
        rows.append(
            {
                "method": find(method).short,
                "networks": len(means),
                "own": np.mean(own),
                "wiring": means.mean(),
                "effective": part.effective.mean(),
            }
        )
    return pandas.DataFrame(rows).sort_values("wiring", ascending=False, ignore_index=True)
