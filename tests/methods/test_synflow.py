import pytest
import torch
from torch import nn

from pruning.methods import synflow
from pruning.networks import masks, models


def test_the_scores_of_each_layer_sum_to_the_flow():
    model = models.mlp((9, 7, 5, 3), "silu")
    scores = synflow.synflow(model, torch.zeros(1, 9))
    weights = [model[level].weight.double().abs() for level in (0, 2, 4)]
    flow = (weights[2] @ weights[1] @ weights[0]).sum().item()  # all paths, by matrix products
    assert [score.sum().item() for score in scores.values()] == pytest.approx([flow] * 3)


def test_conservation_holds_at_every_hidden_neuron():
    scores = synflow.synflow(models.mlp((9, 7, 5, 3)), torch.zeros(1, 9))
    torch.testing.assert_close(scores["0"].sum(1), scores["2"].sum(0))
    torch.testing.assert_close(scores["2"].sum(1), scores["4"].sum(0))


def test_a_weight_scores_the_sum_of_its_paths():
    model = models.mlp((2, 2, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, -2.0], [3.0, 0.5]]))
        model[2].weight.copy_(torch.tensor([[-1.0, 4.0], [2.0, 1.0]]))
    scores = synflow.synflow(model, torch.zeros(1, 2))
    assert scores["0"].tolist() == [[3.0, 6.0], [15.0, 2.5]]
    assert scores["2"].tolist() == [[3.0, 14.0], [6.0, 3.5]]


def test_a_convolutional_network_is_scored_too():
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(12, 2),
    )
    scores = synflow.synflow(model, torch.zeros(1, 1, 4, 4))
    assert scores["0"].sum().item() == pytest.approx(scores["4"].sum().item())


def test_no_layer_is_emptied_and_every_weight_lies_on_a_path():
    model = models.mlp((784, 300, 100, 10), "silu")
    before = [parameter.clone() for parameter in model.parameters()]
    synflow.prune(model, torch.zeros(1, 784), weights=404, rounds=30)
    kept = [mask.double() for mask in masks.masks(model).values()]
    assert sum(int(mask.sum()) for mask in kept) == 404
    assert all(mask.any() for mask in kept)
    on_path = kept[0] * (kept[2] @ kept[1]).sum(0)[:, None]
    assert torch.equal(on_path > 0, kept[0] > 0)
    after = [masks.original(layer) for layer in model if isinstance(layer, nn.Linear)]
    assert all(torch.equal(old, new) for old, new in zip(before[::2], after, strict=True))


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="rounds: got 0"):
        synflow.prune(models.mlp((4, 3)), torch.zeros(1, 4), weights=3, rounds=0)
    with pytest.raises(TypeError, match=r"inputs: got torch\.int64, needs floating point"):
        synflow.synflow(nn.Embedding(3, 2), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="Linear or Conv2d"):
        synflow.synflow(nn.Sequential(nn.ReLU()), torch.zeros(1, 4))
