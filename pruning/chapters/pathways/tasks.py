"""The tasks of this chapter, and what a right structure looks like."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Task:
    """Targets of uniform inputs, and what a right structure looks like."""

    formulas: tuple[str, ...]
    function: Callable[[Tensor], Tensor]
    paths: tuple[tuple[int, ...], ...]  # for each output the inputs that it depends on
    same_role: tuple[tuple[int, int], ...]  # pairs of inputs that could be exchanged
    inputs: int = 4


TASKS = {
    "independence": Task(
        ("y1 = 3 sin((x1 − x2)²)", "y2 = (x3 + x4)³"),
        lambda x: torch.stack(
            [3 * torch.sin((x[:, 0] - x[:, 1]) ** 2), (x[:, 2] + x[:, 3]) ** 3], 1
        ),
        ((0, 1), (2, 3)),
        ((0, 1), (2, 3)),
    ),
    "sharing": Task(
        ("y1 = 3 sin((x1 − x2)²)", "y2 = (x2 + x3)³"),
        lambda x: torch.stack(
            [3 * torch.sin((x[:, 0] - x[:, 1]) ** 2), (x[:, 1] + x[:, 2]) ** 3], 1
        ),
        ((0, 1), (1, 2)),
        (),
        3,
    ),
    "irrelevance": Task(
        ("y1 = (x2 + x3)³",),
        lambda x: ((x[:, 1] + x[:, 2]) ** 3)[:, None],
        ((1, 2),),
        ((1, 2),),
    ),
}
