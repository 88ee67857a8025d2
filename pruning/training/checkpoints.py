"""Training in pieces: all that a training consists of, in one safetensors file.

Its tensors are the model's, the optimizer's and the callbacks', the random states, and the
order of the current epoch's samples. All else is JSON in the header of the same file, so that
one move replaces both.
"""

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be read, or belongs to another training."""


@dataclass
class Progress:
    """Where a training stands: finished epochs, and the one it is in."""

    history: list[dict[str, float]] = field(default_factory=list)
    order: Tensor | None = None  # of this epoch's samples; None between epochs
    taken: int = 0  # batches of it
    sums: Tensor | None = None  # loss and penalty over them


class Checkpoint:
    """A file in which `training.fit` keeps its state, and from which it goes on if the file is
    there.

    Parameters
    ----------
    path : written to a temporary name beside it first, then moved.
    every : seconds between two writes; the end of the training is always written.

    `seconds` is the time spent training so far, over all pieces.
    """

    def __init__(self, path: str | Path, every: float = 240.0):
        self.path, self.every = Path(path), every
        self.seconds = 0.0
        self._mark = self._written = time.perf_counter()

    def due(self) -> bool:
        """Whether it is time to write."""
        return time.perf_counter() - self._written >= self.every

    def remove(self) -> None:
        """Delete the file, if there is one."""
        self.path.unlink(missing_ok=True)

    def save(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        callbacks: list,
        progress: Progress,
        settings: dict[str, Any],
    ) -> None:
        """Write everything. `settings` tell this training from others."""
        now = time.perf_counter()
        self.seconds += now - self._mark
        self._mark = now
        kept = optimizer.state_dict()
        tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
        plain: dict[str, dict] = {}
        for index, state in kept["state"].items():
            for name, value in state.items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer.{index}.{name}"] = value
                else:
                    plain.setdefault(str(index), {})[name] = value
        for k, callback in enumerate(callbacks):
            tensors |= {
                f"callbacks.{k}.{name}": value for name, value in callback.state().items()
            }
        tensors["random.cpu"] = torch.get_rng_state()
        if (generator := getattr(optimizer, "generator", None)) is not None:
            tensors["random.optimizer"] = generator.get_state()
        if any(value.is_cuda for value in tensors.values()):
            tensors["random.cuda"] = torch.cuda.get_rng_state()
        if progress.order is not None:
            tensors |= {"order": progress.order, "sums": progress.sums}
        state = {
            "settings": settings,
            "seconds": self.seconds,
            "history": progress.history,
            "taken": progress.taken,
            "groups": [
                {k: v for k, v in g.items() if k != "params"} for g in kept["param_groups"]
            ],
            "optimizer": plain,
        }
        # copies: safetensors stores contiguous tensors that share no memory
        tensors = {
            name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".tmp")
        save_file(tensors, temporary, metadata={"state": json.dumps(state)})
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(self.path)
        self._written = time.perf_counter()

    def load(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        callbacks: list,
        settings: dict[str, Any],
    ) -> Progress:
        """Put everything back and return where the training stood: at its beginning where
        there is no file.

        Raises CheckpointError for a file that cannot be read, whose settings are others, or
        whose state a callback refuses.
        """
        self._mark = self._written = time.perf_counter()
        if not self.path.is_file():
            return Progress()
        try:
            with safe_open(self.path, framework="pt") as file:
                state = json.loads(file.metadata()["state"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise CheckpointError(
                f"{self.path}: not a checkpoint ({error}); delete it"
            ) from error
        if state["settings"] != settings:
            raise CheckpointError(
                f"{self.path}: belongs to a training with {state['settings']}, this one has"
                f" {settings}; delete it or choose another path"
            )

        def below(prefix: str) -> dict[str, Tensor]:
            return {
                k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)
            }

        model.load_state_dict(below("model."))
        self._restore(optimizer, state, below("optimizer."))
        for k, callback in enumerate(callbacks):
            try:
                callback.load(below(f"callbacks.{k}."))
            except ValueError as error:
                raise CheckpointError(f"{self.path}: {error}; delete it") from error
        torch.set_rng_state(tensors["random.cpu"])
        if "random.optimizer" in tensors:
            optimizer.generator.set_state(tensors["random.optimizer"])
        if "random.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["random.cuda"])
        self.seconds = state["seconds"]
        return Progress(
            state["history"], tensors.get("order"), state["taken"], tensors.get("sums")
        )

    @staticmethod
    def _restore(
        optimizer: torch.optim.Optimizer, state: dict, tensors: dict[str, Tensor]
    ) -> None:
        params = [p for group in optimizer.param_groups for p in group["params"]]
        found: dict[int, dict[str, Any]] = {
            int(k): dict(v) for k, v in state["optimizer"].items()
        }
        for key, value in tensors.items():
            index, name = key.split(".", 1)
            p = params[int(index)]
            if value.shape == p.shape and value.dtype == p.dtype:
                value = torch.empty_like(p).copy_(
                    value
                )  # strides as the parameter's (channels last)
            found.setdefault(int(index), {})[name] = value
        kept = optimizer.state_dict()
        groups = [
            group | {k: tuple(v) if isinstance(v, list) else v for k, v in other.items()}
            for group, other in zip(kept["param_groups"], state["groups"], strict=True)
        ]
        optimizer.load_state_dict({"state": found, "param_groups": groups})
