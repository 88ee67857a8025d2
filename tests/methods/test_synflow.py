import copy
from collections import OrderedDict

import pytest
import torch
from torch import nn
from torch_models import Attention

import pruning
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
    with pytest.raises(ValueError, match="Linear or convolution"):
        synflow.synflow(nn.Sequential(nn.ReLU()), torch.zeros(1, 4))


class Joined(nn.Module):
    """An encoder, a transposed convolution back, and a skip connection, with all that a flow
    must pass by."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv1d(2, 4, 3, padding=1)
        self.down = nn.Conv1d(4, 6, 2, stride=2)
        self.norm = nn.BatchNorm1d(6)
        self.up = nn.ConvTranspose1d(6, 4, 2, stride=2)
        self.mixing = nn.Parameter(torch.randn(8, 8))
        self.last = nn.Conv1d(8, 3, 1)

    def forward(self, x):
        x = self.first(x).relu()
        y = self.up(self.norm(self.down(x)).relu())
        return self.last(self.mixing @ torch.cat([x, y], 1))


def test_every_convolution_carries_its_absolute_weights():
    model = Joined()
    nn.init.normal_(model.norm.running_mean)
    scores = synflow.synflow(model, torch.zeros(5, 2, 8))
    assert list(scores) == ["first", "down", "up", "last"]
    assert all((score >= 0).all() for score in scores.values())
    whole = scores["last"].sum()
    torch.testing.assert_close(scores["first"].sum(), whole)
    torch.testing.assert_close(scores["down"].sum(), scores["up"].sum())
    # the flow without the branch through `up` is what `up` does not carry
    with torch.no_grad():
        model.up.weight.zero_()
    with pytest.warns(UserWarning, match=r"no flow runs .*'down': 48"):
        without = synflow.synflow(model, torch.zeros(5, 2, 8))["last"].sum()
    torch.testing.assert_close(whole - without, scores["up"].sum())


def test_the_budget_counts_every_convolution():
    model = synflow.prune(Joined(), torch.zeros(1, 2, 8), weights=60, rounds=5)
    kept = masks.masks(model)
    assert sum(int(mask.sum()) for mask in kept.values()) == 60
    assert not kept["up"].all()


def test_what_was_pruned_stays_pruned():
    model = models.mlp((6, 8, 4))
    pruning.prune_by_score(model, pruning.random_scores(model), 0.5)
    before = masks.masks(model)
    synflow.prune(model, torch.zeros(1, 6), weights=30, rounds=3)
    after = masks.masks(model)
    assert all((after[key] <= before[key]).all() for key in before)
    with pytest.raises(ValueError, match="weights: got 31, needs at most the 30 that"):
        synflow.prune(model, torch.zeros(1, 6), weights=31)


def test_normalisations_do_not_turn_the_flow_negative():
    model = nn.Sequential(nn.Linear(5, 4), nn.LayerNorm(4), nn.Linear(4, 3))
    found = synflow.synflow(model, torch.zeros(1, 5))
    flow = (model[2].weight.double().abs() @ model[0].weight.double().abs()).sum().item()
    assert [score.sum().item() for score in found.values()] == pytest.approx([flow] * 2)


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.node, self.out = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x, edges):
        sent = self.node(x)[edges[0]]
        return self.out(torch.zeros(len(x), 4, dtype=x.dtype).index_add(0, edges[1], sent))


@pytest.mark.parametrize("named", [False, True])
def test_several_inputs_and_integers_among_them(named):
    edges = torch.tensor([[0, 1, 2, 2], [1, 2, 0, 1]])
    model, x = TwoInputs(), torch.zeros(3, 3)
    found = synflow.synflow(model, {"x": x, "edges": edges} if named else (x, edges))
    flow = (
        4 * (model.out.weight.double().abs() @ model.node.weight.double().abs()).sum().item()
    )
    assert [score.sum().item() for score in found.values()] == pytest.approx([flow] * 2)


class Difference(TwoInputs):
    def forward(self, x, other):
        return self.out(self.node(x) - 2 * self.node(other))


class Siamese(TwoInputs):
    def forward(self, x, other):
        return self.out((self.node(x) - self.node(other)).abs())


class Squared(TwoInputs):
    def forward(self, x):
        return self.out(self.node(x).square())


def test_what_has_no_flow_is_said():
    with pytest.warns(UserWarning, match=r"\['attention.in_proj_weight'\] have no score"):
        found = synflow.synflow(Attention(), torch.zeros(1, 3, 8))
    assert list(found) == ["attention.out_proj"]
    assert found["attention.out_proj"].sum() > 0
    with pytest.warns(UserWarning, match="not proportional to the inputs"):
        synflow.synflow(Squared(), torch.zeros(1, 3))
    softmax = nn.Sequential(nn.Linear(4, 3), nn.Softmax(-1), nn.Linear(3, 2))
    with pytest.raises(ValueError, match=r"through \['0'\] is negative; needs a model that"):
        synflow.synflow(softmax, torch.zeros(1, 4))
    with pytest.raises(ValueError, match=r"'node', 'out'\] is negative"):
        synflow.synflow(Difference(), (torch.zeros(1, 3), torch.zeros(1, 3)))
    with pytest.raises(ValueError, match="no flow reaches the outputs"):
        synflow.synflow(Siamese(), (torch.zeros(1, 3), torch.zeros(1, 3)))


def test_weight_norm_is_scored_by_the_weights_that_it_gives():
    plain, normed = models.mlp((5, 4, 3)), models.mlp((5, 4, 3))
    normed.load_state_dict(plain.state_dict())
    nn.utils.parametrizations.weight_norm(normed[0])
    x = torch.zeros(1, 5)
    torch.testing.assert_close(synflow.synflow(normed, x), synflow.synflow(plain, x))


def test_each_round_scores_what_the_one_before_has_left():
    model, x = models.mlp((6, 8, 4)), torch.zeros(1, 6)  # 80 weights
    expected = models.mlp((6, 8, 4))
    expected.load_state_dict(model.state_dict())
    for weights in (40, 20, 10):
        pruning.prune_by_score(expected, synflow.synflow(expected, x), 1 - weights / 80)
    synflow.prune(model, x, weights=10, rounds=3)
    for key, mask in masks.masks(expected).items():
        assert torch.equal(masks.masks(model)[key], mask)


def test_layers_may_have_shares_of_the_flow():
    model = synflow.prune(
        models.mlp((6, 8, 4)), torch.zeros(1, 6), 20, allocation=(0.25, 0.75)
    )
    assert [int(mask.sum()) for mask in masks.masks(model).values()] == [5, 15]


@pytest.mark.parametrize("tracked", [True, False])
def test_batch_norm_scales_the_flow_where_its_statistics_are_fixed(tracked):
    norm = nn.BatchNorm1d(3, track_running_stats=tracked)
    model = nn.Sequential(nn.Linear(4, 3), norm, nn.Linear(3, 2))
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    scale = torch.ones(3, dtype=torch.float64)
    if tracked:
        nn.init.normal_(norm.running_mean)
        nn.init.uniform_(norm.running_var, 0.5, 2.0)
        scale = norm.weight.abs().double() / (norm.running_var.double() + norm.eps).sqrt()
    found = synflow.synflow(model, torch.zeros(1, 4))
    into, out = (model[level].weight.double().abs() for level in (0, 2))
    torch.testing.assert_close(found["0"], into * (scale * out.sum(0))[:, None])
    torch.testing.assert_close(found["2"], out * (scale * into.sum(1)))


def test_a_weight_is_told_from_a_bias_by_its_own_name():
    inner = nn.Sequential(OrderedDict(biased=nn.Linear(4, 3)))
    model = nn.Sequential(OrderedDict(inner=inner, biased=nn.Linear(3, 2)))
    found = synflow.synflow(model, torch.zeros(1, 4))
    flow = model.biased.weight.double().abs() @ inner.biased.weight.double().abs()
    assert [score.sum().item() for score in found.values()] == pytest.approx(
        [flow.sum().item()] * 2
    )


def test_a_weight_of_zero_is_no_weight_that_the_flow_misses():
    model = models.mlp((4, 3, 2))
    with torch.no_grad():
        model[0].weight[0, 1] = 0
    assert synflow.synflow(model, torch.zeros(1, 4))["0"][0, 1] == 0  # without a warning


class Idle(nn.Module):
    """Layers that the forward pass leaves out, one of them pruned, which has no score."""

    def __init__(self):
        super().__init__()
        self.used, self.idle, self.lstm = nn.Linear(4, 2), nn.Linear(4, 3), nn.LSTM(4, 2)
        masks.set_mask(self.lstm, torch.rand(8, 2) < 0.5, "weight_hh_l0")

    def forward(self, x):
        return self.used(x)


def test_a_mask_elsewhere_does_not_explain_a_weight_without_flow():
    with (
        pytest.warns(UserWarning, match="have no score"),
        pytest.warns(UserWarning, match=r"no flow runs through some weights, {'idle': 12}"),
    ):
        synflow.synflow(Idle(), torch.zeros(1, 4))


class Shifted(nn.Module):
    """A flow and a constant."""

    def __init__(self, flow, constant):
        super().__init__()
        self.layer, self.constant = nn.Linear(2, 1, bias=False), constant
        nn.init.constant_(self.layer.weight, flow / 2)

    def forward(self, x):
        return self.layer(x) + self.constant


@pytest.mark.parametrize("flow", [1e-3, 1e3])
def test_a_small_constant_is_found_whatever_the_flow_s_size(flow):
    synflow.synflow(Shifted(flow, 1e-6 * flow), torch.zeros(1, 2))  # within the tolerance
    with pytest.warns(UserWarning, match="not proportional to the inputs"):
        synflow.synflow(Shifted(flow, 5e-6 * flow), torch.zeros(1, 2))


def test_the_scores_are_those_of_one_sample():
    model = models.mlp((4, 3, 2))
    one, several = (synflow.synflow(model, torch.zeros(n, 4)) for n in (1, 5))
    assert all(torch.equal(one[key], several[key]) for key in one)
    with pytest.raises(TypeError, match=r"inputs: got torch\.int64, torch\.int32, needs"):
        synflow.synflow(model, (torch.tensor([0]), torch.tensor([0], dtype=torch.int32)))


class Counting(nn.Module):
    """How often it was called, copies included."""

    calls = 0

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x):
        type(self).calls += 1
        return self.layer(x)


def test_a_hundred_rounds_are_usual():
    synflow.prune(Counting(), torch.zeros(1, 4), weights=2)
    assert Counting.calls == 200  # two passes a round, of ones and of twos


class WithIdle(nn.Module):
    """A chain, and a recurrent layer that it does not use."""

    def __init__(self, chain):
        super().__init__()
        self.chain, self.lstm = chain, nn.LSTM(4, 6)

    def forward(self, x):
        return self.chain(x)


@pytest.mark.parametrize("allocation", ["global", "uniform"])
def test_weights_without_a_score_do_not_count(allocation):
    chain = models.mlp((6, 12, 8, 4))
    model, x = WithIdle(copy.deepcopy(chain)), torch.zeros(1, 6)
    synflow.prune(chain, x, 14, rounds=2, allocation=allocation)
    with pytest.warns(UserWarning, match="have no score"):
        synflow.prune(model, x, 14, rounds=2, allocation=allocation)
    found = masks.masks(model)
    for key, mask in masks.masks(chain).items():
        assert torch.equal(found.pop(f"chain.{key}"), mask)
    assert all(mask.all() for mask in found.values())
    with pytest.raises(
        ValueError, match="weights: got 201, needs a whole number from 1 to 200"
    ):
        synflow.prune(WithIdle(models.mlp((6, 12, 8, 4))), x, 201)


class Named(nn.Module):
    """A chain whose outputs have names."""

    def __init__(self, chain, names=("a", "b")):
        super().__init__()
        self.chain, self.names = chain, names

    def forward(self, x):
        y = self.chain(x)
        return {name: y[:, k :: len(self.names)] for k, name in enumerate(self.names)}


def test_outputs_in_a_dict_are_summed_alike():
    chain, x = models.mlp((6, 5, 4)), torch.zeros(1, 6)
    found = synflow.synflow(Named(chain), x)
    for key, score in synflow.synflow(chain, x).items():
        torch.testing.assert_close(found[f"chain.{key}"], score)
    with pytest.raises(TypeError, match="model: returns a dict, needs a tensor in it"):
        synflow.synflow(Named(chain, ()), x)


def test_a_loss_of_outputs_in_a_dict_is_asked_for():
    model, x, y = Named(models.mlp((6, 5, 4))), torch.randn(3, 6), torch.tensor([0, 1, 1])
    with pytest.raises(TypeError, match=r"loss: got the default.* outputs that are a dict"):
        pruning.snip(model, x, y)
    scores = pruning.snip(
        model, x, y, lambda outputs, y: nn.functional.cross_entropy(outputs["a"], y)
    )
    assert scores["chain.0"].abs().sum() > 0
