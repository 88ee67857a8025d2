import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import pruning
from pruning.methods import l0
from pruning.networks.masks import set_mask
from pruning.networks.prunable import selected, tied, uncovered


class Tagger(nn.Module):
    def __init__(self, tie=False):
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.body = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
        self.table = nn.Parameter(torch.zeros(2, 4))
        self.out = nn.Linear(4, 7)
        if tie:
            self.out.weight = self.embedding.weight


def keys(*args, **kwargs):
    return [key for key, _, _ in selected(*args, **kwargs)]


def test_layers_and_ignore_take_keys_and_modules():
    model = Tagger()
    assert keys(model, layers=["body"]) == ["body.0", "body.2"]
    assert keys(model, layers=["body.2", "out"]) == ["body.2", "out"]
    assert keys(model, layers=["body"], ignore=["body.0"]) == ["body.2"]
    assert keys(model, ignore=["body.0", "embedding", "table"]) == ["body.2", "out"]
    assert keys(nn.LSTM(2, 3), layers=["weight_hh_l0"]) == ["weight_hh_l0"]
    assert keys(nn.Linear(2, 3)) == [""]


def test_what_is_not_covered_is_said_once_unless_ignored():
    assert uncovered(Tagger()) == ["table", "embedding.weight"]
    with pytest.warns(
        UserWarning, match=r"\['table', 'embedding.weight'\] have no gates and no scores"
    ) as caught:
        selected(Tagger())
    assert len(caught) == 1
    assert caught[0].filename == __file__
    selected(Tagger(), ignore=["embedding", "table"])
    selected(Tagger(), layers=["out"])


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"layers": "out"}, "layers: got the string 'out'"),
        ({"ignore": "out"}, "ignore: got the string 'out'"),
        ({"layers": ["out", "nope"]}, "layers: got 'nope', needs some of"),
        ({"layers": []}, "leave nothing"),
        ({"layers": ["out"], "ignore": ["out"]}, "leave nothing"),
        ({"layers": ["body.1"]}, "leave nothing"),
    ],
)
def test_wrong_names_are_named(kwargs, words):
    with pytest.raises(ValueError, match=words):
        selected(Tagger(), **kwargs)


def with_buffer(layer):
    weight = layer.weight.detach()
    del layer.weight
    layer.register_buffer("weight", weight)


def sparse(layer):
    layer.weight = nn.Parameter(layer.weight.detach().to_sparse_coo())


REFUSED = {
    "'1' is a buffer": with_buffer,
    "'1' has dtype torch.complex64, needs real": lambda layer: layer.to(torch.complex64),
    "'1' has layout torch.sparse_coo, needs a dense": sparse,
}


@pytest.mark.filterwarnings("ignore:Complex modules are a new feature:UserWarning")
@pytest.mark.parametrize("words", REFUSED)
def test_a_weight_that_cannot_be_pruned_is_named_unless_left_out(words, tmp_path):
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3))
    REFUSED[words](model[1])
    before = {key: id(value) for key, value in model.state_dict(keep_vars=True).items()}
    x = torch.ones(2, 4)
    for use in (
        pruning.prunable,
        pruning.masks,
        pruning.magnitude,
        pruning.gate,
        pruning.sparsity_report,
        pruning.feature_importance,
        lambda model: pruning.wanda(model, x),
        lambda model: pruning.prune_by_score(model, {"1": torch.ones(3, 4)}, 0.5),
        lambda model: pruning.prune_n_m(model, {"1": torch.ones(3, 4)}),
        lambda model: pruning.gate(model, granularity="output", layers=["1"]),
    ):
        with pytest.raises(ValueError, match=f"model: the weight of {words}"):
            use(model)
    after = {key: id(value) for key, value in model.state_dict(keep_vars=True).items()}
    assert before == after
    scores = pruning.magnitude(model, ignore=["1"])
    pruning.prune_by_score(model, scores, 0.5)
    assert (model[0].weight == 0).sum() == 8


def test_tied_weights_are_found():
    assert tied(Tagger()) == {}
    assert tied(Tagger(tie=True)) == {"out": ["embedding"]}
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    assert tied(model) == {"0": ["1"], "1": ["0"]}
    prune.l1_unstructured(model[0], "weight", 3)
    set_mask(model[1], torch.ones(4, 4) > 0)
    assert tied(model) == {"0": ["1"], "1": ["0"]}


@pytest.mark.parametrize(
    "change",
    [
        pruning.gate,
        pruning.magnitude,
        lambda model: pruning.wanda(model, torch.randn(5, 4)),
        lambda model: pruning.snip(model, torch.randn(5, 4), torch.tensor([0, 1, 2, 3, 0])),
        lambda model: pruning.prune_by_score(model, {"1": torch.rand(4, 4)}, 0.5),
        lambda model: pruning.prune_n_m(model, {"1": torch.rand(4, 4)}),
        lambda model: pruning.GradualPruning(model, weights=8),
        lambda model: pruning.SET(0.5, 3).start(model),
    ],
)
def test_a_mask_on_one_of_two_layers_with_the_same_weight_is_refused(change):
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"'[01]' shares its weight with \['[01]'\]"):
        change(model)
    assert model.state_dict().keys() == before.keys()
    scores = pruning.magnitude(model, ignore=["0", "1"])
    pruning.prune_by_score(model, scores, 0.5)
    assert list(scores) == ["2"]


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        (pruning.gate, r"; ignore=\['0', '1'\] leaves both out"),
        (pruning.SET(0.5, 3).start, r"; ignore=\['0', '1'\] leaves both out"),
        (pruning.DeepR(0.5, lambda p: 0.1).start, r"; ignore=\['0', '1'\] leaves both out"),
        (pruning.RigL(8).start, r"; ignore=\['0', '1'\] leaves both out"),
        (
            pruning.RigL(8, masks={"1": torch.ones(4, 4) > 0}).start,
            "; leave both out of the masks, or give each a parameter of its own",
        ),
        (pruning.Rewinding(8, 1, 0).start, r"; ignore=\['0', '1'\] leaves both out"),
        (
            lambda model: pruning.GradualPruning(model, 8),
            r"; score=lambda model: pruning\.magnitude\(model, ignore=\['0', '1'\]\) leaves",
        ),
        (
            lambda model: pruning.prune_by_score(model, {"0": torch.rand(4, 4)}, 0.5),
            r"; leave both out of the scores, as ignore=\['0', '1'\] does it",
        ),
        (
            l0.gate,
            "; give each a parameter of its own, for instance by layer.weight = torch.nn.Par",
        ),
    ],
)
def test_what_helps_with_a_shared_weight_is_said_of_each_caller(change, remedy):
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    with pytest.raises(ValueError, match=f"shares its weight with .*{remedy}"):
        change(model)


def test_what_is_advised_for_a_shared_weight_works():
    def tied():
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
        model[1].weight = model[0].weight
        return model

    both = ["0", "1"]
    for start in (
        pruning.SET(0.5, 3, ignore=both).start,
        pruning.DeepR(0.5, lambda p: 0.1, ignore=both).start,
        pruning.RigL(8, ignore=both).start,
        lambda model: pruning.prune_by_score(
            model, pruning.magnitude(model, ignore=both), 0.5
        ),
    ):
        model = tied()
        start(model)
        assert [int(mask.sum()) for mask in pruning.masks(model).values()] == [16, 16, 8]
    model = tied()
    model[1].weight = nn.Parameter(model[1].weight.detach().clone())
    l0.gate(model)
