r"""Relative importance of weights (Hussien, Afifi, Nguyen, Cheriet 2024, arXiv:2410.16151).

One reading of a paper whose full text was not available to us: its words come from the
abstract and from summaries by others, the formulas are ours, and the chapter shows how much
the reading matters. A weight's contribution c to its neuron is defined and summed up over data
in `pruning.methods.contributions`. With μ and σ the mean and standard deviation of c over the
samples and l = 0, 1, … the layer,

    score = s^l · (α·|μ| + β·σ)      or      s^l · |μ|^α · σ^β

    μ  mean    σ  std    α  alpha    β  beta    s  decay    λ  the factor of `activity_penalty`
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor, nn

from pruning.bounds import Amount, Rate, check_number
from pruning.methods.contributions import (
    KINDS,
    ContributionStatistics,
    Kind,
    contribution_statistics,
    contributions,
)
from pruning.methods.oneshot import Score
from pruning.networks.layers import weights
from pruning.training.recipes import setting

__all__ = [
    "FORMS",
    "KINDS",
    "RELATIVE",
    "ContributionStatistics",
    "Settings",
    "contribution_statistics",
    "contributions",
    "importance",
    "layer_sparsities",
    "relative_importance",
]

Form = Literal["sum", "product"]
FORMS = get_args(Form)


def relative_importance(
    stats: dict[str, ContributionStatistics],
    alpha: float = 1.0,
    beta: float = 1.0,
    decay: float = 1.0,
    form: Form = "sum",
) -> dict[str, Tensor]:
    """Scores from contributions: s^l·(α·|μ| + β·σ), or s^l·|μ|^α·σ^β, {layer: tensor shaped as
    the weight}.

    Parameters
    ----------
    stats : from `contribution_statistics`; l counts its layers from 0 in their order.
    alpha, beta : factors of mean and deviation (exponents in the product), 0 or more, not both
        0.
    decay : s > 0; below 1 later layers score lower. It matters where layers compete,
        ``scope="global"``; for layers pruned apart use `layer_sparsities`.
    form : "sum" or "product".

    A weight whose neuron is blind on all samples, with and without it, scores 0, the lowest
    there is. Raises ValueError for values out of range.
    """
    for name, value in (("alpha", alpha), ("beta", beta), ("decay", decay)):
        check_number(name, value)
    if not (alpha >= 0 and beta >= 0 and alpha + beta > 0):
        raise ValueError(f"alpha, beta: got {alpha!r}, {beta!r}, needs 0 or more, not both 0")
    if not decay > 0:
        raise ValueError(f"decay: got {decay!r}, needs a number above 0")
    if form not in FORMS:
        raise ValueError(f"form: got {form!r}, needs one of {FORMS}")

    def score(mean: Tensor, std: Tensor) -> Tensor:
        if form == "sum":
            return alpha * mean.abs() + beta * std
        return mean.abs() ** alpha * std**beta

    return {
        name: decay**level * score(s.mean, s.std)
        for level, (name, s) in enumerate(stats.items())
    }


def layer_sparsities(
    model: nn.Module,
    sparsity: float,
    decay: float = 1.0,
    *,
    layers: Iterable[str] | None = None,
    ignore: Iterable[str] | None = None,
) -> dict[str, float]:
    """Fractions to remove per layer, ∝ s^l and `sparsity` in all; for `prune_by_score` by
    layer or neuron.

    `layers` and `ignore` name the weights that count, as in the score with which the fractions
    go. A layer whose fraction would pass 1 − 1/its weights stays there and the others take the
    rest. Raises ValueError for values out of range.
    """
    check_number("sparsity", sparsity)
    check_number("decay", decay)
    if not 0 <= sparsity < 1 or not decay > 0:
        raise ValueError(
            f"sparsity, decay: got {sparsity!r}, {decay!r}, needs [0, 1) and above 0"
        )
    sizes = {
        name: weight.value().numel() for name, weight in weights(model, layers, ignore).items()
    }
    ratio = {name: decay**level for level, name in enumerate(sizes)}
    most = {name: 1 - 1 / size for name, size in sizes.items()}
    full: dict[str, float] = {}
    while True:
        free = [name for name in sizes if name not in full]
        rest = sparsity * sum(sizes.values()) - sum(
            sizes[name] * share for name, share in full.items()
        )
        scale = rest / sum(sizes[name] * ratio[name] for name in free) if free else 0.0
        over = {name: most[name] for name in free if scale * ratio[name] > most[name]}
        if not over:
            return {name: full.get(name, scale * ratio[name]) for name in sizes}
        full |= over


@dataclass(frozen=True)
class Settings:
    """The reading that the validation split chose among those with blind ranges."""

    kind: Kind = setting("absolute", "contribution: 'relative', 'absolute' or 'output'")
    alpha: Amount = setting(1.0, "factor α of |μ|")
    beta: Amount = setting(1.0, "factor β of σ")
    decay: Rate = setting(1.0, "s: below 1 later layers keep fewer weights")
    form: Form = setting("sum", "'sum' or 'product' of mean and deviation")
    tolerance: float | None = setting(
        None, "of the blind ranges; None: 0.01 for smooth activations, else 0"
    )
    blind: bool = setting(True, "whether contributions within a blind range count 0")


def importance(model: nn.Module, inputs: Tensor, settings: Settings) -> dict[str, Tensor]:
    """`relative_importance` of a model from a whole training set."""
    s = settings
    stats = contribution_statistics(model, inputs, s.kind, s.tolerance, s.blind)
    return relative_importance(stats, s.alpha, s.beta, s.decay, s.form)


RELATIVE = Score(
    "relative",
    importance,
    needs=("inputs", "settings"),
    label="relative importance",
    short="relative importance",
    colour="#332288",
    marker="o",
    settings=Settings,
)
