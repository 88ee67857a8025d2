"""Rules for the claims of arXiv:2312.16020: StochGradAdam against Adam, one network at a time.

The verdict is about the claim's `networks` after `epochs`; runs on other networks or data are
said beside them and decide nothing. Where none of these networks is on record with enough
seeds, the claim's `stand_in`, a smaller network, gives the verdict "measured only at small
scale", and the sentence says whether the claim is reproduced there. An interval that includes
0 refutes nothing. The sentence then says that the seeds do not decide the claim, also of the
claim's own networks, whose verdict is "not reproduced". Networks of one seed are a pair: same
initial weights, same batches. At a constant rate the pruned accuracy moves by ten points from
one epoch to the next, so a run counts by the mean of its last LATE epochs, and the seed is the
unit of every interval.
"""

from collections.abc import Callable

import numpy as np
import pandas

from pruning.evidence.statistics import (
    LEVEL,
    MIN_SEEDS,
    NOT_MEASURED,
    NOT_REPRODUCED,
    PARTLY,
    REPRODUCED,
    SMALL_SCALE,
    above,
    estimate,
    holm,
    interval,
    joined,
    minus,
)

OURS, THEIRS = "stochgradadam", "adam"
LATE = 10  # epochs at the end of a course; of a short course its second half
SPREAD = "weights.sd"  # the field of a record
HOLDS = "the claim is reproduced"  # of a pair, in a sentence
DATA = {"cifar10": "CIFAR-10", "cifar10-jpeg": "a JPEG copy of CIFAR-10"}  # in a sentence
Pairs = tuple[pandas.DataFrame, pandas.DataFrame]


def pairs(evidence: pandas.DataFrame) -> dict[tuple[str, str, int], Pairs]:
    """{(network, data, epochs): the records of StochGradAdam and of Adam, by the seeds that
    both have}."""
    groups = {}
    whole = evidence.astype({"epochs": int})  # among records without it pandas has floats
    for key, group in whole.groupby(["network", "dataset", "epochs"]):
        ours, theirs = (
            group[group.method == name].set_index("seed") for name in (OURS, THEIRS)
        )
        both = ours.index.intersection(theirs.index)
        if len(both):
            groups[key] = ours.loc[both], theirs.loc[both]
    return groups


def late_epochs(epochs: int) -> int:
    """How many epochs at the end of a training count: LATE, at most the second half."""
    return min(LATE, (epochs + 1) // 2)


def late(part: pandas.DataFrame, name: str) -> pandas.Series:
    """Mean of the last epochs of a course (`late_epochs`), a fraction, one value a seed; NaN
    without a course."""
    column = f"course.{name}"
    if column not in part:
        return pandas.Series(np.nan, index=part.index)
    return part[column].map(
        lambda values: (
            np.mean(values[-late_epochs(len(values)) :])
            if isinstance(values, list)
            else np.nan
        )
    )


def leads(gain: pandas.Series) -> bool:
    """Whether the 95 % interval of the mean over seeds lies above 0."""
    found = interval(gain)
    return found is not None and found[0] > 0


def _judge(
    claim: dict,
    evidence: pandas.DataFrame,
    say: Callable[[Pairs], str],
    holds: Callable[[Pairs], bool],
    found: Callable[[dict, Pairs], str],
    needs: Callable[[Pairs], bool] = lambda pair: True,
) -> tuple[str, int, str]:
    """Reproduced where the claim `holds` in all of its networks, partly where it does in some
    of them, or in all that are on record. `found` says what a pair with enough seeds means
    for the claim. `needs` says whether a pair has what the rule looks at."""
    groups = pairs(evidence) if len(evidence) else {}
    said, verdicts, small, seeds = [], {}, None, 0
    stand_in = claim.get("stand_in", {"network": None, "epochs": 0})
    for (network, data, epochs), pair in groups.items():
        count = len(pair[0])
        said.append(
            f"{network} after {epochs} epochs on {DATA.get(data, data)}"
            f" ({count} seed{'s' * (count > 1)}): {say(pair)}."
        )
        if data != claim["dataset"] or count < MIN_SEEDS or not needs(pair):
            continue
        if network in claim["networks"] and epochs == claim["epochs"]:
            verdicts[network] = holds(pair)
            seeds = min(seeds or count, count)
        elif (network, epochs) == (stand_in["network"], stand_in["epochs"]):
            small = count
        else:
            continue
        said[-1] += f" There {found(claim, pair)}."
    missing = [network for network in claim["networks"] if network not in verdicts]
    if missing:
        said.append(
            f"{joined(missing)} after {claim['epochs']} epochs with {MIN_SEEDS} seeds"
            f" {'is' if len(missing) == 1 else 'are'} not on record."
        )
    ours = " ".join(said) if groups else ""
    if not verdicts:
        return (SMALL_SCALE, small, ours) if small else (NOT_MEASURED, 0, ours)
    if not any(verdicts.values()):
        return NOT_REPRODUCED, seeds, ours
    return REPRODUCED if all(verdicts.values()) and not missing else PARTLY, seeds, ours


def _against(ours: pandas.Series, theirs: pandas.Series) -> str:
    one, other = (estimate(100 * values, (0, 100)) for values in (ours, theirs))
    return f"{one} against {other} %"


def _has_course(pair: Pairs) -> bool:
    return all(bool(late(part, "pruned").notna().all()) for part in pair)


def _half(pair: Pairs) -> tuple[pandas.Series, pandas.Series]:
    """Accuracy with half of the weights gone, one value a seed: the mean of the last epochs,
    where there is a course, else that of the last epoch."""
    if _has_course(pair):
        return late(pair[0], "pruned"), late(pair[1], "pruned")
    return pair[0].pruned_accuracy, pair[1].pruned_accuracy


def ahead_at_half(pair: Pairs) -> bool:
    """S1: clearly more accurate with half of the weights gone."""
    ours, theirs = _half(pair)
    return leads(ours - theirs)


def said_of_half(claim: dict, pair: Pairs) -> str:
    """S1 of a pair with enough seeds: reproduced; or not, where the interval of the difference
    lies below the paper's; or not decided, where it includes both 0 and the paper's. That is
    the paper's of the same network, or of the first one of the claim."""
    ours, theirs = _half(pair)
    if ahead_at_half(pair):
        return HOLDS
    low, high = interval(100 * (ours - theirs))
    network = pair[0].network.iloc[0]
    network = network if network in claim["values"] else next(iter(claim["values"]))
    one, other = claim["values"][network]
    gap, found = 100 * (one - other), minus(f"{low:+.1f} to {high:+.1f} points")
    paper = f"the paper's {gap:.1f} for {network}"
    if high < gap:
        return f"the claim is not reproduced: the difference, {found}, is below {paper}"
    return (
        f"{len(ours)} seeds do not decide the claim: the interval of the difference, {found},"
        f" includes both 0 and {paper}"
    )


def survives(claim: dict, evidence: pandas.DataFrame) -> tuple[str, int, str]:
    """With half of the weights gone StochGradAdam is more accurate than Adam. Null: the mean
    difference over seeds, each the mean of its last ten epochs, is not above 0; its 95 %
    interval must exclude that.
    """

    def say(pair):
        last = _against(pair[0].pruned_accuracy, pair[1].pruned_accuracy)
        if not _has_course(pair):
            return f"the last epoch has {last}"
        return (
            f"the mean of the last {LATE} epochs is {_against(*_half(pair))}, the last epoch"
            f" alone has {last}"
        )

    return _judge(claim, evidence, say, ahead_at_half, said_of_half, needs=_has_course)


def _at_rates(part: pandas.DataFrame, metric: str = "accuracy_global") -> pandas.DataFrame:
    return pandas.DataFrame(part[metric].tolist(), index=part.index)


def _gains(pair: Pairs) -> list[pandas.Series]:
    """At every rate after the last epoch, and before pruning in the mean of the last ones."""
    gain = _at_rates(pair[0]) - _at_rates(pair[1])
    before = late(pair[0], "unpruned") - late(pair[1], "unpruned")
    return [*(gain[rate] for rate in gain), before]


def ahead_everywhere(pair: Pairs) -> bool:
    """S2: clearly more accurate at every rate, and before pruning."""
    return all(leads(gain) for gain in _gains(pair))


def said_of_rates(claim: dict, pair: Pairs) -> str:
    """S2 of a pair with enough seeds: reproduced; or not, where StochGradAdam is clearly
    behind somewhere (t-tests, Holm); or not decided."""
    if ahead_everywhere(pair):
        return HOLDS
    gains = _gains(pair)
    behind = int((holm(2 * above(-gain) for gain in gains) < LEVEL).sum())
    if behind:
        return (
            f"the claim is not reproduced: StochGradAdam is clearly behind in {behind} of"
            f" {len(gains)} comparisons, one a rate and one before pruning"
        )
    return (
        f"{len(pair[0])} seeds do not decide the claim: StochGradAdam is not clearly"
        " behind at any rate or before pruning"
    )


def ahead_in_words(gain: pandas.DataFrame) -> str:
    """At how many rates, a column each, the mean difference is above 0, and, of enough seeds,
    at how many its interval is."""
    said = f"at {int((gain.mean() > 0).sum())} of {gain.shape[1]} rates"
    if len(gain) < MIN_SEEDS:
        return said
    clear = sum(leads(gain[rate]) for rate in gain)
    at = clear or "none"
    return f"{said} in the mean, and the 95 % interval of the lead is above 0 at {at} of them"


def ahead_at_every_rate(claim: dict, evidence: pandas.DataFrame) -> tuple[str, int, str]:
    """StochGradAdam is more accurate before pruning and at every rate. Null: at some rate the
    mean difference over seeds is not above 0; its 95 % interval must exclude that at every
    rate after the last epoch, and before pruning in the mean of the last ten epochs too."""

    def say(pair):
        gain = _at_rates(pair[0]) - _at_rates(pair[1])
        anew = _against(*(_at_rates(part, "accuracy_recalibrated")[0] for part in pair))
        before = _against(pair[0].test_accuracy, pair[1].test_accuracy)
        return (
            f"after the last epoch StochGradAdam is ahead {ahead_in_words(gain)}; before"
            f" pruning the two then have {before}, with batch norm re-estimated {anew}"
        )

    return _judge(claim, evidence, say, ahead_everywhere, said_of_rates, needs=_has_course)


def _wider(pair: Pairs) -> pandas.Series:
    return (pair[0][SPREAD] - pair[1][SPREAD]).astype(float)


def spread_wider(pair: Pairs) -> bool:
    """S3: a clearly larger standard deviation of the weights."""
    return leads(_wider(pair))


def said_of_spread(claim: dict, pair: Pairs) -> str:
    """S3 of a pair with enough seeds: reproduced; or not, where the interval of the difference
    lies below 0; or not decided."""
    gain = _wider(pair)
    if spread_wider(pair):
        return HOLDS
    low, high = interval(gain)
    ends = minus(f"{low:+.4f} to {high:+.4f}")
    if high < 0:
        return f"the claim is not reproduced: the difference, {ends}, is below 0"
    though = (
        f", although the weights are wider in all {len(gain)} seeds"
        if (gain > 0).all()
        else ""
    )
    return (
        f"{len(gain)} seeds do not decide the claim: the interval of the difference, {ends},"
        f" includes 0{though}"
    )


def spreads(claim: dict, evidence: pandas.DataFrame) -> tuple[str, int, str]:
    """StochGradAdam's weights are spread wider. Null: the mean difference over seeds of the
    standard deviation of all prunable weights is not above 0; its 95 % interval must exclude
    that."""

    def say(pair):
        sds, small = (
            [part[name].astype(float).mean() for part in pair]
            for name in (SPREAD, "weights.small")
        )
        return (
            f"the standard deviation is {sds[0]:.4f} against {sds[1]:.4f}, and"
            f" {100 * small[0]:.1f} against {100 * small[1]:.1f} % of the weights are smaller"
            " than 0.01 in absolute value"
        )

    return _judge(claim, evidence, say, spread_wider, said_of_spread)
