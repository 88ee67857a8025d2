"""The networks of 404 weights that gates find, recorded whole."""

from dataclasses import dataclass

from pruning.chapters.compression_curves import experiment as compression_curves
from pruning.chapters.smallest import experiment as smallest
from pruning.evidence.records import Record
from pruning.networks import structure

WEIGHTS = 404  # the paper's number
NETWORKS = 10  # gated networks, one a seed


@dataclass(frozen=True)
class Config:
    """One run: a gated network, or one of its parts trained again."""

    dataset: str = "mnist"
    study: str = "networks"  # the gates' own networks, whole
    method: str = "gates"
    arm: str = "gates"  # what is trained
    weights: int = WEIGHTS
    network: int = 0  # seed of the gated network
    seed: int = 0  # of the weights that are trained


def run(config: Config) -> Record:
    """Train one network of gates as the frontier's records say, and keep all of it."""
    settings = smallest.budgeted(config.weights, config.network)
    data = compression_curves.load(config.dataset, settings.split)
    model, metrics = compression_curves.train(settings, data)
    layers = [model[0], model[2], model[4]]
    return compression_curves.measured(settings, data, model, metrics) | {
        "widths": [layers[0].in_features, *(layer.out_features for layer in layers)],
        "connections": structure.connections(model),
        "bias_values": [layer.bias.tolist() for layer in layers],
    }


def configs(profile: str, seeds: int | None = None) -> list[Config]:
    """The ten networks of the frontier at 404 weights."""
    if profile != "paper":
        raise ValueError(f"profile: got {profile!r}, needs 'paper'")
    return [Config(network=network, seed=network) for network in range(seeds or NETWORKS)]
