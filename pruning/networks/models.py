"""The networks of the papers, as plain ``nn.Sequential``."""

import itertools
from collections.abc import Sequence
from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor, nn

Activation = Literal["relu", "sigmoid", "tanh", "silu", "gelu"]
ACTIVATIONS = {
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
}


def mlp(sizes: Sequence[int], activation: Activation = "relu") -> nn.Sequential:
    """Fully connected network, (batch, sizes[0]) ↦ (batch, sizes[-1]) logits.

    Parameters
    ----------
    sizes : features of each layer from input to output, at least two, e.g. (784, 300, 100, 10)
        for LeNet-300-100 (LeCun et al. 1998): 266,200 weights and 410 biases.
    activation : between the layers, one of `ACTIVATIONS`.

    Raises ValueError for fewer than two sizes, a size below 1, or an unknown activation.
    """
    if len(sizes) < 2 or any(size < 1 for size in sizes):
        raise ValueError(f"sizes: got {tuple(sizes)!r}, needs two or more positive integers")
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation: got {activation!r}, needs one of {sorted(ACTIVATIONS)}")
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers[:-1])


def weight_count(sizes: Sequence[int]) -> int:
    """Weights of ``mlp(sizes)`` without biases."""
    return sum(i * o for i, o in itertools.pairwise(sizes))


def narrow_sizes(sizes: Sequence[int], weights: int) -> tuple[int, ...] | None:
    """The hidden widths, scaled down alike, at which a dense network has at most `weights`
    weights.

    The fully connected network "trained at that size" of arXiv:2311.12526, Fig 2b. Hidden
    layers after the first keep at least as many neurons as there are outputs: they cost
    little, and a narrower bottleneck would handicap the network. Returns None where even one
    first neuron takes more weights.
    """
    best = None
    for width in range(1, sizes[1] + 1):
        scaled = (
            sizes[0],
            width,
            *(max(min(h, sizes[-1]), round(h * width / sizes[1])) for h in sizes[2:-1]),
            sizes[-1],
        )
        if weight_count(scaled) <= weights:
            best = scaled
    return best


Shortcut = Literal["identity", "projection"]
SHORTCUTS = get_args(Shortcut)
WIDTHS = (16, 32, 64)  # channels of the three stages


class Subsample(nn.Module):
    """A shortcut without parameters: every second pixel, new channels 0 (He et al. 2015,
    option A)."""

    def __init__(self, channels: int):
        super().__init__()
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        """(batch, c, h, w) ↦ (batch, channels, ⌈h/2⌉, ⌈w/2⌉)."""
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, self.channels - x.shape[1]))


class BasicBlock(nn.Module):
    """Two 3 × 3 convolutions with batch norm and a shortcut around them."""

    def __init__(self, inputs: int, outputs: int, stride: int, shortcut: str):
        super().__init__()
        bias = shortcut == "projection"
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=bias)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=bias)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs:
            projection = (
                nn.Conv2d(inputs, outputs, 1, stride, bias=bias),
                nn.BatchNorm2d(outputs),
            )
            self.shortcut = (
                nn.Sequential(*projection) if shortcut == "projection" else Subsample(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(batch, inputs, h, w) ↦ (batch, outputs, h / stride, w / stride)."""
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


def cifar_resnet(
    depth_or_blocks: int | Sequence[int],
    shortcut: Shortcut = "identity",
    classes: int = 10,
    channels: int = 3,
) -> nn.Sequential:
    """Residual network for small images, (batch, channels, 32, 32) ↦ (batch, classes) logits.

    Parameters
    ----------
    depth_or_blocks : depth 6n + 2 (20, 32, 44, 56, 110, 152, …), or the blocks of the three
        stages, e.g. (18, 37, 37). Stages have 16, 32 and 64 channels; the second and third
        halve the image.
    shortcut : "identity", He et al. 2015 (arXiv:1512.03385, section 4.2): parameter-free
        shortcuts, no bias before batch norm; 269,722 parameters at depth 20, 853,018 at 56,
        1,727,962 at 110. Or "projection", the variant of arXiv:2312.16020's author: 1 × 1
        convolutions where a stage begins, every convolution with a bias; 857,898 parameters
        for (9, 9, 9).

    Raises ValueError for another depth or shortcut, or blocks that are not three positive
    numbers.
    """
    if shortcut not in SHORTCUTS:
        raise ValueError(f"shortcut: got {shortcut!r}, needs one of {SHORTCUTS}")
    if isinstance(depth_or_blocks, int):
        if depth_or_blocks < 8 or depth_or_blocks % 6 != 2:
            raise ValueError(
                f"depth_or_blocks: got depth {depth_or_blocks}, needs 6n + 2, such as 20 or 56"
            )
        depth_or_blocks = ((depth_or_blocks - 2) // 6,) * 3
    blocks = tuple(depth_or_blocks)
    if len(blocks) != 3 or any(count < 1 for count in blocks):
        raise ValueError(
            f"depth_or_blocks: got blocks {blocks}, needs three positive integers"
        )
    stem = nn.Conv2d(channels, WIDTHS[0], 3, 1, 1, bias=shortcut == "projection")
    layers: list[nn.Module] = [stem, nn.BatchNorm2d(WIDTHS[0]), nn.ReLU()]
    inputs = WIDTHS[0]
    for count, width in zip(blocks, WIDTHS, strict=True):
        for block in range(count):
            stride = 2 if block == 0 and width != WIDTHS[0] else 1
            layers.append(BasicBlock(inputs, width, stride, shortcut))
            inputs = width
    model = nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTHS[-1], classes)
    )
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model
