import pytest
import torch

from pruning.methods.noise import LARGE, bernoulli_


@pytest.mark.parametrize("n", [1000, LARGE - 1, LARGE, 10 * LARGE + 3])
@pytest.mark.parametrize("rate", [0.0, 0.2, 0.8, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_share_of_rate_is_one(n, rate, dtype):
    drawn = bernoulli_(torch.empty(n, dtype=dtype), rate)
    assert drawn.dtype == dtype
    assert set(drawn.unique().tolist()) <= {0.0, 1.0}
    noise = 4 * (rate * (1 - rate) / n) ** 0.5
    assert drawn.double().mean().item() == pytest.approx(rate, abs=noise + 1e-12)


def test_draws_are_new_independent_and_fixed_by_the_generator():
    n = 4 * LARGE
    generator = torch.Generator().manual_seed(3)
    first, second = (bernoulli_(torch.empty(n), 0.5, generator) for _ in range(2))
    assert (first == second).double().mean().item() == pytest.approx(0.5, abs=0.01)
    neighbours = (first[1:] == first[:-1]).double().mean().item()
    assert neighbours == pytest.approx(0.5, abs=0.01)
    generator.manual_seed(3)
    assert torch.equal(first, bernoulli_(torch.empty(n), 0.5, generator))
    torch.manual_seed(7)
    free = bernoulli_(torch.empty(n), 0.5)
    torch.manual_seed(7)
    assert torch.equal(free, bernoulli_(torch.empty(n), 0.5))
