"""Networks that gradient descent prunes: the methods of three papers, and what is left afterwards."""

from pruning import training
from pruning.data import datasets
from pruning.methods.activations import activity_penalty, blind_ranges
from pruning.methods.gates import density, density_loss, gate, gate_parameters, harden
from pruning.methods.relative import (
    ContributionStatistics,
    contribution_statistics,
    layer_sparsities,
    relative_importance,
)
from pruning.methods.rewiring import SET, DeepR
from pruning.methods.scores import (
    magnitude,
    nnrelief,
    prune_by_score,
    random_scores,
    ria,
    snip,
    stade,
    wanda,
)
from pruning.methods.stochgrad import StochGradAdam
from pruning.networks import export, models
from pruning.networks.importance import feature_importance
from pruning.networks.masks import Mask, finalize, masks
from pruning.networks.sparsity import compact, effective_weights, sparsity_report

__version__ = "0.1.0"

__all__ = [
    "SET",
    "ContributionStatistics",
    "DeepR",
    "Mask",
    "StochGradAdam",
    "activity_penalty",
    "blind_ranges",
    "compact",
    "contribution_statistics",
    "datasets",
    "density",
    "density_loss",
    "effective_weights",
    "export",
    "feature_importance",
    "finalize",
    "gate",
    "gate_parameters",
    "harden",
    "layer_sparsities",
    "magnitude",
    "masks",
    "models",
    "nnrelief",
    "prune_by_score",
    "random_scores",
    "relative_importance",
    "ria",
    "snip",
    "sparsity_report",
    "stade",
    "training",
    "wanda",
]
