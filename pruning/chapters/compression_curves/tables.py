"""What the chapter `compression_curves` shows of its records: tables and sentences."""

import pandas

from pruning.chapters.compression_curves.rules import compared, how_often, name
from pruning.comparison import FEW, LENET_WEIGHTS, PAPER_WEIGHTS
from pruning.evidence import records
from pruning.evidence.records import Record
from pruning.evidence.statistics import difference, joined, percent_interval

RIVALS = ["deepr", "set", "dense"]  # of the paper's Fig 2b


def answers(curves: list[Record], budgeted: list[Record]) -> dict[str, str]:
    """The chapter's answers by claim: `curves` are the records of its figures, `budgeted` the
    networks of at most 404 weights on MNIST."""
    mnist = records.table(records.select(curves, dataset="mnist"))
    income = records.table(records.select(curves, dataset="income"))
    small = records.table(budgeted)
    few = mnist[(mnist.method == "gates") & (mnist.density == FEW)]
    found = compared("gates", RIVALS, mnist)

    def on_income(method: str, density: float = 0.01) -> str:
        at = (income.method == method) & (income.density == density)
        return percent_interval(income[at].test_accuracy)

    return {
        "G1": (
            f"With at most {PAPER_WEIGHTS} of its {LENET_WEIGHTS:,} weights the network"
            f" classifies **{percent_interval(small.test_accuracy)}** of MNIST's test images"
            f" correctly ({small.seed.nunique()} seeds; brackets are 95 % intervals). The"
            " paper reports more than 94 %. The settings of this chapter give"
            f" {percent_interval(few.test_accuracy)} (*Figure 2*). The settings and the budget"
            " behind the first number come from the next chapter."
        ),
        "G2": (
            f"At equal density gates are clearly more accurate {how_often(found, 'than')}."
            f" These are **{found.clear.sum()} of {len(found)}** comparisons. The lead is"
            f" large only with few weights (*Figure 2*).{_more(mnist)} The paper shows gates"
            " ahead everywhere."
        ),
        "G3": (
            f"With 1 % of the weights gates classify **{on_income('gates')}** of Income"
            f" correctly, and the whole network {on_income('dense', 1.0)}. A random choice of"
            f" as many weights reaches {on_income('random')}, because no path from an input"
            " to an output is left. So it is a weak opponent. Random weights along paths"
            f" reach {on_income('random_paths')}, and a logistic regression reaches"
            f" {on_income('logistic_regression', 1.0)} (*Figure 3*). The paper gives a curve"
            " and no number."
        ),
    }


def _more(mnist: pandas.DataFrame) -> str:
    """By how much gates exceed the weights of each rival where both were asked for the same
    density, at most, in a sentence; empty where they nowhere do."""
    kept = mnist.groupby(["density", "method"]).kept.mean().unstack()
    there = [other for other in RIVALS if other in kept]
    excess = {other: 100 * (kept.gates / kept[other] - 1).max() for other in there}
    said = [
        f"up to {more:.0f} % more weights than {name(other)}"
        for other, more in excess.items()
        if more >= 0.5
    ]
    if not said:
        return ""
    return (
        " Equal density means that the same density was asked for. Gates overshoot it a"
        " little, and dense networks change their size in steps of a neuron. So gates keep"
        f" {joined(said)}."
    )


def by_density(gated: list[Record]) -> pandas.DataFrame:
    """One row a density of the gates on MNIST: seeds, weights, accuracy with and without
    fine-tuning."""
    tuned = records.summary(gated, ["density"])
    bare = records.summary(gated, ["density"], metric="test_accuracy_before_finetune")
    table = tuned[["seeds", "kept", "effective"]].copy()
    table["mask only (%)"] = bare["mean"]
    table["fine-tuned (%)"] = _spread(tuned)
    table.insert(0, "asked for", [f"{100 * density:g} %" for density in table.index])
    return table.sort_values("kept", ascending=False)


def _spread(table: pandas.DataFrame) -> list[str]:
    """Mean ± deviation of each row of a summary."""
    return [records.plus_minus(*pair) for pair in zip(table["mean"], table.sd, strict=True)]


FORMS = {"absolute": "as printed", "log": "logarithmic"}


def forms(evidence: list[Record]) -> pandas.DataFrame:
    """One row a form of the density loss and a course of its target, near 404 weights."""
    table = records.summary(evidence, ["penalty", "target", "alpha"]).reset_index()
    return pandas.DataFrame(
        {
            "density loss": table.penalty.map(FORMS),
            "target D": table.target,
            "α": table.alpha,
            "seeds": table.seeds,
            "kept": table.kept,
            "accuracy (%)": _spread(table),
        }
    )


def forms_say(few: list[Record], frontier: list[Record]) -> str:
    """How far the two forms are apart near 404 weights, each with a falling target and all of
    its seeds: `few` are those of the logarithmic form, `frontier` has the printed one's."""
    epochs = few[0]["epochs"]
    printed = records.table(records.select(frontier, penalty="absolute", epochs=epochs))
    ours, theirs = 100 * printed.test_accuracy, 100 * records.table(few).test_accuracy
    return (
        "With a falling target and over all seeds on record, the printed form reaches"
        f" {ours.mean():.2f} % ({len(ours)} seeds) and the logarithmic form"
        f" {theirs.mean():.2f} % ({len(theirs)}), a difference of"
        f" {difference(ours, theirs, 2)} points."
    )


def far_end(evidence: list[Record]) -> pandas.DataFrame:
    """One row a length of training and its settings, near 404 weights."""
    settings = ["penalty", "epochs", "tau", "lr", "gate_lr", "density"]
    table = records.summary(evidence, settings).reset_index().sort_values("epochs")
    return pandas.DataFrame(
        {
            "density loss": table.penalty.map(FORMS),
            "epochs": table.epochs,
            "τ": table.tau,
            "rates": [f"{w:g}, {g:g}" for w, g in zip(table.lr, table.gate_lr, strict=True)],
            "seeds": table.seeds,
            "kept": table.kept,
            "accuracy (%)": _spread(table),
        }
    )
