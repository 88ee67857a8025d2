"""Small networks for small images; each trains in minutes on one processor core.

All map (batch, channels, height, width) to (batch, classes) logits. Activations are modules,
so that scores and blind ranges see them.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pruning.networks.models import ACTIVATIONS, Activation, mlp

Shape = tuple[int, ...]  # of one image: channels, height, width
WIDTHS = (32, 64, 64, 64)  # channels of `convnet`


def convnet(
    shape: Shape,
    classes: int = 10,
    widths: Sequence[int] = WIDTHS,
    activation: Activation = "relu",
) -> nn.Sequential:
    """Four 3 × 3 convolutions and a Linear layer: 103,264 weights for (3, 32, 32) images.

    After all convolutions but the third the image is halved.
    """
    layers: list[nn.Module] = []
    inputs, height, width = shape
    for k, outputs in enumerate(widths):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), ACTIVATIONS[activation]()]
        inputs = outputs
        if k != 2:
            layers.append(nn.MaxPool2d(2))
            height, width = height // 2, width // 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(inputs * height * width, classes))


def convnet_weights(shape: Shape, classes: int, widths: Sequence[int]) -> int:
    """Weights of ``convnet(shape, classes, widths)`` without biases."""
    with torch.device("meta"):
        model = convnet(shape, classes, widths)
    return sum(p.numel() for name, p in model.named_parameters() if name.endswith("weight"))


def narrow_widths(
    shape: Shape, classes: int, widths: Sequence[int], weights: int
) -> tuple[int, ...] | None:
    """The channels, scaled down alike, at which a dense `convnet` has at most `weights`
    weights; None where even the narrowest has more."""
    best = None
    for first in range(1, widths[0] + 1):
        scaled = tuple(max(1, round(width * first / widths[0])) for width in widths)
        if convnet_weights(shape, classes, scaled) <= weights:
            best = scaled
    return best


def vgg(
    shape: Shape, classes: int = 10, widths: Sequence[int] = (16, 32, 64)
) -> nn.Sequential:
    """VGG with batch norm (arXiv:1409.1556), three stages of two 3 × 3 convolutions, each
    followed by max pooling: 82,778 parameters for (3, 32, 32) images."""
    layers: list[nn.Module] = []
    inputs, height, width = shape
    for outputs in widths:
        for _ in range(2):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1)]
            layers += [nn.BatchNorm2d(outputs), nn.ReLU()]
            inputs = outputs
        layers.append(nn.MaxPool2d(2))
        height, width = height // 2, width // 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(inputs * height * width, classes))


class DenseLayer(nn.Module):
    """Batch norm, ReLU and a 3 × 3 convolution whose outputs join its inputs."""

    def __init__(self, inputs: int, growth: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs)
        self.activation = nn.ReLU()
        self.conv = nn.Conv2d(inputs, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, inputs, h, w) ↦ (batch, inputs + growth, h, w)."""
        return torch.cat((x, self.conv(self.activation(self.norm(x)))), 1)


def densenet(
    shape: Shape, classes: int = 10, growth: int = 8, depth: int = 4
) -> nn.Sequential:
    """DenseNet (arXiv:1608.06993): three dense blocks of `depth` layers with transitions that
    halve channels and image; the image is halved once before, to save time."""
    channels = 2 * growth
    layers: list[nn.Module] = [nn.Conv2d(shape[0], channels, 3, 2, 1, bias=False)]
    for block in range(3):
        for _ in range(depth):
            layers.append(DenseLayer(channels, growth))
            channels += growth
        if block < 2:
            layers += [nn.BatchNorm2d(channels), nn.ReLU()]
            layers += [nn.Conv2d(channels, channels // 2, 1, bias=False), nn.AvgPool2d(2)]
            channels //= 2
    layers += [nn.BatchNorm2d(channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(channels, classes))


def lenet(
    shape: Shape, classes: int = 10, hidden: Sequence[int] = (300, 100)
) -> nn.Sequential:
    """LeNet-300-100 (LeCun et al. 1998) that takes images: 266,610 parameters for
    (1, 28, 28)."""
    pixels = shape[0] * shape[1] * shape[2]
    return nn.Sequential(nn.Flatten(), *mlp((pixels, *hidden, classes)))


class RowReader(nn.Module):
    """A GRU reads the rows of an image from top to bottom; its last state is classified."""

    def __init__(self, shape: Shape, classes: int = 10, hidden: int = 64):
        super().__init__()
        self.gru = nn.GRU(shape[0] * shape[2], hidden, batch_first=True)
        self.classify = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, rows, columns) ↦ (batch, classes)."""
        states, _ = self.gru(x.transpose(1, 2).flatten(2))
        return self.classify(states[:, -1])


class Attention(nn.Module):
    """Self-attention with separate Linear layers for queries, keys and values."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, tokens, width) ↦ the same shape."""
        parts = (layer(x) for layer in (self.query, self.key, self.value))
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in parts)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention and two Linear layers, each behind layer norm and beside a shortcut."""

    def __init__(self, width: int, heads: int, activation: str):
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.attention = Attention(width, heads)
        self.wide, self.activation = nn.Linear(width, 2 * width), ACTIVATIONS[activation]()
        self.narrow = nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, tokens, width) ↦ the same shape."""
        x = x + self.attention(self.norms[0](x))
        return x + self.narrow(self.activation(self.wide(self.norms[1](x))))


def sinusoids(tokens: int, width: int) -> Tensor:
    """Encoded positions, (tokens, width), fixed (arXiv:1706.03762, section 3.5)."""
    places = torch.arange(tokens)[:, None]
    angles = places / 10_000 ** (torch.arange(0, width, 2) / width)
    return torch.stack((angles.sin(), angles.cos()), 2).flatten(1)


class PatchTransformer(nn.Module):
    """A vision transformer (arXiv:2010.11929) whose tokens are square patches; the mean over
    tokens is classified."""

    position: Tensor

    def __init__(
        self,
        shape: Shape,
        classes: int = 10,
        patch: int = 4,
        width: int = 48,
        depth: int = 2,
        heads: int = 4,
        activation: Activation = "relu",
    ):
        super().__init__()
        channels, height, wide = shape
        self.patch = patch
        self.embed = nn.Linear(channels * patch**2, width)
        tokens = (height // patch) * (wide // patch)
        self.register_buffer("position", sinusoids(tokens, width))
        self.blocks = nn.Sequential(*(Block(width, heads, activation) for _ in range(depth)))
        self.norm, self.classify = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) ↦ (batch, classes)."""
        patches = F.unfold(x, self.patch, stride=self.patch).mT
        tokens = self.blocks(self.embed(patches) + self.position)
        return self.classify(self.norm(tokens).mean(1))
