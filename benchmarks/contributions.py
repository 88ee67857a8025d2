"""One pass of contribution statistics over data beside one forward pass over the same batches."""

import torch

import pruning
from benchmarks.timing import interleaved, show
from pruning.layers import batches

SAMPLES = 10_000


def trained(inputs):
    """LeNet-300-100 with the share of blind neurons and near misses that training brings."""
    torch.manual_seed(0)
    model = pruning.models.mlp((784, 300, 100, 10), activation="relu")
    teacher = torch.randn(784, 10)
    targets = (inputs @ (teacher - teacher.mean(0))).argmax(1)
    pruning.training.fit(model, inputs, targets, epochs=5)
    return model


def main():
    torch.set_num_threads(2)
    torch.manual_seed(0)
    # pixels as in MNIST: four of five are 0
    inputs = torch.rand(SAMPLES, 784) * (torch.rand(SAMPLES, 784) < 0.2)
    model = trained(inputs)

    def forward():
        with torch.no_grad():
            for batch in batches(inputs):
                model(batch)

    pieces = {
        "one forward pass": forward,
        "input statistics (Wanda, STADE, RIA)": lambda: pruning.wanda(model, inputs),
        "absolute contributions": lambda: pruning.contribution_statistics(model, inputs, "absolute"),
        "relative contributions": lambda: pruning.contribution_statistics(model, inputs),
    }
    medians = interleaved(pieces, 15, 2)
    show(f"{SAMPLES:,} samples, LeNet-300-100, ReLU, 2 threads", medians, "one forward pass")
