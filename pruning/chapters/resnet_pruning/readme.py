"""What the README and the home page say of this chapter."""

import pandas

HEADLINE = ("S1", "Gradient sampling")


def headline(claim: dict, found: pandas.DataFrame) -> str:
    """The two optimizers after half of the weights are pruned, where the longest training is
    on record."""
    found = found[found.network.isin(claim["networks"])]
    if found.empty:
        return "No ResNet of the paper's sizes is on record yet."
    epochs = int(found.epochs.max())
    network = found[found.epochs == epochs].network.min()
    runs = found[(found.network == network) & (found.epochs == epochs)]
    ours, adam = (
        100 * runs[runs.method == name].pruned_accuracy.mean()
        for name in ("stochgradadam", "adam")
    )
    theirs = " and ".join(f"{100 * value:.2f}" for value in claim["values"][network])
    data = " and ".join(sorted(runs.dataset.unique()))
    seeds = runs.seed.nunique()
    return (
        f"{network} with half of its weights pruned keeps **{ours:.1f} %** after training with"
        f" StochGradAdam and {adam:.1f} % with Adam ({epochs} epochs, {seeds}"
        f" seed{'s' * (seeds > 1)}, {data}). The paper says: {theirs} %."
    )
