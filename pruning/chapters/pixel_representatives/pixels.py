"""Maps of importance over an image, and rules over two pixels.

For the statements of arXiv:2311.12526 on MNIST (Fig 3b, Fig 5), each as a number.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


def _checked(image: Tensor) -> Tensor:
    if image.dim() != 2 or (image < 0).any() or not image.isfinite().all():
        raise ValueError(
            f"image: got shape {tuple(image.shape)}, needs (rows, columns) of finite numbers,"
            " none below 0"
        )
    return image.double()


def central_share(image: Tensor, side: int) -> float:
    """Share of a map's sum inside the central `side` × `side` pixels. Raises ValueError for an
    empty map."""
    image = _checked(image)
    rows, columns = image.shape
    if not 0 < side <= min(rows, columns) or image.sum() == 0:
        raise ValueError(
            f"side: got {side} for a map of {rows} × {columns} that sums to {image.sum():g}"
        )
    top, left = (rows - side) // 2, (columns - side) // 2
    return (image[top : top + side, left : left + side].sum() / image.sum()).item()


def _neighbours(images: Tensor) -> Tensor:
    """Sum over the (up to) eight neighbours of each pixel, (…, rows, columns)."""
    kernel = torch.ones(1, 1, 3, 3, dtype=images.dtype)
    kernel[0, 0, 1, 1] = 0
    each = images.reshape(-1, 1, *images.shape[-2:])
    return F.conv2d(each, kernel, padding=1).view_as(images)


def neighbour_ratio(image: Tensor, top: int = 20) -> float:
    """Mean importance of the eight neighbours of the `top` most important pixels, over the
    mean of those pixels: 1 where neighbours matter as much, 0 where a pixel stands for its
    surroundings alone.
    """
    image = _checked(image)
    if not 0 < top <= image.numel() or image.sum() == 0:
        raise ValueError(
            f"top: got {top} for a map of {image.numel()} pixels that sums to {image.sum():g}"
        )
    return _neighbour_ratios(image[None], top).item()


def _neighbour_ratios(images: Tensor, top: int) -> Tensor:
    """`neighbour_ratio` of each image: (images, rows, columns) ↦ (images,)."""
    flat = images.flatten(1)
    picked = flat.argsort(dim=1, descending=True, stable=True)[:, :top]
    counts = _neighbours(torch.ones_like(images[0])).flatten()[picked]
    around = _neighbours(images).flatten(1).gather(1, picked) / counts
    return around.mean(1) / flat.gather(1, picked).mean(1)


def morans_i(image: Tensor) -> float:
    """Moran's I (1950) with the eight neighbours as weights: above 0 where important pixels
    lie together, about −1/(pixels − 1) where they lie at random, 0 for a constant map."""
    deviation = _checked(image) - image.double().mean()
    weights = _neighbours(torch.ones_like(deviation)).sum()
    variance = deviation.square().sum()
    if variance == 0:
        return 0.0
    return (
        (deviation * _neighbours(deviation)).sum() / weights * deviation.numel() / variance
    ).item()


def shuffled_null(
    image: Tensor, draws: int = 1000, seed: int = 0, inside: Tensor | None = None
) -> Tensor:
    """Moran's I of `draws` random rearrangements of the map's values, (draws,).

    `inside`, a boolean map, keeps the rearrangement to those pixels: the pixels that vary at
    all, for one.
    """
    image = _checked(image)
    inside = torch.ones_like(image, dtype=torch.bool) if inside is None else inside
    generator = torch.Generator().manual_seed(seed)
    values = image[inside]
    found = torch.empty(draws, dtype=torch.float64)
    for draw in range(draws):
        shuffled = image.clone()
        shuffled[inside] = values[torch.randperm(len(values), generator=generator)]
        found[draw] = morans_i(shuffled)
    return found


def placed_null(
    image: Tensor, weights: Tensor, top: int = 20, draws: int = 200, seed: int = 0
) -> Tensor:
    """`neighbour_ratio` of `draws` maps, (draws,), that have the values of `image`, but on
    other pixels.

    Pixels are drawn without replacement with probabilities in proportion to `weights`, a map
    of the same shape: 1 where a pixel may be used at all, or another network's importance.
    What is left of the ratio then says how thin the map is and where on the image it lies, and
    nothing of which neighbour was chosen. Raises ValueError where fewer pixels have a weight
    than `image` has values.
    """
    values, weights = _checked(image), _checked(weights)
    values = values[values > 0]
    allowed = int((weights > 0).sum())
    if allowed < len(values):
        raise ValueError(
            f"weights: {allowed} pixels above 0, needs one for each of the {len(values)}"
            " values"
        )
    generator = torch.Generator().manual_seed(seed)
    placed = torch.zeros(draws, image.numel(), dtype=torch.float64)
    for drawn in placed:
        places = torch.multinomial(weights.flatten(), len(values), generator=generator)
        drawn[places] = values[torch.randperm(len(values), generator=generator)]
    return _neighbour_ratios(placed.view(draws, *image.shape), top)


@dataclass(frozen=True)
class Rule:
    """ "Both pixels on means this class", measured: of the images it picks, `precision` are of
    the class; it picks `recall` of the class; `accuracy` of all images are answered rightly by
    it."""

    pixels: tuple[int, int]
    precision: float
    recall: float
    accuracy: float

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall, 0 where both are."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


def precise_pairs(on: Tensor, is_class: Tensor, precision: float) -> tuple[int, int]:
    """Of all pairs of pixels, how many mean the class with at least this precision where both
    are on, and how many pairs there are.

    on : (images, pixels), boolean. is_class : (images,), boolean. A pair that is never on
        together does not count as reaching it.
    """
    picked, _ = picked_by_precise_pairs(on, is_class, precision)
    return len(picked), on.shape[1] * (on.shape[1] - 1) // 2


def picked_by_precise_pairs(
    on: Tensor, is_class: Tensor, precision: float
) -> tuple[Tensor, Tensor]:
    """Of each pair that `precise_pairs` counts: on how many images both pixels are on, and how
    many of these are of the class, (pairs,) both."""
    counts = on.float()
    both, hits = counts.T @ counts, counts[is_class].T @ counts[is_class]
    reaching = ((both > 0) & (hits >= precision * both)).triu(1)
    return both[reaching].long(), hits[reaching].long()


def two_pixel_rule(on: Tensor, is_class: Tensor, pixels: tuple[int, int]) -> Rule:
    """Measure one rule on binary images `on` (samples, pixels), `is_class` (samples,)
    boolean."""
    picked = on[:, pixels[0]] & on[:, pixels[1]]
    hits = int((picked & is_class).sum())
    return Rule(
        pixels,
        hits / max(1, int(picked.sum())),
        hits / max(1, int(is_class.sum())),
        int((picked == is_class).sum()) / len(on),
    )


def best_two_pixel_rule(
    on: Tensor, is_class: Tensor, measure: str = "f1", recall: float = 0.0
) -> Rule:
    """The best of all pairs of pixels by `measure` ("f1", "precision", "accuracy"), with at
    least `recall`.

    Two matrix products count every pair at once. Ties go to the first pair. Raises ValueError
    where no pair reaches `recall`, or for another measure.
    """
    if measure not in ("f1", "precision", "accuracy"):
        raise ValueError(f"measure: got {measure!r}, needs 'f1', 'precision' or 'accuracy'")
    inside = on[is_class].float()
    hits = (inside.T @ inside).double()
    picked = (on.float().T @ on.float()).double()
    members = int(is_class.sum())
    value = {
        "f1": 2 * hits / (picked + members),
        "precision": hits / picked.clamp_min(1),
        "accuracy": (len(on) - members + 2 * hits - picked) / len(on),
    }[measure]
    allowed = torch.ones_like(value, dtype=torch.bool).triu(1) & (hits >= recall * members)
    if not allowed.any():
        raise ValueError(f"recall: got {recall}, no pair of pixels reaches it")
    best = int(value.masked_fill(~allowed, -1).argmax())
    return two_pixel_rule(on, is_class, (best // on.shape[1], best % on.shape[1]))
