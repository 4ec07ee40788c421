"""Samplers of the prior against closed forms: the flow of a Gaussian, whose order of convergence shows, and the exact law of the output.

dx / dsigma = (x - D(x, sigma)) / sigma for N(m, C): in an eigendirection of variance s^2, x - m scales as sqrt(s^2 + sigma^2). The error of
an integrator of order p with n steps on one family of grids is c n^-p (1 + O(1 / n)), so halving the step shows log2 of the errors' ratio
within O(1 / n) of p; .1 is what is allowed from 80 to 160 steps.
"""

import itertools
import math

import pytest
import torch

from invsolve import Problem
from invsolve.errors import InputError
from invsolve.priors import GaussianPrior
from invsolve.rng import Rng
from invsolve.solution import Status
from invsolve.solvers import DDIM, PFODE, DPMSolver, EulerMaruyama, Heun, PredictorCorrector
from invsolve.testing.oracle import Bias, Gaussian, gaussian_case, propagate, standard_errors
from invsolve.testing.pooled import Pooled

SIZE, CHAINS = 8, 4000
EYE = torch.eye(SIZE, dtype=torch.float64)
ZERO = torch.zeros(SIZE, SIZE, dtype=torch.float64)


def empty(count):
    return Problem.unconditional((1, 1, SIZE), count, dtype=torch.float64)


def exact_flow(law, x, sigma, following):
    """x at sigma carried to another level."""
    values, vectors = torch.linalg.eigh(law.cov)
    ratio = ((values.clamp_min(0) + following**2) / (values.clamp_min(0) + sigma**2)).sqrt()
    return law.mean + ((x - law.mean) @ vectors * ratio) @ vectors.T


def flow_error(solver, law, prior):
    """rms distance from the flow at the last level above 0."""
    x = torch.full((2, 1, 1, SIZE), 0.5, dtype=torch.float64) + 80 * Rng(3, [0, 1]).normal((1, 1, SIZE), law.cov)
    before_last = solver.solve(empty(2), prior, generator=0, x_init=x, keep=1).trace[-2]
    exact = exact_flow(law, x.flatten(1), 80.0, before_last.sigma)
    return float((before_last.x.flatten(1) - exact).square().mean().sqrt())


@pytest.mark.parametrize(("cls", "order"), [(DDIM, 1), (Heun, 2), (DPMSolver, 2)], ids=["ddim", "heun", "dpm-solver"])
@pytest.mark.parametrize("name", ["S", "G"])
def test_the_order_of_an_integrator_is_seen(cls, order, name):
    law, prior, _, _ = gaussian_case(name, 0)
    coarse, fine = (flow_error(cls(steps=steps), law, prior) for steps in (80, 160))
    assert abs(math.log2(coarse / fine) - order) < 0.1


@pytest.mark.parametrize("name", ["S", "G"])
def test_the_adaptive_flow_meets_its_tolerance_with_the_work_of_a_third_order_pair(name):
    """A try that is taken is off by at most atol + rtol rms (that of order 2, which bounds the one of order 3 that is kept), that is by
    tol (1 + 1 / rms) of the state; what is relative stays so on the way down, but for the unequal shrinking of the directions, up to the
    square root of the condition number. So the sum over the tries bounds the relative error at the end.

    The estimate is c h^3, so the tries grow as tol^(-1/3): 4 times from 1e-4 to 1e-4 / 64, within the tenth that the ends cost.
    """
    law, prior, _, _ = gaussian_case(name, 0)
    x = torch.full((3, 1, 1, SIZE), 0.5, dtype=torch.float64) + 80 * Rng(3, range(3)).normal((1, 1, SIZE), law.cov)
    exact = exact_flow(law, x.flatten(1), 80.0, 0.002)
    gain, offset = law.denoiser(0.002)
    size = (exact - 0.5).square().mean(1).sqrt()
    stretch = math.sqrt(torch.linalg.cond(law.cov))
    work = []
    for tol in (1e-4, 1e-4 / 64):
        solution = PFODE(steps=5000, rtol=tol, atol=tol).solve(empty(3), prior, generator=0, x_init=x)
        assert solution.status == Status.CONVERGED
        assert solution.nfe == 1 + 3 * solution.steps
        off = (solution.x.flatten(1) - (exact @ gain.T + offset)).square().mean(1).sqrt()
        assert bool((off <= solution.steps * tol * (1 + 1 / size) * stretch * size).all())
        work.append(solution.steps)
    assert work[1] / work[0] == pytest.approx(4, rel=0.1)


def test_the_adaptive_flow_says_when_its_tries_do_not_suffice():
    prior = GaussianPrior(0.5, 0.25)
    solution = PFODE(steps=3).solve(empty(2), prior, generator=0)
    assert (solution.status, solution.steps, solution.nfe) == (Status.FINISHED, 3, 10)
    assert bool((solution.x.abs() < 3).all())  # an estimate, not the state at a level of tens


# ---- laws: x <- F x + g + N(0, Q) ----


def euler_law(law, sigmas):
    return corrected_law(law, sigmas, 0, 0.0)


def corrected_law(law, sigmas, correct, snr):
    def steps():
        for sigma, following in itertools.pairwise(sigmas):
            gain, offset = law.denoiser(sigma)
            share = 1 - (following / sigma) ** 2
            yield EYE + share * (gain - EYE), share * offset, (0.0 if following == 0 else sigma**2 - following**2) * EYE
            for _ in range(correct if following > 0 else 0):
                gain, offset = law.denoiser(following)
                yield EYE + 2 * snr**2 * (gain - EYE), 2 * snr**2 * offset, 4 * snr**2 * following**2 * EYE

    return propagate(Gaussian(torch.full((SIZE,), 0.5, dtype=torch.float64), sigmas[0] ** 2 * EYE), steps())


def multistep_law(law, sigmas, eta):
    """Of the pair (x, estimate before): r h / h_before = 1 / (2 r) of the paper."""

    def steps():
        for index, (sigma, following) in enumerate(itertools.pairwise(sigmas)):
            gain, offset = law.denoiser(sigma)
            if following == 0:
                ahead, old, kept, noise = 1.0, 0.0, 0.0, 0.0
            else:
                h = math.log(sigma) - math.log(following)
                share = 0.0 if index == 0 else 0.5 * h / (math.log(sigmas[index - 1]) - math.log(sigma))
                kept = (following / sigma) ** (1 + eta)
                ahead, old = 1 + share, -share
                noise = following**2 * (1 - (following / sigma) ** (2 * eta))
            matrix = torch.cat(
                [torch.cat([kept * EYE + (1 - kept) * ahead * gain, (1 - kept) * old * EYE], 1), torch.cat([gain, ZERO], 1)], 0
            )
            yield matrix, torch.cat([(1 - kept) * ahead * offset, offset]), torch.block_diag(noise * EYE, ZERO)

    first = Gaussian(
        torch.cat([torch.full((SIZE,), 0.5, dtype=torch.float64), torch.zeros(SIZE, dtype=torch.float64)]),
        torch.block_diag(sigmas[0] ** 2 * EYE, ZERO),
    )
    last = propagate(first, steps())
    return Gaussian(last.mean[:SIZE], last.cov[:SIZE, :SIZE])


LAWS = {
    "dpm-solver": (DPMSolver(), lambda law, prior: multistep_law(law, prior.sigmas(25), 0.0)),
    "dpm-solver-half": (DPMSolver(steps=15, eta=0.5), lambda law, prior: multistep_law(law, prior.sigmas(15), 0.5)),
    "dpm-solver-sde": (DPMSolver(steps=15, eta=1.0), lambda law, prior: multistep_law(law, prior.sigmas(15), 1.0)),
    "predictor-corrector": (
        PredictorCorrector(steps=20, correct=2, snr=0.3),
        lambda law, prior: corrected_law(law, prior.sigmas(20), 2, 0.3),
    ),
    "euler-maruyama": (EulerMaruyama(steps=40), lambda law, prior: euler_law(law, prior.sigmas(40))),
}


@pytest.mark.parametrize("name", ["S", "G"])
@pytest.mark.parametrize("sampler", LAWS)
def test_the_output_has_its_exact_law(sampler, name):
    law, prior, _, _ = gaussian_case(name, 0)
    solver, expected = LAWS[sampler]
    mean, cov = standard_errors(solver.solve(empty(CHAINS), prior, generator=Pooled(1, range(CHAINS))).x, expected(law, prior))
    assert mean < 4
    assert cov < 4


@pytest.mark.parametrize(
    ("of", "order"),
    [(euler_law, 1), (lambda law, sigmas: multistep_law(law, sigmas, 1.0), 2), (lambda law, sigmas: multistep_law(law, sigmas, 0.0), 2)],
    ids=["euler-maruyama", "dpm-solver-sde", "dpm-solver"],
)
def test_the_order_of_a_law_is_seen(of, order):
    """The covariance tends to the exact flow's (or, for SDEs, to the prior's behind the last denoising) as n^-order: weak order."""
    law, prior, _, _ = gaussian_case("S", 0)
    laws = [of(law, prior.sigmas(steps)).cov[0, 0] for steps in (400, 800, 1600)]
    first, second = (float(one - two) for one, two in itertools.pairwise(laws))
    assert abs(math.log2(first / second) - order) < 0.1


def test_langevin_steps_bring_the_law_of_the_predictor_nearer_to_the_prior():
    law, prior, _, _ = gaussian_case("G", 0)
    plain, corrected = (Bias.of(corrected_law(law, prior.sigmas(40), correct, 0.16), law) for correct in (0, 4))
    assert abs(corrected.trace - 1) < abs(plain.trace - 1)
    assert corrected.cov < plain.cov


# ---- a few steps, written out ----


def written_predictor_corrector(x, levels, snr, rng, s0=0.25):
    def score(x, sigma):
        return (0.5 - x) / (s0**2 + sigma**2)  # of N(1/2, s0^2 + sigma^2)

    for sigma, following in itertools.pairwise(levels):
        if following == 0:
            return x + sigma**2 * score(x, sigma)
        gone = sigma**2 - following**2
        x = x + gone * score(x, sigma) + math.sqrt(gone) * rng.normal_like(x)
        slope, z = score(x, following), rng.normal_like(x)
        e = 2 * snr**2 * following**2
        x = x + e * slope + math.sqrt(2 * e) * z
    return x


def test_predictor_corrector_step_by_step():
    prior = GaussianPrior(0.5, 0.25)
    found = PredictorCorrector(steps=4, snr=0.2).solve(empty(1), prior, generator=5).x
    rng, levels = Rng(5, [0]), prior.sigmas(4)
    start = 0.5 + levels[0] * rng.normal((1, 1, SIZE), found)
    assert torch.allclose(found, written_predictor_corrector(start, levels, 0.2, rng), rtol=1e-10, atol=1e-10)


def test_three_steps_of_dpm_solver_written_out():
    """lambda = -log sigma on the levels 8, 2, 1, 0 of a prior that is told so: h = log 4, log 2."""
    prior = GaussianPrior(0.5, 0.25)
    prior.sigmas = lambda *_: [8.0, 2.0, 1.0, 0.0]

    def estimate(x, sigma):
        return 0.5 + (x - 0.5) * 0.0625 / (0.0625 + sigma**2)

    x = torch.linspace(-9, 9, SIZE, dtype=torch.float64).reshape(1, 1, 1, SIZE)
    found = DPMSolver(steps=3).solve(empty(1), prior, generator=0, x_init=x).x
    first = estimate(x, 8.0)
    x = x / 4 + 3 / 4 * first
    second = estimate(x, 2.0)
    x = x / 2 + 1 / 2 * (second + (second - first) / 4)  # 1 / (2 r) with r = log 4 / log 2
    assert torch.allclose(found, estimate(x, 1.0), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("cls", "name", "inside", "outside"),
    [
        (DPMSolver, "eta", (0, 0.5, 1), (-1e-9, 1 + 1e-9, math.nan)),
        (PredictorCorrector, "correct", (1, 5), (0, -1)),
        (PredictorCorrector, "snr", (1e-9, 0.7), (0, -0.1, 0.7 + 1e-9, math.nan)),
        (PFODE, "rtol", (0, 1e9), (-1e-9, math.inf, math.nan)),
        (PFODE, "atol", (0, 1e9), (-1e-9, math.inf, math.nan)),
    ],
    ids=lambda one: getattr(one, "__name__", one if isinstance(one, str) else ""),
)
def test_the_ends_of_every_range(cls, name, inside, outside):
    for value in inside:
        assert getattr(cls(**{name: value}), name) == value
    for value in outside:
        with pytest.raises(InputError, match=name):
            cls(**{name: value})


def test_no_tolerance_at_all_is_refused():
    with pytest.raises(InputError, match="not both 0"):
        PFODE(rtol=0.0, atol=0.0)
