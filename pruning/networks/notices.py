"""Warnings that point at the line of the user's own code."""

import os
import sys
import warnings
from pathlib import Path

import torch

PACKAGES = (Path(torch.__file__).parent, Path(__file__).parents[1])
INSIDE = tuple(f"{folder}{os.sep}" for folder in PACKAGES)


def notice(message: str) -> None:
    """Warn, with the file and line from which this package was called.

    Frames of the package and of torch are passed over: how many there are depends on which
    public function was called, and torch's ``no_grad`` adds its own.
    """
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_code.co_filename.startswith(INSIDE):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)


def say_emptied(layers: list[str]) -> None:
    """One `notice` of the layers that have lost all their weights, if there are any."""
    if layers:
        notice(f"model: no weight is left in {layers}, so these layers give constants")
