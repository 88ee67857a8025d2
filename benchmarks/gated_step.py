"""A training step of LeNet-300-100 with gates, without, and with Eq. 1 as printed: two logits
a weight."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize

import pruning
from benchmarks.timing import interleaved, show

BATCH, STEPS, TAU, TARGET, ALPHA = 256, 40, 2.0, 0.1, 1.0


class TwoLogits(nn.Module):
    """Eq. 1 as printed: a softmax over (log θ, log(1 − θ)) with Gumbel noise on each, through
    torch."""

    def __init__(self, weight):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(*weight.shape, 2))

    def sample(self):
        return F.gumbel_softmax(self.logits, tau=TAU, hard=True)[..., 0]

    def forward(self, weight):
        self.gates = self.sample()
        return weight * self.gates


def lenet():
    torch.manual_seed(0)
    return pruning.models.mlp((784, 300, 100, 10))


def two_logits():
    model = lenet()
    for layer in model:
        if isinstance(layer, nn.Linear):
            parametrize.register_parametrization(layer, "weight", TwoLogits(layer.weight))
    return model


def epoch(model, penalty=None):
    """STEPS steps of the package's own training loop."""
    x, y = torch.rand(STEPS * BATCH, 784), torch.randint(0, 10, (STEPS * BATCH,))
    callback = pruning.training.Callback()
    if penalty is not None:
        callback.penalty = lambda model, progress: ALPHA * penalty(model)
    return lambda: pruning.training.fit(
        model, x, y, epochs=1, batch_size=BATCH, callbacks=[callback]
    )


def two_logit_penalty(resample):
    def penalty(model):
        found = [m for m in model.modules() if isinstance(m, TwoLogits)]
        kept = sum((m.sample() if resample else m.gates).sum() for m in found)
        return (kept / sum(m.logits.numel() / 2 for m in found) - TARGET).abs()

    return penalty


def main():
    torch.set_num_threads(2)
    pieces = {
        "dense": epoch(lenet()),
        "gated": epoch(
            pruning.gate(lenet(), tau=TAU), lambda m: pruning.density_loss(m, TARGET, log=True)
        ),
        "two logits, density from the same sample": epoch(
            two_logits(), two_logit_penalty(False)
        ),
        "two logits, density from a sample of its own": epoch(
            two_logits(), two_logit_penalty(True)
        ),
    }
    medians = interleaved(pieces, rounds=15, warmup=1, steps=STEPS)
    title = (
        f"Training step, LeNet-300-100, batch 256, Adam (fused), 2 threads, medians of {STEPS}"
        " steps"
    )
    show(f"{title}, beside dense", medians, "dense")
    del medians["dense"]
    show(f"{title}, beside gated", medians, "gated")
