import hashlib
import lzma
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas
import pooch
import pytest
import sklearn.datasets
import torch

from pruning import cli
from pruning.data import datasets


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """No cache, no mirror, no network; the registry has one small set."""
    content = b"thirteen bytes"
    source = tmp_path / "source.bin"
    source.write_bytes(content)
    entry = {
        "path": "set/file.bin",
        "size": len(content),
        "md5": pooch.file_hash(str(source), alg="md5"),
        "url": "https://nowhere.invalid/file.bin",
    }
    monkeypatch.setattr(
        datasets,
        "registry",
        lambda: {"toy": {"title": "toy", "licence": "none", "files": [entry]}},
    )
    monkeypatch.setenv("PRUNING_DATA", str(tmp_path / "cache"))
    monkeypatch.delenv("PRUNING_DATA_MIRROR", raising=False)
    return tmp_path, source, entry


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_cache_comes_before_mirror_before_download(empty, monkeypatch):
    folder, source, entry = empty
    mirror = folder / "mirror"
    (mirror / "set").mkdir(parents=True)
    shutil.copy(source, mirror / entry["path"])
    monkeypatch.setenv("PRUNING_DATA_MIRROR", str(mirror))
    assert datasets.fetch("toy") == [mirror / entry["path"]]
    (folder / "cache" / "set").mkdir(parents=True)
    shutil.copy(source, folder / "cache" / entry["path"])
    assert datasets.fetch("toy") == [folder / "cache" / entry["path"]]


def test_download_goes_into_the_cache_and_is_verified(empty, monkeypatch):
    folder, source, entry = empty
    entry["url"] = source.as_uri().replace(
        "file://", "http://127.0.0.1:9"
    )  # nobody listens there

    def serve(url, output_file, pooch_object):
        shutil.copy(source, output_file)

    monkeypatch.setattr(pooch.core, "choose_downloader", lambda url, progressbar=False: serve)
    path = datasets.fetch("toy")[0]
    assert path == folder / "cache" / entry["path"]
    assert path.read_bytes() == source.read_bytes()
    path.unlink()
    source.write_bytes(b"something else")
    with pytest.raises(datasets.DataError, match=r"download failed \(another checksum\)"):
        datasets.fetch("toy")
    assert not files_below(folder / "cache"), "a half-written or wrong file stays behind"


@pytest.mark.parametrize("content", [b"thirteen", b"thirteen bytez", b""])
@pytest.mark.parametrize("place", ["cache", "mirror"])
def test_truncated_or_altered_file(empty, monkeypatch, content, place):
    folder, _, entry = empty
    path = folder / place / entry["path"]
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    if place == "mirror":
        monkeypatch.setenv("PRUNING_DATA_MIRROR", str(folder / "mirror"))
    with pytest.raises(datasets.DataError, match="truncated or altered") as caught:
        datasets.fetch("toy")
    assert str(path) in str(caught.value)
    assert entry["md5"] in str(caught.value)


def test_a_bad_file_in_the_cache_hides_no_good_one_in_the_mirror(empty, monkeypatch):
    folder, source, entry = empty
    for place in ("cache", "mirror"):
        (folder / place / "set").mkdir(parents=True)
        shutil.copy(source, folder / place / entry["path"])
    monkeypatch.setenv("PRUNING_DATA_MIRROR", str(folder / "mirror"))
    (folder / "cache" / entry["path"]).write_bytes(b"something else")
    assert datasets.fetch("toy") == [folder / "mirror" / entry["path"]]
    (folder / "mirror" / entry["path"]).write_bytes(b"bad as well")
    with pytest.raises(datasets.DataError, match="truncated or altered"):
        datasets.fetch("toy")


def test_what_is_compressed_in_the_mirror_is_unpacked_into_the_cache_once(empty, monkeypatch):
    folder, source, entry = empty
    packed = folder / "mirror" / f"{entry['path']}.xz"
    packed.parent.mkdir(parents=True)
    packed.write_bytes(lzma.compress(source.read_bytes()))
    monkeypatch.setenv("PRUNING_DATA_MIRROR", str(folder / "mirror"))
    plain = folder / "cache" / entry["path"]
    assert datasets.unpacked({"unpacked": [entry]}) == [packed]
    assert not plain.exists(), "to look writes nothing"
    for _ in range(2):
        assert datasets.unpacked({"unpacked": [entry]}, unpack=True) == [plain]
        assert [path.name for path in plain.parent.iterdir()] == [plain.name]
        assert plain.read_bytes() == source.read_bytes()
    # another file of that name stays, and so does a folder that cannot be written
    plain.write_bytes(b"something else")
    assert datasets.unpacked({"unpacked": [entry]}, unpack=True) == [packed]
    assert plain.read_bytes() == b"something else"
    shutil.rmtree(plain.parent)
    plain.parent.write_bytes(b"a file where the folder would be")
    assert datasets.unpacked({"unpacked": [entry]}, unpack=True) == [packed]


def test_an_altered_file_in_place_of_an_archive_does_not_hide_the_archive(empty, monkeypatch):
    folder, source, archive = empty
    part = archive | {"path": "set/part"}
    known = {"toy": {"files": [archive], "unpacked": [part]}}
    monkeypatch.setattr(datasets, "registry", lambda: known)
    (folder / "cache" / "set").mkdir(parents=True)
    (folder / "cache" / part["path"]).write_bytes(b"cut off")
    monkeypatch.setenv("PRUNING_DATA_MIRROR", str(folder / "mirror"))
    (folder / "mirror" / "set").mkdir(parents=True)
    with pytest.raises(datasets.DataError, match=r"part.*truncated or altered"):
        datasets.fetch("toy")  # nothing else is there
    shutil.copy(source, folder / "mirror" / archive["path"])
    assert datasets.fetch("toy") == [folder / "mirror" / archive["path"]]


def test_a_file_that_has_the_registered_md5_alone_is_refused(empty):
    folder, source, entry = empty
    entry["sha256"] = hashlib.sha256(b"another file").hexdigest()
    (folder / "cache" / "set").mkdir(parents=True)
    shutil.copy(source, folder / "cache" / entry["path"])
    with pytest.raises(datasets.DataError, match="needs 14 bytes and sha256"):
        datasets.fetch("toy")


def test_every_registered_file_has_a_sha256():
    for name, data in datasets.registry().items():
        for file in [*data["files"], *data.get("unpacked", [])]:
            assert re.fullmatch("[0-9a-f]{64}", file["sha256"]), (name, file["path"])


def test_a_file_is_verified_once_and_again_when_it_has_changed(empty, monkeypatch):
    folder, source, entry = empty
    path = folder / "cache" / entry["path"]
    path.parent.mkdir(parents=True)
    shutil.copy(source, path)
    os.utime(path, (1e9, 1e9))
    assert datasets.fetch("toy") == [path]
    read = []
    real = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path) or real(path))
    assert datasets.fetch("toy") == [path]
    assert read == []
    path.write_bytes(b"thirteen bytez")  # as long as before
    with pytest.raises(datasets.DataError, match="truncated or altered"):
        datasets.fetch("toy")
    shutil.copy(source, path)
    os.utime(path, (1e9, 1e9))
    entry["sha256"] = hashlib.sha256(b"another file").hexdigest()
    with pytest.raises(datasets.DataError, match="needs 14 bytes and sha256"):
        datasets.fetch("toy")


def test_no_network_says_what_to_get_and_where_to_put_it(empty):
    folder, _, entry = empty
    entry["url"] = "http://127.0.0.1:9/file.bin"
    with pytest.raises(datasets.DataError) as caught:
        datasets.fetch("toy")
    assert entry["url"] in str(caught.value)
    assert str(folder / "cache" / entry["path"]) in str(caught.value)
    assert not files_below(folder / "cache")


def test_missing_mirror_folder(empty, monkeypatch):
    monkeypatch.setenv("PRUNING_DATA_MIRROR", "/no/such/folder")
    with pytest.raises(datasets.DataError, match="PRUNING_DATA_MIRROR: got '/no/such/folder'"):
        datasets.fetch("toy")


def test_unknown_name():
    with pytest.raises(ValueError, match=r"name: got 'mnits', needs one of \['breast_cancer'"):
        datasets.load("mnits")


def test_status_and_the_command(empty, monkeypatch, capsys):
    folder, source, entry = empty
    assert datasets.status()["where"].tolist() == ["missing"]
    assert cli.main(["data"]) == 0
    said = capsys.readouterr().out
    assert entry["url"] in said
    assert str(folder / "cache" / entry["path"]) in said
    path = folder / "cache" / entry["path"]
    path.parent.mkdir(parents=True)
    shutil.copy(source, path)
    assert datasets.status()["where"].tolist() == ["cache"]
    path.write_bytes(b"other")
    assert datasets.status()["where"].tolist() == ["altered"]
    assert cli.main(["data"]) == 1
    assert "altered" in capsys.readouterr().out
    monkeypatch.setenv("PRUNING_DATA_MIRROR", "/no/such/folder")
    path.unlink()
    assert cli.main(["data"]) == 1


def test_registry_agrees_with_what_is_loaded(digits):
    for name in ("digits", "breast_cancer"):
        data, entry = datasets.load(name), datasets.registry()[name]
        assert data.train.inputs.shape[1] == entry["features"] == len(data.feature_names)
        assert len(data.class_names) == entry["classes"] == len(data.train.targets.unique())
    assert digits.train.inputs.dtype == torch.float32
    assert digits.train.targets.dtype == torch.int64


def test_digits_are_those_of_scikit_learn(digits):
    ours = torch.cat([digits.train.inputs, digits.test.inputs]) * 16
    theirs = torch.tensor(sklearn.datasets.load_digits().data, dtype=torch.float32)
    assert (len(digits.train), len(digits.test)) == (1437, 360)
    assert sorted(map(tuple, ours.tolist())) == sorted(map(tuple, theirs.tolist()))
    assert torch.equal(datasets.load("digits").test.inputs, digits.test.inputs)


def test_breast_cancer_is_standardised_by_its_training_split():
    data = datasets.load("breast_cancer")
    assert data.train.inputs.mean(0).abs().max() < 1e-5
    assert torch.allclose(data.train.inputs.std(0, correction=0), torch.ones(30), atol=1e-5)
    assert data.test.inputs.mean(0).abs().max() > 1e-3  # not by the test split's own


def test_validation_split_holds_no_test_sample_and_is_stratified(digits):
    split = digits.validation(0.25, seed=1)
    rows = {tuple(row) for row in digits.test.inputs.tolist()}
    assert not any(tuple(row) in rows for row in split.test.inputs.tolist())
    assert len(split.train) + len(split.test) == len(digits.train)
    share = torch.bincount(split.test.targets) / torch.bincount(digits.train.targets)
    assert ((share > 0.22) & (share < 0.28)).all()
    with pytest.raises(ValueError, match=r"fraction: got 1\.5"):
        digits.validation(1.5)


def test_mnist(mnist):
    assert mnist.train.inputs.shape == (60_000, 784)
    assert mnist.test.inputs.shape == (10_000, 784)
    assert mnist.image_shape == (28, 28)
    # published: mean 0.1307 and standard deviation 0.3081 of the training pixels, first
    # labels, class counts
    assert mnist.train.inputs.mean().item() == pytest.approx(0.1307, abs=5e-5)
    assert mnist.train.inputs.std().item() == pytest.approx(0.3081, abs=5e-5)
    assert mnist.train.targets[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert torch.bincount(mnist.test.targets).tolist() == [
        980,
        1135,
        1032,
        1010,
        982,
        892,
        958,
        1028,
        974,
        1009,
    ]
    assert mnist.feature_names[29] == "row 1 column 1"


def test_income_is_coded_as_in_shap(income, monkeypatch):
    import shap  # slow to import

    paths = datasets.fetch("income")
    monkeypatch.setattr(shap.datasets, "cache", lambda url, file_name=None: str(paths[0]))
    theirs, target = shap.datasets.adult()
    (train, test), targets = datasets.read_income(paths)
    assert list(train.columns) == list(theirs.columns) == list(income.feature_names)
    pandas.testing.assert_frame_equal(
        train.astype("float64"), theirs.astype("float64"), check_index_type=False
    )
    assert np.array_equal(targets[0].numpy(), target.astype(int))
    assert (len(train), len(test)) == (32_561, 16_281)
    assert targets[1].sum() == 3_846  # adult.names: 23.62 % of the test file


def test_income_keeps_missing_values_as_a_category_of_their_own(income):
    (train, test), _ = datasets.read_income(datasets.fetch("income"))
    assert [(train[c] == 0).sum() for c in ("Workclass", "Occupation", "Country")] == [
        1836,
        1843,
        583,
    ]
    assert train.notna().all().all()
    assert test.notna().all().all()
    assert income.train.inputs.mean(0).abs().max() < 1e-4
    assert torch.allclose(income.train.inputs.std(0, correction=0), torch.ones(12), atol=1e-4)


CUT_OFF = """
import os, shutil, signal, sys
import pooch
from pruning.data import datasets

entry = {"path": "set/file.bin", "size": 14, "md5": sys.argv[1], "url": "https://x.invalid/f"}
datasets.registry = lambda: {"toy": {"files": [entry]}}


def serve(url, output_file, pooch_object):
    with open(output_file, "wb") as file:
        file.write(b"thirteen")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)


pooch.core.choose_downloader = lambda url, progressbar=False: serve
datasets.fetch("toy")
"""


def test_a_download_that_is_killed_leaves_nothing_that_is_taken_for_a_file(empty, monkeypatch):
    folder, source, entry = empty
    done = subprocess.run([sys.executable, "-c", CUT_OFF, entry["md5"]], check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = files_below(folder / "cache")
    assert left.read_bytes() == b"thirteen", "it was killed in the middle"
    assert left.name != "file.bin"
    assert datasets.locate(entry) is None
    assert datasets.status()["where"].tolist() == ["missing"]
    serve = lambda url, output_file, pooch_object: shutil.copy(source, output_file)  # noqa: E731
    monkeypatch.setattr(pooch.core, "choose_downloader", lambda url, progressbar=False: serve)
    assert [path.read_bytes() for path in datasets.fetch("toy")] == [b"thirteen bytes"]
