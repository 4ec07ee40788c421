"""The particle sampler against closed forms: the law that it converges to, and the weights of modes, as its particles grow."""

import itertools
import math

import pytest
import torch
from invsolve_operators import Identity

from invsolve import GaussianNoise, Problem
from invsolve.operator.algebra import Scaled
from invsolve.priors import GaussianMixturePrior, GaussianPrior
from invsolve.rng import Rng
from invsolve.schedule import karras
from invsolve.solvers import TDS
from invsolve.testing.oracle import Bias, DenseOperator, Gaussian, empirical, gaussian_case, normal, propagate

DOUBLE, SIGMA_Y = torch.float64, 0.05


def ancestral(law, prior, sigmas):
    """The law of what the ancestral chain gives with these levels: what stands for the prior."""
    eye = torch.eye(len(law.mean), dtype=DOUBLE)

    def steps():
        for sigma, following in itertools.pairwise(sigmas):
            gain, offset = law.denoiser(sigma)
            k = 1 - (following / sigma) ** 2
            yield (1 - k) * eye + k * gain, k * offset, following**2 * k * eye

    return propagate(Gaussian(torch.full_like(law.mean, 0.5), sigmas[0] ** 2 * eye), steps())


@pytest.mark.parametrize("name", ["G", "I"])
def test_it_converges_to_the_ancestral_law_given_y(name):
    """Mean and covariance with 24 particles, and against 2, to what the chains may be off by."""
    law, prior, matrix, y = gaussian_case(name, 1, sigma=SIGMA_Y)
    chains, steps = 300, 20
    exact = ancestral(law, prior, karras(steps, 0.002, 20 * prior.s0)).posterior(matrix, y, SIGMA_Y)
    problem = Problem(DenseOperator(matrix), y.expand(chains, len(y)), GaussianNoise(SIGMA_Y))
    few, many = (Bias.of(empirical(TDS(steps, count).solve(problem, prior, generator=0).x), exact) for count in (2, 24))
    # one standard error of the mean of N draws of the posterior is 1 / sqrt(N) of its standard deviations; of the covariance
    # sqrt(((tr C)^2 + |C|^2) / N) / |C|, as E|C_N - C|^2 of Gaussian draws. The bias left is of order 1 / 24.
    mean, cov = 1 / math.sqrt(chains), math.sqrt((float(exact.cov.trace() / exact.cov.norm()) ** 2 + 1) / chains)
    assert many.mean < 3 * mean + 1 / 24
    assert many.cov < 1.5 * cov + 1 / 24
    assert many.mean < 0.6 * few.mean


def mode_weights(prior, matrix, y, sigma):
    """Posterior weights of the components, w_k N(y; A m_k, std^2 A A^T + sigma^2)."""
    spread = prior.std**2 * matrix @ matrix.T + sigma**2 * torch.eye(len(matrix), dtype=DOUBLE)
    law = torch.distributions.MultivariateNormal(prior.means.flatten(1) @ matrix.T, spread)
    return torch.softmax(prior.log_weights + law.log_prob(y), 0)


def shares(prior, matrix, y, sigma, solver, chains, seed=0):
    """What share of the answers lies next to each component's posterior mean."""
    problem = Problem(DenseOperator(matrix, prior.in_shape), y.expand(chains, len(y)), GaussianNoise(sigma), check_range=False)
    x = solver.solve(problem, prior, generator=seed).x.flatten(1)
    eye = prior.std**2 * torch.eye(x.shape[1], dtype=DOUBLE)
    means = torch.stack([Gaussian(mean, eye).posterior(matrix, y, sigma).mean for mean in prior.means.flatten(1)])
    return torch.bincount((x[:, None] - means).square().sum(2).argmin(1), minlength=len(means)) / chains


def test_the_weights_of_two_modes():
    """y nearly tells the modes apart, the wrong way round to the prior's weights. Off by 4 binomial standard errors and 1 / particles."""
    means = torch.tensor([[0.2, 0.2], [0.6, 0.8]], dtype=DOUBLE).reshape(2, 1, 1, 2)
    prior = GaussianMixturePrior(means, std=0.1, weights=torch.tensor([0.8, 0.2]))
    matrix, y, sigma, chains = torch.tensor([[1.0, 0.0]], dtype=DOUBLE), torch.tensor([0.46], dtype=DOUBLE), 0.1, 500
    exact = mode_weights(prior, matrix, y, sigma)
    off = []
    for count in (1, 24):
        found = shares(prior, matrix, y, sigma, TDS(30, count), chains)
        off.append(float((found - exact).abs()[0]))
    assert 0.3 < float(exact[0]) < 0.7
    assert off[1] < 4 * math.sqrt(float(exact.prod()) / chains) + 1 / 24
    assert off[1] < off[0] / 3


def test_the_grid_of_25_modes():
    """MCGdiff's benchmark at d = 8 in units in which the modes are 1/4 apart: one row of y, weights of chance."""
    places = torch.tensor(list(itertools.product(range(-2, 3), repeat=2)), dtype=DOUBLE) / 4
    prior = GaussianMixturePrior(places.repeat(1, 4).reshape(25, 1, 1, 8), std=1 / 32, weights=normal(25, seed=4).square() + 0.01)
    matrix = normal(1, 8, seed=5) / math.sqrt(8)
    y, sigma, chains = matrix @ prior.means[7].flatten() + 0.01, 0.05, 200
    exact = mode_weights(prior, matrix, y, sigma)
    distance = [float((shares(prior, matrix, y, sigma, TDS(30, count), chains) - exact).abs().sum() / 2) for count in (1, 24)]
    # the mean total variation of N independent draws: E|share - w| = sqrt(2 w (1 - w) / (pi N)) each
    floor = float((2 * exact * (1 - exact) / (math.pi * chains)).sqrt().sum() / 2)
    assert int((exact > 0.02).sum()) >= 4
    assert distance[1] < 2 * floor + 1 / 24
    assert distance[1] < distance[0] / 2


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_by_hand(threshold):
    """H = 2, three particles, three levels: every log density written out, for never and for always drawing anew."""
    prior, shape, count = GaussianPrior(0.5, 0.25), (1, 1, 2), 3
    y = torch.tensor([1.3, 0.8], dtype=DOUBLE).reshape(1, *shape)
    problem = Problem(Scaled(Identity(shape), 2.0), y, GaussianNoise(0.3), check_range=False)
    solver = TDS(3, count, threshold, sigma_max=2.0)
    sigmas, rng, target = solver.sigmas(prior), Rng(0, [0]), y.flatten()
    x = 0.5 + sigmas[0] * rng.normal((count, *shape), y).reshape(count, 2)

    def normal_log(value, mean, variance):
        return -((value - mean) ** 2).sum(-1) / (2 * variance) - math.log(2 * math.pi * variance)

    def chosen(weights, places):
        total = [sum(weights[: index + 1]) for index in range(count)]
        return [next(index for index in range(count) if total[index] >= place or index == count - 1) for place in places]

    weights, before = torch.zeros(count, dtype=DOUBLE), torch.zeros(count, dtype=DOUBLE)
    for sigma, following in itertools.pairwise(sigmas):
        r = 0.0 if following == 0 else (1 / 16) * sigma**2 / (1 / 16 + sigma**2)
        x0 = 0.5 + (1 / 16) / (1 / 16 + sigma**2) * (x - 0.5)
        twist = normal_log(target, 2 * x0, 0.09 + 4 * r)
        weights = weights + twist - before
        share = (weights - weights.logsumexp(0)).exp()
        u = float(rng.uniform((1,), y))
        if following == 0:
            answer = x0[chosen(share.tolist(), [u])[0]]
            break
        if threshold == 1.0:
            order = chosen(share.tolist(), [(index + u) / count for index in range(count)])
            x, x0, twist, weights = x[order], x0[order], twist[order], torch.zeros(count, dtype=DOUBLE)
        k = 1 - (following / sigma) ** 2
        plain = x + k * (x0 - x)
        guided = plain + k * 2 * r / (0.09 + 4 * r) * (target - 2 * x0)
        variance = following**2 * k
        x = guided + math.sqrt(variance) * rng.normal((count, *shape), y).reshape(count, 2)
        weights = weights + normal_log(x, plain, variance) - normal_log(x, guided, variance)
        before = twist
    found = solver.solve(problem, prior, generator=Rng(0, [0]), keep=1)
    assert torch.allclose(found.x.flatten(), answer, rtol=0, atol=1e-10)
    assert float(found.trace[-1].stats["ess"]) == pytest.approx(float(1 / share.square().sum()), rel=1e-8)
    assert torch.allclose(found.trace[-1].state["log_weights"].exp().flatten(), share, rtol=0, atol=1e-10)
