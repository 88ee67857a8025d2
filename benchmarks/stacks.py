"""Gated networks trained a minute: one after the other, by one process a core, and stacked."""

from dataclasses import replace

import joblib
import torch

from benchmarks.timing import interleaved
from pruning import comparison
from pruning.data import datasets

NETWORKS = 16
SHAPES = {  # (samples, features, classes), hidden layers, epochs
    "12-100-50-2 (Income)": ((8192, 12, 2), (100, 50), 3),
    "784-300-100-10 (MNIST)": ((5120, 784, 10), (300, 100), 2),
}


def data(samples, features, classes):
    torch.manual_seed(0)
    split = datasets.Split(
        torch.rand(samples, features), torch.randint(0, classes, (samples,))
    )
    names = tuple(map(str, range(features))), tuple(map(str, range(classes)))
    return datasets.Dataset("random", split, split, *names, checksum="")


def alone(config, shape):
    comparison.train(config, data(*shape))


def stack(configs, shape):
    comparison.train_stack(configs, data(*shape))


def on_one_thread(function, what, shape):
    torch.set_num_threads(1)
    function(what, shape)


def main():
    cores = joblib.cpu_count()
    parallel = joblib.Parallel(n_jobs=cores)
    for title, (shape, hidden, epochs) in SHAPES.items():
        base = comparison.Config(hidden=hidden, epochs=epochs, finetune_epochs=1)
        configs = [replace(base, seed=seed) for seed in range(NETWORKS)]

        def one_by_one(configs=configs, shape=shape):
            torch.set_num_threads(cores)
            for config in configs:
                alone(config, shape)

        def by_processes(configs=configs, shape=shape):
            parallel(joblib.delayed(on_one_thread)(alone, config, shape) for config in configs)

        def stacked(configs=configs, shape=shape):
            shares = [configs[k::cores] for k in range(cores)]
            parallel(joblib.delayed(on_one_thread)(stack, share, shape) for share in shares)

        pieces = {"one by one, all cores": one_by_one, "one process a core": by_processes}
        pieces["a stack a core"] = stacked
        medians = interleaved(pieces, rounds=5, warmup=1)
        print(
            f"Gated networks {title}, {epochs} + 1 epochs of {shape[0]} samples, {NETWORKS} at"
            " a time"
        )
        for name, seconds in medians.items():
            ratio = medians["one process a core"] / seconds
            print(
                f"  {name:52} {60 * NETWORKS / seconds:8.0f} a minute  {ratio:6.2f} × one"
                " process a core"
            )
        print()
