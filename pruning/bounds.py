"""Numbers and texts with bounds: annotations of settings, configs and records, which msgspec
checks."""

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
