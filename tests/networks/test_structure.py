import itertools

import pytest
import torch
from torch import nn

import pruning
from pruning.networks import structure


def sparse_net(seed, density=0.3, sizes=(4, 6, 5, 3)):
    torch.manual_seed(seed)
    model = pruning.models.mlp(sizes, "tanh")
    return pruning.prune_by_score(model, pruning.random_scores(model), 1 - density)


@pytest.mark.parametrize("seed", range(6))
def test_an_output_is_reached_where_there_is_a_path(seed):
    model = sparse_net(seed, 0.2 + 0.05 * seed)
    kept = list(pruning.masks(model).values())
    widths = [kept[0].shape[1], *(len(mask) for mask in kept)]
    expected = torch.zeros(widths[-1], widths[0], dtype=torch.bool)
    for path in itertools.product(*(range(n) for n in widths)):
        if all(
            mask[j, i] for mask, (i, j) in zip(kept, itertools.pairwise(path), strict=True)
        ):
            expected[path[-1], path[0]] = True
    assert torch.equal(structure.reaches(model), expected)


def test_an_input_without_a_path_changes_nothing():
    model = sparse_net(1, 0.25).eval()
    x = torch.randn(50, 4)
    for i, reached in enumerate(structure.reaches(model).T):
        other = x.clone()
        other[:, i] += 1
        changed = ((model(other) - model(x)).abs() > 1e-7).any(0)
        assert not (changed & ~reached).any()


def test_symmetry():
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1))
    model[0].weight.data = torch.tensor(
        [[1.0, -1.0, 0.0, 0.5], [2.0, 2.0, 0.0, 0.0], [9.0, 0.0, 7.0, 0.0]]
    )
    model[2].weight.data = torch.tensor([[1.0, 1.0, 0.0]])  # nothing reads the third neuron
    assert structure.symmetry(model, 0, 1) == 1  # the sign does not matter
    assert structure.symmetry(model, 0, 3) == pytest.approx(0.5 / 3)
    assert structure.symmetry(model, 2, 2) == 0  # not connected
    assert structure.symmetry(nn.Sequential(model[0]), 0, 2) == pytest.approx(7 / 12)
    with pytest.raises(ValueError, match="a, b: got 0, 4"):
        structure.symmetry(model, 0, 4)


def crossings(matrices, orders):
    found = 0
    for matrix, (left, right) in zip(matrices, itertools.pairwise(orders), strict=True):
        edges = [(left.index(i), right.index(o)) for o, i in matrix.nonzero().tolist()]
        found += sum(
            (a - c) * (b - d) < 0 for (a, b), (c, d) in itertools.combinations(edges, 2)
        )
    return found


def test_order_removes_crossings_and_leaves_out_the_dead():
    torch.manual_seed(3)
    # two separate bundles, hidden neurons shuffled
    place = torch.randperm(6)
    first, second = torch.zeros(7, 4), torch.zeros(2, 7)
    for k, neuron in enumerate(place.tolist()):
        first[neuron, [0, 1] if k < 3 else [2, 3]] = 1.0
        second[0 if k < 3 else 1, neuron] = 1.0
    orders = structure.ordered([first, second])
    assert orders[0] == [0, 1, 2, 3]
    assert orders[2] == [0, 1]
    assert sorted(orders[1]) == list(range(6))  # not 6, which nothing connects
    assert set(orders[1][:3]) == set(place[:3].tolist())
    shuffled = [orders[0], list(range(6)), orders[2]]
    assert crossings([first, second], orders) < crossings([first, second], shuffled)
