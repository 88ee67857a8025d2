"""Schedules count and mask every prunable weight: each kind of convolution, attention and
recurrent layers as well as Linear ones."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

import pruning
from pruning.methods import oneshot, shares
from pruning.networks import masks
from pruning.networks.prunable import prunable
from pruning.training import recipes


class Recurrent(nn.Module):
    """The last state of an LSTM, classified."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 5, batch_first=True)
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


class Projections(nn.Module):
    """Attention whose keys and values have sizes of their own."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, kdim=4, vdim=5, batch_first=True)

    def forward(self, x):
        return self.attention(x, x[..., :4], x[..., :5])[0]


MODELS = {
    "transposed": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.SiLU(), nn.ConvTranspose2d(8, 4, 2, stride=2)
        ),
        (5, 3, 6, 6),
    ),
    "one dimension": (
        lambda: nn.Sequential(
            nn.Conv1d(4, 6, 3, padding=1, groups=2, padding_mode="circular"),
            nn.SiLU(),
            nn.ConvTranspose1d(6, 4, 2, groups=2),
        ),
        (5, 4, 8),
    ),
    "three dimensions": (
        lambda: nn.Sequential(nn.Conv3d(2, 3, 2), nn.SiLU(), nn.Flatten(), nn.Linear(24, 3)),
        (5, 2, 3, 3, 3),
    ),
    "transformer": (
        lambda: nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True),
        (5, 3, 8),
    ),
    "projections": (Projections, (5, 3, 6)),
    "lstm": (Recurrent, (5, 4, 4)),
}
ALL = pytest.mark.parametrize("name", MODELS)
ALLOCATIONS = pytest.mark.parametrize("allocation", ["global", "uniform", "erdos-renyi"])


def made(name):
    build, shape = MODELS[name]
    torch.manual_seed(0)
    return build(), torch.randn(shape)


def counts(model):
    return {key: int(mask.sum()) for key, mask in masks.masks(model).items()}


@ALL
@ALLOCATIONS
@pytest.mark.filterwarnings("ignore:model. no weight is left")
def test_gradual_pruning_counts_every_prunable_weight(name, allocation):
    model, x = made(name)
    dense = pruning.magnitude(model)
    pruner = pruning.GradualPruning(model, weights=30, end=1.0, allocation=allocation)
    pruner.step(0.5)
    everything = sum(score.numel() for score in dense.values())
    # half of the schedule: 1 − (1 − 1/2)³ = 7/8 of the way
    assert sum(counts(model).values()) == pytest.approx(
        everything - 7 / 8 * (everything - 30), abs=len(dense)
    )
    pruner.step(1.0)
    assert sum(counts(model).values()) == 30
    if allocation == "global":
        threshold = torch.cat([score.flatten() for score in dense.values()]).sort().values[-30]
        assert all(
            torch.equal(mask, dense[key] >= threshold)
            for key, mask in masks.masks(model).items()
        )
    model(x).sum().backward()


@ALL
def test_rewinding_counts_and_rewinds_every_prunable_weight(name):
    model, x = made(name)
    first = {key: p.detach().clone() for key, p in model.named_parameters()}
    rewinding = pruning.Rewinding(weights=30, rounds=2, early=0)
    rewinding.start(model)
    for _ in range(2):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += torch.randn_like(parameter)
        trained = {
            key: masks.effective(module, parameter).abs()
            for key, module, parameter in prunable(model)
        }
        rewinding.prune_and_rewind(model)
    assert sum(counts(model).values()) == 30
    kept = torch.cat([mask.flatten() for mask in masks.masks(model).values()])
    sizes = torch.cat([size.flatten() for size in trained.values()])
    assert sizes[kept].min() >= sizes[~kept].max()
    pruning.finalize(model)
    found = dict(model.named_parameters())
    assert found.keys() == first.keys()
    assert all(torch.equal(p[p != 0], first[key][p != 0]) for key, p in found.items())
    model(x)


@ALL
def test_rigl_moves_every_prunable_weight_by_its_dense_gradient(name):
    model, x = made(name)
    method = pruning.RigL(weights=40, allocation="uniform", fraction=0.5, every=1, until=1.0)
    method.start(model)
    before = masks.masks(model)
    assert sum(int(mask.sum()) for mask in before.values()) == 40
    # the dense gradient, from a plain network with the masked weights
    plain = pruning.finalize(copy.deepcopy(model))
    plain(x).square().sum().backward()
    model(x).square().sum().backward()
    old = {
        key: masks.effective(module, parameter) for key, module, parameter in prunable(model)
    }
    method.after_step(model, 0.0)
    dense = {key: getattr(module, name).grad for key, module, name in prunable(plain)}
    moved = 0
    for key, mask in masks.masks(model).items():
        count = int(0.5 * int(before[key].sum()))
        stay = before[key].flatten()
        size = old[key].abs().flatten().masked_fill(~stay, torch.inf)
        stay = stay.index_fill(0, size.argsort()[:count], False)
        size = dense[key].abs().flatten()
        grown = mask.flatten() & ~stay
        assert (mask.flatten() & stay).equal(stay), key
        assert grown.sum() == count, key
        left = ~mask.flatten()
        assert count == 0 or size[grown].min() >= size[left].max() * (1 - 1e-4), key
        moved += int((mask & ~before[key]).sum())
    assert moved
    method.finish(model)
    pruning.finalize(model)(x)


def test_weights_of_another_size_than_the_score_are_refused():
    model = nn.Sequential(nn.Conv1d(4, 6, 2), nn.Flatten(), nn.Linear(18, 3))
    wrong = {"0": torch.rand(6, 4, 2), "2": torch.rand(3, 17)}
    with pytest.raises(ValueError, match=r"score: got shape \(3, 17\) for layer '2'"):
        pruning.GradualPruning(model, weights=5, score=lambda _: wrong)
    with pytest.raises(ValueError, match="score: got layer 'head', needs some of"):
        pruning.GradualPruning(model, weights=5, score=lambda _: {"head": torch.rand(2)})


def test_a_score_of_some_layers_counts_those_and_names_the_others():
    model = nn.Sequential(nn.Conv1d(4, 6, 2), nn.Flatten(), nn.Linear(18, 3))
    with pytest.warns(UserWarning, match=r"\['0'\] have no score"):
        pruner = pruning.GradualPruning(
            model, weights=50, score=lambda m: pruning.magnitude(m, ignore=["0"])
        )
    assert pruner.kept(0.0) == 54
    pruner.step(1.0)
    assert counts(model) == {"0": 48, "2": 50}
    assert not parametrize.is_parametrized(model[0])
    with (
        pytest.warns(UserWarning, match="have no score"),
        pytest.raises(ValueError, match="weights: got 55, needs a whole number from 1 to 54"),
    ):
        pruning.GradualPruning(
            model, weights=55, score=lambda m: pruning.magnitude(m, ignore=["0"])
        )


def test_a_score_that_changes_its_layers_is_refused():
    model = nn.Sequential(nn.Conv1d(4, 6, 2), nn.Flatten(), nn.Linear(18, 3))
    ignored = []
    pruner = pruning.GradualPruning(
        model, weights=50, score=lambda m: pruning.magnitude(m, ignore=ignored)
    )
    ignored.append("0")
    with pytest.raises(ValueError, match=r"scores: got layers \['2'\], needs \['0', '2'\]"):
        pruner.step(1.0)


def test_shares_are_in_the_order_of_the_model_whatever_the_score_s_order():
    model = nn.Sequential(nn.Conv1d(4, 6, 2), nn.Flatten(), nn.Linear(18, 3))
    pruner = pruning.GradualPruning(
        model,
        weights=10,
        allocation=(0.8, 0.2),
        score=lambda m: dict(reversed(pruning.magnitude(m).items())),
    )
    pruner.finish()
    assert counts(model) == {"0": 8, "2": 2}


def test_sizes_are_those_of_all_prunable_weights():
    model, _ = made("lstm")
    assert shares.sizes(model) == {
        key: score.shape for key, score in pruning.magnitude(model).items()
    }
    with pytest.raises(ValueError, match="has no weights to prune"):
        shares.sizes(nn.Sequential(nn.ReLU()))
    with pytest.raises(ValueError, match=r"\['0'\] are gated"):
        shares.sizes(pruning.gate(nn.Sequential(nn.Linear(3, 2))))


def test_rewinding_takes_over_the_masks_of_torch_and_goes_with_weight_norm():
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Conv1d(1, 4, 2))
    prune.l1_unstructured(model[0], "weight", 10)
    parametrizations.weight_norm(model[2])
    rewinding = pruning.Rewinding(weights=12, rounds=1, early=0)
    rewinding.start(model)
    first = model[0].weight_orig.detach().clone()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    rewinding.prune_and_rewind(model)
    assert sum(counts(model).values()) == 12
    assert torch.equal(masks.original(model[0]), first)


@pytest.mark.parametrize("allocation", [(), (0.75, 0.25)])
def test_one_shot_pruning_with_shares_counts_every_prunable_weight(allocation):
    model, x = made("one dimension")
    problem = recipes.Problem(
        x, torch.zeros(5), sizes=(), density=0.2, epochs=1, finetune_epochs=1, dense_weights=60
    )
    oneshot.prune(model, problem, oneshot.MAGNITUDE, "global", allocation)
    assert sum(counts(model).values()) == 12
    if allocation:
        assert list(counts(model).values()) == [9, 3]
