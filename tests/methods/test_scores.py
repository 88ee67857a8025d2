import copy
import math
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune

import pruning
from pruning.networks.columns import bias, columns, to_matrix
from pruning.networks.layers import input_statistics, layers
from pruning.networks.masks import is_masked, mask_of, original, set_mask


def mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


def convnet():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6 * 9, 3),
    )


def data(model):
    torch.manual_seed(1)
    return torch.randn(23, 6) if isinstance(model[0], nn.Linear) else torch.randn(7, 4, 6, 6)


def inputs_of(model, x):
    """{layer: its input}, by running the layers by hand."""
    found = {}
    for name, layer in model.named_children():
        found[name] = x
        x = layer(x)
    return found


def per_weight(layer, x, statistic):
    """`statistic` of the numbers each weight is multiplied with, by loops over the
    definition."""
    weight = layer.weight
    result = torch.zeros(weight.shape, dtype=torch.float64)
    for position in torch.cartesian_prod(*(torch.arange(n) for n in weight.shape)).tolist():
        if isinstance(layer, nn.Linear):
            values = x[:, position[1]]
        else:
            o, i, row, column = position
            channel = o // (weight.shape[0] // layer.groups) * weight.shape[1] + i
            padded = F.pad(x, [layer.padding[1]] * 2 + [layer.padding[0]] * 2)
            height, width = layer(x).shape[2:]
            step = layer.stride
            values = padded[
                :,
                channel,
                row : row + step[0] * height : step[0],
                column : column + step[1] * width : step[1],
            ]
        result[tuple(position)] = statistic(values.flatten().double())
    return result


MODELS = [mlp, convnet]


@pytest.mark.parametrize("make", MODELS)
def test_columns_times_weight_is_the_layer(make):
    model = make()
    for name, x in inputs_of(model, data(model)).items():
        layer = model.get_submodule(name)
        if name not in layers(model):
            continue
        rows, theirs = columns(layer, x, layer(x))
        ours = torch.einsum("sgi,goi->sgo", rows, to_matrix(layer, "weight", layer.weight))
        assert torch.allclose(ours + bias(layer, "weight"), theirs, atol=1e-5)


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("batched", [False, True])
def test_scores_are_their_formulas(make, batched):
    model = make().train()
    x = data(model)
    with torch.no_grad():
        found = inputs_of(model, x)
    given = list(x.split(5)) if batched else x
    scores = {name: getattr(pruning, name)(model, given) for name in ("wanda", "stade", "ria")}
    assert model.training
    for name, layer in layers(model).items():
        w = layer.weight.detach().double()
        norm = per_weight(layer, found[name], lambda v: v.norm())
        variance = per_weight(layer, found[name], lambda v: v.var(correction=0))
        rows = w.abs().flatten(1).sum(1).view(-1, *[1] * (w.dim() - 1))
        same_input = w.abs().unflatten(0, (getattr(layer, "groups", 1), -1))
        relative = (same_input / same_input.sum(1, keepdim=True)).flatten(
            0, 1
        ) + w.abs() / rows
        assert torch.allclose(scores["wanda"][name].double(), w.abs() * norm, rtol=1e-5)
        assert torch.allclose(
            scores["stade"][name].double(), w**2 * variance, rtol=1e-4, atol=1e-8
        )
        assert torch.allclose(scores["ria"][name].double(), relative * norm.sqrt(), rtol=1e-5)
    assert torch.equal(pruning.magnitude(model)["0"], model[0].weight.detach().abs())


def test_nnrelief_weighs_the_bias_as_one_connection_also_over_batches():
    model = mlp()
    with torch.no_grad():
        model[0].bias.fill_(0.5)
    x = data(model)
    whole, parts = pruning.nnrelief(model, x), pruning.nnrelief(model, x.split(4))
    for key, score in whole.items():
        torch.testing.assert_close(parts[key], score)


@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
def test_nnrelief_keeps_the_strongest_up_to_a_share(share):
    model = mlp()
    x = data(model)
    scores = pruning.nnrelief(model, x)["0"]
    for j, row in enumerate(model[0].weight.detach()):
        strength = (row * x).abs().mean(0)
        bias = model[0].bias[j].detach().abs()
        total, kept, reached = strength.sum() + bias, set(), 0.0
        everything = [*((float(s), i) for i, s in enumerate(strength)), (float(bias), None)]
        for value, i in sorted(everything, key=lambda pair: -pair[0]):
            if reached >= share * total:
                break
            kept.add(i)
            reached += value
        assert set((scores[j] > 1 - share + 1e-7).nonzero().flatten().tolist()) == kept - {
            None
        }


@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_shares_by_hand(scale):
    """Whatever is a share of a total has no scale, and is 0 where the total is."""
    layer = nn.Linear(3, 2)
    with torch.no_grad():
        layer.weight.copy_(scale * torch.tensor([[3.0, -1, 2], [0, 0, 0]]))
        layer.bias.copy_(scale * torch.tensor([-2.5, 0]))
    x = torch.tensor([[1.0, 4, 0], [-1, 0, 6]])  # mean |x| is 1, 2, 3
    # |W·x| is 3, 2, 6 and the bias 2.5: in falling order 6, 3, 2.5, 2 of 13.5
    wanted = torch.tensor([[7.5 / 13.5, 2 / 13.5, 1], [0, 0, 0]])
    model = nn.Sequential(layer)
    assert torch.allclose(pruning.nnrelief(model, x)["0"], wanted)
    # shares of column and row: 1 + 3/6, 1 + 1/6, 1 + 2/6; norms of the inputs √2, 4, 6
    wanted = torch.tensor([[1.5 * 2**0.25, 7 / 6 * 2, 4 / 3 * 6**0.5], [0, 0, 0]])
    assert torch.allclose(pruning.ria(model, x)["0"], wanted)
    without = nn.Sequential(nn.Linear(3, 2, bias=False))
    without[0].weight = layer.weight
    wanted = torch.tensor([[5 / 11, 2 / 11, 1], [0, 0, 0]])
    assert torch.allclose(pruning.nnrelief(without, x)["0"], wanted)
    assert pruning.wanda(model, x)["0"].dtype == torch.float32  # zeros are no underflow


def test_no_batch_is_larger_than_batch_size():
    model, sizes = mlp(), []
    model.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    x, y = data(model), torch.randint(0, 3, (23,))
    for name in ("wanda", "stade", "ria", "nnrelief"):
        getattr(pruning, name)(model, x, batch_size=9)
    pruning.snip(model, x, y, batch_size=9)
    pruning.snip(model, [(x, y)], batch_size=9)
    assert sizes == [9, 9, 5] * 6


def test_snip_takes_targets_in_batches_and_refuses_too_few():
    model = mlp()
    x, y = data(model), torch.randint(0, 3, (23,))
    wanted = pruning.snip(model, x, y)["0"]
    for inputs, targets in (
        (x.split(9), (part for part in y.split(9))),
        (x, y.split(23)),
        ([{"input": part} for part in x.split(9)], y.split(9)),
    ):
        assert torch.allclose(pruning.snip(model, inputs, targets)["0"], wanted, atol=1e-7)
    for targets, words in ((y.split(9)[:2], "fewer"), ([*y.split(9), y], "more")):
        with pytest.raises(ValueError, match=f"targets: got {words}"):
            pruning.snip(model, x.split(9), targets)
    with pytest.raises(ValueError, match="targets: got a batch of 8 for 9"):
        pruning.snip(model, x.split(9), y.split(8))
    with pytest.raises(TypeError, match="targets: got a batch of type str"):
        pruning.snip(model, x.split(9), ["a"])


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk, self.kind, self.size = nn.Linear(6, 5), nn.Linear(5, 3), nn.Linear(5, 1)

    def forward(self, x):
        hidden = self.trunk(x).tanh()
        return self.kind(hidden), self.size(hidden).squeeze(1)


@pytest.mark.parametrize("nest", [tuple, list, lambda pair: dict(enumerate(pair))])
def test_snip_takes_the_targets_of_several_tasks(nest):
    model = TwoHeads()
    x, kinds, sizes = torch.randn(23, 6), torch.randint(0, 3, (23,)), torch.randn(23)

    def loss(outputs, targets):
        return F.cross_entropy(outputs[0], targets[0]) + F.mse_loss(outputs[1], targets[1])

    loss(model(x), (kinds, sizes)).backward()
    found = pruning.snip(model, [(x, nest((kinds, sizes)))], loss=loss, batch_size=9)
    for name, score in found.items():
        layer = model.get_submodule(name)
        torch.testing.assert_close(score, (layer.weight * layer.weight.grad).detach().abs())
    with pytest.raises(ValueError, match="inputs: got a batch of 3 parts"):
        pruning.snip(model, [(x, kinds, sizes)], loss=loss)
    with pytest.raises(ValueError, match="targets: got a batch of 22 for 23"):
        pruning.snip(model, [(x, (kinds, sizes[1:]))], loss=loss, batch_size=50)


def test_snip_of_a_frozen_layer_and_of_one_without_a_part_in_the_loss():
    model = mlp()
    x, y = data(model), torch.randint(0, 3, (23,))
    wanted = pruning.snip(model, x, y)
    model[0].requires_grad_(False)
    found = pruning.snip(model, x, y)
    assert all(torch.equal(found[name], wanted[name]) for name in ("0", "2"))
    assert [p.requires_grad for p in model.parameters()] == [False, False, True, True]
    with pytest.raises(ValueError, match="does not depend on layer '2'"):
        pruning.snip(model, x, y, loss=lambda *_: model[0](x).sum())
    with pytest.raises(ValueError, match="loss: got nan"):
        pruning.snip(model, x, y, loss=lambda outputs, _: outputs.sum() * math.nan)


def test_snip_is_the_change_of_the_loss():
    model, x, y = mlp().double(), torch.randn(1500, 6).double(), torch.randint(0, 3, (1500,))
    scores = pruning.snip(model, x, y)  # more samples than one batch
    assert all(p.grad is None for p in model.parameters())
    step = 1e-6
    for name in layers(model):
        for o, i in [(0, 0), (1, 3), (2, 4)]:
            losses = []
            for sign in (1, -1):
                moved = copy.deepcopy(model)
                moved.get_submodule(name).weight.data[o, i] *= 1 + sign * step
                losses.append(F.cross_entropy(moved(x), y).item())
            assert scores[name][o, i].item() == pytest.approx(
                abs(losses[0] - losses[1]) / (2 * step), abs=1e-7
            )


def test_snip_of_a_pruned_model_and_wrong_pairs():
    model = pruning.prune_by_score(mlp(), pruning.magnitude(mlp()), 0.5)
    x, y = torch.randn(8, 6), torch.randint(0, 3, (8,))
    scores = pruning.snip(model, x, y)
    assert (scores["0"][mask_of(model[0]) == 0] == 0).all()
    with pytest.raises(ValueError, match="targets: got 7 for 8 inputs"):
        pruning.snip(model, x, y[:7])


@pytest.mark.parametrize("squeezed", [False, True])
def test_snip_of_one_output_needs_a_loss_that_is_not_constant(squeezed):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 1))
    if squeezed:
        model.append(nn.Flatten(0))
    x = torch.randn(23, 6)
    y = x[:, 0] if squeezed else x[:, :1]
    with pytest.raises(ValueError, match=r"loss: got the default.*cross_entropy.*mse_loss"):
        pruning.snip(model, x, y)
    if not squeezed:  # nor is one class at every position
        segments = nn.Sequential(model, nn.Unflatten(1, (1, 1)))
        with pytest.raises(ValueError, match=r"shape \(23, 1, 1\)"):
            pruning.snip(segments, x, torch.zeros(23, 1, dtype=torch.long))
    F.mse_loss(model(x), y).backward()
    found = pruning.snip(model, x, y, F.mse_loss)
    wanted = (model[0].weight * model[0].weight.grad).detach().abs()
    torch.testing.assert_close(found["0"], wanted)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_snip_computes_its_gradients_where_gradients_are_off(mode):
    model = mlp()
    x, y = data(model), torch.randint(0, 3, (23,))
    wanted = pruning.snip(model, x, y)
    with mode():
        found = pruning.snip(model, x, y)
        assert not torch.is_grad_enabled()
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)


def test_a_last_batch_of_one_is_avoided_or_named():
    model, sizes = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)), []
    x, y = torch.randn(19, 6), torch.randint(0, 3, (19,))
    hook = model.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    pruning.snip(model, x, y, batch_size=9)
    assert sizes == [9, 8, 2]
    hook.remove()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"inputs: got a batch of one sample.*drop_last"):
        pruning.snip(model, x.split(9), y.split(9))
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    pruning.snip(model.eval(), x.split(9), y.split(9))

    def wrong(module, given):
        raise ValueError("of the model itself")

    model.register_forward_pre_hook(wrong)
    with pytest.raises(ValueError, match=r"^of the model itself$"):
        pruning.snip(model, x[:1], y[:1])


class Keywords(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = mlp()

    def forward(self, pixel_values):
        return self.net(pixel_values)


def test_a_dict_with_labels_is_named_with_what_to_do():
    x, y = torch.randn(23, 6), torch.randint(0, 3, (23,))
    with pytest.raises(TypeError, match=r"inputs: .*'labels', which Keywords.*labels\)") as e:
        pruning.wanda(Keywords(), [{"pixel_values": x, "labels": y}])
    assert "unexpected keyword" in str(e.value.__cause__)
    remedy = [({"pixel_values": x}, y)]
    assert torch.equal(
        pruning.wanda(Keywords(), remedy)["net.0"], pruning.wanda(mlp(), x)["0"]
    )
    assert pruning.snip(Keywords(), remedy)["net.0"].any()


class Several(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 4)

    def forward(self, x, mask):
        return self.layer(x * mask)


class Optional(Several):
    def forward(self, x, mask=None):
        return self.layer(x if mask is None else x * mask)


class Flagged(Several):
    def forward(self, x, twice=False):
        return self.layer(2 * x if twice else x)


@pytest.mark.filterwarnings("ignore:inputs")
def test_a_batch_that_lacks_an_argument_is_named_with_what_to_do():
    x, mask, y = torch.randn(9, 6), torch.ones(9, 6), torch.zeros(9)
    with pytest.raises(
        TypeError, match=r"inputs: Several.forward\(\) missing .*'mask'.*dicts"
    ):
        pruning.wanda(Several(), [(x, mask, y)])
    assert pruning.wanda(Several(), {"x": x, "mask": mask})["layer"].all()


def test_parts_that_the_model_could_take_are_not_left_out_in_silence():
    x, mask, y = torch.randn(9, 6), torch.rand(9, 6), torch.zeros(9)
    with pytest.warns(UserWarning, match=r"3 parts the model gets the first.*\['x', 'mask'\]"):
        pruning.stade(Optional(), [(x, mask, y)])
    with pytest.warns(UserWarning, match="3 parts"):
        pruning.contribution_statistics(Optional(), [(x, mask, y)])
    for model, batch in ((Optional(), (x, y)), (Flagged(), (x, y, y))):
        assert torch.equal(
            pruning.wanda(model, [batch])["layer"], pruning.wanda(model, x)["layer"]
        )  # without a warning


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        (nn.utils.rnn.pack_sequence([torch.randn(3, 6)]), "batch of type PackedSequence"),
        ([nn.utils.rnn.pack_sequence([torch.randn(3, 6)])], "batch of type PackedSequence"),
        (torch.randn(3, 6).to_sparse(), "batch stored as torch.sparse_coo"),
        (None, "inputs: got NoneType, needs a tensor"),
        (5, "inputs: got int, needs a tensor"),
    ],
)
def test_what_is_no_batch_is_named(inputs, said):
    with pytest.raises(TypeError, match=said):
        pruning.wanda(mlp(), inputs)


def test_snip_needs_one_number_of_the_loss():
    x, y = torch.randn(5, 6), torch.tensor([0, 1, 2, 0, 1])
    with pytest.raises(ValueError, match=r"loss: gave \(5,\) on a batch, needs one number"):
        pruning.snip(mlp(), x, y, nn.CrossEntropyLoss(reduction="none"))
    with pytest.raises(ValueError, match=r"loss: gave float on a batch"):
        pruning.snip(mlp(), x, y, lambda outputs, targets: 1.0)


def test_random_scores_follow_the_generator():
    a, b = (pruning.random_scores(mlp(), torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(a["2"], b["2"])
    assert not torch.equal(a["2"], pruning.random_scores(mlp())["2"])


def removed(model, name):
    return int((mask_of(model.get_submodule(name)) == 0).sum())


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.25, 0.5, 0.9, 0.99])
def test_counts_are_exact_in_every_scope(sparsity):
    n0, n2 = 30, 15
    for scope in ("global", "layer", "neuron"):
        model = mlp()
        with warnings.catch_warnings():  # a neuron of five inputs loses them all
            warnings.simplefilter("ignore")
            pruning.prune_by_score(model, pruning.random_scores(model), sparsity, scope)
        if scope == "global":
            assert removed(model, "0") + removed(model, "2") == math.ceil(
                round(sparsity * (n0 + n2), 9)
            )
        elif scope == "layer":
            assert [removed(model, n) for n in "02"] == [
                math.ceil(round(sparsity * n, 9)) for n in (n0, n2)
            ]
        else:
            for layer in (model[0], model[2]):
                each = math.ceil(round(sparsity * layer.in_features, 9))
                assert (mask_of(layer) == 0).sum(1).tolist() == [each] * layer.out_features


def test_global_threshold_agrees_with_torch():
    ours, theirs = mlp(), mlp()
    pruning.prune_by_score(ours, pruning.magnitude(ours), 0.4)
    pairs = [(theirs[0], "weight"), (theirs[2], "weight")]
    prune.global_unstructured(pairs, prune.L1Unstructured, amount=0.4)
    for a, b in ((ours[0], theirs[0]), (ours[2], theirs[2])):
        assert torch.equal(mask_of(a), b.weight_mask.bool())


def test_ties_go_by_position():
    model = mlp()
    equal = {name: torch.ones_like(layer.weight) for name, layer in layers(model).items()}
    pruning.prune_by_score(model, equal, 0.5)
    assert (mask_of(model[0]).flatten()[:23] == 0).all()
    assert removed(model, "0") + removed(model, "2") == 23


def test_ties_of_each_neuron_go_by_position():
    scores = {"0": torch.tensor([[1.0, 1, 0, 1], [1, 1, 1, 2]])}
    model = nn.Sequential(nn.Linear(4, 2))
    pruning.prune_by_score(model, scores, 0.5, "neuron")
    assert mask_of(model[0]).int().tolist() == [[0, 1, 0, 1], [0, 0, 1, 1]]


def test_gated_layers_are_refused_and_tied_ones_where_they_are_scored():
    gated = pruning.gate(mlp(), layers=["0"])
    with pytest.raises(ValueError, match=r"\['0'\] are gated"):
        pruning.prune_by_score(gated, {"0": torch.ones(5, 6), "2": torch.ones(3, 5)}, 0.5)
    pruning.prune_by_score(gated, {"2": torch.rand(3, 5)}, 0.4)
    assert removed(gated, "2") == 6
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    model[1].weight = model[0].weight
    with pytest.raises(
        ValueError, match=r"'0' shares its weight.*; leave both out of the scores"
    ):
        pruning.prune_by_score(model, {"0": torch.rand(4, 4)}, 0.5)
    pruning.prune_by_score(model, {"2": torch.rand(2, 4)}, 0.5)
    assert removed(model, "2") == 4


def test_pruned_weights_stay_pruned_and_count():
    model = mlp()
    pruning.prune_by_score(model, pruning.random_scores(model), 0.3)
    first = {name: mask_of(layer).clone() for name, layer in layers(model).items()}
    pruning.prune_by_score(model, pruning.random_scores(model), 0.6)
    assert sum(removed(model, name) for name in first) == 27
    for name, mask in first.items():
        assert (mask_of(model.get_submodule(name)) <= mask).all()
    pruning.prune_by_score(
        model, pruning.random_scores(model), 0.1
    )  # less than is gone already
    assert sum(removed(model, name) for name in first) == 27


def test_only_what_was_scored_is_pruned():
    model = mlp()
    pruning.prune_by_score(model, {"2": torch.rand(3, 5)}, 0.5)
    assert not is_masked(model[0])
    assert removed(model, "2") == 8


def test_bias_takes_over_the_mean():
    model, x = mlp(), data(mlp()) + 2
    before = model[0](x).mean(0)
    means = input_statistics(model, x)
    pruning.prune_by_score(
        model, {"0": pruning.stade(model, x)["0"]}, 0.5, "neuron", input_means=means
    )
    assert torch.allclose(model[0](x).mean(0), before, atol=1e-5)


def test_scores_see_the_last_optimizer_step():
    model = mlp()
    pruning.prune_by_score(model, pruning.magnitude(model), 0.5)
    with torch.no_grad():
        original(model[0]).add_(1)
    assert torch.equal(
        pruning.magnitude(model)["0"], (original(model[0]) * mask_of(model[0])).abs().detach()
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sparsity": 1.0}, "sparsity: got 1.0"),
        ({"sparsity": -0.1}, "sparsity: got -0.1"),
        ({"scope": "row"}, "scope: got 'row'"),
        ({"scores": {}}, "scores: got none"),
        ({"scores": {"7": torch.ones(3, 5)}}, "got layer '7'"),
        ({"scores": {"0": torch.ones(5, 6), "2": torch.ones(5, 3)}}, r"got shape \(5, 3\)"),
        (
            {"scores": {"0": torch.ones(5, 6), "2": torch.full((3, 5), math.nan)}},
            "NaN in layer '2'",
        ),
    ],
)
def test_errors_name_the_argument_and_change_nothing(change, words):
    model = mlp()
    arguments = {
        "scores": pruning.magnitude(model),
        "sparsity": 0.5,
        "scope": "global",
    } | change
    with pytest.raises(ValueError, match=words):
        pruning.prune_by_score(model, **arguments)
    assert not is_masked(model[0])


def test_scores_that_are_no_dict_are_named():
    for sparsity in (0.5, {"0": 0.5}):
        with pytest.raises(TypeError, match="scores: got list, needs a dict"):
            pruning.prune_by_score(mlp(), [torch.ones(5, 6)], sparsity, scope="layer")


def test_an_emptied_layer_is_warned_about():
    model = mlp()
    scores = pruning.magnitude(model)
    scores["2"] -= 10
    with pytest.warns(UserWarning, match=r"no weight is left in \['2'\]") as caught:
        pruning.prune_by_score(model, scores, 0.5)
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_inputs_and_models_that_cannot_be_scored():
    with pytest.raises(ValueError, match="inputs: got no samples"):
        pruning.wanda(mlp(), torch.empty(0, 6))
    with pytest.raises(TypeError, match="inputs: got a batch of type int"):
        pruning.wanda(mlp(), [[1, 2]])
    with pytest.raises(ValueError, match="has no weights to prune"):
        pruning.magnitude(nn.ReLU())
    with pytest.raises(ValueError, match="gated"):
        pruning.magnitude(pruning.gate(mlp()))
    model = mlp()
    model.add_module("unused", nn.Identity())
    model.unused.inner = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"unused\.inner.*no input"):
        pruning.wanda(model, data(model))


def test_a_fraction_for_each_layer():
    model = mlp()
    found = pruning.magnitude(model)
    pruning.prune_by_score(model, found, {"0": 0.5, "2": 0.2}, scope="neuron")
    kept = pruning.masks(model)
    assert (kept["0"].sum(1) == 3).all()
    assert (kept["2"].sum(1) == 4).all()
    for wrong, scope in (
        ({"0": 0.5}, "layer"),
        ({"0": 0.5, "2": 0.2}, "global"),
        ({"0": 1.0, "2": 0}, "layer"),
    ):
        with pytest.raises(ValueError, match="sparsity: got"):
            pruning.prune_by_score(mlp(), found, wrong, scope)


@pytest.mark.parametrize("how", ["pruned by torch", "masked"])
def test_the_mean_goes_into_a_masked_bias_too(how):
    model, x = mlp(), data(mlp()) + 2
    kept_bias = torch.tensor([True, False, True, True, False])
    if how == "masked":
        set_mask(model[0], kept_bias, "bias")
    else:
        prune.custom_from_mask(model[0], "bias", kept_bias)
    before, means = model[0](x).mean(0), input_statistics(model, x)
    pruning.prune_by_score(
        model, {"0": pruning.stade(model, x)["0"]}, 0.5, "neuron", input_means=means
    )
    after = model[0](x).mean(0)
    assert torch.allclose(after[kept_bias], before[kept_bias], atol=1e-5)
    assert (model[0].bias[~kept_bias] == 0).all()


def digits_net(digits):
    model = pruning.models.mlp((64, 20, 10), "relu")
    pruning.training.fit(model, digits.train.inputs, digits.train.targets, epochs=2)
    return model, digits.train.inputs


@pytest.mark.parametrize("sparsity", [0.25, 0.5, 0.75])
def test_masks_are_wandas_entry_by_entry(digits, sparsity):
    model, x = digits_net(digits)
    before = {name: layer.weight.detach().clone() for name, layer in layers(model).items()}
    found = inputs_of(model, x)
    pruning.prune_by_score(model, pruning.wanda(model, x), sparsity, "neuron")
    for name, w in before.items():
        # the reference keeps a running mean of squared norms over its batches, and sorts each
        # row
        mean, samples = torch.zeros(w.shape[1], dtype=torch.float64), 0
        for part in found[name].detach().double().split(128):
            mean = mean * (samples / (samples + len(part)))
            samples += len(part)
            mean = mean + part.norm(dim=0) ** 2 / samples
        metric = w.abs().double() * mean.sqrt()
        lowest = metric.sort(dim=1, stable=True).indices[:, : int(w.shape[1] * sparsity)]
        theirs = torch.ones_like(w, dtype=torch.bool).scatter_(1, lowest, False)
        assert torch.equal(mask_of(model.get_submodule(name)), theirs)


@pytest.mark.parametrize("sparsity", [0.25, 0.5, 0.75, 0.9])
def test_masks_are_shrinkbenchs_entry_by_entry(digits, sparsity):
    model, x = digits_net(digits)
    y = digits.train.targets
    weights = {name: layer.weight for name, layer in layers(model).items()}
    loss = F.cross_entropy(model(x), y)
    grads = dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))
    sizes = {name: w.detach().abs() for name, w in weights.items()}
    by_gradient = {name: (w * grads[name]).detach().abs() for name, w in weights.items()}
    ours = {"magnitude": pruning.magnitude(model), "gradient": pruning.snip(model, x, y)}
    for name, theirs in (("magnitude", sizes), ("gradient", by_gradient)):
        pruned = pruning.prune_by_score(copy.deepcopy(model), ours[name], sparsity)
        flat = torch.cat([score.flatten() for score in theirs.values()]).double().numpy()
        threshold = float(
            np.quantile(flat, sparsity)
        )  # kept is what is not below this quantile
        for layer, score in theirs.items():
            score = score.double()
            clear = (
                score - threshold
            ).abs() > 1e-5 * threshold  # beyond the rounding of gradients
            assert clear.sum() > 0.99 * (score > 0).sum()
            kept = mask_of(pruned.get_submodule(layer))
            assert torch.equal(kept[clear], (score >= threshold)[clear])


def test_masks_are_torchs_entry_by_entry_per_layer(digits):
    model, _ = digits_net(digits)
    theirs = copy.deepcopy(model)
    pruning.prune_by_score(model, pruning.magnitude(model), 0.3, "layer")
    for name, layer in layers(theirs).items():
        prune.l1_unstructured(layer, "weight", amount=math.ceil(0.3 * layer.weight.numel()))
        assert torch.equal(mask_of(model.get_submodule(name)), layer.weight_mask.bool())


@pytest.mark.parametrize("means", [{}, {"0": torch.ones(4)}, torch.ones(4)])
def test_means_that_lack_a_layer_leave_the_model_as_it_is(means):
    model = mlp()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=r"input_means: got .* for layer '0'"):
        pruning.prune_by_score(model, pruning.magnitude(model), 0.5, input_means=means)
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(model.state_dict()[key], before[key]) for key in before)


def test_means_are_needed_of_every_layer_with_a_bias():
    model = nn.Sequential(nn.Linear(6, 5, bias=False), nn.ReLU(), nn.Linear(5, 3))
    with pytest.raises(ValueError, match=r"input_means: got NoneType for layer '2'"):
        pruning.prune_by_score(model, pruning.magnitude(model), 0.5, input_means={})


def test_a_sparse_weight_is_named():
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    scores = {"0": torch.rand(3, 4)}
    model[0].weight = nn.Parameter(torch.rand(3, 4).to_sparse())
    with pytest.raises(ValueError, match="the weight of '0' has layout"):
        pruning.prune_by_score(model, scores, 0.5)
