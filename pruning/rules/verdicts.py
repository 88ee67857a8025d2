"""What every rule shares: the four verdicts and how numbers are said."""

import pandas

REPRODUCED, PARTLY, NOT_REPRODUCED, NOT_MEASURED = "reproduced", "partly", "not reproduced", "not measured"
VERDICTS = (REPRODUCED, PARTLY, NOT_REPRODUCED, NOT_MEASURED)
MIN_SEEDS = 3  # fewer are no evidence


def percent(values: pandas.Series) -> str:
    """Mean ± standard deviation of fractions, in per cent; the mean alone where there is one."""
    spread = f" ± {100 * values.std():.2f}" if len(values) > 1 else ""
    return f"{100 * values.mean():.2f}{spread} %"
