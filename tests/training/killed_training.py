"""A training that kills its own process in the middle: started by test_checkpoints."""

import os
import signal
import sys

import torch

from pruning import training
from pruning.data import images
from pruning.methods.stochgrad import StochGradAdam
from pruning.training.checkpoints import Checkpoint
from tests.training.test_checkpoints import DATA, EPOCHS, Averaged, resnet

torch.set_num_threads(1)  # as conftest does: sums come out the same


class Killer(training.Callback):
    steps = 0

    def after_step(self, model, progress):
        self.steps += 1
        if self.steps == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)


training.fit(
    resnet(),
    *DATA,
    epochs=EPOCHS,
    batch_size=16,
    seed=3,
    optimizer=lambda m: StochGradAdam(m.parameters()),
    callbacks=[Averaged(0.9), Killer()],
    augment=images.crop_and_flip,
    checkpoint=Checkpoint(sys.argv[1], 0),
)
