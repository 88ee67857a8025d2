"""What the README and the home page say of this chapter."""

import pandas

from pruning.chapters.resnet_pruning.rules import LATE, OURS, THEIRS, late, late_epochs
from pruning.evidence.statistics import MIN_SEEDS, mean_interval

HEADLINE = ("S1", "Gradient sampling")


def _halved(runs: pandas.DataFrame) -> pandas.DataFrame:
    """Accuracy with half of the weights gone in per cent, mean of the last epochs: a row a
    seed, a column an optimizer; only seeds that both have."""
    values = runs.assign(late=100 * late(runs, "pruned"))
    columns = values.pivot_table(index="seed", columns="method", values="late")
    return columns.reindex(columns=[OURS, THEIRS]).dropna()


def headline(claim: dict, found: pandas.DataFrame) -> str:
    """The two optimizers after half of the weights are pruned: ours, of the first network of
    the claim with enough seeds, beside the paper's; else of the network that stands in."""
    found = found[found.dataset == claim["dataset"]]
    for network in claim["networks"]:
        runs = _halved(found[(found.network == network) & (found.epochs == claim["epochs"])])
        theirs = " and ".join(f"{100 * value:.2f}" for value in claim["values"][network])
        if len(runs) >= MIN_SEEDS:
            ours, adam = runs.mean()
            return (
                f"{network} with half of its weights pruned classifies **{ours:.1f} %**"
                f" correctly after training with StochGradAdam and {adam:.1f} % with Adam"
                f" (mean of {len(runs)} seeds and of the last {LATE} epochs; the difference is"
                f" {mean_interval(runs[OURS] - runs[THEIRS], 1)} points). The paper reports"
                f" {theirs} %."
            )
    network, epochs = claim["networks"][0], claim["epochs"]
    ours, adam = (f"{100 * value:.2f} %" for value in claim["values"][network])
    lacking = f"is not measured yet: it needs {epochs} epochs and {MIN_SEEDS} seeds."
    small = claim.get("stand_in")
    if small:
        asked = (found.network == small["network"]) & (found.epochs == small["epochs"])
        runs = _halved(found[asked])
        if len(runs) >= MIN_SEEDS:
            here, beside = runs.mean()
            return (
                f"A small network, {small['network']}, classifies **{here:.1f} %** correctly"
                " with half of its weights pruned after training with StochGradAdam, and"
                f" {beside:.1f} % with Adam (mean of {len(runs)} seeds and of the last"
                f" {late_epochs(small['epochs'])} of {small['epochs']} epochs; the difference"
                f" is {mean_interval(runs[OURS] - runs[THEIRS], 1)} points). The paper reports"
                f" {ours} and {adam} for {network}, which {lacking}"
            )
    return (
        f"The paper says that {network} with half of its weights pruned classifies **{ours}**"
        f" correctly after training with StochGradAdam and {adam} with Adam. Here this"
        f" {lacking}"
    )
