"""`make bench`: every benchmark, or those named on the command line."""

import importlib
import sys

ALL = [
    "gated_step",
    "batches",
    "prune",
    "contributions",
    "optimizer",
    "stacks",
    "compact",
    "accuracy",
]

for name in sys.argv[1:] or ALL:
    if name not in ALL:
        sys.exit(f"benchmarks: got {name!r}, needs one of {ALL}")
    importlib.import_module(f"benchmarks.{name}").main()
