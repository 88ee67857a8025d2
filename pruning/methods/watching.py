"""A warning for the commonest mistake with gates: an optimizer that was built before them."""

import weakref
from collections.abc import Iterable

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

from pruning.networks.notices import notice

PATIENCE = 10  # steps: weights and logits may have optimizers of their own that take turns


class _Watch:
    """The weights and logits of one gated model, kept alive by others, and the steps on its
    weights alone."""

    def __init__(self, pairs: Iterable[tuple[Tensor, Tensor]]):
        self.pairs = [(weakref.ref(weight), weakref.ref(logits)) for weight, logits in pairs]
        self.steps = 0

    def settled(self, held: set[int]) -> bool:
        """After a step on the parameters with these ids: whether there is nothing left to
        see."""
        alive = [(weight(), logits()) for weight, logits in self.pairs]
        alive = [
            (weight, logits)
            for weight, logits in alive
            if weight is not None and logits is not None
        ]
        if not alive or any(id(logits) in held for _, logits in alive):
            return True
        self.steps += any(
            id(weight) in held and logits.requires_grad for weight, logits in alive
        )
        return self.steps >= PATIENCE


_open: list[_Watch] = []
_hook = None  # torch's handle: one hook on all optimizers, from the first gated model on


def watch_optimizers(pairs: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Look at the first optimizer steps on gated weights, and warn if none of them is on the
    logits.

    pairs : (weight, logits) of each gate of a model. The watch ends with the first step on any
        of the logits, with the warning, or with the gates.
    """
    global _hook
    _hook = _hook or register_optimizer_step_post_hook(_after_step)
    _open.append(_Watch(pairs))


def _after_step(optimizer: Optimizer, args: tuple, kwargs: dict) -> None:
    if not _open:
        return
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    for watch in list(_open):
        if not watch.settled(held):
            continue
        _open.remove(watch)
        if watch.steps >= PATIENCE:
            notice(
                f"{PATIENCE} optimizer steps have moved gated weights and none their gates:"
                " build the optimizer after pruning.gate(model), or freeze"
                " pruning.gate_parameters(model)"
            )
