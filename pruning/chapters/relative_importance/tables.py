"""What the chapter `relative_importance` shows of its records: selections, tables,
sentences."""

from pruning import methods
from pruning.chapters.relative_importance.experiment import OTHERS, READING
from pruning.evidence import records
from pruning.evidence.configs import flat
from pruning.evidence.records import Record
from pruning.methods import relative
from pruning.methods.oneshot import Score


def _is_reading(record: Record) -> bool:
    return all(record[key] == value for key, value in READING.items())


def compared(evidence: list[Record]) -> list[Record]:
    """Relative importance in the chosen reading and threshold; every competitor under the
    threshold whose mean over seeds is highest, per network, sparsity and fine-tune; and the
    unpruned networks.
    """
    frame = records.table(evidence)
    cell = ["scaling", "activation", "activity", "method", "sparsity", "finetune_epochs"]
    mean = frame.groupby([*cell, "scope"]).test_accuracy.mean()
    best = {key: mean[key].idxmax() for key in mean.index.droplevel("scope").unique()}
    return [
        record
        for record in evidence
        if record["method"] == "unpruned"
        or (record["method"] == "relative" and _is_reading(record))
        or (
            record["method"] in OTHERS
            and best[tuple(record[key] for key in cell)] == record["scope"]
        )
    ]


def labelled(evidence: list[Record]) -> list[Record]:
    """Records with `score`, which tells readings apart, and `setting`, what differs from the
    defaults."""
    said = []
    for record in evidence:
        score = record["method"]
        if score == "relative":
            score = f"relative: {record['kind']}{'' if record['blind'] else ', not blind'}"
        default = flat(relative.Settings())
        names = {
            "alpha": "α",
            "beta": "β",
            "decay": "s",
            "form": "form",
            "tolerance": "tolerance",
        }
        moved = [
            f"{names[k]} = {record[k]}"
            for k in names
            if record.get(k, default[k]) != default[k]
        ]
        said.append(record | {"score": score, "setting": ", ".join(moved) or "α = β = s = 1"})
    return said


def leader(evidence: list[Record], fraction: float = 0.75) -> str:
    """The score with the highest mean accuracy among `compared` records at one sparsity, as
    plots name it."""
    at = [r for r in evidence if r["sparsity"] == fraction and r["method"] != "unpruned"]
    mean = records.table(at).groupby("method").test_accuracy.mean()
    return _name(mean.idxmax())


def _name(method: str) -> str:
    return methods.find(method, Score).short


def at_penalty(evidence: list[Record], activity: float) -> str:
    """Mean accuracies at one λ and 75 %, competitors under their best thresholds, in words."""
    at = compared(records.select(evidence, activity=activity, sparsity=0.75))
    if not at:
        return "nothing on record"
    mean = 100 * records.table(at).groupby("method").test_accuracy.mean().drop(
        "unpruned", errors="ignore"
    )
    said = [
        f"{_name(method)} {value:.2f} %"
        for method, value in mean.sort_values(ascending=False).items()
    ]
    return f"at {with_lambda(activity)}, {', '.join(said)}"


def best_over_penalties(evidence: list[Record]) -> str:
    """Which score and λ leave the most accurate network at 75 %, in words."""
    at = [r for r in compared(evidence) if r["sparsity"] == 0.75 and r["method"] != "unpruned"]
    mean = 100 * records.table(at).groupby(["method", "activity"]).test_accuracy.mean()
    method, activity = mean.idxmax()
    ours = mean["relative"].idxmax()
    return (
        f"{_name(method)} at {with_lambda(activity)} ({mean.max():.2f} %); relative"
        f" importance's own best is {mean['relative', ours]:.2f} % at {with_lambda(ours)}"
    )


def closest(evidence: list[Record], value: float) -> str:
    """The reading, threshold and training whose mean at 75 %, not fine-tuned, is nearest to
    `value`."""
    at = labelled(
        records.select(evidence, sparsity=0.75, finetune_epochs=0, method="relative")
    )
    mean = (
        records.table(at)
        .groupby(["score", "scope", "activation", "activity"])
        .test_accuracy.mean()
    )
    score, scope, activation, activity = (mean - value).abs().idxmin()
    near = 100 * mean[score, scope, activation, activity]
    return f"{score}, scope {scope}, {activation}, {with_lambda(activity)} ({near:.2f} %)"


def with_lambda(activity: float) -> str:
    """How tables name the training."""
    return f"λ = {activity:g}"


def caption(evidence: list[Record], profile: str) -> str:
    """One line of Markdown for under a figure."""
    frame = records.table(evidence)
    if frame.empty:
        return f"*{profile} profile: nothing on record yet.*"
    one = evidence[0]
    return (
        f"*{profile} profile · data: {one['dataset']} · {'-'.join(map(str, one['hidden']))}"
        f" hidden neurons, {one['epochs']} epochs · {frame.seed.nunique()} seeds · line: mean,"
        " band: worst to best seed · error on a log scale*"
    )
