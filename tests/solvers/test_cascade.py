"""Cascades: of exact samplers they draw from p(x | y) of the whole; what does not fit is refused."""

import math

import pytest
import torch

from invsolve import CompatibilityError, GaussianNoise, InputError, Operator, Problem
from invsolve.priors.conditional import ConditionalPrior
from invsolve.priors.made_for import MadeFor
from invsolve.priors.pairs import GaussianPairs, neighbours, smooth_covariance
from invsolve.priors.staged import StagedPrior
from invsolve.solvers import DDIM, Cascade, Heun, Stage, cascade

LARGE, MIDDLE, SMALL = (1, 2, 8), (1, 2, 4), (1, 2, 2)
SIZE = 16
DRAWS = 1500


def table(matrix, shape):
    return {"name": "matrix", "matrix": matrix.tolist(), "out_shape": list(shape)}


def stages(noise, between=0.0):
    """p(z | y) and p(x | z) in closed form for x ~ N(1/2, C), z = A x, y = B z + noise."""
    a, b, c = neighbours(LARGE), neighbours(MIDDLE), smooth_covariance(LARGE)
    solver = Heun(steps=40)
    made = []
    for shape, fewer, matrix, cov, level in ((MIDDLE, SMALL, b, a @ c @ a.T, noise), (LARGE, MIDDLE, a, c, between)):
        made_for = MadeFor((table(matrix, fewer),), noise=(level, level), up="pinv", shape=shape)
        network = GaussianPairs(shape, 0.5, cov, matrix, level)
        prior = ConditionalPrior(network, made_for, sigma_range=(0.002, 80.0), precision="float64")
        made.append(Stage(Operator.from_matrix(matrix, shape, fewer), prior, between if shape == LARGE else 0.0, solver))
    return made


def one_problem(noise, draws=DRAWS):
    operator = Operator.from_matrix(neighbours(MIDDLE) @ neighbours(LARGE), LARGE, SMALL)
    x = torch.linspace(0.1, 0.9, SIZE, dtype=torch.float64).reshape(1, *LARGE)
    return Problem.simulate(operator, x, GaussianNoise(noise), generator=0).repeat(draws)


def law(problem, noise, between=0.0):
    """x | y where y = B (A x + between n) + noise n': as if y were of x directly, its noise that of both."""
    a, b, c = neighbours(LARGE), neighbours(MIDDLE), smooth_covariance(LARGE)
    seen = b @ a
    spread = noise**2 * torch.eye(len(b), dtype=torch.float64) + between**2 * b @ b.T
    gain = torch.linalg.solve(seen @ c @ seen.T + spread, seen @ c).T
    return 0.5 + gain @ (problem.y[0].flatten() - 0.5), c - gain @ seen @ c


def test_two_exact_stages_draw_from_the_posterior_of_the_whole():
    """chi^2 of the mean, and the mean of the whitened squares, within four standard deviations of each."""
    problem = one_problem(0.05)
    mean, cov = law(problem[0], 0.05)
    z, x = cascade(problem, stages(0.05), generator=1)
    assert z.x.shape[1:] == MIDDLE
    white = (x.x.flatten(1) - mean) @ torch.linalg.cholesky(torch.linalg.inv(cov))
    assert abs(float(DRAWS * white.mean(0).square().sum()) - SIZE) < 4 * math.sqrt(2 * SIZE)
    assert abs(float(white.square().mean()) - 1) < 4 * math.sqrt(2 / (DRAWS * SIZE))
    # The means of x's neighbours are z: the second stage measured it without noise.
    assert torch.allclose(x.x.flatten(1) @ neighbours(LARGE).T, z.x.flatten(1), atol=1e-3)


def test_noise_between_the_stages_widens_what_is_drawn_as_its_law_says():
    """z ~ p(z | y), then x ~ p(x | z + s n): a Gaussian of mean m + K (E z - m) and covariance C_x + K (Cov z + s^2) K^T."""
    problem, s = one_problem(0.05), 0.1
    a, c = neighbours(LARGE), smooth_covariance(LARGE)
    mean_z, cov_z = (a @ value for value in law(problem[0], 0.05))
    cov_z = cov_z @ a.T
    gain = torch.linalg.solve(a @ c @ a.T + s**2 * torch.eye(len(a), dtype=torch.float64), a @ c).T
    mean = 0.5 + gain @ (mean_z - 0.5)
    cov = c - gain @ a @ c + gain @ (cov_z + s**2 * torch.eye(len(a), dtype=torch.float64)) @ gain.T
    x = cascade(problem, stages(0.05, s), generator=2)[-1].x
    white = (x.flatten(1) - mean) @ torch.linalg.cholesky(torch.linalg.inv(cov))
    assert abs(float(DRAWS * white.mean(0).square().sum()) - SIZE) < 4 * math.sqrt(2 * SIZE)
    assert abs(float(white.square().mean()) - 1) < 4 * math.sqrt(2 / (DRAWS * SIZE))


def test_samples_have_first_stages_of_their_own_and_items_do_not_depend_on_the_batch():
    problem = one_problem(0.05, 2)
    z, x = cascade(problem, stages(0.05), generator=3, samples=2)
    assert x.x.shape == (2, 2, *LARGE)
    assert len({float(value) for value in z.x[..., 0, 0, 0].flatten()}) == 4
    plain = cascade(problem, stages(0.05), generator=3)[-1]
    assert torch.allclose(plain.x, x.x[0], atol=1e-10)
    alone = cascade(problem[1], stages(0.05), generator=3)[-1]
    assert torch.allclose(alone.x[0], plain.x[1], atol=1e-10)
    assert torch.equal(plain.x, cascade(problem, stages(0.05), generator=3)[-1].x)


def test_what_does_not_fit_is_refused():
    problem, (first, second) = one_problem(0.05, 1), stages(0.05)
    mean = Operator.from_matrix(torch.ones(4, 16, dtype=torch.float64) / 16, LARGE, SMALL)
    other = Problem.simulate(mean, problem.image, GaussianNoise(0.05))
    for bad, match in (
        (([]), "at least one"),
        (([second, first]), "small to large"),
        (([Stage(first.operator, first.prior, 0.1), second]), "first stage"),
    ):
        with pytest.raises(InputError, match=match):
            cascade(problem, bad)
    with pytest.raises(InputError, match="are not the problem's"):
        cascade(other, [first, second])


def test_the_solver_draws_from_the_posterior_of_the_whole():
    """As the call with exact stages does; 300 steps of DDIM leave the spread .5 % too small, found with ten times as many draws."""
    problem = one_problem(0.05)
    mean, cov = law(problem[0], 0.05)
    x = Cascade(steps=300).solve(problem, StagedPrior(*(stage.prior for stage in stages(0.05))), generator=4)
    white = (x.x.flatten(1) - mean) @ torch.linalg.cholesky(torch.linalg.inv(cov))
    assert abs(float(DRAWS * white.mean(0).square().sum()) - SIZE) < 4 * math.sqrt(2 * SIZE)
    assert abs(float(white.square().mean()) - 1) < 0.01 + 4 * math.sqrt(2 / (DRAWS * SIZE))
    assert x.nfe == 600


def test_another_sampler_sees_the_mean_of_the_stage_before():
    """D(x, top) = E[x | z = E[z | y]], which is E[x | y] of Gaussians; two evaluations a call."""
    problem = one_problem(0.05, 2)
    prior = StagedPrior(*(stage.prior for stage in stages(0.05)))
    x = DDIM(steps=1).solve(problem, prior, generator=0)
    # at the top level, 80, x itself says (.25 / 80)^2 of what is not known
    assert (x.x[0].flatten() - law(problem[0], 0.05)[0]).abs().max() < 80 * 0.25**2 / 80**2 * 4
    assert x.nfe == 2


def test_stages_that_do_not_follow_are_refused():
    first, second = (stage.prior for stage in stages(0.05, 0.1))
    for bad, match in (((first,), "two or more"), ((second, first), "small to large"), ((first, object()), "two or more")):
        with pytest.raises(InputError, match=match):
            StagedPrior(*bad)
    with pytest.raises(CompatibilityError, match="above what the later ones were trained for, 0"):
        Cascade(noise=0.2).solve(one_problem(0.05, 1), StagedPrior(*(stage.prior for stage in stages(0.05))))
    with pytest.raises(CompatibilityError, match="does not serve"):
        Cascade().solve(one_problem(0.3, 1), StagedPrior(first, second))
