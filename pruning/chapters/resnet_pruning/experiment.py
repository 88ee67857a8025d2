"""Do ResNets trained on sampled gradients survive magnitude pruning? (arXiv:2312.16020)

A network is trained once and pruned in one shot at every rate, without retraining. All rates
of a network are one record, and so is its course: after every epoch, the accuracy before and
after half of the weights are removed. The methods differ in the optimizer or in one number;
VARIANTS says in which one.
"""

import copy
import hashlib
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from pruning import training
from pruning.bounds import Amount, Count, Decay, Part, Positive, Rate
from pruning.chapters.resnet_pruning import overhead
from pruning.chapters.resnet_pruning.metrics import Metrics, named
from pruning.chapters.resnet_pruning.overhead import Overhead
from pruning.data import datasets, images
from pruning.evidence.configs import choose, settle
from pruning.evidence.records import Record
from pruning.evidence.runs import device_name
from pruning.methods import scores
from pruning.methods.stochgrad import StochGradAdam
from pruning.networks import models, small
from pruning.networks.layers import weights
from pruning.training.checkpoints import Checkpoint

OPTIMIZERS = ("adam", "adamw", "sgd", "stochgradadam")
SCHEDULES, SHORTCUTS = ("constant", "cosine"), ("projection", "identity")
# a study "… sampling" has other sampling rates; "cpu" is an earlier recipe, which is on record
STUDIES = tuple(
    name + more
    for name in ("paper", "modern", "short", "quick", "cpu")
    for more in ("", " sampling")
)
DATASETS = ("cifar10", "cifar10-jpeg", "mnist", "fashion_mnist", "digits")  # images

RATES = tuple(k / 10 for k in range(10))
HALF = RATES.index(0.5)
# the author's networks by the name they have in the paper; his ResNet-152 has 186 layers
BLOCKS = {20: (3, 3, 3), 56: (9, 9, 9), 110: (18, 18, 18), 152: (18, 37, 37)}
PRECISIONS = {"float32": None, "bf16": torch.bfloat16}
SMALL = 0.01  # weights below it are counted
BINS = (-2.5, 2.5, 250)  # of the histograms: from, to, how many
RECALIBRATION = 5000  # training images that batch norm sees anew after pruning
# The course is measured on every second test image, with batch norm from fewer images, in
# small batches that stay in the cache: so it costs less than a tenth of an epoch.
COURSE_STEP, COURSE_RECALIBRATION, COURSE_BATCH = 2, 2500, 250
# what a method changes in the config; β₁ = 0.81, ε = 1e-7 is what the author's public code
# amounts to
VARIANTS: dict[str, dict[str, Any]] = {
    "adam": {},
    "stochgradadam": {"optimizer": "stochgradadam", "sampling_rate": 0.8},
    "stochgradadam, author's β₁": {
        "optimizer": "stochgradadam",
        "sampling_rate": 0.8,
        "betas": (0.81, 0.999),
        "eps": 1e-7,
    },
    "adam, author's β₁": {"betas": (0.81, 0.999), "eps": 1e-7},
    "adam, 0.894 of the rate": {"rate_factor": math.sqrt(0.8)},
    "adam, 0.8 of the batch": {"batch_factor": 0.8},
    "adamw": {"optimizer": "adamw", "lr": 1e-3, "weight_decay": 5e-2},
    "sgd": {"optimizer": "sgd", "lr": 0.1, "weight_decay": 5e-4},
    "adam, averaged": {"averaging": 0.999},
}


@dataclass(frozen=True)
class Config:
    """One network. The defaults are the author's recipe."""

    metrics: ClassVar[type] = Metrics

    dataset: str = "cifar10"
    depth: Positive = 56
    shortcut: str = "projection"
    method: str = "adam"
    optimizer: str = "adam"
    lr: Rate = 1e-2
    rate_factor: Rate = 1.0  # on lr
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    eps: Amount = 1e-8
    weight_decay: Amount = 0.0
    sampling_rate: Part = 1.0
    averaging: Decay = 0.0  # decay of the running average of the weights, 0 for none
    epochs: Positive = 50
    batch_size: Positive = 256
    batch_factor: Rate = 1.0  # on batch_size
    schedule: str = "constant"  # or "cosine", down to 0
    augment: bool = False  # crop and flip
    precision: str = "bf16"
    seed: Count = 0
    study: str = "paper"  # one of STUDIES
    architecture: str = "resnet"  # others: the chapter stochgrad_elsewhere

    def __post_init__(self):
        settle(self, dataset=DATASETS, method=VARIANTS, optimizer=OPTIMIZERS, study=STUDIES)
        choose(self, architecture=("resnet",))
        choose(self, schedule=SCHEDULES, precision=PRECISIONS, shortcut=SHORTCUTS)


def variant(method: str, base: Config, **changes: Any) -> Config:
    """A method of VARIANTS, all else as in `base`. Raises ValueError for an unknown name."""
    if method not in VARIANTS:
        raise ValueError(f"method: got {method!r}, needs one of {sorted(VARIANTS)}")
    return replace(base, method=method, **(VARIANTS[method] | changes))


class Averaged(training.Callback):
    """The exponential moving average of weights and statistics takes their place at the
    end."""

    def __init__(self, decay: float):
        self.decay = decay

    def start(self, model):
        self.average = AveragedModel(
            model, multi_avg_fn=get_ema_multi_avg_fn(self.decay), use_buffers=True
        )

    def after_step(self, model, progress):
        self.average.update_parameters(model)

    def finish(self, model):
        model.load_state_dict(self.average.module.state_dict())

    def state(self):
        return self.average.state_dict()

    def load(self, state):
        self.average.load_state_dict(state)


class Course(training.Callback):
    """After every epoch: accuracy unpruned, with half of the weights gone, and that with batch
    norm re-estimated.

    test : the samples to classify, of which every COURSE_STEP-th is used. sample : training
        inputs from
    which batch norm is re-estimated.
    """

    def __init__(self, test: datasets.Split, sample: Tensor, precision: torch.dtype | None):
        self.test = datasets.Split(test.inputs[::COURSE_STEP], test.targets[::COURSE_STEP])
        self.sample, self.precision = sample, precision

    def accuracy(self, model: nn.Module) -> float:
        """A fraction, on the samples of the course."""
        return training.evaluate(
            model, self.test.inputs, self.test.targets, COURSE_BATCH, self.precision
        ).accuracy

    def after_epoch(self, model, epoch):
        half = pruned(model, RATES[HALF], "global")
        said = {"unpruned": self.accuracy(model), "pruned": self.accuracy(half)}
        recalibrate(half, self.sample, self.precision, COURSE_BATCH)
        return said | {"recalibrated": self.accuracy(half)}


def optimizer(config: Config, model: nn.Module) -> torch.optim.Optimizer:
    """The config's optimizer. Raises ValueError for an unknown name, or a setting it
    ignores."""
    if config.optimizer != "stochgradadam" and config.sampling_rate != 1:
        raise ValueError(
            f"sampling_rate: got {config.sampling_rate}, needs 1 for {config.optimizer!r},"
            " which has none"
        )
    if config.optimizer == "sgd" and (config.betas, config.eps) != (Config.betas, Config.eps):
        raise ValueError(
            f"betas, eps: got {config.betas}, {config.eps}, needs the defaults for 'sgd',"
            " which has none"
        )
    common = {"lr": config.lr * config.rate_factor, "weight_decay": config.weight_decay}
    adam = common | {"betas": config.betas, "eps": config.eps}
    if config.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), **adam, fused=True)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(model.parameters(), **adam, fused=True)
    if config.optimizer == "stochgradadam":
        return StochGradAdam(model.parameters(), **adam, sampling_rate=config.sampling_rate)
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            model.parameters(), **common, momentum=0.9, nesterov=True, fused=True
        )
    raise ValueError(f"optimizer: got {config.optimizer!r}, needs one of {list(OPTIMIZERS)}")


@lru_cache(maxsize=1)
def load(name: str, device: str = "cpu") -> datasets.Dataset:
    """A data set of images, inputs (samples, channels, height, width), on a device; kept
    between runs."""
    return datasets.load(name).as_images().to(device)


# architecture → (shape of an image, classes) ↦ the network
ARCHITECTURES: dict[str, Callable[[small.Shape, int], nn.Module]] = {
    "vgg": small.vgg,
    "densenet": small.densenet,
    "mlp": small.lenet,
    "gru": small.RowReader,
}


def untrained(config: Config, data: datasets.Dataset) -> nn.Module:
    """The config's network before training. Raises ValueError for an unknown depth."""
    classes = len(data.class_names)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        if config.architecture != "resnet":
            return ARCHITECTURES[config.architecture](data.image_shape, classes)
        if config.depth not in BLOCKS and config.shortcut == "projection":
            raise ValueError(f"depth: got {config.depth!r}, needs one of {sorted(BLOCKS)}")
        size = BLOCKS[config.depth] if config.shortcut == "projection" else config.depth
        return models.cifar_resnet(size, config.shortcut, classes, data.image_shape[0])


def train(
    config: Config,
    data: datasets.Dataset,
    checkpoint: Checkpoint | None = None,
    progress=False,
):
    """The config's network and its history, one dict an epoch."""
    model = untrained(config, data)
    model = model.to(data.train.inputs.device, memory_format=torch.channels_last)
    precision = PRECISIONS[config.precision]
    course = Course(data.test, calibration(config, data, COURSE_RECALIBRATION), precision)
    history = training.fit(
        model,
        data.train.inputs,
        data.train.targets,
        epochs=config.epochs,
        seed=config.seed,
        batch_size=round(config.batch_size * config.batch_factor),
        optimizer=lambda m: optimizer(config, m),
        schedule=(
            (lambda done: 0.5 * (1 + math.cos(math.pi * done)))
            if config.schedule == "cosine"
            else None
        ),
        callbacks=[*([Averaged(config.averaging)] if config.averaging else []), course],
        augment=images.crop_and_flip if config.augment else None,
        precision=precision,
        checkpoint=checkpoint,
        progress=progress,
    )
    return model, history


@torch.no_grad()
def recalibrate(
    model: nn.Module,
    inputs: Tensor,
    precision: torch.dtype | None = None,
    batch_size: int = 500,
) -> None:
    """Re-estimate batch norm's running statistics from `inputs`, as the plain mean over
    batches, in place."""
    with torch.autocast(inputs.device.type, precision, enabled=precision is not None):
        update_bn(inputs.split(batch_size), model)


def calibration(config: Config, data: datasets.Dataset, samples: int) -> Tensor:
    """Training inputs for `recalibrate`, drawn at random, the same for every network of a
    seed."""
    drawn = torch.randperm(
        len(data.train), generator=torch.Generator().manual_seed(config.seed)
    )
    return data.train.inputs[drawn[:samples].to(data.train.inputs.device)]


def pruned(model: nn.Module, rate: float, scope: str) -> nn.Module:
    """A copy without the smallest |w| of the convolutions and the linear layer, over all of
    them ("global") or in each ("layer"); batch norm and biases are left alone."""
    model = copy.deepcopy(model)
    return (
        scores.prune_by_score(model, scores.magnitude(model), rate, scope) if rate else model
    )


@torch.no_grad()
def confusion(
    model: nn.Module, split: datasets.Split, classes: int, precision: torch.dtype | None
) -> Tensor:
    """Counts (true class, predicted class)."""
    model.eval()
    with torch.autocast(split.inputs.device.type, precision, enabled=precision is not None):
        found = torch.cat([model(x).argmax(1) for x in split.inputs.split(1000)])
    return (
        (split.targets * classes + found).bincount(minlength=classes**2).view(classes, classes)
    )


def weight_statistics(weights: Tensor) -> Record:
    """Standard deviation, excess kurtosis (0 for a normal distribution), share below SMALL in
    magnitude."""
    from scipy import stats  # slow to import

    values = weights.detach().flatten().double().cpu()
    return {
        "sd": float(values.std()),
        "kurtosis": float(stats.kurtosis(values.numpy())),
        "small": float((values.abs() < SMALL).double().mean()),
        "mean_magnitude": float(values.abs().mean()),
    }


def _weights(model: nn.Module) -> Record:
    """All prunable weights together, and layer by layer from input to output."""
    found = weights(model)
    layers = list(found)
    signed = [weight.value().detach() for weight in found.values()]
    every = torch.cat([weight.flatten() for weight in signed]).float().cpu()
    low, high, bins = BINS
    return {
        "kept": every.numel(),
        "weights": weight_statistics(every),
        "weights_by_layer": [weight_statistics(weight) for weight in signed],
        "layers": layers,
        "histogram": torch.histc(every, bins, low, high).int().tolist(),
        "bins": BINS,
    }


def _curves(config: Config, model: nn.Module, data: datasets.Dataset) -> dict[str, list]:
    """Accuracy at every rate, under both thresholds, and with batch norm re-estimated under
    the global one; the confusion matrices before and after half of the weights are gone."""
    precision = PRECISIONS[config.precision]
    sample = calibration(config, data, RECALIBRATION)

    def accuracy(network):
        return training.evaluate(
            network, data.test.inputs, data.test.targets, batch_size=1000, precision=precision
        ).accuracy

    found: dict[str, list] = {
        "accuracy_global": [],
        "accuracy_recalibrated": [],
        "accuracy_layer": [],
    }
    for rate in RATES:
        network = pruned(model, rate, "global")
        found["accuracy_global"].append(accuracy(network))
        if rate in (0.0, RATES[HALF]):
            name = "confusion_before" if rate == 0 else "confusion_after"
            found[name] = confusion(
                network, data.test, len(data.class_names), precision
            ).tolist()
        recalibrate(network, sample, precision)
        found["accuracy_recalibrated"].append(accuracy(network))
        found["accuracy_layer"].append(accuracy(pruned(model, rate, "layer")))
    return found


def checkpoint_of(config: Config) -> Checkpoint:
    """Where a run keeps its state until it is on record."""
    key = hashlib.sha256(repr(config).encode()).hexdigest()[:16]
    return Checkpoint(
        datasets.cache_folder() / "checkpoints" / f"resnet_pruning-{key}.safetensors"
    )


def run(config: Config | Overhead) -> Record:
    """Train (or go on training), prune at every rate, measure: the metrics of one record."""
    if isinstance(config, Overhead):
        return overhead.run(config)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    data = load(config.dataset, device)
    checkpoint = checkpoint_of(config)
    model, history = train(config, data, checkpoint)
    curves = _curves(config, model, data)
    metrics = {
        "network": named(config),
        "parameters": sum(p.numel() for p in model.parameters()),
        **_weights(model),
        "effective": (
            None
        ),  # weights on a path from input to output: not counted where shortcuts join in
        "rates": RATES,
        "test_accuracy": curves["accuracy_global"][0],
        "pruned_accuracy": curves["accuracy_global"][HALF],
        **curves,
        "train_loss": [epoch["loss"] for epoch in history],
        "course": {
            name: [round(epoch[name], 6) for epoch in history]
            for name in ("unpruned", "pruned", "recalibrated")
        },
        "training_seconds": round(checkpoint.seconds, 1),
        "provenance": {"device": device_name(device), "data": data.checksum},
    }
    checkpoint.remove()
    return metrics


CONFIGS = (Config, Overhead)
MAIN = ("adam", "stochgradadam", "stochgradadam, author's β₁")
CONTROLS = tuple(name for name in VARIANTS if name not in MAIN)
SAMPLING = (0.5, 0.6, 0.7, 0.9)  # beside 0.8 and 1, which is Adam


# of the controls, those that show what the mask does
SHORT = (
    "adam, 0.8 of the batch",
    "adam, 0.894 of the rate",
    "stochgradadam, author's β₁",
    "adam, author's β₁",
)


def _sampling(base: Config, seeds: range) -> list[Config]:
    """StochGradAdam at the other sampling rates."""
    runs = [
        variant("stochgradadam", base, sampling_rate=rate, study=f"{base.study} sampling")
        for rate in SAMPLING
    ]
    return [replace(run, seed=seed) for seed, run in itertools.product(seeds, runs)]


def _controls(base: Config, seeds: range) -> list[Config]:
    """The controls that show whether the mask does anything."""
    runs = [variant(method, base) for method in ("stochgradadam, author's β₁", *CONTROLS)]
    runs += [
        variant(method, base, schedule="cosine") for method in ("adam", "stochgradadam", "sgd")
    ]
    return [
        run
        for seed in seeds
        for run in [
            *(replace(run, seed=seed) for run in runs),
            *_sampling(base, range(seed, seed + 1)),
        ]
    ]


def _grid(base: Config, seeds: range, methods=MAIN) -> list[Config]:
    return [
        replace(variant(method, base), seed=seed)
        for seed, method in itertools.product(seeds, methods)
    ]


def configs(profile: str, seeds: int | None = None) -> list[Config]:
    """The runs of a profile, those that matter most first.

    "quick": ResNet-20 on digits, Adam and StochGradAdam, one seed. "paper": CIFAR-10, the
    author's networks and recipe, ResNet-56 first, three seeds; ResNet-20 with all controls;
    He's networks with augmentation and cosine decay. "cpu": the runs that fit two cores,
    ResNet-20 on CIFAR-10 for 20 epochs, three seeds: Adam and StochGradAdam, the author's β₁
    for both, what the mask might amount to, and the sampling rates. "overhead": the seconds of
    a training step, StochGradAdam's beside Adam's.
    """
    if profile == "quick":
        base = Config(
            "digits",
            20,
            epochs=12,
            batch_size=128,
            precision="float32",
            lr=1e-2,
            study="quick",
        )
        return _grid(base, range(seeds or 1), ("adam", "stochgradadam"))
    if profile == "paper":
        n = range(seeds or 3)
        runs = _grid(Config(), n, MAIN[:2])
        runs += [run for depth in (56, 110, 152) for run in _grid(Config(depth=depth), n)]
        runs += _grid(Config(depth=20), n) + _controls(Config(depth=20), n)
        modern = Config(shortcut="identity", schedule="cosine", augment=True, study="modern")
        methods = ("adam", "stochgradadam", "adamw", "sgd")
        runs += [
            run
            for depth in (56, 110)
            for run in _grid(replace(modern, depth=depth), n, methods)
        ]
        return list(dict.fromkeys(runs))
    if profile == "cpu":
        base, n = Config(depth=20, epochs=20, study="short"), range(seeds or 3)
        return _grid(base, n, MAIN[:2]) + _grid(base, n, SHORT) + _sampling(base, n)
    if profile == "overhead":
        return overhead.configs()
    raise ValueError(
        f"profile: got {profile!r}, needs one of ['cpu', 'overhead', 'paper', 'quick']"
    )
