import itertools

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch_models import Recurrent

import pruning
from pruning.networks.chain import ELEMENTWISE, chain
from pruning.networks.masks import mask_of, masks, original, set_mask


def sparse_net(sizes, density, activation=nn.SiLU, seed=0, **kwargs):
    """A random net with a random mask; harsh densities leave dead neurons of every kind."""
    torch.manual_seed(seed)
    layers = []
    for i, o in itertools.pairwise(sizes):
        linear = nn.Linear(i, o, **kwargs)
        set_mask(linear, torch.rand(o, i) < density)
        layers += [linear, activation()]
    return nn.Sequential(*layers[:-1])


def brute_force_effective(model):
    """Enumerate every path input → output over kept weights, and collect the weights on
    them."""
    matrices = [mask_of(m) for m in model if isinstance(m, nn.Linear)]
    sizes = [matrices[0].shape[1], *(m.shape[0] for m in matrices)]
    on_path = set()
    for path in itertools.product(*map(range, sizes)):
        edges = [(layer, path[layer + 1], path[layer]) for layer in range(len(matrices))]
        if all(matrices[layer][o, i] for layer, o, i in edges):
            on_path.update(edges)
    return len(on_path)


@pytest.mark.parametrize("seed", range(20))
def test_effective_weights_against_all_paths(seed):
    model = sparse_net((5, 4, 4, 3), density=0.3, seed=seed)
    assert pruning.effective_weights(model) == brute_force_effective(model)


def test_effective_by_hand():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    # input 0 → hidden 0 → nothing; input 1 → hidden 0; hidden 1 (no input) → output
    set_mask(model[0], torch.tensor([[True, True], [False, False]]))
    set_mask(model[2], torch.tensor([[False, True]]))
    assert pruning.effective_weights(model) == 0
    report = pruning.sparsity_report(model)
    assert report[["layer", "weights", "kept", "density", "effective"]].values.tolist() == [
        ["0", 4, 2, 0.5, 0],
        ["2", 2, 1, 0.5, 0],
    ]


@pytest.mark.parametrize("seed", range(15))
@pytest.mark.parametrize("density", [0.02, 0.1, 0.3, 1.0])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.Sigmoid, nn.SiLU])
def test_compact_has_the_same_outputs_and_nothing_dead(seed, density, activation):
    model = sparse_net((20, 12, 8, 4), density, activation, seed, bias=seed % 2 == 0)
    small, x = pruning.compact(model), torch.randn(50, 20)
    assert torch.allclose(small(x), model(x), atol=1e-5)
    linears = [m for m in small if isinstance(m, nn.Linear)]
    for layer, following in itertools.pairwise(linears):
        assert (layer.weight != 0).any(1).all(), "a hidden neuron without a living input"
        assert (following.weight != 0).any(0).all(), "a hidden neuron that nothing reads"
    assert (linears[0].weight != 0).any(0).all(), "an input that nothing reads"
    assert linears[-1].out_features == 4
    assert sum(int((m.weight != 0).sum()) for m in linears) == pruning.effective_weights(model)


def test_compact_of_a_gated_model_with_flatten_and_dropout():
    model = nn.Sequential(
        nn.Flatten(),
        nn.Linear(16, 10),
        nn.GELU(),
        nn.Dropout(),
        nn.Sequential(nn.Linear(10, 3)),
    )
    pruning.gate(model, init=0.5)
    with torch.no_grad():
        for logits in pruning.gate_parameters(model):
            logits.normal_(-1)
    x = torch.randn(7, 4, 4)
    small = pruning.compact(model)
    assert model.training
    assert torch.allclose(small(x), model.eval()(x), atol=1e-5)
    assert not any(isinstance(m, nn.Dropout) for m in small)
    with torch.no_grad():
        next(model.parameters()).add_(1)
    assert small[1].indices.numel() < 16  # some input is gone, and nothing is shared
    assert not torch.allclose(small(x), model(x))


def test_compact_with_no_weight_left():
    model = sparse_net((6, 5, 3), density=0.0)
    assert torch.allclose(
        pruning.compact(model)(torch.randn(4, 6)), model(torch.randn(4, 6)), atol=1e-6
    )


@pytest.mark.parametrize("kind", ELEMENTWISE)
def test_elementwise_layers_are_elementwise(kind):
    layer, x = kind().eval(), torch.randn(5, 7)
    assert torch.allclose(layer(x)[:, 3], layer(x[:, 3]), atol=1e-6)


def test_compact_refuses_what_it_cannot_follow():
    with pytest.raises(TypeError, match="'0' is a Conv2d"):
        pruning.compact(nn.Sequential(nn.Conv2d(1, 1, 1)))
    with pytest.raises(TypeError, match="MultiheadAttention"):
        pruning.compact(nn.Sequential(nn.MultiheadAttention(4, 1)))
    with pytest.raises(ValueError, match="no Linear layer"):
        pruning.compact(nn.Sequential(nn.ReLU()))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x):
        return x + self.inner(x)


def test_report_of_a_model_with_branches_has_counts_but_no_paths():
    report = pruning.sparsity_report(Residual())
    assert report.kept.tolist() == [16]
    assert report.effective.isna().all()
    with pytest.warns(UserWarning, match="effective weights are missing: model:") as said:
        report = pruning.sparsity_report(Recurrent(), torch.zeros(2, 3, 4))
    assert report.effective.isna().all()
    assert said[0].filename == __file__
    with pytest.raises(TypeError, match="the model itself is a Residual"):
        pruning.effective_weights(Residual())


@pytest.mark.parametrize("groups", [1, 2])
def test_effective_of_a_convolution_against_gradients(groups):
    """Independent: with all-positive weights a kept weight lies on a path iff its gradient is
    not 0."""
    for seed in range(3):
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Conv2d(2, 4, 3, bias=False),
            nn.ReLU(),
            nn.Conv2d(4, 4, 1, groups=groups, bias=False),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(4 * 4, 3, bias=False),
        )
        for layer, d in ((model[0], 0.1), (model[2], 0.3), (model[5], 0.2)):
            nn.init.uniform_(layer.weight, 0.5, 1.0)
            # whole kernels, so that channel paths and weight paths agree
            shape = layer.weight.shape
            keep = (
                (torch.rand(shape[0], shape[1], 1, 1) < d) if layer.weight.dim() == 4 else None
            )
            if keep is None:
                keep = (torch.rand(3, 4) < d).repeat_interleave(4, 1)
            set_mask(layer, keep.expand(shape))
        model(torch.rand(4, 2, 6, 6) + 0.5).sum().backward()
        with_gradient = 0
        for layer in (model[0], model[5]):
            with_gradient += int(((original(layer).grad != 0) & mask_of(layer)).sum())
        middle = model[2]
        with_gradient += int(((original(middle).grad != 0) & mask_of(middle)).sum())
        # max pooling passes gradient to one position only; with 4 samples all 4 positions are
        # read
        assert pruning.effective_weights(model, torch.zeros(1, 2, 6, 6)) == with_gradient


def test_masks_of_plain_pruned_and_gated_layers():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3))
    with torch.no_grad():
        model[0].weight[0] = 0
    torch.nn.utils.prune.l1_unstructured(model[1], "weight", 4)
    pruning.gate(model, layers=["2"], init=0.1)
    assert [int(m.sum()) for m in masks(model).values()] == [6, 5, 0]


def test_report_needs_layers():
    with pytest.raises(ValueError, match="nothing to report"):
        pruning.sparsity_report(nn.ReLU())
    with pytest.raises(ValueError, match="no weights to count"):
        pruning.effective_weights(nn.Sequential(nn.ReLU()))


def test_chain_names_match_named_modules():
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU(), nn.Linear(2, 1)))
    assert [name for name, _ in chain(model)] == ["0", "1.0", "1.1"]
    assert [name for name, _ in chain(nn.Linear(2, 2))] == [""]


class TwoNames(nn.Module):
    """One layer under two names, which reads two inputs."""

    def __init__(self):
        super().__init__()
        self.left = nn.Linear(5, 4)
        self.right = self.left
        self.out = nn.Linear(8, 1)

    def forward(self, x, y):
        return self.out(torch.cat([self.left(x).relu(), self.right(y).relu()], 1))


def test_a_layer_with_two_names_has_effective_weights():
    model, x, y = TwoNames(), torch.randn(4, 5), torch.randn(4, 5)
    with torch.no_grad():
        model.out.weight[0, [0, 4, 1]] = 0  # neuron 0 is read nowhere, neuron 1 on the right
    for examples in [(x, x), (x, y)]:  # one tensor as two inputs is two inputs
        report = pruning.sparsity_report(model, examples)
        assert dict(zip(report.layer, report.effective, strict=True)) == {"left": 15, "out": 5}
        small = pruning.compact(model, examples)
        torch.testing.assert_close(small(x, y), model(x, y))
        assert {name.split(".")[0] for name, _ in small.named_parameters()} == {"left", "out"}


def tied_layers():
    model = nn.Sequential(nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 5))
    model[2].weight = model[0].weight
    with torch.no_grad():
        model[0].weight[0] = 0
        model[0].bias[0] = -1  # so that the ReLU gives 0
        model[0].weight[:, 0] = 0
    return model


def repeated_layer():
    layer = tied_layers()[0]
    return nn.Sequential(layer, nn.ReLU(), layer)


@pytest.mark.parametrize(
    ("make", "wanted"), [(tied_layers, {"0": 16, "2": 16}), (repeated_layer, {"0": 16})]
)
@pytest.mark.parametrize("examples", [None, torch.randn(3, 5)])
def test_a_weight_used_twice_counts_under_each_key(make, wanted, examples):
    model, x = make(), torch.randn(6, 5)
    report = pruning.sparsity_report(model, examples)
    assert dict(zip(report.layer, report.effective, strict=True)) == wanted
    assert report.kept.tolist() == report.effective.tolist()
    torch.testing.assert_close(pruning.compact(model, examples)(x), model(x))


class Words(nn.Module):
    def __init__(self, head_first):
        super().__init__()
        parts = {"embedding": nn.Embedding(9, 6), "head": nn.Linear(6, 9, bias=False)}
        for name in sorted(parts, reverse=head_first):
            self.add_module(name, parts[name])
        self.middle = nn.Linear(6, 6)
        self.head.weight = self.embedding.weight

    def forward(self, ids):
        return self.head(self.middle(self.embedding(ids)).relu())


@pytest.mark.parametrize("head_first", [False, True])
def test_a_tied_head_counts_wherever_it_is_defined(head_first):
    model, ids = Words(head_first), torch.randint(9, (4, 3))
    report = pruning.sparsity_report(model, ids)
    assert dict(zip(report.layer, report.effective, strict=True)) == {"head": 54, "middle": 36}
    torch.testing.assert_close(pruning.compact(model, ids)(ids), model(ids))


@pytest.mark.parametrize(
    "compute",
    [
        lambda layer: prune.random_unstructured(layer, "weight", 10),
        lambda layer: set_mask(layer, torch.rand(5, 5) < 0.5),
        parametrizations.spectral_norm,
    ],
)
@pytest.mark.parametrize("at", [0, 2])
def test_a_weight_that_others_hold_unmasked_is_kept_apart(compute, at):
    model, x = nn.Sequential(nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 5)), torch.randn(6, 5)
    model[2].weight = model[0].weight
    compute(model[at])
    outputs = model.eval()(x).detach()
    for examples in (None, x):
        torch.testing.assert_close(pruning.compact(model, examples)(x), outputs)
    torch.testing.assert_close(model(x), outputs)
    torch.testing.assert_close(pruning.finalize(model)(x), outputs)
