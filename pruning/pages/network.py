"""A Sphinx extension: the data of the page on which a reader draws a digit for a pruned
network.

The recorded networks of MNIST with 404 to 100 weights become a script of some 30 kB beside the
page, which works from a file and loads nothing from the network. Where the MNIST archives are
at hand, one test image a digit goes with them; where not, the page says that it has none.
"""

import base64
import json
from pathlib import Path

import torch
from sphinx.application import Sphinx

from pruning.data import datasets
from pruning.evidence import records
from pruning.evidence.records import Record

SEED = 0
DATA = Path("_static") / "network_data.js"  # the page `network` names it


def recorded(seed: int = SEED) -> list[Record]:
    """The recorded networks with a budget, the largest first; ValueError if there is none."""
    found = [
        record
        for record in records.read(records.records_folder() / "smallest.jsonl")
        if record["study"] == "frontier"
        and record["seed"] == seed
        and record.get("at_most")
        and record.get("connections")
    ]
    if not found:
        raise ValueError(f"seed: got {seed}, smallest.jsonl has no whole network of it")
    return sorted(found, key=lambda record: -record["kept"])


def described(record: Record) -> dict:
    """A network as the page's script reads it: rows of (source, target, weight) and the
    biases, by layer."""
    layers = range(len(record["widths"]) - 1)
    edges = [
        [[i, o, w] for at, i, o, w in record["connections"] if at == layer] for layer in layers
    ]
    biases = []
    for layer in layers:
        following = edges[layer + 1 : layer + 2]
        used = {o for _, o, _ in edges[layer]} | {i for rows in following for i, _, _ in rows}
        if not following:
            used = range(record["widths"][-1])
        biases.append({o: round(record["bias_values"][layer][o], 6) for o in sorted(used)})
    return {
        "weights": record["kept"],
        "accuracy": record["test_accuracy"],
        "activation": record["activation"],
        "edges": edges,
        "biases": biases,
    }


def samples() -> list[dict]:
    """The first test image of each digit, pixels from 0 to 255 in base64; none where MNIST is
    not at hand."""
    if any(datasets.locate(file) is None for file in datasets.registry()["mnist"]["files"]):
        return []
    test = datasets.load("mnist").test
    found = []
    for digit in range(10):
        image = test.inputs[(test.targets == digit).nonzero()[0, 0]]
        pixels = (255 * image).round().to(torch.uint8).numpy().tobytes()
        found.append({"digit": digit, "pixels": base64.b64encode(pixels).decode()})
    return found


def _write(app: Sphinx, failed: Exception | None) -> None:
    if failed or app.builder.format != "html":
        return
    data = {"networks": [described(record) for record in recorded()], "samples": samples()}
    text = json.dumps(data, separators=(",", ":"))
    (Path(app.outdir) / DATA).write_text(
        f"window.prunedNetworks = {text};\n", encoding="utf-8"
    )


def setup(app: Sphinx) -> dict:
    """Write the data once the pages are there."""
    app.connect("build-finished", _write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
