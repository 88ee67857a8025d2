import numpy as np
import pytest
import torch

from pruning.methods.noise import LARGE, _TorchSeed, bernoulli_, logistic_noise


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


@pytest.mark.parametrize("given", [False, True])
def test_small_tensors_are_torchs_own_numbers(given):
    def drawn(draw):
        torch.manual_seed(5)
        return draw(torch.Generator().manual_seed(7) if given else None)

    empty = torch.empty(LARGE - 1)
    noise = drawn(lambda generator: logistic_noise(empty, generator))
    assert torch.equal(noise, drawn(lambda g: empty.uniform_(generator=g).logit()))
    ones = drawn(lambda generator: bernoulli_(torch.empty(LARGE - 1), 0.3, generator))
    assert torch.equal(ones, drawn(lambda g: empty.bernoulli_(0.3, generator=g)))


@pytest.mark.parametrize("n", [100, 2 * LARGE])
@pytest.mark.parametrize(
    "draw", [logistic_noise, lambda like, g=None: bernoulli_(torch.empty_like(like), 0.5, g)]
)
def test_a_generator_that_is_given_says_all(n, draw):
    state = torch.get_rng_state()
    first, again, other = (
        draw(torch.empty(n), torch.Generator().manual_seed(seed)) for seed in (3, 3, 4)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_noise_is_contiguous_float32_and_fills_what_is_given():
    for like in (torch.empty(300, 200).t(), torch.empty(20, 30, dtype=torch.float64).t()):
        noise = logistic_noise(like)
        assert noise.shape == like.shape
        assert noise.dtype == torch.float32
        assert noise.is_contiguous()
    for n in (50, 2 * LARGE):
        out = torch.zeros(n)
        assert logistic_noise(torch.empty(n), out=out) is out
        assert (out != 0).float().mean() > 0.99


def words(monkeypatch, numbers, kind):
    """NumPy's generator gives these integers, over and over."""

    class Fixed:
        def __init__(self, seed):
            self.words = np.array(numbers, dtype=kind).view(np.uint64)

        def random_raw(self, count):
            return np.resize(self.words, count)

    monkeypatch.setattr(np.random, "SFC64", Fixed)


@pytest.mark.parametrize("count", [1, 2, 2**31, 2**32 - 1, 2**32])
def test_a_rate_is_exact_to_the_last_of_32_bits(monkeypatch, count):
    numbers = [-(2**31), 1 - 2**31, -77, -1, 0, 5, 2**31 - 2, 2**31 - 1]
    words(monkeypatch, numbers, np.int32)
    drawn = bernoulli_(torch.empty(LARGE), count / 2**32).view(-1, 8)
    assert (drawn == drawn[0]).all()
    # as many of the 2³² integers as `count` says, the lowest
    assert drawn[0].tolist() == [float(number + 2**31 < count) for number in numbers]


def test_a_uniform_number_is_sixteen_bits_and_sixteen_of_its_neighbour(monkeypatch):
    numbers = [0, 5, -(2**15), 2**15 - 1, 2**14, -1, 3, -77]
    words(monkeypatch, numbers, np.int16)
    noise = logistic_noise(torch.empty(LARGE)).view(-1, 8)
    assert torch.equal(noise, noise[:1].expand_as(noise))
    u = [
        (own + 2**15) / 2**16 + (following + 2**15) / 2**32
        for own, following in zip(numbers, [*numbers[1:], numbers[0]], strict=True)
    ]
    assert noise[0].double().sigmoid().tolist() == pytest.approx(u, rel=1e-6)


def test_a_seed_has_64_random_bits_a_word():
    seeds = _TorchSeed().generate_state(4000, np.uint64)
    assert seeds.dtype == np.uint64
    bits = np.unpackbits(seeds.view(np.uint8).reshape(4000, 8), axis=1).mean(0)
    assert abs(bits - 0.5).max() < 5 * 0.5 / 4000**0.5
    assert len(_TorchSeed().generate_state(3)) == 3  # of 32 bits
