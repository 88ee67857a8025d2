"""A sweep of a small ResNet, once left alone and once killed again and again: started by
test_killed_sweep. Arguments: folder, how often it is killed.

Each attempt is a fork of this process, which has imported everything and has not trained. The
two sweeps write to FOLDER/whole and FOLDER/killed; the number of kills that met a living
process is printed.
"""

import dataclasses
import os
import random
import signal
import sys
import time
from pathlib import Path

import scipy.stats  # noqa: F401, the end of a run needs it, and forks then have it
import torch

from pruning.chapters.resnet_pruning import experiment
from pruning.data import datasets
from pruning.evidence.sweep import sweep
from pruning.training.checkpoints import Checkpoint

experiment.BLOCKS[8] = (1, 1, 1)
CONFIG = experiment.Config(
    "digits",
    8,
    method="stochgradadam",
    optimizer="stochgradadam",
    sampling_rate=0.8,
    epochs=2,
    batch_size=8,
    augment=True,
    averaging=0.9,
    precision="float32",
    study="quick",
)
SAMPLES = 128  # of the training set and of the test set: a run has 32 steps
STEP = 0.02  # seconds, less than a step takes


def attempt(folder: Path) -> int:
    """The process id of a fork that goes on with the sweep, a checkpoint after each step."""
    child = os.fork()
    if child:
        return child
    os.environ["PRUNING_DATA"] = str(folder)  # checkpoints lie there
    Checkpoint.due = lambda self: True
    try:
        list(sweep(experiment.run, [CONFIG], folder / "records.jsonl", jobs=1, progress=False))
        os._exit(0)
    finally:
        os._exit(1)


def ended(child: int) -> bool:
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def written(folder: Path) -> set[int]:
    """When the checkpoint was last moved to its place."""
    return {path.stat().st_mtime_ns for path in folder.glob("checkpoints/*.safetensors")}


def kill(child: int, folder: Path, checkpoints: int, delay: float) -> bool:
    """End a process after so many more checkpoints and a delay; whether it was alive."""
    before = written(folder)
    while checkpoints and not ended(child):
        if (now := written(folder)) != before:
            before, checkpoints = now, checkpoints - 1
        time.sleep(0.002)
    time.sleep(delay)
    alive = not ended(child)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return alive


def main(folder: Path, kills: int) -> int:
    torch.set_num_threads(1)
    experiment.optimizer(CONFIG, torch.nn.Linear(1, 1))  # torch imports more with the first
    data = experiment.load("digits", "cpu")
    parts = [
        datasets.Split(part.inputs[:SAMPLES], part.targets[:SAMPLES])
        for part in (data.train, data.test)
    ]
    small = dataclasses.replace(data, train=parts[0], test=parts[1])
    experiment.load = lambda name, device: small
    for name in ("whole", "killed"):
        (folder / name).mkdir()
    _, status = os.waitpid(attempt(folder / "whole"), 0)
    draw, killed = random.Random(0), folder / "killed"
    landed = sum(
        kill(attempt(killed), killed, draw.randrange(3), draw.uniform(0, STEP))
        for _ in range(kills)
    )
    print(landed)
    _, last = os.waitpid(attempt(killed), 0)
    return status or last


if __name__ == "__main__":
    sys.exit(int(main(Path(sys.argv[1]), int(sys.argv[2])) != 0))
