"""What a run of this chapter yields."""

from typing import Any

from pruning.bounds import Count, Positive
from pruning.evidence.metrics import Metrics as Base


class Metrics(Base, kw_only=True):
    """Of one network: "speed" has forms, "memory" peaks."""

    dense_weights: Positive
    kept: Count
    effective: Count
    test_accuracy: None
    energy_counter: bool
    peak_bytes: dict[str, Any] | None = None
    forms: dict[str, dict[str, Any]] | None = None

    def agrees(self, config: Any) -> None:
        """Each study has its own field."""
        mine, other = "forms", "peak_bytes"
        if config.study == "memory":
            mine, other = other, mine
        if getattr(self, mine) is None or getattr(self, other) is not None:
            raise ValueError(f"{mine}, {other}: study={config.study!r} has the first alone")
