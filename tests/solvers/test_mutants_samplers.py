"""Numbers inside the samplers in closed form: what single-line faults asked for (studies/mutants.py)."""

import math
from dataclasses import fields
from itertools import pairwise

import pytest
import torch
from invsolve_operators import Identity

from invsolve import GaussianNoise, NoNoise, Problem
from invsolve.errors import CompatibilityError, InputError
from invsolve.operator.algebra import Scaled
from invsolve.priors.gaussian import GaussianPrior
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solvers import DDIM, DDPM, DDRM, DPS, DiffPIR, Heun, ScoreALD, Spectral
from invsolve.solvers.diffusion.common import generic_step, grid_gaps, initial, noise_of

DOUBLE, SHAPE = torch.float64, (1, 3, 4)


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


def shrunk(x, sigma):
    """The estimate of GaussianPrior(0.5, 0.25)."""
    return 0.5 + (1 / 16) / (1 / 16 + sigma**2) * (x - 0.5)


def factor(sigma):
    """Its derivative in x."""
    return (1 / 16) / (1 / 16 + sigma**2)


@pytest.mark.parametrize("noise", ["langevin", "consistent"])
def test_score_ald_in_one_step_by_hand(noise):
    """H = 2: h = step / (1 / sigma^2 + 4 / width), width = sigma_y^2 + gamma^2 4 sigma^2; two levels of two steps, a denoising."""
    prior = GaussianPrior(0.5, 0.25)
    problem = Problem(Scaled(Identity(SHAPE), 2.0), torch.full((1, *SHAPE), 1.4, dtype=DOUBLE), GaussianNoise(0.1), check_range=False)
    solver = ScoreALD(steps=2, inner=2, step=0.6, gamma=0.7, noise=noise, precondition=False, sigma_max=2.0)
    first, second = solver.sigmas(prior)[:-1]
    rng = Rng(0, [0])
    warm = (0.5 / prior.s0**2 + 2 * 1.4 / 0.01) / (1 / prior.s0**2 + 4 / 0.01)
    x = warm + first * rng.normal_like(problem.image)
    for sigma, following in ((first, first), (first, second), (second, second), (second, second)):
        width = 0.01 + (0.7 * sigma) ** 2 * 4
        h = 0.6 / (1 / sigma**2 + 4 / width)
        drift = (shrunk(x, sigma) - x) / sigma**2 + 2 * (1.4 - 2 * x) / width
        added = 2 * h if noise == "langevin" else max(0.0, following**2 - (1 - h / sigma**2) ** 2 * sigma**2)
        x = x + h * drift + math.sqrt(added) * rng.normal_like(x)
    found = solver.solve(problem, prior, generator=Rng(0, [0])).x
    assert torch.allclose(found, shrunk(x, second), rtol=0, atol=1e-11)


@pytest.mark.parametrize("eta", [1.0, 0.6])
def test_ddrm_by_hand(eta):
    """H = diag(2, 0, 0.02): well measured, not at all, weakly; p, q, w and a as the class states them, from a to the last estimate."""
    from invsolve.operator.matrix import MatrixOperator

    s = torch.tensor([2.0, 0.0, 0.02], dtype=DOUBLE)
    prior, eta_b = GaussianPrior(0.5, 0.25), 0.8
    y = torch.tensor([1.2, 0.0, 0.3], dtype=DOUBLE)
    problem = Problem(MatrixOperator(torch.diag(s), (1, 1, 3), (1, 1, 3)), y.reshape(1, 1, 1, 3), GaussianNoise(0.1))
    svd = problem.operator.svd()
    solver = DDRM(steps=6, eta=eta, eta_b=eta_b, sigma_max=8.0)
    sigmas = solver.sigmas(prior)
    rng = Rng(0, [0])
    level = [0.05, math.inf, 5.0]
    value = [0.6, 0.0, 15.0]
    a = [1 / (1 + (one / 2.5) ** 2) for one in level]
    # The basis is the pixels', up to their order and sign: draws are taken through it.
    drawn = svd.V(svd.Vt(rng.normal_like(problem.image))).flatten()
    state = [
        0.5 + a[i] * (value[i] - 0.5) + math.sqrt(max(0.0, sigmas[0] ** 2 - (a[i] * level[i] if a[i] else 0.0) ** 2)) * float(drawn[i])
        for i in range(3)
    ]
    kept = math.sqrt(1 - eta**2)
    for sigma, following in pairwise(sigmas):
        x0 = [float(shrunk(torch.tensor(one, dtype=DOUBLE), sigma)) for one in state]
        fresh = rng.normal_like(problem.image).flatten().tolist() if following > 0 else [0.0] * 3
        for i in range(3):
            if following > 0:
                w = min(1.0, max(0.0, math.log(sigma / level[i]) / math.log(sigma / following))) if level[i] < math.inf else 0.0
                p = a[i] * (w * eta_b + (1 - w) * kept) * min(1.0, following / level[i])
                q = math.sqrt(1 - a[i] ** 2) * kept
                left = following**2 - (p * level[i] if p else 0.0) ** 2 - (q * following) ** 2
                state[i] = (
                    x0[i] + p * (value[i] - x0[i]) + q * following * (state[i] - x0[i]) / sigma + math.sqrt(max(0.0, left)) * fresh[i]
                )
            else:
                state[i] = x0[i]
    found = solver.solve(problem, prior, generator=Rng(0, [0])).x.flatten()
    assert torch.allclose(found, torch.tensor(state, dtype=DOUBLE), rtol=0, atol=1e-10)


@pytest.mark.parametrize("zeta", [1.0, 0.3, None])
def test_dps_by_hand(zeta):
    """H = 2, three levels: x0~ = x0 + scale sigma^2 c(sigma) 2 (y - 2 x0) / (v + 4 sigma^2), then a share zeta fresh."""
    prior = GaussianPrior(0.5, 0.25)
    problem = Problem(Scaled(Identity(SHAPE), 2.0), torch.full((1, *SHAPE), 1.4, dtype=DOUBLE), GaussianNoise(0.1), check_range=False)
    solver = DPS(steps=3, scale=0.8, zeta=zeta, sigma_max=2.0)
    sigmas = solver.sigmas(prior)
    rng = Rng(0, [0])
    x = 0.5 + sigmas[0] * rng.normal_like(problem.image)
    residuals, steps = [], []
    for sigma, following in pairwise(sigmas):
        x0 = shrunk(x, sigma)
        residuals.append(float((1.4 - 2 * x0).square().sum().sqrt()))
        guided = x0 + 0.8 * sigma**2 * factor(sigma) * 2 * (1.4 - 2 * x0) / (0.01 + 4 * sigma**2)
        share = zeta if zeta is not None else 1 - (following / sigma) ** 2
        x = guided + following * math.sqrt(1 - share) * (x - guided) / sigma
        if following > 0:
            x = x + following * math.sqrt(share) * rng.normal_like(x)
    found = solver.solve(problem, prior, generator=Rng(0, [0]), callback=steps.append)
    assert torch.allclose(found.x, x, rtol=0, atol=1e-11)
    assert [float(step.stats["residual"]) for step in steps] == pytest.approx(residuals, rel=1e-9)
    assert (
        DPS(steps=3, zeta=zeta, sigma_max=2.0)
        .solve(problem, prior, generator=0)
        .x.equal(DPS(steps=3, scale=1.5, zeta=zeta, sigma_max=2.0).solve(problem, prior, generator=0).x)
    )


@pytest.mark.parametrize("noise", ["langevin", "consistent"])
def test_score_ald_by_component_by_hand(noise):
    """H = 2: P = 4 rho^2 / (sigma_y^2 + 4 rho^2); the noise as the class states it, in the order in which it is drawn."""
    prior = GaussianPrior(0.5, 0.25)
    problem = Problem(Scaled(Identity(SHAPE), 2.0), torch.full((1, *SHAPE), 1.4, dtype=DOUBLE), GaussianNoise(0.1), check_range=False)
    solver = ScoreALD(steps=2, inner=2, step=0.6, gamma=0.7, noise=noise, sigma_max=0.2)
    first, second = solver.sigmas(prior)[:-1]
    rng = Rng(0, [0])
    warm = (0.5 / prior.s0**2 + 2 * 1.4 / 0.01) / (1 / prior.s0**2 + 4 / 0.01)
    x = warm + first * rng.normal_like(problem.image)
    share = 1 / (1 + 0.7**2)
    k = 0.6 * share
    for sigma, following in ((first, first), (first, second), (second, second), (second, second)):
        rho = sigma / math.sqrt(share)
        gain = 2 * rho**2 / (0.01 + 4 * rho**2)  # from a residual of y to the image
        seen = 2 * gain
        estimate = shrunk(x, sigma)
        moved = x + 0.6 * (estimate - x) + k * gain * (1.4 - 2 * estimate)
        if noise == "langevin":
            width = math.sqrt(2 * 0.6 * share) * sigma
            of_y = gain * width / rho * 0.1 * rng.normal_like(x)
            x = moved + of_y + width * (1 - seen) * rng.normal_like(x) + math.sqrt(2 * 0.6 * (1 - share)) * sigma * rng.normal_like(x)
        else:
            c = max(0.0, following**2 - (0.4 * sigma) ** 2)
            q = min(k * rho / 2, math.sqrt(c))
            x = moved + q * (2 * seen - 1) * rng.normal_like(x) + math.sqrt(c - q**2) * rng.normal_like(x)
    found = solver.solve(problem, prior, generator=Rng(0, [0])).x
    assert torch.allclose(found, shrunk(x, second), rtol=0, atol=1e-11)


# benchmarks/results (quick.md, defaults.md, dps.md, oracle.md) were measured with these: whoever changes one measures anew.
DEFAULTS = {
    DDIM: {"steps": 50, "eta": 0.0, "grid": "karras", "sigma_max": None},
    DDPM: {"steps": 200, "eta": 1.0, "grid": "karras", "sigma_max": None},
    DDRM: {"steps": 50, "eta": 0.9, "eta_b": 1.0, "grid": "karras", "sigma_max": None, "authors": False},
    DiffPIR: {"steps": 30, "zeta": 1.0, "weight": 1.0, "variance": "noise", "grid": "karras", "sigma_max": None, "authors": False},
    DPS: {"steps": 100, "scale": None, "zeta": 1.0, "grid": "karras", "sigma_max": None, "authors": False},
    Heun: {"steps": 18, "churn": 0.0, "s_min": 0.0, "s_max": math.inf, "s_noise": 1.0, "grid": "karras", "sigma_max": None},
    Spectral: {"steps": 20, "draw": False, "zeta": 1.0, "slope": None, "grid": "karras", "sigma_max": None},
    ScoreALD: {
        "steps": 100,
        "inner": 1,
        "step": 0.8,
        "gamma": 1.0,
        "noise": "consistent",
        "precondition": True,
        "grid": "karras",
        "sigma_max": None,
        "authors": False,
    },
}


@pytest.mark.parametrize("cls", DEFAULTS, ids=lambda cls: cls.__name__)
def test_defaults_are_those_that_the_tables_were_measured_with(cls):
    assert {field.name: getattr(cls(), field.name) for field in fields(cls)} == DEFAULTS[cls]


def test_the_first_level_of_what_starts_from_y():
    """20 s0 on the grid karras, inside the prior's range; the whole schedule on the authors' grids and with authors=True."""
    prior = GaussianPrior(0.5, 0.25)
    assert DDRM().top(prior) == pytest.approx(5.0)
    assert DDRM(sigma_max=3.0).top(prior) == 3.0
    assert DDRM(grid="vp-uniform").top(prior) is None
    assert DDRM(authors=True).top(prior) is None
    narrow = GaussianPrior(0.5, 0.25)
    narrow.sigma_range = (0.01, 2.0)
    assert DDRM().top(narrow) == 2.0
    narrow.sigma_range = (7.0, 20.0)
    assert DDRM().top(narrow) == 7.0


@pytest.mark.parametrize("dtype", [DOUBLE, torch.float32])
def test_a_component_that_y_does_not_resolve_counts_with_its_rounding(dtype):
    """s = (1, 1e-15 or 1e-7) without noise: four roundings of y's root mean square, divided by s, where that exceeds the finest level."""
    from invsolve.operator.matrix import MatrixOperator
    from invsolve.solvers.diffusion.spectrum import Measured

    small = 1e-13 if dtype == DOUBLE else 1e-5
    s = torch.tensor([1.0, small], dtype=DOUBLE)
    y = torch.tensor([0.6, 0.8], dtype=dtype).reshape(1, 1, 1, 2)
    problem = Problem(MatrixOperator(torch.diag(s), (1, 1, 2), (1, 1, 2)), y, NoNoise())
    svd = problem.operator.svd()
    rounding = 4 * torch.finfo(dtype).eps * math.sqrt((0.6**2 + 0.8**2) / 2) / small
    for finest, wanted in ((rounding * 1.1, 0.0), (rounding * 0.9, rounding)):
        found = Measured.of(svd, problem, finest).level.flatten().tolist()
        assert sorted(found) == pytest.approx([0.0, wanted], rel=1e-5)


@pytest.mark.parametrize("solver", [DDIM(steps=4), DDPM(steps=4), Heun(steps=4), DDRM(steps=4), DiffPIR(steps=4), DPS(steps=4)], ids=repr)
def test_a_step_names_the_level_that_its_state_has(solver):
    prior = GaussianPrior(0.5, 0.25)
    problem = Problem.unconditional(SHAPE, 1, dtype=DOUBLE)
    if solver.requires.measurement:
        problem = Problem(Identity(SHAPE), torch.full((1, *SHAPE), 0.5, dtype=DOUBLE), GaussianNoise(0.1))
    steps = []
    solver.solve(problem, prior, generator=0, callback=steps.append)
    assert [step.sigma for step in steps] == solver.sigmas(prior)[1:]
    assert [step.index for step in steps] == [0, 1, 2, 3]
    assert {step.total for step in steps} == {4}


def test_ddrm_takes_the_last_level_but_0_for_the_finest():
    """A component whose rounding lies between the last two levels is not held to y: with eta_b = 1 it would end at y / s exactly."""
    from invsolve.operator.matrix import MatrixOperator

    prior, solver = GaussianPrior(0.5, 0.25), DDRM(steps=3, sigma_max=2.0)
    *_, coarse, fine, _ = solver.sigmas(prior)
    level = math.sqrt(coarse * fine)
    small = 4 * torch.finfo(torch.float32).eps * math.sqrt(0.5) / level
    y = torch.tensor([1.0, 0.0], dtype=torch.float32).reshape(1, 1, 1, 2)
    y[..., 1] = 0.9 * small
    problem = Problem(MatrixOperator(torch.diag(torch.tensor([1.0, small], dtype=DOUBLE)), (1, 1, 2), (1, 1, 2)), y, NoNoise())
    found = solver.solve(problem, prior, generator=0).x.flatten()
    assert float(found[0]) == pytest.approx(1.0, abs=1e-6)
    assert abs(float(found[1]) - 0.9) > 1e-5
