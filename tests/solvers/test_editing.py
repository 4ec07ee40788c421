"""One-shot denoising against the posterior mean; SDEdit's law, step by step, with and without a mask."""

import itertools
import math

import pytest
import torch

from invsolve import GaussianNoise, NoNoise, Problem
from invsolve.errors import CompatibilityError, InputError
from invsolve.operator import Operator
from invsolve.priors import GaussianPrior
from invsolve.rng import Rng
from invsolve.solvers import OneShot, SDEdit
from invsolve.testing.oracle import DenseOperator, Gaussian, gaussian_case, propagate, standard_errors
from invsolve.testing.pooled import Pooled
from invsolve.testing.subjects import Kept

DOUBLE = torch.float64
SIZE, CHAINS = 8, 4000
EYE = torch.eye(SIZE, dtype=DOUBLE)


def times(factor, shape=(1, 1, SIZE)):
    size = math.prod(shape)
    return Operator.from_matrix(factor * torch.eye(size, dtype=DOUBLE), shape, shape)


@pytest.mark.parametrize("factor", [1.0, 0.01, 255.0])
def test_one_shot_is_the_posterior_mean(factor):
    """m + C (C + sigma_y^2 / c^2)^-1 (y / c - m), by dense algebra; one call of the prior."""
    law, prior, _, _ = gaussian_case("G", 0)
    y = factor * (law.sample(3, 5) + 0.1 * torch.randn(3, SIZE, generator=torch.Generator().manual_seed(1), dtype=DOUBLE))
    problem = Problem(times(factor), y.reshape(3, 1, 1, SIZE), GaussianNoise(0.1 * factor), check_range=False)
    solution = OneShot().solve(problem, prior, generator=0)
    exact = torch.stack([law.posterior(factor * EYE, one, 0.1 * factor).mean for one in y])
    assert torch.allclose(solution.x.flatten(1), exact, rtol=0, atol=1e-12)
    assert solution.nfe == 1


def test_one_shot_refuses_what_is_no_noisy_image():
    prior = GaussianPrior(0.5, 0.25)
    x = torch.full((2, 1, 6, 7), 0.5, dtype=DOUBLE)
    problem = Problem.simulate(Kept((1, 6, 7)), x, GaussianNoise(0.1), generator=0)
    with pytest.raises(CompatibilityError, match=r"multiple of the identity.*hqs"):
        OneShot().solve(problem, prior)
    negative = Problem(times(-1.0), x[..., :1, :1].expand(2, 1, 1, SIZE).clone(), GaussianNoise(0.1))
    with pytest.raises(CompatibilityError, match="multiple of the identity"):
        OneShot().solve(negative, prior)
    loud = Problem(times(1.0), torch.zeros(1, 1, 1, SIZE, dtype=DOUBLE), GaussianNoise(90.0), check_range=False)
    with pytest.raises(CompatibilityError, match=r"sigma 90.*good for, 80"):
        OneShot().solve(loud, prior)


def descent(law, sigmas, eta):
    """(F, g, Q) of the generic steps."""
    for sigma, following in itertools.pairwise(sigmas):
        gain, offset = law.denoiser(sigma)
        ratio = 1 - (following / sigma) ** 2
        kept = following / sigma * math.sqrt(1 - eta**2 * ratio)
        yield gain + kept * (EYE - gain), (1 - kept) * offset, following**2 * eta**2 * ratio * EYE


@pytest.mark.parametrize(("eta", "repeats"), [(1.0, 1), (0.5, 2)])
def test_sdedit_has_its_exact_law(eta, repeats):
    """guide + sigma z, down, and again; the guide is the posterior mean of N(1/2, s0^2)."""
    law, prior, matrix, y = gaussian_case("G", 0)
    white = Gaussian(torch.full((SIZE,), 0.5, dtype=DOUBLE), prior.s0**2 * EYE)
    found = Gaussian(white.posterior(matrix, y, 0.05).mean, torch.zeros_like(EYE))
    for _ in range(repeats):
        noised = Gaussian(found.mean, found.cov + 0.2**2 * EYE)
        found = propagate(noised, descent(law, prior.sigmas(10, "karras", 0.2), eta))
    problem = Problem(DenseOperator(matrix), y.expand(CHAINS, len(y)), GaussianNoise(0.05))
    samples = (
        SDEdit(steps=10, sigma=0.2, repeats=repeats, guide="prior", eta=eta).solve(problem, prior, generator=Pooled(0, range(CHAINS))).x
    )
    mean, cov = standard_errors(samples, found)
    assert mean < 4
    assert cov < 4


@pytest.mark.parametrize("sigma_y", [0.0, 0.05])
def test_mask_mode_written_out(sigma_y):
    """Pixels shown have y + sqrt(sigma^2 - sigma_y^2) e at every level that is not below their own noise, one e for all of them."""
    prior, operator = GaussianPrior(0.5, 0.25), Kept((1, 1, SIZE))
    noise = GaussianNoise(sigma_y) if sigma_y else NoNoise()
    y = torch.linspace(0.1, 0.9, SIZE, dtype=DOUBLE).reshape(1, 1, 1, SIZE) * operator.mask
    guide = torch.linspace(0.8, 0.2, SIZE, dtype=DOUBLE).reshape(1, 1, 1, SIZE)
    found = SDEdit(steps=5, sigma=0.3, mask=True).solve(Problem(operator, y, noise), prior, generator=3, x_init=guide).x
    rng, levels, shown = Rng(3, [0]), prior.sigmas(5, "karras", 0.3), operator.mask.bool()
    e = rng.normal((1, 1, SIZE), y)

    def held(x, level):
        return torch.where(shown, y + math.sqrt(level**2 - sigma_y**2) * e, x) if level >= sigma_y else x

    x = held(guide + levels[0] * rng.normal((1, 1, SIZE), y), levels[0])
    for sigma, following in itertools.pairwise(levels):
        mean = 0.5 + (x - 0.5) * 0.0625 / (0.0625 + sigma**2)
        ratio = 1 - (following / sigma) ** 2
        if following == 0:
            x = mean
        else:
            x = mean + following / sigma * math.sqrt(1 - ratio) * (x - mean) + following * math.sqrt(ratio) * rng.normal((1, 1, SIZE), y)
        x = held(x, following)
    assert torch.allclose(found, x, rtol=0, atol=1e-12)


def test_sdedit_tends_to_the_guide_and_to_the_prior():
    """Noise of .01 moves a pixel by six of it at most, the prior's mean by .4 (.01 / .25)^2 in the guide and once more in the estimate.

    From 80 the guide counts (.25 / 80)^2; the mean over chains is the prior's within 4 errors, a pixel's standard deviation being below .3.
    """
    prior, count = GaussianPrior(0.5, 0.25), 1000
    y = torch.full((count, 1, 1, SIZE), 0.9, dtype=DOUBLE)
    problem = Problem(times(1.0), y, GaussianNoise(0.01))
    near = SDEdit(steps=4, sigma=0.01, guide="prior").solve(problem, prior, generator=0).x
    assert float((near - 0.9).abs().max()) < 6 * 0.01 + 2 * 0.4 * 0.04**2
    far = SDEdit(steps=40, sigma=80.0, guide="prior").solve(problem, prior, generator=0).x
    assert abs(float(far.mean()) - 0.5) < 4 * 0.3 / math.sqrt(count * SIZE) + 0.4 * (0.25 / 80) ** 2


def test_mask_mode_needs_a_mask():
    problem = Problem(times(1.0), torch.full((1, 1, 1, SIZE), 0.5, dtype=DOUBLE), GaussianNoise(0.1))
    with pytest.raises(CompatibilityError, match=r"mask=True.*lacks 'mask'"):
        SDEdit(mask=True).solve(problem, GaussianPrior(0.5, 0.25))


@pytest.mark.parametrize(
    ("cls", "name", "inside", "outside"),
    [
        (OneShot, "strength", (1e-9, 1e9), (0, -1.0, math.inf, math.nan)),
        (SDEdit, "sigma", (1e-9, 1e9), (0, -1.0, math.inf, math.nan)),
        (SDEdit, "repeats", (1, 5), (0, -1)),
        (SDEdit, "eta", (0, 1), (-1e-9, 1 + 1e-9, math.nan)),
        (SDEdit, "guide", ("prior", "smooth"), ("other",)),
    ],
    ids=lambda one: getattr(one, "__name__", one if isinstance(one, str) else ""),
)
def test_the_ends_of_every_range(cls, name, inside, outside):
    for value in inside:
        assert getattr(cls(**{name: value}), name) == value
    for value in outside:
        with pytest.raises(InputError, match=name):
            cls(**{name: value})
