"""Numbers and texts with bounds: annotations of settings, configs and records, which msgspec
checks."""

import math
from numbers import Integral
from typing import Annotated

from msgspec import Meta

Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(ge=1)]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Part = Annotated[float, Meta(gt=0, le=1)]  # a fraction that is not 0
Rate = Annotated[float, Meta(gt=0)]  # a learning rate, a temperature
Probability = Annotated[float, Meta(gt=0, lt=1)]
Decay = Annotated[float, Meta(ge=0, lt=1)]
Amount = Annotated[float, Meta(ge=0)]
Text = Annotated[str, Meta(min_length=1)]


def check_number(name: str, value: object) -> None:
    """Raise ValueError unless the argument `name` is a number; its bounds are the caller's."""
    try:
        math.isnan(value)
    except TypeError:
        raise ValueError(f"{name}: got {value!r}, needs a number") from None


def check_whole(name: str, value: object, least: int) -> None:
    """Raise ValueError unless the argument `name` is a whole number, `least` or more."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError(f"{name}: got {value!r}, needs a whole number, {least} or more")
