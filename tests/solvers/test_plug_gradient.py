"""pgm and red with the exact denoiser of a Gaussian: their fixed points by dense algebra, and a step or two written out."""

import math

import pytest
import torch

from invsolve import GaussianNoise, Problem
from invsolve.errors import InputError
from invsolve.priors import GaussianPrior
from invsolve.solvers import PGM, RED
from invsolve.testing.oracle import DenseOperator, Gaussian, gaussian_case

SIZE, SIGMA = 8, 0.1
EYE = torch.eye(SIZE, dtype=torch.float64)


def case(name):
    law, prior, matrix, y = gaussian_case(name, 0, sigma=SIGMA)
    return law, prior, matrix, y, Problem(DenseOperator(matrix), y[None], GaussianNoise(SIGMA))


def offset(found, exact):
    """In standard deviations of the posterior."""
    return float((found.flatten() - exact.mean).norm() / exact.cov.trace().sqrt())


@pytest.mark.parametrize("name", ["S", "G", "I"])
@pytest.mark.parametrize("solver", [PGM(steps=300), PGM(steps=1500, step=1.9, momentum=False)], ids=["momentum", "plain"])
def test_the_fixed_point_of_pgm_is_the_posterior_mean(solver, name):
    """Of a Gaussian D(., sqrt(step) sigma_x) is the prox of its -log p, so that every step below 2 ends at the same place.

    The slowest direction keeps 1 - step s^2 of itself times the prior's share; a hundredth of a standard deviation is left after so many.
    """
    law, prior, matrix, y, problem = case(name)
    found = solver.solve(problem, prior, generator=0).x
    assert offset(found, law.posterior(matrix, y, SIGMA)) < 0.01


@pytest.mark.parametrize("name", ["S", "G"])
@pytest.mark.parametrize("form", ["fixed-point", "gradient"])
def test_the_fixed_point_of_red_is_the_posterior_mean_under_the_blurred_prior(form, name):
    """(D(x, s) - x) / s^2 is the score of N(m, C + s^2): with strength 1 that is the prior whose posterior mean is found."""
    law, prior, matrix, y, problem = case(name)
    level = 0.15
    found = RED(steps=1000, form=form, sigma_start=level, denoiser_sigma=level).solve(problem, prior, generator=0).x
    blurred = Gaussian(law.mean, law.cov + level**2 * EYE).posterior(matrix, y, SIGMA)
    assert offset(found, blurred) < 1e-3
    if name == "G":  # and another one than the posterior's own
        assert offset(found, law.posterior(matrix, y, SIGMA)) > 0.05


def test_the_bias_of_red_goes_with_its_level():
    law, prior, matrix, y, problem = case("G")
    exact = law.posterior(matrix, y, SIGMA)
    levels = (0.2, 0.1, 0.05)
    far = [offset(RED(steps=400, sigma_start=s, denoiser_sigma=s).solve(problem, prior, generator=0).x, exact) for s in levels]
    assert far[0] > far[1] > far[2]


def test_strength_counts_the_prior():
    """strength k, and k times the precision of the blurred prior."""
    law, prior, matrix, y, problem = case("S")
    found = RED(steps=400, sigma_start=0.2, denoiser_sigma=0.2, strength=3.0).solve(problem, prior, generator=0).x
    blurred = Gaussian(law.mean, (law.cov + 0.04 * EYE) / 3).posterior(matrix, y, SIGMA)
    assert offset(found, blurred) < 1e-3


def test_two_steps_of_pgm_written_out():
    """Identity, levels .2 and .1 by sigma_start and denoiser_sigma in two steps, w = x_1 + 0 after the first."""
    prior = GaussianPrior(0.5, 0.25)
    y = torch.linspace(0, 1, SIZE, dtype=torch.float64)
    problem = Problem(DenseOperator(EYE), y[None], GaussianNoise(SIGMA))
    x_init = torch.full((1, 1, 1, SIZE), 0.3, dtype=torch.float64)
    found = PGM(steps=3, step=0.5, sigma_start=0.2, denoiser_sigma=0.1).solve(problem, prior, generator=0, x_init=x_init).x

    def denoised(x, level):
        return 0.5 + (x - 0.5) * 0.0625 / (0.0625 + level**2)

    first = denoised(0.3 + 0.5 * (y - 0.3), 0.2)
    second = denoised(first + 0.5 * (y - first), 0.1)
    ahead = second + 1 / 4 * (second - first)
    assert torch.allclose(found.flatten(), denoised(ahead + 0.5 * (y - ahead), 0.1), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("cls", "name", "inside", "outside"),
    [
        (PGM, "steps", (1, 100), (0, -1)),
        (PGM, "step", (1e-9, 1), (0, -1.0, 1 + 1e-9, math.nan)),
        (PGM, "sigma_start", (None, 1e-9, 1e9), (0, -1.0, math.inf, math.nan)),
        (PGM, "denoiser_sigma", (None, 1e-9, 1e9), (0, -1.0, math.inf, math.nan)),
        (PGM, "noise", (0,), (-1e-9, 1e-9, math.nan)),
        (RED, "steps", (1, 100), (0, -1)),
        (RED, "form", ("fixed-point", "gradient"), ("other",)),
        (RED, "sigma_start", (None, 1e-9, 1e9), (0, -1.0, math.inf, math.nan)),
        (RED, "denoiser_sigma", (None, 1e-9, 1e9), (0, -1.0, math.inf, math.nan)),
        (RED, "strength", (1e-9, 1e9), (0, -1.0, math.inf, math.nan)),
        (RED, "noise", (None, 0, 1), (-1e-9, 1 + 1e-9, math.nan)),
    ],
    ids=lambda one: getattr(one, "__name__", one if isinstance(one, str) else ""),
)
def test_the_ends_of_every_range(cls, name, inside, outside):
    for value in inside:
        assert getattr(cls(**{name: value}), name) == value
    for value in outside:
        with pytest.raises(InputError, match=name):
            cls(**{name: value})


def test_without_momentum_the_step_goes_to_two_and_noise_may_be_added():
    assert PGM(step=2 - 1e-9, momentum=False, noise=1.0).noise == 1
    for outside in ({"step": 2.0}, {"noise": 1 + 1e-9}):
        with pytest.raises(InputError):
            PGM(momentum=False, **outside)
