"""Numbers that are not finite, of another type, or beyond what float32 holds: each pass says
so in one sentence, or computes in float64."""

import pytest
import torch
from torch import nn

import pruning
from pruning.methods import l0, variational
from pruning.training import TrainingError, evaluate, fit

X = torch.rand(50, 6, generator=torch.Generator().manual_seed(0))
Y = torch.arange(50) % 3


def net(**changed):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    with torch.no_grad():
        for name, value in changed.items():
            getattr(model[2], name).flatten()[0] = value
    return model


PASSES = {
    "wanda": pruning.wanda,
    "stade": pruning.stade,
    "ria": pruning.ria,
    "nnrelief": pruning.nnrelief,
    "contributions": pruning.contribution_statistics,
    "snip": lambda model, x: pruning.snip(model, x, Y),
    "evaluate": lambda model, x: evaluate(model, x, Y),
    "fit": lambda model, x: fit(model, x, Y, epochs=1),
}


@pytest.mark.parametrize("name", PASSES)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_inputs_that_are_not_finite_are_refused_by_the_layer(name, value):
    x = X.clone()
    x[7, 2] = value
    words = "summed loss nan" if name == "fit" else "layer '0'.*NaN or infinite"
    with pytest.raises(TrainingError if name == "fit" else ValueError, match=words):
        PASSES[name](net(), x)


@pytest.mark.parametrize("name", PASSES)
@pytest.mark.parametrize("dtype", [torch.int64, torch.float64])
def test_inputs_of_another_dtype_are_refused_by_the_argument(name, dtype):
    with pytest.raises(TypeError, match=rf"inputs: .*got {dtype}.*torch.float32; see Tensor"):
        PASSES[name](net(), X.to(dtype))


@pytest.mark.parametrize("name", ["wanda", "stade", "ria", "nnrelief", "contributions"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_bias_that_is_not_finite_is_refused_by_its_layer(name, value):
    with pytest.raises(ValueError, match="bias of layer '2' has NaN or infinite entries"):
        PASSES[name](net(bias=value), X)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_synflow_refuses_weights_that_are_not_finite(value):
    with pytest.raises(ValueError, match=r"weights of \['2'\] have NaN or infinite entries"):
        pruning.synflow(net(weight=value), X[:1])


@pytest.mark.parametrize("name", ["snip", "fit"])
def test_a_class_that_the_outputs_lack_is_refused_by_the_argument(name):
    wrong = Y.clone()
    wrong[5] = 6
    work = {"snip": pruning.snip, "fit": lambda *data: fit(*data, epochs=1)}[name]
    with pytest.raises(ValueError, match=r"targets: Target 6 .* needs classes from 0 to 2"):
        work(net(), X, wrong)


def test_masks_are_not_ranked_by_nan():
    gated = l0.gate(net())
    for gating in l0.gates(gated).values():
        gating.log_alpha.data.fill_(float("nan"))
    with pytest.raises(ValueError, match=r"\['0', '2'\] are ranked by is NaN"):
        l0.harden(gated, 10)
    noisy = variational.dropout(net())
    next(iter(variational.noises(noisy).values())).log_sigma2.data[0] = float("nan")
    with pytest.raises(ValueError, match=r"\['0'\] are ranked by is NaN"):
        variational.harden(noisy, 10)


@pytest.mark.parametrize(
    "call",
    [
        lambda: pruning.layer_sparsities(net(), "0.5"),
        lambda: pruning.layer_sparsities(net(), 0.5, decay=None),
        lambda: pruning.relative_importance({}, alpha="0.5"),
        lambda: pruning.density_loss(pruning.gate(net()), "0.5"),
    ],
)
def test_texts_are_no_numbers(call):
    with pytest.raises(
        ValueError, match=r"(sparsity|decay|alpha|target): got .*needs a number"
    ):
        call()


@pytest.mark.parametrize("blind", [True, False])
@pytest.mark.parametrize(
    ("weight", "scale"), [(1e20, 1e20), (1e-30, 1e-20), (1e20, 1.0), (1e-20, 1e20)]
)
def test_relative_contributions_have_no_scale(weight, scale, blind):
    model = net()
    model[0].bias.data.zero_()
    wanted = pruning.contribution_statistics(model, X, layers=["0"], blind=blind)["0"]
    model[0].weight.data.mul_(weight)
    found = pruning.contribution_statistics(model, X * scale, layers=["0"], blind=blind)["0"]
    for one in ("mean", "std", "blind"):
        torch.testing.assert_close(
            getattr(found, one), getattr(wanted, one), atol=1e-6, rtol=0
        )
