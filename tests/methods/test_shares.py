import pytest
import torch
from torch import nn

from pruning.methods import shares
from pruning.networks import masks, models


def sizes(model):
    return {
        name: layer.weight.shape
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear)
    }


LENET = sizes(models.mlp((784, 300, 100, 10)))


@pytest.mark.parametrize("weights", [404, 1065, 2662])
@pytest.mark.parametrize(
    "allocation", ["uniform", "erdos-renyi", (0.67, 0.19, 0.14), (0.1, 0.1, 0.8)]
)
def test_the_budget_is_met_exactly(weights, allocation):
    kept = shares.by_layer(LENET, weights, allocation)
    assert sum(kept.values()) == weights
    assert all(0 <= kept[name] <= LENET[name].numel() for name in kept)


def test_given_shares_are_those_of_the_kept_weights():
    assert list(shares.by_layer(LENET, 404, (0.67, 0.19, 0.14)).values()) == [271, 77, 56]


def test_what_a_full_layer_cannot_take_goes_to_the_others():
    assert list(shares.by_layer(LENET, 2662, (0.1, 0.1, 0.8)).values()) == [831, 831, 1000]


def test_erdos_renyi_densities_follow_the_formula():
    kept = shares.by_layer(LENET, 26_620, "erdos-renyi")
    # RigL, arXiv:1911.11134: density ∝ 1 − (n_in + n_out) / (n_in · n_out) as sparsity, with
    # one factor for all
    expected = {name: sum(size) / size.numel() for name, size in LENET.items()}
    free = [name for name in kept if kept[name] < LENET[name].numel()]
    factors = [kept[name] / LENET[name].numel() / expected[name] for name in free]
    assert max(factors) / min(factors) == pytest.approx(1, abs=2e-3)
    assert len(free) == 2  # the last layer is full
    assert all(expected[name] * factors[0] >= 1 for name in set(kept) - set(free))


def test_uniform_is_the_same_density_everywhere():
    kept = shares.by_layer(LENET, 2662, "uniform")
    assert all(kept[name] == pytest.approx(0.01 * LENET[name].numel(), abs=1) for name in kept)


def test_largest_competes_over_the_network_or_within_layers():
    scores = {"a": torch.tensor([[5.0, 1.0], [2.0, 4.0]]), "b": torch.tensor([[3.0, 3.0]])}
    everywhere = shares.largest(scores, 3)
    assert everywhere["a"].tolist() == [[True, False], [False, True]]
    assert everywhere["b"].tolist() == [[True, False]]  # ties by position
    within = shares.largest(scores, {"a": 3, "b": 0})
    assert within["a"].tolist() == [[True, False], [True, True]]
    assert not within["b"].any()


def test_what_is_pruned_stays_pruned():
    model = models.mlp((6, 5, 4))
    generator = torch.Generator().manual_seed(0)
    scores = {
        name: torch.rand(size, generator=generator) for name, size in sizes(model).items()
    }
    shares.keep_largest(model, scores, 20)
    before = masks.masks(model)
    shares.keep_largest(model, {name: -score for name, score in scores.items()}, 10)
    after = masks.masks(model)
    assert sum(int(mask.sum()) for mask in after.values()) == 10
    assert all((after[name] <= before[name]).all() for name in after)


def test_rounds_remove_equal_fractions():
    full = {name: size.numel() for name, size in LENET.items()}
    totals = shares.descending(full, 404, 10)
    assert totals[-1] == 404
    ratios = [b / a for a, b in zip([266_200, *totals], totals, strict=False)]
    assert ratios == pytest.approx([(404 / 266_200) ** 0.1] * 10, rel=2e-3)
    final = shares.by_layer(LENET, 404, (0.67, 0.19, 0.14))
    by_layer = shares.descending(full, final, 10)
    assert list(by_layer[-1].values()) == [271, 77, 56]


@pytest.mark.parametrize(
    ("weights", "allocation", "said"),
    [
        (0, "global", "weights: got 0"),
        (266_201, "global", "needs a number from 1 to 266200"),
        (404, "neuron", "allocation: got 'neuron'"),
        (404, (0.5, 0.5), "needs 3"),
        (404, (0.5, 0.6, 0.1), "of sum 1"),
    ],
)
def test_bad_input_is_named(weights, allocation, said):
    with pytest.raises(ValueError, match=said):
        shares.by_layer(LENET, weights, allocation)
