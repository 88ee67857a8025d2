r"""The gates that `pruning.gate` puts on weights: Eq. 1 and 2 of arXiv:2311.12526 as modules.

See `gates` for the equations and symbols. All reads of a layer's weight in one forward pass of
the gated model give one sample, so that a layer used twice, a penalty on its weight, and the
density speak of the same gates. A new pass, announced by `new_pass`, draws anew, and so does
every read after a backward pass.
"""

import math
import weakref
from collections import deque
from typing import Any

import torch
from torch import Tensor, nn

from pruning.methods.noise import logistic_noise
from pruning.networks.masks import find_gates, name_other_form

PASSES = 100  # forward passes that may wait for their backward passes


def _place() -> tuple[int, int | None]:
    """Where a sample is drawn: the task of autograd's engine, −1 outside of a backward pass,
    and the level of torch.func's transforms, None outside."""
    return torch._C._current_graph_task_id(), torch._C._functorch.maybe_current_level()


class _SampledGate(torch.autograd.Function):
    """(θ^w, ℓ) ↦ (θ^w ⊙ g, Σ g): Eq. 1 and 2 in one node, so that nothing is computed twice.

    Weights of this size fall out of the cache between steps, so time goes with the number of
    buffers: the binary gate becomes the gated weight in place, the noise becomes the soft
    gate, and only that is kept for the gradient. For a stack of networks tau is a tensor
    (networks, 1, 1), and Σ g one for each.
    """

    @staticmethod
    def forward(ctx, weight, logits, noise, tau, owner):
        soft = noise.add_(logits).mul_(1 / tau).sigmoid_()  # Eq. 1
        hard = soft.round()  # Eq. 2, value: round(ĝ) = 1[ĝ > ½], ½ rounds to 0
        kept = hard.sum((1, 2)) if isinstance(tau, Tensor) else hard.sum()
        ctx.save_for_backward(weight, soft)
        ctx.logits, ctx.tau, ctx.owner = logits, tau, owner
        ctx.set_materialize_grads(False)
        if not ctx.needs_input_grad[1]:  # frozen gates: the density has no gradient
            ctx.mark_non_differentiable(kept)
        return hard.to(weight.dtype).mul_(weight), kept

    @staticmethod
    def backward(ctx, grad_gated, grad_kept):
        if (owner := ctx.owner()) is not None:
            owner.passed_back()
        weight, soft = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph=True
            return *_graph_of_gradients(ctx, weight, soft, grad_gated, grad_kept), *[None] * 3
        stacked = isinstance(ctx.tau, Tensor)
        if grad_kept is None:
            grad_kept = soft.new_zeros(())
        elif stacked:
            grad_kept = grad_kept.view(-1, 1, 1)
        grad_gate = grad_kept / ctx.tau
        if grad_gated is None:  # only the density was used
            grad_logits = torch.ops.aten.sigmoid_backward(grad_gate.expand_as(soft), soft)
            return None, grad_logits, None, None, None
        grad_weight = torch.ops.aten.threshold_backward(
            grad_gated, soft, 0.5
        )  # dL/d(θ^w ⊙ g) ⊙ 1[ĝ > ½]
        # dL/dg = dL/d(θ^w ⊙ g) ⊙ θ^w + dL/dΣg, and Eq. 2: dg/dℓ = dĝ/dℓ = ĝ (1 − ĝ) / τ
        scaled, factor = (weight / ctx.tau, 1) if stacked else (weight, 1 / ctx.tau)
        grad_gate = torch.addcmul(grad_gate, grad_gated, scaled, value=factor).to(soft.dtype)
        grad_logits = torch.ops.aten.sigmoid_backward.grad_input(
            grad_gate, soft, grad_input=grad_gate
        )
        return grad_weight.to(weight.dtype), grad_logits, None, None, None


def _graph_of_gradients(ctx, weight, soft, grad_gated, grad_kept):
    """What `_SampledGate.backward` gives of weight and logits, to be differentiated again."""
    logits = ctx.logits
    # ĝ at the value that was sampled, as a function of ℓ
    again = torch.sigmoid(soft.logit() + (logits - logits.detach()) / ctx.tau)
    hard = soft.round() + (again - again.detach())  # Eq. 2
    kept = hard.sum((1, 2)) if isinstance(ctx.tau, Tensor) else hard.sum()
    gated = hard.to(weight.dtype) * weight
    outputs = [
        (out, grad)
        for out, grad in ((gated, grad_gated), (kept, grad_kept))
        if grad is not None and out.requires_grad
    ]
    trained = [each for each in (weight, logits) if each.requires_grad]
    found = iter(
        torch.autograd.grad(
            [out for out, _ in outputs],
            trained,
            [grad for _, grad in outputs],
            create_graph=True,
            allow_unused=True,
        )
    )
    return [next(found) if each.requires_grad else None for each in (weight, logits)]


class Gate(nn.Module):
    """Parametrization θ^w ↦ θ^w ⊙ g. Made by `gates.gate`; holds the logits ℓ and the last
    sample's sum."""

    hardening = "pruning.harden(model)"  # what makes masks of such gates
    stacked = 0  # 1 where the first dimension counts networks
    _drawn_at = (-1, None)  # `_place` of the sample
    # what belongs to one step
    kept: Tensor | None  # Σ g of the last training forward pass, with gradient
    _sample: Tensor | None
    _reuse: bool  # whether a pass was announced, whose reads share the sample
    # Σ g of each forward pass since the last backward pass, which may be still going on
    _sums: deque[Tensor]
    _passed: bool

    def __init__(self, weight: Tensor, tau: float, init: float):
        super().__init__()
        logit = math.log(init) - math.log1p(-init)
        self.logits = nn.Parameter(torch.full_like(weight, logit, dtype=torch.float32))
        self.tau = tau
        self.weights = weight.numel()
        self.target: float | None = None  # the last that `density_loss` was given
        self.forget()

    def forward(self, weight: Tensor) -> Tensor:
        """θ^w ⊙ g: sampled in training mode, deterministic in evaluation mode."""
        return self.sample(weight) if self.training else weight * self.mask()

    # torch.compile breaks its graph here, and once more where the sample is used: what a pass
    # shares is kept on the module. (torch.compiler.disable would take a second to import.)
    @torch._disable_dynamo
    def sample(self, weight: Tensor) -> Tensor:
        """θ^w ⊙ g in training mode: that of this pass, or a new one."""
        if self._reuse and self._usable(weight.requires_grad or self.logits.requires_grad):
            return self._sample
        if torch._C._are_functorch_transforms_active():  # they take no such Function
            hard = self.straight_through()
            self._sample = weight * hard.to(weight.dtype)
            self._drawn(hard.sum())
            return self._sample
        self._sample, kept = _SampledGate.apply(
            weight, self.logits, self.noise(), self.tau, weakref.ref(self)
        )
        self._drawn(kept)
        return self._sample

    def noise(self) -> Tensor:
        """log u − log(1 − u) of Eq. 1, shaped as the logits, new at each call."""
        return logistic_noise(self.logits)

    def mask(self) -> Tensor:
        """The deterministic mask θ^g > ½, boolean, shaped as the weight."""
        return self.logits.detach() > 0

    def straight_through(self) -> Tensor:
        """g of Eq. 2 alone, shaped as the logits: a new sample, with the gradient of ĝ."""
        soft = torch.sigmoid((self.logits + self.noise()) / self.tau)  # Eq. 1
        return (soft.round() - soft).detach() + soft  # Eq. 2; the value is exactly 0 or 1

    def count(self) -> Tensor:
        """Kept weights, 0-dim: those of the last sample, with gradient, or in evaluation mode
        of the mask.

        A layer that had no part in the last forward pass gets its sample here.
        """
        if not self.training:
            return self.mask().sum(dtype=torch.float32)
        if self.kept is None:
            self.kept = self.straight_through().sum() * (self.weights / self.logits.numel())
        return self.kept

    def new_pass(self) -> None:
        """A forward pass of the gated model begins."""
        self.kept, self._sample, self._reuse = None, None, True

    def passed_back(self) -> None:
        """A backward pass has used the sample, whose graph is gone."""
        self._sample, self._reuse, self._passed = None, False, True

    def forget(self) -> None:
        """Drop everything that belongs to one step."""
        self.__dict__.update(_before_a_step())

    def _usable(self, trained: bool) -> bool:
        """Whether the sample belongs to this pass, not to one that checkpointing repeats in
        the backward pass, and has a graph where gradients are wanted of what is `trained`."""
        if self._sample is None or self._drawn_at != _place():
            return False
        return self._sample.requires_grad or not (trained and torch.is_grad_enabled())

    def _drawn(self, kept: Tensor) -> None:
        """Take in a new sample. Raises RuntimeError for one that checkpointing draws in a
        backward pass and no forward pass had."""
        self._drawn_at = task, level = _place()
        if task == -1:
            self.kept = kept
            if self._passed:
                self._sums.clear()
                self._passed = False
            if level is None:
                self._sums.append(kept.detach())
        elif torch.is_grad_enabled() and not any(torch.equal(kept, s) for s in self._sums):
            raise RuntimeError(
                "gates: a checkpointed part of the model drew other gates when it was computed"
                " again in the backward pass, so that its gradient would be wrong; needs"
                " checkpoint(…, preserve_rng_state=True), and all calls of a layer that is"
                " called several times in one checkpointed part"
            )

    def extra_repr(self) -> str:
        """Shape and temperature, for print(model)."""
        return f"{tuple(self.logits.shape)}, tau={self.tau}"

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, strict, *args):
        if strict:
            name_other_form(state_dict, f"{prefix}logits", args[-1])
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, *args)
        self.forget()  # the sample is of other weights

    def __getstate__(self):
        # The last sample belongs to an autograd graph, which can be neither copied nor
        # pickled.
        return super().__getstate__() | _before_a_step()


def _before_a_step() -> dict[str, Any]:
    """What a gate holds of a step that has not begun."""
    none = {"kept": None, "_sample": None, "_reuse": False, "_passed": False}
    return none | {"_sums": deque(maxlen=PASSES)}


class OutputGate(Gate):
    """One gate on all weights of an output: a row of a Linear layer, a channel of a
    convolution.

    The logits are shaped as the weight, with 1 in all dimensions but that of the outputs,
    `dim`.
    """

    def __init__(self, weight: Tensor, tau: float, init: float, dim: int):
        shape = [size if d == dim else 1 for d, size in enumerate(weight.shape)]
        super().__init__(weight.new_empty(shape), tau, init)
        self.shape, self.weights, self.dim = weight.shape, weight.numel(), dim

    def forward(self, weight: Tensor) -> Tensor:
        """θ^w ⊙ g, one g an output."""
        if not self.training:
            return weight * self.mask()
        if not (self._reuse and self._usable(self.logits.requires_grad)):
            self._sample = self.straight_through()
            if self._sample.requires_grad:
                owner = weakref.ref(self)
                self._sample.register_hook(lambda grad: owner() and owner().passed_back())
            self._drawn(self._sample.sum() * (self.weights / self.logits.numel()))
        return weight * self._sample.to(weight.dtype)

    def of_bias(self, bias: Tensor) -> Tensor:
        """The gates of the outputs, shaped as the bias; a layer reads its weight first, which
        draws them."""
        if not self.training:
            return (self.logits.detach() > 0).view_as(bias)
        if not self._usable(self.logits.requires_grad):
            self._sample = self.straight_through()
        return self._sample.view_as(bias).to(bias.dtype)

    def mask(self) -> Tensor:
        """The deterministic mask θ^g > ½, boolean, shaped as the weight."""
        return (self.logits.detach() > 0).expand(self.shape)


class BiasGate(nn.Module):
    """Parametrization of a bias by the `OutputGate` of its layer's weight: b ↦ b ⊙ g."""

    hardening = Gate.hardening

    def __init__(self, gate: OutputGate):
        super().__init__()
        self.of = (gate,)  # in a tuple, so that its logits are not registered twice

    def forward(self, bias: Tensor) -> Tensor:
        """b ⊙ g."""
        return bias * self.of[0].of_bias(bias)

    def mask(self) -> Tensor:
        """The deterministic mask, boolean, shaped as the bias."""
        return self.of[0].logits.detach().flatten() > 0


def new_pass(model: nn.Module, args) -> None:
    """Forward pre-hook of a gated model: its gates draw anew."""
    for module in model.modules():
        if isinstance(module, Gate) and module.training:
            module.new_pass()


def gates(model: nn.Module) -> dict[str, Gate]:
    """The gates of a model, {key: Gate} with the keys of `prunable`; empty where nothing is
    gated."""
    return {key: found for key, found in find_gates(model).items() if isinstance(found, Gate)}
