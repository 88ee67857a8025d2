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
    assert list(shares.by_layer(LENET, 404, (0.14, 0.19, 0.67)).values()) == [56, 77, 271]


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


def test_the_ends_of_budgets_and_shares():
    assert shares.by_layer(LENET, 1) == 1
    assert shares.by_layer(LENET, 266_200) == 266_200
    full = {name: size.numel() for name, size in LENET.items()}
    for allocation in ("uniform", "erdos-renyi"):
        assert shares.by_layer(LENET, 266_200, allocation) == full
    empty = shares.by_layer(LENET, 404, (0, 0.5, 0.5 + 1e-8))
    assert list(empty.values()) == [0, 202, 202]


def test_erdos_renyi_rounds_the_largest_remainders_up():
    # inputs + outputs are 10, 7 and 5 of 22, so 19 weights fall into 8.64, 6.05 and 4.32
    shapes = [(4, 6), (3, 4), (2, 3)]
    assert shares.erdos_renyi(shapes, 19 / 42) == [9, 6, 4]
    assert shares.erdos_renyi(shapes[::-1], 19 / 42) == [4, 6, 9]
    with pytest.raises(ValueError, match=r"density: got 0, needs a number in \(0, 1\]"):
        shares.erdos_renyi(shapes, 0)


def test_uniform_is_the_same_density_everywhere():
    kept = shares.by_layer(LENET, 2662, "uniform")
    assert all(kept[name] == pytest.approx(0.01 * LENET[name].numel(), abs=1) for name in kept)


def test_largest_competes_over_the_network_or_within_layers():
    scores = {"a": torch.tensor([[5.0, 1.0], [2.0, 4.0]]), "b": torch.tensor([[3.0, 3.0]])}
    everywhere = shares.largest(scores, 3)
    assert everywhere["a"].tolist() == [[True, False], [False, True]]
    assert everywhere["b"].tolist() == [[True, False]]  # ties by position
    assert everywhere["b"].dtype == torch.bool
    within = shares.largest(scores, {"a": 3, "b": 0})
    assert within["a"].tolist() == [[True, False], [True, True]]
    assert not within["b"].any()


def test_many_equal_scores_are_kept_in_the_order_of_layers_and_positions():
    scores = {"a": torch.ones(30, 50), "b": torch.ones(1500)}
    found = shares.largest(scores, 1600)
    assert found["a"].all()
    assert found["b"].tolist() == [True] * 100 + [False] * 1400
    found = shares.largest(scores, {"a": 700, "b": 0})
    assert found["a"].flatten().tolist() == [True] * 700 + [False] * 800


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


def test_rounds_by_hand():
    assert shares.descending({"a": 400, "b": 600}, 8, 3) == [200, 40, 8]  # a fifth each
    found = shares.descending({"a": 1000, "b": 50, "c": 0}, {"a": 8, "b": 0, "c": 0}, 3)
    assert found == [{"a": kept, "b": 0, "c": 0} for kept in (200, 40, 8)]


def test_what_is_left_is_what_the_masks_keep():
    model = models.mlp((6, 5, 4))
    masks.set_mask(model[0], torch.arange(30).view(5, 6) < 12)
    for weights in (32, {"0": 12, "2": 20}, {"0": 1}):  # all that is left is not too much
        assert shares.left(model, weights) == {"0": 12, "2": 20}
    assert shares.left(model, 20, ["2"]) == {"2": 20}
    with pytest.raises(ValueError, match="weights: got 33, needs at most the 32 that are"):
        shares.left(model, 33)
    with pytest.raises(
        ValueError, match="weights: got 13 for layer '0', needs at most the 12"
    ):
        shares.left(model, {"2": 20, "0": 13})


def test_the_owners_of_weights():
    model = models.mlp((6, 5, 4))
    both = {"0": (model[0], "weight"), "2": (model[2], "weight")}
    assert shares.owners(model) == both
    assert list(shares.owners(model, ["2", "0"])) == ["0", "2"]
    assert list(shares.sizes(model, ["2"])) == ["2"]
    with pytest.raises(ValueError, match=r"scores: got layer '1', needs some of \['0', '2'\]"):
        shares.owners(model, ["2", "3", "1"])
    with pytest.raises(ValueError, match="masks: got layer '1'"):
        shares.sizes(model, ["1"], "masks")
    with pytest.raises(ValueError, match="scores: got layer '1'"):
        shares.sizes(model, ["1"])
    model[2].weight = nn.Parameter(torch.randn(5, 5))
    model.append(nn.Linear(5, 5))
    model[3].weight = model[2].weight
    assert list(shares.owners(model, ["0"])) == ["0"]
    with pytest.raises(ValueError, match="shares its weight"):
        shares.owners(model)


def test_free_weights_are_plain_parameters():
    model = models.mlp((6, 5, 4))
    assert shares.free(model) == shares.owners(model)
    masks.set_mask(model[2], torch.ones(4, 5, dtype=torch.bool))
    with pytest.raises(ValueError, match="model: '2' carries a mask"):
        shares.free(model)
    with pytest.warns(UserWarning, match=r"\['0.weight'\]"):
        shares.free(nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 2)))


@pytest.mark.parametrize(
    ("weights", "allocation", "said"),
    [
        (0, "global", "weights: got 0"),
        (404.0, "uniform", r"weights: got 404\.0, needs a whole number"),
        (True, "global", "weights: got True, needs a whole number"),
        (266_201, "global", "needs a whole number from 1 to 266200"),
        (404, "neuron", "allocation: got 'neuron'"),
        (404, (0.5, 0.5), "needs 3"),
        (404, (0.5, 0.6, 0.1), r"got \(0.5, 0.6, 0.1\), needs 3, none below 0, of sum 1"),
        (404, (0.33, 0.33, 0.33), "of sum 1"),
        (404, (1.2, -0.1, -0.1), "none below 0"),
        (404, "Global", r"needs one of \('global', 'uniform', 'erdos-renyi'\) or a share"),
    ],
)
def test_bad_input_is_named(weights, allocation, said):
    with pytest.raises(ValueError, match=said):
        shares.by_layer(LENET, weights, allocation)
