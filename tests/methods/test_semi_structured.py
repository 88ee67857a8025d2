import itertools

import pytest
import torch
from torch import nn
from torch.ao.pruning import WeightNormSparsifier

import pruning
from pruning.methods.semi_structured import n_m_mask


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (3, 4), (1, 2), (4, 8), (4, 4)])
def test_the_best_n_of_every_m_are_kept(n, m):
    model = nn.Sequential(nn.Linear(16, 6), nn.Flatten(), nn.Linear(8, 3))
    scores = pruning.magnitude(model)
    pruning.prune_n_m(model, scores, n, m)
    for key, mask in pruning.masks(model).items():
        for row, kept in zip(scores[key], mask, strict=True):
            for start in range(0, len(row), m):
                group, inside = row[start : start + m], kept[start : start + m]
                best = max(
                    itertools.combinations(range(m), n), key=lambda c: group[list(c)].sum()
                )
                assert inside.nonzero().flatten().tolist() == list(best)


@pytest.mark.parametrize("shape", [(8,), (3, 8), (2, 3, 8)])
def test_the_last_dimension_of_any_tensor_is_grouped(shape):
    scores = torch.randn(shape)
    mask = n_m_mask(scores, 1, 4)
    assert mask.dtype == torch.bool
    assert mask.shape == shape
    groups = mask.view(-1, 4)
    assert (groups.sum(1) == 1).all()
    assert torch.equal(groups.int().argmax(1), scores.view(-1, 4).argmax(1))
    with pytest.raises(ValueError, match="scores: got rows of 8, needs a multiple of m = 3"):
        n_m_mask(scores, 1, 3)
    with pytest.raises(ValueError, match="n, m: got 0, 4, needs whole numbers with 0 < n ≤ m"):
        n_m_mask(scores, 0, 4)


def test_equal_scores_are_kept_in_the_order_of_their_positions():
    assert (
        n_m_mask(torch.ones(2, 2000), 1000, 2000).tolist()
        == [[True] * 1000 + [False] * 1000] * 2
    )


def test_two_of_four_are_those_of_torch():
    model = nn.Sequential(nn.Linear(32, 8))
    sparsifier = WeightNormSparsifier(
        sparsity_level=1.0, sparse_block_shape=(1, 4), zeros_per_block=2
    )
    other = nn.Sequential(nn.Linear(32, 8))
    other.load_state_dict(model.state_dict())
    sparsifier.prepare(other, [{"tensor_fqn": "0.weight"}])
    sparsifier.step()
    pruning.prune_n_m(model, pruning.magnitude(model))
    assert torch.equal(
        pruning.masks(model)["0"], other[0].parametrizations.weight[0].mask.bool()
    )


def test_a_convolution_is_grouped_along_its_channels_at_every_position():
    model = nn.Sequential(nn.Conv2d(8, 4, 3), nn.Conv2d(4, 8, 1))
    pruning.prune_n_m(model, pruning.magnitude(model))
    for mask in pruning.masks(model).values():
        groups = mask.movedim(1, -1).reshape(-1, 4)
        assert (groups.sum(1) == 2).all()


def test_what_is_pruned_stays_pruned():
    model = nn.Sequential(nn.Linear(16, 6))
    pruning.prune_by_score(model, pruning.random_scores(model), 0.5)
    before = pruning.masks(model)["0"]
    pruning.prune_n_m(model, pruning.magnitude(model))
    after = pruning.masks(model)["0"]
    assert (after <= before).all()
    expected = before.view(-1, 4).sum(1).clamp_max(2)
    assert torch.equal(after.view(-1, 4).sum(1), expected)


def test_what_has_no_groups_is_refused_and_nothing_changed():
    model = nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 4))
    with pytest.raises(
        ValueError, match=r"'1' has rows of 6, needs .* m = 4; .*ignore=\['1'\]"
    ):
        pruning.prune_n_m(model, pruning.magnitude(model))
    assert pruning.masks(model)["0"].all()
    for n, m in ((3, 2), (2.0, 4), (2, 4.0), (0, 4), ("2", 4)):
        with pytest.raises(ValueError, match=f"n, m: got {n!r}, {m!r}, needs whole numbers"):
            pruning.prune_n_m(model, pruning.magnitude(model), n, m)
    with pytest.raises(TypeError, match="scores: got list, needs a dict"):
        pruning.prune_n_m(model, [torch.ones(6, 8)])
    with pytest.raises(TypeError, match="scores: got list for layer '0', needs a tensor"):
        pruning.prune_n_m(model, {"0": [1.0]})
    with pytest.raises(ValueError, match="got layer 'x'"):
        pruning.prune_n_m(model, {"x": torch.ones(2, 2)})
    with pytest.raises(ValueError, match=r"got shape \(2, 2\) for layer '0'"):
        pruning.prune_n_m(model, {"0": torch.ones(2, 2)})
    with pytest.raises(ValueError, match="scores: got none"):
        pruning.prune_n_m(model, {})
    gated = pruning.gate(nn.Sequential(nn.Linear(8, 6)))
    with pytest.raises(ValueError, match=r"layers \['0'\] are gated"):
        pruning.prune_n_m(gated, {"0": torch.ones(6, 8)})
    up = nn.Sequential(nn.ConvTranspose2d(4, 4, 2))
    with pytest.raises(ValueError, match="transposed convolution"):
        pruning.prune_n_m(up, pruning.magnitude(up))
