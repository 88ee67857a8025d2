"""What a run of this chapter yields."""

import itertools
from typing import Any

from pruning.bounds import Count, Positive
from pruning.chapters.pathways.tasks import TASKS
from pruning.evidence.metrics import Whole, demand


class Metrics(Whole, kw_only=True):
    """Of one small network and its task."""

    dataset: str
    dense_weights: Positive
    test_accuracy: None
    r_squared: list[float]
    reaches: list[list[int]]
    missing_paths: Count
    false_paths: Count
    irrelevant_inputs_reach: bool
    symmetry_same_role: list[float]
    symmetry_other: list[float]

    def agrees(self, config: Any) -> None:
        """Paths are counted anew from what reaches what, and sizes are those of the task."""
        task = TASKS[config.task]
        outputs = len(task.formulas)
        demand("dataset", self.dataset, config.task)
        self.of_sizes((task.inputs, *config.hidden, outputs))
        demand("r_squared, outputs", len(self.r_squared), outputs)
        demand("reaches, inputs", [len(row) for row in self.reaches], [task.inputs] * outputs)
        found = {(o, i) for o, row in enumerate(self.reaches) for i, k in enumerate(row) if k}
        wanted = {(o, i) for o, inputs in enumerate(task.paths) for i in inputs}
        demand("missing_paths", self.missing_paths, len(wanted - found))
        demand("false_paths", self.false_paths, len(found - wanted))
        needless = {i for _, i in found} - {i for _, i in wanted}
        demand("irrelevant_inputs_reach", self.irrelevant_inputs_reach, bool(needless))
        pairs = len(list(itertools.combinations(range(task.inputs), 2)))
        same = len(task.same_role)
        demand("symmetry_same_role, pairs", len(self.symmetry_same_role), same)
        demand("symmetry_other, pairs", len(self.symmetry_other), pairs - same)
