"""One pass of contribution statistics over data beside one forward pass over the same
batches, and beside the four matrix products a layer that the statistics need at least."""

import torch
import torch.nn.functional as F
from torch import nn

import pruning
from benchmarks.timing import interleaved, show
from pruning.networks.batches import batches

SAMPLES = 10_000
FAINT = 0.4  # is empty in MNIST


def images():
    """scikit-learn's digits drawn as MNIST's are: strokes in a frame of 20 × 20 on an empty
    ground of 28 × 28, of which a fifth is not empty."""
    data = pruning.datasets.load("digits").train
    large = F.interpolate(data.inputs.view(-1, 1, 8, 8), size=20, mode="bilinear")
    strokes = F.pad((large - FAINT).clamp(min=0) / (1 - FAINT), (4, 4, 4, 4)).flatten(1)
    picked = torch.randint(
        len(strokes), (SAMPLES,), generator=torch.Generator().manual_seed(0)
    )
    return strokes[picked], data.targets[picked]


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

    def products():
        """z = a Wᵀ, and as in `pruning.methods.contributions` Σ_k |w_k·a_k|, uᵀ a, (u²)ᵀ a²,
        all without what comes between them: of some u of the shape of z, and of a for a²."""
        with torch.no_grad():
            for a in batches(inputs):
                for layer in model:
                    if isinstance(layer, nn.Linear):
                        u = a @ layer.weight.T
                        u.T @ a, u.T @ a
                    a = layer(a)

    def contributions(**options):
        return lambda: pruning.contribution_statistics(model, inputs, **options)

    pieces = {
        "one forward pass": forward,
        "four matrix products a layer": products,
        "input statistics (Wanda, STADE, RIA)": lambda: pruning.wanda(model, inputs),
        "relative contributions, no blind ranges": contributions(blind=False),
        "relative contributions": contributions(),
        "absolute contributions": contributions(kind="absolute"),
    }
    medians = interleaved(pieces, 15, 2)
    show(f"{SAMPLES:,} images, LeNet-300-100, ReLU, 2 threads", medians, "one forward pass")
