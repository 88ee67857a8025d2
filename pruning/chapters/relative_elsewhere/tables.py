"""What the chapter `relative_elsewhere` shows of its records: tables and sentences."""

import numpy as np
import pandas

from pruning.chapters.relative_importance import words
from pruning.evidence import records
from pruning.evidence.records import Record
from pruning.evidence.statistics import (
    LEVEL,
    MIN_SEEDS,
    above,
    both_sides,
    difference,
    extremes,
    holm,
    joined,
    mean_interval,
    minus,
)
from pruning.figures.captions import (
    FOLD,
    PENDING,
    answered,
    data_of,
    in_how_many,
    origin,
    seed_count,
)
from pruning.methods import find
from pruning.methods.oneshot import Score

COMMAND = "pruning sweep relative_elsewhere --profile paper"
NETWORKS = {  # (data, architecture) → its name
    ("fashion_mnist", "cnn"): "CNN, Fashion-MNIST",
    ("fashion_mnist", "transformer"): "transformer, Fashion-MNIST",
    ("cifar10", "cnn"): "CNN, CIFAR-10",
    ("mnist", "mlp"): "LeNet-300-100, MNIST",
}
NAMED = {  # the same in a sentence
    "CNN, Fashion-MNIST": "the CNN on Fashion-MNIST",
    "transformer, Fashion-MNIST": "the transformer on Fashion-MNIST",
    "CNN, CIFAR-10": "the CNN on CIFAR-10",
    "LeNet-300-100, MNIST": "LeNet-300-100 on MNIST",
}
KINDS = {"cnn": "CNN", "mlp": "fully connected"}  # of networks that are not among these
ACTIVATIONS = words.ACTIVATIONS | {"silu": "SiLU", "gelu": "GELU"}


def of(evidence: list[Record], name: str, study: str) -> list[Record]:
    """The records of a network, by its name in NETWORKS, in a study."""
    at = {title: key for key, title in NETWORKS.items()}[name]
    found = records.select(evidence, study=study)
    return [r for r in found if (r["dataset"], r["architecture"]) == at]


def best_thresholds(evidence: list[Record]) -> list[Record]:
    """Of each score, at each sparsity and λ, the runs under the threshold whose mean over
    seeds is highest, relative importance too; and the unpruned networks."""
    frame = records.table(evidence)
    if frame.empty:
        return []
    cell = ["method", "activity", "sparsity"]
    mean = frame.groupby([*cell, "scope"]).test_accuracy.mean()
    best = {key: mean[key].idxmax() for key in mean.index.droplevel("scope").unique()}
    return [r for r in evidence if best[tuple(r[key] for key in cell)] == r["scope"]]


def accuracies(evidence: list[Record]) -> pandas.DataFrame:
    """Rows network, sparsity and threshold, columns scores: mean ± deviation over seeds."""
    rows = [
        record
        | {
            "network": NETWORKS.get(
                (record["dataset"], record["architecture"]),
                f"{KINDS.get(record['architecture'], record['architecture'])},"
                f" {record['dataset']}",
            ),
            "removed": f"{100 * record['sparsity']:.0f} %",
            "threshold": words.SCOPES[record["scope"]],
            "score": find(record["method"], Score).short,
        }
        for record in records.select(evidence, study="table")
        if record["method"] != "unpruned"
    ]
    table = records.mean_table(rows, ["network", "removed", "threshold"], ["score"], digits=1)
    return PENDING if table.empty else table


def by_threshold(table: pandas.DataFrame) -> pandas.DataFrame:
    """`accuracies` with a column a threshold and a row a score, network and sparsity
    together: a phone has room for it."""
    if table is PENDING:
        return table
    found = table.stack(future_stack=True).unstack("threshold")
    index = [(_cell(network, removed), score) for network, removed, score in found.index]
    found.index = pandas.MultiIndex.from_tuples(index, names=["network", "score"])
    return found.rename_axis(columns=None)


def _cell(network: str, removed: str) -> str:
    """A network and a sparsity in one cell of a table."""
    return f"{network}, {removed} removed"


def leads(evidence: list[Record]) -> pandas.DataFrame:
    """One row a network and sparsity of which all scores have three seeds or more: the lead of
    relative importance over the best other score, in points, with its 95 % interval, that
    score, and the p-value that they are level. Scores prune the same trained networks, so the
    seeds are pairs (two-sided t-tests, Holm)."""
    rows = []
    for name in NETWORKS.values():
        picked = best_thresholds(of(evidence, name, "table"))
        for sparsity in sorted({r["sparsity"] for r in picked} - {0.0}):
            at = records.table(records.select(picked, sparsity=sparsity))
            groups = {
                m: 100 * part.set_index("seed").test_accuracy
                for m, part in at.groupby("method")
            }
            if min(map(len, groups.values())) < MIN_SEEDS or len(groups) < 2:
                continue
            ours = groups.pop("relative", None)
            if ours is None:
                continue
            rival = max(groups, key=lambda method: groups[method].mean())
            gain = (ours - groups[rival]).dropna()
            rows.append(
                {
                    "network": name,
                    "sparsity": sparsity,
                    "rival": groups[rival].to_dict(),
                    "removed": f"{100 * sparsity:.0f} %",
                    "relative importance": ours.mean(),
                    "best other": find(rival, Score).short,
                    "its accuracy": groups[rival].mean(),
                    "lead": gain.mean(),
                    "with interval": _gained(gain),
                    "p": both_sides(above(gain), above(-gain)),
                }
            )
    table = pandas.DataFrame(rows)
    if table.empty:
        return PENDING
    return table.assign(p=holm(table.p))


def _gained(gain: pandas.Series) -> str:
    """Mean of differences and its 95 % interval: "+1.1 [−0.1, 2.3]"."""
    said = mean_interval(gain, 1)
    return said if said.startswith("−") else f"+{said}"


def tuned(evidence: list[Record], table: pandas.DataFrame) -> dict[str, pandas.Series]:
    """For the rows of `leads` whose networks were pruned with other settings of α, β and s
    too: the leads over the best other score with the setting of the highest mean accuracy, by
    what that is and where."""
    found = records.select(evidence, study="sensitivity")
    gains = {}
    for row in table.itertuples():
        accuracies: dict[str, dict[int, float]] = {}
        for r in records.select(found, sparsity=row.sparsity):
            if NETWORKS[r["dataset"], r["architecture"]] == row.network and _moved_from_1(r):
                by_seed = accuracies.setdefault(_moved_from_1(r), {})
                by_seed[r["seed"]] = 100 * r["test_accuracy"]
        settings = {
            name: pandas.Series(values)
            for name, values in accuracies.items()
            if len(values) >= MIN_SEEDS
        }
        if settings:
            best = max(settings, key=lambda name: settings[name].mean())
            where = f"{NAMED[row.network]} with {row.removed} removed, {best}"
            gains[where] = (settings[best] - pandas.Series(row.rival)).dropna()
    return gains


def _moved_from_1(record: Record) -> str:
    """What is moved from α = β = s = 1; empty where nothing is."""
    symbols = {"alpha": "α", "beta": "β", "decay": "s"}
    moved = [f"{s} = {record[key]:g}" for key, s in symbols.items() if record[key] != 1]
    return [*moved, *["|μ| · σ"] * (record["form"] != "sum"), ""][0]


def shown(table: pandas.DataFrame) -> pandas.DataFrame:
    """`leads` as a page shows it."""
    if table is PENDING:
        return table
    rival = [
        f"{name}, {accuracy:.1f}"
        for name, accuracy in zip(table["best other"], table["its accuracy"], strict=True)
    ]
    said = pandas.DataFrame(
        {
            "relative": [f"{mean:.1f}" for mean in table["relative importance"]],
            "best other": rival,
            "lead": table["with interval"].tolist(),
            "p": [f"{p:.2g}" for p in table.p],
        }
    )
    said.index = pandas.Index(map(_cell, table.network, table.removed), name="network")
    return said


def _changes(evidence: list[Record]) -> dict[str, dict[tuple[str, str], list[float]]]:
    """{what is moved from α = β = s = 1: {(network, sparsity): changes of accuracy in points,
    of networks of the same seed}}."""
    found, table = records.select(evidence, study="sensitivity"), {}
    for key, name in NETWORKS.items():
        part = [r for r in found if (r["dataset"], r["architecture"]) == key]
        base = {
            (r["seed"], r["sparsity"]): r["test_accuracy"]
            for r in part
            if (r["alpha"], r["beta"], r["decay"], r["form"]) == (1, 1, 1, "sum")
        }
        for record in part:
            moved = _moved_from_1(record)
            at = record["seed"], record["sparsity"]
            if moved and at in base:
                cell = name, f"{100 * record['sparsity']:.0f} % removed"
                change = 100 * (record["test_accuracy"] - base[at])
                table.setdefault(moved, {}).setdefault(cell, []).append(change)
    return table


def moves(evidence: list[Record]) -> pandas.DataFrame:
    """Rows network and what is moved from α = β = s = 1, columns sparsities: change of
    accuracy in points, of networks of the same seed, with its 95 % interval."""
    table = _changes(evidence)
    if not table:
        return PENDING
    said = {
        move: {cell: mean_interval(pandas.Series(v), 1) for cell, v in row.items()}
        for move, row in table.items()
    }
    whole = pandas.DataFrame.from_dict(said, orient="index")
    networks = dict.fromkeys(name for name, _ in whole.columns)
    parts = {name: whole[name] for name in networks}
    return pandas.concat(parts, names=["network", "moved"]).fillna("–")


def through_training(evidence: list[Record], field: str) -> pandas.DataFrame:
    """Rows activations, columns epochs: a field of `ranges.occupied` in per cent, the mean
    over layers and seeds."""
    found = records.select(evidence, study="ranges")
    rows = {}
    for name, title in ACTIVATIONS.items():
        part = [r[field] for r in found if r["activation"] == name]
        if part:
            rows[title] = 100 * np.mean(part, axis=(0, 2))
    return pandas.DataFrame.from_dict(rows, orient="index")


def penalties(evidence: list[Record]) -> list[Record]:
    """The runs at 25 % of the CNN on Fashion-MNIST at every λ, best thresholds."""
    name = NETWORKS["fashion_mnist", "cnn"]
    plain = [r for r in of(evidence, name, "table") if r["sparsity"] in (0.0, 0.25)]
    aware = of(evidence, name, "penalty")
    return best_thresholds(plain + aware) if aware else []


def caption(evidence: list[Record], drawn: str) -> str:
    """One line of Markdown for under a figure."""
    if not evidence:
        return origin("recorded", "nothing on record yet", f"`{COMMAND}`")
    frame = records.table(evidence)
    seeds = frame.groupby(["dataset", "architecture", "activation"]).seed.nunique()
    return origin("recorded", data_of(evidence), seed_count(seeds), "not fine-tuned", drawn)


def answer(evidence: list[Record]) -> list[str]:
    """The chapter's answer in sentences."""
    said = {
        "Is relative importance ahead on other networks?": _ahead(evidence),
        "How much do α, β and s matter?": _moved(evidence),
        "Which strength λ of pruning-aware training is best at 25 %?": _aware(evidence),
        "How do blind ranges change through training?": _blind(evidence),
    }
    return answered(said, COMMAND)


FEW = 3  # changes that a sentence names


def _ahead(evidence: list[Record]) -> str:
    table = leads(evidence)
    if table is PENDING:
        return ""
    clear = table.p < LEVEL
    ahead, behind = ((clear & (sign * table.lead > 0)).sum() for sign in (1, -1))
    word = in_how_many(ahead, len(table)) if ahead or behind else "The seeds do not decide it."
    low, high = (
        table["with interval"][at] for at in (table.lead.idxmin(), table.lead.idxmax())
    )
    negative = (table.lead < 0).sum()
    return (
        f"{word} With α = β = s = 1 it is clearly ahead of the best other score in"
        f" **{ahead} of {len(table)}** cases and clearly behind in {behind}. A case is a"
        f" network and a sparsity. The leads reach from {low} to {high} points; {negative} of"
        " them are negative. Every score has its best threshold on the test set, and the"
        f" other score is the best of four, which favours it.{FOLD}The cases on record"
        f" are those of {joined(map(NAMED.get, table.network.unique()))}."
        f"{_said_of_tuned(tuned(evidence, table))}"
    )


def _said_of_tuned(gains: dict[str, pandas.Series]) -> str:
    """The smallest and the largest lead with other settings, and how many are clear."""
    if not gains:
        return ""
    low, high = (
        f"{_gained(gains[at])} points ({at})"
        for at in extremes({where: gain.mean() for where, gain in gains.items()})
    )
    sure = [above(gain) < LEVEL / 2 for gain in gains.values()]
    return (
        " With the best other setting of α, β and s, the lead over that best other score goes"
        f" from {low} to {high}. Its 95 % interval lies above 0 in {sum(sure) or 'none'} of"
        f" {len(sure)} cases. These settings were tried with one threshold for the whole"
        " network and chosen on the test set."
    )


def _moved(evidence: list[Record]) -> str:
    found = records.select(evidence, study="sensitivity")
    keys = ["dataset", "architecture", "sparsity", "alpha", "beta", "decay", "form"]
    frame = records.table(found)
    if frame.empty or frame.groupby(keys).seed.nunique().max() < MIN_SEEDS:
        return ""
    cells = {
        (move, *cell): pandas.Series(values)
        for move, row in _changes(evidence).items()
        for cell, values in row.items()
    }
    mean = {key: values.mean() for key, values in cells.items()}
    lowest, highest = (f"{_gained(cells[k])} points ({_of(k)})" for k in extremes(mean))
    chances = [both_sides(above(each), above(-each)) for each in cells.values()]
    alone, clear = (
        [key for key, p in zip(cells, values, strict=True) if p < LEVEL]
        for values in (chances, holm(chances))
    )
    named = joined(f"{_of(key)}, by {mean_interval(cells[key], 1)} points" for key in clear)
    few = " Three differences can lie close together by chance."
    left = (
        f"these are clear: {named}.{few}"
        if 0 < len(clear) <= FEW
        else f"{len(clear) or 'none'} {'are' if clear else 'is'} clear."
    )
    return minus(
        f"Moved one at a time, they change the mean accuracy by {lowest} to {highest}. The"
        f" 95 % interval of {len(alone)} of these {len(cells)} changes excludes 0. Once their"
        f" number is taken into account, {left}"
    )


def _of(key: tuple[str, str, str]) -> str:
    """What is moved, where, in words: a key of `_moved`."""
    move, network, removed = key
    return f"{move} in {NAMED[network]} with {removed}"


def _aware(evidence: list[Record]) -> str:
    frame = records.table(r for r in penalties(evidence) if r["method"] == "relative")
    if frame.empty or frame.groupby("activity").seed.nunique().min() < MIN_SEEDS:
        return ""
    groups = {a: 100 * part.test_accuracy for a, part in frame.groupby("activity")}
    best = max(groups, key=lambda activity: groups[activity].mean())
    said = f"We tried {joined(f'{a:g}' for a in groups)} in the CNN on Fashion-MNIST."
    if not best:
        return (
            f"{said} The highest mean, {mean_interval(groups[0.0])} %, is without a penalty."
        )
    others = [a for a in groups if a != best]
    second = max(others, key=lambda activity: groups[activity].mean())
    worst = min(groups, key=lambda activity: groups[activity].min())
    plain = records.table(r for r in penalties(evidence) if r["method"] == "unpruned")
    whole = {
        a: 100 * part.set_index("seed").test_accuracy for a, part in plain.groupby("activity")
    }
    costs = [whole[a].mean() - groups[a].mean() for a in (0.0, best)]
    failed = frame.seed[groups[worst].idxmin()]
    return minus(
        f"{said} The highest mean is {mean_interval(groups[best])} % at λ = {best:g}, and"
        f" {mean_interval(groups[0.0])} % without a penalty. The difference is"
        f" {difference(groups[best], groups[0.0], 2)} points. This λ was chosen on the test"
        f" set, and λ = {second:g} is next with {mean_interval(groups[second])} %.{FOLD}The"
        f" unpruned network has {whole[0.0].mean():.2f} % without a penalty and"
        f" {whole[best].mean():.2f} % at λ = {best:g}; pruning changes them by"
        f" {-costs[0]:+.2f} and {-costs[1]:+.2f} points. The lowest accuracy of one pruned"
        f" network is {groups[worst].min():.1f} %, at λ = {worst:g}; unpruned it has"
        f" {whole[worst][failed]:.1f} %."
    )


def _blind(evidence: list[Record]) -> str:
    found = records.select(evidence, study="ranges")
    seeds = {r["seed"] for r in found}
    occupancy, width = (through_training(found, name) for name in ("occupancy", "width"))
    if len(seeds) < MIN_SEEDS or occupancy.empty:
        return ""
    parts = [
        f"from {row.iloc[0]:.0f} to {row.iloc[-1]:.0f} % for {name} (width"
        f" {width.loc[name].iloc[0]:.0f} to {width.loc[name].iloc[-1]:.0f} %)"
        for name, row in occupancy.iterrows()
    ]
    return (
        "From the untrained to the trained network, the share of pre-activations in a blind"
        f" range goes {joined(parts)}. Width is the part of the pre-activations' range that is"
        f" blind. The numbers are means over layers and {len(seeds)} seeds."
    )
