"""Small models of every kind that torch has layers for, which tests of masks and gates
share."""

import pytest
import torch
from torch import nn


def mlp():
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


class Attention(nn.Module):
    def __init__(self, kdim=None):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True, kdim=kdim, vdim=kdim)

    def forward(self, x):
        keys = x[..., : self.attention.kdim]
        return self.attention(x, keys, keys)[0]


class Recurrent(nn.Module):
    def __init__(self, kind=nn.LSTM):
        super().__init__()
        self.lstm, self.head = kind(4, 5, num_layers=2, batch_first=True), nn.Linear(5, 2)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


def transformer():
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


def convolutions():
    return nn.Sequential(
        nn.Conv1d(2, 4, 3),
        nn.Unflatten(2, (2, 2, 2)),
        nn.Conv3d(4, 3, 1),
        nn.ConvTranspose3d(3, 2, 2),
        nn.Flatten(2, 3),
        nn.ConvTranspose2d(2, 2, 1),
        nn.Conv2d(2, 2, 1),
    )


MODELS = {
    "mlp": (mlp, (4, 6)),
    "convolutions": (convolutions, (4, 2, 10)),
    "attention": (Attention, (4, 3, 8)),
    "attention over other keys": (lambda: Attention(kdim=6), (4, 3, 8)),
    "lstm": (Recurrent, (4, 3, 4)),
    "gru": (lambda: Recurrent(nn.GRU), (4, 3, 4)),
    "transformer": (transformer, (4, 3, 8)),
}


def steps(model, x, count=3):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(count):
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()
    return model


def tiny_bert(vocab_size):
    """A Hugging Face classifier of one small layer, or a skip without the package."""
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        vocab_size=vocab_size,
        num_labels=3,
    )
    return transformers.BertForSequenceClassification(config).eval()
