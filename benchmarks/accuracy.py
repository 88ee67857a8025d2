"""Accuracy on CIFAR-10 after equal fine-tuning: channels cut by output gates, and by
Torch-Pruning to as many MACs.

Both start from the same trained ResNet-8, in each seed. Ours learns which channels close
(`GATED` epochs), is compacted, and trains what is left. Torch-Pruning cuts the channels with
the smallest weights at once. What is equal can be read in two ways, and both are shown: the
epochs after the cut (`FINETUNED` each, so gates have had `GATED` epochs more), and all epochs
after the dense training (so Torch-Pruning's network trains for `GATED` + `FINETUNED`). Few
images and epochs, so that it takes minutes on a CPU: what counts is the difference between the
two, not the accuracy.
"""

import copy
import statistics

import torch
from torch import Tensor, nn

import pruning
from benchmarks.compact import by_torch_pruning, macs
from pruning.training import Callback, evaluate, fit

IMAGES, TESTED, SEEDS = 5000, 2000, 3
TRAINED, GATED, FINETUNED, BATCH = 4, 2, 4, 64
KEPT = 0.4  # of the weights, those in kept channels
LR, GATE_LR, ALPHA = 1e-3, 0.1, 3.0


class Closing(Callback):
    """Output gates whose density falls to KEPT, hardened at the end."""

    def start(self, model: nn.Module) -> None:
        pruning.gate(model, granularity="output")

    def penalty(self, model: nn.Module, progress: float) -> Tensor:
        return ALPHA * pruning.density_loss(model, KEPT ** min(1.0, 2 * progress), log=True)

    def finish(self, model: nn.Module) -> None:
        gated = model[-1].in_features * model[-1].out_features  # the last layer has no gates
        total = sum(mask.numel() for mask in pruning.masks(model).values()) - gated
        pruning.harden(model, at_most=round(KEPT * total))


def optimizer(model: nn.Module) -> torch.optim.Optimizer:
    logits = pruning.gate_parameters(model)
    known = {id(each) for each in logits}
    weights = [p for p in model.parameters() if id(p) not in known]
    groups = [{"params": weights, "lr": LR}, {"params": logits, "lr": GATE_LR}]
    return torch.optim.Adam([group for group in groups if group["params"]])


def one_seed(train, test, seed: int) -> dict[str, tuple[float, int]]:
    """{network: (accuracy, MACs)}."""
    x, y = train.inputs[:IMAGES], train.targets[:IMAGES]
    options = {"batch_size": BATCH, "optimizer": optimizer}

    def measured(model: nn.Module) -> tuple[float, int]:
        found = evaluate(model, test.inputs[:TESTED], test.targets[:TESTED])
        return found.accuracy, macs(model, x[:1])

    torch.manual_seed(seed)
    dense = pruning.models.cifar_resnet(8, shortcut="projection")
    fit(dense, x, y, epochs=TRAINED, seed=seed, **options)
    ours = copy.deepcopy(dense)
    fit(ours, x, y, epochs=GATED, seed=seed + 1, callbacks=[Closing()], **options)
    small = pruning.compact(ours.eval(), x[:1])
    fit(small, x, y, epochs=FINETUNED, seed=seed + 2, **options)
    theirs = by_torch_pruning(dense.eval(), x[:1], macs(small, x[:1]))
    longer = copy.deepcopy(theirs)
    fit(theirs, x, y, epochs=FINETUNED, seed=seed + 2, **options)
    fit(longer, x, y, epochs=GATED, seed=seed + 1, **options)
    fit(longer, x, y, epochs=FINETUNED, seed=seed + 2, **options)
    epochs = f"{FINETUNED} epochs after the cut"
    return {
        "dense, before": measured(dense),
        f"output gates ({GATED} epochs), {epochs}": measured(small),
        f"Torch-Pruning, {epochs}": measured(theirs),
        f"Torch-Pruning, {GATED + FINETUNED} epochs after the cut": measured(longer),
    }


def main():
    torch.set_num_threads(1)
    data = pruning.datasets.load("cifar10")
    seeds = []
    for seed in range(SEEDS):
        seeds.append(one_seed(data.train, data.test, 10 * seed))
        print(
            f"Accuracy on CIFAR-10, ResNet-8, {IMAGES} images, {len(seeds)} of {SEEDS} seeds"
        )
        for name in seeds[0]:
            accuracy = [100 * found[name][0] for found in seeds]
            spread = f" ± {statistics.stdev(accuracy):.1f}" if len(seeds) > 1 else ""
            million = statistics.mean(found[name][1] for found in seeds) / 1e6
            print(
                f"  {name:46} {statistics.mean(accuracy):5.1f}{spread} %  {million:5.2f}"
                " million MACs"
            )
        print(flush=True)


if __name__ == "__main__":
    main()
