r"""Iterative magnitude pruning that rewinds the weights to an early point of the training.

Frankle, Dziugaite, Roy, Carbin: "Linear Mode Connectivity and the Lottery Ticket Hypothesis",
ICML 2020, arXiv:1912.05671; Frankle and Carbin 2019, arXiv:1803.03635, rewind to
the start (k = 0).

    1   train to step k, keep W_k; train on to the end, W_T
    2   of the weights that are left remove a fraction p, those with the smallest |W_T|
    3   put the rest back to W_k and train from k to T again; repeat 2 and 3

    symbol  name    meaning
    k       early   the point to rewind to, as a fraction of the first training
    p       –       1 − (budget / all)^(1 / rounds): equal fractions a round, so that the
                    budget is met exactly

Differs from the paper: after rewinding each training has its full length, learning rate
schedule included (the paper's goes on at step k); layers may have shares of their own.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pruning.bounds import Count, Fraction, Positive, Rate, check_whole
from pruning.methods import scores, shares
from pruning.networks.prunable import selected
from pruning.training import Callback
from pruning.training.loop import check_progress
from pruning.training.recipes import (
    Adam,
    HoldThenCosine,
    Method,
    Phase,
    Problem,
    finetune,
    setting,
)


class Rewinding(Callback):
    """Pass the same object to each of `rounds` trainings; after each it prunes and rewinds.

    Parameters
    ----------
    weights : how many of the weights of `pruning.prunable`, but for those that `ignore`
        leaves out, are kept after the last round, exactly. A pruned model loses weights from
        those that it has left.
    rounds : how often weights are removed, at least 1. The model is trained once more
        afterwards.
    early : k as a fraction of the first training, in [0, 1).
    allocation : how layers share the weights, see `pruning.methods.shares`.
    ignore : weights that lose nothing and are not counted: keys of `pruning.prunable` or
        modules above them.

    All parameters are rewound, and the running statistics of batch norm. Other buffers stay as
    they are. In a loop of your own: `save` at step k of the first training, `prune_and_rewind`
    after each of the trainings. Raises ValueError for values out of range, and in `save` for
    more weights than a pruned model has left.
    """

    def __init__(
        self,
        weights: int,
        rounds: int,
        early: float = 0.02,
        allocation: shares.Shares = "global",
        ignore: Iterable[str] | None = None,
    ):
        check_whole("rounds", rounds, 1)
        if not 0 <= early < 1:
            raise ValueError(f"early: got {early!r}, needs a fraction in [0, 1)")
        self.weights, self.rounds, self.early, self.allocation = (
            weights,
            rounds,
            early,
            allocation,
        )
        self.ignore = ignore
        self.saved: dict[str, Tensor] = {}  # W_k, the biases and the statistics at k
        self.full: dict[str, int] = {}  # weights that are left before the first round
        self.done = 0

    def save(self, model: nn.Module) -> None:
        """Keep the weights to rewind to. Raises ValueError for more weights than are left."""
        names = [key for key, _, _ in selected(model, ignore=self.ignore)]
        self.full = shares.left(model, self._final(model, names), names)
        self.saved = {name: value.clone() for name, value in _rewound(model).items()}

    @torch.no_grad()
    def prune_and_rewind(self, model: nn.Module) -> None:
        """Steps 2 and 3. Raises RuntimeError without `save`, or after the last round."""
        if not self.saved or self.done == self.rounds:
            raise RuntimeError(
                "rewinding: needs `save` before, and no more than `rounds` rounds"
            )
        final = self._final(model, self.full)
        kept = shares.descending(self.full, final, self.rounds)[self.done]
        shares.keep_largest(model, scores.magnitude(model, ignore=self.ignore), kept)
        for name, value in _rewound(model).items():
            value.copy_(self.saved[name])
        self.done += 1

    def _final(self, model: nn.Module, names: Iterable[str]) -> dict[str, int] | int:
        return shares.by_layer(shares.sizes(model, names), self.weights, self.allocation)

    def start(self, model: nn.Module) -> None:
        """Before the first training: for k = 0 the weights to rewind to."""
        if self.early == 0 and not self.saved:
            self.save(model)

    def after_step(self, model: nn.Module, progress: float) -> None:
        """Keep the weights at k. Raises ValueError for progress outside [0, 1], such as a
        count of steps."""
        check_progress(progress)
        if not self.saved and progress >= self.early:
            self.save(model)

    def finish(self, model: nn.Module) -> None:
        """Prune and rewind."""
        self.prune_and_rewind(model)

    def state(self) -> dict[str, Tensor]:
        """The rounds that are done, what to rewind to, and how many weights there were; the
        masks are the model's."""
        saved = {f"saved.{name}": value for name, value in self.saved.items()}
        full = {f"full.{key}": torch.tensor(count) for key, count in self.full.items()}
        return saved | full | {"done": torch.tensor(self.done)}

    def load(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` returned."""
        self.done = int(state["done"])
        self.saved = _beginning("saved.", state)
        self.full = {key: int(count) for key, count in _beginning("full.", state).items()}


def _beginning(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The entries of a state whose names begin so, without that."""
    return {
        name.removeprefix(prefix): value
        for name, value in state.items()
        if name.startswith(prefix)
    }


def _rewound(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and the statistics of batch norm, by names that masks do not change."""
    buffers, found = dict(model.named_buffers()), {}
    for name, parameter in model.named_parameters():
        plain = re.sub(r"parametrizations\.([^.]+)\.original", r"\1", name)
        if f"{name.removesuffix('_orig')}_mask" in buffers:  # of torch.nn.utils.prune
            plain = name.removesuffix("_orig")
        found[plain] = parameter.detach()
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._NormBase):
            statistics = module.named_buffers(prefix=name, recurse=False)
            found |= {key: buffer.detach() for key, buffer in statistics}
    return found


@dataclass(frozen=True)
class Settings:
    """Of iterative magnitude pruning beside other methods."""

    lr: Rate = setting(3e-3, "learning rate of the trainings between two rounds")
    finetune_lr: Rate = setting(3e-3, "learning rate of the last training")
    descent: Fraction = setting(
        0.5, "fraction of a training after which its learning rate falls"
    )
    rounds: Positive = setting(12, "how often weights are removed")
    round_epochs: Count = setting(
        0, "epochs of each training but the last; 0: shares of `epochs`"
    )
    early: Fraction = setting(
        0.02, "the point to rewind to, as a fraction of the first training"
    )
    allocation: tuple[Fraction, ...] = setting(
        (), "share of the kept weights of each layer; (): layers compete"
    )


def phases(settings: Settings, problem: Problem) -> list[Phase]:
    """Rounds of training, pruning and rewinding, then one training of what is left."""
    rounds, each = settings.rounds, settings.round_epochs
    if not each:
        rounds = min(rounds, max(1, problem.epochs))
    lengths = [
        each or problem.epochs // rounds + (k < problem.epochs % rounds) for k in range(rounds)
    ]
    rewinding = Rewinding(
        problem.weights, rounds, settings.early, settings.allocation or "global"
    )
    schedule = HoldThenCosine(settings.descent)
    return [
        *(Phase(length, Adam(settings.lr), schedule, (rewinding,)) for length in lengths),
        finetune(problem.finetune_epochs, settings.finetune_lr),
    ]


METHOD = Method(
    "rewind",
    Settings,
    phases,
    label="iterative pruning with rewinding",
    short="rewinding",
    colour="#8c6d00",
    marker="<",
)
