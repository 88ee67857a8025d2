"""What the README and the home page say of this chapter."""

import pandas

from pruning.chapters.relative_importance import words
from pruning.evidence.claims import chosen

HEADLINE = ("R1", "Relative importance")


def headline(claim: dict, found: pandas.DataFrame) -> str:
    """The accuracy with a quarter of the weights, under the chosen reading and under the one
    that names the method."""
    ours = chosen(found, claim["chosen"]).test_accuracy
    named = chosen(found, claim["named"]).groupby(claim["cells"]).test_accuracy.mean().max()
    return (
        "With 75 % of its weights pruned by relative"
        f" importance{words.aware(claim['chosen'].get('activity', 0))}, a network classifies"
        f" **{100 * ours.mean():.2f} %** of MNIST's test images correctly (mean of"
        f" {len(ours)} seeds). The paper reports {100 * claim['value']:.2f} %. A validation"
        " split chose among our readings of the paper's definition. The reading that gives the"
        f" method its name reaches at most {100 * named:.2f} %."
    )
