"""What sampling the gradients costs: a training step with StochGradAdam beside one with
Adam."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F

from pruning.bounds import Count, Positive
from pruning.chapters.resnet_pruning.metrics import OfOverhead
from pruning.evidence.configs import settle
from pruning.evidence.records import Record
from pruning.methods.stochgrad import StochGradAdam
from pruning.networks import models
from pruning.networks.timing import interleaved

OPTIMIZERS = {
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=1e-2, foreach=True),
    "stochgradadam": lambda parameters: StochGradAdam(parameters, lr=1e-2),
}
EPOCH = 50_000  # images of CIFAR-10's training set


@dataclass(frozen=True)
class Overhead:
    """One network, on random images of CIFAR-10's size, in float32 on one thread of the
    CPU."""

    metrics: ClassVar[type] = OfOverhead

    method: str = "stochgradadam"
    dataset: str = "generated"
    depth: Positive = 20
    batch_size: Positive = 256
    rounds: Positive = 15
    seed: Count = 0
    study: str = "overhead"

    def __post_init__(self):
        settle(self, method=("stochgradadam",), dataset=("generated",), study=("overhead",))


def _training(config: Overhead, make: Callable) -> tuple[Callable, Callable]:
    """A whole training step, and the optimizer's part of it alone."""
    torch.manual_seed(config.seed)
    model = models.cifar_resnet(config.depth).to(memory_format=torch.channels_last)
    optimizer = make(model.parameters())
    images = torch.rand(config.batch_size, 3, 32, 32).to(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (config.batch_size,))

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()

    step()  # afterwards every parameter has a gradient
    return step, optimizer.step


def run(config: Overhead) -> Record:
    """Median seconds of a step, interleaved, of the optimizer alone, and of an epoch of
    CIFAR-10."""
    with torch.random.fork_rng(devices=[]):
        pairs = {name: _training(config, make) for name, make in OPTIMIZERS.items()}
        steps = interleaved(
            {name: step for name, (step, _) in pairs.items()}, config.rounds, 2
        )
        alone = interleaved(
            {name: update for name, (_, update) in pairs.items()}, 4 * config.rounds, 5
        )
    batches = -(-EPOCH // config.batch_size)
    return {
        "network": f"ResNet-{config.depth}",
        "step_seconds": steps,
        "update_seconds": alone,
        "epoch_seconds": {name: batches * seconds for name, seconds in steps.items()},
        "step_ratio": steps["stochgradadam"] / steps["adam"],
        "update_ratio": alone["stochgradadam"] / alone["adam"],
        "kept": None,
        "effective": None,
        "test_accuracy": None,
        "provenance": {"data": "random images"},
    }


def configs() -> list[Overhead]:
    """The two networks that are on record."""
    return [Overhead(depth=20), Overhead(depth=56, rounds=9)]
