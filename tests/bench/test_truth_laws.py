"""The problems of the leaderboard of truth: their priors and posteriors against integrals over grids and dense formulas."""

import math

import pytest
import torch
from invsolve_benchmarks.truth import posteriors
from invsolve_benchmarks.truth.gibbs import Gibbs
from invsolve_benchmarks.truth.increments import KINDS, inverse_gaussian
from invsolve_benchmarks.truth.lattice import Lattice
from invsolve_benchmarks.truth.priors import FieldPrior, LevyPrior
from invsolve_benchmarks.truth.problems import truth_of
from scipy.stats import laplace
from scipy.stats import t as student

from invsolve.rng import Rng
from invsolve.testing.denoisers import denoiser_cases
from invsolve.testing.oracle import Gaussian

LIKE = torch.zeros(1, dtype=torch.float64)
P = 0.2  # of a jump


def density(kind, u, std=0.06):
    """The density of an increment, of a jump where there are jumps, by scipy."""
    scaled = {
        "laplace": lambda: laplace.pdf(u, scale=std / math.sqrt(2)),
        "student": lambda: student.pdf(u / (std / math.sqrt(3)), 3) / (std / math.sqrt(3)),
        "bernoulli-laplace": lambda: laplace.pdf(u, scale=std / math.sqrt(2 * P)),
    }[kind]
    return torch.as_tensor(scaled())


def integrals(kind, loglik, size, reach=0.6, count=61):
    """(mass, mean) of start density x increments x likelihood over x in R^size, on a grid; an atom pins x_{k+1} to x_k."""
    nodes = torch.linspace(0.5 - reach, 0.5 + reach, count, dtype=torch.float64)
    step = float(nodes[1] - nodes[0])
    mass, mean = 0.0, torch.zeros(size, dtype=torch.float64)
    for pattern in range(2 ** (size - 1)):
        jumps = [bool(pattern >> k & 1) for k in range(size - 1)]
        if kind != "bernoulli-laplace" and not all(jumps):
            continue
        free = 1 + sum(jumps)
        axes = torch.meshgrid(*[nodes] * free, indexing="ij")
        x, axis = [axes[0]], 0
        weight = (-0.5 * ((axes[0] - 0.5) / 0.1).square()).exp()
        for jump in jumps:
            axis += jump
            following = axes[axis] if jump else x[-1]
            if jump:
                weight = weight * density(kind, (following - x[-1]).numpy()) * (P if kind == "bernoulli-laplace" else 1)
            else:
                weight = weight * (1 - P)
            x.append(following)
        whole = weight * loglik(torch.stack(x, -1)).exp() * step**free
        mass += float(whole.sum())
        mean += torch.stack([(whole * one).sum() for one in x])
    return mass, mean / mass


@pytest.mark.parametrize("sigma", [0.03, 0.3])
@pytest.mark.parametrize("kind", KINDS)
def test_the_estimate_of_a_process_is_an_integral(kind, sigma):
    """Two samples, by a sum over a square: its spacing .003 against a kink of width .04 gives (h / b)^2 / 12 < 5e-4 of the mean's shift."""
    x = torch.tensor([[0.42, 0.55]], dtype=torch.float64)
    expected = integrals(kind, lambda x0: -0.5 * ((x0 - x[0]) / sigma).square().sum(-1), 2, reach=0.8, count=541)[1]
    found = LevyPrior(kind, 2)(x.reshape(1, 1, 1, 2), sigma).flatten()
    assert torch.allclose(found, expected, rtol=0, atol=5e-4 * sigma + 2e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_half_the_spacing_changes_nothing(kind):
    prior = LevyPrior(kind, 16)
    x0 = prior.sample((1, 1, 16), Rng(0, range(4)), LIKE)
    fine = Lattice(prior.law, prior.start, prior.lattice.reach, 2 * prior.lattice.per_sigma)
    for sigma in (0.02, 0.3, 3.0):
        x = x0 + sigma * Rng(1, range(4)).normal_like(x0)
        assert (prior(x, sigma).flatten(1) - fine.estimate(x.flatten(1), sigma)).abs().max() < 1e-4 * sigma


@pytest.mark.parametrize("kind", KINDS)
def test_the_jacobian_is_the_posterior_covariance(kind):
    """d x0_hat_k / d x_k = Var[x_k | x] / sigma^2, the variance from the messages themselves."""
    prior, sigma = LevyPrior(kind, 6), 0.1
    x = prior.sample((1, 1, 6), Rng(0, [0]), LIKE) + 0.02
    variance = prior.lattice.moments(x.flatten(1), torch.full((6,), sigma, dtype=torch.float64))[1][0]
    jacobian = torch.autograd.functional.jacobian(lambda one: prior(one, sigma).flatten(), x).reshape(6, 6)
    assert torch.allclose(jacobian.diagonal(), variance / sigma**2, rtol=1e-4)
    assert torch.allclose(jacobian, jacobian.T, atol=1e-5)


@pytest.mark.parametrize(("denoiser", "check"), denoiser_cases(FieldPrior(8), *LevyPrior.examples()))
def test_a_prior_keeps_the_contract(denoiser, check):
    check(denoiser)


@pytest.mark.parametrize("kind", KINDS)
def test_the_transform_is_that_of_the_density(kind):
    omega = torch.tensor([3.0, 20.0, 60.0], dtype=torch.float64)
    u = torch.linspace(-6, 6, 600_001, dtype=torch.float64)
    whole = (density(kind, u.numpy()) * (omega[:, None] * u).cos()).sum(1) * float(u[1] - u[0])
    expected = 1 - P + P * whole if kind == "bernoulli-laplace" else whole
    assert torch.allclose(KINDS[kind].transform(omega), expected, rtol=0, atol=1e-4)  # Student beyond 6: (c / 6)^3


@pytest.mark.parametrize("kind", KINDS)
def test_the_latent_variances_are_those_of_the_law(kind):
    """u ~ law, tau | u: then tau ~ its law again, and u has the law's second moment; what is compared is bounded, 4 standard errors."""
    law, rng, like = KINDS[kind], Rng(5, [0]), torch.zeros(200_000, dtype=torch.float64)
    tau = law.variances(rng, like)
    u = tau.sqrt() * rng.normal(like.shape, like)[0]
    again = law.conditional(u, rng)
    chosen = tau > 0  # of increments that are jumps
    for bound in (0.5, 2.0):
        first, second = ((one[chosen] / law.std**2).clamp_max(bound) for one in (tau, again))
        assert abs(float(first.mean() - second.mean())) < 4 * math.sqrt(2 * float(first.var()) / len(first))
    inside = float((u.abs() < law.std).double().mean())
    share = {"laplace": 1 - math.exp(-math.sqrt(2)), "student": 2 * student.cdf(math.sqrt(3), 3) - 1}
    expected = share.get(kind, 1 - P * math.exp(-math.sqrt(2 * P)))
    assert abs(inside - expected) < 4 * math.sqrt(expected * (1 - expected) / len(u))


def test_inverse_gaussian_draws_have_their_moments():
    """E x = m and E 1/x = 1/m + 1/shape, also where m is far above the shape and the textbook's root cancels."""
    for mean in (0.3, 300.0):
        x = inverse_gaussian(torch.full((200_000,), mean, dtype=torch.float64), 2.0, Rng(0, [0]))
        inverse = 1 / x
        assert abs(float(inverse.mean()) - (1 / mean + 0.5)) < 4 * float(inverse.std()) / math.sqrt(len(x))
        assert bool((x > 0).all())


@pytest.mark.parametrize("kind", KINDS)
def test_gibbs_agrees_with_an_integral(kind):
    """Three samples behind two equations; the chains say how sure their mean is, the grid (spacing .02, kink of .04) is good to 2 %."""
    prior, sigma = LevyPrior(kind, 3), 0.08
    matrix = torch.tensor([[1.0, 0.5, -0.5], [0.0, 1.0, 1.0]], dtype=torch.float64)
    y = torch.tensor([[0.62, 1.15]], dtype=torch.float64)
    mean = integrals(kind, lambda x: -0.5 * ((x @ matrix.T - y[0]) / sigma).square().sum(-1), 3)[1]
    draws = Gibbs(prior, matrix, sigma).draws(y, 128, 20, 0)[0]
    error = draws.mean(1).std(0) / math.sqrt(128)
    assert ((draws.mean((0, 1)) - mean).abs() < 4 * error + 0.02 * draws.flatten(0, 1).std(0)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_gibbs_agrees_with_the_messages_behind_a_mask(kind):
    """Mean and variance of every sample, which the lattice has exactly where each is measured alone."""
    prior, kept, sigma = LevyPrior(kind, 8), [0, 1, 4, 5, 7], 0.05
    x0 = prior.sample((1, 1, 8), Rng(2, [0]), LIKE).flatten(1)
    matrix = torch.eye(8, dtype=torch.float64)[kept]
    y = x0 @ matrix.T
    levels, wide = torch.full((8,), math.inf, dtype=torch.float64), torch.zeros(1, 8, dtype=torch.float64)
    levels[kept], wide[:, kept] = sigma, y
    mean, variance = prior.lattice.moments(wide, levels)
    draws = Gibbs(prior, matrix, sigma).draws(y, 128, 20, 0)[0]
    error = draws.mean(1).std(0) / math.sqrt(128)
    assert ((draws.mean((0, 1)) - mean[0]).abs() < 4 * error).all()
    spread = (draws - mean[0]).square().mean(1)
    assert ((spread.mean(0) - variance[0]).abs() < 4.5 * spread.std(0) / math.sqrt(128)).all()


def test_the_field_is_the_dense_gaussian():
    prior = FieldPrior(6)
    eye = torch.eye(36, dtype=torch.float64).reshape(36, 1, 6, 6)
    cov = torch.fft.ifft2(torch.fft.fft2(eye) * prior.spectrum).real.reshape(36, 36)
    law = Gaussian(torch.full((36,), 0.5, dtype=torch.float64), cov)
    assert abs(float(cov.diagonal().mean()) - prior.s0**2) < 1e-12
    gain, offset = law.denoiser(0.3)
    x = prior.sample((1, 6, 6), Rng(0, range(2)), LIKE)
    assert torch.allclose(prior(x, 0.3).flatten(1), x.flatten(1) @ gain.T + offset, atol=1e-10)


def test_the_posterior_of_a_field_is_the_dense_one_in_its_view():
    """Fourier coefficients of a 12 x 12 field behind a blur: means equal, covariance diagonal with the variances of the closed form."""
    prior, side, sigma = FieldPrior(12), 12, 0.1
    point = torch.zeros(side, side, dtype=torch.float64)
    point[0, 0], point[0, 1], point[1, 0], point[0, -1] = 0.5, 0.25, 0.15, 0.1
    transfer = torch.fft.fft2(point)
    eye = torch.eye(side**2, dtype=torch.float64).reshape(-1, side, side)
    matrix = torch.fft.ifft2(torch.fft.fft2(eye) * transfer).real.reshape(side**2, -1).T
    cov = torch.fft.ifft2(torch.fft.fft2(eye) * prior.spectrum).real.reshape(side**2, -1)
    law = Gaussian(torch.full((side**2,), 0.5, dtype=torch.float64), cov)
    y = law.sample(2, 3) @ matrix.T
    found = posteriors.spectral(prior, transfer, y.reshape(2, 1, side, side), sigma, per_band=4)
    basis = found.view(eye.flatten(1) + 0.5)  # a row for every pixel
    for index in range(2):
        exact = law.posterior(matrix, y[index], sigma)
        assert torch.allclose(found.mean[index], (exact.mean - 0.5) @ basis, atol=1e-9)
        assert torch.allclose(found.cov[index], basis.T @ exact.cov @ basis, atol=1e-9)


def test_the_posterior_of_a_mixture_is_an_integral():
    """Two dimensions, three modes, one equation: weights, mean and covariance by a sum over the plane; draws have those moments."""
    means = torch.tensor([[0.2, 0.3], [0.7, 0.4], [0.5, 0.9]], dtype=torch.float64)
    weights, matrix = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64), torch.tensor([[0.6, 0.8]], dtype=torch.float64)
    std, sigma, y = 0.08, 0.1, torch.tensor([[0.72]], dtype=torch.float64)
    found = posteriors.mixture(means, weights, std, matrix, y, sigma, torch.eye(2, dtype=torch.float64))
    nodes = torch.linspace(-0.3, 1.5, 721, dtype=torch.float64)
    plane = torch.cartesian_prod(nodes, nodes)
    parts = weights * (-0.5 * torch.cdist(plane, means).square() / std**2).exp()
    parts = parts * (-0.5 * ((plane @ matrix.T - y) / sigma).square()).exp()
    total = parts.sum()
    mean = parts.sum(1) @ plane / total
    cov = (plane - mean).T @ ((plane - mean) * parts.sum(1, keepdim=True)) / total
    assert torch.allclose(found.weights[0], parts.sum(0) / total, atol=1e-8)
    assert torch.allclose(found.mean[0], mean, atol=1e-8)
    assert torch.allclose(found.cov[0], cov, atol=1e-8)
    draws = found.draws(20_000, 0)[0]
    assert ((draws.mean(0) - mean).abs() < 4 * (cov.diagonal() / 20_000).sqrt()).all()
    assert torch.allclose(found.modes(draws[None]).mean(1)[0], found.weights[0], atol=4 * 0.5 / math.sqrt(20_000))


def test_a_gaussian_problem_has_the_posterior_of_its_matrix():
    """The mask's rows, the truths and the noise of a problem as it is solved: y - A x is noise of the stated level."""
    truth = truth_of("correlated mask 0.05")
    matrix, y = truth.seen
    assert matrix.shape == (12, 16)
    residual = (y - truth.x.flatten(1) @ matrix.T) / truth.sigma
    assert abs(float(residual.square().mean()) - 1) < 4 * math.sqrt(2 / residual.numel())
    apart = (truth.x.flatten(1) - truth.posterior.mean).square().sum(1)
    size = float(truth.posterior.cov[0].trace())
    spread = math.sqrt(2 * float(truth.posterior.cov[0].square().sum()) / len(apart))
    assert abs(float(apart.mean()) - size) < 4 * spread  # the truths are draws of the posteriors too
