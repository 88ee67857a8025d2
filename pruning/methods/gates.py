r"""Learnable Gumbel-softmax gates on the weights of any ``nn.Module``.

Zhang, Tao, Zhang: "Neural Network Pruning by Gradient Descent", arXiv:2311.12526.

    Eq. 1   ĝ = sigmoid((ℓ + log u − log(1 − u)) / τ),   u ~ U(0, 1)       soft gate
    Eq. 2   g = 1[ĝ > ½] + ĝ − stop_grad(ĝ)                                hard gate, gradient of ĝ
            forward pass: θ^w ⊙ g;   evaluation: θ^w ⊙ 1[θ^g > ½]
    Eq. 3   loss = prediction loss + α · |mean(g) − D_target|              one density for the network

The paper writes Eq. 1 as a softmax over the two logits log θ^g and log(1 − θ^g) with a Gumbel
variable on each. The difference of two Gumbel variables is logistic and the softmax of two numbers
is the sigmoid of their difference, so one logit and one uniform number per weight give exactly the
same gate, with half the parameters and a quarter of the arithmetic.

    symbol      name              meaning
    θ^w         weight            the layer's own weight, dense
    θ^g         keep probability  sigmoid(logits), in (0, 1)
    ℓ           logits            log θ^g − log(1 − θ^g), the trained parameter
    τ           tau               temperature of the soft gate
    D           density           kept weights / gated weights

Differs from the paper: the density of Eq. 3 is computed from the gates of the forward pass itself
(the authors' notebook draws a second sample for it), and it may be compared on a log scale
(`density_loss(log=True)`), where the pull on a gate does not vanish as the density falls.
"""

import math

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils import parametrize

from pruning.methods.noise import logistic_noise
from pruning.networks.masks import Mask, find_gates, is_pruned, parametrize_apart
from pruning.networks.prunable import prunable


class _SampledGate(torch.autograd.Function):
    """(θ^w, ℓ) ↦ (θ^w ⊙ g, Σ g): Eq. 1 and 2 in one node, so that nothing is computed twice.

    Weights of this size fall out of the cache between steps, so time goes with the number of buffers:
    the binary gate becomes the gated weight in place, the noise becomes the soft gate, and only that is kept
    for the gradient. For a stack of networks tau is a tensor (networks, 1, 1), and Σ g one for each.
    """

    @staticmethod
    def forward(ctx, weight, logits, noise, tau):
        soft = noise.add_(logits).mul_(1 / tau).sigmoid_()  # Eq. 1
        hard = soft.round()  # Eq. 2, value: round(ĝ) = 1[ĝ > ½], ½ rounds to 0
        kept = hard.sum((1, 2)) if isinstance(tau, Tensor) else hard.sum()
        ctx.save_for_backward(weight, soft)
        ctx.tau = tau
        ctx.set_materialize_grads(False)
        return hard.to(weight.dtype).mul_(weight), kept

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_gated, grad_kept):
        weight, soft = ctx.saved_tensors
        stacked = isinstance(ctx.tau, Tensor)
        if grad_kept is None:
            grad_kept = soft.new_zeros(())
        elif stacked:
            grad_kept = grad_kept.view(-1, 1, 1)
        grad_gate = grad_kept / ctx.tau
        if grad_gated is None:  # only the density was used
            return None, torch.ops.aten.sigmoid_backward(grad_gate.expand_as(soft), soft), None, None
        grad_weight = torch.ops.aten.threshold_backward(grad_gated, soft, 0.5)  # dL/d(θ^w ⊙ g) ⊙ 1[ĝ > ½]
        # dL/dg = dL/d(θ^w ⊙ g) ⊙ θ^w + dL/dΣg, and Eq. 2: dg/dℓ = dĝ/dℓ = ĝ (1 − ĝ) / τ
        scaled, factor = (weight / ctx.tau, 1) if stacked else (weight, 1 / ctx.tau)
        grad_gate = torch.addcmul(grad_gate, grad_gated, scaled, value=factor).to(soft.dtype)
        grad_logits = torch.ops.aten.sigmoid_backward.grad_input(grad_gate, soft, grad_input=grad_gate)
        return grad_weight.to(weight.dtype), grad_logits, None, None


class Gate(nn.Module):
    """Parametrization θ^w ↦ θ^w ⊙ g. Made by `gate`; holds the logits ℓ and the last sample's sum."""

    stacked = 0  # 1 where the first dimension counts networks

    def __init__(self, weight: Tensor, tau: float, init: float):
        super().__init__()
        logit = math.log(init) - math.log1p(-init)
        self.logits = nn.Parameter(torch.full_like(weight, logit, dtype=torch.float32, requires_grad=True))
        self.tau = tau
        self.kept: Tensor | None = None  # Σ g of the last training forward pass, with gradient

    def forward(self, weight: Tensor) -> Tensor:
        """θ^w ⊙ g: sampled in training mode, deterministic in evaluation mode."""
        if not self.training:
            return weight * self.mask()
        gated, self.kept = _SampledGate.apply(weight, self.logits, self.noise(), self.tau)
        return gated

    def noise(self) -> Tensor:
        """log u − log(1 − u) of Eq. 1, shaped as the weight, new at each call."""
        return logistic_noise(self.logits)

    def mask(self) -> Tensor:
        """The deterministic mask θ^g > ½, boolean, shaped as the weight."""
        return self.logits.detach() > 0

    def extra_repr(self) -> str:
        """Shape and temperature, for print(model)."""
        return f"{tuple(self.logits.shape)}, tau={self.tau}"

    def __getstate__(self):
        # The last sample belongs to an autograd graph, which can be neither copied nor pickled.
        return {**super().__getstate__(), "kept": None}


def gates(model: nn.Module) -> dict[str, Gate]:
    """The gates of a model, {key: Gate} with the keys of `prunable`; empty where nothing is gated."""
    return {key: found for key, found in find_gates(model).items() if isinstance(found, Gate)}


def _kept(model: nn.Module) -> tuple[Tensor, int]:
    """Σ g over all gates of a model, and their number."""
    found = [module for module in model.modules() if isinstance(module, Gate)]
    if not found:
        raise ValueError("model: has no gated layer; call pruning.gate(model) first")
    total = sum(g.logits.numel() for g in found)
    if not any(g.training for g in found):
        return sum(g.mask().sum(dtype=torch.float32) for g in found), total
    if any(g.kept is None for g in found):
        raise RuntimeError("density: no gates sampled yet; run a forward pass in training mode first")
    return sum(g.kept for g in found), total


def gate(model: nn.Module, tau: float = 1.0, init: float = 0.9, layers: list[str] | None = None) -> nn.Module:
    """Put a learnable gate on every weight of a model (Eq. 1 and 2 of arXiv:2311.12526).

    In training mode each forward pass samples a new binary gate for each weight; in evaluation
    mode the mask θ^g > ½ is applied. Biases are not gated. The model is changed in place through
    ``torch.nn.utils.parametrize``, so ``state_dict`` and the optimizer see the logits as ordinary
    parameters: build the optimizer afterwards.

    Parameters
    ----------
    model : any module with weights that `prunable` lists: Linear, convolutions, attention, LSTM, ….
    tau : temperature τ > 0 of the soft gate; only gradients depend on it, samples do not.
    init : initial keep probability θ^g, in (0, 1).
    layers : keys of the weights to gate, as `masks` has them; None gates every prunable weight.

    Returns
    -------
    The same model.

    Raises
    ------
    ValueError : tau or init out of range, an unknown layer, a layer of another kind, a layer that is
        gated or pruned already, or no layer to gate. The model is left as it was.
    """
    if not 0 < tau < math.inf:
        raise ValueError(f"tau: got {tau!r}, needs a finite number above 0")
    if not 0 < init < 1:
        raise ValueError(f"init: got {init!r}, needs a keep probability strictly between 0 and 1")
    available = {key: (module, parameter) for key, module, parameter in prunable(model)}
    if isinstance(layers, str):
        raise ValueError(f"layers: got the string {layers!r}, needs a list of names such as [{layers!r}]")
    keys = list(available if layers is None else layers)
    if not keys:
        raise ValueError(f"layers: nothing to gate, got {layers!r}; prunable here: {list(available)}")
    for key in keys:
        if key not in available:
            raise ValueError(f"layers: got {key!r}, needs names of prunable weights: {list(available)}")
        module, parameter = available[key]
        if parametrize.is_parametrized(module, parameter):
            raise ValueError(f"layers: {key!r} is gated or parametrized already; gate a layer once")
        if is_pruned(module, parameter):
            raise ValueError(
                f"layers: {key!r} carries a pruning mask; call pruning.finalize(model) before gating"
            )
    for key in dict.fromkeys(keys):
        module, parameter = available[key]
        gating = Gate(module._parameters[parameter], float(tau), float(init))
        parametrize_apart(module, parameter, gating)
    return model


def gate_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The logits ℓ of all gates, for an optimizer group with a learning rate of its own."""
    return [found.logits for found in gates(model).values()]


def density(model: nn.Module) -> Tensor:
    """Mean of the gates over all gated weights of the network together, mean(g) of Eq. 3.

    In training mode: of the gates sampled in the last forward pass, with gradient to the logits.
    In evaluation mode: of the deterministic mask, without gradient.

    Returns a 0-dim float32 tensor. Raises ValueError if nothing is gated, RuntimeError in training
    mode before the first forward pass.
    """
    kept, total = _kept(model)
    return kept / total


def density_loss(model: nn.Module, target: float, log: bool = False) -> Tensor:
    """The sparsity loss of Eq. 3 without its factor α: |mean(g) − D_target|.

    Parameters
    ----------
    model : a gated model, after its forward pass (see `density`).
    target : D_target, the fraction of weights to keep, in [0, 1]; above 0 with ``log=True``.
    log : compare on a log scale, |log mean(g) − log D_target|. At density D the pull on each gate
        is then 1/D times that of the plain form, so one α serves all densities. A sample that
        keeps nothing counts as half a weight and pulls nowhere.

    Returns a 0-dim tensor. Raises ValueError for a target out of range.
    """
    if not (0 < target <= 1 if log else 0 <= target <= 1):
        allowed = "(0, 1]" if log else "[0, 1]"
        raise ValueError(f"target: got {target!r}, needs a density in {allowed}")
    return off_target(*_kept(model), target, log)


def off_target(kept: Tensor, total: int, target: float | Tensor, log: bool = False) -> Tensor:
    """`density_loss` from the sum of `total` gates; elementwise, where there are several."""
    if not log:
        return (kept / total - target).abs()  # Eq. 3
    aim = (target * total).log() if isinstance(target, Tensor) else math.log(target * total)
    return (kept.clamp_min(0.5).log() - aim).abs()


@torch.no_grad()
def harden(model: nn.Module, at_most: int | None = None) -> nn.Module:
    """Turn each gate into the fixed mask θ^g > ½, a `Mask` in the gate's place.

    The evaluation output does not change, unless `at_most` closes gates. Weights and biases stay trainable
    under the mask; the logits are gone. `finalize` makes the mask permanent.

    Parameters
    ----------
    model : a gated model; changed in place.
    at_most : a budget for the whole network: of the open gates only so many stay, those with the largest ℓ.
        None keeps all open gates.

    Returns the same model. Raises ValueError if nothing is gated, or for a budget below 1.
    """
    found = gates(model)
    if not found:
        raise ValueError("model: has no gated layer; call pruning.gate(model) first")
    if at_most is not None and at_most < 1:
        raise ValueError(f"at_most: got {at_most!r}, needs 1 or more weights, or None")
    masks = dict(zip(found.values(), _masks(list(found.values()), at_most), strict=True))
    for module in model.modules():
        if isinstance(module, parametrize.ParametrizationList):
            for position, each in enumerate(module):
                if each in masks:
                    module[position] = Mask(masks[each], module.original.dtype).train(each.training)
    return model


def _masks(found: list[Gate], at_most: int | None) -> list[Tensor]:
    """The masks of all gates of a network (or stack), within its budget."""
    if at_most is None:
        return [gating.mask() for gating in found]
    flat = [gating.logits.flatten(gating.stacked) for gating in found]  # (gates,) or (networks, gates)
    logits = torch.cat(flat, dim=-1)
    largest = logits.topk(min(at_most, logits.shape[-1])).indices
    stay = torch.zeros_like(logits, dtype=torch.bool).scatter_(-1, largest, True)
    parts = stay.split([each.shape[-1] for each in flat], dim=-1)
    return [part.view_as(gating.logits) & gating.mask() for part, gating in zip(parts, found, strict=True)]
