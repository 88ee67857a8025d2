import collections
import io
import lzma
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from pruning.data import datasets, images


def test_crop_and_flip_gives_a_crop_of_the_padded_image_or_its_mirror_image():
    batch = torch.rand(300, 2, 5, 6)
    out = images.crop_and_flip(batch, padding=2, generator=torch.Generator().manual_seed(0))
    assert out.shape == batch.shape
    padded = torch.nn.functional.pad(batch, (2, 2, 2, 2))
    seen = torch.zeros(5, 5, 2)
    for image, found in zip(padded, out, strict=True):
        hits = [
            (y, x, mirrored)
            for y in range(5)
            for x in range(5)
            for mirrored, crop in enumerate(
                (image[:, y : y + 5, x : x + 6], image[:, y : y + 5, x : x + 6].flip(2))
            )
            if torch.equal(crop, found)
        ]
        assert len(hits) == 1
        seen[hits[0]] += 1
    assert (seen.sum(2) > 0).all(), "every shift occurs"
    assert 0.4 < seen[..., 1].sum() / 300 < 0.6, "half of the images are mirrored"


def test_crop_and_flip_depends_on_its_generator_alone():
    batch = torch.rand(20, 3, 8, 8)
    first, again = (
        images.crop_and_flip(batch, generator=torch.Generator().manual_seed(1))
        for _ in range(2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(
        first, images.crop_and_flip(batch, generator=torch.Generator().manual_seed(2))
    )


def add(tar, name, content):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def jpeg(colour):
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), colour).save(buffer, "JPEG", quality=75)
    return buffer.getvalue()


def test_jpeg_folders(tmp_path):
    path = tmp_path / "set.tar.xz"
    with tarfile.open(path, "w:xz") as tar:  # not in the order of names
        add(tar, "train/cat/0001.jpg", jpeg((0, 0, 250)))
        add(tar, "train/airplane/0000.jpg", jpeg((250, 0, 0)))
        add(tar, "test/truck/0000.jpg", jpeg((0, 250, 0)))
        add(tar, "train/cat/0000.jpg", jpeg((250, 250, 250)))
    (pixels, labels), (held_out, truck) = images.jpeg_folders(path)
    assert pixels.shape == (3, 3, 32, 32)
    assert pixels.dtype == torch.uint8
    assert labels.tolist() == [0, 3, 3]
    expected = torch.tensor([[250, 0, 0], [250, 250, 250], [0, 0, 250]])
    assert (pixels[:, :, 16, 16] - expected).abs().max() <= 5  # lossy
    assert truck.tolist() == [9]
    assert held_out[0, 1].min() > 240


@pytest.mark.parametrize("name", ["train/zebra/0000.jpg", "validation/cat/0000.jpg"])
def test_jpeg_folders_refuses_what_is_no_class(tmp_path, name):
    path = tmp_path / "set.tar"
    with tarfile.open(path, "w") as tar:
        add(tar, name, jpeg((0, 0, 0)))
    with pytest.raises(ValueError, match=name):
        images.jpeg_folders(path)


def encoded(kind, size=(32, 32)):
    buffer = io.BytesIO()
    Image.new("RGB", size).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (encoded("PNG"), "is not a JPEG image"),
        (encoded("EPS"), "is not a JPEG image"),
        (b"", "is not a JPEG image"),
        (encoded("JPEG", (32, 31)), r"needs the size of the first image, \(32, 32\)"),
        (jpeg((9, 9, 9))[:-200], "[Tt]runcated"),
    ],
)
def test_only_whole_jpeg_images_of_one_size_are_decoded(tmp_path, content, words):
    path = tmp_path / "set.tar"
    with tarfile.open(path, "w") as tar:
        add(tar, "test/cat/0000.jpg", jpeg((0, 0, 0)))
        add(tar, "train/cat/0001.jpg", content)
    with pytest.raises(ValueError, match=f"train/cat/0001.jpg: (?:.*)({words})"):
        images.jpeg_folders(path)


def test_a_huge_image_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    path = tmp_path / "set.tar"
    with tarfile.open(path, "w") as tar:
        add(tar, "train/cat/0000.jpg", encoded("JPEG", (1, 5000)))
    monkeypatch.setattr(Image.Image, "convert", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(ValueError, match=r"0000.jpg: has \(1, 5000\) pixels"):
        images.jpeg_folders(path)


@pytest.mark.parametrize("kind", [tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.FIFOTYPE])
def test_a_member_that_is_no_file_is_named(tmp_path, kind):
    path = tmp_path / "set.tar"
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo("train/cat/0000.jpg")
        info.type = kind
        tar.addfile(info)
    with pytest.raises(ValueError, match=r"train/cat/0000.jpg, which is not a file"):
        images.jpeg_folders(path)


@pytest.mark.parametrize("name", ["0000.jpg", "cat/0000.jpg"])
def test_an_image_at_the_top_is_named(tmp_path, name):
    path = tmp_path / "set.tar"
    with tarfile.open(path, "w") as tar:
        add(tar, name, jpeg((0, 0, 0)))
    with pytest.raises(ValueError, match=f"has {name}, needs train/ and test/"):
        images.jpeg_folders(path)


@pytest.mark.parametrize(("there", "absent"), [("train", "test"), ("test", "train")])
def test_both_splits_are_needed(tmp_path, there, absent):
    path = tmp_path / "set.tar"
    with tarfile.open(path, "w") as tar:
        add(tar, f"{there}/cat/0000.jpg", jpeg((0, 0, 0)))
    with pytest.raises(ValueError, match=f"has no image in {absent}/"):
        images.jpeg_folders(path)


@pytest.fixture
def canonical(tmp_path, monkeypatch):
    """A small archive in the layout of the canonical one, with torchvision's checksums set to
    its own."""
    path, rng = tmp_path / "cifar-10-python.tar.gz", np.random.default_rng(0)
    cifar, contents = torchvision.datasets.CIFAR10, {}
    names = [name for name, _ in (*cifar.train_list, *cifar.test_list)]
    for name in names:
        data = rng.integers(0, 256, (4, 3072), dtype=np.uint8)
        contents[name] = {"data": data, "labels": rng.integers(0, 10, 4).tolist()}
    files = {name: pickle.dumps(value) for name, value in contents.items()}
    files["batches.meta"] = pickle.dumps({"label_names": list(images.CLASSES)})
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            add(tar, f"cifar-10-batches-py/{name}", content)

    def md5(content):
        return datasets.hashlib.md5(content, usedforsecurity=False).hexdigest()

    sums = {name: md5(content) for name, content in files.items()}
    monkeypatch.setattr(cifar, "tgz_md5", md5(path.read_bytes()))
    for part in ("train_list", "test_list"):
        monkeypatch.setattr(
            cifar, part, [[name, sums[name]] for name, _ in getattr(cifar, part)]
        )
    monkeypatch.setattr(cifar, "meta", cifar.meta | {"md5": sums["batches.meta"]})
    return path, contents


def test_cifar10_through_torchvision(canonical):
    path, contents = canonical
    (pixels, labels), (held_out, targets) = images.cifar10([path])[0]
    batches = [contents[f"data_batch_{k}"] for k in range(1, 6)]
    expected = np.concatenate([batch["data"] for batch in batches]).reshape(-1, 3, 32, 32)
    assert np.array_equal(pixels.numpy(), expected)
    assert labels.tolist() == [label for batch in batches for label in batch["labels"]]
    assert np.array_equal(
        held_out.numpy(), contents["test_batch"]["data"].reshape(-1, 3, 32, 32)
    )
    assert targets.tolist() == contents["test_batch"]["labels"]
    assert [file.name for file in path.parent.iterdir()] == [path.name], (
        "what was unpacked is gone"
    )


@pytest.mark.parametrize("compressed", [False, True])
def test_cifar10_from_its_own_folder_is_the_same_data_set(canonical, tmp_path, compressed):
    archive, _ = canonical
    with tarfile.open(archive) as tar:
        for member in filter(tarfile.TarInfo.isfile, tar):
            path = tmp_path / member.name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(tar.extractfile(member).read())
    paths = sorted((tmp_path / "cifar-10-batches-py").iterdir())
    if compressed:
        for path in paths:
            path.with_name(f"{path.name}.xz").write_bytes(lzma.compress(path.read_bytes()))
            path.unlink()
        paths = sorted((tmp_path / "cifar-10-batches-py").iterdir())
    (packed, checksum), (plain, same) = images.cifar10([archive]), images.cifar10(paths)
    assert checksum == same
    for ours, theirs in zip(packed, plain, strict=True):
        assert torch.equal(ours[0], theirs[0])
        assert torch.equal(ours[1], theirs[1])


def test_a_damaged_xz_file_is_named(tmp_path):
    path = tmp_path / "data_batch_1.xz"
    path.write_bytes(lzma.compress(b"pixels")[:-4])
    with pytest.raises(ValueError, match=r"data_batch_1\.xz: is not a whole xz file"):
        images.decompressed(path)


def test_load_gives_pixels_between_0_and_1_under_the_right_name(canonical, monkeypatch):
    path, contents = canonical
    monkeypatch.setattr(datasets, "fetch", lambda name: [path])
    data = datasets.load("cifar10")
    assert data.name == "cifar10"
    assert data.image_shape == (3, 32, 32)
    assert data.train.inputs.shape == (20, 3, 32, 32)
    assert data.test.inputs[2, 1, 0, 5] == pytest.approx(
        contents["test_batch"]["data"][2, 1024 + 5] / 255
    )
    assert data.feature_names[1024 + 5] == "green row 0 column 5"


def test_without_a_mirror_the_jpeg_copy_cannot_be_had(tmp_path, monkeypatch):
    monkeypatch.setenv("PRUNING_DATA", str(tmp_path))
    monkeypatch.delenv("PRUNING_DATA_MIRROR", raising=False)
    with pytest.raises(datasets.DataError, match="no public URL: set PRUNING_DATA_MIRROR"):
        datasets.load("cifar10-jpeg")


def test_the_real_jpeg_copy(need_real, tmp_path, monkeypatch):
    """All files by their names; of the images every tenth of a folder, since to decode all
    takes a quarter of a minute."""
    need_real("cifar10-jpeg")
    (path,) = datasets.fetch("cifar10-jpeg")
    part, found = tmp_path / "part.tar", collections.Counter()
    with tarfile.open(path) as whole, tarfile.open(part, "w") as some:
        for member in whole:
            if member.isfile():
                folder = Path(member.name).parent.as_posix()
                found[folder] += 1
                if found[folder] % 10 == 0:
                    some.addfile(member, whole.extractfile(member))
    assert found == {
        f"{split}/{name}": count
        for split, count in (("train", 5000), ("test", 1000))
        for name in images.CLASSES
    }
    monkeypatch.setattr(datasets, "fetch", lambda name: [part])
    data = datasets.load("cifar10-jpeg")
    assert data.train.targets.bincount().tolist() == [500] * 10
    assert data.test.targets.bincount().tolist() == [100] * 10
    # the mean of CIFAR-10's training pixels, by channel: of 5,000 images known to 0.002
    assert torch.allclose(
        data.train.inputs.mean((0, 2, 3)), torch.tensor([0.4914, 0.4822, 0.4465]), atol=5e-3
    )
    assert float(data.train.inputs.max()) == 1.0
    assert data.validation().test.inputs.shape[1:] == (3, 32, 32)


def test_the_real_cifar10(cifar10):
    data = cifar10
    assert data.train.targets.bincount().tolist() == [5000] * 10
    assert data.test.targets.bincount().tolist() == [1000] * 10
    # the published means of the training pixels, by channel
    published = torch.tensor([0.4914, 0.4822, 0.4465])
    assert torch.allclose(data.train.inputs.mean((0, 2, 3)), published, atol=1e-4)


def test_the_real_fashion_mnist(fashion_mnist):
    data = fashion_mnist
    assert data.train.targets.bincount().tolist() == [6000] * 10
    assert data.test.targets.bincount().tolist() == [1000] * 10
    # mean and deviation of the training pixels that are used to normalise them everywhere
    assert float(data.train.inputs.mean()) == pytest.approx(0.2860, abs=1e-4)
    assert float(data.train.inputs.std()) == pytest.approx(0.3530, abs=1e-4)
    assert data.class_names[:2] == ("T-shirt/top", "trouser")
