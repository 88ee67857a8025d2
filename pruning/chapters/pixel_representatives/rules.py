"""Rules for the claims of the chapter `pixel_representatives`."""

import pandas
import torch

from pruning.chapters.pixel_representatives import pixels
from pruning.evidence.records import Record
from pruning.evidence.statistics import (
    LEVEL,
    MIN_SEEDS,
    NOT_MEASURED,
    NOT_REPRODUCED,
    PARTLY,
    REPRODUCED,
    above,
    estimate,
    joined,
    percent,
)


def _nulls(few: pandas.Series, many: pandas.Series) -> tuple[float, float]:
    """Mean neighbour ratio of the few weights' importances put elsewhere: on pixels that vary
    at all, and on pixels drawn in proportion to the importance that many weights give them."""
    maps = [
        torch.tensor(values, dtype=torch.float64).view(*few.shape_of_map)
        for values in (few.importance, few.varying, many.importance)
    ]
    return tuple(
        pixels.placed_null(maps[0], weights, int(few.top)).mean().item()
        for weights in maps[1:]
    )


def null_ratios(evidence: pandas.DataFrame, few: float, many: float) -> pandas.DataFrame:
    """One row a seed that has both densities: the neighbour ratio at either, and what it would
    be by chance at the smaller: `anywhere` among the varying pixels, and `in_proportion` to
    the larger network's map.
    """
    varying = next((v for v in evidence.get("varying", []) if isinstance(v, list)), None)
    if varying is None:
        return pandas.DataFrame()
    small, large = (
        evidence[evidence.density == value].set_index("seed") for value in (few, many)
    )
    rows = {}
    for seed in small.index.intersection(large.index):
        one = small.loc[seed].copy()
        one["varying"], one["shape_of_map"] = varying, one["shape"]
        anywhere, in_proportion = _nulls(one, large.loc[seed])
        rows[seed] = {
            "few": one.neighbour_ratio,
            "many": large.loc[seed].neighbour_ratio,
            "anywhere": anywhere,
            "in_proportion": in_proportion,
        }
    return pandas.DataFrame.from_dict(rows, orient="index")


def representatives(claim: dict, evidence: pandas.DataFrame) -> tuple[str, int, str]:
    """Two readings. Thinner: neighbours of the top pixels matter less than at the larger
    density; any map of fewer pixels passes. Avoiding: they matter less than if the same
    importances lay on pixels drawn at random in proportion to the larger network's map. Each
    null is that the mean over seeds is not lower (paired t-test at 5 %). Both rejected:
    reproduced; the first alone: partly."""
    if evidence.empty:
        return NOT_MEASURED, 0, ""
    ratios = null_ratios(evidence, claim["few"], claim["many"])
    if ratios.empty:
        return NOT_MEASURED, 0, ""
    few = evidence[evidence.density == claim["few"]]
    share = 100 * few.kept.mean() / few.dense_weights.mean()
    said = (
        f"With {share:.2f} % of the weights the neighbours of an important pixel have"
        f" {estimate(ratios.few)} times its importance, with {100 * claim['many']:g} %"
        f" {estimate(ratios.many)} times. The same importances placed by chance give"
        f" {estimate(ratios.anywhere)} on varying pixels and {estimate(ratios.in_proportion)}"
        " in proportion to the larger network's map."
    )
    if len(ratios) < MIN_SEEDS:
        return NOT_MEASURED, len(ratios), said
    thinner = above(ratios.many - ratios.few) < LEVEL
    avoiding = above(ratios.in_proportion - ratios.few) < LEVEL
    if thinner and not avoiding:
        said += (
            " So the neighbours matter less than with more weights, but not clearly less than"
            " if the same importances were placed in that proportion."
        )
    verdict = REPRODUCED if thinner and avoiding else PARTLY if thinner else NOT_REPRODUCED
    return verdict, len(ratios), said


def supported(evidence: pandas.DataFrame) -> dict[float, Record]:
    """What the pairs that reach the precision pick, by the brightness above which a pixel is
    on; empty where that is not on record."""
    found = next((v for v in evidence.get("support", []) if isinstance(v, list)), [])
    return {one["on"]: one for one in found if one["reaching"]}


def picks(support: Record) -> str:
    """How many images the pairs pick that reach the precision, in words."""
    finding = joined(
        f"{count:,} {'finds' if count == 1 else 'find'} at least {100 * float(share):g} %"
        for share, count in support["finding"].items()
    )
    return (
        f"half of these pick at most {support['median']:,.0f} images, and {support['once']:,}"
        f" pick a single one. Of the digit's images {finding}"
    )


def two_pixels(claim: dict, evidence: pandas.DataFrame) -> tuple[str, int, str]:
    """Null: the precision of "both of the two most important pixels on → `label`" is, in the
    mean over networks, below `value`. Rejected (t-test at 5 %): reproduced; some network
    reaches it: partly. How many pairs of pixels reach it at all on the training images,
    whatever network reads them, and how few images these pick, stands beside it."""
    if evidence.empty:
        return NOT_MEASURED, 0, ""
    pairs = next((value for value in evidence.get("pairs", []) if isinstance(value, list)), [])
    support = supported(evidence)
    small = evidence[evidence.density == claim["density"]]
    if small.empty:
        return NOT_MEASURED, 0, ""
    own = small.rules.map(
        lambda rules: next(rule for rule in rules if rule["label"] == claim["label"])
    )
    measured = {
        key: own.map(lambda rule, key=key: rule[key]) for key in ("precision", "recall")
    }
    means = joined(f"{key} {percent(values)}" for key, values in measured.items())
    best = 100 * measured["precision"].max()
    said = (
        f"The rule of a network's two most important pixels has {means}. The best network's"
        f" precision is {best:.0f} %."
    )
    for one in pairs:
        said += (
            f" With pixels above {one['on']:g} counted as active, {one['reaching']:,} of"
            f" {one['pairs']:,} pairs have a precision of {100 * claim['value']:g} % or more"
            " on the training images"
        )
        said += f"; {picks(support[one['on']])}." if one["on"] in support else "."
    seeds = small.seed.nunique()
    if seeds < MIN_SEEDS:
        return NOT_MEASURED, seeds, said
    precision = measured["precision"]
    reached, some = (
        above(precision, claim["value"]) < LEVEL,
        (precision >= claim["value"]).any(),
    )
    return REPRODUCED if reached else PARTLY if some else NOT_REPRODUCED, seeds, said
