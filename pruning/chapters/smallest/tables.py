"""What the chapter `smallest` shows of its records, and the smallest network as files:
tables."""

import itertools
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas
import torch
from safetensors.torch import save

from pruning import methods
from pruning.chapters.smallest.experiment import BASE, CHOSEN, MOVES, Config, configs, rebuilt
from pruning.comparison import PAPER_WEIGHTS
from pruning.evidence import records
from pruning.evidence.configs import changed, flat
from pruning.evidence.records import Record
from pruning.networks import export, models
from pruning.networks.compact import compact
from pruning.networks.timing import interleaved

MOVED = {name for moves in MOVES.values() for move in moves for name in move}
SYMBOLS = {
    "tau": "τ",
    "alpha": "α",
    "init": "start",
    "descent": "falling",
    "lr": "rate",
}  # in words


def labelled(evidence: list[Record]) -> list[Record]:
    """The ablation's records with `family` and `move` in words, and `gain`: points of accuracy
    over the same seed without a move."""
    moved = [(record, _moved(record)) for record in evidence]
    plain = {
        record["seed"]: record["validation_accuracy"] for record, move in moved if not move
    }
    made = []
    for family, moves in MOVES.items():
        for move in moves:
            said = _said(move, family)
            label = said if family in ("none", "several") else f"{family}: {said}"
            for record, its in moved:
                if its == move and record["seed"] in plain:
                    gain = 100 * (record["validation_accuracy"] - plain[record["seed"]])
                    made.append(record | {"family": family, "move": label, "gain": gain})
    return made


def _moved(record: Record) -> dict:
    """What a record's settings differ in from BASE's, as MOVES writes it."""
    base, config = flat(BASE), flat(records.config_of(record, Config))
    return {name: config[name] for name in MOVED if config[name] != base[name]}


def _said(move: dict, family: str) -> str:
    if "allocation" in move:
        return " : ".join(f"{100 * share:.0f}" for share in move["allocation"])
    if len(move) == 1 and family != "several":
        return f"{next(iter(move.values())):g}"
    rest, chosen = dict(move), ""
    if CHOSEN.items() < move.items():
        rest, chosen = (
            {name: value for name, value in rest.items() if name not in CHOSEN},
            "chosen",
        )
    most = f"at most {rest.pop('at_most')}" if rest.pop("density", None) else ""
    epochs = (
        f"{rest.pop('epochs')} + {rest.pop('finetune_epochs')} epochs"
        if "epochs" in rest
        else ""
    )
    said = [
        chosen,
        *(f"{SYMBOLS[name]} {value:g}" for name, value in rest.items()),
        epochs,
        most,
    ]
    return ", ".join(filter(None, said)) or "none"


def moves(evidence: list[Record]) -> pandas.DataFrame:
    """One row a move: seeds, weights kept, accuracy on the validation split, and the gain over
    no move."""
    frame = pandas.DataFrame(labelled(evidence))
    grouped = frame.groupby("move", sort=False)
    return pandas.DataFrame(
        {
            "seeds": grouped.seed.nunique(),
            "kept": grouped.kept.mean(),
            "accuracy": 100 * grouped.validation_accuracy.mean(),
            "gain": grouped.gain.mean(),
        }
    )


def listed(evidence: list[Record]) -> list[Record]:
    """The records of the paper profile's runs; earlier settings of the frontier are on record
    beside them."""
    wanted = set(configs("paper"))
    return [record for record in evidence if records.config_of(record, Config) in wanted]


def open_ended(evidence: list[Record]) -> list[Record]:
    """The networks near 404 weights that the chosen settings trained without a budget."""
    chosen = changed(BASE, **CHOSEN, study="frontier")
    configs = [records.config_of(record, Config) for record in evidence]
    alike = [replace(config, seed=0, density=chosen.density) == chosen for config in configs]
    same = list(itertools.compress(evidence, alike))
    return records.select(same, density=max(record["density"] for record in same))


def gained(evidence: list[Record], move: dict) -> str:
    """What a move gains, in words: "+1.02 points (2 seeds)"; "–" where it is not on record."""
    gains = [record["gain"] for record in labelled(evidence) if _moved(record) == move]
    if not gains:
        return "–"
    return f"{sum(gains) / len(gains):+.2f} points ({len(gains)} seed{'s' * (len(gains) > 1)})"


def by_budget(evidence: list[Record]) -> pandas.DataFrame:
    """One row a density: seeds, weights kept (mean, most) and effective, accuracy mean,
    deviation, best."""
    table = records.summary(evidence, ["density"]).sort_index(ascending=False)
    most = records.table(evidence).groupby("density").kept.max()
    table.insert(2, "most", most)
    return table.drop(columns="worst").reset_index(drop=True)


def at_most(evidence: list[Record], weights: int = PAPER_WEIGHTS) -> pandas.Series:
    """Of the densities whose networks all keep at most `weights`, the one with the best
    mean."""
    table = by_budget(evidence)
    return table[table["most"] <= weights].sort_values("mean").iloc[-1]


def plus_minus(row: pandas.Series) -> str:
    """A row of `frontier` in words: mean ± deviation, of one seed the mean alone."""
    return records.plus_minus(row["mean"], row["sd"])


def drawn(evidence: list[Record], weights: int = PAPER_WEIGHTS) -> Record:
    """The largest network of at most `weights` weights that is on record whole."""
    whole = [r for r in evidence if "connections" in r and r["kept"] <= weights]
    if not whole:
        raise ValueError(f"evidence: has no whole network of at most {weights} weights")
    return max(whole, key=lambda r: r["kept"])


def ahead(ours: list[Record], others: list[Record]) -> str:
    """At how many of its densities each competitor has a lower mean than ours with no more
    weights, a hundredth of them overlooked. A density at which it keeps no weight at all does
    not count.
    """

    def points(evidence):
        return list(
            records.summary(evidence, ["study", "density"])[["kept", "mean"]].itertuples(
                index=False
            )
        )

    said = []
    for method in sorted({record["method"] for record in others}):
        theirs = [
            point for point in points(records.select(others, method=method)) if point.kept
        ]
        beaten = sum(
            any(
                mine.kept <= 1.01 * point.kept and mine.mean > point.mean
                for mine in points(ours)
            )
            for point in theirs
        )
        said.append(f"{methods.find(method).short} at {beaten} of {len(theirs)} densities")
    return ", ".join(said)


@torch.no_grad()
def deployed(
    record: Record, dense_accuracy: float, rounds: int = 200, batch: int = 1000
) -> pandas.DataFrame:
    """The network of a record in three forms beside the dense one: bytes on disk, test
    accuracy, and the time of one image and of a batch, measured here, on one thread.

    The accuracies are the record's and `dense_accuracy`, fractions: the three forms are
    checked here to compute what the recorded network does. Raises AssertionError if one does
    not.
    """
    model = rebuilt(record)
    dense, small = models.mlp(record["widths"], record["activation"]).eval(), compact(model)
    with tempfile.TemporaryDirectory() as folder:
        sizes = {
            "dense, torch": len(save(dense.state_dict())),
            "compact, torch": len(save(small.state_dict())),
            "compact, ONNX": export.to_onnx(
                model, Path(folder, "network.onnx"), record["widths"][0]
            ),
            "compact, NumPy": export.to_numpy(model, Path(folder, "network.npz")),
        }
        plain, onnx = (
            export.NumpyNetwork(Path(folder, "network.npz")),
            _onnx(Path(folder, "network.onnx")),
        )
    forms: dict[str, Callable] = {
        "dense, torch": lambda x: dense(torch.from_numpy(x)),
        "compact, torch": lambda x: small(torch.from_numpy(x)),
        "compact, ONNX": onnx,
        "compact, NumPy": plain,
    }
    accuracy = dict.fromkeys(sizes, 100 * record["test_accuracy"]) | {
        "dense, torch": 100 * dense_accuracy
    }
    table = pandas.DataFrame({"bytes": sizes, "accuracy (%)": accuracy})
    x = torch.rand(batch, record["widths"][0])
    for name in set(forms) - {"dense, torch"}:
        np.testing.assert_allclose(forms[name](x.numpy()), model(x), atol=1e-3, err_msg=name)
    for column, samples, unit, times in (
        ("one image (µs)", 1, 1e6, rounds),
        (f"{batch} (ms)", batch, 1e3, 20),
    ):
        x = torch.rand(samples, record["widths"][0]).numpy()
        pieces = {name: lambda form=form, x=x: form(x) for name, form in forms.items()}
        seconds = interleaved(pieces, rounds=times, warmup=0)
        table[column] = {name: unit * value for name, value in seconds.items()}
    return table


def _onnx(path: Path) -> Callable:
    import onnxruntime  # part of the book's extra only

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        path.read_bytes(), options, providers=["CPUExecutionProvider"]
    )
    return lambda x: session.run(None, {"inputs": x})[0]
