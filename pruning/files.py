"""Where the package lies, and when the time of a file can be trusted. Imports no other module
of the package."""

import time
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
CHECKOUT = PACKAGE.parent if (PACKAGE.parent / "_toc.yml").is_file() else None


def settled(changed: int) -> bool:
    """Whether a file that was changed at this time (ns) would show another change by its time:
    a younger one might not, since clocks of file systems may be as coarse as two seconds."""
    return time.time_ns() - changed > 2_000_000_000
