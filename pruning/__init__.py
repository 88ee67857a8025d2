"""Networks that gradient descent prunes: the methods of three papers, and what is left afterwards."""

from pruning import datasets, export, models, training
from pruning.activations import activity_penalty, blind_ranges
from pruning.gates import density, density_loss, gate, gate_parameters, harden
from pruning.importance import feature_importance
from pruning.relative import (
    ContributionStatistics,
    contribution_statistics,
    layer_sparsities,
    relative_importance,
)
from pruning.rewiring import SET, DeepR
from pruning.scores import (
    magnitude,
    nnrelief,
    prune_by_score,
    random_scores,
    ria,
    snip,
    stade,
    wanda,
)
from pruning.sparsity import compact, effective_weights, masks, sparsity_report
from pruning.stochgrad import StochGradAdam

__version__ = "0.1.0"

__all__ = [
    "SET",
    "ContributionStatistics",
    "DeepR",
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
