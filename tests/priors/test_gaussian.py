"""The closed-form priors are what they say: Tweedie's identities, the exact posterior, the combination rule for A = I."""

import pytest
import torch

from invsolve.errors import InputError
from invsolve.priors import GaussianMixturePrior, GaussianPrior
from invsolve.rng import Rng
from invsolve.testing.oracle import Gaussian, empirical, standard_errors

TOL = 1e-10  # float64 algebra on matrices of condition below 1e4: eps * cond = 2e-12, sums of a few dozen terms
SHAPE, SIZE = (1, 2, 4), 8
LIKE = torch.zeros(1, dtype=torch.float64)
LEVELS = [0.05, 0.6, 9.0]


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def covariance():
    """Eigenvalues from 0.3 to 0.003, correlated."""
    q = torch.linalg.qr(draw(SIZE, SIZE)).Q
    return (q * torch.logspace(-0.52, -2.5, SIZE, dtype=torch.float64)) @ q.T


def law():
    return Gaussian(0.3 + 0.1 * draw(SIZE, seed=1), covariance())


def gaussian():
    return GaussianPrior(law().mean.reshape(SHAPE), cov=law().cov)


def mixture():
    return GaussianMixturePrior(draw(4, *SHAPE, seed=2), std=0.2, weights=torch.tensor([0.1, 0.4, 0.3, 0.2]))


def components(prior):
    """(weights, means (K, n), covariance (n, n)) of either prior."""
    if isinstance(prior, GaussianPrior):
        return torch.ones(1, dtype=torch.float64), prior.mean.reshape(1, -1), covariance()
    return prior.log_weights.exp(), prior.means.flatten(1), prior.std**2 * torch.eye(SIZE, dtype=torch.float64)


def exact_moments(prior, x, spread):
    """E and Cov[x0 | x0 + N(0, spread) = x] by the textbook formulas, independent of the prior's own code."""
    weights, means, cov = components(prior)
    total = torch.distributions.MultivariateNormal(means, cov + spread)
    r = torch.softmax(weights.log() + total.log_prob(x), 0)
    gain = cov @ torch.linalg.inv(cov + spread)
    each = means + (x - means) @ gain.T
    mean = r @ each
    return mean, cov - gain @ cov + (each.T * r) @ each - torch.outer(mean, mean)


@pytest.mark.parametrize("make", [gaussian, mixture])
@pytest.mark.parametrize("sigma", LEVELS)
def test_denoiser_is_the_posterior_mean(make, sigma):
    prior = make()
    x = 0.5 + draw(1, *SHAPE, seed=3)
    mean, _ = exact_moments(prior, x.flatten(), sigma**2 * torch.eye(SIZE, dtype=torch.float64))
    assert torch.allclose(prior(x, sigma).flatten(), mean, rtol=0, atol=TOL)


@pytest.mark.parametrize("make", [gaussian, mixture])
@pytest.mark.parametrize("sigma", LEVELS)
def test_tweedie_second_order(make, sigma):
    """Cov[x0 | x] = sigma^2 dD/dx, for every prior."""
    prior = make()
    x = 0.5 + draw(1, *SHAPE, seed=3)
    jacobian = torch.autograd.functional.jacobian(lambda z: prior(z, sigma), x).reshape(SIZE, SIZE)
    _, cov = exact_moments(prior, x.flatten(), sigma**2 * torch.eye(SIZE, dtype=torch.float64))
    assert torch.allclose(sigma**2 * jacobian, cov, rtol=0, atol=TOL)


@pytest.mark.parametrize("make", [gaussian, mixture])
@pytest.mark.parametrize("sigma", LEVELS)
def test_tweedie_first_order(make, sigma):
    """The score of the smoothed law is (D - x) / sigma^2."""
    prior = make()
    weights, means, cov = components(prior)
    smoothed = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(weights),
        torch.distributions.MultivariateNormal(means, cov + sigma**2 * torch.eye(SIZE, dtype=torch.float64)),
    )
    x = (0.5 + draw(1, *SHAPE, seed=4)).requires_grad_(True)
    (score,) = torch.autograd.grad(smoothed.log_prob(x.flatten()), x)
    assert torch.allclose((prior(x, sigma) - x) / sigma**2, score, rtol=0, atol=TOL / min(1, sigma**2))


@pytest.mark.parametrize("make", [gaussian, mixture])
@pytest.mark.parametrize(("sigma", "sigma_y"), [(0.3, 0.1), (0.05, 2.0), (8.0, 0.4)])
def test_two_noisy_views_combine_into_one(make, sigma, sigma_y):
    """A = I: with 1 / s^2 = 1 / sigma^2 + 1 / sigma_y^2 and u = s^2 (x / sigma^2 + y / sigma_y^2), E[x0 | x, y] = D(u; s)."""
    prior = make()
    x, y = draw(1, *SHAPE, seed=5), draw(1, *SHAPE, seed=6)
    both = (1 / sigma**2 + 1 / sigma_y**2) ** -0.5
    u = both**2 * (x / sigma**2 + y / sigma_y**2)
    weights, means, cov = components(prior)
    # the stacked observation (x, y) = (I; I) x0 + noise, by the textbook
    stack = torch.cat([torch.eye(SIZE, dtype=torch.float64)] * 2)
    noise = torch.diag(torch.tensor([sigma**2] * SIZE + [sigma_y**2] * SIZE, dtype=torch.float64))
    total = stack @ cov @ stack.T + noise
    seen = torch.cat([x.flatten(), y.flatten()])
    r = torch.softmax(weights.log() + torch.distributions.MultivariateNormal(means @ stack.T, total).log_prob(seen), 0)
    each = means + (seen - means @ stack.T) @ torch.linalg.inv(total) @ stack @ cov
    assert torch.allclose(prior(u, both).flatten(), r @ each, rtol=0, atol=TOL)


@pytest.mark.parametrize("sigma", LEVELS)
def test_exact_conditional_denoiser(sigma):
    """E[x0 | x_t, y] = x0_hat + Cov A^T (A Cov A^T + sigma_y^2 I)^-1 (y - A x0_hat) is the denoiser of the posterior law."""
    matrix, y, sigma_y = draw(4, SIZE, seed=7), draw(4, seed=8), 0.1
    posterior = law().posterior(matrix, y, sigma_y)
    x = draw(1, *SHAPE, seed=9)
    x0_hat, cov = exact_moments(gaussian(), x.flatten(), sigma**2 * torch.eye(SIZE, dtype=torch.float64))
    spread = matrix @ cov @ matrix.T + sigma_y**2 * torch.eye(4, dtype=torch.float64)
    guided = x0_hat + cov @ matrix.T @ torch.linalg.inv(spread) @ (y - matrix @ x0_hat)
    conditional = GaussianPrior(posterior.mean.reshape(SHAPE), cov=posterior.cov)
    assert torch.allclose(conditional(x, sigma).flatten(), guided, rtol=0, atol=TOL)


def test_posterior_by_both_formulas():
    """Covariance form and information form of the same posterior."""
    matrix, y, sigma_y = draw(4, SIZE, seed=7), draw(4, seed=8), 0.1
    found = law().posterior(matrix, y, sigma_y)
    precision = torch.linalg.inv(covariance()) + matrix.T @ matrix / sigma_y**2
    cov = torch.linalg.inv(precision)
    mean = cov @ (torch.linalg.inv(covariance()) @ law().mean + matrix.T @ y / sigma_y**2)
    assert torch.allclose(found.cov, cov, rtol=0, atol=TOL)
    assert torch.allclose(found.mean, mean, rtol=0, atol=1e-9)  # two inversions of condition 1e4


def test_diagonal_and_full_covariance_agree():
    x = draw(3, *SHAPE, seed=10)
    full = GaussianPrior(0.5, cov=0.04 * torch.eye(SIZE, dtype=torch.float64))
    for sigma in (0.1, torch.tensor([0.1, 1.0, 10.0], dtype=torch.float64)):
        assert torch.allclose(GaussianPrior(0.5, 0.2)(x, sigma), full(x, sigma), rtol=0, atol=TOL)
    assert full.s0 == pytest.approx(0.2)


def test_degenerate_covariance_stays_finite():
    """Zero eigenvalues: those directions are the mean, at sigma = 0 too."""
    cov = torch.diag(torch.tensor([1.0, 0.0] * 4, dtype=torch.float64))
    prior = GaussianPrior(0.5, cov=cov)
    x = draw(1, *SHAPE)
    out = prior(x, 0.0).flatten()
    assert torch.allclose(out[::2], x.flatten()[::2], atol=1e-12)
    assert torch.allclose(out[1::2], torch.full((4,), 0.5, dtype=torch.float64), atol=1e-12)


def test_mixture_of_one_is_the_gaussian():
    mean = draw(*SHAPE, seed=11)
    x = draw(2, *SHAPE, seed=12)
    for sigma in LEVELS:
        one, plain = GaussianMixturePrior(mean[None], std=0.3), GaussianPrior(mean, 0.3)
        assert torch.allclose(one(x, sigma), plain(x, sigma), rtol=0, atol=TOL)


def test_samples_follow_the_law():
    """Within 5 standard errors in every entry (72 entries: 4 would fail once in 200 seeds)."""
    samples = gaussian().sample(SHAPE, Rng(0, range(4000)), LIKE)
    assert max(standard_errors(samples.flatten(1), law())) < 5
    weights, means, cov = components(mixture())
    centre = weights @ means
    mixed = empirical(mixture().sample(SHAPE, Rng(1, range(4000)), LIKE).flatten(1))
    spread = cov + ((means - centre).T * weights) @ (means - centre)
    assert float(((mixed.mean - centre) / (spread.diagonal() / 4000).sqrt()).abs().max()) < 5


def test_log_prob_is_the_gaussian_density_up_to_a_constant():
    x = draw(2, *SHAPE, seed=13)
    density = torch.distributions.MultivariateNormal(law().mean, covariance()).log_prob(x.flatten(1))
    found = gaussian().log_prob(x)
    assert float(found[0] - found[1]) == pytest.approx(float(density[0] - density[1]), abs=1e-8)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: GaussianPrior(0.5, 0.0), "std must be positive"),
        (lambda: GaussianPrior(0.5, float("nan")), "std must be positive"),
        (lambda: GaussianPrior(cov=torch.ones(3)), "symmetric"),
        (lambda: GaussianPrior(cov=-torch.eye(3)), "negative eigenvalue"),
        (lambda: GaussianMixturePrior(torch.zeros(2, 1, 2, 2), weights=torch.tensor([1.0, 0.0])), "positive weight"),
        (lambda: GaussianMixturePrior(torch.zeros(2, 1, 2, 2), weights=torch.ones(3)), "2 means"),
    ],
)
def test_nonsense_is_refused(make, words):
    with pytest.raises(InputError, match=words):
        make()
