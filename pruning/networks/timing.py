"""Medians of alternatives timed in turn, A B C A B C …, in one process."""

import statistics
import time
from collections.abc import Callable


def interleaved(
    pieces: dict[str, Callable[[], object]], rounds: int = 60, warmup: int = 5, steps: int = 1
) -> dict[str, float]:
    """Median seconds of each piece, or of one of its `steps`; a drift of the machine meets all
    alike."""
    seconds: dict[str, list[float]] = {name: [] for name in pieces}
    for turn in range(warmup + rounds):
        for name, piece in pieces.items():
            start = time.perf_counter()
            piece()
            if turn >= warmup:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) / steps for name, values in seconds.items()}
