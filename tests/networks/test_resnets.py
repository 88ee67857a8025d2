import pytest
import torch
from torch import nn

import pruning
from pruning.networks import models


def count(model):
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ("depth", "parameters"), [(20, 269_722), (56, 853_018), (110, 1_727_962)]
)
def test_identity_shortcuts_have_the_parameters_of_he_et_al(depth, parameters):
    model = models.cifar_resnet(depth)
    assert count(model) == parameters
    convolutions = sum(isinstance(m, nn.Conv2d) for m in model.modules())
    assert convolutions + 1 == depth  # and the linear layer


@pytest.mark.parametrize(
    ("blocks", "parameters"),
    [((9, 9, 9), 857_898), ((18, 18, 18), 1_734_858), ((18, 37, 37), 3_496_842)],
)
def test_projection_shortcuts_have_the_parameters_of_the_authors_networks(blocks, parameters):
    assert count(models.cifar_resnet(blocks, shortcut="projection")) == parameters


@pytest.mark.parametrize("shortcut", models.SHORTCUTS)
def test_shapes_and_gradients(shortcut):
    model = models.cifar_resnet(8, shortcut, classes=7, channels=1)
    x = torch.randn(3, 1, 32, 32)
    logits = model(x)
    assert logits.shape == (3, 7)
    assert model[:-3](x).shape == (3, 64, 8, 8)
    logits.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_an_identity_shortcut_is_the_input_where_shapes_agree():
    block = models.BasicBlock(16, 32, 2, "identity").eval()
    nn.init.zeros_(block.bn2.weight)
    x = torch.rand(2, 16, 8, 8)
    found = block(x)
    assert torch.equal(found[:, :16], x[:, :, ::2, ::2])
    assert (found[:, 16:] == 0).all()


def test_a_resnet_can_be_pruned():
    model = models.cifar_resnet(8)
    pruning.prune_by_score(model, pruning.magnitude(model), 0.5)
    report = pruning.sparsity_report(model)
    assert report.kept.sum() == report.weights.sum() - -(-report.weights.sum() // 2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((21,), "got depth 21"),
        ((2,), "got depth 2"),
        (((3, 3),), r"got blocks \(3, 3\)"),
        (((3, 0, 3),), r"got blocks \(3, 0, 3\)"),
        ((20, "skip"), "shortcut: got 'skip'"),
    ],
)
def test_wrong_arguments_are_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        models.cifar_resnet(*arguments)
