"""A step of StochGradAdam beside torch's Adam, alone and within a training step of
ResNet-56."""

import torch
import torch.nn.functional as F

from benchmarks.timing import interleaved, show
from pruning import StochGradAdam
from pruning.networks import models

BATCH = 128


def stepper(make):
    """The optimizer's step on ResNet-56's parameters, their gradients given."""
    torch.manual_seed(0)
    model = models.cifar_resnet(56)
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    return make(model.parameters()).step


def trainer(make):
    """A whole training step of ResNet-56 on random images."""
    torch.manual_seed(0)
    model = models.cifar_resnet(56)
    optimizer = make(model.parameters())
    x, y = torch.rand(BATCH, 3, 32, 32), torch.randint(0, 10, (BATCH,))

    def step():
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

    return step


def main():
    torch.set_num_threads(2)
    makers = {
        "Adam, foreach": lambda params: torch.optim.Adam(params, lr=1e-3, foreach=True),
        "StochGradAdam": lambda params: StochGradAdam(params, lr=1e-3),
        "StochGradAdam, everything sampled": lambda params: StochGradAdam(
            params, lr=1e-3, sampling_rate=1.0
        ),
    }
    steps = {name: stepper(make) for name, make in makers.items()}
    show(
        "Optimizer step, ResNet-56's parameters, 2 threads",
        interleaved(steps, 60, 5),
        "Adam, foreach",
    )
    whole = {name: trainer(make) for name, make in list(makers.items())[:2]}
    title = f"Training step, ResNet-56, batch {BATCH}, 2 threads"
    show(title, interleaved(whole, 8, 1), "Adam, foreach")
