"""Callbacks of `training.fit` in other people's training loops: Lightning and Hugging Face's
Trainer.

    trainer = lightning.Trainer(callbacks=[for_lightning(Gradual(weights=10_000))])
    trainer = transformers.Trainer(model, arguments, callbacks=[for_transformers(SET(0.1,
    rewirings=9))])

Both call `start` before the first step, `after_step` after every step of the optimizer with
the fraction of steps taken before it, and `finish` after the last. Lightning or transformers
is imported when its adapter is made. A callback with a penalty is refused: its penalty must be
part of the loss of the training itself, as ``pruning.density_loss`` is for gates.
"""

from typing import TYPE_CHECKING

from torch import nn

from pruning.training.loop import Callback

if TYPE_CHECKING:
    import lightning
    import transformers


def _without_penalty(callback: Callback) -> Callback:
    if not isinstance(callback, Callback):
        raise TypeError(
            f"callback: got a {type(callback).__name__}, needs a pruning.training.Callback"
        )
    if type(callback).penalty is not Callback.penalty:
        raise ValueError(
            f"callback: {type(callback).__name__} has a penalty, which nobody outside can add"
            " to a loss; add it in the model's own loss (for gates: pruning.density_loss)"
        )
    return callback


def for_lightning(callback: Callback, module: str = "") -> "lightning.Callback":
    """The callback as one of ``lightning.Trainer``.

    Parameters
    ----------
    callback : of `training.fit`, for instance `Gradual`, `Rewinding` (one ``fit`` a round) or
        `SET`.
    module : name of the part of the LightningModule to work on; "" for all of it.

    Masks are set in ``setup``, before the optimizer is configured. What the callback must
    remember is part of Lightning's checkpoints. Raises TypeError for another kind of callback,
    ValueError for one with a penalty, and for a training without a known number of steps.
    """
    import lightning

    inner = _without_penalty(callback)

    class Adapter(lightning.Callback):
        """`callback` in Lightning's hooks."""

        state_key = f"pruning.{type(inner).__name__}.{module}"

        def setup(self, trainer, pl_module, stage):
            """Start, where a training begins."""
            self.steps = 0
            if stage == "fit":
                inner.start(_part(pl_module, module))

        def on_train_start(self, trainer, pl_module):
            """Where the training stands, and how long it will be."""
            self.steps, self.total = trainer.global_step, trainer.estimated_stepping_batches
            if not 0 < self.total < float("inf"):
                raise ValueError(
                    f"trainer: plans {self.total} steps, needs a number: set max_steps or"
                    " max_epochs"
                )

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            """After a step of the optimizer, which accumulated batches share."""
            if trainer.global_step > self.steps:
                passed = self.steps / self.total
                if not pl_module.automatic_optimization:
                    passed = _passed_by_hand(trainer, self.steps, batch_idx)
                inner.after_step(_part(pl_module, module), passed)
                self.steps = trainer.global_step

        def on_train_end(self, trainer, pl_module):
            """Finish."""
            inner.finish(_part(pl_module, module))

        def state_dict(self):
            """What the callback must remember."""
            return inner.state()

        def load_state_dict(self, state_dict):
            """Take it back."""
            inner.load(state_dict)

    return Adapter()


def _passed_by_hand(trainer: "lightning.Trainer", steps: int, batch: int) -> float:
    """The fraction of a training before a batch, where the module steps its optimizers itself,
    maybe several: of the steps or of the epochs, whichever end it first."""
    passed = steps / trainer.max_steps if trainer.max_steps > 0 else 0.0
    if trainer.max_epochs > 0:
        epochs = trainer.current_epoch + batch / trainer.num_training_batches
        passed = max(passed, epochs / trainer.max_epochs)
    return passed


def for_transformers(callback: Callback, module: str = "") -> "transformers.TrainerCallback":
    """The callback as one of ``transformers.Trainer``; arguments and errors as of
    `for_lightning`.

    The Trainer has built its optimizer when masks are set, which goes on with the same
    parameters. Its checkpoints do not hold what the callback must remember, so a training that
    is resumed starts it anew. Call ``pruning.finalize(model)`` before ``save_pretrained``:
    other programs know plain models only.
    """
    import transformers

    inner = _without_penalty(callback)

    class Adapter(transformers.TrainerCallback):
        """`callback` in the Trainer's events."""

        def on_train_begin(self, args, state, control, model: nn.Module, **kwargs):
            """Start."""
            if state.global_step:
                raise ValueError(
                    f"trainer: resumes at step {state.global_step}, where pruning cannot begin"
                )
            inner.start(_part(model, module))

        def on_step_end(self, args, state, control, model: nn.Module, **kwargs):
            """After a step of the optimizer."""
            inner.after_step(_part(model, module), (state.global_step - 1) / state.max_steps)

        def on_train_end(self, args, state, control, model: nn.Module, **kwargs):
            """Finish."""
            inner.finish(_part(model, module))

    return Adapter()


def _part(model: nn.Module, module: str) -> nn.Module:
    """A module of a model, without the wrapper of distributed training."""
    model = model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model
    return model.get_submodule(module)
