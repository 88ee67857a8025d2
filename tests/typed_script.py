"""A user's script that reads or calls every public name; tests/test_types.py checks it with
mypy --strict."""

from pathlib import Path
from typing import assert_type

import torch
from torch import Tensor, nn

import pruning
from pruning.models import weight_count


def progress_of(step: float) -> float:
    return step / 100


def gated(model: nn.Sequential, x: Tensor, y: Tensor) -> nn.Sequential:
    model = pruning.gate(model, tau=2.0, init=0.9, layers=["0"], granularity="weight")
    logits = assert_type(pruning.gate_parameters(model), list[nn.Parameter])
    optimizer: torch.optim.Optimizer = pruning.StochGradAdam(
        [{"params": model.parameters()}],
        lr=0.01,
        betas=(0.9, 0.999),
        generator=torch.Generator(),
    )
    with pruning.activity_penalty(model) as activity:
        loss = nn.functional.cross_entropy(model(x), y) + assert_type(activity.take(), Tensor)
    loss = loss + pruning.density_loss(model, target=0.05, log=True) + pruning.density(model)
    torch.autograd.backward(loss)
    optimizer.step()
    assert logits
    hard = assert_type(pruning.harden(model, at_most=80), nn.Sequential)
    return assert_type(pruning.finalize(hard), nn.Sequential)


def scored(model: nn.Sequential, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    stats = assert_type(
        pruning.contribution_statistics(
            model, x, kind="absolute", ignore=["2"], batch_size=10
        ),
        dict[str, pruning.ContributionStatistics],
    )
    means: dict[str, Tensor] = {name: each.mean for name, each in stats.items()}
    scores = pruning.relative_importance(stats, alpha=1.0, form="product")
    for each in (
        pruning.magnitude(model),
        pruning.random_scores(model, torch.Generator()),
        pruning.wanda(model, [(x, y)]),
        pruning.stade(model, {"input": x}),
        pruning.ria(model, x),
        pruning.nnrelief(model, x),
        pruning.snip(model, x, y, nn.functional.cross_entropy),
        pruning.synflow(model, x),
    ):
        scores = assert_type(each, dict[str, Tensor])
    sparsities = assert_type(pruning.layer_sparsities(model, 0.5), dict[str, float])
    pruning.prune_by_score(model, scores, sparsities, scope="layer")
    model = pruning.prune_by_score(model, scores, sparsity=0.5, scope="global")
    model = pruning.prune_n_m(model, scores, n=2, m=4)
    assert_type(pruning.blind_ranges(nn.ReLU()), list[tuple[float, float]])
    return means


def what_is_left(model: nn.Sequential, x: Tensor, folder: Path) -> None:
    kept = assert_type(pruning.masks(model), dict[str, Tensor])
    parametrization: nn.Module = pruning.Mask(kept["0"], torch.float32)
    print(
        parametrization,
        pruning.sparsity_report(model),
        pruning.hardware_report(model, x, batch=8),
    )
    assert_type(pruning.effective_weights(model, x), int)
    small = assert_type(pruning.compact(model, example_inputs=x), nn.Module)
    means = {name: each.mean for name, each in pruning.input_statistics(model, x).items()}
    print([(key, module, name, means) for key, module, name in pruning.prunable(model)])
    assert_type(pruning.feature_importance(model), Tensor)
    small.load_state_dict(pruning.convert_state_dict(model.state_dict(), small))
    size = assert_type(pruning.export.to_onnx(model, folder / "model.onnx", x), int)
    size += pruning.export.to_numpy(model, folder / "model.npz")
    print(size, pruning.export.NumpyNetwork(folder / "model.npz")(x.numpy()).shape)


def trained(model: nn.Sequential) -> None:
    data = pruning.datasets.load("digits")
    callbacks: list[pruning.training.Callback] = [
        pruning.Rewinding(weights=100, rounds=3, allocation="uniform"),
        pruning.SET(0.1, rewirings=9, allocation=(0.5, 0.5)),
        pruning.DeepR(0.1, progress_of, ignore=["2"]),
        pruning.RigL(weights=100, allocation="erdos-renyi", ignore=("2",)),
    ]
    history = pruning.training.fit(
        model,
        data.train.inputs,
        data.train.targets,
        epochs=1,
        callbacks=callbacks[:1],
        progress=True,
    )
    assert_type(history, list[dict[str, float]])
    found = pruning.training.evaluate(model, data.test.inputs, data.test.targets)
    assert_type(found.accuracy, float)
    pruner = pruning.GradualPruning(
        model, weights=404, allocation="global", score=pruning.magnitude
    )
    pruner.step(progress_of(50))
    pruner.finish()


def main() -> None:
    x, y = torch.randn(20, 8), torch.randint(0, 3, (20,))
    trained(pruning.models.mlp((64, 16, 10), activation="silu"))
    model = gated(pruning.models.mlp((8, 16, 3)), x, y)
    assert_type(weight_count((8, 16, 3)), int)
    scored(model, x, y)
    what_is_left(model, x, Path())
    print(pruning.models.cifar_resnet(20, shortcut="projection"), pruning.__version__)


if __name__ == "__main__":
    main()
