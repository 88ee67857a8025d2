import itertools

import pytest
import torch
from torch import nn

import pruning
from pruning.networks.importance import absolute_weights, feature_importance


def sparse_net(seed, density=0.4, sizes=(5, 6, 4, 3)):
    torch.manual_seed(seed)
    model = pruning.models.mlp(sizes, "tanh")
    pruning.prune_by_score(model, pruning.random_scores(model), 1 - density)
    return model


def by_paths(model):
    """Sum over all paths of the products of shares; shares count connections from reached
    neurons only."""
    sizes = [
        layer.weight.detach().double().abs() for layer in model if isinstance(layer, nn.Linear)
    ]
    reached = [True] * sizes[0].shape[1]
    shares = []
    for size in sizes:
        share = torch.zeros_like(size)
        for j in range(len(size)):
            total = sum(size[j, k].item() for k in range(size.shape[1]) if reached[k])
            for i in range(size.shape[1]):
                if reached[i] and total:
                    share[j, i] = size[j, i] / total
        reached = [bool((share[j] > 0).any()) for j in range(len(size))]
        shares.append(share)
    found = torch.zeros(len(sizes[-1]), sizes[0].shape[1], dtype=torch.float64)
    for path in itertools.product(
        *(range(n) for n in (sizes[0].shape[1], *(len(s) for s in sizes)))
    ):
        product = 1.0
        for share, (i, j) in zip(shares, itertools.pairwise(path), strict=True):
            product *= share[j, i].item()
        found[path[-1], path[0]] += product
    return found


@pytest.mark.parametrize("seed", range(8))
def test_recursion_equals_the_sum_over_all_paths(seed):
    model = sparse_net(seed, density=0.25 + 0.05 * seed)
    found = feature_importance(model)
    assert found.shape == (3, 5)
    assert torch.allclose(found, by_paths(model), atol=1e-6)
    rows = found.sum(1)
    assert torch.allclose(rows, torch.where(rows > 0.5, 1.0, 0.0).double())


def test_one_layer_is_the_equation():
    model = nn.Sequential(nn.Linear(3, 2))
    model[0].weight.data = torch.tensor([[1.0, -2.0, 1.0], [0.0, 0.0, 0.0]])
    assert feature_importance(model).tolist() == [[0.25, 0.5, 0.25], [0.0, 0.0, 0.0]]


def test_dead_neurons_take_no_share_and_give_no_nan():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    model[0].weight.data = torch.tensor(
        [[3.0, 1.0], [0.0, 0.0]]
    )  # the second neuron is constant
    model[2].weight.data = torch.tensor([[1.0, 5.0]])
    assert feature_importance(model).tolist() == [[0.75, 0.25]]
    model[0].weight.data.zero_()
    assert feature_importance(model).tolist() == [[0.0, 0.0]]


def test_gated_hardened_and_compact_networks_agree():
    torch.manual_seed(0)
    model = pruning.gate(pruning.models.mlp((6, 5, 3), "silu"), init=0.5)
    for logits in pruning.gate_parameters(model):
        nn.init.normal_(logits)
    gated = feature_importance(model)
    pruning.harden(model)
    assert torch.allclose(feature_importance(model), gated)
    small = feature_importance(pruning.compact(model)[1:])  # without its Select
    used = gated.sum(0) > 0
    assert torch.allclose(small[:, small.sum(0) > 0], gated[:, used])


def test_batch_norm_is_folded():
    torch.manual_seed(0)
    a, b = nn.Linear(4, 5), nn.Linear(5, 2)
    norm = nn.BatchNorm1d(5)
    nn.init.normal_(norm.weight)
    norm.running_var.uniform_(0.5, 2)
    factor = (norm.weight / (norm.running_var + norm.eps).sqrt()).detach()
    before = nn.Sequential(a, nn.ReLU(), nn.Dropout(), b)
    # after the activation it scales what the next layer reads
    scaled = nn.Linear(5, 2)
    scaled.weight.data = b.weight.data * factor
    folded = feature_importance(nn.Sequential(a, nn.ReLU(), norm, b))
    assert torch.allclose(folded, feature_importance(nn.Sequential(a, nn.ReLU(), scaled)))
    # before the activation it scales a neuron's weights alike, which changes no share
    same = feature_importance(nn.Sequential(a, norm, nn.ReLU(), b))
    assert torch.allclose(same, feature_importance(before))
    norm.weight.data[2] = 0.0  # but a neuron multiplied by 0 is dead
    a.weight.data[2], b.weight.data[:, 2] = 1.0, 50.0
    assert feature_importance(nn.Sequential(a, norm, nn.ReLU(), b))[0].max() < 1
    sizes = absolute_weights(nn.Sequential(a, norm, nn.ReLU(), b))
    assert (sizes[0][2] == 0).all()


def test_the_advice_is_one_that_can_be_taken():
    class Own(nn.Linear):
        def forward(self, x):
            return super().forward(x).relu()

    with pytest.raises(TypeError, match=r"importance follows nested nn\.Sequential") as caught:
        pruning.feature_importance(nn.Sequential(Own(2, 2)))
    assert "example_inputs" not in str(caught.value)


def test_what_cannot_be_followed_is_named():
    with pytest.raises(TypeError, match="'1' is a Conv2d"):
        feature_importance(nn.Sequential(nn.Flatten(), nn.Conv2d(1, 1, 1)))
    with pytest.raises(TypeError, match="is a Bilinear"):
        feature_importance(nn.Sequential(nn.Bilinear(2, 2, 2)))
    with pytest.raises(TypeError, match="no running statistics"):
        feature_importance(
            nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, track_running_stats=False))
        )
    with pytest.raises(ValueError, match="no Linear layer"):
        feature_importance(nn.Sequential(nn.ReLU()))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(bad):
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).eval()
    model[0].weight.data[1, 1] = bad
    with pytest.raises(ValueError, match="NaN or infinite at layer '0'"):
        pruning.feature_importance(model)
    model[0].weight.data[1, 1] = 1.0
    model[1].running_var[0] = float("nan")
    with pytest.raises(ValueError, match="NaN or infinite at layer '1'"):
        pruning.feature_importance(model)


def test_batch_norm_is_folded_with_its_epsilon():
    model = nn.Sequential(nn.BatchNorm1d(2, eps=3.0), nn.Linear(2, 1)).eval()
    with torch.no_grad():
        model[1].weight.fill_(1.0)
        model[0].running_var.copy_(torch.tensor([1.0, 6.0]))  # deviations with ε: 2 and 3
    assert torch.allclose(
        pruning.feature_importance(model), torch.tensor([[0.6, 0.4]]).double()
    )
