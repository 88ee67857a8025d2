"""The one training loop, its checkpoints, and stacks of networks."""

from pruning.training.loop import Callback, Evaluation, TrainingError, adam, evaluate, fit

__all__ = ["Callback", "Evaluation", "TrainingError", "adam", "evaluate", "fit"]
