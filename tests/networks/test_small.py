"""The small networks, beside torch's own layers and counts by hand."""

import pytest
import torch
from torch import nn

import pruning
from pruning.networks import small


def test_the_convolutional_network_has_the_weights_that_its_text_says():
    assert small.convnet_weights((3, 32, 32), 10, small.WIDTHS) == 103_264
    # 3·32·9 + 32·64·9 + 2·64·64·9 + 64·4·4·10
    assert 3 * 32 * 9 + 32 * 64 * 9 + 2 * 64 * 64 * 9 + 64 * 16 * 10 == 103_264


def test_the_narrowed_network_is_the_largest_that_fits():
    shape = (1, 8, 8)
    for weights in (110, 500, 3000):
        found = small.narrow_widths(shape, 3, (8, 16, 16, 16), weights)
        assert small.convnet_weights(shape, 3, found) <= weights
        wider = tuple(round(w * (found[0] + 1) / 8) for w in (8, 16, 16, 16))
        assert small.convnet_weights(shape, 3, wider) > weights or found[0] == 8
    assert small.narrow_widths(shape, 3, (8, 16, 16, 16), 10) is None


@pytest.mark.parametrize(
    "build",
    [
        small.convnet,
        small.vgg,
        small.densenet,
        small.lenet,
        small.RowReader,
        small.PatchTransformer,
    ],
)
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (1, 8, 8)])
def test_every_network_trains_and_can_be_pruned(build, shape):
    torch.manual_seed(0)
    model = build(shape, 7)
    x = torch.rand(4, *shape)
    assert model(x).shape == (4, 7)
    model(x).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    pruning.prune_by_score(model, pruning.magnitude(model), 0.5)
    total = pruning.sparsity_report(model).weights.sum()
    assert pruning.sparsity_report(model).kept.sum() == pytest.approx(total / 2, abs=1)


def test_the_parameters_of_the_vgg():
    count = sum(p.numel() for p in small.vgg((3, 32, 32)).parameters())
    assert count == 82_778


def test_a_dense_block_hands_its_inputs_on():
    layer = small.DenseLayer(5, 3)
    x = torch.randn(2, 5, 6, 6)
    assert torch.equal(layer(x)[:, :5], x)
    assert layer(x).shape[1] == 8


def test_attention_is_torchs():
    torch.manual_seed(0)
    ours, theirs = (
        small.Attention(12, 3).eval(),
        nn.MultiheadAttention(12, 3, batch_first=True),
    )
    parts = (ours.query, ours.key, ours.value)
    theirs.in_proj_weight.data = torch.cat([part.weight for part in parts])
    theirs.in_proj_bias.data = torch.cat([part.bias for part in parts])
    theirs.out_proj.load_state_dict(ours.out.state_dict())
    x = torch.randn(2, 5, 12)
    assert torch.allclose(ours(x), theirs(x, x, x)[0], atol=1e-6)


def test_patches_are_those_of_a_strided_convolution():
    torch.manual_seed(0)
    model = small.PatchTransformer((2, 8, 8), patch=4, width=6, heads=2)
    model.position.data.zero_()
    convolution = nn.Conv2d(2, 6, 4, stride=4)
    convolution.weight.data = model.embed.weight.data.view(6, 2, 4, 4)
    convolution.bias.data = model.embed.bias.data
    x, seen = torch.randn(3, 2, 8, 8), []
    model.blocks.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    model(x)
    assert torch.allclose(seen[0], convolution(x).flatten(2).mT, atol=1e-6)


def test_rows_are_read_from_top_to_bottom():
    torch.manual_seed(0)
    model = small.RowReader((1, 5, 4), hidden=3)
    x, seen = torch.randn(2, 1, 5, 4), []
    model.gru.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    model(x)
    assert torch.equal(seen[0], x[:, 0])
