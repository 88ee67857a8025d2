"""Rules for the claims of arXiv:2312.16020: StochGradAdam against Adam, one network at a time.

The verdict is about the claim's `networks` after `epochs`. Whatever else its query selects is named beside
them, as what it is. Networks of one seed are compared as a pair: same initial weights, same batches.
"""

from collections.abc import Callable

import pandas

from pruning.evidence.statistics import MIN_SEEDS, NOT_MEASURED, NOT_REPRODUCED, PARTLY, REPRODUCED, estimate

OURS, THEIRS = "stochgradadam", "adam"
Pairs = tuple[pandas.DataFrame, pandas.DataFrame]


def _pairs(found: pandas.DataFrame) -> dict[tuple[str, str, int], Pairs]:
    """{(network, data, epochs): the records of StochGradAdam and of Adam, by the seeds that both have}."""
    groups = {}
    for key, group in found.groupby(["network", "dataset", "epochs"]):
        ours, theirs = (group[group.method == name].set_index("seed") for name in (OURS, THEIRS))
        both = ours.index.intersection(theirs.index)
        if len(both):
            groups[key] = ours.loc[both], theirs.loc[both]
    return groups


def _clear(gain: pandas.Series) -> bool:
    """A lead of more than two standard errors."""
    return bool(gain.mean() > 2 * gain.std() / len(gain) ** 0.5)


def _judge(
    claim: dict,
    found: pandas.DataFrame,
    say: Callable[[Pairs], str],
    holds: Callable[[Pairs], tuple[bool, bool]],
) -> tuple[str, int, str]:
    """`holds` says of one network whether the claim holds, and whether part of it does."""
    groups = _pairs(found) if len(found) else {}
    said, verdicts, seeds = [], {}, 0
    for key, pair in groups.items():
        network, data, epochs = key
        count = len(pair[0])
        counts = network in claim["networks"] and epochs == claim["epochs"]
        said.append(f"{network}, {data}, {epochs} epochs, {count} seed{'s' * (count > 1)}: {say(pair)}")
        if counts and count >= MIN_SEEDS:
            verdicts[network, data] = holds(pair)
            seeds = min(seeds or count, count)
    measured = {network for network, _ in verdicts}
    missing = [network for network in claim["networks"] if network not in measured]
    if missing:
        said.append(f"not on record: {', '.join(missing)} after {claim['epochs']} epochs, {MIN_SEEDS} seeds")
    ours = "; ".join(said) if groups else ""
    if not verdicts:
        return NOT_MEASURED, 0, ours
    if not missing and all(whole for whole, _ in verdicts.values()):
        return REPRODUCED, seeds, ours
    return PARTLY if any(part for _, part in verdicts.values()) else NOT_REPRODUCED, seeds, ours


def _against(ours: pandas.Series, theirs: pandas.Series) -> str:
    one, other = (estimate(100 * values, (0, 100)) for values in (ours, theirs))
    return f"{one} against {other} %"


def survives(claim: dict, found: pandas.DataFrame) -> tuple[str, int, str]:
    """After 50 % pruning StochGradAdam is ahead of Adam by more than two standard errors in every network:
    reproduced; ahead in the mean in some: partly."""

    def gain(pair):
        return pair[0].pruned_accuracy - pair[1].pruned_accuracy

    return _judge(
        claim,
        found,
        lambda pair: _against(pair[0].pruned_accuracy, pair[1].pruned_accuracy),
        lambda pair: (_clear(gain(pair)), gain(pair).mean() > 0),
    )


def ahead_at_every_rate(claim: dict, found: pandas.DataFrame) -> tuple[str, int, str]:
    """The mean is higher than Adam's at every pruning rate, 0 included, in every network: reproduced; at half
    of the rates in some network: partly."""

    def ahead(pair):
        ours, theirs = (pandas.DataFrame(part.accuracy_global.tolist()).mean() for part in pair)
        return ours > theirs

    def say(pair):
        won = ahead(pair)
        before = _against(pair[0].test_accuracy, pair[1].test_accuracy)
        return f"ahead at {won.sum()} of {len(won)} rates, unpruned {before}"

    return _judge(
        claim, found, say, lambda pair: (ahead(pair).all(), 2 * ahead(pair).sum() >= len(ahead(pair)))
    )


def spreads(claim: dict, found: pandas.DataFrame) -> tuple[str, int, str]:
    """The standard deviation of all prunable weights is larger than Adam's in every seed of every network:
    reproduced; in the mean of some: partly."""
    column = "weights.sd"

    def say(pair):
        sds, small = (
            [part[name].astype(float).mean() for part in pair] for name in (column, "weights.small")
        )
        return (
            f"standard deviation {sds[0]:.4f} against {sds[1]:.4f}, "
            f"{100 * small[0]:.0f} against {100 * small[1]:.0f} % of the weights below 0.01"
        )

    return _judge(
        claim,
        found,
        say,
        lambda pair: (
            bool((pair[0][column] > pair[1][column]).all()),
            pair[0][column].mean() > pair[1][column].mean(),
        ),
    )
