"""What the chapter `pathways` shows of its records: tables and sentences."""

import pandas

from pruning.chapters.pathways.experiment import TASKS
from pruning.evidence import records
from pruning.evidence.records import Record


def names(task: str) -> tuple[list[str], list[str]]:
    """Names of a task's inputs and outputs."""
    inputs, outputs = TASKS[task].inputs, len(TASKS[task].formulas)
    return [f"x{i + 1}" for i in range(inputs)], [f"y{i + 1}" for i in range(outputs)]


def overview(evidence: list[Record]) -> pandas.DataFrame:
    """Per task: seeds, weights kept, share of seeds in which each statement holds, fit and symmetry."""
    frame = records.table(evidence)
    frame["right"] = (frame.false_paths == 0) & (frame.missing_paths == 0)
    frame["worst"] = frame.r_squared.map(min)
    for key in ("same_role", "other"):
        frame[key] = frame[f"symmetry_{key}"].map(lambda s: sum(s) / len(s) if s else float("nan"))
    grouped = frame.groupby("task", sort=False)
    percent = {"right structure (%)": "right", "no path from an irrelevant input (%)": "kept_out"}
    frame["kept_out"] = ~frame.irrelevant_inputs_reach
    table = {"seeds": grouped.seed.nunique(), "kept": grouped.kept.mean()}
    table |= {title: 100 * grouped[column].mean() for title, column in percent.items()}
    table |= {"no missing path (%)": 100 * (frame.missing_paths == 0).groupby(frame.task).mean()}
    table |= {"R², mean": grouped.worst.mean(), "R², worst": grouped.worst.min()}
    table |= {"symmetry, same role": grouped.same_role.mean(), "other pairs": grouped.other.mean()}
    return pandas.DataFrame(table)


def caption(evidence: list[Record], profile: str) -> str:
    """One line of Markdown for under a figure."""
    frame = records.table(evidence)
    return (
        f"*{profile} profile · generated data · {frame.seed.nunique()} seeds a task · "
        "a dot is a pair of inputs of one network*"
    )
