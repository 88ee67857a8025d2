"""Networks that gradient descent prunes: the methods of three papers, and what is left afterwards."""

from pruning import datasets, models, training
from pruning.gates import density, density_loss, gate, gate_parameters, harden
from pruning.sparsity import compact, effective_weights, masks, sparsity_report

__version__ = "0.1.0"

__all__ = [
    "compact",
    "datasets",
    "density",
    "density_loss",
    "effective_weights",
    "gate",
    "gate_parameters",
    "harden",
    "masks",
    "models",
    "sparsity_report",
    "training",
]
