"""What the README and the home page say of this chapter."""

import pandas

from pruning.evidence.statistics import MIN_SEEDS

HEADLINE = ("S1", "Gradient sampling")
METHODS = ("stochgradadam", "adam")


def headline(claim: dict, found: pandas.DataFrame) -> str:
    """The two optimizers after half of the weights are pruned: ours, of the first network of
    the claim with enough seeds, beside the paper's. Smaller networks, shorter trainings and
    other data are no measurement of it."""
    asked = (found.epochs == claim["epochs"]) & (found.dataset == claim["dataset"])
    for network in claim["networks"]:
        runs = found[asked & (found.network == network)].groupby("method").pruned_accuracy
        theirs = " and ".join(f"{100 * value:.2f}" for value in claim["values"][network])
        if {name for name, count in runs.count().items() if count >= MIN_SEEDS} >= {*METHODS}:
            ours, adam = (100 * runs.mean()[name] for name in METHODS)
            return (
                f"{network} with half of its weights pruned keeps **{ours:.1f} %** after"
                f" training with StochGradAdam and {adam:.1f} % with Adam (mean of"
                f" {runs.count()[METHODS[0]]} seeds). The paper reports {theirs} %."
            )
    network = claim["networks"][0]
    ours, adam = (f"{100 * value:.2f} %" for value in claim["values"][network])
    return (
        f"The paper says that {network} with half of its weights pruned keeps **{ours}** after"
        f" training with StochGradAdam and {adam} with Adam. Here this is not measured yet: it"
        f" needs {claim['epochs']} epochs and {MIN_SEEDS} seeds."
    )
