"""Sparse networks given by their connections, many side by side.

A network of 404 weights in a LeNet-300-100 takes 266,200 multiplications a sample as a dense
network with zeros. Here each connection is one number, the dead neurons are left out, and the
neurons of all networks are one list, so that thirty such networks train together in the time
of one dense one.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pruning.networks.models import ACTIVATIONS


def living(masks: Sequence[Tensor]) -> list[Tensor]:
    """Of a chain's masks, (outputs, inputs) each, those weights that lie on a path from an
    input to an output."""
    kept = [mask.clone() for mask in masks]
    for level in range(1, len(kept)):  # neurons that no input reaches
        kept[level] &= kept[level - 1].any(1)
    for level in reversed(range(len(kept) - 1)):  # neurons that no output reads
        kept[level] &= kept[level + 1].any(0)[:, None]
    return kept


class Wirings(nn.Module):
    """Chains of Linear layers of one shape, (batch, inputs) ↦ (networks, batch, outputs).

    Parameters
    ----------
    weights : of each network, of each layer: a tensor (outputs, inputs) of values.
    masks : of the same form, boolean; only weights on a path are taken over.
    biases : of each network, of each layer: a tensor (outputs,).
    activation : between the layers, one of `models.ACTIVATIONS`.
    """

    def __init__(
        self,
        weights: Sequence[Sequence[Tensor]],
        masks: Sequence[Sequence[Tensor]],
        biases: Sequence[Sequence[Tensor]],
        activation: str,
    ):
        super().__init__()
        self.networks = len(masks)
        self.activation = ACTIVATIONS[activation]()
        alive = [living(each) for each in masks]
        places = [{pixel: pixel for pixel in range(masks[0][0].shape[1])}] * self.networks
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for level in range(len(masks[0])):
            last = level == len(masks[0]) - 1
            sources, starts, values, offsets, below = [], [], [], [], places
            places, neurons = [], 0
            for network in range(self.networks):
                kept = alive[network][level]
                rows = range(len(kept)) if last else kept.any(1).nonzero().flatten().tolist()
                for row in rows:
                    inputs = kept[row].nonzero().flatten()
                    starts.append(len(sources))
                    sources += [below[network][source] for source in inputs.tolist()]
                    values.append(weights[network][level][row, inputs])
                    offsets.append(biases[network][level][row])
                places.append({row: neurons + position for position, row in enumerate(rows)})
                neurons += len(rows)
            self.register_buffer(f"sources{level}", torch.tensor(sources, dtype=torch.long))
            self.register_buffer(f"starts{level}", torch.tensor(starts, dtype=torch.long))
            self.weights.append(nn.Parameter(torch.cat(values).detach().clone()))
            self.biases.append(nn.Parameter(torch.stack(offsets).detach().clone()))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, inputs) ↦ (networks, batch, outputs)."""
        values = x.T.contiguous()  # (neurons, batch): a neuron's sum over its sources is a bag
        for level, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if level:
                values = self.activation(values)
            sources, starts = (
                self.get_buffer(f"sources{level}"),
                self.get_buffer(f"starts{level}"),
            )
            values = F.embedding_bag(
                sources, values, starts, mode="sum", per_sample_weights=weight
            )
            values = values + bias[:, None]
        return values.view(self.networks, -1, x.shape[0]).transpose(1, 2)


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Σ over networks of the mean over the batch: (networks, batch, classes), (batch,) ↦
    0-dim. No network's
    gradient depends on another."""
    return len(outputs) * F.cross_entropy(
        outputs.transpose(1, 2), targets.expand(len(outputs), -1)
    )


@torch.no_grad()
def accuracies(
    model: Wirings, inputs: Tensor, targets: Tensor, batch_size: int = 2000
) -> list[float]:
    """The fraction of samples that each network classifies right."""
    right = torch.zeros(model.networks, dtype=torch.long)
    for x, y in zip(inputs.split(batch_size), targets.split(batch_size), strict=True):
        right += (model(x).argmax(2) == y).sum(1)
    return (right.double() / len(targets)).tolist()
