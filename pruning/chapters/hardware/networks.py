"""The networks that are measured, and two ways of pruning them that need no training.

How long a network takes depends on where its weights are, not on their values. "scattered"
removes single weights at random, "outputs" removes whole neurons and channels.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pruning.methods import baselines, scores
from pruning.networks import models, small
from pruning.networks.masks import set_mask
from pruning.networks.prunable import prunable
from pruning.networks.sparsity import effective_weights

PATHS = 0.02  # below it, scattered weights of LeNet lie on paths: else layers would be empty


# network → how it is made, and the shape of one input
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "lenet": (lambda: models.mlp((784, 300, 100, 10), "silu"), (784,)),
    "cnn": (lambda: small.convnet((3, 32, 32)), (3, 32, 32)),
    "resnet20": (lambda: models.cifar_resnet(20), (3, 32, 32)),
}


def made(network: str, seed: int) -> nn.Module:
    """An untrained network in evaluation mode. Raises ValueError for an unknown one."""
    if network not in NETWORKS:
        raise ValueError(f"network: got {network!r}, needs one of {sorted(NETWORKS)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return NETWORKS[network][0]().eval()


def images(network: str, count: int) -> Tensor:
    """Inputs of a network, uniform in [0, 1]: (count, …)."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, *NETWORKS[network][1], generator=generator)


def scatter(model: nn.Module, density: float, seed: int) -> None:
    """Keep single weights at random: of each layer the same share; of a chain of Linear layers
    with few weights left those on random paths."""
    chain = all(not isinstance(module, nn.Conv2d) for module in model.modules())
    if chain and density < PATHS:
        total = sum(getattr(m, name).numel() for _, m, name in prunable(model))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            baselines.keep_random_paths(model, round(density * total))
        return
    generator = torch.Generator().manual_seed(seed)
    found = scores.random_scores(model, generator)
    scores.prune_by_score(model, found, 1 - density, "layer")


def remove_outputs(model: nn.Module, network: str, density: float) -> None:
    """Keep the first outputs of each hidden layer, the same share of all, as many as leave at
    most `density` of the weights on paths; of a ResNet the first convolution of each block,
    since what is added to a shortcut must keep its channels.

    Raises ValueError where no share is that small.
    """
    hidden = [m for _, m, _ in prunable(model)][:-1]
    if network == "resnet20":
        hidden = [m.conv1 for m in model.modules() if isinstance(m, models.BasicBlock)]
    total = sum(getattr(m, name).numel() for _, m, name in prunable(model))
    example = None if network == "lenet" else images(network, 2)  # a chain needs none

    def keep(share: int) -> None:
        """Keep `share` 256ths of the outputs."""
        for layer in hidden:
            kept = torch.zeros_like(layer.weight, dtype=torch.bool)
            kept[: max(1, round(share / 256 * len(kept)))] = True
            set_mask(layer, kept)

    def fits(share: int) -> bool:
        keep(share)
        return effective_weights(model, example) <= density * total

    if not fits(1):
        raise ValueError(
            f"density: got {density}, {network!r} cannot be that small by outputs"
        )
    low, high = 1, 256  # `low` fits
    while high - low > 1:
        share = (low + high) // 2
        low, high = (share, high) if fits(share) else (low, share)
    keep(low)
