"""Solvers that alternate or follow a flow, against closed forms: Gaussian prior, linear operator, dense float64 algebra written here.

With exact draws daps, pnp-dm, pnp-flow, latino, cm4ir and ot-ode are affine in what they draw, so that the law of their answers follows
from a recursion on mean and covariance. N chains must agree with it within 4 standard errors in every entry; the law's own distance from
the posterior is what the classes declare, and is asserted without sampling error.
"""

import itertools
import math

import pytest
import torch

from invsolve import GaussianNoise, Problem
from invsolve.schedule import karras
from invsolve.solvers import CM4IR, DAPS, LATINO, OTODE, PnPDM, PnPFlow
from invsolve.testing.oracle import Bias, DenseOperator, Gaussian, gaussian_case, propagate, standard_errors, wasserstein
from invsolve.testing.pooled import Pooled

SIZE, ROWS, CHAINS, SIGMA_Y = 8, 4, 1000, 0.05
EYE = torch.eye(SIZE, dtype=torch.float64)
ZERO = torch.zeros(SIZE, SIZE, dtype=torch.float64)


def grid(prior, steps):
    return karras(steps, 0.002, 20 * prior.s0)


def pulled(a, tau):
    """K of x + K (y - A x): the minimiser of |y - A x'|^2 + |x' - x|^2 / tau."""
    return a.T @ torch.linalg.inv(a @ a.T + torch.eye(len(a), dtype=torch.float64) / tau)


def white_tau(prior, sigma):
    return prior.s0**2 * sigma**2 / (prior.s0**2 + sigma**2) / SIGMA_Y**2


def about(prior, a, y):
    """Posterior mean of N(1/2, s0^2)."""
    grey = torch.full((SIZE,), 0.5, dtype=torch.float64)
    return grey + pulled(a, (prior.s0 / SIGMA_Y) ** 2) @ (y - a @ grey)


def path(law, sigmas, estimate, eta=0.0, order=2):
    """The law of x at the end of generic steps with x0 = G x + g, extrapolated by the estimate before; on (x, estimate before)."""
    n, both = SIZE, torch.zeros(2 * SIZE, 2 * SIZE, dtype=torch.float64)
    both[:n, :n] = law.cov
    law, before = Gaussian(torch.cat([law.mean, torch.zeros_like(law.mean)]), both), None

    def steps():
        nonlocal before
        for sigma, following in itertools.pairwise(sigmas):
            gain, offset = estimate(sigma)
            ratio = 1 - (following / sigma) ** 2
            kept = following / sigma * math.sqrt(1 - eta**2 * ratio)
            line = order == 2 and before is not None and following > 0
            c = math.log(sigma / following) / math.log(before / sigma) / 2 if line else 0.0
            top = torch.cat([kept * EYE + (1 - kept) * (1 + c) * gain, -(1 - kept) * c * EYE], 1)
            noise = torch.zeros_like(both)
            noise[:n, :n] = (following * eta) ** 2 * ratio * EYE
            before = sigma
            yield torch.cat([top, torch.cat([gain, ZERO], 1)]), torch.cat([(1 - kept) * (1 + c) * offset, offset]), noise

    law = propagate(law, steps())
    return Gaussian(law.mean[:n], law.cov[:n, :n])


def descended(law, prior_law, sigma, calls, eta=0.0):
    levels = karras(calls + 1, 0.002, sigma)[:calls] if sigma > 0.002 * (1 + 1e-6) else [sigma]
    return path(law, [*levels, 0.0], prior_law.denoiser, eta)


def drawn(law, a, y, r, prior=None):
    """After a draw about x: mean x + K (y - A x), covariance (A^T A / sigma_y^2 + 1 / r^2)^-1."""
    k = pulled(a, (r / SIGMA_Y) ** 2)
    return law.affine(EYE - k @ a, k @ y, torch.linalg.inv(a.T @ a / SIGMA_Y**2 + EYE / r**2))


def point(x):
    return Gaussian(x, ZERO)


def daps_law(law, prior, a, y, steps=30, calls=1, noise=False):
    sigmas = grid(prior, steps)
    x = Gaussian(about(prior, a, y), sigmas[0] ** 2 * EYE)
    for sigma, following in itertools.pairwise(sigmas):
        x = descended(x, law, sigma, calls)
        x = drawn(x, a, y, sigma if noise else math.sqrt(white_tau(prior, sigma)) * SIGMA_Y)
        x = Gaussian(x.mean, x.cov + following**2 * EYE)
    return x


def pnp_dm_law(law, prior, a, y, steps=30, calls=4, top=None, last=0.01):
    x, top = point(about(prior, a, y)), top or 20 * prior.s0
    for index in range(steps):
        rho = top ** (1 - index / (steps - 1)) * last ** (index / (steps - 1))
        x = descended(drawn(x, a, y, rho), law, rho, calls, eta=1.0)
    return x


def latino_law(law, prior, a, y, steps=8, calls=1, delta=1.0):
    sigmas = grid(prior, steps)
    x = Gaussian(about(prior, a, y), sigmas[0] ** 2 * EYE)
    for sigma, following in itertools.pairwise(sigmas):
        k = pulled(a, delta * white_tau(prior, sigma))
        x = descended(x, law, sigma, calls).affine(EYE - k @ a, k @ y, following**2 * EYE)
    return x


def cm4ir_law(law, prior, a, y, eta=1.0, sign=1.0, zeta=1.0, delta=0.0):
    """One call a level: x0 = G x + g, the predicted noise (x - x0) / sigma."""
    squares = [1 - min((1 - 0.69**2) * 1.2**index, 0.9999) for index in range(4)]
    sigmas = [math.sqrt(one) / 2 for one in squares] + [0.0]
    x = Gaussian(about(prior, a, y), sigmas[0] ** 2 * EYE)

    def steps():
        for sigma, following in itertools.pairwise(sigmas):
            gain, offset = law.denoiser((1 + delta) * sigma)
            k = pulled(a, white_tau(prior, sigma) / zeta)
            kept = sign * following / sigma * math.sqrt(1 - eta**2)
            matrix = (EYE - k @ a) @ gain + kept * (EYE - gain)
            yield matrix, (EYE - k @ a) @ offset + k @ y - kept * offset, (following * eta) ** 2 * EYE

    return propagate(x, steps())


def pnp_flow_law(law, prior, a, y, steps=50, draws=1, lr=1.0, alpha=None):
    size = float(torch.linalg.matrix_norm(a, 2)) ** 2

    def sweeps():
        for sigma in grid(prior, steps)[:-1]:
            gain, offset = law.denoiser(sigma)
            share = sigma**2 / (sigma**2 + SIGMA_Y**2 / size) if alpha is None else (2 * sigma / (1 + 2 * sigma)) ** alpha
            move = lr * share / size * a.T
            yield gain @ (EYE - move @ a), gain @ (move @ y) + offset, sigma**2 / draws * gain @ gain.T

    return propagate(point(about(prior, a, y)), sweeps())


def constant(_):
    return 1.0


def schedule(t):
    return math.sqrt(t / (t**2 + (1 - t) ** 2))


def ot_ode_law(law, prior, a, y, steps=100, order=1, covariance="tweedie", gamma=constant):
    noise = SIGMA_Y**2 * torch.eye(ROWS, dtype=torch.float64)

    def estimate(sigma):
        gain, offset = law.denoiser(sigma)
        if covariance == "tweedie":
            spread = sigma**2 * gain
            k = spread @ a.T @ torch.linalg.inv(a @ spread @ a.T + noise)
        else:
            r = white_tau(prior, sigma) * SIGMA_Y**2
            k = gamma(1 / (1 + 2 * sigma)) * sigma**2 * gain.T @ a.T @ torch.linalg.inv(r * a @ a.T + noise)
        return (EYE - k @ a) @ gain, (EYE - k @ a) @ offset + k @ y

    sigmas = grid(prior, steps)
    return path(Gaussian(about(prior, a, y), sigmas[0] ** 2 * EYE), sigmas, estimate, 0.0, order)


LAWS = {
    "daps": (DAPS(20), lambda *of: daps_law(*of, steps=20)),
    "daps-paper": (DAPS(steps=8, calls=3, variance="noise"), lambda *of: daps_law(*of, steps=8, calls=3, noise=True)),
    "pnp-dm": (PnPDM(8), lambda *of: pnp_dm_law(*of, steps=8)),
    "pnp-dm-short": (PnPDM(6, 2, sigma_max=1.0, sigma_min=0.05), lambda *of: pnp_dm_law(*of, steps=6, calls=2, top=1.0, last=0.05)),
    "latino": (LATINO(), latino_law),
    "latino-ode": (LATINO(steps=6, calls=3, delta=2.0), lambda *of: latino_law(*of, steps=6, calls=3, delta=2.0)),
    "cm4ir": (CM4IR(), cm4ir_law),
    "cm4ir-authors": (
        CM4IR(eta=0.3, noise="opposite", zeta=2.0, delta=0.1),
        lambda *of: cm4ir_law(*of, eta=0.3, sign=-1.0, zeta=2.0, delta=0.1),
    ),
    "pnp-flow": (PnPFlow(20), lambda *of: pnp_flow_law(*of, steps=20)),
    "pnp-flow-alpha": (PnPFlow(10, 3, 0.7, 0.5), lambda *of: pnp_flow_law(*of, steps=10, draws=3, lr=0.7, alpha=0.5)),
    "ot-ode": (OTODE(steps=12, order=1, products=4), lambda *of: ot_ode_law(*of, steps=12)),
    "ot-ode-second": (OTODE(steps=12, order=2, products=4), lambda *of: ot_ode_law(*of, steps=12, order=2)),
    "ot-ode-white": (
        OTODE(steps=12, covariance="white", order=1),
        lambda *of: ot_ode_law(*of, steps=12, covariance="white", gamma=constant),
    ),
    "ot-ode-gamma": (
        OTODE(steps=12, covariance="white", gamma="schedule", order=1),
        lambda *of: ot_ode_law(*of, steps=12, covariance="white", gamma=schedule),
    ),
}


@pytest.mark.parametrize("name", ["S", "G", "I"])
@pytest.mark.parametrize("solver", LAWS)
def test_the_exact_law(solver, name):
    law, prior, matrix, y = gaussian_case(name, 0, size=SIZE, rows=ROWS, sigma=SIGMA_Y)
    made, expected = LAWS[solver]
    problem = Problem(DenseOperator(matrix), y.expand(CHAINS, ROWS), GaussianNoise(SIGMA_Y))
    mean, cov = standard_errors(made.solve(problem, prior, generator=Pooled(0, range(CHAINS))).x, expected(law, prior, matrix, y))
    assert mean < 4
    assert cov < 4


def biases(expected, name, **options):
    """Over four draws of (A, y)."""
    for seed in range(4):
        law, prior, matrix, y = gaussian_case(name, seed, size=SIZE, rows=ROWS, sigma=SIGMA_Y)
        yield Bias.of(expected(law, prior, matrix, y, **options), law.posterior(matrix, y, SIGMA_Y))


# What the declared figures say of the default settings, without sampling error, over four draws of (A, y)


def test_ot_ode_is_exact_for_every_gaussian():
    """Within .1 posterior standard deviations and 6 % of the covariance: 30 steps of second order; 100 of first, as published."""
    for name in ("S", "G", "I"):
        for options in ({"steps": 30, "order": 2}, {"steps": 100, "order": 1}):
            for bias in biases(ot_ode_law, name, **options):
                assert bias.mean < 0.1
                assert bias.cov < 0.06
    white = max(bias.cov for bias in biases(ot_ode_law, "I", steps=100, covariance="white", gamma=constant))
    assert white > 0.2  # the paper's covariance is exact for white priors only


def test_daps_is_exact_for_white_priors_and_too_wide_as_in_the_paper():
    for bias in biases(daps_law, "S"):
        assert bias.mean < 0.05
        assert bias.cov < 0.05
    assert min(bias.trace for bias in biases(daps_law, "S", calls=5, noise=True)) > 1.4


def test_the_blur_of_pnp_dm_goes_with_rho():
    """The covariance's error falls with the last rho, at many small steps of the prior's chain."""
    off = [max(bias.cov for bias in biases(pnp_dm_law, "S", steps=40, calls=15, last=last)) for last in (0.1, 0.01)]
    assert off[1] < 0.6 * off[0]


def test_the_sign_of_the_noise_that_cm4ir_keeps():
    """The opposite of the predicted noise leaves next to nothing of the spread, and is further from the posterior; see the class."""
    for name in ("S", "G", "I"):
        for seed in range(4):
            law, prior, matrix, y = gaussian_case(name, seed, size=SIZE, rows=ROWS, sigma=SIGMA_Y)
            exact = law.posterior(matrix, y, SIGMA_Y)
            mine, theirs = (cm4ir_law(law, prior, matrix, y, eta=0.1, sign=sign) for sign in (1.0, -1.0))
            assert Bias.of(theirs, exact).trace < 0.1
            assert wasserstein(mine, exact) < wasserstein(theirs, exact)
