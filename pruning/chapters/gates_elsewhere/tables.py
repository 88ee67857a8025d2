"""What the chapter `gates_elsewhere` shows of its records: tables and sentences."""

import collections
import contextlib
from collections.abc import Sequence

import numpy as np
import pandas

from pruning.chapters.gates_elsewhere.experiment import (
    DENSITIES,
    FEW,
    METHODS,
    TAU_DATASETS,
    TAU_DENSITIES,
    TEMPERATURES,
    Config,
    configs,
)
from pruning.chapters.pixel_representatives.rules import representatives
from pruning.comparison import FEWEST, PAPER_WEIGHTS
from pruning.evidence import configs as flat
from pruning.evidence import records
from pruning.evidence.records import Record
from pruning.evidence.statistics import (
    LEVEL,
    MIN_SEEDS,
    PARTLY,
    REPRODUCED,
    above,
    chance,
    difference,
    extremes,
    holm,
    interval,
    joined,
    larger,
    mean_interval,
    minus,
    percent_interval,
    welch,
)
from pruning.figures.captions import DATA, PENDING, answered, data_of, origin, seed_count
from pruning.methods import find

COMMAND = "pruning sweep gates_elsewhere --profile paper"
MANY = 0.04  # the larger of the two densities of `pixel_representatives`
GUESS = 0.11  # accuracy; ten classes are guessed with 0.1
PIXELS = 28**2  # of an image of Fashion-MNIST
MET = 1.1  # networks with more than this times the weights asked for are no comparison


def final(evidence: list[Record]) -> list[Record]:
    """The runs with the settings that the search has found so far, none with earlier ones."""
    wanted = {config for config in configs("paper") if isinstance(config, Config)}
    found = []
    for record in evidence:
        with contextlib.suppress(ValueError):  # of a map of pixels without a network
            if flat.of_record(record, Config) in wanted:
                found.append(record)
    return found


def _accuracy(evidence: list[Record], **where) -> pandas.Series:
    found = records.select(evidence, **where)
    return pandas.Series([r["test_accuracy"] for r in found], dtype=float)


def _met(alike: list[Record]) -> bool:
    """Whether networks keep about as many weights as they were asked for."""
    asked = alike[0]["density"] * alike[0]["dense_weights"]
    return np.mean([r["kept"] for r in alike]) <= MET * asked


def ranking(evidence: list[Record], study: str, density: float) -> pandas.DataFrame:
    """One row a method at a density, the best first: weights, seeds, kept, effective, the mean
    accuracy in per cent with its 95 % interval, the lead of gates in points, and p, that gates
    are not more accurate (Welch's t-test, corrected by Holm)."""
    at = records.select(evidence, study=study, density=density)
    rows, ours = [], 100 * _accuracy(at, method="gates")
    for method in METHODS:
        part = records.select(at, method=method)
        if not part:
            continue
        values = 100 * _accuracy(part)
        low, high = interval(values) or (np.nan, np.nan)
        rows.append(
            {
                "weights": round(density * part[0]["dense_weights"]),
                "method": method,
                "seeds": len(part),
                "kept": np.mean([r["kept"] for r in part]),
                "effective": np.mean([r["effective"] for r in part]),
                "mean": values.mean(),
                "low": low,
                "high": high,
                "lead": np.nan if method == "gates" else ours.mean() - values.mean(),
            }
        )
    names = ["weights", "method", "seeds", "kept", "effective", "mean", "low", "high", "lead"]
    table = pandas.DataFrame(rows, columns=names).sort_values("mean", ascending=False)
    table["p"] = np.nan
    others = table[table.method != "gates"]
    table.loc[others.index, "p"] = holm(
        larger(ours, 100 * _accuracy(at, method=method)) for method in others.method
    )
    return table.reset_index(drop=True)


def shown(table: pandas.DataFrame) -> pandas.DataFrame:
    """`ranking` as a page shows it."""
    if table.empty:
        return PENDING
    ends = [
        "" if np.isnan(low) else f" [{low:.1f}, {high:.1f}]"
        for low, high in zip(table.low, table.high, strict=True)
    ]
    return pandas.DataFrame(
        {
            "seeds": table.seeds,
            "effective": [f"{weights:.0f}" for weights in table.effective],
            "accuracy (%)": [
                f"{m:.1f}{end}" for m, end in zip(table["mean"], ends, strict=True)
            ],
            "lead": ["–" if np.isnan(lead) else f"{lead:+.1f}" for lead in table.lead],
            "p": [chance(p) for p in table.p],
        }
    ).set_index(pandas.Index([find(name).short for name in table.method], name="method"))


# accuracies of a run with gates on neurons → the network that has it
BESIDE = {
    "test_accuracy": "gates",
    "scratch_accuracy": "same sizes",
    "narrow_accuracy": "narrowed alike",
}
NETWORKS = {"mlp": "fully connected", "cnn": "convolutional"}


def first_look(runs: list[Record]) -> pandas.DataFrame:
    """One row a run of the quick profile: network, method, weights kept, accuracy."""
    return pandas.DataFrame(
        {
            "network": [NETWORKS[r["network"]] for r in runs],
            "method": [find(r["method"]).short for r in runs],
            "weights": [f"{r['kept']:,} of {r['dense_weights']:,}" for r in runs],
            "accuracy": [f"{r['test_accuracy']:.1%}" for r in runs],
        }
    )


def by_density(evidence: list[Record], study: str) -> pandas.DataFrame:
    """Rows densities, columns methods: mean ± deviation over seeds, per cent."""
    rows = [
        record | {"asked for": record["density"], "by": find(record["method"]).short}
        for record in records.select(evidence, study=study)
    ]
    table = records.mean_table(rows, ["asked for"], ["by"], digits=1)
    if table.empty:
        return PENDING
    table = table.sort_index(ascending=False)
    table.index = [f"{100 * density:.3g} %" for density in table.index]
    order = [find(name).short for name in METHODS]
    return table[[name for name in order if name in table.columns]]


def by_temperature(evidence: list[Record]) -> pandas.DataFrame:
    """Rows data sets and τ, columns densities: accuracy and weights kept, means over seeds."""
    table: dict[str, dict[str, str]] = {}
    found = records.select(evidence, study="temperature")
    found.sort(key=lambda r: (TAU_DATASETS.index(r["dataset"]), r["tau"], -r["density"]))
    for record in found:
        name = record["dataset"]
        where = {key: record[key] for key in ("dataset", "tau", "density")}
        alike = records.select(found, **where)
        kept = np.mean([r["kept"] for r in alike])
        row = f"{DATA[name]}, τ = {record['tau']:g}"
        said = f"{percent_interval(_accuracy(alike))}, {kept:,.0f} kept"
        table.setdefault(f"{100 * record['density']:.3g} %", {})[row] = said
    if not table:
        return PENDING
    return pandas.DataFrame(table)


def whole_neurons(evidence: list[Record]) -> pandas.DataFrame:
    """The runs with gates on neurons, accuracies in per cent: one row a run."""
    frame = records.table(records.select(evidence, study="neurons"))
    for name in set(BESIDE) & set(frame.columns):
        frame[name] = 100 * frame[name].astype(float)
    return frame


def by_neurons(evidence: list[Record]) -> pandas.DataFrame:
    """One row a density: the hidden neurons and weights that are left (means over seeds), the
    accuracy of gates and of the networks from scratch, and by how many points gates lead each
    of them on the same seeds, with 95 % intervals."""
    frame = whole_neurons(evidence)
    if frame.empty:
        return PENDING
    rows = {}
    for density, part in sorted(frame.groupby("density"), key=lambda pair: -pair[0]):
        hidden = np.mean(part["sizes"].tolist(), axis=0)[1:-1]
        row = {
            "hidden neurons": " and ".join(f"{size:.0f}" for size in hidden),
            "weights": f"{part.kept.mean():,.0f}",
        }
        row |= {said: mean_interval(part[name]) for name, said in BESIDE.items()}
        for name, said in list(BESIDE.items())[1:]:
            lead = (part.test_accuracy - part[name]).dropna()
            row[f"lead over {said}"] = mean_interval(lead)
        rows[f"{100 * density:g} %"] = row
    return pandas.DataFrame.from_dict(rows, orient="index").rename_axis("may stay")


def caption(evidence: list[Record], drawn: str) -> str:
    """One line of Markdown for under a figure."""
    if not evidence:
        return origin("recorded", "nothing on record yet", f"`{COMMAND}`")
    frame = records.table(evidence)
    seeds = frame.groupby(["method", "density"]).seed.nunique()
    epochs = sorted({r["epochs"] + r["finetune_epochs"] for r in evidence})
    return origin(
        "recorded",
        data_of(evidence),
        f"{len(frame)} networks",
        f"{seed_count(seeds)} per point",
        f"{' or '.join(map(str, epochs))} epochs",
        drawn,
    )


def answer(
    evidence: list[Record], mnist: list[Record], dense_on_mnist: list[Record]
) -> list[str]:
    """The chapter's answer in sentences: 0.15 %, pixels, CIFAR-10, the temperature, neurons.
    `mnist` are networks of gates with 404 weights on MNIST, `dense_on_mnist` whole ones."""
    tested = final(evidence)
    said = {
        "Does 0.15 % hold beyond MNIST?": _holds(tested, mnist, dense_on_mnist, evidence),
        "At which densities do gates lead on Fashion-MNIST?": _leads(
            records.select(tested, study="curves"), DENSITIES
        ),
        "Do representatives and the centre hold on Fashion-MNIST?": _pixels(evidence),
        "Do gates work in a convolutional network on CIFAR-10?": _convolutional(tested),
        "Does the temperature matter?": _temperature(tested),
        "Can gates remove whole neurons?": _neurons(evidence),
    }
    return answered(said, COMMAND)


def _holds(
    tested: list[Record],
    mnist: list[Record],
    dense_on_mnist: list[Record],
    evidence: list[Record],
) -> str:
    ours = _accuracy(tested, study="headline", method="gates")
    whole = _accuracy(tested, study="headline", method="dense", density=1.0)
    if len(ours) < MIN_SEEDS or len(whole) < MIN_SEEDS:
        return ""
    there = _accuracy(mnist), _accuracy(dense_on_mnist)
    lost = 100 * (whole.mean() - ours.mean())
    ends = welch(100 * whole, 100 * ours)
    said = "" if ends is None else " [{:.1f}, {:.1f}]".format(*ends)
    easier = 100 * (there[1].mean() - there[0].mean())
    seeds = seed_count(pandas.Series([len(values) for values in there]))
    more = ends is not None and ends[0] > easier
    found = "In part: it costs more accuracy than on MNIST." if more else "Yes."
    table = ranking(tested, "headline", FEW)
    best = table[(table.method != "gates") & (table.seeds >= MIN_SEEDS)]
    rival = ""
    if len(best):
        first = best.iloc[0]
        sure = "clearly " if first.p < LEVEL else "not clearly "
        rival = (
            f" The best other method on Fashion-MNIST is {find(first.method).short} with"
            f" {first['mean']:.1f} %. Gates are {sure}ahead of it; the difference is"
            f" {first.lead:+.1f} points."
        )
    return (
        f"{found} On Fashion-MNIST {PAPER_WEIGHTS} weights classify"
        f" **{percent_interval(ours)}** correctly. All 266,200 weights classify"
        f" {percent_interval(whole)}, so the cost is"
        f" {lost:.1f}{said} points.{_better(ours, whole, evidence)} On MNIST it is"
        f" {difference(100 * there[1], 100 * there[0]).removeprefix('+')} points ({seeds})."
        f" Few weights make {_growth(ours, whole)} times as many errors as the whole network,"
        f" and on MNIST {_growth(*there)} times, where the whole network makes few.{rival}"
    )


def _better(ours: pandas.Series, whole: pandas.Series, evidence: list[Record]) -> str:
    """What the cost is against the whole network with the learning rate that turned out best.
    The rate of the search was found at a lower density and with fewer epochs."""
    runs = records.select(
        evidence, study="headline", method="dense", density=1.0, split="test"
    )
    rates = sorted({r["finetune_lr"] for r in runs})
    found = {rate: _accuracy(runs, finetune_lr=rate) for rate in rates}
    rate = max(found, key=lambda each: found[each].mean())
    best = found[rate]
    if len(best) < MIN_SEEDS or best.mean() <= whole.mean():
        return ""
    return (
        " The learning rate of the whole network was searched at 5 % of the weights. With the"
        f" rate {rate:g} it classifies {percent_interval(best)}, and the cost is"
        f" {100 * (best.mean() - ours.mean()):.1f} points."
    )


def _growth(few: pandas.Series, whole: pandas.Series) -> str:
    """How many times as many errors a network with few weights makes as a whole one."""
    return f"{(1 - few.mean()) / (1 - whole.mean()):.1f}"


def _leads(found: list[Record], densities: Sequence[float]) -> str:
    """Where gates are clearly ahead of every other method, and where another is clearly ahead
    of them. All comparisons are one family, two-sided. Densities that gates miss are no
    comparison. Empty where gates lack seeds at one of the densities."""
    pairs = []  # (density, method, accuracies of gates, and its own), in per cent
    for density in sorted(densities, reverse=True):
        at = records.select(found, density=density)
        gates = records.select(at, method="gates")
        if len(gates) < MIN_SEEDS:
            return ""
        if not _met(gates):
            continue
        ours = 100 * _accuracy(gates)
        others = {m: 100 * _accuracy(at, method=m) for m in METHODS if m != "gates"}
        pairs += [
            (density, method, ours, theirs)
            for method, theirs in others.items()
            if len(theirs) >= MIN_SEEDS
        ]
    if not pairs:
        return ""
    chances = holm(
        2 * min(larger(ours, theirs), larger(theirs, ours), 0.5) for *_, ours, theirs in pairs
    )
    clear = chances < LEVEL
    ahead, behind, leads, wins = [], [], {}, 0
    for density in dict.fromkeys(pair[0] for pair in pairs):
        here = [
            (ours.mean() - theirs.mean(), sure, method)
            for (d, method, ours, theirs), sure in zip(pairs, clear, strict=True)
            if d == density
        ]
        share = f"{100 * density:.2g}"
        smallest, _, rival = min(here)
        leads[f"{share} %, {find(rival).short}"] = smallest
        if all(sure and lead > 0 for lead, sure, _ in here):
            ahead.append(share)
        wins += sum(sure and lead > 0 for lead, sure, _ in here)
        behind += [share for lead, sure, _ in here if sure and lead < 0]
    seeds = pandas.Series([len(values) for pair in pairs for values in pair[2:]])
    epochs = max(r["epochs"] + r["finetune_epochs"] for r in found)
    at = f", at {joined(dict.fromkeys(behind))} % of the weights" if behind else ""
    low, high = (f"{leads[at]:+.1f} points ({at})" for at in extremes(leads))
    said = [
        f"After {epochs} epochs gates are clearly ahead in {wins} of {len(pairs)} cases and"
        f" clearly behind in"
        f" {len(behind)}{at}. A case is another method at one density, with"
        f" {seed_count(seeds)} of each, and all cases are one family of comparisons.",
        f"Gates are clearly ahead of every other method with {joined(ahead)} % of the weights."
        if ahead
        else "At no density are they clearly ahead of every other method.",
        f"The lead over the best other method goes from {low} to {high}.",
    ]
    missed = len(densities) - len(leads)
    if missed:
        said.append(f"At {missed} of {len(densities)} densities gates keep more than asked.")
    return minus(" ".join(said))


def _pixels(evidence: list[Record]) -> str:
    frame = records.table(r for r in evidence if r["study"] in ("representatives", "pixels"))
    if frame.empty or frame.seed.nunique() < MIN_SEEDS:
        return ""
    verdict, seeds, _ = representatives({"few": FEWEST, "many": MANY}, frame)
    if seeds < MIN_SEEDS:
        return ""
    few = frame[frame.density == FEWEST]
    many = frame[frame.density == MANY]
    side = max(int(name.removeprefix("central.")) for name in few.filter(like="central."))
    share, variance = (
        few[f"central.{side}"].map(lambda pair, k=k: 100 * pair[k]) for k in (0, 1)
    )
    kept = {
        REPRODUCED: "Representatives hold. With 0.15 % of the weights the neighbours of an"
        " important pixel matter less than with 4 %, and less than if the same importances lay"
        " on pixels drawn at random",
        PARTLY: "Representatives hold in part. With 0.15 % of the weights the neighbours of an"
        " important pixel matter less than with 4 %. But they would do so too if the same"
        " importances lay on pixels drawn at random",
    }.get(
        verdict,
        "Representatives do not hold. With 0.15 % of the weights the neighbours of an"
        " important pixel do not matter less than with 4 %",
    )
    low, high = interval(share - variance) or (0.0, 0.0)
    centre = (
        "a larger share of the importance than of the"
        if low > 0
        else "a smaller share of the importance than of the"
        if high < 0
        else "about as much importance as"
    )
    return (
        f"{kept}. The neighbour ratio is the importance of the neighbours over that of the"
        f" pixel. It is {mean_interval(few.neighbour_ratio)} with 0.15 % of the weights and"
        f" {mean_interval(many.neighbour_ratio)} with 4 %. The central"
        f" {side} × {side} pixels are {100 * side**2 / PIXELS:.0f} % of the image. They have"
        f" {mean_interval(share, 0)} % of the importance and {variance.mean():.0f} % of the"
        f" pixels' variance, so the centre has {centre} variance."
    )


def _convolutional(tested: list[Record]) -> str:
    whole = _accuracy(tested, study="cnn", method="dense", density=1.0)
    found = records.select(tested, study="cnn")
    gates = records.select(found, method="gates")
    densities = [
        density
        for density in sorted({r["density"] for r in gates}, reverse=True)
        # the best other method is not known before all of them are measured
        if all(
            len(records.select(found, density=density, method=method)) >= MIN_SEEDS
            for method in METHODS
        )
    ]
    if not densities or len(whole) < MIN_SEEDS:
        return ""
    parts, behind = [], 0
    for density in densities:
        if not _met(records.select(gates, density=density)):
            continue
        table = ranking(tested, "cnn", density)
        first = table[table.method != "gates"].iloc[0]
        behind += table.method[0] != "gates"
        best = find(first.method).short
        ours = percent_interval(_accuracy(gates, density=density))
        parts.append(
            f"{ours} with {100 * density:g} % (the best other method, {best}, has"
            f" {first['mean']:.1f} %)"
        )
    said = [
        f"At {behind} of {len(parts)} densities another method has a higher mean than gates."
        if parts
        else "",
        "The whole network of 103,264 weights classifies"
        f" {percent_interval(whole)} correctly.",
        f"Gates reach {joined(parts)} of the weights."
        if parts
        else "Gates keep more weights than asked at every density.",
        _leads(found, densities),
        _unlearnt(found),
    ]
    return " ".join(filter(None, said))


def _unlearnt(found: list[Record]) -> str:
    """How many pruned networks of each method guess, in a sentence; empty where none does."""
    guess = collections.Counter(r["method"] for r in found if r["test_accuracy"] < GUESS)
    if not guess:
        return ""
    each = joined(f"{count} of {find(method).short}" for method, count in guess.items())
    many = sum(guess.values())
    return (
        f"{many} of {len(found)} networks {'have' if many > 1 else 'has'} not learnt and"
        f" {'guess' if many > 1 else 'guesses'}: {each}. The learning rates were searched with"
        " one seed, so a rate that fails with another seed was not seen."
    )


def _temperature(tested: list[Record]) -> str:
    found = records.select(tested, study="temperature")
    said, missed = [], set()
    for name in TAU_DATASETS:
        parts = []
        for density in sorted(TAU_DENSITIES, reverse=True):
            alike = records.select(found, dataset=name, density=density)
            groups = {tau: records.select(alike, tau=tau) for tau in TEMPERATURES}
            if min(map(len, groups.values())) < MIN_SEEDS:
                continue
            met = {}
            for tau, group in groups.items():
                if _met(group):
                    met[tau] = 100 * _accuracy(group)
                else:
                    missed.add(tau)
            parts.append(_by_tau(met, f"{100 * density:.2g} % of the weights"))
        if parts:
            said.append(f"On {DATA[name]} it is {joined(parts)}.")
    if not said:
        return ""
    unmet = (
        f" With τ = {joined(f'{tau:g}' for tau in sorted(missed))} too many gates stay open"
        " where no budget closes them; such networks keep more weights than they were asked"
        " for and are left out here."
        if missed
        else ""
    )
    cut = (
        f" With {100 * min(TAU_DENSITIES):.2g} % of the weights a budget closes those gates,"
        " so what low temperatures lose there includes this cut."
        if missed
        else ""
    )
    return (
        f"We tried τ = 0.01, 0.1, 1 and 10.{unmet}{cut} We compare the accuracies of the"
        f" highest and of the lowest τ that are left; the difference is in points."
        f" {' '.join(said)}"
    )


def _by_tau(accuracy: dict[float, pandas.Series], share: str) -> str:
    """The accuracy of the highest temperature minus that of the lowest, with its interval."""
    if len(accuracy) < 2:
        return f"not known with {share}, where fewer than two meet the density"
    low, high = min(accuracy), max(accuracy)
    return (
        f"{difference(accuracy[high], accuracy[low])} with {share}"
        f" ({accuracy[low].mean():.1f} % at τ = {low:g})"
    )


def _neurons(evidence: list[Record]) -> str:
    frame = whole_neurons(evidence)
    groups = {
        density: part
        for density, part in (frame.groupby("density") if len(frame) else ())
        if part.seed.nunique() >= MIN_SEEDS
    }
    if not groups:
        return ""
    few = groups[min(groups)]
    hidden = np.mean(few["sizes"].tolist(), axis=0)[1:-1]
    said = (
        f" On MNIST, with {100 * min(groups):g} % of the weights allowed, they leave"
        f" {hidden[0]:.0f} and {hidden[1]:.0f} of 300 and 100 hidden neurons, and the network"
        f" of {few.kept.mean():,.0f} weights classifies"
        f" **{mean_interval(few.test_accuracy)} %** correctly."
    )
    names = {
        "scratch_accuracy": "networks of the same sizes trained from scratch",
        "narrow_accuracy": "networks trained from scratch whose layers are narrowed alike",
    }
    # every comparison is two-sided, and all of them together are one family
    apart = {
        name: [(part.test_accuracy - part[name]).dropna() for part in groups.values()]
        for name in names
    }
    every = [values for each in apart.values() for values in each]
    chances = iter(holm(2 * min(above(values), above(-values), 0.5) for values in every))
    leads = 0
    for name, other in names.items():
        clear = [values.mean() for values in apart[name] if next(chances) < LEVEL]
        ahead, behind = (sum(sign * mean > 0 for mean in clear) for sign in (1, -1))
        leads += ahead
        means = [values.mean() for values in apart[name]]
        said += (
            f" Against {other} they are clearly ahead at {ahead} and clearly behind at"
            f" {behind} of {len(means)} densities; the differences are {min(means):+.2f} to"
            f" {max(means):+.2f} points."
        )
    anew = " At no density is training such a network anew clearly worse."
    return minus(f"Yes.{'' if leads else anew}{said}")
