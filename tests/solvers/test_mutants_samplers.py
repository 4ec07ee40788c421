"""Numbers inside the samplers in closed form, and the ends of every range: what single-line faults asked for (studies/mutants.py)."""

import math

import pytest
import torch
from invsolve_operators import Identity

from invsolve import GaussianNoise, NoNoise, Problem
from invsolve.errors import CompatibilityError, InputError
from invsolve.operator.algebra import Scaled
from invsolve.priors.gaussian import GaussianPrior
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solvers import DDIM, DDRM, DPS, DiffPIR, Heun, ScoreALD
from invsolve.solvers.diffusion.common import generic_step, grid_gaps, initial, noise_of

DOUBLE, SHAPE = torch.float64, (1, 3, 4)
ABOVE, BELOW = 1 + 1e-9, -1e-9

# class, hyperparameter, what is allowed (the ends too), what is not (just beyond them)
RANGES = [
    (DDIM, "eta", (0, 0.5, 1), (BELOW, ABOVE, math.nan)),
    (DDRM, "eta", (0, 1), (BELOW, ABOVE, math.nan)),
    (DDRM, "eta_b", (0, 1), (BELOW, ABOVE, math.nan)),
    (DiffPIR, "zeta", (0, 1), (BELOW, ABOVE, math.nan)),
    (DiffPIR, "weight", (1e-9, 1e9), (0, -1.0, math.inf, math.nan)),
    (DiffPIR, "variance", ("posterior", "noise"), ("other",)),
    (DPS, "scale", (None, 0, 1.999), (BELOW, 2.0, math.inf, math.nan)),
    (DPS, "zeta", (None, 0, 1), (BELOW, ABOVE, math.nan)),
    (Heun, "churn", (0, 1e9), (BELOW, math.inf, math.nan)),
    (Heun, "s_noise", (1e-9, 1e9), (0, -1.0, math.inf, math.nan)),
    (ScoreALD, "inner", (1, 5), (0, -1, 1.5)),
    (ScoreALD, "step", (1e-9, 1 - 1e-9), (0, 1, -0.5, math.nan)),
    (ScoreALD, "gamma", (0, 1e9), (BELOW, math.inf, math.nan)),
    (ScoreALD, "noise", ("consistent", "langevin"), ("other",)),
]


@pytest.mark.parametrize(
    ("cls", "name", "inside", "outside"), RANGES, ids=lambda one: getattr(one, "__name__", one if isinstance(one, str) else "")
)
def test_the_ends_of_every_range(cls, name, inside, outside):
    for value in inside:
        assert getattr(cls(**{name: value}), name) == value
    for value in outside:
        with pytest.raises(InputError, match=name):
            cls(**{name: value})


def test_the_authors_scale_has_no_limit_and_one_beside_a_good_one_is_refused():
    assert DPS(scale=50.0, authors=True).scale == 50.0
    for pair in ({"eta": 0.5, "eta_b": 2.0}, {"eta": 2.0, "eta_b": 0.5}):
        with pytest.raises(InputError, match="eta and eta_b"):
            DDRM(**pair)


# The shared pieces


def draws(like, seed=3):
    return Rng(seed, [0]).normal_like(like)


def test_the_generic_step_by_hand():
    """sigma 0.8 -> 0.6, eta 0.5: ratio 1 - 9/16 = 7/16, kept sqrt(1 - 7/64)."""
    x, x0 = torch.full((1, *SHAPE), 0.9, dtype=DOUBLE), torch.full((1, *SHAPE), 0.4, dtype=DOUBLE)
    wanted = 0.4 + 0.75 * math.sqrt(1 - 7 / 64) * 0.5 + 0.6 * 0.5 * math.sqrt(7 / 16) * draws(x)
    assert torch.allclose(generic_step(x, x0, 0.8, 0.6, 0.5, Rng(3, [0])), wanted, rtol=0, atol=1e-15)
    assert torch.allclose(generic_step(x, x0, 0.8, 0.6, 0.0, Rng(3, [0])), torch.full_like(x, 0.4 + 0.75 * 0.5), rtol=0, atol=1e-15)
    assert torch.equal(generic_step(x, x0, 0.8, 0.0, 0.5, Rng(3, [0])), x0)
    rng = Rng(3, [0])
    generic_step(x, x0, 0.8, 0.6, 0.0, rng)
    assert torch.equal(rng.normal_like(x), draws(x)), "a deterministic step has drawn"


def test_where_samplers_begin():
    problem = Problem(Scaled(Identity(SHAPE), 2.0), torch.full((1, *SHAPE), 1.6, dtype=DOUBLE), GaussianNoise(0.1), check_range=False)
    prior, z = GaussianPrior(0.5, 0.25), draws(problem.image)
    index, x = initial(problem, prior, Rng(3, [0]), 7.0, None)
    assert index == 0
    assert torch.allclose(x, 0.5 + 7.0 * z, rtol=0, atol=1e-12)
    _, warm = initial(problem, prior, Rng(3, [0]), 7.0, None, problem.operator.prox)
    # The posterior mean of N(1/2, s0^2) given y = 2 x + 0.1 n at y = 1.6.
    mean = (0.5 / prior.s0**2 + 2 * 1.6 / 0.1**2) / (1 / prior.s0**2 + 4 / 0.1**2)
    assert torch.allclose(warm, mean + 7.0 * z, rtol=0, atol=1e-12)
    start = Step(4, 9, x, x)
    assert initial(problem, prior, Rng(3, [0]), 7.0, start) == (5, x)


def test_what_no_noise_means():
    for factor, noise, wanted in ((2.0, NoNoise(), 0.002), (2.0, GaussianNoise(0.1), 0.1), (0.5, NoNoise(), 0.0005)):
        problem = Problem(Scaled(Identity(SHAPE), factor), torch.full((1, *SHAPE), 0.5, dtype=DOUBLE), noise, check_range=False)
        assert float(noise_of(problem)) == pytest.approx(wanted, rel=1e-12)


def test_a_grid_within_the_priors_range_to_a_rounding_error():
    prior = GaussianPrior(0.5, 0.25)
    low, high = prior.sigma_range
    assert grid_gaps(prior, 7, "karras", None) == []
    assert grid_gaps(prior, 7, "karras", high * (1 + 0.5e-6)) == []
    assert "spans sigma" in grid_gaps(prior, 7, "karras", high * (1 + 2e-6))[0]
    assert grid_gaps(prior, 7, "karras", low) == []
    for wrong in (low * (1 - 2e-6), math.inf, math.nan, "big"):
        assert "sigma_max must be" in grid_gaps(prior, 7, "karras", wrong)[0]
    for wrong in (0, -1, 2.5, "7"):
        assert "steps must be" in grid_gaps(prior, wrong, "karras", None)[0]
    assert "no grid 'karas'" in grid_gaps(prior, 7, "karas", None)[0]


def test_score_ald_needs_a_width():
    """Without noise and without gamma the likelihood has none; with either, or as the authors have it, it has."""
    prior = GaussianPrior(0.5, 0.25)
    y = torch.full((1, *SHAPE), 0.5, dtype=DOUBLE)
    clean, noisy = Problem(Identity(SHAPE), y, NoNoise()), Problem(Identity(SHAPE), y, GaussianNoise(0.1))
    assert "leaves the likelihood no width" in ScoreALD(gamma=0).gaps(clean, prior)[0]
    for solver, problem in ((ScoreALD(gamma=0), noisy), (ScoreALD(gamma=1), clean), (ScoreALD(gamma=0, authors=True), clean)):
        assert solver.gaps(problem, prior) == []
    with pytest.raises(CompatibilityError, match="no width"):
        ScoreALD(gamma=0).solve(clean, prior)


# Steps by hand


def test_heun_by_hand():
    """Two levels and one step of each kind, with a linear denoiser D(x, s) = m + c(s) (x - m), c = 1/16 / (1/16 + s^2)."""
    prior, problem = GaussianPrior(0.5, 0.25), Problem.unconditional(SHAPE, 1, dtype=DOUBLE)

    def mean(x, sigma):
        return 0.5 + (1 / 16) / (1 / 16 + sigma**2) * (x - 0.5)

    solver = Heun(steps=2, sigma_max=2.0)
    first, second, end = solver.sigmas(prior)
    assert (first, end) == (pytest.approx(2.0), 0)
    x = 0.5 + first * draws(problem.image, 0)
    slope = (x - mean(x, first)) / first
    ahead = x + (second - first) * slope
    slope = (slope + (ahead - mean(ahead, second)) / second) / 2
    x = x + (second - first) * slope
    x = x + (0 - second) * (x - mean(x, second)) / second
    found = solver.solve(problem, prior, generator=Rng(0, [0])).x
    assert torch.allclose(found, x, rtol=0, atol=1e-12)


def test_churn_by_hand():
    """gamma = min(churn / levels, sqrt(2) - 1), between s_min and s_max only, the noise raised by s_noise sqrt(raised^2 - sigma^2)."""
    prior, problem = GaussianPrior(0.5, 0.25), Problem.unconditional(SHAPE, 1, dtype=DOUBLE)

    def mean(x, sigma):
        return 0.5 + (1 / 16) / (1 / 16 + sigma**2) * (x - 0.5)

    for churn, span, gamma in (
        (0.3, (0.0, math.inf), 0.3),
        (9.0, (0.0, math.inf), math.sqrt(2) - 1),
        (9.0, (3.0, 4.0), 0.0),
        (9.0, (0.0, 1.0), 0.0),
    ):
        rng = Rng(0, [0])
        x = 0.5 + 2.0 * rng.normal_like(problem.image)
        raised = 2.0 * (1 + gamma)
        if gamma:
            x = x + math.sqrt(raised**2 - 4.0) * 1.1 * rng.normal_like(x)
        solver = Heun(steps=1, sigma_max=2.0, churn=churn, s_min=span[0], s_max=span[1], s_noise=1.1)
        found = solver.solve(problem, prior, generator=Rng(0, [0])).x
        assert torch.allclose(found, mean(x, raised), rtol=0, atol=1e-12), churn


def test_diffpir_by_hand():
    """One sweep from 2 to the next level, zeta 0.3: prox with r^2 / (weight sigma_y^2), then the state scaled and noise drawn."""
    prior = GaussianPrior(0.5, 0.25)
    problem = Problem(Identity(SHAPE), torch.full((1, *SHAPE), 0.7, dtype=DOUBLE), GaussianNoise(0.1))
    for variance in ("posterior", "noise"):
        solver = DiffPIR(steps=2, sigma_max=2.0, zeta=0.3, weight=2.0, variance=variance)
        first, second, _ = solver.sigmas(prior)
        rng = Rng(0, [0])
        warm = (0.5 / prior.s0**2 + 0.7 / 0.01) / (1 / prior.s0**2 + 1 / 0.01)
        x = warm + first * rng.normal_like(problem.image)
        for sigma, following in ((first, second), (second, 0.0)):
            estimate = 0.5 + (1 / 16) / (1 / 16 + sigma**2) * (x - 0.5)
            spread = sigma**2 if variance == "noise" else prior.s0**2 * sigma**2 / (prior.s0**2 + sigma**2)
            tau = spread / (2.0 * 0.01)
            estimate = (estimate + tau * 0.7) / (1 + tau)
            noise = following * math.sqrt(0.3) * rng.normal_like(x) if following else 0.0
            x = estimate + following / sigma * math.sqrt(0.7) * (x - estimate) + noise
        found = solver.solve(problem, prior, generator=Rng(0, [0])).x
        assert torch.allclose(found, x, rtol=0, atol=1e-12), variance
