"""How much a weight's contribution says of its neuron, and what the network loses without it.

Hussien et al. 2024 (arXiv:2410.16151) argue that a weight is safe to prune if the mutual
information between its contribution c = w x and its neuron's input z = Σ w x + b is low. If c
and z are jointly normal with correlation ρ,

    I(c; z) = −½ ln(1 − ρ²)        (in nats)                                             (1)

which depends on the data and on the weights of the neuron: a larger w has a larger ρ if the
others stay. A factor common to all weights of the neuron cancels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pruning.networks.masks import effective

Pairs = list[tuple[int, int]]


def inputs_of(model: nn.Sequential, x: Tensor) -> dict[str, Tensor]:
    """What each Linear layer of a chain gets, by its name: (samples, features)."""
    found = {}
    with torch.no_grad():
        for name, module in model.named_children():
            if isinstance(module, nn.Linear):
                found[name] = x
            x = module(x)
    return found


@torch.no_grad()
def gaussian(layer: nn.Linear, x: Tensor) -> Tensor:
    """Eq. 1 for every weight of a layer, shaped as the weight; 0 for a constant input or
    neuron.

    x : the layer's inputs, (samples, features).
    """

    def standardised(values: Tensor) -> Tensor:
        centred = values.double() - values.double().mean(0)
        deviation = centred.square().mean(0).sqrt()
        return torch.where(deviation > 1e-9, centred / deviation.clamp_min(1e-9), 0.0)

    rho = standardised(layer(x)).T @ standardised(x) / len(x)
    return -0.5 * torch.log1p(-rho.square().clamp_max(1 - 1e-12))  # Eq. 1


@torch.no_grad()
def estimated(layer: nn.Linear, x: Tensor, pairs: Pairs) -> list[float]:
    """I(c; z) of single weights by nearest neighbours (scikit-learn), in nats; pairs of
    (output, input)."""
    from sklearn.feature_selection import mutual_info_regression  # takes long to import

    z = layer(x)
    return [
        float(mutual_info_regression(x[:, [i]].numpy(), z[:, o].numpy(), random_state=0)[0])
        for o, i in pairs
    ]


@torch.no_grad()
def losses_without(
    model: nn.Sequential, name: str, x: Tensor, targets: Tensor, pairs: Pairs
) -> list[float]:
    """By how much the cross entropy changes if a weight alone is removed; (output, input)
    pairs of the layer `name` of a chain.

    x : the layer's inputs, from `inputs_of`.
    """
    position = [child for child, _ in model.named_children()].index(name)
    layer, rest = model[position], model[position + 1 :]
    z, weight = layer(x), effective(layer)
    before = F.cross_entropy(rest(z), targets)
    found = []
    for o, i in pairs:
        column = z[:, o].clone()
        z[:, o] -= weight[o, i] * x[:, i]
        found.append((F.cross_entropy(rest(z), targets) - before).item())
        z[:, o] = column
    return found
