"""Rules for the claims of the chapter `pixel_representatives`."""

import pandas

from pruning.evidence.statistics import (
    MIN_SEEDS,
    NOT_MEASURED,
    NOT_REPRODUCED,
    PARTLY,
    REPRODUCED,
    estimate,
    percent,
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
