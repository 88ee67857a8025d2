"""Scores of padded sequences are those of the sequences one by one, without padding."""

import pytest
import torch
from torch import nn
from torch_models import tiny_bert

import pruning

SCORES = ("wanda", "stade", "ria", "nnrelief")
LENGTHS = (6, 3, 5, 1)


def real(length=6):
    return torch.arange(length) < torch.tensor(LENGTHS)[:, None]


def attention_mask(batch):
    return batch["attention_mask"]


@pytest.fixture
def bert():
    return tiny_bert(50)


def padded_and_alone():
    ids = torch.randint(1, 50, (len(LENGTHS), 6))
    padded = {"input_ids": ids, "attention_mask": real().long()}
    alone = [{"input_ids": each[None, :n]} for each, n in zip(ids, LENGTHS, strict=True)]
    return padded, alone


@pytest.mark.parametrize("name", SCORES)
def test_padded_positions_do_not_count(bert, name):
    padded, alone = padded_and_alone()
    score = getattr(pruning, name)
    found = score(bert, padded, ignore=["bert.embeddings"], positions=attention_mask)
    expected = score(bert, alone, ignore=["bert.embeddings"])
    for key in expected:
        assert torch.allclose(found[key], expected[key], rtol=1e-4, atol=1e-6), key
    with pytest.warns(UserWarning, match="attention_mask is 0 at padded positions") as said:
        counted = score(bert, [padded, padded], ignore=["bert.embeddings"])
    assert len(said) == 1
    assert said[0].filename == __file__
    key = "bert.encoder.layer.0.attention.self.query"
    assert not torch.allclose(counted[key], expected[key], rtol=1e-2)


def test_contributions_of_padded_positions_do_not_count(bert):
    padded, alone = padded_and_alone()
    options = {"ignore": ["bert.embeddings"]}
    found = pruning.contribution_statistics(bert, padded, positions=attention_mask, **options)
    expected = pruning.contribution_statistics(bert, alone, **options)
    for key in expected:
        assert found[key].samples == expected[key].samples
        assert torch.allclose(found[key].mean, expected[key].mean, atol=1e-5), key
        assert torch.allclose(found[key].std, expected[key].std, atol=1e-5), key


class Attention(nn.Module):
    def __init__(self, batch_first):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=batch_first)

    def forward(self, x, padding):
        x = x if self.attention.batch_first else x.transpose(0, 1)
        return self.attention(x, x, x, key_padding_mask=padding)[0]


@pytest.mark.parametrize("batch_first", [True, False])
def test_attention_of_torch_with_either_dimension_first(batch_first):
    model = Attention(batch_first).eval()
    x = torch.randn(len(LENGTHS), 6, 8)
    statistics = pruning.input_statistics(
        model, {"x": x, "padding": ~real()}, positions=lambda batch: ~batch["padding"]
    )
    assert torch.allclose(
        statistics["attention.in_proj_weight"].mean.float(), x[real()].mean(0).expand(3, 8)
    )
    alone = [
        {"x": each[None, :n], "padding": torch.zeros(1, n) > 0}
        for each, n in zip(x, LENGTHS, strict=True)
    ]
    expected = pruning.input_statistics(model, alone)
    for key in expected:
        assert statistics[key].samples == expected[key].samples == sum(LENGTHS)
        assert torch.allclose(statistics[key].norm, expected[key].norm, rtol=1e-4)


def test_positions_that_say_nothing_of_a_layer_are_refused():
    x = torch.randn(4, 6, 8)
    with pytest.raises(ValueError, match=r"positions: gave \(4,\) for a batch"):
        pruning.wanda(nn.Linear(8, 2), x, positions=lambda x: x[:, 0, 0] > 0)
    with pytest.raises(ValueError, match="positions: gave list for a batch"):
        pruning.wanda(nn.Linear(8, 2), x, positions=lambda x: [1, 0])
    transposed = nn.Sequential(nn.Flatten(2), nn.Conv1d(6, 6, 1), nn.Linear(8, 2))
    with pytest.raises(ValueError, match=r"positions: are \(4, 5\).*layer '2' gets inputs"):
        pruning.wanda(transposed, x, ignore=["1"], positions=lambda x: x[:, :5, 0] > 0)
    with pytest.raises(ValueError, match="layer '1' gets inputs"):
        pruning.wanda(transposed, x, positions=lambda x: x[:, :5, 0] > 0)
    across = nn.TransformerDecoderLayer(8, 2, 16, batch_first=True).eval()

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.across = across

        def forward(self, x):
            return self.across(x, x + 1)

    with pytest.raises(ValueError, match="gets several sequences"):
        pruning.wanda(Model(), x, positions=lambda x: torch.ones(4, 6))


def test_flattened_positions_and_pooled_samples_count_as_they_should():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.flat, self.pooled = nn.Linear(8, 8), nn.Linear(8, 2)

        def forward(self, x):
            inner = self.flat(x.flatten(0, 1)).view_as(x)
            return self.pooled((inner * real()[..., None]).sum(1))

    x = torch.randn(4, 6, 8)
    found = pruning.input_statistics(Model(), x, positions=lambda x: real())
    assert torch.allclose(found["flat"].mean[0].float(), x[real()].mean(0), atol=1e-6)
    assert (found["flat"].samples, found["pooled"].samples) == (sum(LENGTHS), 4)
