"""Callbacks of our loop in the real Lightning and the real Hugging Face Trainer."""

import copy
import logging
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import pruning
from pruning.methods.gates_training import Gating
from pruning.methods.gradual import Gradual
from pruning.methods.rewind import Rewinding
from pruning.networks.masks import mask_of
from pruning.training import Callback
from pruning.training.integrations import for_lightning, for_transformers

SAMPLES, BATCH, EPOCHS = 96, 8, 3
STEPS = EPOCHS * SAMPLES // BATCH


class Watch(Callback):
    """What an adapter calls, in order, and how many weights are kept then."""

    def __init__(self):
        self.calls, self.progress, self.kept = [], [], []

    def start(self, model):
        self.calls.append("start")

    def after_step(self, model, progress):
        self.calls.append("after_step")
        self.progress.append(progress)
        self.kept.append(kept(model))

    def finish(self, model):
        self.calls.append("finish")


def kept(model):
    return sum(int(mask.sum()) for mask in pruning.masks(model).values())


def net():
    return nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 3))


def data():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(SAMPLES, 12, generator=generator)
    return x, x[:, :3].argmax(1)


def fit_lightning(model, callbacks, accumulate=1):
    lightning = pytest.importorskip("lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = model

        def training_step(self, batch, index):
            x, y = batch
            return F.cross_entropy(self.net(x), y)

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=0.01)

    trainer = lightning.Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        callbacks=[for_lightning(each, "net") for each in callbacks],
        accumulate_grad_batches=accumulate,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice on workers
        trainer.fit(Module(), DataLoader(TensorDataset(*data()), BATCH))


@pytest.mark.parametrize(
    ("limits", "progress"),
    [
        ({"max_epochs": 2}, [k / 24 for k in range(24)]),
        ({"max_steps": 10}, [0, 0.2, 0.4, 0.6, 0.8]),
        ({"max_epochs": 2, "max_steps": 8}, [0, 0.25, 0.5, 0.75]),
    ],
)
def test_two_optimizers_by_hand_take_one_training(limits, progress):
    lightning = pytest.importorskip("lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Two(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False
            self.net, self.other = net(), net()

        def training_step(self, batch, index):
            x, y = batch
            for optimizer, part in zip(self.optimizers(), (self.net, self.other), strict=True):
                optimizer.zero_grad()
                self.manual_backward(F.cross_entropy(part(x), y))
                optimizer.step()

        def configure_optimizers(self):
            return [torch.optim.Adam(each.parameters()) for each in (self.net, self.other)]

    watch = Watch()
    trainer = lightning.Trainer(
        accelerator="cpu",
        callbacks=[for_lightning(watch, "net"), for_lightning(Gradual(30), "net")],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **limits,
    )
    module = Two()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice on workers
        trainer.fit(module, DataLoader(TensorDataset(*data()), BATCH))
    assert watch.progress == pytest.approx(progress)
    assert kept(module.net) == 30


class WithLoss(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.net = model

    def forward(self, x, labels):
        logits = self.net(x)
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}


def fit_transformers(model, callbacks, accumulate=1):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    arguments = transformers.TrainingArguments(
        output_dir="unused",
        num_train_epochs=EPOCHS,
        per_device_train_batch_size=BATCH,
        gradient_accumulation_steps=accumulate,
        learning_rate=0.01,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        logging_strategy="no",
        use_cpu=True,
    )
    samples = [{"x": x, "labels": y} for x, y in zip(*data(), strict=True)]
    trainer = transformers.Trainer(
        model=WithLoss(model),
        args=arguments,
        train_dataset=samples,
        callbacks=[for_transformers(each, "net") for each in callbacks],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.train()


FITS = [fit_lightning, fit_transformers]


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("fit", FITS)
def test_hooks_are_called_as_in_our_own_loop(fit, accumulate):
    watch = Watch()
    fit(net(), [watch], accumulate)
    steps = STEPS // accumulate
    assert watch.calls == ["start", *["after_step"] * steps, "finish"]
    assert watch.progress == pytest.approx([k / steps for k in range(steps)])


@pytest.mark.parametrize("fit", FITS)
def test_gradual_pruning_follows_its_schedule_and_removed_weights_stay_0(fit):
    model, watch = net(), Watch()
    fit(model, [Gradual(weights=60, begin=0.2, end=0.8, updates=5), watch])
    assert kept(model) == 60
    assert watch.kept == sorted(watch.kept, reverse=True)
    assert len(set(watch.kept)) == 6  # all, then after each of five updates
    assert watch.kept[STEPS // 5 - 1] == 300
    assert watch.kept[-1] == 60
    own = net()
    pruning.training.fit(
        own,
        *data(),
        epochs=EPOCHS,
        batch_size=BATCH,
        callbacks=[Gradual(weights=60, begin=0.2, end=0.8, updates=5), ours := Watch()],
    )
    assert watch.kept == ours.kept
    for layer in (model[0], model[2]):
        assert (layer.weight[~mask_of(layer)] == 0).all()
        assert (layer.weight[mask_of(layer)] != 0).all()
    pruning.finalize(model)
    assert list(model.state_dict()) == list(net().state_dict())


@pytest.mark.parametrize("fit", FITS)
def test_rewinding_takes_a_training_a_round(fit):
    model = net()
    start = copy.deepcopy(model.state_dict())
    rewinding = Rewinding(weights=60, rounds=2, early=0)
    for expected in (134, 60):  # 300 · (60 / 300)^½, then 60
        fit(model, [rewinding])
        assert kept(model) == pytest.approx(expected, abs=1)
        for layer, key in ((model[0], "0.weight"), (model[2], "2.weight")):
            assert torch.equal(layer.weight, start[key] * mask_of(layer))


@pytest.mark.parametrize("adapter", [for_lightning, for_transformers])
def test_what_cannot_work_from_outside_is_refused(adapter):
    with pytest.raises(ValueError, match="Gating has a penalty"):
        adapter(Gating(None, 0.1))
    with pytest.raises(TypeError, match="callback: got a int"):
        adapter(3)


def test_lightning_checkpoints_hold_what_a_callback_remembers():
    callback = Gradual(weights=60)
    callback.start(net())
    callback.pruning.done = 7
    state = for_lightning(callback).state_dict()
    other = Gradual(weights=60)
    other.start(net())
    for_lightning(other).load_state_dict(state)
    assert other.pruning.done == 7
