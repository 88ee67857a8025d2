"""Whether a change of the code left the numbers as they were: a few cheap runs of every
chapter, bit for bit.

    python -m benchmarks.same_records            run them, compare with same_records.json
    python -m benchmarks.same_records --write    run them, write same_records.json

The file holds the metrics of one machine and one torch: on another, write it from the code
before the change first. Long lists are kept as a checksum. Times and provenance are not
compared.
"""

import hashlib
import importlib
import json
import sys
from pathlib import Path

import torch

from pruning.evidence import records

GOLDEN = Path(__file__).with_suffix(".json")
TIMES = {"provenance", "method_seconds", "training_seconds"}
DIGITS = {"dataset": "digits", "hidden": [32, 16], "batch_size": 64}
SHORT = DIGITS | {"epochs": 15, "finetune_epochs": 5}
# each: the chapter, and configs as flat fields; several configs train as one stack
RUNS: list[tuple[str, list[dict]]] = [
    ("compression_curves", [DIGITS | {"density": 0.05}]),
    (
        "compression_curves",
        [SHORT | {"density": 0.1, "allocation": [0.5, 0.3, 0.2], "at_most": 200}],
    ),
    (
        "compression_curves",
        [SHORT | {"density": d, "seed": s} for s, d in ((0, 0.1), (1, 0.2))],
    ),
    (
        "compression_curves",
        [SHORT | {"method": "random", "density": 0.2, "seed": s} for s in (0, 1)],
    ),
    (
        "compression_curves",
        [{"dataset": "income", "hidden": [100, 50], "density": 0.01, "epochs": 3}],
    ),
    *(
        ("compression_curves", [SHORT | {"method": method, "density": 0.1, "seed": 1}])
        for method in ("random", "dense", "magnitude", "wanda", "snip")
    ),
    *(
        (
            "compression_curves",
            [SHORT | {"density": 0.1, "seed": 1, "finetune_lr": 3e-3} | more],
        )
        for more in ({"method": "set", "fraction": 0.3}, {"method": "deepr", "l1": 1e-4})
    ),
    ("smallest", [SHORT | {"density": 0.1, "study": "frontier"}]),
    (
        "smallest",
        [SHORT | {"density": 0.1, "study": "ablation", "split": "validation", "seed": 3}],
    ),
    (
        "shap_agreement",
        [
            {
                "dataset": "breast_cancer",
                "hidden": [16, 8],
                "batch_size": 64,
                "explained": 60,
                "checked": 5,
                "background": 50,
                "density": 0.2,
            }
        ],
    ),
    ("pixel_representatives", [SHORT | {"density": 0.3, "top": 6}]),
    ("pathways", [{"steps": 400, "finetune_steps": 80}]),
    *(
        ("relative_importance", [DIGITS | {"epochs": 8, "sparsity": 0.5} | more])
        for more in (
            {"activity": 0.1},
            {"method": "unpruned"},
            {"method": "distribution"},
            {
                "decay": 0.8,
                "scope": "layer",
                "kind": "relative",
                "activation": "tanh",
                "tolerance": 0.1,
            },
            {"method": "magnitude live"},
            {"method": "stade corrected", "scope": "neuron"},
            {"method": "random", "finetune_epochs": 1},
            {"method": "snip", "split": "validation"},
            {"method": "ria"},
            {"method": "nnrelief"},
            {"method": "wanda", "scaling": "standardised"},
        )
    ),
    (
        "resnet_pruning",
        [
            {
                "dataset": "digits",
                "depth": 20,
                "epochs": 1,
                "batch_size": 128,
                "precision": "float32",
                "method": "stochgradadam",
                "optimizer": "stochgradadam",
                "sampling_rate": 0.8,
                "averaging": 0.9,
            }
        ],
    ),
]


def short(value):
    """A long value as its checksum."""
    text = json.dumps(value)
    return value if len(text) < 60 else hashlib.sha256(text.encode()).hexdigest()[:16]


def metrics(chapter: str, flat: list[dict]) -> list[dict]:
    experiment = importlib.import_module(f"pruning.chapters.{chapter}.experiment")
    configs = [records.config_of(fields, experiment.Config) for fields in flat]
    found = (
        experiment.TOGETHER.run(configs) if len(configs) > 1 else [experiment.run(configs[0])]
    )
    plain = json.loads(json.dumps(found))
    return [{k: short(v) for k, v in one.items() if k not in TIMES} for one in plain]


def main() -> int:
    torch.set_num_threads(1)
    expected = json.loads(GOLDEN.read_text()) if GOLDEN.is_file() else {}
    found, wrong = {}, 0
    for chapter, flat in RUNS:
        name = f"{chapter} {json.dumps(flat)}"
        found[name] = metrics(chapter, flat)
        if "--write" in sys.argv:
            continue
        differ = [
            f"{key}: {before.get(key)} → {now.get(key)}"
            for before, now in zip(expected[name], found[name], strict=True)
            for key in sorted(before.keys() | now.keys())
            if before.get(key) != now.get(key) or (key in before) != (key in now)
        ]
        print(
            "same  " if not differ else "OTHER ", name, *differ, sep="\n    " if differ else ""
        )
        wrong += bool(differ)
    if "--write" in sys.argv:
        GOLDEN.write_text(json.dumps(found, indent=1) + "\n")
    print(f"{len(RUNS) - wrong} of {len(RUNS)} the same")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
