"""Random streams: one per item, the same alone and in any batch; nothing global."""

import random

import numpy as np
import pytest
import torch

from invsolve.errors import InputError
from invsolve.noise import GaussianNoise, PoissonNoise
from invsolve.problem import Problem
from invsolve.rng import Rng, derive
from invsolve.testing.settings import Kept, truth

LIKE = torch.zeros(1, dtype=torch.float64)
DRAWS = {
    "normal": lambda rng: rng.normal((2, 5), LIKE),
    "uniform": lambda rng: rng.uniform((2, 5), LIKE),
    "complex": lambda rng: rng.normal((2, 5), torch.zeros(1, dtype=torch.complex128)),
    "poisson": lambda rng: rng.poisson(torch.full((len(rng.items), 2, 5), 7.0, dtype=torch.float64)),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_an_item_draws_the_same_bits_alone_and_in_any_batch(draw):
    whole, again = Rng(3, [0, 4, 2]), Rng(3, [2, 0])
    first, second = (draw(whole) for _ in range(2))
    for row, item in enumerate(whole.items):
        alone = Rng(3, [item])
        assert torch.equal(draw(alone)[0], first[row])
        assert torch.equal(draw(alone)[0], second[row])
    assert torch.equal(draw(again), first[[2, 0]])


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_seed_item_sample_and_purpose_all_matter(draw):
    base = draw(Rng(0, [0]))
    assert torch.equal(base, draw(Rng(0, [0])))
    for other in (Rng(1, [0]), Rng(0, [1]), Rng(0, [0], sample=1), Rng(0, [0], purpose="simulate"), Rng(-1, [0])):
        assert not torch.equal(base, draw(other)), other


def test_first_numbers_are_pinned():
    """A run of another year can be repeated: the derivation of the streams may not change unnoticed."""
    assert derive(0, "solve", 0, 0) == 1627937571114122407
    assert derive(7, "simulate", 1, 2) == 2259727948413168904
    assert derive(0, "solve", 0, 0) != derive(0, "solve", 0, 1)
    assert 0 <= derive("anything", 1, None) < 2**63


def test_keys_do_not_run_together():
    """(1, 11) and (11, 1) are different streams."""
    assert derive(1, 11) != derive(11, 1) != derive(111)


def test_state_and_restore_go_on_bit_for_bit():
    rng = Rng(5, [0, 1])
    rng.normal((3,), LIKE)
    position = rng.state()
    later = rng.normal((3,), LIKE)
    assert torch.equal(Rng(5, [0, 1]).restore(position).normal((3,), LIKE), later)


def test_make_accepts_int_generator_rng_and_none():
    assert torch.equal(Rng.make(0, [0]).normal((4,), LIKE), Rng(0, [0]).normal((4,), LIKE))
    assert Rng.make(0, [0]).seed == 0
    own = Rng(3, [0, 1])
    assert Rng.make(own, [5, 6]) is own
    first, second = (Rng.make(torch.Generator().manual_seed(1), [0]).seed for _ in range(2))
    assert first == second
    generator = torch.Generator().manual_seed(1)
    assert len({Rng.make(generator, [0]).seed for _ in range(4)}) == 4
    assert len({Rng.make(None, [0]).seed for _ in range(4)}) == 4


@pytest.mark.parametrize("generator", [True, 1.0, "1", np.random.default_rng(0), torch.tensor(3)])
def test_make_refuses_the_rest(generator):
    with pytest.raises(InputError, match=type(generator).__name__):
        Rng.make(generator, [0])


def test_an_rng_for_another_number_of_items_is_refused():
    with pytest.raises(InputError, match="2 streams, the batch has 3"):
        Rng.make(Rng(0, [0, 1]), [0, 1, 2])


def test_dtype_and_shape():
    for dtype in (torch.float32, torch.float64, torch.complex64):
        assert Rng(0, [0, 1]).normal((2, 3), torch.zeros(1, dtype=dtype)).dtype == dtype
    assert Rng(0, []).normal((2, 3), LIKE).shape == (0, 2, 3)


def test_moments():
    """100,000 draws: the mean is within 5 / sqrt(n) of its value, the variance within 5 sqrt(2 / n), complex parts 1/2 each."""
    count = 100_000
    z = Rng(1, [0]).normal((count,), LIKE)[0]
    assert abs(float(z.mean())) < 5 / count**0.5
    assert abs(float(z.var()) - 1) < 5 * (2 / count) ** 0.5
    c = Rng(1, [0]).normal((count,), torch.zeros(1, dtype=torch.complex128))[0]
    for part in (c.real, c.imag):
        assert abs(float(part.var()) - 0.5) < 0.5 * 5 * (2 / count) ** 0.5


def test_streams_of_neighbouring_seeds_and_items_are_uncorrelated():
    """deepinv issue 1336: generators of neighbours correlated. |r| of independent n-vectors is below 5 / sqrt(n)."""
    count = 20_000
    rows = [Rng(seed, [item], sample).normal((count,), LIKE)[0] for seed in (0, 1) for item in (0, 1) for sample in (0, 1)]
    correlation = torch.corrcoef(torch.stack(rows)) - torch.eye(len(rows), dtype=torch.float64)
    assert float(correlation.abs().max()) < 5 / count**0.5


def test_nothing_global_is_touched():
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    for draw in DRAWS.values():
        draw(Rng.make(None, [0, 1]))
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()
    assert before[2] == random.getstate()


@pytest.mark.parametrize("noise", [GaussianNoise(0.1), PoissonNoise(0.01)], ids=["gaussian", "poisson"])
def test_simulated_noise_of_an_item_does_not_depend_on_its_batch(noise):
    operator, x = Kept((1, 6, 7)), truth((1, 6, 7), 3, torch.float64)
    whole = Problem.simulate(operator, x, noise, generator=2)
    first = Problem.simulate(operator, x[:1], noise, generator=2)
    assert torch.equal(first.y[0], whole.y[0])
    assert [whole[item].items for item in range(3)] == [(0,), (1,), (2,)]


def test_the_noise_of_a_measurement_is_not_the_solver_s_noise():
    """With one seed for both, x_T would be the noise in y."""
    assert not torch.equal(Rng(0, [0], purpose="simulate").normal((8,), LIKE), Rng(0, [0]).normal((8,), LIKE))
