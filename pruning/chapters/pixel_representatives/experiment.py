"""Which pixels a pruned network reads (Fig 3b and Fig 5 of arXiv:2311.12526), over densities
and seeds.

Networks are trained as `pruning.comparison` says. Everything the chapter draws is in the
record: the map of importance, the living connections of a small network, and rules over two
pixels.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from pruning import comparison, training
from pruning.bounds import Count, Fraction, Positive
from pruning.chapters.pixel_representatives import metrics, pixels
from pruning.data import datasets
from pruning.evidence.configs import changed, choose, settle
from pruning.evidence.records import Record
from pruning.methods import gates_training
from pruning.networks import importance, sparsity, structure

DATASETS = ("mnist", "fashion_mnist", "digits")  # images of one channel

ON = 0.5  # a pixel above this is on
SHARES = (0.1, 0.2)  # of a class's images, that a pair of pixels is asked to find
READ = 20  # pixels that an output reads most, among which a rule is sought
DRAWN = 1500  # networks with no more connections are recorded whole


@dataclass(frozen=True)
class Config(comparison.Config):
    """One network and its map of importance."""

    metrics: ClassVar[type] = metrics.Metrics

    top: Positive = 20  # pixels whose neighbours are looked at
    study: str = "representatives"

    def __post_init__(self):
        super().__post_init__()
        choose(self, dataset=DATASETS, study=("representatives",))


@dataclass(frozen=True)
class Pixels:
    """Measurements on the images alone, without a network, with which claims are compared.

    label : the class that pairs of pixels stand for. precision : the one that they must reach.
    """

    metrics: ClassVar[type] = metrics.OfImages

    dataset: str = "mnist"
    method: str = "none"
    seed: Count = 0
    label: str = "2"
    precision: Fraction = 0.74
    study: str = "pixels"

    def __post_init__(self):
        settle(self, method=("none",), study=("pixels",), dataset=DATASETS)


@dataclass(frozen=True)
class Support(Pixels):
    """How many images the pairs pick that reach the precision of `Pixels`."""

    metrics: ClassVar[type] = metrics.OfPairs

    study: str = "support"

    def __post_init__(self):
        settle(self, method=("none",), study=("support",), dataset=DATASETS)


CONFIGS = (Config, Pixels, Support)


def of_pairs(config: Support) -> Record:
    """Of the pairs of pixels that mean the label with the config's precision on the training
    images, for each pixel above 0, and above ½, as on: how many images they pick, and how many
    pairs find a tenth, or a fifth, of the label's images."""
    data = datasets.load(config.dataset)
    x, is_class = data.train.inputs, data.train.targets == data.class_names.index(config.label)
    support = []
    for on in (0.0, ON):
        picked, hits = pixels.picked_by_precise_pairs(x > on, is_class, config.precision)
        support.append(
            {
                "on": on,
                "reaching": len(picked),
                "once": int((picked == 1).sum()),
                "median": float(np.median(picked)) if len(picked) else None,
                "finding": {
                    str(share): int((hits >= share * is_class.sum()).sum()) for share in SHARES
                },
            }
        )
    return {
        "support": support,
        "kept": None,
        "effective": None,
        "test_accuracy": None,
        "provenance": {"data": data.checksum},
    }


def of_images(config: Pixels) -> Record:
    """Which pixels vary at all in the training images, and how many pairs of pixels, both on,
    mean the label with the config's precision there: for each pixel above 0, and above ½, as
    on."""
    data = datasets.load(config.dataset)
    x, is_class = data.train.inputs, data.train.targets == data.class_names.index(config.label)
    varying = x.amax(0) > x.amin(0)
    pairs = []
    for on in (0.0, 0.5):
        reaching, every = pixels.precise_pairs(x > on, is_class, config.precision)
        pairs.append({"on": on, "reaching": reaching, "pairs": every})
    return {
        "varying": varying.int().tolist(),
        "deviation": [round(value, 6) for value in x.std(0).tolist()],
        "pairs": pairs,
        "kept": None,
        "effective": None,
        "test_accuracy": None,
        "provenance": {"data": data.checksum},
    }


def _rules(by_class: Tensor, data: datasets.Dataset) -> list[Record]:
    """For each class: its two most important pixels as a rule, how often they are on, the best
    pair of all pixels and the best of those that its output reads most.

    Best pairs are chosen by F₁ on the training set; every figure is of the test set.
    """
    train_on, test_on = data.train.inputs > ON, data.test.inputs > ON
    found = []
    for label, row in enumerate(by_class):
        first, second = row.argsort(descending=True, stable=True)[:2].tolist()
        in_train, in_test = data.train.targets == label, data.test.targets == label
        code = 2 * test_on[:, first].long() + test_on[:, second].long()  # 0 none, 3 both
        own = pixels.two_pixel_rule(test_on, in_test, (first, second))
        record = {
            "label": data.class_names[label],
            "pixels": [first, second],
            "importance": [row[first].item(), row[second].item()],
            "precision": own.precision,
            "recall": own.recall,
            "accuracy": own.accuracy,
            "inside": torch.bincount(code[in_test], minlength=4).tolist(),
            "outside": torch.bincount(code[~in_test], minlength=4).tolist(),
        }
        top = row.argsort(descending=True, stable=True)[
            : max(2, int((row > 0).sum().clamp_max(READ)))
        ]
        for name, allowed in (("best", torch.arange(len(row))), ("best_read", top)):
            pair = pixels.best_two_pixel_rule(train_on[:, allowed], in_train).pixels
            best = pixels.two_pixel_rule(test_on, in_test, tuple(allowed[list(pair)].tolist()))
            record[name] = {
                "pixels": list(best.pixels),
                "precision": best.precision,
                "recall": best.recall,
                "accuracy": best.accuracy,
            }
        found.append(record)
    return found


def describe(by_class: Tensor, data: datasets.Dataset, top: int) -> Record:
    """Numbers that describe the map of importance."""
    shape = data.image_shape
    image, variance = (
        by_class.mean(0).view(shape),
        data.train.inputs.var(0).view(shape).double(),
    )
    inside = variance > 0
    null = pixels.shuffled_null(image, 500)
    null_inside = pixels.shuffled_null(image, 500, inside=inside)
    half, most = shape[0] // 2, round(shape[0] * 20 / 28)
    return {
        "morans_i": pixels.morans_i(image),
        "morans_i_null": [null.mean().item(), null.std().item()],
        "morans_i_null_inside": [null_inside.mean().item(), null_inside.std().item()],
        "neighbour_ratio": pixels.neighbour_ratio(image, top),
        "pixels_used": int((image > 0).sum()),
        "pixels_varying": int(inside.sum()),
        "central": {
            str(side): [
                pixels.central_share(image, side),
                pixels.central_share(variance, side),
            ]
            for side in (half, most)
        },
    }


def run(config: Config | Pixels) -> Record:
    """Train, prune, and read the structure; of `Pixels` and `Support`, look at the images
    alone."""
    if isinstance(config, Support):
        return of_pairs(config)
    if isinstance(config, Pixels):
        return of_images(config)
    data = datasets.load(config.dataset)
    model, told = comparison.train(config, data)
    report = sparsity.sparsity_report(model)
    kept = int(report.kept.sum())
    by_class = importance.feature_importance(model)
    if not (by_class.sum(1) > 0).any():
        raise ValueError(f"density: got {config.density}, no input reaches an output")
    return {
        "dense_weights": told["dense_weights"],
        "kept": kept,
        "effective": int(report.effective.sum()),
        "test_accuracy": (
            training.evaluate(model, data.test.inputs, data.test.targets).accuracy
        ),
        "shape": list(data.image_shape),
        "importance": [round(v, 7) for v in by_class.mean(0).tolist()],
        **describe(by_class, data, config.top),
        "rules": _rules(by_class, data),
        "connections": structure.connections(model) if kept <= DRAWN else None,
        "provenance": {"data": data.checksum},
    }


MANY, FEW = 0.04, comparison.FEWEST  # the paper's 4 % and 0.15 %


def configs(profile: str, seeds: int | None = None) -> list[Config]:
    """ "quick": digits, two seeds. "paper": MNIST at 4 and 0.15 %, five seeds."""
    if profile == "quick":
        base = Config(dataset="digits", hidden=(32, 16), batch_size=64, top=6)
        return [
            changed(base, seed=s, density=d) for s in range(seeds or 2) for d in (0.3, 0.04)
        ]
    if profile == "paper":
        few = Config(density=FEW, settings=gates_training.AS_PRINTED)
        pairs = [
            (changed(few, seed=s), Config(density=MANY, seed=s)) for s in range(seeds or 5)
        ]
        return [Pixels(), Support(), *(config for pair in pairs for config in pair)]
    raise ValueError(f"profile: got {profile!r}, needs one of ['paper', 'quick']")
