"""Rules for the claims of arXiv:2311.12526: gates, and what the pruned network tells."""

import pandas

from pruning.rules.verdicts import (
    MIN_SEEDS,
    NOT_MEASURED,
    NOT_REPRODUCED,
    PARTLY,
    REPRODUCED,
    estimate,
    percent,
    share,
)


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
    """At every density where both are on record `method` has the higher mean than each of `others`. A lead
    counts as clear beyond two standard errors of the difference."""
    found = found[found.method.isin([claim["method"], *claim["others"]])] if len(found) else found
    if found.empty:
        return NOT_MEASURED, 0, ""
    mean, error = (
        found.pivot_table(index="density", columns="method", values="test_accuracy", aggfunc=what)
        for what in ("mean", "sem")
    )
    seeds = int(found.groupby(["method", "density"]).seed.nunique().min())
    wins, parts = [], []
    for other in claim["others"]:
        if other not in mean or claim["method"] not in mean:
            parts.append(f"{other}: not on record")
            continue
        lead = (mean[claim["method"]] - mean[other]).dropna()
        noise = 2 * (error[claim["method"]] ** 2 + error[other] ** 2) ** 0.5
        won, clear = lead > 0, (lead > noise.reindex(lead.index)).sum()
        wins.append(won)
        parts.append(f"{other}: ahead at {won.sum()} of {len(won)} densities, clearly at {clear}")
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


def pathways(claim: dict, found: pandas.DataFrame) -> tuple[str, int, str]:
    """In every task at least `share` of the networks have exactly the task's paths, and inputs of one role
    are more alike than any other pair of the same network: reproduced; in more than half: partly."""
    if found.empty:
        return NOT_MEASURED, 0, ""
    right = ((found.false_paths == 0) & (found.missing_paths == 0)).groupby(found.task, sort=False)
    with_roles = found[found.symmetry_same_role.map(len) > 0]
    alike = with_roles.symmetry_same_role.map(min) > with_roles.symmetry_other.map(max)
    seeds = int(found.groupby("task").seed.nunique().min())
    said = "exactly the task's paths in " + ", ".join(
        f"{share(its)} of the networks ({task})" for task, its in right
    )
    said += f"; inputs of one role more alike than all other pairs in {share(alike)}"
    if seeds < MIN_SEEDS:
        return NOT_MEASURED, seeds, said
    worst = min(right.mean().min(), alike.mean())
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
        f"correlation {estimate(values, (-1, 1))} with {100 * claim['density']:g} % of the weights, "
        f"{estimate(dense, (-1, 1))} with all"
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
        said.append(f"{name} {estimate(a)} against {estimate(b)}")
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
