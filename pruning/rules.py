"""The rules by which records decide on a claim: reproduced, partly, not reproduced, not measured.

A rule takes a claim (an entry of book/claims.yml) and the records that its query selects, and returns the
verdict, the number of seeds, and a sentence with numbers. Fewer than three seeds are no evidence.
"""

from collections.abc import Callable
from typing import Any

import pandas

REPRODUCED, PARTLY, NOT_REPRODUCED, NOT_MEASURED = "reproduced", "partly", "not reproduced", "not measured"
VERDICTS = (REPRODUCED, PARTLY, NOT_REPRODUCED, NOT_MEASURED)
MIN_SEEDS = 3


def percent(values: pandas.Series) -> str:
    """Mean ± standard deviation of fractions, in per cent; the mean alone where there is one."""
    spread = f" ± {100 * values.std():.2f}" if len(values) > 1 else ""
    return f"{100 * values.mean():.2f}{spread} %"


def at_least(claim: dict, found: pandas.DataFrame) -> tuple[str, int, str]:
    """The mean over seeds exceeds `value` and no seed keeps more than `weights` (where the claim names a
    number): reproduced; only some seed does both: partly."""
    if found.empty:
        return NOT_MEASURED, 0, ""
    accuracy, seeds = found.test_accuracy, found.seed.nunique()
    best = f"{100 * accuracy.max():.2f} %"
    ours = f"{percent(accuracy)}, best {best}, with {int(found.kept.max()):,} weights or fewer"
    if seeds < MIN_SEEDS:
        return NOT_MEASURED, seeds, ours
    small = found.kept <= claim.get("weights", float("inf"))
    if small.all() and accuracy.mean() > claim["value"]:
        return REPRODUCED, seeds, ours
    return PARTLY if (small & (accuracy > claim["value"])).any() else NOT_REPRODUCED, seeds, ours


def ahead(claim: dict, found: pandas.DataFrame) -> tuple[str, int, str]:
    """At every density where both are on record `method` has the higher mean than each of `others`."""
    found = found[found.method.isin([claim["method"], *claim["others"]])] if len(found) else found
    if found.empty:
        return NOT_MEASURED, 0, ""
    mean = found.pivot_table(index="density", columns="method", values="test_accuracy")
    seeds = int(found.groupby(["method", "density"]).seed.nunique().min())
    wins, parts = [], []
    for other in claim["others"]:
        if other not in mean or claim["method"] not in mean:
            parts.append(f"{other}: not on record")
            continue
        both = mean[[claim["method"], other]].dropna()
        won = both[claim["method"]] > both[other]
        wins.append(won)
        parts.append(f"{other}: ahead at {won.sum()} of {len(won)} densities")
    ours = "; ".join(parts)
    if seeds < MIN_SEEDS or len(wins) < len(claim["others"]):
        return NOT_MEASURED, seeds, ours
    won = pandas.concat(wins)
    return REPRODUCED if won.all() else PARTLY if won.any() else NOT_REPRODUCED, seeds, ours


def stays_high(claim: dict, found: pandas.DataFrame) -> tuple[str, int, str]:
    """At `density`, within `tolerance` of the dense network, and ahead of `other` by more than the
    standard deviations of both: reproduced; one of the two: partly."""
    sparse = found[found.density == claim["density"]]
    method, other = (sparse[sparse.method == claim[k]].test_accuracy for k in ("method", "other"))
    dense = found[(found.method == "dense") & (found.density == 1)].test_accuracy
    seeds = min(len(method), len(other), len(dense))
    if not seeds:
        return NOT_MEASURED, 0, ""
    ours = (
        f"{claim['method']} {percent(method)}, dense {percent(dense)}, {claim['other']} {percent(other)}, "
        f"at {100 * claim['density']:g} % of the weights"
    )
    if seeds < MIN_SEEDS:
        return NOT_MEASURED, seeds, ours
    near = dense.mean() - method.mean() <= claim["tolerance"]
    far_above = method.mean() - other.mean() > method.std() + other.std()
    return REPRODUCED if near and far_above else PARTLY if near or far_above else NOT_REPRODUCED, seeds, ours


def _cells(found: pandas.DataFrame, cells: list[str], by: list[str] | None = None) -> pandas.DataFrame:
    """Accuracy, one row a seed, one column a cell (and combination of `by`)."""
    return found.pivot_table(index="seed", columns=[*cells, *(by or [])], values="test_accuracy")


def _where(cells: list[str], cell: Any) -> str:
    values = cell if isinstance(cell, tuple) else (cell,)
    return ", ".join(f"{name} {value}" for name, value in zip(cells, values, strict=True))


def best_in_cells(claim: dict, found: pandas.DataFrame) -> tuple[str, int, str]:
    """In every cell the rows that `ours` selects have a higher mean than each of `others`, every one of them
    under its best threshold: reproduced; in at least half of them: partly. A lead counts as clear beyond two
    standard errors of the difference, seed by seed."""
    cells = claim["cells"]
    ours = _cells(found.query(claim["ours"]), cells)
    theirs = _cells(found[found.method.isin(claim["others"])], cells, ["method", "scope"])
    if ours.empty or theirs.empty:
        return NOT_MEASURED, 0, ""
    seeds = int(min(ours.count().min(), theirs.count().min()))
    ahead = clear = behind = 0
    for cell in ours:
        best = theirs[cell].mean().idxmax()
        lead = (ours[cell] - theirs[cell][best]).dropna()
        noise = 2 * lead.std() / len(lead) ** 0.5
        ahead += lead.mean() > 0
        clear += lead.mean() > noise
        behind += lead.mean() < -noise
    total = len(ours.columns)
    said = (
        f"ahead of the best competitor in {ahead} of {total} cells ({', '.join(cells)}), "
        f"clearly in {clear}; clearly behind in {behind}"
    )
    if seeds < MIN_SEEDS:
        return NOT_MEASURED, seeds, said
    verdict = REPRODUCED if ahead == total else PARTLY if 2 * ahead >= total else NOT_REPRODUCED
    return verdict, seeds, said


def improves(claim: dict, found: pandas.DataFrame) -> tuple[str, int, str]:
    """In every cell the rows that `ours` selects have a higher mean than those that `base` selects:
    reproduced; in some: partly."""
    ours, base = (_cells(found.query(claim[key]), claim["cells"]) for key in ("ours", "base"))
    if ours.empty or base.empty:
        return NOT_MEASURED, 0, ""
    gain = (ours - base).dropna(axis=1, how="all")
    seeds, mean = int(gain.count().min()), gain.mean()
    least, most = (
        f"{100 * mean[cell]:+.2f} points ({_where(claim['cells'], cell)})"
        for cell in (mean.idxmin(), mean.idxmax())
    )
    said = f"higher in {(mean > 0).sum()} of {len(mean)} cells: from {least} to {most}"
    if seeds < MIN_SEEDS:
        return NOT_MEASURED, seeds, said
    return REPRODUCED if (mean > 0).all() else PARTLY if (mean > 0).any() else NOT_REPRODUCED, seeds, said


def gains(claim: dict, found: pandas.DataFrame) -> tuple[str, int, str]:
    """The largest mean gain over the unpruned network, over cells, reaches `value`: reproduced; some gain is
    larger than two standard errors: partly."""
    if found.empty:
        return NOT_MEASURED, 0, ""
    found = found.assign(gain=found.test_accuracy - found.unpruned_accuracy)
    grouped = found.groupby(claim["cells"]).gain
    mean, seeds = grouped.mean(), int(grouped.count().min())
    best = mean.idxmax()
    noise = 2 * grouped.std()[best] / grouped.count()[best] ** 0.5
    deviation = grouped.std()[best]
    spread = f"{100 * mean[best]:+.2f}" + (f" ± {100 * deviation:.2f}" if deviation == deviation else "")
    said = f"at most {spread} points ({_where(claim['cells'], best)})"
    if seeds < MIN_SEEDS:
        return NOT_MEASURED, seeds, said
    reached = mean[best] >= claim["value"]
    return REPRODUCED if reached else PARTLY if mean[best] > noise else NOT_REPRODUCED, seeds, said


def pathways(claim: dict, found: pandas.DataFrame) -> tuple[str, int, str]:
    """In every task at least `share` of the networks have exactly the task's paths, and inputs of one role
    are more alike than any other pair of the same network: reproduced; in more than half: partly."""
    if found.empty:
        return NOT_MEASURED, 0, ""
    right = ((found.false_paths == 0) & (found.missing_paths == 0)).groupby(found.task, sort=False).mean()
    with_roles = found[found.symmetry_same_role.map(len) > 0]
    alike = with_roles.symmetry_same_role.map(min) > with_roles.symmetry_other.map(max)
    seeds = int(found.groupby("task").seed.nunique().min())
    said = "exactly the task's paths in " + ", ".join(
        f"{100 * share:.0f} % of the networks ({task})" for task, share in right.items()
    )
    said += f"; inputs of one role more alike than all other pairs in {100 * alike.mean():.0f} %"
    if seeds < MIN_SEEDS:
        return NOT_MEASURED, seeds, said
    worst = min(right.min(), alike.mean())
    return REPRODUCED if worst >= claim["share"] else PARTLY if worst > 0.5 else NOT_REPRODUCED, seeds, said


def agrees(claim: dict, found: pandas.DataFrame) -> tuple[str, int, str]:
    """The mean of Pearson's correlation with SHAP reaches `value` at the claim's density: reproduced; half of
    it: partly. The dense network is named beside it."""
    sparse = found[(found.method == "gates") & (found.density == claim["density"])] if len(found) else found
    if sparse.empty:
        return NOT_MEASURED, 0, ""
    column = "pearson_shap.value"
    values = pandas.to_numeric(sparse[column])
    dense = pandas.to_numeric(found[found.method == "dense"][column])
    said = (
        f"correlation {values.mean():.2f} ± {values.std():.2f} "
        f"with {100 * claim['density']:g} % of the weights, {dense.mean():.2f} ± {dense.std():.2f} with all"
    )
    seeds = sparse.seed.nunique()
    if seeds < MIN_SEEDS:
        return NOT_MEASURED, seeds, said
    mean = values.mean()
    verdict = (
        REPRODUCED if mean >= claim["value"] else PARTLY if mean >= claim["value"] / 2 else NOT_REPRODUCED
    )
    return verdict, seeds, said


def central(claim: dict, found: pandas.DataFrame) -> tuple[str, int, str]:
    """In every network the central `side` × `side` pixels hold more of the importance than their share of the
    area: reproduced; in the mean: partly. The share of the pixels' variance stands beside it."""
    if found.empty:
        return NOT_MEASURED, 0, ""
    ours, variance = (found[f"central.{claim['side']}"].map(lambda pair, k=k: pair[k]) for k in (0, 1))
    seeds, area = found.seed.nunique(), claim["side"] ** 2 / 28**2
    said = (
        f"{percent(ours)} of the importance in the central {claim['side']} × {claim['side']} pixels, "
        f"which are {100 * area:.0f} % of the area and hold {percent(variance)} of the variance"
    )
    if seeds < MIN_SEEDS:
        return NOT_MEASURED, seeds, said
    return (
        REPRODUCED if (ours > area).all() else PARTLY if ours.mean() > area else NOT_REPRODUCED,
        seeds,
        said,
    )


def representatives(claim: dict, found: pandas.DataFrame) -> tuple[str, int, str]:
    """At the smaller density the neighbours of the top pixels matter less than at the larger, and importance
    is less clustered (Moran's I), both in every seed: reproduced; one, or both in the mean: partly."""
    few, many = (found[found.density == claim[key]] if len(found) else found for key in ("few", "many"))
    if few.empty or many.empty:
        return NOT_MEASURED, 0, ""
    few, many = few.set_index("seed"), many.set_index("seed")
    both = few.index.intersection(many.index)
    said, every, mean = [], [], []
    for column, name in (("neighbour_ratio", "neighbours' importance"), ("morans_i", "Moran's I")):
        a, b = few.loc[both, column], many.loc[both, column]
        said.append(f"{name} {a.mean():.2f} ± {a.std():.2f} against {b.mean():.2f} ± {b.std():.2f}")
        every.append(bool((a < b).all()))
        mean.append(bool(a.mean() < b.mean()))
    text = f"at {100 * few.kept.mean() / few.dense_weights.mean():.2f} against "
    text += f"{100 * many.kept.mean() / many.dense_weights.mean():.1f} % of the weights: " + ", ".join(said)
    if len(both) < MIN_SEEDS:
        return NOT_MEASURED, len(both), text
    return (
        REPRODUCED if all(every) else PARTLY if any(every) or all(mean) else NOT_REPRODUCED,
        len(both),
        text,
    )


def two_pixels(claim: dict, found: pandas.DataFrame) -> tuple[str, int, str]:
    """The mean precision of "both of the two most important pixels on → `label`" reaches `value`: reproduced;
    some seed's does: partly."""
    if found.empty:
        return NOT_MEASURED, 0, ""
    rules = found.rules.map(lambda rules: next(rule for rule in rules if rule["label"] == claim["label"]))
    measured = {
        key: rules.map(lambda rule, key=key: rule[key]) for key in ("precision", "recall", "accuracy")
    }
    said = ", ".join(f"{key} {percent(values)}" for key, values in measured.items())
    said += f", best precision {100 * measured['precision'].max():.0f} %"
    seeds = found.seed.nunique()
    if seeds < MIN_SEEDS:
        return NOT_MEASURED, seeds, said
    precision = measured["precision"]
    reached, some = precision.mean() >= claim["value"], (precision >= claim["value"]).any()
    return REPRODUCED if reached else PARTLY if some else NOT_REPRODUCED, seeds, said


def faster(claim: dict, found: pandas.DataFrame) -> tuple[str, int, str]:
    """SHAP takes at least `factor` times as long in every run: reproduced; in the median: partly."""
    if found.empty:
        return NOT_MEASURED, 0, ""
    ratio = found["method_seconds.shap"] / found["method_seconds.eq4"]
    seeds = found.seed.nunique()
    said = f"SHAP takes {ratio.min():,.0f} to {ratio.max():,.0f} times as long, median {ratio.median():,.0f}"
    if seeds < MIN_SEEDS:
        return NOT_MEASURED, seeds, said
    every, half = ratio.min() >= claim["factor"], ratio.median() >= claim["factor"]
    return REPRODUCED if every else PARTLY if half else NOT_REPRODUCED, seeds, said


Rule = Callable[[dict, pandas.DataFrame], tuple[str, int, str]]
RULES: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        at_least,
        ahead,
        stays_high,
        best_in_cells,
        improves,
        gains,
        pathways,
        agrees,
        central,
        representatives,
        two_pixels,
        faster,
    )
}
