import pytest
import torch
from torch import nn

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
        UserWarning, match=r"stay as they are: \['table', 'embedding.weight'\]"
    ) as caught:
        selected(Tagger())
    assert len(caught) == 1
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


def test_tied_weights_are_found():
    assert tied(Tagger()) == {}
    assert tied(Tagger(tie=True)) == {"out": ["embedding"]}
