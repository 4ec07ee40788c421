"""Guided samplers against closed forms: exact conditional denoisers, the exact laws of affine samplers, hand recursions, GMRES.

Under a Gaussian prior J is a matrix, so that every sampler here is affine in (x_T, y, z): its law follows by the recursion of mean and
covariance, written here with dense matrices, and N chains must agree with it within four standard errors in every entry.
"""

import itertools
import math
from dataclasses import fields, replace

import pytest
import torch
from invsolve_operators import BlockMean, GaussianBlur, Identity, Mask

from invsolve import GaussianNoise, InputError, Problem
from invsolve.operator.algebra import Scaled, Stack
from invsolve.operator.iterative import matrix as dense
from invsolve.priors import GaussianPrior
from invsolve.rng import Rng
from invsolve.solvers import JFPS, MCG, MMPS, MPGD, PiGDM
from invsolve.solvers.guidance.common import from_rows, linearised, rows_of
from invsolve.solvers.guidance.gmres import gmres
from invsolve.testing.oracle import Bias, DenseOperator, Gaussian, gaussian_case, normal, propagate, standard_errors
from invsolve.testing.pooled import Pooled

DOUBLE = torch.float64
SIZE, CHAINS, STEPS, TOP, SIGMA_Y = 8, 1500, 8, 2.0, 0.05


def eye(size):
    return torch.eye(size, dtype=DOUBLE)


def warm(prior, sigma, matrix, y, sigma_y=SIGMA_Y):
    """sigma z about the mean of N(centre, s0^2) given y."""
    size = matrix.shape[1]
    white = Gaussian(torch.full((size,), prior.centre, dtype=DOUBLE), prior.s0**2 * eye(size))
    return Gaussian(white.posterior(matrix, y, sigma_y).mean, sigma**2 * eye(size))


def generic(gain, shift, sigma, following, eta):
    """One generic step about D^y = gain x + shift."""
    ratio = 1 - (following / sigma) ** 2
    kept = following / sigma * math.sqrt(1 - eta**2 * ratio)
    size = len(shift)
    return gain + kept * (eye(size) - gain), (1 - kept) * shift, following**2 * eta**2 * ratio * eye(size)


def law_of(begin, sigmas, given, eta, after=None):
    """The law of the answer; given(sigma) is (F, f) with D^y = F x + f, after(following, kept) what is done to the state of each level."""

    def steps():
        for sigma, following in itertools.pairwise(sigmas):
            gain, shift = given(sigma)
            yield generic(gain, shift, sigma, following, eta)
            if after is not None:
                yield after(sigma, following)

    return propagate(begin, steps())


def pulled(law, matrix, y, gain_of):
    """given(sigma) of D^y = D + K (y - A D), K = gain_of(sigma, J)."""

    def given(sigma):
        jacobian, offset = law.denoiser(sigma)
        gain = gain_of(sigma, jacobian)
        left = eye(len(offset)) - gain @ matrix
        return left @ jacobian, left @ offset + gain @ y

    return given


def width(matrix, variance, spread):
    return torch.linalg.inv(variance * matrix @ matrix.T + spread * eye(len(matrix)))


def prior_square(prior, sigma):
    return prior.s0**2 * sigma**2 / (prior.s0**2 + sigma**2)


def descent(matrix, sigma, sigma_y=SIGMA_Y):
    return sigma**2 / (sigma_y**2 + torch.linalg.matrix_norm(matrix, 2) ** 2 * sigma**2)


def replacement(matrix, y, eta, sigma_y=SIGMA_Y):
    """after(sigma, following) of x + K (y + s A z - A x), K the gain at the variance that the step renews, a s^2."""

    def after(sigma, following):
        kept = following / sigma * math.sqrt(1 - eta**2 * (1 - (following / sigma) ** 2))
        gain = matrix.T @ width(matrix, (1 - kept) * following**2, sigma_y**2) * (1 - kept) * following**2
        noise = following * gain @ matrix
        return eye(matrix.shape[1]) - gain @ matrix, gain @ y, noise @ noise.T

    return after


def pigdm(law, prior, matrix, y, square, eta):
    def gain(sigma, jacobian):
        r = square(sigma)
        return sigma**2 * jacobian.T @ matrix.T @ width(matrix, r, SIGMA_Y**2)

    return lambda sigmas: law_of(warm(prior, sigmas[0], matrix, y), sigmas, pulled(law, matrix, y, gain), eta)


def exact(law, prior, matrix, y, eta):
    """The conditional denoiser is that of the posterior: a derivation without J, C or a system."""
    posterior = law.posterior(matrix, y, SIGMA_Y)
    return lambda sigmas: law_of(warm(prior, sigmas[0], matrix, y), sigmas, posterior.denoiser, eta)


def jfps(law, prior, matrix, y, eta):
    def gain(sigma, _):
        r = prior_square(prior, sigma)
        return r * matrix.T @ width(matrix, r, SIGMA_Y**2)

    return lambda sigmas: law_of(warm(prior, sigmas[0], matrix, y), sigmas, pulled(law, matrix, y, gain), eta)


def mpgd(law, prior, matrix, y, scale, eta):
    def gain(sigma, _):
        return scale * descent(matrix, sigma) * matrix.T

    return lambda sigmas: law_of(warm(prior, sigmas[0], matrix, y), sigmas, pulled(law, matrix, y, gain), eta)


def mcg(law, prior, matrix, y, scale, eta):
    def gain(sigma, jacobian):
        return scale * descent(matrix, sigma) * jacobian.T @ matrix.T

    return lambda sigmas: law_of(warm(prior, sigmas[0], matrix, y), sigmas, pulled(law, matrix, y, gain), eta, replacement(matrix, y, eta))


SAMPLERS = {
    "pigdm": (PiGDM(STEPS, sigma_max=TOP), lambda law, prior, a, y: pigdm(law, prior, a, y, lambda sigma: sigma**2, 1.0)),
    "pigdm-posterior": (
        PiGDM(STEPS, eta=0.3, variance="posterior", sigma_max=TOP),
        lambda law, prior, a, y: pigdm(law, prior, a, y, lambda sigma: prior_square(prior, sigma), 0.3),
    ),
    "mmps": (MMPS(STEPS, sigma_max=TOP), lambda law, prior, a, y: exact(law, prior, a, y, 0.7)),
    "mmps-ancestral": (MMPS(STEPS, iterations=6, eta=1.0, sigma_max=TOP), lambda law, prior, a, y: exact(law, prior, a, y, 1.0)),
    "jfps": (JFPS(STEPS, sigma_max=TOP), lambda law, prior, a, y: jfps(law, prior, a, y, 1.0)),
    "mpgd": (MPGD(STEPS, scale=0.8, eta=0.6, sigma_max=TOP), lambda law, prior, a, y: mpgd(law, prior, a, y, 0.8, 0.6)),
    "mcg": (MCG(STEPS, scale=1.2, sigma_max=TOP), lambda law, prior, a, y: mcg(law, prior, a, y, 1.2, 1.0)),
    "mcg-eta": (MCG(STEPS, eta=0.4, sigma_max=TOP), lambda law, prior, a, y: mcg(law, prior, a, y, 0.25, 0.4)),
}


@pytest.mark.parametrize("name", ["G", "I"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_guided_samplers_have_their_exact_law(sampler, name):
    law, prior, matrix, y = gaussian_case(name)
    solver, expected = SAMPLERS[sampler]
    problem = Problem(DenseOperator(matrix), y.expand(CHAINS, -1), GaussianNoise(SIGMA_Y))
    samples = solver.solve(problem, prior, generator=Pooled(0, range(CHAINS))).x
    mean, cov = standard_errors(samples, expected(law, prior, matrix, y)(prior.sigmas(STEPS, sigma_max=TOP)))
    assert mean < 4
    assert cov < 4


# ---- mmps is the control: exact for every Gaussian prior ----

SHAPE = (1, 4, 6)


def field():
    """An exponential covariance on 4 x 6 pixels about a mean that is not grey."""
    places = torch.cartesian_prod(torch.arange(4, dtype=DOUBLE), torch.arange(6, dtype=DOUBLE))
    return Gaussian(torch.linspace(0.3, 0.7, 24, dtype=DOUBLE), 0.25**2 * torch.exp(-torch.cdist(places, places) / 3))


OPERATORS = {
    "dense": DenseOperator(normal(10, 24, seed=3) / 5, SHAPE),
    "mask": Mask(SHAPE, mask=(torch.arange(24).reshape(SHAPE) % 3 > 0).double()),
    "blur": GaussianBlur(SHAPE, sigma=0.9),
}


@pytest.mark.parametrize("sigma_y", [0.05, 0.5])
@pytest.mark.parametrize("name", OPERATORS)
def test_mmps_is_exact_for_every_gaussian_prior(name, sigma_y):
    """Its D^y is the posterior's own denoiser, and with that its law at 100 steps is within .1 s.d. and 6 % of the posterior."""
    law, operator = field(), OPERATORS[name]
    matrix = dense(operator)
    prior = GaussianPrior(law.mean.reshape(SHAPE), cov=law.cov)
    x0 = law.sample(1, 5)
    y = (x0 @ matrix.T + sigma_y * normal(1, len(matrix), seed=6)).reshape(1, *operator.out_shape)
    problem = Problem(operator, y * (operator.supports[0] if operator.supports[0] is not None else 1), GaussianNoise(sigma_y))
    rows = matrix.abs().sum(1) > 0
    posterior = law.posterior(matrix[rows], problem.y.flatten()[rows], sigma_y)
    solver = MMPS(steps=100, iterations=24)
    for sigma in (5.0, 0.4, 0.03):
        x = normal(1, *SHAPE, seed=7) * sigma + x0.reshape(1, *SHAPE)
        gain, offset = posterior.denoiser(sigma)
        found = solver.given_y(problem, prior, x, sigma)[1].flatten()
        # a Krylov space of the whole image leaves what 24 roundings at the system's condition, (sigma^2 + sigma_y^2) / sigma_y^2, leave
        assert float((found - gain @ x.flatten() - offset).abs().max()) < 1e-9
    sigmas = solver.sigmas(prior)
    assert len(sigmas) == 101
    begin = warm(prior, sigmas[0], matrix[rows], problem.y.flatten()[rows], sigma_y)
    bias = Bias.of(law_of(begin, sigmas, posterior.denoiser, solver.eta), posterior)
    assert bias.mean < 0.1
    assert bias.cov < 0.06


@pytest.mark.parametrize("sigma_y", [0.05, 0.5])
def test_pigdm_and_jfps_are_exact_for_white_priors(sigma_y):
    """What is left is the steps': with the prior's own variance D^y is the posterior's denoiser."""
    law, prior, matrix, y = gaussian_case("S", sigma=sigma_y)
    x, sigma = normal(1, 1, 1, SIZE, seed=2), 0.3
    gain, offset = law.posterior(matrix, y, sigma_y).denoiser(sigma)
    problem = Problem(DenseOperator(matrix), y[None], GaussianNoise(sigma_y))
    for solver in (PiGDM(variance="posterior"), JFPS()):
        found = solver.given_y(problem, prior, x, sigma)[1].flatten()
        assert torch.allclose(found, gain @ x.flatten() + offset, rtol=0, atol=1e-11)


@pytest.mark.parametrize("iterations", [1, 2, 3])
def test_mmps_by_hand_with_few_products(iterations):
    """v is the least squares solution in the span of K r, K^2 r, ... in a basis that is not orthogonal."""
    law, prior, matrix, y = gaussian_case("G", 3)
    sigma, x = 0.3, normal(1, 1, 1, SIZE, seed=2)
    problem = Problem(DenseOperator(matrix), y[None], GaussianNoise(SIGMA_Y))
    jacobian, offset = law.denoiser(sigma)
    estimate = jacobian @ x.flatten() + offset
    system = SIGMA_Y**2 * eye(4) + sigma**2 * matrix @ jacobian @ matrix.T
    residual = y - matrix @ estimate
    basis = torch.stack([torch.linalg.matrix_power(system, power) @ residual for power in range(iterations)], 1)
    v = basis @ torch.linalg.lstsq(system @ basis, residual[:, None]).solution[:, 0]
    found = MMPS(iterations=iterations).given_y(problem, prior, x, sigma)[1].flatten()
    assert torch.allclose(found, estimate + sigma**2 * jacobian @ matrix.T @ v, rtol=0, atol=1e-9)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_diagonal_form_by_hand(sign):
    """Row sums of H C H^T, but no less than r^T H C H^T r / r^2: with a row of H turned round the sums of its covariances fall below."""
    law, prior, _, _ = gaussian_case("S")
    matrix = torch.zeros(2, SIZE, dtype=DOUBLE)
    matrix[0, :4], matrix[1, 2:6] = 0.5, sign * 0.5
    y = torch.tensor([1.3, sign * 0.9], dtype=DOUBLE)
    sigma, x = 0.4, torch.full((1, 1, 1, SIZE), 0.6, dtype=DOUBLE)
    jacobian, offset = law.denoiser(sigma)
    estimate = jacobian @ x.flatten() + offset
    square, residual = prior_square(prior, sigma), y - matrix @ estimate
    covariance = square * torch.tensor([[1.0, sign * 0.5], [sign * 0.5, 1.0]], dtype=DOUBLE)
    least = residual @ covariance @ residual / (residual @ residual)
    v = residual / (SIGMA_Y**2 + torch.maximum(covariance.sum(1), least))
    problem = Problem(DenseOperator(matrix), y[None], GaussianNoise(SIGMA_Y), check_range=False)
    found = MMPS(diagonal=True).given_y(problem, prior, x, sigma)[1].flatten()
    assert torch.allclose(found, estimate + square * matrix.T @ v, rtol=0, atol=1e-12)
    assert bool((covariance.sum(1) > least).all()) == (sign > 0)


def test_measurements_of_any_kind_as_rows():
    """A stack of a real and a complex part: the rows go back, and their scalar product is the real one."""
    y = (normal(2, 3, 2, seed=1), torch.view_as_complex(normal(2, 4, 2, seed=2)))
    rows = rows_of(y)
    assert rows.shape == (2, 14)
    assert all(torch.equal(one, two) for one, two in zip(from_rows(rows, y), y, strict=True))
    assert torch.allclose(rows.square().sum(1), y[0].square().sum((1, 2)) + y[1].abs().square().sum(1), rtol=0, atol=1e-12)


def test_mmps_takes_a_stack():
    """Two operators on one image are the dense operator of both."""
    law = field()
    prior = GaussianPrior(law.mean.reshape(SHAPE), cov=law.cov)
    both = Stack(OPERATORS["blur"], BlockMean(SHAPE, factor=2))
    x, x_t = law.sample(1, 8).reshape(1, *SHAPE), normal(1, *SHAPE, seed=9)
    problem = Problem.simulate(both, x, GaussianNoise(0.1), generator=0)
    matrix = torch.cat([dense(one) for one in (OPERATORS["blur"], BlockMean(SHAPE, factor=2))])
    gain, offset = law.posterior(matrix, rows_of(problem.y)[0], 0.1).denoiser(0.5)
    found = MMPS(iterations=30).given_y(problem, prior, x_t, 0.5)[1].flatten()
    assert torch.allclose(found, gain @ x_t.flatten() + offset, rtol=0, atol=1e-9)


# ---- pieces ----


class Bent(GaussianPrior):
    """A denoiser with a Jacobian that is not symmetric, and a clip."""

    clip = (0.0, 1.0)

    def forward(self, x, sigma):
        return x.roll(1, -1) * x


def test_the_product_is_with_the_transposed_jacobian_without_the_clip():
    x, v = normal(2, 1, 1, 5, seed=1) + 1, normal(2, 1, 1, 5, seed=2)
    x0_hat, product = linearised(Bent(), x, 0.1)
    jacobian = torch.autograd.functional.jacobian(lambda one: one.roll(1, -1) * one, x[0].flatten())
    assert torch.allclose(product(v)[0].flatten(), jacobian.T @ v[0].flatten(), rtol=0, atol=1e-14)
    assert torch.equal(x0_hat, (x.roll(1, -1) * x).clamp(0, 1))
    assert bool((x0_hat == 1).any())
    assert not x0_hat.requires_grad


def test_gmres_solves_what_is_not_symmetric_item_by_item():
    """Full span: the solution. Two products: no combination of b and A b has a smaller residual. A right side of 0, and an eigenvector."""
    system = torch.stack([eye(6) + 0.3 * normal(6, 6, seed=seed) for seed in (1, 2, 3, 4)])
    right = normal(4, 6, seed=5)
    right[2] = 0
    right[3] = torch.linalg.solve(system[3], torch.ones(6, dtype=DOUBLE))
    system[3] = 2 * eye(6)

    def apply(v):
        return torch.einsum("bij,bj->bi", system, v)

    assert torch.allclose(gmres(apply, right, 6), torch.linalg.solve(system, right), rtol=0, atol=1e-10)
    found = gmres(apply, right, 2)
    assert torch.equal(found[2], torch.zeros(6, dtype=DOUBLE))
    assert torch.allclose(found[3], right[3] / 2, rtol=0, atol=1e-14)
    basis = torch.stack([right[0], system[0] @ right[0]], 1)
    best = basis @ torch.linalg.lstsq(system[0] @ basis, right[0][:, None]).solution[:, 0]
    assert torch.allclose(found[0], best, rtol=0, atol=1e-12)
    assert torch.allclose(1e100 * gmres(apply, 1e-100 * right, 6), torch.linalg.solve(system, right), rtol=0, atol=1e-10)


def test_jfps_takes_the_priors_slope_or_ones_own():
    prior, x = GaussianPrior(0.5, 0.25), normal(1, *SHAPE, seed=1)
    problem = Problem(OPERATORS["blur"], normal(1, *SHAPE, seed=2) / 5 + 0.5, GaussianNoise(0.1))
    plain, steep = (JFPS(slope=slope).given_y(problem, prior, x, 0.3)[1] for slope in (None, 3.5))
    assert torch.equal(plain, JFPS(slope=0.0).given_y(problem, prior, x, 0.3)[1])
    prior.slope = 3.5
    assert torch.equal(steep, JFPS().given_y(problem, prior, x, 0.3)[1])
    assert float((steep - plain).abs().max()) > 0.01


def shrunk(x, sigma):
    """D of N(1/2, .25^2)."""
    return 0.5 + 0.25**2 / (0.25**2 + sigma**2) * (x - 0.5)


def moved(solver, x0, sigma, following):
    """(D^y, what is done after the step) of H = 2 I, y = 1.4, sigma_y = .1 by the formulas of the classes."""
    jacobian, left = 0.25**2 / (0.25**2 + sigma**2), 1.4 - 2 * x0
    square = sigma**2 * jacobian
    if isinstance(solver, PiGDM):
        r = sigma**2 if solver.variance == "noise" else square
        return x0 + sigma**2 * jacobian * 2 * left / (4 * r + 0.01)
    if isinstance(solver, MMPS | JFPS):
        return x0 + square * 2 * left / (4 * square + 0.01)
    pull = solver.scale * sigma**2 * 2 * left / (0.01 + 4 * sigma**2)
    return x0 + (jacobian if isinstance(solver, MCG) else 1) * pull


BY_HAND = [PiGDM(3), PiGDM(3, variance="posterior"), MMPS(3), JFPS(3), MPGD(3, scale=0.8), MCG(3, scale=0.8)]


@pytest.mark.parametrize("solver", BY_HAND, ids=lambda one: type(one).__name__)
def test_three_steps_by_hand(solver):
    """H = 2: every number of every step, and the draws in their order."""
    solver, shape = replace(solver, eta=0.6, sigma_max=0.5), (1, 2, 3)
    problem = Problem(Scaled(Identity(shape), 2.0), torch.full((1, *shape), 1.4, dtype=DOUBLE), GaussianNoise(0.1), check_range=False)
    prior, rng = GaussianPrior(0.5, 0.25), Rng(0, [0])
    sigmas = solver.sigmas(prior)
    x = (0.5 / 0.25**2 + 2 * 1.4 / 0.01) / (1 / 0.25**2 + 4 / 0.01) + sigmas[0] * rng.normal_like(problem.image)
    for sigma, following in itertools.pairwise(sigmas):
        given = moved(solver, shrunk(x, sigma), sigma, following)
        ratio = 1 - (following / sigma) ** 2
        kept = following / sigma * math.sqrt(1 - 0.36 * ratio)
        x = given + kept * (x - given)
        if following > 0:
            x = x + following * 0.6 * math.sqrt(ratio) * rng.normal_like(x)
            if isinstance(solver, MCG):
                variance = (1 - kept) * following**2
                x = x + 2 * variance / (4 * variance + 0.01) * (1.4 + 2 * following * rng.normal_like(x) - 2 * x)
    assert torch.allclose(solver.solve(problem, prior, generator=0).x, x, rtol=0, atol=1e-12)


DEFAULTS = {
    PiGDM: {"steps": 50, "eta": 1.0, "variance": "noise"},
    MMPS: {"steps": 50, "iterations": 4, "eta": 0.7, "diagonal": False},
    JFPS: {"steps": 50, "slope": None, "eta": 1.0},
    MPGD: {"steps": 50, "scale": 1.0, "eta": 1.0},
    MCG: {"steps": 50, "scale": 0.25, "eta": 1.0},
}
RANGES = [
    *((cls, "eta", (0, 1), (-1e-9, 1 + 1e-9, math.nan)) for cls in DEFAULTS),
    *((cls, "scale", (0, 1.999), (-1e-9, 2.0, math.nan)) for cls in (MPGD, MCG)),
    (PiGDM, "variance", ("noise", "posterior"), ("other",)),
    (MMPS, "iterations", (1, 9), (0, -1)),
    (JFPS, "slope", (None, 0, 9.0), (-1e-9, math.inf, math.nan)),
]


@pytest.mark.parametrize(("cls", "name", "inside", "outside"), RANGES)
def test_the_ends_of_every_range(cls, name, inside, outside):
    for value in inside:
        assert getattr(cls(**{name: value}), name) == value
    for value in outside:
        with pytest.raises(InputError, match=name):
            cls(**{name: value})


@pytest.mark.parametrize("cls", DEFAULTS)
def test_the_defaults_that_were_chosen_on_pictures(cls):
    assert {field.name: getattr(cls(), field.name) for field in fields(cls)} == {**DEFAULTS[cls], "grid": "karras", "sigma_max": None}
