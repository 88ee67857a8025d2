"""Corruptions beside SciPy's, and on images whose answer is known."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from pruning.data import corruptions


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def smooth():
    """(4, 21, 21), blobs away from the edge."""
    image = np.zeros((21, 21), np.float32)
    image[6:12, 8:15] = 1
    return torch.from_numpy(ndimage.gaussian_filter(image, 1.5)).expand(4, 21, 21)


@pytest.mark.parametrize("degrees", [10.0, 30.0, 90.0])
def test_a_rotation_is_scipys_to_either_side(degrees):
    images = smooth()
    found = corruptions.rotate(images, degrees, seeded())
    sides = [
        torch.from_numpy(ndimage.rotate(images[0].numpy(), angle, reshape=False, order=1))
        for angle in (degrees, -degrees)
    ]
    matches = [[torch.allclose(image, side, atol=1e-4) for side in sides] for image in found]
    assert all(sum(row) == 1 for row in matches)
    assert {row.index(True) for row in matches} == {0, 1}


def test_a_shift_moves_the_pixels_to_one_of_four_sides():
    image = torch.rand(1, 9, 9, generator=seeded())
    found = corruptions.shift(image.expand(40, 9, 9), 2, seeded())
    expected = {
        side: torch.from_numpy(ndimage.shift(image[0].numpy(), side, order=0))
        for side in ((2, 0), (-2, 0), (0, 2), (0, -2))
    }
    seen = set()
    for moved in found:
        (side,) = [s for s, wanted in expected.items() if torch.equal(moved, wanted)]
        seen.add(side)
    assert len(seen) == 4


def test_noise_has_its_deviation_and_stays_in_range():
    grey = torch.full((50, 20, 20), 0.5)
    found = corruptions.noise(grey, 0.1, seeded())
    assert (found - 0.5).std().item() == pytest.approx(0.1, rel=0.02)
    strong = corruptions.noise(grey, 2.0, seeded())
    assert strong.min() == 0
    assert strong.max() == 1


def test_a_seed_fixes_the_set():
    images = smooth()
    for corrupt, level in (
        (corruptions.noise, 0.2),
        (corruptions.shift, 1),
        (corruptions.rotate, 15.0),
    ):
        same = [corrupt(images, level, seeded(3)) for _ in range(2)]
        assert torch.equal(*same)
