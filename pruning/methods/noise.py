"""Random numbers for gates and masks: torch's own, and on the CPU, where those are drawn one
by one, NumPy's SFC64 seeded from torch's generator, so that torch's seed fixes everything.
"""

import numpy as np
import torch
from numpy.random.bit_generator import ISeedSequence
from torch import Tensor

LARGE = 2**15  # numbers from which on NumPy's generator pays


class _TorchSeed(ISeedSequence):
    """A torch generator (the global one where None) as the seed of a NumPy bit generator."""

    def __init__(self, generator: torch.Generator | None = None):
        self.generator = generator

    def generate_state(self, n_words, dtype=np.uint32):
        words = torch.randint(-(2**63), 2**63 - 1, (n_words,), generator=self.generator)
        return words.numpy().view(dtype)[:n_words]


def logistic_noise(
    like: Tensor, generator: torch.Generator | None = None, out: Tensor | None = None
) -> Tensor:
    """log u − log(1 − u) with u ~ U(0, 1), float32, in the shape and on the device of `like`.

    generator : on that device; torch's own where None. out : a contiguous tensor to fill.
    """
    n = like.numel()
    if out is None:
        out = torch.empty_like(
            like, dtype=torch.float32, memory_format=torch.contiguous_format
        )
    if like.device.type != "cpu" or n < LARGE or torch._C._are_functorch_transforms_active():
        return out.uniform_(generator=generator).logit_()
    # torch's CPU generator is serial and would make half of a gated step's overhead on a large
    # layer. SFC64 is three times as fast, and each of its 64-bit words serves four weights: a
    # weight's own 16 bits are followed by its neighbour's, so that each u is uniform on 2³²
    # values and two of them depend on each other by less than 2⁻¹⁶. Where float32 rounds u to
    # 0 or 1, the gate is 0 or 1 with gradient 0.
    words = np.random.SFC64(_TorchSeed(generator)).random_raw(n // 4 + 1)
    own = (
        torch.from_numpy(words)
        .view(torch.int16)[: n + 1]
        .to(torch.float32)
        .mul_(2.0**-16)
        .add_(0.5)
    )
    torch.add(own[:n], own[1:], alpha=2.0**-16, out=out.view(-1))
    return out.logit_()


def bernoulli_(
    buffer: Tensor, rate: float, generator: torch.Generator | None = None
) -> Tensor:
    """Fill a contiguous tensor with ones, each with probability `rate` to 2⁻³², and zeros."""
    n = buffer.numel()
    if buffer.device.type != "cpu" or n < LARGE or rate == 0:
        return buffer.bernoulli_(rate, generator=generator)
    words = np.random.SFC64(_TorchSeed(generator)).random_raw(n // 2 + 1)
    uniform = torch.from_numpy(words).view(torch.int32)[:n]  # on −2³¹ … 2³¹ − 1
    buffer.view(-1).copy_(uniform <= round(rate * 2**32) - 2**31 - 1)
    return buffer
