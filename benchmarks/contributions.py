"""One pass of contribution statistics over data beside one forward pass over the same
batches."""

import torch
import torch.nn.functional as F

import pruning
from benchmarks.timing import interleaved, show
from pruning.networks.batches import batches

SAMPLES = 10_000


def images():
    """scikit-learn's digits drawn at MNIST's size: strokes on an empty ground, as the real
    ones."""
    data = pruning.datasets.load("digits").train
    large = F.interpolate(data.inputs.view(-1, 1, 8, 8), size=28, mode="bilinear").flatten(1)
    picked = torch.randint(len(large), (SAMPLES,), generator=torch.Generator().manual_seed(0))
    return large[picked], data.targets[picked]


def main():
    torch.set_num_threads(2)
    torch.manual_seed(0)
    inputs, targets = images()
    model = pruning.models.mlp((784, 300, 100, 10), activation="relu")
    pruning.training.fit(model, inputs, targets, epochs=5)

    def forward():
        with torch.no_grad():
            for batch in batches(inputs):
                model(batch)

    def contributions(**options):
        return lambda: pruning.contribution_statistics(model, inputs, **options)

    pieces = {
        "one forward pass": forward,
        "input statistics (Wanda, STADE, RIA)": lambda: pruning.wanda(model, inputs),
        "relative contributions, no blind ranges": contributions(blind=False),
        "relative contributions": contributions(),
        "absolute contributions": contributions(kind="absolute"),
    }
    medians = interleaved(pieces, 15, 2)
    show(f"{SAMPLES:,} images, LeNet-300-100, ReLU, 2 threads", medians, "one forward pass")
