"""One run: a config in, a record out. What it comes from is read when it starts.

torch is not loaded here: the module of a run does that, if the run needs it.
"""

import contextlib
import dataclasses
import datetime
import os
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from pruning.evidence import records
from pruning.evidence.configs import flat
from pruning.evidence.schema import Record
from pruning.files import CHECKOUT

if TYPE_CHECKING:
    import torch


@dataclasses.dataclass(frozen=True)
class Failure:
    """A run that raised an exception, or whose process was killed."""

    config: Any
    error: str
    traceback: str = ""

    def __str__(self) -> str:
        mine, usual = flat(self.config), flat(self._usual())
        said = [
            f"{name}={value!r}" for name, value in mine.items() if value != usual.get(name)
        ]
        return f"{', '.join(said)}: {self.error}"

    def _usual(self) -> Any:
        """The config with every field but the method at its default."""
        kind = type(self.config)
        method = {"method": self.config.method} if hasattr(self.config, "method") else {}
        try:
            return kind(**method)
        except TypeError:  # a field without a default: everything is said
            return self.config


def device_name(device: "str | torch.device" = "cpu") -> str:
    """How a device is called in the provenance of a record."""
    if str(device) != "cpu":
        import torch

        if torch.device(device).type == "cuda":
            return torch.cuda.get_device_name(device)
    return f"cpu {platform.machine()}"


def provenance() -> Record:
    """What a number comes from, read when its run starts: commit, versions, device, threads.

    The commit ends in "-dirty" where files of the package differ from it.
    """
    commit = None
    if CHECKOUT is not None:
        git = ["git", "-C", str(CHECKOUT)]
        head = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False
        )
        code = [*git, "status", "--porcelain", "--", "pruning"]
        dirty = subprocess.run(
            code, capture_output=True, text=True, check=False
        ).stdout.strip()
        commit = (
            head.stdout.strip() + ("-dirty" if dirty else "") if head.returncode == 0 else None
        )
    versions = {name: version(name) for name in ("pruning", "torch", "numpy")}
    return {
        "commit": commit,
        "versions": {"python": platform.python_version()} | versions,
        "device": device_name(),
        "threads": sys.modules["torch"].get_num_threads() if "torch" in sys.modules else 1,
    }


@contextlib.contextmanager
def _on(threads: int) -> Iterator[None]:
    """In the block torch uses so many threads, also if it is loaded only there."""
    if torch := sys.modules.get("torch"):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)
        return
    said = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = str(threads)
    try:
        yield
    finally:
        os.environ.pop("OMP_NUM_THREADS", None)
        if said is not None:
            os.environ["OMP_NUM_THREADS"] = said


def _timed(work: Callable[[], Any], threads: int) -> tuple[Any, Record, float]:
    """What `work` returns, the provenance from before it started, and the seconds it took."""
    with _on(threads):
        origin = provenance() | {"threads": threads}
        start = time.perf_counter()
        result = work()
        return result, origin, time.perf_counter() - start


def _record(
    config: Any, metrics: Record, origin: Record, seconds: float, **more: Any
) -> Record:
    """A record as it reads back from disk. A run may add to its provenance and name another
    device, but not another commit."""
    own = {
        "commit": origin["commit"],
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 2),
    }
    whole = {"provenance": origin | metrics.get("provenance", {}) | own | more}
    return records.checked(flat(config) | metrics | whole, [type(config)])


def run_one(run: Callable[[Any], Record], config: Any, threads: int = 1) -> Record:
    """Run one config and return its record. `run` maps a config to metrics.

    One thread is the default: with as many runs at once as there are cores it is the fastest,
    and the sums of a run then come out the same on every machine of a kind.
    """
    metrics, origin, seconds = _timed(lambda: run(config), threads)
    return _record(config, metrics, origin, seconds)


@dataclasses.dataclass(frozen=True)
class Together:
    """How an experiment runs several configs at once, where that is faster.

    groups : configs ↦ the same configs in lists; each list is run at once.
    run : such a list ↦ their metrics.
    """

    groups: Callable[[list], list[list]]
    run: Callable[[list], list[Record]]


def _attempt(work: Callable[..., Record], config: Any, *arguments: Any) -> Record | Failure:
    try:
        return work(*arguments)
    except Exception as error:
        return Failure(config, f"{type(error).__name__}: {error}", traceback.format_exc())


def run_group(
    run: Callable[[Any], Record], together: Together | None, configs: list[Any]
) -> list[Record | Failure]:
    """The records of configs that run at once; the seconds of each are an equal share of the
    time. If the group raises an exception its configs are run one by one, so only a run that
    fails alone fails.
    """
    if len(configs) > 1 and together is not None:
        with contextlib.suppress(Exception):
            found, origin, seconds = _timed(lambda: together.run(configs), threads=1)
            share = seconds / len(configs)
            return [
                _record(config, metrics, origin, share, together=len(configs))
                for config, metrics in zip(configs, found, strict=True)
            ]
    return [_attempt(run_one, config, run, config) for config in configs]
