"""Networks with half of their channels gone: dense, compact, and cut by Torch-Pruning to equal
MACs."""

import copy

import torch
import torch_pruning
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import pruning
from benchmarks.timing import interleaved, show
from pruning.networks import models
from pruning.networks.masks import set_mask


def trained_statistics(model: nn.Module) -> nn.Module:
    """Batch norm with statistics and shifts as after training, so that dead channels are
    constants."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias, std=0.3)
            module.running_mean.normal_(std=0.3)
            module.running_var.uniform_(0.5, 2)
    return model.eval()


def half_of_the_channels(model: nn.Module) -> nn.Module:
    """Half of every convolution's output channels masked, the same ones along residual
    sums."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            keep = torch.arange(module.out_channels) % 16 < 8
            set_mask(module, keep.view(-1, 1, 1, 1).expand_as(module.weight))
    return model


def macs(model: nn.Module, x: torch.Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(x)
    return counter.get_total_flops() // 2


def by_torch_pruning(model: nn.Module, x: torch.Tensor, at_most: int) -> nn.Module:
    """The model with as many channels removed by Torch-Pruning as the MACs of ours ask for."""
    for ratio in (k / 100 for k in range(5, 80)):
        cut = copy.deepcopy(model)
        last = [module for module in cut.modules() if isinstance(module, nn.Linear)][-1]
        torch_pruning.pruner.BasePruner(
            cut,
            x,
            importance=torch_pruning.importance.MagnitudeImportance(p=2),
            pruning_ratio=ratio,
            ignored_layers=[last],
        ).step()
        if macs(cut, x) <= at_most:
            return cut.eval()
    raise ValueError(f"at_most: got {at_most}, which no ratio reaches")


def compare(name: str, build, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    dense = trained_statistics(build())
    masked = half_of_the_channels(copy.deepcopy(dense))
    one = torch.randn(1, *shape)
    small = pruning.compact(masked, one)
    networks = {"dense": dense, "compact": small}
    try:
        theirs = by_torch_pruning(dense, one, macs(small, one))
        networks["Torch-Pruning, equal MACs"] = theirs
    except RuntimeError as error:
        print(f"Torch-Pruning cannot cut {name}: its network fails with {error}")
    with torch.no_grad():
        x = torch.randn(8, *shape)
        error = (small(x) - masked(x)).abs().max().item()
    print(f"compact differs from the masked {name} by at most {error:.1e}")
    for batch in (1, 64):
        x = torch.randn(batch, *shape)

        def run(network, x=x):
            with torch.inference_mode():
                return network(x)

        pieces = {
            f"{label}, {macs(network, one) / 1e6:.2f} million MACs": lambda n=network: run(n)
            for label, network in networks.items()
        }
        medians = interleaved(pieces, 15 if batch > 1 else 60, 3)
        show(f"{name}, half of the channels gone, batch {batch}", medians, next(iter(pieces)))


def main():
    torch.set_num_threads(1)
    compare("ResNet-20", lambda: models.cifar_resnet(20, shortcut="projection"), (3, 32, 32))
    compare("ResNet-20 with padded shortcuts", lambda: models.cifar_resnet(20), (3, 32, 32))
    compare("VGG-11", lambda: torchvision.models.vgg11_bn(num_classes=10), (3, 32, 32))


if __name__ == "__main__":
    main()
