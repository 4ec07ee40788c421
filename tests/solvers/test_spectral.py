"""The covariance per frequency, against dense matrices; the sampler that moves estimates by it, step by step."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from invsolve_operators import Bicubic, BoxMask
from scipy.fft import dct

from invsolve import GaussianNoise, InputError, Problem, Rng
from invsolve.operator import MatrixOperator
from invsolve.priors import GaussianPrior
from invsolve.priors.base import Denoiser
from invsolve.solvers import Spectral
from invsolve.solvers.diffusion import covariance
from invsolve.solvers.diffusion.covariance import Smooth, filtered, spectrum

SHAPE = (1, 4, 5)
SIGMA, LEVEL, SLOPE, S0 = 0.3, 0.05, 2.5, 0.25


def dense():
    """V of SHAPE at SIGMA, by scipy's transform: rows of T are the cosines."""
    rows, columns = (np.asarray(dct(np.eye(n), norm="ortho", axis=0)) for n in SHAPE[1:])
    transform = np.kron(rows, columns)
    f = np.sqrt((np.arange(4)[:, None] / 4) ** 2 + (np.arange(5)[None] / 5) ** 2).ravel()
    e = (f + 1.5 / 64) ** -SLOPE
    e *= S0**2 / e.mean()
    return torch.from_numpy(transform.T @ np.diag(e * SIGMA**2 / (e + SIGMA**2)) @ transform)


def case(rows=6):
    """A dense operator of two images."""
    draw = torch.Generator().manual_seed(0)
    matrix = torch.randn(rows, 20, generator=draw, dtype=torch.float64)
    y = torch.randn(2, rows, generator=draw, dtype=torch.float64)
    return matrix, Problem(MatrixOperator(matrix, SHAPE), y, GaussianNoise(LEVEL), check_range=False)


def smooth(problem):
    return Smooth(problem, spectrum(problem.image, SLOPE, S0))


@pytest.fixture
def converged(monkeypatch):
    """As many steps as the formula takes to hold to rounding."""
    monkeypatch.setattr(covariance, "PRODUCTS", 600)
    monkeypatch.setattr(covariance, "SPREAD", 1e3)


def gain(matrix, v):
    return v @ matrix.T @ torch.linalg.inv(matrix @ v @ matrix.T + LEVEL**2 * torch.eye(len(matrix), dtype=torch.float64))


def test_the_filter_is_the_covariance_in_the_cosine_basis():
    eye = torch.eye(20, dtype=torch.float64).reshape(20, *SHAPE)
    values = smooth(case()[1]).values(SIGMA)
    assert torch.allclose(filtered(eye, values).reshape(20, 20), dense(), atol=1e-14)
    assert float(dense().diagonal().mean()) < SIGMA**2
    assert float(filtered(eye, spectrum(eye, SLOPE, S0)).reshape(20, 20).diagonal().mean()) == pytest.approx(S0**2)


def test_the_mean_is_the_gaussian_formula(converged):
    matrix, problem = case()
    guess = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    flat = guess.flatten(1)
    expected = flat + (problem.y - flat @ matrix.T) @ gain(matrix, dense()).T
    assert torch.allclose(smooth(problem).mean(guess, SIGMA).flatten(1), expected, atol=1e-10)


def test_the_draw_has_the_gaussian_covariance_exactly(converged):
    """It is affine in its two draws, so unit vectors in their place give the columns of a root of the covariance, an item each."""
    matrix, problem = case()

    class Unit(Rng):
        """Draws whose j-th item is the j-th unit vector of all draws together; the last item gets none."""

        def __init__(self):
            self.place = 0

        def normal_like(self, x):
            size = x[0].numel()
            every = torch.eye(len(x), self.place + size, dtype=x.dtype)[:, self.place :]
            self.place += size
            return every.reshape(x.shape)

    count = 20 + len(matrix)
    guess = torch.zeros(count + 1, *SHAPE, dtype=torch.float64)
    law = smooth(problem[0].repeat(count + 1))
    drawn = law.draw(guess, SIGMA, Unit()).flatten(1)
    columns, about = drawn[:-1] - drawn[-1], drawn[-1]
    v = dense()
    assert torch.allclose(columns.T @ columns, v - gain(matrix, v) @ matrix @ v, atol=1e-10)
    assert torch.allclose(about, law.mean(guess, SIGMA)[0].flatten(), atol=1e-12)


class Shrunk(Denoiser):
    """Half of x: no posterior mean, so that a step that forgot the estimate would show."""

    slope = SLOPE

    def forward(self, x, sigma):
        return 0.5 * x + 0.1


@pytest.mark.parametrize("zeta", [1.0, 0.4, 0.0])
def test_three_steps_by_hand(zeta):
    problem, prior = case()[1], Shrunk()
    found = Spectral(steps=3, zeta=zeta).solve(problem, prior, generator=7)
    law, rng, sigmas = smooth(problem), Rng(7, problem.items), prior.sigmas(3, "karras", 4 * S0)
    about = law.mean(problem.image + 0.5, math.inf)
    x = about + 1.0 * rng.normal_like(about)
    for sigma, following in pairwise(sigmas):
        x0 = law.mean(0.5 * x + 0.1, sigma)
        if following == 0:
            x = x0
            break
        kept = following / sigma * math.sqrt(1 - zeta) * (x - x0)
        fresh = following * math.sqrt(zeta) * rng.normal_like(x) if zeta else 0.0
        x = x0 + kept + fresh
    assert sigmas[0] == pytest.approx(1.0)
    assert torch.allclose(found.x, x, atol=1e-12)


def test_a_slope_of_0_is_the_posterior_of_white_images():
    """With V = r^2 and draws the law is that of x0 given y, pixel by pixel: s0^2 in the hole, what y leaves of it elsewhere."""
    operator, count = BoxMask((1, 4, 4), box=2), 400
    truth = torch.full((1, 1, 4, 4), 0.6, dtype=torch.float64)
    problem = Problem.simulate(operator, truth, GaussianNoise(0.1), generator=0)
    x = Spectral(steps=20, draw=True).solve(problem, GaussianPrior(), generator=1, samples=count, chunk=count).x[:, 0, 0]
    hole = torch.zeros(4, 4, dtype=torch.bool)
    hole[1:3, 1:3] = True
    left = S0**2 * 0.1**2 / (S0**2 + 0.1**2)
    for variance, pixels in ((S0**2, x[:, hole]), (left, x[:, ~hole])):
        # four standard errors of a variance of so many draws; the first level, 4 s0, leaves 1 / 17 of a hole's own variance to it
        assert float(pixels.var(0).mean()) == pytest.approx(variance, rel=4 * math.sqrt(2 / (count * pixels.shape[1])) + 1 / 17)


def test_it_restores_what_has_no_prox():
    operator = Bicubic((1, 8, 8), 2) @ BoxMask((1, 8, 8), box=2)
    x = torch.rand(1, 1, 8, 8, dtype=torch.float64)
    problem = Problem.simulate(operator, x, GaussianNoise(0.01), generator=0)
    found = Spectral(steps=5).solve(problem, GaussianPrior(), generator=0).x
    assert float((operator(found) - problem.y).square().mean().sqrt()) < 0.02


@pytest.mark.parametrize("wrong", [{"zeta": -0.1}, {"zeta": 1.1}, {"slope": -1.0}, {"slope": math.inf}, {"slope": math.nan}])
def test_ranges(wrong):
    with pytest.raises(InputError, match=f"{next(iter(wrong))} must be"):
        Spectral(**wrong)


@pytest.mark.parametrize(("c", "sigma"), [(1e-3, 5e-5), (0.1, 0.005), (0.3, 0.015), (10.0, 0.5)])
def test_noise_of_the_bound_itself_is_on_one_side_of_it_in_every_unit(c, sigma):
    """c * .05 / c rounds to either side of .05, which decided whether twenty more products were made (.007 of the answer)."""
    shape = (1, 12, 12)
    box = BoxMask(shape, box=6)
    given = Problem.simulate(box, torch.rand(1, *shape, generator=torch.Generator().manual_seed(0)), GaussianNoise(0.05), generator=0)
    assert not isinstance(given.y, tuple)
    other = Problem(c * box, c * given.y, GaussianNoise(sigma), check_range=False)
    one, same = (Spectral(steps=4, slope=SLOPE).solve(problem, GaussianPrior(), generator=0).x for problem in (given, other))
    assert float((one - same).abs().max()) < 1e-5  # float32, some hundred products of entries below 1
