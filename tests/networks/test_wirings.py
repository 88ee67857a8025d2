import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pruning import training
from pruning.networks import masks, models, sparsity, wirings


def network(seed, sizes=(12, 9, 7, 4), density=0.3):
    torch.manual_seed(seed)
    model = models.mlp(sizes, "silu")
    layers = [layer for layer in model if isinstance(layer, nn.Linear)]
    for layer in layers:
        masks.set_mask(layer, torch.rand(layer.weight.shape) < density)
    return model, layers


def wired(networks):
    weights = [[masks.effective(layer) for layer in layers] for _, layers in networks]
    kept = [[masks.mask_of(layer) for layer in layers] for _, layers in networks]
    biases = [[layer.bias.detach() for layer in layers] for _, layers in networks]
    return wirings.Wirings(weights, kept, biases, "silu")


def test_living_weights_are_the_effective_ones():
    for seed in range(5):
        model, layers = network(seed, density=0.15)
        living = wirings.living([masks.mask_of(layer) for layer in layers])
        assert sum(int(mask.sum()) for mask in living) == sparsity.effective_weights(model)


def test_outputs_are_those_of_the_masked_networks_where_every_neuron_has_an_input():
    networks = []
    for seed in range(3):
        model, layers = network(seed)
        for layer in layers:  # a neuron without inputs would only add a constant
            mask = masks.mask_of(layer)
            mask[:, 0] = True
            masks.set_mask(layer, mask)
        networks.append((model, layers))
    x = torch.randn(6, 12)
    outputs = wired(networks)(x)
    expected = torch.stack([model(x) for model, _ in networks])
    torch.testing.assert_close(outputs, expected)


def test_each_network_trains_as_it_would_alone():
    networks = [network(seed) for seed in range(3)]
    x, y = torch.randn(40, 12), torch.randint(4, (40,))
    together, alone = wired(networks), [wired([each]) for each in networks]
    how = {"epochs": 5, "batch_size": 8, "loss": wirings.cross_entropy}
    for model in (together, *alone):
        training.fit(model, x, y, **how)
    expected = torch.cat([model(x) for model in alone])
    torch.testing.assert_close(together(x), expected, atol=1e-4, rtol=1e-3)


def test_training_is_that_of_the_masked_network():
    model, layers = network(1, density=1.0)
    copied = copy.deepcopy(model)
    wiring = wired([(model, layers)])
    x, y = torch.randn(40, 12), torch.randint(4, (40,))
    training.fit(copied, x, y, epochs=5, batch_size=8)
    training.fit(wiring, x, y, epochs=5, batch_size=8, loss=wirings.cross_entropy)
    torch.testing.assert_close(wiring(x)[0], copied(x), atol=1e-4, rtol=1e-3)


def test_the_loss_sums_over_networks_and_accuracies_are_counted_one_by_one():
    networks = [network(seed) for seed in range(3)]
    x, y = torch.randn(50, 12), torch.randint(4, (50,))
    model = wired(networks)
    outputs = model(x)
    expected = sum(F.cross_entropy(each, y) for each in outputs)
    torch.testing.assert_close(wirings.cross_entropy(outputs, y), expected)
    counted = wirings.accuracies(model, x, y, batch_size=7)
    assert counted == pytest.approx(
        [(each.argmax(1) == y).float().mean().item() for each in outputs]
    )
