r"""Learnable Gumbel-softmax gates on the weights of any ``nn.Module``.

Zhang, Tao, Zhang: "Neural Network Pruning by Gradient Descent", arXiv:2311.12526.

    Eq. 1   ĝ = sigmoid((ℓ + log u − log(1 − u)) / τ),  u ~ U(0, 1)    soft gate
    Eq. 2   g = 1[ĝ > ½] + ĝ − stop_grad(ĝ)                            hard gate, gradient of ĝ
            forward pass: θ^w ⊙ g;   evaluation: θ^w ⊙ 1[θ^g > ½]
    Eq. 3   loss = prediction loss + α · |mean(g) − D_target|          one density

The paper writes Eq. 1 as a softmax over the two logits log θ^g and log(1 − θ^g) with a Gumbel
variable on each. The difference of two Gumbel variables is logistic and the softmax of two
numbers is the sigmoid of their difference, so one logit and one uniform number per weight give
exactly the same gate, with half the parameters and a quarter of the arithmetic.

    symbol      name              meaning
    θ^w         weight            the layer's own weight, dense
    θ^g         keep probability  sigmoid(logits), in (0, 1)
    ℓ           logits            log θ^g − log(1 − θ^g), the trained parameter
    τ           tau               temperature of the soft gate
    D           density           kept weights / gated weights

With ``granularity="output"`` one gate acts on all weights of an output and on its bias, so
that a closed gate leaves nothing of a neuron or channel; mean(g) then weights each gate by its
number of weights.

Differs from the paper: the density of Eq. 3 is computed from the gates of the forward pass
itself (the authors' notebook draws a second sample for it), and it may be compared on a log
scale (`density_loss(log=True)`), where the pull on a gate does not vanish as the density
falls.
"""

import math
import numbers
from collections.abc import Iterable
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from pruning.bounds import check_number
from pruning.methods.sampling import BiasGate, Gate, OutputGate, gates, new_pass
from pruning.methods.watching import watch_optimizers
from pruning.networks.masks import check_free, find_gates, parametrize_apart
from pruning.networks.prunable import WEIGHTED, Model, output_dim, selected

Granularity = Literal["weight", "output"]
GRANULARITIES = get_args(Granularity)


def gate(
    model: Model,
    tau: float = 1.0,
    init: float = 0.9,
    layers: Iterable[str] | None = None,
    ignore: Iterable[str] | None = None,
    granularity: Granularity = "weight",
) -> Model:
    """Put learnable gates on the weights of a model (Eq. 1 and 2 of arXiv:2311.12526).

    In training mode each forward pass of the model samples new binary gates; in evaluation
    mode the mask θ^g > ½ is applied. A pruned model must be made plain by `finalize` first,
    after which gates can reopen what was pruned. The model is changed in place through
    ``torch.nn.utils.parametrize``, so ``state_dict`` and the optimizer see the logits as
    ordinary parameters: build the optimizer afterwards. Weight decay would pull logits to 0, a
    keep probability of one half: give `gate_parameters` a group without it.

    Parameters
    ----------
    model : any module with weights that `prunable` lists: Linear, convolutions, attention,
        LSTM, ….
    tau : temperature τ > 0 of the soft gate; only gradients depend on it, samples do not.
    init : initial keep probability θ^g, in (0, 1).
    layers, ignore : which weights to gate and which not: names of layers as `masks` has them,
        or of modules above them. By default every prunable weight.
    granularity : "weight" puts a gate on each weight and none on biases. "output" puts one on
        each output neuron or channel of Linear and convolution layers, weights and bias
        together: the output of a closed gate is exactly 0 before what follows, so the unit can
        be removed (batch norm and activations turn it into a constant). By default the layer
        that is registered last is left out then, because its outputs are taken for those of
        the model, and so are attention and recurrent weights. Where other layers give the
        model's outputs, as in a model with several heads, name all that get gates in `layers`:
        a closed gate makes an output of the model 0.

    Returns
    -------
    The same model.

    Warns of parameters that look like weights and are not covered (see `prunable`),
    and, while it trains, of an optimizer that does not hold the logits.

    Raises
    ------
    ValueError : tau, init or granularity out of range, an unknown layer, a weight that is
        gated, masked, parametrized or used by another module too, or no layer to gate. The
        model is left as it was.
    """
    if not (isinstance(tau, numbers.Real) and 0 < tau < math.inf):
        raise ValueError(f"tau: got {tau!r}, needs a finite number above 0")
    if not (isinstance(init, numbers.Real) and 0 < init < 1):
        raise ValueError(
            f"init: got {init!r}, needs a keep probability strictly between 0 and 1"
        )
    if granularity not in GRANULARITIES:
        raise ValueError(f"granularity: got {granularity!r}, needs one of {GRANULARITIES}")
    chosen = selected(model, layers, ignore)
    if granularity == "output":
        chosen = _with_outputs(chosen, named=layers is not None)
    for key, module, parameter in chosen:
        check_free(key, module, parameter, "layers")
    for _, module, parameter in chosen:
        weight = module._parameters[parameter]
        if granularity == "weight":
            parametrize_apart(module, parameter, Gate(weight, float(tau), float(init)))
            continue
        gating = OutputGate(weight, float(tau), float(init), output_dim(module))
        parametrize_apart(module, parameter, gating)
        if module.bias is not None:
            parametrize_apart(module, "bias", BiasGate(gating))
    watch_optimizers(
        (
            module.parametrizations[parameter].original,
            module.parametrizations[parameter][0].logits,
        )
        for _, module, parameter in chosen
    )
    if new_pass not in model._forward_pre_hooks.values():
        model.register_forward_pre_hook(new_pass)
    return model


def _with_outputs(chosen: list, named: bool) -> list:
    """Those with neurons or channels of their own; where the user named none, without the
    model's last."""
    having = [each for each in chosen if isinstance(each[1], WEIGHTED)]
    if named and len(having) < len(chosen):
        others = [key for key, module, _ in chosen if not isinstance(module, WEIGHTED)]
        raise ValueError(
            f"layers: {others} have no outputs to gate, needs Linear or convolution layers;"
            f" ignore={others} leaves them out"
        )
    having = having if named else having[:-1]
    if not having:
        raise ValueError(
            "model: has no layer but the last whose outputs could be gated; name it in layers"
        )
    for key, module, _ in having:
        if getattr(module, "transposed", False) and module.groups > 1:
            raise ValueError(
                f"layers: {key!r} is a grouped transposed convolution, whose outputs have no"
                f" gates; ignore={[key]} leaves it out"
            )
        if module.bias is not None:
            check_free(f"{key}.bias", module, "bias", "layers")
    return having


def gate_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The logits ℓ of all gates, for an optimizer group with a learning rate of its own."""
    return [found.logits for found in gates(model).values()]


def _kept(model: nn.Module, target: float | None = None) -> tuple[Tensor, int]:
    """Σ g over all gated weights of a model, and their number; of a sum with a target the
    gradient is wanted."""
    found = [module for module in model.modules() if isinstance(module, Gate)]
    if not found:
        if others := find_gates(model):
            kinds = sorted({type(each).__name__ for each in others.values()})
            raise ValueError(
                f"model: the gates of {sorted(others)} are of the kind {', '.join(kinds)};"
                " needs gates that pruning.gate put there"
            )
        raise ValueError("model: has no gated layer; call pruning.gate(model) first")
    sampled = [each for each in found if each.training]
    if sampled and all(each.kept is None for each in sampled):
        raise RuntimeError(
            "density: no gates sampled yet; run a forward pass in training mode first"
        )
    counts = [each.count() for each in found]
    if target is not None:
        for each in found:
            each.target = target
    if target is not None and torch.is_grad_enabled():
        trained = [each for each in sampled if each.logits.requires_grad]
        if any(not each.kept.requires_grad for each in trained):
            raise RuntimeError(
                "density_loss: the last forward pass in training mode ran without gradients"
                " (under torch.no_grad, or under reentrant checkpointing), so the loss would"
                " have none; call it right after the forward pass that is trained, and use"
                " checkpoint(…, use_reentrant=False)"
            )
    total = sum(each.weights for each in found)
    if not total:
        raise ValueError("model: its gated layers have no weights, so they have no density")
    return sum(counts), total


def density(model: nn.Module) -> Tensor:
    """Mean of the gates over all gated weights of the network together, mean(g) of Eq. 3.

    In training mode: of the gates sampled in the last forward pass, with gradient to the
    logits (none where that pass ran under ``torch.no_grad``); a layer that had no part in it
    is sampled now. In evaluation mode: of the deterministic mask, without gradient; the same
    for single layers in evaluation mode. A gate on a whole output counts as often as it has
    weights.

    Returns a 0-dim float32 tensor. Raises ValueError if nothing is gated, RuntimeError in
    training mode before the first forward pass.
    """
    kept, total = _kept(model)
    return kept / total


def density_loss(model: nn.Module, target: float, log: bool = False) -> Tensor:
    """The sparsity loss of Eq. 3 without its factor α: |mean(g) − D_target|.

    Parameters
    ----------
    model : a gated model, after its forward pass (see `density`).
    target : D_target, the fraction of weights to keep, in [0, 1]; above 0 with ``log=True``.
    log : compare on a log scale, |log mean(g) − log D_target|. At density D the pull on each
        gate is then 1/D times that of the plain form, so one α serves all densities. If a
        sample keeps no weight, its count is clamped to one half, so the logarithm is finite
        and the gradient is zero.

    Returns a 0-dim tensor; without gradient where all gates are in evaluation mode, as
    `density`. Raises ValueError for a target out of range, RuntimeError where the last forward
    pass in training mode left no gradient to the logits.
    """
    check_number("target", target)
    if not (0 < target <= 1 if log else 0 <= target <= 1):
        allowed = "(0, 1]" if log else "[0, 1]"
        raise ValueError(f"target: got {target!r}, needs a density in {allowed}")
    return off_target(*_kept(model, target), target, log)


def off_target(kept: Tensor, total: int, target: float | Tensor, log: bool) -> Tensor:
    """`density_loss` from the sum of `total` gates; elementwise, where there are several."""
    if not log:
        return (kept / total - target).abs()  # Eq. 3
    aim = (target * total).log() if isinstance(target, Tensor) else math.log(target * total)
    return (kept.clamp_min(0.5).log() - aim).abs()
