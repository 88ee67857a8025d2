"""How a method trains: phases, and the one function that runs them.

A method is one file in `pruning/methods`. It holds the citation and the equations, the
algorithm (often a `Callback`), and at its end

    @dataclass(frozen=True)
    class Settings:
        finetune_lr: float = setting(3e-3, "learning rate")

    def phases(settings: Settings, problem: Problem) -> list[Phase]:
        return [Phase(problem.all_epochs, Adam(settings.finetune_lr), callbacks=(Mine(…),))]

    METHOD = Method("mine", Settings, phases, label="…", short="…", colour="#…", marker="o")

The phases read top to bottom. That is all: `pruning.methods.find` sees every `Method` of every
module there, and the command line, the comparison, the legends and the common tests follow.
Settings check their values in ``__post_init__``.

`train` runs the phases one after the other. At the start of a phase `before` and then the
callbacks' `start` see the network; at its end the callbacks' `finish` and then `after` do.
What is measured "before fine-tuning" is measured before the last phase, if there are several.
A method that prunes a trained network has a first phase without callbacks whose `after`
prunes; the comparison trains such a phase once for all methods and densities that begin alike.

Many networks of one method can train as a stack (`pruning.training.stacks`) if the method
brings a `Stack`. No method has one by default, and a `Stack` names the phases that it stands
for, so that it serves no other method by accident.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from pruning.networks import models
from pruning.training.loop import Callback, adam, fit


def setting(default: Any, help: str) -> Any:
    """A field of a method's settings: its default, and the line that says what it is."""
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class Adam:
    """Builds torch's Adam with one learning rate for all parameters."""

    lr: float

    def __call__(self, model: nn.Module) -> torch.optim.Optimizer:
        """The optimizer of a model."""
        return adam(model, self.lr)


@dataclass(frozen=True)
class HoldThenCosine:
    """Factor on the learning rate: 1 up to the fraction `hold`, then half a cosine to 0.02."""

    hold: float = 0.0

    def __call__(self, progress: float) -> float:
        """The factor at this point of the training."""
        fallen = max(0.0, (progress - self.hold) / (1 - self.hold)) if self.hold < 1 else 0.0
        return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * fallen))


@dataclass(frozen=True)
class Problem:
    """What a method is asked to do: reach a density with so many epochs on these data.

    inputs, targets : the training set. sizes : features of each layer of the full network.
    dense_weights : weights of the full network, where it is no chain of Linear layers.
    seed : of the run. The last `finetune_epochs` are for the weights that a method has chosen;
    a method that has its mask from the start spends `epochs` + `finetune_epochs` on them.
    """

    inputs: Tensor
    targets: Tensor
    sizes: tuple[int, ...]
    density: float
    epochs: int
    finetune_epochs: int
    seed: int = 0
    dense_weights: int = 0

    @property
    def total(self) -> int:
        """Weights of the full network, without biases."""
        return self.dense_weights or models.weight_count(self.sizes)

    @property
    def weights(self) -> int:
        """How many weights are to be kept."""
        return round(self.density * self.total)

    @property
    def all_epochs(self) -> int:
        """All epochs, for a method that needs no second phase."""
        return self.epochs + self.finetune_epochs


@dataclass(frozen=True)
class Phase:
    """One training of a network, the arguments of `training.fit` that a method decides.

    epochs : with 0 only the hooks run.
    optimizer : builds it from the model.
    schedule : progress in [0, 1) ↦ factor on every learning rate.
    callbacks : see `Callback`.
    before, after : what is done to the network before the first and after the last step. The
        random numbers of a phase are seeded before `before` is called.
    """

    epochs: int
    optimizer: Callable[[nn.Module], torch.optim.Optimizer] = adam
    schedule: Callable[[float], float] | None = None
    callbacks: tuple[Callback, ...] = ()
    before: Callable[[nn.Module], object] | None = None
    after: Callable[[nn.Module], object] | None = None

    def __post_init__(self):
        if self.epochs < 0:
            raise ValueError(f"epochs: got {self.epochs!r}, needs 0 or more")
        object.__setattr__(self, "callbacks", tuple(self.callbacks))


class _Hook(Callback):
    """A phase's `before` and `after`."""

    def __init__(
        self,
        start: Callable[[nn.Module], object] | None = None,
        finish: Callable[[nn.Module], object] | None = None,
    ):
        self.at_start, self.at_finish = start, finish

    def start(self, model: nn.Module) -> None:
        """Call the one."""
        if self.at_start is not None:
            self.at_start(model)

    def finish(self, model: nn.Module) -> None:
        """Call the other."""
        if self.at_finish is not None:
            self.at_finish(model)


def finetune(epochs: int, lr: float) -> Phase:
    """The last phase of methods that choose weights first; its learning rate falls."""
    return Phase(epochs, Adam(lr), HoldThenCosine(0.0))


@dataclass(frozen=True)
class Stack:
    """How many networks of a method train as one.

    alone : the method's `phases`, which these stand for.
    phases : (settings, problems, generators), one each a network ↦ the phases of the stack.
        What the networks' own first phase does `before` has been done; generators are those of
        the first phase.
    varies : settings that may differ between the networks, beside seed and density.
    fits : whether networks with these settings can be stacked.
    """

    alone: Callable[[Any, Problem], list[Phase]]
    phases: Callable[
        [Sequence[Any], Sequence[Problem], Sequence[torch.Generator]], list[Phase]
    ]
    varies: tuple[str, ...] = ()
    fits: Callable[[Any], bool] = lambda settings: True


def alike(phases: Callable[[Any, Problem], list[Phase]]) -> Stack:
    """The stack of a method whose phases have no callbacks and differ in `before` alone."""

    def stacked(settings, problems, generators):
        first = phases(settings[0], problems[0])
        return [dataclasses.replace(phase, before=None) for phase in first]

    return Stack(phases, stacked)


def _same_network(sizes: tuple[int, ...], density: float) -> tuple[int, ...]:
    return sizes


@dataclass(frozen=True)
class Method:
    """A method of the comparison, found by its name.

    Parameters
    ----------
    name : of the command line and the records.
    settings : a frozen dataclass, every field with a default and a line of help (`setting`).
    phases : (settings, problem) ↦ how one network is trained and pruned.
    label, short, colour, marker : how it is drawn; colour as "#rrggbb", marker of matplotlib.
    sizes : (sizes of the full network, density) ↦ sizes of the network to train.
    stack : how many networks train as one; None, each alone.

    Raises ValueError where one of these is missing, a setting has no help, or the stack stands
    for the phases of another method.
    """

    name: str
    settings: type
    phases: Callable[[Any, Problem], list[Phase]]
    label: str
    short: str
    colour: str
    marker: str
    sizes: Callable[[tuple[int, ...], float], tuple[int, ...]] = _same_network
    stack: Stack | None = None

    def __post_init__(self):
        empty = [key for key in ("name", "label", "short", "marker") if not getattr(self, key)]
        if empty:
            raise ValueError(
                f"{', '.join(empty)}: empty in method {self.name!r}, needs a text"
            )
        if len(self.colour) != 7 or self.colour[0] != "#":
            raise ValueError(f"colour: got {self.colour!r} in {self.name!r}, needs '#rrggbb'")
        check_settings(self.settings)
        if self.stack is not None and self.stack.alone is not self.phases:
            raise ValueError(
                f"stack: that of {self.name} stands for the phases of another method; "
                "give Stack(alone=phases, …) with phases of its own, or None"
            )


def check_settings(kind: type) -> None:
    """Raise ValueError unless `kind` is a frozen dataclass of fields with a default and
    help."""
    if not dataclasses.is_dataclass(kind) or not kind.__dataclass_params__.frozen:
        raise ValueError(f"settings: got {kind!r}, needs a frozen dataclass")
    for each in dataclasses.fields(kind):
        if each.default is dataclasses.MISSING or not each.metadata.get("help"):
            name = f"{kind.__qualname__}.{each.name}"
            raise ValueError(f"settings: {name} needs a default and a line of help")


def train(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    phases: Sequence[Phase],
    *,
    seed: int | Sequence[int] = 0,
    generators: Sequence[torch.Generator] | None = None,
    before_last: Callable[[nn.Module], object] | None = None,
    **options: Any,
) -> list[list[dict[str, float]]]:
    """Train a model, or a stack of models, in place: phase after phase.

    Parameters
    ----------
    model, inputs, targets : as of `training.fit`.
    seed : of the first phase; phase k has seed + k. Of a stack a seed for each network.
    generators : of a stack, the first phase's random numbers, one generator a network; None
        for new ones.
    before_last : called with the model between the last phase and the one before it, if there
        are several: what pruning has done before fine-tuning.
    options : go to every `training.fit`, such as batch_size, loss, progress.

    Returns what each `fit` returns.
    """
    histories = []
    for k, phase in enumerate(phases):
        if before_last is not None and k > 0 and k == len(phases) - 1:
            before_last(model)
        if isinstance(seed, int):
            random: dict[str, Any] = {"seed": seed + k}
        else:
            new = [torch.Generator().manual_seed(each + k) for each in seed]
            random = {"generators": generators if k == 0 and generators is not None else new}
        histories.append(
            fit(
                model,
                inputs,
                targets,
                epochs=phase.epochs,
                optimizer=phase.optimizer,
                schedule=phase.schedule,
                callbacks=(
                    _Hook(start=phase.before),
                    *phase.callbacks,
                    _Hook(finish=phase.after),
                ),
                **random,
                **options,
            )
        )
    return histories
