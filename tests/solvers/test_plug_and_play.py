"""hqs and admm with a denoiser, against dense float64 algebra for a Gaussian prior x0 ~ N(m, C), y = A x0 + n."""

import math

import pytest
import torch
from invsolve_operators.blurs.blur import GaussianBlur
from invsolve_operators.masks.mask import BoxMask

from invsolve import CompatibilityError, GaussianNoise, NoNoise, Operator, PoissonNoise, Problem, Status
from invsolve.operator import Capability
from invsolve.operator.measurement import parts
from invsolve.priors import Denoiser, GaussianPrior
from invsolve.priors.self_ensemble import turned, turned_back
from invsolve.rng import Rng
from invsolve.solvers import ADMM, HQS
from invsolve.solvers.start import first_image
from invsolve.testing.oracle import DenseOperator

SHAPE, SIZE, ROWS = (1, 4, 4), 16, 10
EYE = torch.eye(SIZE, dtype=torch.float64)
SIGMAS = (0.05, 0.1, 0.02)


def randn(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def setting(kind):
    """(mean, covariance, prior)."""
    if kind == "white":
        return torch.full((SIZE,), 0.4, dtype=torch.float64), 0.04 * EYE, GaussianPrior(0.4, 0.2)
    basis = torch.linalg.qr(randn(SIZE, SIZE, seed=5))[0]
    cov = basis @ torch.diag(torch.logspace(-3, -1, SIZE, dtype=torch.float64)) @ basis.T
    mean = 0.5 + 0.1 * randn(SIZE, seed=6)
    return mean, cov, GaussianPrior(mean.reshape(SHAPE), cov=cov)


def measured(noise=True, items=3):
    A = randn(ROWS, SIZE, seed=1) / math.sqrt(SIZE)
    x = 0.5 + 0.2 * randn(items, *SHAPE, seed=2)
    sigma = GaussianNoise(torch.tensor(SIGMAS[:items], dtype=torch.float64)) if noise else NoNoise()
    return A, Problem.simulate(DenseOperator(A, SHAPE), x, sigma, generator=0)


def posterior_means(A, problem, mean, cov):
    out = []
    for y, sigma in zip(problem.y, problem.sigma.expand(len(problem.y)), strict=True):
        spread = A @ cov @ A.T + sigma**2 * torch.eye(ROWS, dtype=A.dtype)
        out.append(mean + cov @ A.T @ torch.linalg.solve(spread, y - A @ mean))
    return torch.stack(out).reshape(-1, *SHAPE)


# ---- admm ----


@pytest.mark.parametrize("kind", ["white", "full"])
@pytest.mark.parametrize("level", [None, 0.03, 0.2])
def test_admm_with_a_gaussian_denoiser_is_the_posterior_mean(kind, level):
    """rho sigma_d^2 = sigma_y^2 makes the fixed point independent of sigma_d.

    The fixed point solves A^T (A z - y) / |A|^2 + sigma_x^2 C^{-1} (z - m) = 0. Residuals of tol sigma_x and 10 tol sigma_x^2 give
    |z - z*| <= 4 tol (sigma_x + 10 sigma_x^2) / mu, 4 from rms to norm over 16 pixels, mu = sigma_x^2 / max eig C = sigma_x^2 / 0.1:
    0.4 tol (1 / sigma_x + 10), with sigma_x > 0.008 and tol = 1e-9 below 1e-6.
    """
    mean, cov, prior = setting(kind)
    A, problem = measured()
    solution = ADMM(steps=20_000, tol=1e-9, denoiser_sigma=level).solve(problem, prior, generator=0)
    assert solution.status == Status.CONVERGED
    assert (solution.x - posterior_means(A, problem, mean, cov)).abs().max() <= 1e-6


def test_strength_is_a_power_of_the_prior():
    """rho sigma_d^2 = strength sigma_y^2: the posterior mean for the covariance C / strength."""
    mean, cov, prior = setting("full")
    A, problem = measured()
    x = ADMM(steps=20_000, tol=1e-9, strength=2.5).solve(problem, prior, generator=0).x
    assert (x - posterior_means(A, problem, mean, cov / 2.5)).abs().max() <= 1e-6
    assert (x - posterior_means(A, problem, mean, cov)).abs().max() > 1e-3


def test_admm_without_noise_takes_the_floor():
    """sigma_x = 0.255 / 255 and the least level, 0.05: the recursion by dense algebra."""
    mean, cov, prior = setting("full")
    A, problem = measured(noise=False)
    level = 0.05
    rho = (0.001 / level) ** 2 * torch.linalg.matrix_norm(A, 2) ** 2
    gain = cov @ torch.linalg.inv(cov + level**2 * EYE)
    y = parts(problem.y)[0]
    z = first_image(problem, None).flatten(1)
    u = torch.zeros_like(z)
    for _ in range(15):
        x = torch.linalg.solve(A.T @ A + rho * EYE, (y @ A + rho * (z - u)).T).T
        z = mean + (x + u - mean) @ gain.T
        u = u + x - z
    found = ADMM(steps=15, tol=0).solve(problem, prior, generator=0).x
    # 15 solves with condition |A|^2 / rho = 2500 in float64
    assert (found.flatten(1) - z).abs().max() < 1e-11


def test_items_freeze_on_their_own():
    _, _, prior = setting("full")
    _, problem = measured()
    solver = ADMM(steps=5000, tol=1e-6)
    together = solver.solve(problem, prior, generator=0)
    alone = [solver.solve(problem[item], prior, generator=0) for item in range(3)]
    assert len({run.steps for run in alone}) > 1
    last = solver.solve(problem, prior, generator=0, keep=1).trace[-1]
    again = solver.solve(problem, prior, generator=0, start=last)
    assert torch.equal(again.x, together.x)
    assert again.steps == together.steps
    assert again.status == Status.CONVERGED
    for item in range(3):
        assert (alone[item].x[0] - together.x[item]).abs().max() <= 1e-10


# ---- hqs ----


def dpir(A, problem, mean, cov, steps, low=0.002, start=49 / 255, end=None, fidelity=0.23):
    """The closed recursion of DPIR in units of the image, item by item, from the same first images."""
    out, starts, size = [], first_image(problem, None).flatten(1), torch.linalg.matrix_norm(A, 2)
    sigma_y = problem.sigma.expand(len(problem.y))
    for y, sigma, z in zip(problem.y, sigma_y, starts, strict=True):
        sigma_n = max(float(sigma / size), 0.255 / 255)
        last = max(sigma_n / 2, low) if end is None else end
        for k in range(steps):
            level = 10 ** (math.log10(start) + (math.log10(last) - math.log10(start)) * (k / (steps - 1) if steps > 1 else 1))
            rho = fidelity * sigma_n**2 / level**2 * size**2
            x = torch.linalg.solve(A.T @ A + rho * EYE, A.T @ y + rho * z)
            z = mean + cov @ torch.linalg.solve(cov + level**2 * EYE, x - mean)
        out.append(z)
    return torch.stack(out).reshape(-1, *SHAPE)


@pytest.mark.parametrize("kind", ["white", "full"])
@pytest.mark.parametrize("options", [{}, {"steps": 24}, {"steps": 1}, {"fidelity": 1.0, "sigma_start": 0.5, "sigma_end": 0.01}])
@pytest.mark.parametrize("noise", [True, False])
def test_hqs_is_the_dpir_recursion(kind, options, noise):
    mean, cov, prior = setting(kind)
    A, problem = measured(noise)
    found = HQS(**options).solve(problem, prior, generator=0)
    assert found.nfe == options.get("steps", 8)
    named = {"steps": 8, **{{"sigma_start": "start", "sigma_end": "end"}.get(key, key): value for key, value in options.items()}}
    # without noise rho falls to 1e-6 times |A|^2: a condition of 1e6 in float64, hence 1e-9
    assert (found.x - dpir(A, problem, mean, cov, **named)).abs().max() < 1e-9


def test_levels_follow_each_items_noise():
    A, problem = measured()
    half = torch.tensor(SIGMAS, dtype=torch.float64) / torch.linalg.matrix_norm(A, 2) / 2
    levels = HQS().sigmas(problem, GaussianPrior(), 8)
    assert torch.allclose(levels[0], torch.full((3,), 49 / 255, dtype=torch.float64))
    assert torch.allclose(levels[-1], half)
    ratio = levels[1:] / levels[:-1]
    assert torch.allclose(ratio, ratio[:1].expand_as(ratio))
    loud = Problem(problem.operator, problem.y, GaussianNoise(2.0))
    assert torch.allclose(HQS().sigmas(loud, GaussianPrior(), 4), 2.0 / torch.linalg.matrix_norm(A, 2) / 2)


class Recorder(Denoiser):
    """Gives back what it saw."""

    def __init__(self):
        super().__init__()
        self.seen, self.placeless = [], True

    def forward(self, x, sigma):
        self.seen.append(x)
        return x


def test_the_eight_turns():
    x = torch.arange(6.0).reshape(1, 1, 2, 3)
    views = [turned(x, index) for index in range(8)]
    assert len({(view.shape, tuple(view.flatten().tolist())) for view in views}) == 8
    for index, view in enumerate(views):
        assert torch.equal(turned_back(view, index), x)
        assert torch.equal(turned(x, index + 8), view)
    _, problem = measured()
    plain, ensemble = (HQS(ensemble=flag).solve(problem, GaussianPrior(0.4, 0.2), generator=0).x for flag in (False, True))
    # a white prior does not know directions, and says so
    assert torch.allclose(plain, ensemble, atol=1e-14)
    record = Recorder()
    flat = Problem(BoxMask((1, 4, 6), 2), torch.rand(1, 1, 4, 6, generator=torch.Generator().manual_seed(0)), GaussianNoise(0.1))
    HQS(ensemble=True).solve(flat, record, generator=0)
    assert [tuple(seen.shape[-2:]) for seen in record.seen] == [(4, 6), (6, 4)] * 4


# ---- the contract ----

SOLVERS = {
    "hqs": HQS(),
    "hqs, noise": HQS(steps=12, noise=1.0),
    "admm": ADMM(steps=12),
    "admm, level": ADMM(steps=12, denoiser_sigma=0.1),
}


@pytest.mark.parametrize("name", SOLVERS)
def test_batch_resume_and_inputs(name):
    _, _, prior = setting("full")
    _, problem = measured()
    y, state = parts(problem.y)[0].clone(), torch.random.get_rng_state()
    whole = SOLVERS[name].solve(problem, prior, generator=0, keep=1)
    for item in range(3):
        alone = SOLVERS[name].solve(problem[item], prior, generator=0).x
        assert (alone[0] - whole.x[item]).abs().max() <= 1e-10
    for index in (0, 3, 6):
        rng = Rng(0, problem.items)
        for _ in range(index + 1 if "noise" in name else 0):
            rng.normal_like(problem.image)
        assert torch.equal(SOLVERS[name].solve(problem, prior, start=whole.trace[index], generator=rng).x, whole.x)
    assert torch.equal(parts(problem.y)[0], y)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("name", SOLVERS)
def test_images_of_any_shape(name):
    x = torch.rand(2, 3, 9, 13, generator=torch.Generator().manual_seed(0))
    problem = Problem.simulate(GaussianBlur((3, 9, 13), 1.0), x, GaussianNoise(0.05), generator=0)
    found = SOLVERS[name].solve(problem, GaussianPrior(), generator=0).x
    assert found.shape == x.shape
    assert found.dtype == torch.float32


class Narrow(GaussianPrior):
    """Good for sigma 0.01 to 0.15."""

    def __init__(self):
        super().__init__()
        self.sigma_range, self.placeless = (0.01, 0.15), False


class NoProx(Operator):
    traits = frozenset({Capability.LINEAR})
    in_shape = out_shape = SHAPE

    def forward(self, x):
        return 2 * x


def test_refusals():
    _, problem = measured()

    def refused(solver, problem, match):
        with pytest.raises(CompatibilityError, match=match):
            solver.solve(problem, Narrow(), generator=0)

    refused(HQS(sigma_start=49 / 255), problem, r"sigma_start=0.1922 leaves the range 0.01 .. 0.15 of prior Narrow")
    refused(HQS(sigma_start=0.1, sigma_end=0.005), problem, r"sigma_end=0.005 leaves the range")
    refused(ADMM(denoiser_sigma=0.2), problem, r"denoiser_sigma=0.2 leaves the range")
    refused(HQS(ensemble=True), problem, r"ensemble=True turns the image, and prior Narrow does not say that it knows no place")
    for solver in (HQS(sigma_start=0.1), ADMM()):
        refused(solver, Problem(problem.operator, parts(problem.y)[0].abs(), PoissonNoise(0.01)), "PoissonNoise lacks 'sigma'")
        refused(solver, Problem(NoProx(), torch.rand(1, *SHAPE), GaussianNoise(0.1)), "lacks 'prox'")
        # the level is the prior's lowest where the noise is lower
        levels = HQS(sigma_start=0.1).sigmas(Problem(problem.operator, problem.y, NoNoise()), Narrow(), 4)
        assert torch.allclose(levels[-1], torch.full((3,), 0.01, dtype=torch.float64))
        assert torch.isfinite(solver.solve(problem, Narrow(), generator=0).x).all()


def test_the_default_schedule_starts_within_the_priors_range():
    """DPIR's 49 / 255 = 0.192 is above this prior's 0.15: the default starts there instead of refusing."""
    _, problem = measured()
    levels = HQS().sigmas(problem, Narrow(), 4)
    assert torch.allclose(levels[0], torch.full((3,), 0.15, dtype=torch.float64))
    assert torch.isfinite(HQS().solve(problem, Narrow(), generator=0).x).all()


def test_levels_that_follow_from_a_rule_stay_within_the_priors_range():
    """Noise above the range is no reason to refuse: rho is tied to the level, so a lower one only trusts the data less."""
    _, problem = measured()
    loud = Problem(problem.operator, problem.y, GaussianNoise(0.9))
    assert torch.allclose(HQS().sigmas(loud, Narrow(), 4), torch.tensor(0.15, dtype=torch.float64))
    mean, cov = torch.full((SIZE,), 0.5, dtype=torch.float64), GaussianPrior().std ** 2 * EYE
    A, _ = measured()
    found = ADMM(steps=20_000, tol=1e-9).solve(loud, Narrow(), generator=0).x
    assert (found - posterior_means(A, loud, mean, cov)).abs().max() <= 1e-6
