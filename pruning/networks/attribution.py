"""What a trained network says of its inputs, by methods that look at outputs rather than at
structure.

They stand beside Eq. 4 of arXiv:2311.12526 (`pruning.importance`). All explain one number, the
logit of one class minus that of another, and return one importance a feature, nothing
negative.
"""

import warnings

import numpy as np
import torch
from torch import Tensor, nn

from pruning.networks.batches import evaluating


class LogitDifference(nn.Module):
    """(batch, features) ↦ (batch, 1): logit of class `positive` minus that of `negative`."""

    def __init__(self, model: nn.Module, positive: int = 1, negative: int = 0):
        super().__init__()
        self.model, self.positive, self.negative = model.eval(), positive, negative

    def forward(self, x: Tensor) -> Tensor:
        """The difference, one column."""
        logits = self.model(x)
        return logits[:, [self.positive]] - logits[:, [self.negative]]


def _as_function(model: nn.Module):
    @torch.no_grad()
    def function(x: np.ndarray) -> np.ndarray:
        return model(torch.as_tensor(x, dtype=torch.float32)).squeeze(1).numpy()

    return function


def gradient_shap_values(
    model: nn.Module, background: Tensor, inputs: Tensor, samples: int = 200, seed: int = 0
) -> Tensor:
    """SHAP values by shap.GradientExplainer (expected gradients), (inputs, features).

    `model` maps (batch, features) to (batch, 1); `samples` integration points an input.
    """
    import shap  # slow to import, and part of the book's extra only

    explainer = shap.GradientExplainer(model, background)
    return torch.as_tensor(
        explainer.shap_values(inputs, nsamples=samples, rseed=seed)
    ).reshape(inputs.shape)


def permutation_shap_values(
    model: nn.Module, background: Tensor, inputs: Tensor, seed: int = 0
) -> Tensor:
    """SHAP values by shap.PermutationExplainer, which asks for outputs only, (inputs,
    features)."""
    import shap

    masker = shap.maskers.Independent(background.numpy(), max_samples=len(background))
    explainer = shap.PermutationExplainer(_as_function(model), masker, seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.as_tensor(
            explainer(inputs.numpy(), silent=True).values, dtype=torch.float32
        )


def integrated_gradients(
    model: nn.Module, baseline: Tensor, inputs: Tensor, steps: int = 64
) -> Tensor:
    """Integrated gradients (Sundararajan et al. 2017) from one baseline, (inputs, features).

    The path integral by the midpoint rule, with the model in evaluation mode; each row sums to
    f(input) − f(baseline) up to its error. Raises ValueError for a model with several outputs,
    of which `LogitDifference` makes one.
    """
    gradients = torch.zeros_like(inputs)
    with evaluating(model), torch.enable_grad():
        for alpha in (torch.arange(steps) + 0.5) / steps:
            point = (baseline + alpha * (inputs - baseline)).requires_grad_()
            outputs = model(point)
            if outputs.numel() != len(inputs):
                raise ValueError(
                    f"model: gave outputs of shape {tuple(outputs.shape)} for {len(inputs)}"
                    " inputs, needs one number an input, as LogitDifference gives it"
                )
            gradients += torch.autograd.grad(outputs.sum(), point)[0]
    return (inputs - baseline) * gradients / steps


@torch.no_grad()
def permutation_importance(
    model: nn.Module, inputs: Tensor, targets: Tensor, repeats: int = 5, seed: int = 0
) -> Tensor:
    """How much the cross entropy of a classifier rises when a feature is shuffled among the
    samples (Breiman 2001), with the model in evaluation mode, the mean over `repeats`, at
    least 0, (features,)."""
    generator = torch.Generator().manual_seed(seed)
    rises = torch.zeros(inputs.shape[1])
    with evaluating(model):
        base = nn.functional.cross_entropy(model(inputs), targets)
        for feature in range(inputs.shape[1]):
            for _ in range(repeats):
                shuffled = inputs.clone()
                shuffled[:, feature] = inputs[
                    torch.randperm(len(inputs), generator=generator), feature
                ]
                rises[feature] += nn.functional.cross_entropy(model(shuffled), targets) - base
    return (rises / repeats).clamp_min(0)
