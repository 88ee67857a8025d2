"""The comparison of methods on a convolutional network: what `pruning.comparison` does for
chains of Linear layers."""

from typing import Any

import torch
from torch import nn

from pruning import comparison, methods, training
from pruning.data import datasets
from pruning.evidence.records import Record
from pruning.networks import small
from pruning.training import recipes
from pruning.training.recipes import Problem


def problem_of(config: Any, data: datasets.Dataset) -> Problem:
    """What the config asks of its method; its `hidden` are the full channels."""
    full = small.convnet_weights(data.image_shape, len(data.class_names), config.hidden)
    return Problem(
        data.train.inputs,
        data.train.targets,
        sizes=(),
        density=config.density,
        epochs=config.epochs,
        finetune_epochs=config.finetune_epochs,
        seed=config.seed,
        dense_weights=full,
    )


def untrained(config: Any, data: datasets.Dataset, weights: int) -> nn.Sequential:
    """The network that a config begins with; for "dense" so narrow that all its weights are no
    more than `weights`. Raises ValueError where none is."""
    shape, classes, widths = data.image_shape, len(data.class_names), config.hidden
    if config.method == "dense":
        widths = small.narrow_widths(shape, classes, widths, weights)
        if widths is None:
            raise ValueError(f"density: got {config.density}, no dense network is that small")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = small.convnet(shape, classes, widths, config.activation)
    return model.to(memory_format=torch.channels_last)


def run(config: Any) -> Record:
    """Train, prune, measure: the metrics of one record."""
    data = comparison.load(config.dataset, config.split).as_images()
    problem = problem_of(config, data)
    model = untrained(config, data, problem.weights)
    before: list[float] = []

    def measure(model: nn.Module) -> None:
        found = training.evaluate(model, data.test.inputs, data.test.targets, 1000)
        before.append(found.accuracy)

    recipes.train(
        model,
        problem.inputs,
        problem.targets,
        methods.find(config.method).phases(config.settings, problem),
        seed=config.seed,
        before_last=measure,
        batch_size=config.batch_size,
    )
    told = {
        "before_finetune": before[0] if before else None,
        "dense_weights": problem.total,
    }
    return comparison.measured(config, data, model, told, data.test.inputs[:2])
