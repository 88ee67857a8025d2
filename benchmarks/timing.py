"""How benchmarks print what `pruning.timing` measured."""

from pruning.networks.timing import interleaved

__all__ = ["interleaved", "show"]


def show(title: str, medians: dict[str, float], reference: str) -> None:
    """Print milliseconds and the ratio to one of the pieces."""
    print(title)
    for name, seconds in medians.items():
        ratio = (
            f"{seconds / medians[reference]:6.2f} × {reference}" if name != reference else ""
        )
        print(f"  {name:52} {1e3 * seconds:8.2f} ms  {ratio}")
    print()
