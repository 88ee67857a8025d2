"""How small can it get? What limits the gates where few weights are left, and the frontier down to 100.

Runs are those of `compression_curves`. One setting at a time is moved (study "ablation", on a validation
split); what wins there is then run once more on the test set, over many seeds.
"""

from dataclasses import replace

from pruning.experiments.compression_curves import ABSOLUTE_ALPHA, TOGETHER, Config, run

__all__ = ["TOGETHER", "Config", "configs", "run"]

WEIGHTS = 266_200  # of LeNet-300-100
BASE = Config(density=0.00143, penalty="absolute", alpha=ABSOLUTE_ALPHA)
# what is moved, and how; the gates alone keep 67, 19 and 14 % of their weights in the three layers
MOVES: dict[str, tuple[dict, ...]] = {
    "none": ({},),
    "temperature": tuple({"tau": tau} for tau in (0.1, 1.0, 4.0, 8.0, 16.0)),
    "initial keep probability": tuple({"init": init} for init in (0.5, 0.99)),
    "rate of the weights": tuple({"lr": lr} for lr in (3e-3, 3e-2)),
    "rate of the gates": tuple({"gate_lr": lr} for lr in (0.03, 0.3)),
    "falling part of the training": tuple({"descent": part} for part in (0.25, 0.75)),
    "density loss": ({"alpha": 100.0}, {"alpha": 10_000.0}, {"penalty": "log", "alpha": 1.0}),
    "share of the layers": tuple(
        {"allocation": shares} for shares in ((0.75, 0.15, 0.10), (0.60, 0.23, 0.17), (0.50, 0.30, 0.20))
    ),
    "training": ({"epochs": 120, "finetune_epochs": 40}, {"batch_size": 64}, {"batch_size": 1024}),
    "fine-tune": tuple({"finetune_lr": lr} for lr in (1e-3, 1e-2)),
}


def ablation(seeds) -> list[Config]:
    """Every move of MOVES, at about 380 weights, on the validation split."""
    base = replace(BASE, study="ablation", split="validation")
    moves = [move for family in MOVES.values() for move in family]
    return [replace(base, **move, seed=seed) for seed in seeds for move in moves]


def configs(profile: str, seeds: int | None = None) -> list[Config]:
    """The runs of a profile: "search" is the ablation."""
    if profile == "search":
        return ablation(range(seeds or 3))
    raise ValueError(f"profile: got {profile!r}, needs 'search'")
