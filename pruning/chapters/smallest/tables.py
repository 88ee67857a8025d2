"""What the chapter `smallest` shows of its records: tables and sentences."""

import itertools
from collections.abc import Iterable
from dataclasses import replace

import pandas

from pruning import methods
from pruning.chapters.smallest import files
from pruning.chapters.smallest.experiment import BASE, CHOSEN, MOVES, Config, configs
from pruning.comparison import PAPER_WEIGHTS
from pruning.evidence import records
from pruning.evidence.configs import changed, flat
from pruning.evidence.records import Record
from pruning.evidence.statistics import (
    LEVEL,
    MIN_SEEDS,
    against,
    chance,
    gain_interval,
    interval,
    joined,
    mean_interval,
    percent_interval,
    welch,
)

PAPER = 0.94  # the paper's accuracy with 404 weights
MOVED = {name for moves in MOVES.values() for move in moves for name in move}
SYMBOLS = {
    "tau": "τ",
    "alpha": "α",
    "init": "start",
    "descent": "falling",
    "lr": "rate",
}  # in words


def labelled(evidence: list[Record]) -> list[Record]:
    """The ablation's records with `family` and `move` in words, and `gain`: points of accuracy
    over the same seed without a move."""
    moved = [(record, _moved(record)) for record in evidence]
    plain = {
        record["seed"]: record["validation_accuracy"] for record, move in moved if not move
    }
    made = []
    for family, moves in MOVES.items():
        for move in moves:
            said = _said(move, family)
            label = said if family in ("none", "several") else f"{family}: {said}"
            for record, its in moved:
                if its == move and record["seed"] in plain:
                    gain = 100 * (record["validation_accuracy"] - plain[record["seed"]])
                    made.append(record | {"family": family, "move": label, "gain": gain})
    return made


def _moved(record: Record) -> dict:
    """What a record's settings differ in from BASE's, as MOVES writes it."""
    base, config = flat(BASE), flat(records.config_of(record, Config))
    return {name: config[name] for name in MOVED if config[name] != base[name]}


def _said(move: dict, family: str) -> str:
    if "allocation" in move:
        return " : ".join(f"{100 * share:.0f}" for share in move["allocation"])
    if len(move) == 1 and family != "several":
        return f"{next(iter(move.values())):g}"
    rest, chosen = dict(move), ""
    if CHOSEN.items() < move.items():
        rest, chosen = (
            {name: value for name, value in rest.items() if name not in CHOSEN},
            "chosen",
        )
    most = f"at most {rest.pop('at_most')}" if rest.pop("density", None) else ""
    epochs = (
        f"{rest.pop('epochs')} + {rest.pop('finetune_epochs')} epochs"
        if "epochs" in rest
        else ""
    )
    said = [
        chosen,
        *(f"{SYMBOLS[name]} {value:g}" for name, value in rest.items()),
        epochs,
        most,
    ]
    return ", ".join(filter(None, said)) or "none"


def moves(evidence: list[Record]) -> pandas.DataFrame:
    """One row a move: seeds, weights kept, accuracy on the validation split, and the gain over
    no move with its 95 % interval and p (see `statistics.against`), in points."""
    frame = pandas.DataFrame(labelled(evidence))
    grouped = frame.groupby("move", sort=False)
    accuracy = 100 * frame.pivot_table(
        "validation_accuracy", "move", "seed", sort=False, observed=True
    )
    table = pandas.DataFrame(
        {
            "seeds": grouped.seed.nunique(),
            "kept": grouped.kept.mean(),
            "accuracy": accuracy.mean(axis=1),
        }
    )
    return table.join(against(accuracy, "none"))


def shown_moves(table: pandas.DataFrame) -> pandas.DataFrame:
    """`moves` as a page shows it."""
    return pandas.DataFrame(
        {
            "seeds": table.seeds,
            "kept": table.kept.round().astype(int),
            "accuracy (%)": table.accuracy.map("{:.2f}".format),
            "gain (points)": ["–", *map(gain_interval, list(table.itertuples())[1:])],
            "p": table.p.map(chance),
        }
    )


def tallied(table: pandas.DataFrame) -> str:
    """How many of the `moves` gain and lose clearly on the validation split, a sentence
    without its stop."""
    tested = table[table.p.notna()]
    if tested.empty:
        return "On a validation split, too few seeds are on record to call any move clear"
    sure = tested[tested.p < LEVEL]
    return (
        f"On a validation split, {(sure.gain > 0).sum()} of {len(tested)} moved settings gain"
        f" clearly, and {(sure.gain < 0).sum()} lose clearly"
    )


def clear(table: pandas.DataFrame) -> str:
    """Which of the `moves` change the accuracy clearly, in sentences."""
    tested = table[table.p.notna()]
    if tested.empty:
        return f"Fewer than {MIN_SEEDS} seeds of some moves are on record, too few to tell."
    plain = table.kept["none"]
    named = [
        name + (f", with {kept:,.0f} weights" if kept > 1.05 * plain else "")
        for name, kept in tested.kept.items()
    ]
    tested = tested.set_axis(named)
    sure = tested[tested.p < LEVEL]
    parts = [
        f"{len(part) or 'none'} clearly {verb}{'s' * (len(part) == 1)}"
        + (f" ({'; '.join(part.index)})" if len(part) else "")
        for verb, part in (("gain", sure[sure.gain > 0]), ("lose", sure[sure.gain < 0]))
    ]
    return (
        f"Of {len(tested)} moves {joined(parts)}. With {table.seeds.min()} seeds the other"
        f" {len(tested) - len(sure)} cannot be told from no move."
    )


def listed(evidence: list[Record]) -> list[Record]:
    """The records of the paper profile's runs; earlier settings of the frontier are on record
    beside them."""
    wanted = set(configs("paper"))
    return [record for record in evidence if records.config_of(record, Config) in wanted]


def open_ended(evidence: list[Record]) -> list[Record]:
    """The networks near 404 weights that the chosen settings trained without a budget."""
    chosen = changed(BASE, **CHOSEN, study="frontier")
    configs = [records.config_of(record, Config) for record in evidence]
    alike = [replace(config, seed=0, density=chosen.density) == chosen for config in configs]
    same = list(itertools.compress(evidence, alike))
    return records.select(same, density=max(record["density"] for record in same))


def answers(evidence: list[Record], earlier: list[Record]) -> list[str]:
    """The chapter's answers: how far down, what limits it, and what it is good for.

    `evidence` is all of the chapter, `earlier` the networks that were trained by Eq. 3 as
    printed with the settings of the compression curves.
    """
    groups = records.table(listed(evidence)).groupby("at_most").test_accuracy
    ladder = [
        f"{percent_interval(accuracy)} with {most}"
        for most, accuracy in sorted(groups, reverse=True)
    ]
    free = open_ended(evidence)
    before, without = (records.table(part).test_accuracy for part in (earlier, free))
    ablation = records.select(evidence, study="ablation")
    most = groups.get_group(PAPER_WEIGHTS)
    whole = drawn(listed(evidence))
    dense, small = files.sizes(whole)
    return [
        f"The accuracy on MNIST's test set is **{ladder[0]} weights**, {joined(ladder[1:])}"
        f" (*Figure 1*; brackets are 95 % intervals over {most.count()} seeds at"
        f" {PAPER_WEIGHTS} weights and at least {groups.count().min()} with fewer). The paper"
        f" stops at {PAPER_WEIGHTS} weights, with more than 94 %.{_fewest(groups)}",
        f"We do not know what limits the accuracy. {tallied(moves(ablation))} (*Figure 2*)."
        f" The chosen settings together gain {gained(ablation, CHOSEN)} there, on the images"
        " by which they were chosen. On the test set they reach"
        f" {percent_interval(without)}, and the settings before reach"
        f" {percent_interval(before)}{_unclear(without, before)}. With a"
        f" budget of {PAPER_WEIGHTS} weights the new settings reach the"
        f" {100 * most.mean():.2f} % above{_by_seed(listed(evidence), free)}.",
        f"A network of {whole['effective']} weights is a file of **{small:,} bytes**, where"
        f" the dense one takes {dense:,}, and NumPy alone can run it (*Figure 3* draws it"
        " whole).",
    ]


def _fewest(groups: Iterable[tuple[int, pandas.Series]]) -> str:
    """The fewest weights measured that are above the paper's accuracy with their interval."""
    ends = {most: interval(accuracy) for most, accuracy in groups}
    enough = [most for most, end in ends.items() if end is not None and end[0] > PAPER]
    if not enough:
        return ""
    return f" Of these, {min(enough)} are the fewest with which its 94 % are clearly reached."


def _unclear(ours: pandas.Series, theirs: pandas.Series) -> str:
    """What to add to two means whose difference Welch's interval does not tell from 0."""
    low, high = welch(ours, theirs) or (0.0, 0.0)
    return "" if low > 0 or high < 0 else ", which is no clear difference"


def _by_seed(budgeted: list[Record], free: list[Record]) -> str:
    """What the budget of PAPER_WEIGHTS adds to networks of the same seeds without one."""
    ours, theirs = (
        records.table(part).set_index("seed")
        for part in (records.select(budgeted, at_most=PAPER_WEIGHTS), free)
    )
    gains = (100 * (ours.test_accuracy - theirs.test_accuracy)).dropna()
    if gains.count() < MIN_SEEDS:
        return ""
    return (
        f"; seed by seed the budget adds {mean_interval(gains)} points, with"
        f" {ours.kept.mean():.0f} in place of {theirs.kept.mean():.0f} weights"
    )


def gained(evidence: list[Record], move: dict) -> str:
    """What a move gains, in words: "+1.02 [0.66, 1.38] points (3 seeds)"; "–" where it is not
    on record."""
    labels = [record["move"] for record in labelled(evidence) if _moved(record) == move]
    if not labels:
        return "–"
    row = moves(evidence).loc[labels[0]]
    return f"{gain_interval(row)} points ({row.seeds:.0f} seed{'s' if row.seeds > 1 else ''})"


def by_budget(evidence: list[Record]) -> pandas.DataFrame:
    """One row a density: seeds, weights kept (mean, most) and effective, accuracy mean,
    deviation, best."""
    table = records.summary(evidence, ["density"]).sort_index(ascending=False)
    most = records.table(evidence).groupby("density").kept.max()
    table.insert(2, "most", most)
    return table.drop(columns="worst").reset_index(drop=True)


def at_most(evidence: list[Record], weights: int = PAPER_WEIGHTS) -> pandas.Series:
    """Of the densities whose networks all keep at most `weights`, the one with the best
    mean."""
    table = by_budget(evidence)
    return table[table["most"] <= weights].sort_values("mean").iloc[-1]


def plus_minus(row: pandas.Series) -> str:
    """A row of `frontier` in words: mean ± deviation, of one seed the mean alone."""
    return records.plus_minus(row["mean"], row["sd"])


def drawn(evidence: list[Record], weights: int = PAPER_WEIGHTS) -> Record:
    """The largest network of at most `weights` weights that is on record whole."""
    whole = [r for r in evidence if "connections" in r and r["kept"] <= weights]
    if not whole:
        raise ValueError(f"evidence: has no whole network of at most {weights} weights")
    return max(whole, key=lambda r: r["kept"])


def ahead(ours: list[Record], others: list[Record]) -> str:
    """At how many of its densities each competitor has a lower mean than ours with no more
    weights. A density at which it keeps no weight at all does not count.
    """

    def points(evidence):
        return list(
            records.summary(evidence, ["study", "density"])[["kept", "mean"]].itertuples(
                index=False
            )
        )

    said = []
    for method in sorted({record["method"] for record in others}):
        theirs = [
            point for point in points(records.select(others, method=method)) if point.kept
        ]
        beaten = sum(
            any(mine.kept <= point.kept and mine.mean > point.mean for mine in points(ours))
            for point in theirs
        )
        name = "dense networks" if method == "dense" else methods.find(method).short
        said.append(f"{name} at {beaten} of {len(theirs)} densities")
    return joined(said)
