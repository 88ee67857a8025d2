r"""StochGradAdam: Adam on sampled gradients (Yun 2023, arXiv:2312.16020).

At step t every coordinate of the gradient is kept with probability s, drawn anew:

    Ω ~ Bernoulli(s), element by element      φ_t = Ω ⊙ ∇f_t(θ)
    m_t = β₁ m_{t−1} + (1 − β₁) φ_t           v_t = β₂ v_{t−1} + (1 − β₂) φ_t²
    θ_t = θ_{t−1} − μ · m̂_t / (√v̂_t + ε),     m̂ = m / (1 − β₁ᵗ),  v̂ = v / (1 − β₂ᵗ)

A coordinate whose gradient is dropped still moves, by its momentum. There is no factor 1/s.
With s = 1 this is Adam.

    s  sampling_rate    μ  lr    β₁, β₂  betas    ε  eps
    Ω  mask    φ  sampled    m, v  exp_avg, exp_avg_sq

The author's public code has, in effect, β₁ = 0.81 and ε = 1e-7:
``StochGradAdam(params, betas=(0.81, 0.999), eps=1e-7)``.
"""

import numbers
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, distributed
from torch.optim import Optimizer

from pruning.methods.noise import bernoulli_
from pruning.training import ranks

REFUSED = ("amsgrad", "capturable", "decoupled_weight_decay", "differentiable")


class StochGradAdam(Optimizer):
    """Adam that samples its gradients, in place of ``torch.optim.Adam``.

    Parameters
    ----------
    params : parameters or param groups.
    lr : learning rate μ, the paper's 0.01; a number or a tensor with one.
    betas : decay rates of the two moments, Adam's own; the author's code has (0.81, 0.999).
    eps : added to √v̂.
    weight_decay : λ, as Adam's: λθ is added to the gradient, before the sampling.
    sampling_rate : s, the probability with which a coordinate's gradient is used, in (0, 1].
    generator : draws the masks, on the parameters' device; torch's own where None. Its state
        is not part of ``state_dict()``. Save it too if training is to continue bit for bit.
        Copies and pickles of the optimizer have it.
    maximize : ascend instead of descend.

    Where ``torch.distributed`` runs several processes and no generator is given, the first
    step is a collective call: rank 0 broadcasts a seed, so that all ranks draw the same masks
    and replicas stay equal.

    The state is that of ``torch.optim.Adam``, and a state dict of either loads into the other;
    one from Adam has no sampling rate, so the optimizer keeps its own. Complex parameters are
    treated as pairs of real numbers, as Adam does. All steps use torch's foreach functions;
    "foreach" and "fused" of a group, which state dicts of Adam bring, change nothing.
    Parameters without a gradient are skipped.

    Raises ValueError for values out of range and for groups that ask for what is not
    implemented (amsgrad, capturable, differentiable, decoupled_weight_decay); TypeError for a
    generator that is none; in `step` ValueError for a sampling rate that was set out of range
    since, RuntimeError for a sparse gradient. A state dict that is refused leaves the
    optimizer as it was.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float | Tensor = 1e-2,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        sampling_rate: float = 0.8,
        generator: torch.Generator | None = None,
        *,
        maximize: bool = False,
    ):
        defaults = {
            "lr": lr,
            "betas": tuple(betas) if isinstance(betas, Iterable) else betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "sampling_rate": sampling_rate,
            "maximize": maximize,
        }
        if not isinstance(generator, torch.Generator | None):
            raise TypeError(
                f"generator: got {generator!r}, needs a torch.Generator, such as"
                " torch.Generator().manual_seed(0), or None"
            )
        self.generator = generator
        self._shared: dict[torch.device, torch.Generator] = {}  # the same on all ranks
        self._buffers: dict[int, tuple[Any, ...]] = {}
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, its values checked."""
        values = self.defaults | param_group
        if isinstance(values["lr"], Tensor) and values["lr"].numel() != 1:
            raise ValueError(
                f"lr: got a tensor of shape {tuple(values['lr'].shape)}, needs one number"
            )
        for name in ("lr", "eps", "weight_decay"):
            if not (_is_number(values[name]) and values[name] >= 0):
                raise ValueError(f"{name}: got {values[name]!r}, needs a number, 0 or more")
        betas = values["betas"]
        pair = isinstance(betas, (tuple, list)) and len(betas) == 2
        if not (pair and all(_is_number(beta) and 0 <= beta < 1 for beta in betas)):
            raise ValueError(f"betas: got {betas!r}, needs two numbers in [0, 1)")
        _check_rate(values["sampling_rate"])
        _refuse(values)
        super().add_param_group(param_group)

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"generator": self.generator, "_shared": self._shared}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for group in state["param_groups"]:  # before anything is changed
            _refuse(group)
        own = self.__dict__.get("param_groups", [])
        super().__setstate__(state)
        self._buffers = {}
        for index, group in enumerate(self.param_groups):
            before = own[index] if index < len(own) else self.defaults
            for name in self.defaults:
                group.setdefault(name, before.get(name, self.defaults[name]))

    def _generator(self, device: torch.device) -> torch.Generator | None:
        """What masks on a device are drawn from."""
        if self.generator is not None or not ranks.several():
            return self.generator
        if not self._shared:
            seed = [int(torch.randint(2**62, ()))]
            distributed.broadcast_object_list(seed, src=0)
            devices = {p.device for group in self.param_groups for p in group["params"]}
            self._shared = {
                each: torch.Generator(each).manual_seed(seed[0]) for each in devices
            }
        return self._shared[device]

    def _masks(self, index: int, grads: list[Tensor], rate: float) -> list[Tensor]:
        """Ω for each gradient: views of one buffer per device and dtype, which one call fills
        anew."""
        key = [(grad.shape, grad.device, grad.dtype) for grad in grads]
        if index not in self._buffers or self._buffers[index][0] != key:
            kinds = dict.fromkeys((grad.device, grad.dtype) for grad in grads)
            flat, masks = [], [None] * len(grads)
            for device, dtype in kinds:
                mine = [
                    k
                    for k, grad in enumerate(grads)
                    if (grad.device, grad.dtype) == (device, dtype)
                ]
                flat.append(
                    torch.empty(
                        sum(grads[k].numel() for k in mine), device=device, dtype=dtype
                    )
                )
                parts = flat[-1].split([grads[k].numel() for k in mine])
                for k, part in zip(mine, parts, strict=True):
                    masks[k] = part.view(grads[k].shape)
            self._buffers[index] = key, flat, masks
        for buffer in self._buffers[index][1]:
            bernoulli_(buffer, rate, self._generator(buffer.device))
        return self._buffers[index][2]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step; a closure evaluates the loss anew and its value is returned."""
        for group in self.param_groups:
            _check_rate(group["sampling_rate"])
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for p in (p for group in self.param_groups for p in group["params"]):
            if p.grad is not None and p.grad.layout != torch.strided:
                raise RuntimeError(
                    f"params: got a sparse gradient of a parameter of shape {tuple(p.shape)},"
                    " needs dense ones; nn.Embedding has sparse=False"
                )
        for index, group in enumerate(self.param_groups):
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                self._step_group(index, group, params)
        return loss

    def _step_group(self, index: int, group: dict[str, Any], params: list[Tensor]) -> None:
        for p in params:
            if not self.state[p]:
                self.state[p] = {
                    "step": torch.zeros(()),
                    "exp_avg": torch.zeros_like(p),
                    "exp_avg_sq": torch.zeros_like(p),
                }
            self.state[p]["step"] += 1
        states = [self.state[p] for p in params]
        steps = [float(state["step"]) for state in states]
        grads, m, v = (
            [_real(tensor) for tensor in tensors]
            for tensors in (
                [p.grad for p in params],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
            )
        )
        params = [_real(p) for p in params]
        (beta1, beta2), lr = map(float, group["betas"]), float(group["lr"])
        rate = float(group["sampling_rate"])
        if group["maximize"]:
            grads = torch._foreach_neg(grads)
        if group["weight_decay"]:
            grads = torch._foreach_add(grads, params, alpha=group["weight_decay"])
        # φ = Ω ⊙ ∇f
        sampled = (
            torch._foreach_mul(grads, self._masks(index, grads, rate)) if rate < 1 else grads
        )
        torch._foreach_lerp_(m, sampled, 1 - beta1)
        torch._foreach_mul_(v, beta2)
        torch._foreach_addcmul_(v, sampled, sampled, 1 - beta2)
        root = torch._foreach_sqrt(v)
        torch._foreach_div_(root, [(1 - beta2**t) ** 0.5 for t in steps])
        torch._foreach_add_(root, group["eps"])
        torch._foreach_addcdiv_(params, m, root, [-lr / (1 - beta1**t) for t in steps])


def _real(tensor: Tensor) -> Tensor:
    """A complex tensor as pairs of real numbers."""
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def _is_number(value: object) -> bool:
    return isinstance(value, (numbers.Real, Tensor))


def _check_rate(rate: object) -> None:
    if not (_is_number(rate) and 0 < rate <= 1):
        raise ValueError(f"sampling_rate: got {rate!r}, needs a number in (0, 1]")


def _refuse(group: dict[str, Any]) -> None:
    if asked := [name for name in REFUSED if group.get(name)]:
        raise ValueError(
            f"{asked[0]}: got {group[asked[0]]!r}; StochGradAdam has no such form"
        )
