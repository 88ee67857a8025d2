"""Colour images: readers, an archive in and bytes of pixels and labels out, and the usual
augmentation.

CIFAR-10 comes in two forms that must not be taken for each other: the canonical files, read by
torchvision, and a copy whose images were re-encoded as JPEG.
"""

import hashlib
import lzma
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, UnidentifiedImageError
from torch import Tensor

CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
MAX_SIDE = 1024  # pixels; no image data set of this project comes near
Images = tuple[Tensor, Tensor]  # uint8 (samples, 3, height, width), int64 (samples,)


def _tensors(images: np.ndarray, labels: list[int]) -> Images:
    """From (samples, height, width, 3)."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.tensor(labels)


def decompressed(path: Path) -> bytes:
    """The bytes in an xz file. Raises ValueError for one that is damaged."""
    try:
        return lzma.decompress(path.read_bytes())
    except (lzma.LZMAError, EOFError) as error:
        raise ValueError(f"{path}: is not a whole xz file ({error})") from error


def cifar10(paths: list[Path]) -> tuple[list[Images], str]:
    """Training and test images of canonical CIFAR-10 in their own order, and their checksum.

    paths : the archive ``cifar-10-python.tar.gz`` alone, or the files of torchvision's own
        folder ``cifar-10-batches-py``, each as it is or compressed as ``.xz``.

    torchvision verifies and reads every file in a temporary folder. The checksum is the
    SHA-256 of the batches, training before test, so it does not depend on the container that
    they came in.
    """
    from torchvision.datasets import CIFAR10  # takes longer to import than all of `pruning`

    packed = len(paths) == 1
    with tempfile.TemporaryDirectory() as root:
        if packed:
            (Path(root) / paths[0].name).symlink_to(paths[0].resolve())
        else:
            folder = Path(root) / CIFAR10.base_folder
            folder.mkdir()
            for path in paths:
                if path.suffix == ".xz":
                    (folder / path.stem).write_bytes(decompressed(path))
                else:
                    (folder / path.name).symlink_to(path.resolve())
        parts = [CIFAR10(root, train=train, download=packed) for train in (True, False)]
        digest = hashlib.sha256()
        for name, _ in (*CIFAR10.train_list, *CIFAR10.test_list):
            digest.update((Path(root) / CIFAR10.base_folder / name).read_bytes())
    if any(tuple(part.classes) != CLASSES for part in parts):
        raise ValueError(f"{paths[0]}: has the classes {parts[0].classes}, needs {CLASSES}")
    return [_tensors(part.data, part.targets) for part in parts], digest.hexdigest()


def jpeg_folders(archive: Path, classes: tuple[str, ...] = CLASSES) -> list[Images]:
    """Training and test images of a tar of ``train/<class>/*.jpg`` and ``test/<class>/*.jpg``,
    in the order of their names.

    Raises ValueError that names the member which is no file, lies in no folder of a class, is
    no JPEG, or has another size than the first; and for an archive without training or test
    images.
    """
    found: dict[str, list[tuple[str, np.ndarray]]] = {"train": [], "test": []}
    size = None
    with tarfile.open(archive, "r|*") as tar:  # one pass; nothing is unpacked to disk
        for member in tar:
            if not member.name.endswith(".jpg"):
                continue
            said = f"{archive}: has {member.name}"
            if not member.isfile():
                raise ValueError(f"{said}, which is not a file")
            part, label = ("", "", *Path(member.name).parts)[-3:-1]
            if part not in found or label not in classes:
                raise ValueError(f"{said}, needs train/ and test/ with folders {classes}")
            try:
                with Image.open(tar.extractfile(member), formats=("JPEG",)) as image:
                    size = size or image.size
                    if max(image.size) > MAX_SIDE or image.size != size:
                        raise ValueError(
                            f"has {image.size} pixels, needs the size of the first image,"
                            f" {size}, of at most {MAX_SIDE} a side"
                        )
                    pixels = np.asarray(image.convert("RGB"))  # decoded here
            except (OSError, ValueError, Image.DecompressionBombError) as error:
                reason = (
                    "is not a JPEG image"
                    if isinstance(error, UnidentifiedImageError)
                    else error
                )
                raise ValueError(f"{archive}: {member.name}: {reason}") from error
            found[part].append((member.name, pixels))
    if empty := [part for part, pairs in found.items() if not pairs]:
        raise ValueError(f"{archive}: has no image in {empty[0]}/")
    parts = []
    for images in found.values():
        images.sort(key=lambda pair: pair[0])
        labels = [classes.index(Path(name).parts[-2]) for name, _ in images]
        parts.append(_tensors(np.stack([pixels for _, pixels in images]), labels))
    return parts


def crop_and_flip(
    images: Tensor, padding: int = 4, generator: torch.Generator | None = None
) -> Tensor:
    """Each image of a batch moved by up to `padding` pixels, 0 where nothing is, and mirrored
    half of the time (He et al. 2015, arXiv:1512.03385, section 4.2).

    images : (samples, channels, height, width), on any device; one gather for the whole batch.
    generator : on the images' device; torch's own where None.
    """
    samples, _, height, width = images.shape
    device = images.device
    draw = {"generator": generator, "device": device}
    shift = torch.randint(0, 2 * padding + 1, (2, samples, 1), **draw)
    rows, columns = (
        torch.arange(size, device=device).expand(samples, size) for size in (height, width)
    )
    mirrored = torch.rand(samples, 1, **draw) < 0.5
    columns = torch.where(mirrored, width - 1 - columns, columns)
    padded = F.pad(images, (padding,) * 4).permute(0, 2, 3, 1)
    each = torch.arange(samples, device=device)[:, None, None]
    return padded[
        each, (rows + shift[0])[:, :, None], (columns + shift[1])[:, None, :]
    ].permute(0, 3, 1, 2)
