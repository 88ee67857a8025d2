import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from pruning import training
from pruning.chapters.resnet_pruning.experiment import Averaged
from pruning.data import images
from pruning.methods import rewiring
from pruning.methods.stochgrad import StochGradAdam
from pruning.networks import models
from pruning.training.checkpoints import Checkpoint, CheckpointError

ROOT = Path(__file__).resolve().parents[2]
EPOCHS = 3
_random = torch.Generator().manual_seed(0)
DATA = (
    torch.rand(56, 1, 8, 8, generator=_random),
    torch.randint(0, 10, (56,), generator=_random),
)


def resnet():
    torch.manual_seed(1)
    return models.cifar_resnet(8, "projection", channels=1).to(
        memory_format=torch.channels_last
    )


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


class CrashError(RuntimeError):
    pass


def checkpointed(path):
    """What a checkpoint tells beside its tensors."""
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["state"])


class CrashAt(training.Callback):
    def __init__(self, step):
        self.left = step

    def after_step(self, model, progress):
        self.left -= 1
        if not self.left:
            raise CrashError


OPTIMIZERS = {
    "adam": lambda model: torch.optim.Adam(model.parameters(), fused=True),
    "amsgrad": lambda model: torch.optim.AdamW(model.parameters(), amsgrad=True),
    "sgd": lambda model: torch.optim.SGD(
        model.parameters(), lr=0.01, momentum=0.9, nesterov=True
    ),
    "stochgradadam, own generator": lambda model: StochGradAdam(
        model.parameters(), generator=torch.Generator().manual_seed(5)
    ),
    "stochgradadam": lambda model: StochGradAdam(model.parameters(), betas=(0.81, 0.99)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("step", [1, 4, 6, 11])  # of 12: within epochs, at the end of one
def test_a_training_goes_on_bit_by_bit(tmp_path, name, step):
    def fit(*callbacks, checkpoint=None):
        model = resnet()
        history = training.fit(
            model,
            *DATA,
            epochs=EPOCHS,
            batch_size=16,
            seed=3,
            optimizer=OPTIMIZERS[name],
            schedule=lambda done: 1 - done,
            callbacks=[Averaged(0.9), *callbacks],
            augment=images.crop_and_flip,
            checkpoint=checkpoint,
        )
        return state(model), history

    whole, history = fit()
    path = tmp_path / "run.safetensors"
    with pytest.raises(CrashError):
        fit(CrashAt(step), checkpoint=Checkpoint(path, every=0))
    first = Checkpoint(path)
    found, told = fit(training.Callback(), checkpoint=first)
    same(whole, found)
    assert told == history
    assert first.seconds > 0
    again, told = fit(
        training.Callback(), checkpoint=Checkpoint(path)
    )  # it was finished: nothing is trained
    same(whole, again)
    assert told == history
    assert [file.name for file in tmp_path.iterdir()] == ["run.safetensors"]


def test_seconds_count_on_from_those_of_the_pieces_before(tmp_path):
    path = tmp_path / "run.safetensors"
    first = Checkpoint(path, every=0)
    first.seconds = 3600.0
    training.fit(resnet(), *DATA, epochs=1, batch_size=16, checkpoint=first)
    second = Checkpoint(path, every=0)
    model = resnet()
    optimizer = torch.optim.Adam(model.parameters())
    settings = checkpointed(path)["settings"]
    progress = second.load(model, optimizer, [], settings)
    assert second.seconds == first.seconds > 3600
    second.save(model, optimizer, [], progress, settings)
    assert checkpointed(path)["seconds"] == second.seconds > first.seconds


def test_a_checkpoint_is_on_the_disk_before_it_takes_the_place_of_the_last(
    tmp_path, monkeypatch
):
    path, synced = tmp_path / "run.safetensors", []
    monkeypatch.setattr(
        os, "fsync", lambda file: synced.append((os.fstat(file).st_ino, path.exists()))
    )
    training.fit(resnet(), *DATA, epochs=1, batch_size=16, checkpoint=Checkpoint(path))
    assert synced == [(path.stat().st_ino, False)]


def test_a_killed_process_loses_nothing_but_time(tmp_path):
    path = tmp_path / "run.safetensors"
    command = [sys.executable, "-m", "tests.training.killed_training", str(path), "7"]
    killed = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert len(checkpointed(path)["history"]) == 1, "it was killed in the second epoch"
    results = []
    for checkpoint in (Checkpoint(path), None):
        model = resnet()
        training.fit(
            model,
            *DATA,
            epochs=EPOCHS,
            batch_size=16,
            seed=3,
            checkpoint=checkpoint,
            optimizer=lambda m: StochGradAdam(m.parameters()),
            callbacks=[Averaged(0.9), training.Callback()],
            augment=images.crop_and_flip,
        )
        results.append(state(model))
    same(*results)


def test_rewiring_goes_on_bit_by_bit(tmp_path):
    x, y = torch.randn(64, 12), torch.arange(64) % 3

    def fit(method, *callbacks, checkpoint=None):
        torch.manual_seed(1)
        model = models.mlp((12, 16, 3))
        training.fit(
            model,
            x,
            y,
            epochs=4,
            batch_size=16,
            callbacks=[method, *callbacks],
            checkpoint=checkpoint,
        )
        return state(model)

    for k, make in enumerate(
        (lambda: rewiring.SET(0.3, 3), lambda: rewiring.DeepR(0.3, lambda p: 0.01, 1.0))
    ):
        path = tmp_path / f"{k}.safetensors"
        with pytest.raises(CrashError):
            fit(make(), CrashAt(11), checkpoint=Checkpoint(path, every=0))
        same(fit(make()), fit(make(), training.Callback(), checkpoint=Checkpoint(path)))


class Spoil(training.Callback):
    """The loss becomes NaN from a step on."""

    def __init__(self, step):
        self.left = step

    def penalty(self, model, progress):
        self.left -= 1
        return torch.tensor(float("nan")) if self.left < 0 else None


@pytest.mark.parametrize("step", [2, 5, 9])
def test_a_loss_that_is_not_finite_leaves_the_last_good_checkpoint(tmp_path, step):
    path = tmp_path / "run.safetensors"
    with pytest.raises(
        training.TrainingError, match=r"epoch \d of 3; lower the learning rate"
    ):
        training.fit(
            resnet(),
            *DATA,
            epochs=3,
            batch_size=16,
            callbacks=[Spoil(step)],
            checkpoint=Checkpoint(path, 0),
        )
    with safe_open(path, framework="pt") as file:
        assert all(file.get_tensor(name).isfinite().all() for name in file.keys())  # noqa: SIM118
        told = json.loads(file.metadata()["state"])
        within = told["taken"] if "order" in file.keys() else 0  # noqa: SIM118
    assert 4 * len(told["history"]) + within == step


def test_another_trainings_checkpoint_is_refused(tmp_path):
    path = tmp_path / "run.safetensors"
    training.fit(resnet(), *DATA, epochs=1, batch_size=16, checkpoint=Checkpoint(path))
    with pytest.raises(CheckpointError, match=r"belongs to a training with .*'epochs': 1"):
        training.fit(resnet(), *DATA, epochs=2, batch_size=16, checkpoint=Checkpoint(path))


@pytest.mark.parametrize("content", [b"", b"not safetensors at all", b"\x02\0\0\0\0\0\0\0{}"])
def test_a_damaged_checkpoint_is_named(tmp_path, content):
    path = tmp_path / "run.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"run\.safetensors: not a checkpoint"):
        training.fit(resnet(), *DATA, epochs=1, batch_size=16, checkpoint=Checkpoint(path))


def test_it_is_written_when_due_and_at_the_end(tmp_path):
    path, seen = tmp_path / "deep" / "run.safetensors", []

    class Look(training.Callback):
        def after_step(self, model, progress):
            seen.append(path.is_file())

    checkpoint = Checkpoint(path, every=3600)
    training.fit(
        resnet(), *DATA, epochs=1, batch_size=16, callbacks=[Look()], checkpoint=checkpoint
    )
    assert not any(seen)
    assert path.is_file()
    checkpoint.remove()
    checkpoint.remove()
    assert not path.exists()


def test_a_checkpoint_without_the_signs_of_deepr_is_refused(tmp_path):
    x, y = torch.randn(32, 12), torch.arange(32) % 3

    def fit(method):
        training.fit(
            models.mlp((12, 16, 3)),
            x,
            y,
            epochs=1,
            batch_size=16,
            callbacks=[method],
            checkpoint=Checkpoint(tmp_path / "run.safetensors"),
        )

    class Before(rewiring.DeepR):
        def state(self):
            return {}

    fit(Before(0.3, lambda p: 0.01))
    with pytest.raises(
        CheckpointError, match=r"run\.safetensors: state: has no signs .*delete"
    ):
        fit(rewiring.DeepR(0.3, lambda p: 0.01))
