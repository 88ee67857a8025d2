"""One epoch of batches from memory beside a DataLoader over the same tensors."""

import torch
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.timing import interleaved, show

SAMPLES, FEATURES, BATCH = 20_000, 784, 256


def main():
    torch.set_num_threads(2)
    inputs, targets = torch.rand(SAMPLES, FEATURES), torch.randint(0, 10, (SAMPLES,))
    loader = DataLoader(TensorDataset(inputs, targets), batch_size=BATCH, shuffle=True)

    def from_memory():
        for index in torch.randperm(SAMPLES).split(BATCH):
            inputs[index], targets[index]

    def from_loader():
        for _x, _y in loader:
            pass

    pieces = {"indices into tensors": from_memory, "DataLoader": from_loader}
    show(
        f"An epoch of {SAMPLES:,} × {FEATURES}, batch {BATCH}",
        interleaved(pieces, 10, 1),
        "indices into tensors",
    )
