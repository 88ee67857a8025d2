"""Scores of layers and batches of every kind, each beside the formula computed by other
means."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import pruning
from pruning.networks.columns import bias, columns, to_matrix
from pruning.networks.layers import InputStatistics, input_statistics

DATA_DRIVEN = ("wanda", "stade", "ria", "nnrelief")

CONVOLUTIONS = {
    "1d": (nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2), (5, 4, 9)),
    "1d same": (nn.Conv1d(4, 6, 4, padding="same", padding_mode="circular"), (5, 4, 9)),
    "2d": (
        nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2)),
        (3, 4, 7, 8),
    ),
    "3d": (nn.Conv3d(2, 3, 2, stride=2, padding=1, bias=False), (2, 2, 5, 4, 6)),
    "transposed 1d": (nn.ConvTranspose1d(4, 6, 3, stride=2, padding=1, groups=2), (5, 4, 6)),
    "transposed 2d": (
        nn.ConvTranspose2d(4, 6, (3, 2), stride=(2, 3), padding=(1, 0), output_padding=(1, 2)),
        (3, 4, 5, 4),
    ),
    "transposed 3d": (
        nn.ConvTranspose3d(2, 3, 2, stride=2, padding=1, dilation=2),
        (2, 2, 3, 4, 3),
    ),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_columns_times_weight_are_the_convolution(name):
    layer, shape = CONVOLUTIONS[name]
    x = torch.randn(shape)
    rows, z = columns(layer, x, layer(x))
    ours = torch.einsum("sgi,goi->sgo", rows, to_matrix(layer, "weight", layer.weight))
    if layer.bias is not None:
        ours = ours + bias(layer, "weight")
    assert torch.allclose(ours, z, atol=1e-5)
    one, z = columns(layer, x[0], layer(x[0]))  # an image without a batch
    assert torch.equal(one, rows[: len(one)])


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_stade_is_the_variance_a_weight_adds_to_its_channel(name):
    layer, shape = CONVOLUTIONS[name]
    model, x = nn.Sequential(layer), torch.randn(shape)
    scores = pruning.stade(model, x)["0"]
    assert scores.shape == layer.weight.shape
    alone = copy.deepcopy(layer)
    for place in torch.randint(layer.weight.numel(), (5,)).tolist():
        alone.weight.data.zero_().flatten()[place] = layer.weight.flatten()[place].item()
        z = alone(x).detach().double()  # what this weight adds, and a constant
        each = z.movedim(1, 0).flatten(1).var(1, correction=0)
        assert scores.flatten()[place].item() == pytest.approx(
            each.sum().item(), rel=1e-4, abs=1e-9
        )


def test_attention_is_scored_by_what_each_projection_multiplies():
    torch.manual_seed(0)
    model = nn.MultiheadAttention(8, 2, batch_first=True)
    x, y = torch.randn(3, 5, 8), torch.randn(3, 5, 8)
    scores = pruning.wanda(model, [{"query": x, "key": y, "value": y}])
    assert scores.keys() == {"in_proj_weight", "out_proj"}
    norms = torch.stack([t.flatten(0, 1).norm(dim=0) for t in (x, y, y)])
    expected = model.in_proj_weight.abs() * norms.repeat_interleave(8, 0)
    assert torch.allclose(scores["in_proj_weight"], expected, rtol=1e-5)
    q, k, v = (
        F.linear(t, w, b).unflatten(2, (2, 4)).transpose(1, 2)
        for t, w, b in zip(
            (x, y, y), model.in_proj_weight.chunk(3), model.in_proj_bias.chunk(3), strict=True
        )
    )
    heads = ((q @ k.mT / 2).softmax(-1) @ v).transpose(1, 2).reshape(-1, 8)
    assert torch.allclose(
        scores["out_proj"], model.out_proj.weight.abs() * heads.norm(dim=0), rtol=1e-4
    )
    with pytest.raises(ValueError, match="query, key and value"):
        pruning.wanda(model, [{"query": x, "key": y[:, :4], "value": y[:, :4]}])
    apart = nn.MultiheadAttention(8, 2, kdim=3, vdim=4, batch_first=True)
    given = {"query": x, "key": torch.randn(3, 4, 3), "value": torch.randn(3, 4, 4)}
    norm = given["key"].flatten(0, 1).norm(dim=0)
    found = pruning.wanda(apart, given)["k_proj_weight"]
    assert torch.allclose(found, apart.k_proj_weight.abs() * norm, rtol=1e-5)


def test_a_transformer_is_scored_and_pruned_throughout():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model, x = (
        nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval(),
        torch.randn(6, 5, 8),
    )
    fused = torch.backends.mha.get_fastpath_enabled()
    for name in DATA_DRIVEN:
        scores = getattr(pruning, name)(model, x, batch_size=4)
        assert len(scores) == 8
        assert all(score.isfinite().all() for score in scores.values())
    stats = pruning.contribution_statistics(model, x)
    assert set(stats) == set(scores)
    assert torch.backends.mha.get_fastpath_enabled() == fused
    pruning.prune_by_score(model, scores, 0.5, "neuron")
    for mask in pruning.masks(model).values():
        assert (mask.sum(1) == mask.shape[1] // 2).all()
    assert model(x).isfinite().all()


def test_recurrent_weights_have_scores_that_need_no_inputs_and_are_refused_else():
    model, x = nn.Sequential(nn.LSTM(3, 4)), torch.randn(5, 2, 3)
    assert pruning.magnitude(model)["0.weight_hh_l0"].shape == (16, 4)
    sensitivity = pruning.snip(
        model, x, torch.zeros(5), lambda outputs, y: outputs[0].square().mean()
    )
    assert all((score > 0).all() for score in sensitivity.values())
    with pytest.raises(ValueError, match=r"'0\.weight_ih_l0' belongs.*ignore=\['0'\]"):
        pruning.wanda(model, x)


class Own(nn.Linear):
    def forward(self, x):
        return super().forward(2 * x)


def test_a_layer_with_a_forward_of_its_own_is_refused():
    with pytest.raises(ValueError, match=r"'0' has a forward of its own \(Own\)"):
        pruning.wanda(nn.Sequential(Own(2, 2)), torch.randn(3, 2))


class Shared(nn.Module):
    """One layer used twice, the second time by keyword."""

    def __init__(self, first, second):
        super().__init__()
        self.layer, self.first, self.second = nn.Linear(4, 4), first, second

    def forward(self, x):
        return self.second(self.layer(input=self.first(self.layer(x))))


def test_a_layer_used_twice_by_keyword_is_scored_over_both_uses():
    model, x = Shared(nn.ReLU(), nn.ReLU()), torch.randn(9, 4)
    both = torch.cat([x, model.first(model.layer(x))]).detach()
    expected = model.layer.weight.detach().abs() * both.norm(dim=0)
    assert torch.allclose(pruning.wanda(model, x)["layer"], expected, rtol=1e-5)
    stats = pruning.contribution_statistics(model, x)["layer"]
    alone = nn.Sequential(model.layer, nn.ReLU())
    theirs = pruning.contribution_statistics(alone, both)["0"]
    assert stats.samples == 18
    assert torch.allclose(stats.mean, theirs.mean)
    with pytest.raises(
        ValueError, match="called 2 times and its outputs go into different activations"
    ):
        pruning.contribution_statistics(Shared(nn.ReLU(), nn.Tanh()), x)


def test_batches_of_every_form_give_the_same_scores():
    model, x, y = (
        nn.Sequential(nn.Linear(4, 3)),
        torch.randn(10, 4),
        torch.randint(0, 3, (10,)),
    )
    wanted = pruning.wanda(model, x)["0"]
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), 4)
    for given in (
        x.split(3),
        [(x, y)],
        loader,
        {"input": x},
        [{"input": part} for part in x.split(6)],
    ):
        for size in (1, 3, 1000):
            scores = pruning.wanda(model, given, batch_size=size)
            assert torch.allclose(scores["0"], wanted, rtol=1e-6)
    assert torch.allclose(
        pruning.snip(model, loader)["0"], pruning.snip(model, x, y)["0"], atol=1e-6
    )
    with pytest.raises(ValueError, match="batch_size: got 0"):
        pruning.wanda(model, x, batch_size=0)
    with pytest.raises(ValueError, match="targets: got None and batches without targets"):
        pruning.snip(model, x)
    with pytest.raises(TypeError, match="inputs: got a batch of type str"):
        pruning.wanda(model, ["a"])


def test_layers_and_ignore_choose_by_key_or_by_module():
    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)))
    x, y = torch.randn(6, 4), torch.randint(0, 2, (6,))
    for score in (
        pruning.magnitude,
        pruning.random_scores,
        *(
            lambda m, n=n, **k: getattr(pruning, n)(m, x, **k)
            for n in (*DATA_DRIVEN, "contribution_statistics")
        ),
        lambda m, **k: pruning.snip(m, x, y, **k),
    ):
        assert list(score(model, layers=["1"])) == ["1.0", "1.1"]
        assert list(score(model, ignore=["1.0", "0"])) == ["1.1"]
        with pytest.raises(ValueError, match=r"ignore: got '2'"):
            score(model, ignore=["2"])
        with pytest.raises(ValueError, match="layers: got the string '0'"):
            score(model, layers="0")


def test_what_is_not_covered_is_said_once():
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 2))
    with pytest.warns(
        UserWarning, match=r"\['0\.weight'\] have no gates and no scores"
    ) as said:
        pruning.wanda(model, torch.tensor([0, 3, 4]))
    assert len(said) == 1
    assert said[0].filename == __file__
    assert list(pruning.wanda(model, torch.tensor([0, 3, 4]), ignore=["0"])) == ["1"]


@pytest.mark.parametrize("name", [*DATA_DRIVEN, "contribution_statistics"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_inputs_that_are_not_finite_name_the_layer(name, bad):
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2))
    x = torch.randn(200, 3)
    x[77, 1] = bad
    with pytest.raises(
        ValueError, match="inputs: layer '0' gets inputs that are NaN or infinite"
    ):
        getattr(pruning, name)(model, x)
    model[0].bias.data[1] = math.inf
    with pytest.raises(ValueError, match="inputs: layer '2' gets"):
        getattr(pruning, name)(model, torch.randn(5, 3), layers=["2"])
    model[0].bias.data[1] = 0.0
    model[2].weight.data[0, 0] = bad
    with pytest.raises(ValueError, match="the weight of layer '2' has NaN or infinite"):
        pruning.magnitude(model)


def test_inputs_of_another_dtype_name_the_layer():
    model = nn.Sequential(nn.Linear(3, 2))
    for x in (
        torch.randn(4, 3).double(),
        torch.randint(0, 255, (4, 3)),
        torch.randn(4, 3).half(),
    ):
        with pytest.raises(
            TypeError, match=rf"inputs: layer '0' got {x.dtype}, needs torch\.float32"
        ):
            pruning.wanda(model, x)


def test_modes_and_running_statistics_stay():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).train()
    model[1].eval()
    modes = [module.training for module in model.modules()]
    x, y = torch.randn(8, 3), torch.randint(0, 2, (8,))
    for name in (*DATA_DRIVEN, "contribution_statistics"):
        getattr(pruning, name)(model, x)
        assert [module.training for module in model.modules()] == modes
    model.train()
    model[0].weight.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    pruning.snip(model, x, y)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not model[0].weight.requires_grad
    assert model.training


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_gives_float32(dtype):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)).to(dtype)
    x, y = torch.randn(40, 6).to(dtype), torch.randint(0, 3, (40,))
    wide = copy.deepcopy(model).float()
    for name in DATA_DRIVEN:
        ours, theirs = (
            getattr(pruning, name)(model, x)["0"],
            getattr(pruning, name)(wide, x.float())["0"],
        )
        assert ours.dtype == torch.float32
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    stats = pruning.contribution_statistics(model, x)["0"]
    theirs = pruning.contribution_statistics(wide, x.float())["0"]
    assert torch.allclose(stats.mean, theirs.mean, rtol=1e-4, atol=1e-6)
    assert pruning.snip(model, x, y)["2"].dtype == torch.float32
    large = nn.Sequential(nn.Linear(2, 1)).half()
    large[0].weight.data[:] = 6e4
    assert pruning.stade(large, torch.tensor([[0.0, 1], [2, 3]]).half())["0"].isfinite().all()


def test_scores_that_overflow_or_underflow_are_float64():
    model, x = nn.Sequential(nn.Linear(3, 2)), torch.randn(50, 3)
    plain = pruning.stade(model, x)["0"].double()
    weight = model[0].weight.detach().clone()
    for scale in (1e25, 1e-25):
        model[0].weight.data = weight * scale
        scaled = pruning.stade(model, x)["0"]
        assert scaled.dtype == torch.float64
        assert torch.allclose(scaled / scale**2, plain, rtol=1e-5)


@pytest.mark.parametrize("scale", [1e20, 1e-20])
def test_relative_contributions_have_no_scale(scale):
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(7, 5), nn.ReLU()), torch.randn(60, 7)
    wanted = pruning.contribution_statistics(model, x)["0"]
    scaled = copy.deepcopy(model)
    scaled[0].bias.data *= scale
    for other, inputs in ((copy.deepcopy(scaled), x * scale), (scaled, x)):
        if inputs is x:
            other[0].weight.data *= scale
        found = pruning.contribution_statistics(other, inputs)["0"]
        assert torch.allclose(found.mean, wanted.mean, rtol=1e-4, atol=1e-7)
        assert torch.allclose(found.std, wanted.std, rtol=1e-4, atol=1e-7)
        assert torch.equal(found.blind, wanted.blind)


def test_variances_survive_a_large_mean():
    torch.manual_seed(0)
    noise = torch.randn(5000, 3).double()
    for offset in (1e6, -1e9):
        model, x = nn.Sequential(nn.Linear(3, 2)).double(), noise + offset
        found = input_statistics(model, x, batch_size=700)["0"].variance[0]
        assert torch.allclose(found, noise.var(0, correction=0), rtol=1e-5)
    stats = InputStatistics()
    for part in (torch.full((3, 1, 1), 5.0), torch.full((1, 1, 1), 9.0)):
        stats.add(part)
    assert stats.variance.item() == 3.0


def test_minus_infinity_is_the_lowest_score_and_pruned_weights_come_first():
    model = nn.Sequential(nn.Linear(4, 1))
    pruning.prune_by_score(model, {"0": torch.tensor([[1.0, 2, 0, 3]])}, 0.25)
    pruning.prune_by_score(model, {"0": torch.tensor([[-math.inf, 1, 5, 6]])}, 0.5)
    assert pruning.masks(model)["0"].tolist() == [[False, True, False, True]]
    fresh = nn.Sequential(nn.Linear(4, 1))
    pruning.prune_by_score(fresh, {"0": torch.tensor([[-math.inf, 1, 5, 6]])}, 0.25)
    assert pruning.masks(fresh)["0"].tolist() == [[False, True, True, True]]
    for wrong, words in (
        ({"0": torch.ones(1, 4).long()}, "torch.int64"),
        ({"0": [[1.0]]}, "list"),
    ):
        with pytest.raises(TypeError, match=f"scores: got {words} for layer '0'"):
            pruning.prune_by_score(fresh, wrong, 0.5)
    with pytest.raises(ValueError, match=r"sparsity: got '0\.5'"):
        pruning.prune_by_score(fresh, {"0": torch.ones(1, 4)}, "0.5")


def test_transposed_convolutions_are_pruned_by_output_channel():
    layer = nn.ConvTranspose2d(4, 6, 3, groups=2)
    pruning.prune_by_score(
        nn.Sequential(layer), {"0": layer.weight.detach().abs()}, 0.5, "neuron"
    )
    kept = to_matrix(layer, "weight", layer.weight) != 0
    assert (kept.sum(2) == 9).all()


class Messages(nn.Module):
    """A graph network: its edges are no samples of the nodes."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x, edges):
        hidden = self.first(x)
        return self.last(torch.zeros_like(hidden).index_add(0, edges[1], hidden[edges[0]]))


def test_a_graph_is_scored_as_a_whole_or_not_at_all():
    model, x, edges = Messages(), torch.randn(1500, 3), torch.randint(0, 700, (2, 4000))
    batch = {"x": x, "edges": edges}
    reached = torch.zeros(1500, 4).index_add(0, edges[1], model.first(x)[edges[0]])
    expected = model.last.weight.abs() * reached.norm(dim=0)
    for act in (pruning.wanda, pruning.contribution_statistics):
        with pytest.raises(
            ValueError, match=r"\['edges'\] are not as .* needs batch_size=1500"
        ):
            act(model, batch)
    found = pruning.wanda(model, batch, batch_size=1500)["last"]
    torch.testing.assert_close(found, expected.detach(), rtol=1e-4, atol=1e-4)
    stats = pruning.contribution_statistics(model, batch, kind="absolute", batch_size=1500)
    mean = model.last.weight.double() * reached.double().mean(0)
    torch.testing.assert_close(stats["last"].mean, mean.detach(), rtol=1e-4, atol=1e-6)
