"""Images that a classifier was not trained on: noisy, moved and turned, as in MNIST-C
(Mu and Gilmer 2019, arXiv:1906.02337). Everything is generated; no file is needed.

images : (samples, height, width) in [0, 1], 0 is the background. What is drawn for each image
comes from a generator, so a seed fixes the corrupted set.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def noise(images: Tensor, deviation: float, generator: torch.Generator) -> Tensor:
    """Gaussian noise of a standard deviation, in the units of the pixels, clipped to
    [0, 1]."""
    drawn = torch.randn(images.shape, generator=generator)
    return (images + deviation * drawn).clamp(0, 1)


def shift(images: Tensor, pixels: int, generator: torch.Generator) -> Tensor:
    """Each image moved by so many pixels up, down, left or right; the background follows."""
    padded = F.pad(images, (pixels,) * 4)
    height, width = images.shape[1:]
    side = torch.randint(4, (len(images),), generator=generator)
    moved = torch.zeros_like(images)
    for k, (row, column) in enumerate(((0, 1), (2, 1), (1, 0), (1, 2))):
        top, left = row * pixels, column * pixels
        part = padded[:, top : top + height, left : left + width]
        moved[side == k] = part[side == k]
    return moved


def rotate(images: Tensor, degrees: float, generator: torch.Generator) -> Tensor:
    """Each image turned about its centre by so many degrees, to the left or to the right, with
    bilinear interpolation."""
    left = torch.rand(len(images), generator=generator) < 0.5
    angle = torch.where(left, 1.0, -1.0) * math.radians(degrees)
    sine, cosine, none = angle.sin(), angle.cos(), torch.zeros(len(images))
    matrices = torch.stack((cosine, sine, none, -sine, cosine, none), 1).view(-1, 2, 3)
    grid = F.affine_grid(matrices, [len(images), 1, *images.shape[1:]], align_corners=False)
    return F.grid_sample(images[:, None], grid, align_corners=False)[:, 0].clamp(0, 1)
