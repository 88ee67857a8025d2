"""What the chapter `pathways` shows of its records: tables and sentences."""

import pandas

from pruning.chapters.pathways.experiment import TASKS
from pruning.evidence import records
from pruning.evidence.records import Record
from pruning.evidence.statistics import joined, share, wilson
from pruning.figures.captions import origin


def names(task: str) -> tuple[list[str], list[str]]:
    """Names of a task's inputs and outputs."""
    inputs, outputs = TASKS[task].inputs, len(TASKS[task].formulas)
    return [f"x{i + 1}" for i in range(inputs)], [f"y{i + 1}" for i in range(outputs)]


def needless(task: str) -> set[int]:
    """The inputs that no output of a task needs."""
    return set(range(TASKS[task].inputs)).difference(*TASKS[task].paths)


def overview(evidence: list[Record]) -> pandas.DataFrame:
    """One column a task: seeds, weights kept, share of seeds in which each statement holds,
    fit and symmetry."""
    frame = records.table(evidence)
    frame["right"] = (frame.false_paths == 0) & (frame.missing_paths == 0)
    frame["worst"] = frame.r_squared.map(min)
    for key in ("same_role", "other"):
        frame[key] = frame[f"symmetry_{key}"].map(
            lambda s: sum(s) / len(s) if s else float("nan")
        )
    grouped = frame.groupby("task", sort=False)
    percent = {
        "right structure (%)": "right",
        "no path from an irrelevant input (%)": "kept_out",
        "no missing path (%)": "none_missing",
    }
    has = frame.task.map(lambda task: bool(needless(task)))
    frame["kept_out"] = (~frame.irrelevant_inputs_reach).astype(float).where(has)
    frame["none_missing"] = frame.missing_paths == 0
    table = {"seeds": grouped.seed.nunique(), "kept": grouped.kept.mean()}
    table |= {title: 100 * grouped[column].mean() for title, column in percent.items()}
    table |= {"R², mean": grouped.worst.mean(), "R², worst": grouped.worst.min()}
    table |= {
        "symmetry, same role": grouped.same_role.mean(),
        "symmetry, other pairs": grouped.other.mean(),
    }
    by_task = pandas.DataFrame(table).loc[list(dict.fromkeys(frame.task))].rename_axis(None)
    return records.transposed(by_task, ["seeds", "kept", *percent])


def exact(evidence: list[Record], task: str) -> str:
    """In how many of a task's networks the paths are exactly the task's, with Wilson's
    interval."""
    return share(_exact(evidence, task))


def _exact(evidence: list[Record], task: str) -> pandas.Series:
    frame = records.table(records.select(evidence, task=task))
    return (frame.false_paths == 0) & (frame.missing_paths == 0)


def _asked(evidence: list[Record], asked: float) -> str:
    """Which share of the networks the verdict asks for, and of which tasks the interval holds
    it, so that the seeds do not tell whether they reach it, in sentences."""
    said = (
        f" For *reproduced* the verdict asks for {100 * asked:.0f} % in every task, which is"
        " our choice."
    )
    tasks = dict.fromkeys(record["task"] for record in evidence)
    ends = {task: wilson(_exact(evidence, task)) for task in tasks}
    open_to_doubt = [task for task, (low, high) in ends.items() if low < asked <= high]
    if open_to_doubt:
        many = len(open_to_doubt) > 1
        said += (
            f" The interval{'s' * many} of {joined(open_to_doubt)}"
            f" include{'s' * (not many)} that share, so more seeds may move"
            f" {'them' if many else 'it'} to either side of it."
        )
    return said


def median(evidence: list[Record], task: str) -> Record:
    """The network with the median number of wrong paths of a task; of several alike, the
    lowest seed."""
    ordered = sorted(
        records.select(evidence, task=task),
        key=lambda record: (record["false_paths"] + record["missing_paths"], record["seed"]),
    )
    middle = ordered[(len(ordered) - 1) // 2]
    wrong = middle["false_paths"] + middle["missing_paths"]
    return next(r for r in ordered if r["false_paths"] + r["missing_paths"] == wrong)


def answer(evidence: list[Record], authors: list[Record], asked: float) -> str:
    """The chapter's answer in sentences: of the chosen factor α, then of the `authors`'; and
    the share of networks that the verdict asks for."""
    frame = records.table(evidence)
    roles = frame[frame.symmetry_same_role.map(len) > 0]
    alike = share(roles.symmetry_same_role.map(min) > roles.symmetry_other.map(max))
    pairs = len(roles)
    said = (
        "The remaining paths are exactly those of the task in"
        f" **{exact(evidence, 'independence')}** of the networks with independent features, in"
        f" **{exact(evidence, 'sharing')}** of those with a shared feature and in"
        f" **{exact(evidence, 'irrelevance')}** of those with irrelevant features"
        f" ({frame.seed.nunique()} seeds; brackets are 95 % intervals). Inputs with the same"
        f" role are connected more alike than any other pair in {alike} of the {pairs}"
        " networks that have such inputs. The paper draws one network for each statement and"
        " counts none."
    )
    if authors:
        each = joined(f"{exact(authors, task)} ({task})" for task in dict.fromkeys(frame.task))
        factors = [records.table(part).alpha.iloc[0] for part in (authors, evidence)]
        said += (
            " The factor α of the density in the loss matters. With the authors' own"
            f" α = {factors[0]:g} in place of our {factors[1]:g}, the paths are exact in"
            f" {each}."
        )
    return said + _asked(evidence, asked)


def caption(evidence: list[Record]) -> str:
    """What a dot of the figure is, and how many seeds there are."""
    seeds = records.table(evidence).seed.nunique()
    return origin("paper", f"{seeds} seeds per task", "dot: a pair of inputs of one network")
