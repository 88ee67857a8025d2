"""Global magnitude pruning of a network of ResNet-152's size, beside torch.nn.utils.prune."""

import warnings

import torch
import torchvision
from torch.nn.utils import parametrize, prune

import pruning
from benchmarks.timing import interleaved, show
from pruning.networks.layers import layers

SPARSITY = 0.5


def main():
    torch.set_num_threads(2)
    warnings.filterwarnings("ignore", "layer 'fc'")  # its initial weights are the smallest
    model = torchvision.models.resnet152()
    found = layers(model).values()
    weights = sum(layer.weight.numel() for layer in found)

    def ours():
        pruning.prune_by_score(model, pruning.magnitude(model), SPARSITY)
        for layer in found:
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)

    def theirs():
        pairs = [(layer, "weight") for layer in found]
        prune.global_unstructured(pairs, prune.L1Unstructured, amount=SPARSITY)
        for layer in found:
            dense = layer.weight_orig.data
            prune.remove(layer, "weight")
            layer.weight.data = dense

    medians = interleaved(
        {"prune_by_score, magnitude": ours, "prune.global_unstructured": theirs}, 5, 1
    )
    show(
        f"{weights:,} weights, half of them pruned, 2 threads",
        medians,
        "prune.global_unstructured",
    )
