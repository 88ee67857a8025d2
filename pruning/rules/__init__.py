"""The rules by which records decide on a claim: reproduced, partly, not reproduced, not measured.

A rule takes a claim (an entry of book/claims.yml) and the records that its query selects, and returns the
verdict, the number of seeds, and a sentence with numbers. Fewer than three seeds are no evidence.
"""

from collections.abc import Callable

import pandas

from pruning.rules import gates, relative, resnets
from pruning.rules.verdicts import (
    MIN_SEEDS,
    NOT_MEASURED,
    NOT_REPRODUCED,
    PARTLY,
    REPRODUCED,
    VERDICTS,
    percent,
)

__all__ = [
    "MIN_SEEDS", "NOT_MEASURED", "NOT_REPRODUCED", "PARTLY", "REPRODUCED", "RULES", "VERDICTS", "percent",
]  # fmt: skip

Rule = Callable[[dict, pandas.DataFrame], tuple[str, int, str]]
RULES: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        *(gates.at_least, gates.ahead, gates.stays_high, gates.pathways, gates.agrees, gates.central),
        *(gates.representatives, gates.two_pixels, gates.faster),
        *(relative.best_in_cells, relative.improves, relative.gains),
        *(resnets.survives, resnets.ahead_at_every_rate, resnets.spreads),
    )
}
