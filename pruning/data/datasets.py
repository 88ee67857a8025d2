"""Data sets as tensors in memory, from files whose checksums are verified first.

A file is looked for in the cache (``$PRUNING_DATA``, else ``data/cache`` of a checkout, else
the user's cache folder), then in ``$PRUNING_DATA_MIRROR``, then downloaded into the cache from
the URL in ``data/registry.toml``. "digits" and "breast_cancer" come with scikit-learn and need
no file.
"""

import contextlib
import gzip
import hashlib
import os
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from pruning.data import images
from pruning.files import CHECKOUT, PACKAGE, settled

if TYPE_CHECKING:
    import pandas

# an installed package carries a copy of the registry beside its modules
_REGISTRY = (CHECKOUT / "data" if CHECKOUT else PACKAGE) / "registry.toml"


class DataError(RuntimeError):
    """A data file is missing, altered, or could not be fetched."""


@dataclass(frozen=True)
class Split:
    """inputs: float32, (samples, features) or, of colour images, (samples, channels, height,
    width); targets: int64 class indices, (samples,)."""

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def to(self, device: str | torch.device) -> "Split":
        """The same samples on another device."""
        return Split(self.inputs.to(device), self.targets.to(device))


@dataclass(frozen=True)
class Dataset:
    """A train/test pair with names. `checksum` identifies the exact bytes it was read from."""

    name: str
    train: Split
    test: Split
    feature_names: tuple[str, ...]
    class_names: tuple[str, ...]
    checksum: str
    image_shape: tuple[int, ...] | None = (
        None  # (height, width), of colour images (channels, height, width)
    )

    def to(self, device: str | torch.device) -> "Dataset":
        """The same data on another device."""
        return replace(self, train=self.train.to(device), test=self.test.to(device))

    def as_images(self) -> "Dataset":
        """The same data with inputs (samples, channels, height, width). Raises ValueError
        where they are no images."""
        if self.image_shape is None:
            raise ValueError(f"dataset: got {self.name!r}, needs one of images")
        shape = self.image_shape if len(self.image_shape) == 3 else (1, *self.image_shape)
        train, test = (
            replace(part, inputs=part.inputs.view(-1, *shape))
            for part in (self.train, self.test)
        )
        return replace(self, train=train, test=test, image_shape=shape)

    def validation(self, fraction: float = 1 / 12, seed: int = 0) -> "Dataset":
        """The training set split in two, stratified; the test set does not appear.

        The returned data set's `test` is a share `fraction` of the training set:
        hyper-parameters are chosen on it. The default gives 5,000 of MNIST's 60,000 samples.
        """
        if not 0 < fraction < 1:
            raise ValueError(
                f"fraction: got {fraction!r}, needs a number strictly between 0 and 1"
            )
        train, test = _stratified(self.train.inputs, self.train.targets, fraction, seed)
        return replace(self, name=f"{self.name}-validation", train=train, test=test)


def _stratified(
    inputs: Tensor, targets: Tensor, fraction: float, seed: int
) -> tuple[Split, Split]:
    from sklearn.model_selection import train_test_split

    train, test = train_test_split(
        np.arange(len(targets)),
        test_size=fraction,
        random_state=seed,
        stratify=targets.cpu().numpy(),
    )
    return Split(inputs[train], targets[train]), Split(inputs[test], targets[test])


# ---- files
# ----------------------------------------------------------------------------------------


def registry() -> dict[str, dict]:
    """The registered data sets: {name: {title, licence, files: [{path, size, md5, sha256,
    url}]}}.

    A data set may also have "unpacked", files that serve in place of all of "files". Their
    sizes and checksums are those of the plain files; each may lie there compressed, as
    FILE.xz.
    """
    return tomllib.loads(_REGISTRY.read_text(encoding="utf-8"))


def cache_folder() -> Path:
    """Where downloaded files are kept."""
    if folder := os.environ.get("PRUNING_DATA"):
        return Path(folder)
    if CHECKOUT:
        return CHECKOUT / "data" / "cache"
    import pooch

    return Path(pooch.os_cache("pruning"))


def mirror_folder() -> Path | None:
    """The folder ``$PRUNING_DATA_MIRROR`` names, which must exist, or None where it is not
    set."""
    folder = os.environ.get("PRUNING_DATA_MIRROR")
    if folder and not Path(folder).is_dir():
        raise DataError(
            f"PRUNING_DATA_MIRROR: got {folder!r}, which is not a folder; point it at one laid"
            " out as data/README.md says, or unset it"
        )
    return Path(folder) if folder else None


def origin(entry: dict) -> str:
    """Where a registered file comes from, in words."""
    return (
        f"from {entry['url']}"
        if "url" in entry
        else "from a mirror ($PRUNING_DATA_MIRROR): it has no URL"
    )


def locate(entry: dict, unpack: bool = False) -> Path | None:
    """The path of a registered file in the cache or the mirror, checked; None where it is in
    neither.

    unpack : put what is compressed into the cache as it is, where there is room for it: to
        decompress CIFAR-10 takes twenty times as long as to read it.

    Raises DataError if no file there has the registered checksums; a bad one in the cache
    hides no good one in the mirror.
    """
    wrong = None
    for folder in (cache_folder(), mirror_folder()):
        if folder is None:
            continue
        for path in (folder / entry["path"], folder / f"{entry['path']}.xz"):
            if path.is_file():
                try:
                    raw = _verify(path, entry)
                except DataError as error:
                    wrong = wrong or error
                    continue
                if unpack and path.name != Path(entry["path"]).name:
                    return _unpack(path, entry, raw)
                return path
    if wrong is not None:
        raise wrong
    return None


# (path, time, size, checksums) of files that were found right: a process verifies a file once,
# since what is compressed takes seconds
_VERIFIED: set[tuple] = set()


def _verify(path: Path, entry: dict) -> bytes | None:
    """The bytes of a file, or what is compressed in it; None where they were verified before.
    Raises DataError unless they are the registered ones."""
    status = path.stat()
    sums = entry.get("md5"), entry.get("sha256")
    key = (path.absolute(), status.st_mtime_ns, status.st_size, *sums)
    if key in _VERIFIED:
        return None
    compressed = path.name != Path(entry["path"]).name
    try:
        raw = images.decompressed(path) if compressed else path.read_bytes()
    except ValueError as error:
        raise DataError(
            f"{error}; delete it and get {entry['path']} {origin(entry)}"
        ) from error
    for kind in ("md5", "sha256"):
        found = hashlib.new(kind, raw, usedforsecurity=False).hexdigest()
        if found != entry.get(kind, found):
            raise DataError(
                f"{path}: has {len(raw):,} bytes and {kind} {found}, needs {entry['size']:,}"
                f" bytes and {kind} {entry[kind]}; it is truncated or altered: delete it and"
                f" get it {origin(entry)}"
            )
    if settled(status.st_mtime_ns):
        _VERIFIED.add(key)
    return raw


def _unpack(path: Path, entry: dict, raw: bytes | None) -> Path:
    """A verified file FILE.xz as a plain file in the cache; itself where the cache cannot be
    written, or has another file of that name."""
    target = cache_folder() / entry["path"]
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    if target.exists():
        return path
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(raw if raw is not None else images.decompressed(path))
        part.replace(target)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        return path
    return target


def _known_hash(entry: dict) -> str:
    """The strongest registered checksum, as pooch wants it."""
    return next(f"{kind}:{entry[kind]}" for kind in ("sha256", "md5") if kind in entry)


def fetch(name: str) -> list[Path]:
    """Paths of a data set's files, each verified; downloads into the cache what is in no
    folder.

    Raises ValueError for an unknown name, DataError for a file that is altered or cannot be
    had. A download that fails or has the wrong checksum leaves nothing behind.
    """
    known = registry()
    if name not in known:
        raise ValueError(f"name: got {name!r}, needs one of {sorted(known)}")
    try:
        paths = unpacked(known[name], unpack=True)
    except DataError:  # an altered file in place of the archive does not hide the archive
        if not all(map(locate, known[name]["files"])):
            raise
        paths = []
    if paths:
        return paths
    for entry in known[name]["files"]:
        path = locate(entry)
        if path is None:
            target = cache_folder() / entry["path"]
            if "url" not in entry:
                raise DataError(
                    f"{entry['path']} of {name!r}: neither in the cache nor in"
                    " $PRUNING_DATA_MIRROR, and it has no public URL: set PRUNING_DATA_MIRROR"
                    f" to a folder that holds it, or put it at {target}"
                )
            import pooch

            try:  # pooch writes to a temporary name, verifies, then moves
                pooch.retrieve(entry["url"], _known_hash(entry), target.name, target.parent)
            except Exception as error:  # requests, urllib3, OSError; ValueError: its checksum
                wrong = isinstance(error, ValueError)
                reason = "another checksum" if wrong else type(error).__name__
                raise DataError(
                    f"{entry['path']} of {name!r}: neither in the cache nor in"
                    f" $PRUNING_DATA_MIRROR, and the download failed ({reason})."
                    f" Get {entry['url']} and put it at {target}"
                ) from error
            path = target
        paths.append(path)
    return paths


def unpacked(entry: dict, unpack: bool = False) -> list[Path]:
    """Verified paths of the files that serve in place of a data set's own, by `locate`; []
    unless all are there."""
    places = [locate(file, unpack) for file in entry.get("unpacked", ())]
    return places if all(places) else []


def status() -> "pandas.DataFrame":
    """One row a registered file: dataset, file, size in bytes, where ("cache", "mirror",
    "missing", "altered", or "scikit-learn"), path or URL ("" where it has none). Verifies
    checksums, downloads nothing."""
    import pandas

    rows = []
    for name, entry in registry().items():
        if not entry["files"]:
            rows.append((name, "", 0, "scikit-learn", ""))
        try:
            files = entry["unpacked"] if unpacked(entry) else entry["files"]
        except DataError:  # said below, file by file
            files = entry["unpacked"]
        for file in files:
            try:
                path = locate(file)
            except DataError as error:
                rows.append((name, file["path"], file["size"], "altered", str(error)))
                continue
            where = (
                "missing"
                if path is None
                else "cache"
                if path.is_relative_to(cache_folder())
                else "mirror"
            )
            rows.append(
                (name, file["path"], file["size"], where, str(path or file.get("url", "")))
            )
    return pandas.DataFrame(rows, columns=["dataset", "file", "size", "where", "source"])


# ---- readers
# --------------------------------------------------------------------------------------


def _idx(path: Path) -> Tensor:
    """An idx file of unsigned bytes: magic 0x0000 08 d, d big-endian sizes, then the
    values."""
    raw = gzip.decompress(path.read_bytes())
    dims = raw[3]
    shape = np.frombuffer(raw, ">i4", count=dims, offset=4)
    return torch.from_numpy(
        np.frombuffer(raw, np.uint8, offset=4 + 4 * dims).reshape(shape).copy()
    )


def _mnist(name: str, classes: tuple[str, ...]) -> Callable[[list[Path]], Dataset]:
    def reader(paths: list[Path]) -> Dataset:
        splits = [
            Split(_idx(pixels).flatten(1).float() / 255, _idx(labels).long())
            for pixels, labels in (paths[:2], paths[2:])
        ]
        names = tuple(f"row {i} column {j}" for i in range(28) for j in range(28))
        return Dataset(name, *splits, names, classes, _checksum(paths), (28, 28))

    return reader


FASHION = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
INCOME_COLUMNS = {
    "age": "Age",
    "workclass": "Workclass",
    "fnlwgt": None,
    "education": None,
    "education-num": "Education-Num",
    "marital-status": "Marital Status",
    "occupation": "Occupation",
    "relationship": "Relationship",
    "race": "Race",
    "sex": "Sex",
    "capital-gain": "Capital Gain",
    "capital-loss": "Capital Loss",
    "hours-per-week": "Hours per week",
    "native-country": "Country",
    "income": None,
}
RELATIONSHIPS = [
    "Not-in-family",
    "Unmarried",
    "Other-relative",
    "Own-child",
    "Husband",
    "Wife",
]


def read_income(paths: list[Path]) -> tuple[list["pandas.DataFrame"], list[Tensor]]:
    """The 12 features that shap.datasets.adult uses, coded as there, not yet standardised.

    Categories become their index in alphabetical order, except Relationship, ordered as in
    shap. A missing value ("?", in Workclass, Occupation and Country) is a category of its own,
    code 0.
    """
    import pandas

    frames = [
        pandas.read_csv(
            path,
            names=list(INCOME_COLUMNS),
            skipinitialspace=True,
            comment="|",
            keep_default_na=False,
        )
        for path in paths
    ]
    targets = [
        torch.tensor(frame["income"].str.rstrip(".").eq(">50K").to_numpy(), dtype=torch.int64)
        for frame in frames
    ]
    coded = [pandas.DataFrame(index=frame.index) for frame in frames]
    for column, feature in INCOME_COLUMNS.items():
        if feature is None:
            continue
        if pandas.api.types.is_numeric_dtype(frames[0][column]):
            for frame, out in zip(frames, coded, strict=True):
                out[feature] = frame[column].astype("float32")
            continue
        categories = (
            RELATIONSHIPS if feature == "Relationship" else sorted(frames[0][column].unique())
        )
        for frame, out in zip(frames, coded, strict=True):
            codes = pandas.Categorical(frame[column], categories=categories).codes
            if (codes < 0).any():
                raise DataError(
                    f"income: {column} has a category in the test file that training lacks"
                )
            out[feature] = codes.astype("float32")
    return coded, targets


def _income(paths: list[Path]) -> Dataset:
    (train, test), targets = read_income(paths)
    mean, std = train.mean(), train.std(ddof=0)
    inputs = [
        torch.tensor(((frame - mean) / std).to_numpy(), dtype=torch.float32)
        for frame in (train, test)
    ]
    splits = [Split(x, y) for x, y in zip(inputs, targets, strict=True)]
    return Dataset(
        "income", *splits, tuple(train.columns), ("<=50K", ">50K"), _checksum(paths)
    )


def _digits(_: list[Path]) -> Dataset:
    import sklearn.datasets

    bunch = sklearn.datasets.load_digits()
    inputs = torch.tensor(bunch.data, dtype=torch.float32) / 16
    splits = _stratified(inputs, torch.tensor(bunch.target, dtype=torch.int64), 0.2, seed=0)
    names = tuple(f"row {i} column {j}" for i in range(8) for j in range(8))
    return Dataset(
        "digits", *splits, names, tuple("0123456789"), _checksum(bunch.data), (8, 8)
    )


def _breast_cancer(_: list[Path]) -> Dataset:
    import sklearn.datasets

    bunch = sklearn.datasets.load_breast_cancer()
    inputs = torch.tensor(bunch.data, dtype=torch.float32)
    train, test = _stratified(
        inputs, torch.tensor(bunch.target, dtype=torch.int64), 0.2, seed=0
    )
    mean, std = train.inputs.mean(0), train.inputs.std(0, correction=0)
    train, test = (
        Split((split.inputs - mean) / std, split.targets) for split in (train, test)
    )
    names, classes = tuple(map(str, bunch.feature_names)), tuple(map(str, bunch.target_names))
    return Dataset("breast_cancer", train, test, names, classes, _checksum(bunch.data))


def _jpeg(paths: list[Path]) -> tuple[list[images.Images], str]:
    return images.jpeg_folders(*paths), _checksum(paths)


def _cifar(
    name: str, read: Callable[[list[Path]], tuple[list[images.Images], str]]
) -> Callable[[list[Path]], Dataset]:
    def reader(paths: list[Path]) -> Dataset:
        parts, checksum = read(paths)
        train, test = (Split(pixels.float().div_(255), labels) for pixels, labels in parts)
        shape = tuple(train.inputs.shape[1:])
        names = tuple(
            f"{colour} row {i} column {j}"
            for colour in ("red", "green", "blue")
            for i in range(shape[1])
            for j in range(shape[2])
        )
        return Dataset(name, train, test, names, images.CLASSES, checksum, shape)

    return reader


def _checksum(source: list[Path] | np.ndarray) -> str:
    """sha256 of the files or of the array that a data set was read from."""
    digest = hashlib.sha256()
    for part in source if isinstance(source, list) else [source]:
        digest.update(
            part.read_bytes()
            if isinstance(part, Path)
            else np.ascontiguousarray(part).tobytes()
        )
    return digest.hexdigest()


READERS: dict[str, Callable[[list[Path]], Dataset]] = {
    "mnist": _mnist("mnist", tuple("0123456789")),
    "fashion_mnist": _mnist("fashion_mnist", FASHION),
    "income": _income,
    "digits": _digits,
    "breast_cancer": _breast_cancer,
    "cifar10": _cifar("cifar10", images.cifar10),
    "cifar10-jpeg": _cifar("cifar10-jpeg", _jpeg),
}


def load(name: str) -> Dataset:
    """Load a data set into memory.

    Parameters
    ----------
    name : "mnist" or "fashion_mnist" (784 pixels in [0, 1]), "income" (UCI Adult, 12
        standardised features, official split), "digits" (64 pixels in [0, 1]), "breast_cancer"
        (30 standardised features), "cifar10" (the canonical 3 × 32 × 32 pixels in [0, 1], read
        by torchvision), or "cifar10-jpeg" (the same images, labels and split after lossy JPEG
        compression: results on it are not results on CIFAR-10).

    Standardisation uses the training split's mean and standard deviation. Splits are the
    official ones; scikit-learn's sets are split 80 : 20, stratified, always the same way.

    Raises
    ------
    ValueError : an unknown name.
    DataError : a file that is missing and cannot be downloaded, or is altered; says what to
        do.
    """
    if name not in READERS:
        raise ValueError(f"name: got {name!r}, needs one of {sorted(READERS)}")
    return READERS[name](fetch(name))
