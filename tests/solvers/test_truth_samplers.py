"""Samplers against closed forms: Gaussian prior, linear operator, dense float64 algebra written here.

Under a Gaussian prior ddim, ddpm, heun, diffpir, ddrm and score-ald are affine in (x_T, y, z), so the law of their output follows
exactly by a recursion on mean and covariance. N = 4000 chains (one batch of identical problems) must agree with that law
within 4 standard errors in every entry of mean and covariance. The law's own distance from the posterior is the
solver's bias: `benchmarks/studies/oracle.py` tabulates it; the assertions on it here are those of theory.
"""

import itertools
import math

import pytest
import torch
from turns import one_in

from invsolve import GaussianNoise, NoNoise, Problem
from invsolve.priors import GaussianMixturePrior, GaussianPrior
from invsolve.schedule import karras
from invsolve.solvers import DDIM, DDPM, DDRM, DPS, DiffPIR, Heun, ScoreALD
from invsolve.solvers.diffusion.common import inner_norm
from invsolve.testing.oracle import (
    Bias,
    DenseOperator,
    Gaussian,
    empirical,
    gaussian_case,
    propagate,
    sliced_wasserstein,
    standard_errors,
)
from invsolve.testing.pooled import Pooled

SIZE, ROWS, CHAINS, SIGMA_Y = 8, 4, 4000, 0.05
EYE = torch.eye(SIZE, dtype=torch.float64)


def case(name, seed=0):
    return gaussian_case(name, seed, size=SIZE, rows=ROWS, sigma=SIGMA_Y)


def problem_of(matrix, y, chains=CHAINS, sigma=SIGMA_Y):
    noise = GaussianNoise(sigma) if sigma else NoNoise()
    return Problem(DenseOperator(matrix), y.expand(chains, ROWS), noise)


def zero(size=SIZE):
    return torch.zeros(size, size, dtype=torch.float64)


def start(sigma):
    return Gaussian(torch.full((SIZE,), 0.5, dtype=torch.float64), sigma**2 * EYE)


def warm_start(prior, sigma, a, y, sigma_y=SIGMA_Y):
    """sigma z about the posterior mean of N(1/2, s0^2 I)."""
    white = Gaussian(torch.full((SIZE,), 0.5, dtype=torch.float64), prior.s0**2 * EYE)
    return Gaussian(white.posterior(a, y, sigma_y).mean, sigma**2 * EYE)


def grid(prior, steps):
    """The grid that the samplers which start from y take by rule: from 20 s0."""
    return karras(steps, 0.002, 20 * prior.s0)


# ---- the laws, step by step: x <- F x + g + N(0, Q) ----


def generic_law(law, sigmas, eta):
    def steps():
        for sigma, following in itertools.pairwise(sigmas):
            gain, offset = law.denoiser(sigma)
            ratio = 1 - (following / sigma) ** 2
            kept = following / sigma * math.sqrt(1 - eta**2 * ratio)
            yield gain + kept * (EYE - gain), (1 - kept) * offset, following**2 * eta**2 * ratio * EYE

    return propagate(start(sigmas[0]), steps())


def heun_law(law, sigmas):
    def slope(sigma):
        gain, offset = law.denoiser(sigma)
        return (EYE - gain) / sigma, -offset / sigma

    def steps():
        for sigma, following in itertools.pairwise(sigmas):
            first, g = slope(sigma)
            matrix, shift = EYE + (following - sigma) * first, (following - sigma) * g
            if following > 0:
                second, h = slope(following)
                half = 0.5 * (following - sigma)
                matrix, shift = EYE + half * (first + second @ matrix), half * (g + h + second @ shift)
            yield matrix, shift, zero()

    return propagate(start(sigmas[0]), steps())


def diffpir_law(law, prior, sigmas, a, y, *, zeta, spread, sigma_y=SIGMA_Y):
    def steps():
        for sigma, following in itertools.pairwise(sigmas):
            gain, offset = law.denoiser(sigma)
            pull = a.T @ torch.linalg.inv(a @ a.T + sigma_y**2 / spread(sigma) * torch.eye(ROWS, dtype=torch.float64))
            matrix, shift = (EYE - pull @ a) @ gain, (EYE - pull @ a) @ offset + pull @ y
            kept = following / sigma * math.sqrt(1 - zeta)
            yield matrix + kept * (EYE - matrix), (1 - kept) * shift, following**2 * zeta * EYE

    return propagate(warm_start(prior, sigmas[0], a, y, sigma_y), steps())


def ddrm_law(law, s0, sigmas, a, y, *, eta=0.9, eta_b=1.0, sigma_y=SIGMA_Y):
    u, s, vh = torch.linalg.svd(a, full_matrices=True)
    level, value, trust = torch.zeros(3, SIZE, dtype=torch.float64)
    level[:ROWS], value[:ROWS] = sigma_y / s, (u.T @ y) / s
    trust[:ROWS] = 100 * s0**2 / (100 * s0**2 + level[:ROWS] ** 2)
    middle = vh @ torch.full((SIZE,), 0.5, dtype=torch.float64)
    law_now = Gaussian(trust * value + (1 - trust) * middle, torch.diag(sigmas[0] ** 2 - (trust * level) ** 2))

    def share(sigma, following, at):  # how far a component's noise `at` is from this level to the next, by ratios
        if at <= following or following == 0:
            return 1.0 if at <= following else 0.0
        return max(0.0, math.log(sigma / at) / math.log(sigma / following))

    def steps():
        for sigma, following in itertools.pairwise(sigmas):
            gain, offset = law.denoiser(sigma)
            gain, offset = vh @ gain @ vh.T, vh @ offset
            strong = torch.tensor([share(sigma, following, float(at)) for at in level], dtype=torch.float64)
            from_y = trust * (strong * eta_b + (1 - strong) * math.sqrt(1 - eta**2))
            pull = from_y * (following / level.clamp_min(1e-300)).clamp_max(1)
            hold = (1 - trust**2).sqrt() * math.sqrt(1 - eta**2)
            held = hold * following / sigma
            fresh = following**2 - (hold * following) ** 2 - (pull * level) ** 2
            left = 1 - pull - held
            yield left[:, None] * gain + torch.diag(held), left * offset + pull * value, torch.diag(fresh)

    spectral = propagate(law_now, steps())
    return spectral.affine(vh.T, torch.zeros(SIZE, dtype=torch.float64), zero())


def added(before, after, kept, noise, h):
    """Variance of the fresh noise: what is missing to the level told next, or Langevin's."""
    return 2 * h if noise == "langevin" else max(0.0, after**2 - (kept * before) ** 2)


def ald_law(law, prior, sigmas, a, y, *, step=0.8, gamma=1.0, inner=1, noise="consistent", sigma_y=SIGMA_Y):
    """One step size in all directions."""
    bound = float(torch.linalg.matrix_norm(a, 2)) ** 2

    def steps():
        for sigma, following in itertools.pairwise(sigmas[:-1] + sigmas[-2:-1]):
            gain, offset = law.denoiser(sigma)
            width = sigma_y**2 + (gamma * sigma) ** 2 * bound
            h = step / (1 / sigma**2 + bound / width)
            matrix = EYE + h * ((gain - EYE) / sigma**2 - a.T @ a / width)
            for count in range(inner):
                after = following if count == inner - 1 else sigma
                fresh = added(sigma, after, 1 - h / sigma**2, noise, h)
                yield matrix, h * (offset / sigma**2 + a.T @ y / width), fresh * EYE
        gain, offset = law.denoiser(sigmas[-2])
        yield gain, offset, zero()

    return propagate(warm_start(prior, sigmas[0], a, y, sigma_y), steps())


def ald_component_law(law, prior, sigmas, a, y, *, step=0.8, gamma=1.0, inner=1, noise="consistent", sigma_y=SIGMA_Y):
    """A step size for each singular component, written without components.

    P is a function of A^T A and h = step (1 / sigma^2 + P)^-1, so x keeps 1 - step of its noise in every direction; y - H x0 brings
    h P H^+ n, of covariance sigma_y^2 h P (A^T A)^+ P h.
    """
    values, vectors = torch.linalg.eigh(a.T @ a)
    seen = values > 1e-12 * values.max()

    def function(of):  # of(s^2) on the row space, 0 on the null space
        return (vectors * torch.where(seen, of(values.clamp_min(1e-300)), torch.zeros(SIZE, dtype=torch.float64))) @ vectors.T

    centre = torch.linalg.pinv(a, rtol=1e-10) @ y  # y in the image; what it weighs has no part in the null space

    def steps():
        for sigma, following in itertools.pairwise(sigmas[:-1] + sigmas[-2:-1]):
            gain, offset = law.denoiser(sigma)
            precision = function(lambda square, sigma=sigma: 1 / (sigma_y**2 / square + (gamma * sigma) ** 2))
            h = step * torch.linalg.inv(EYE / sigma**2 + precision)
            matrix = EYE + h @ ((gain - EYE) / sigma**2 - precision)
            shift = h @ (offset / sigma**2 + precision @ centre)
            brought = h @ precision @ function(lambda square: sigma_y**2 / square) @ precision @ h
            for count in range(inner):
                after = following if count == inner - 1 else sigma
                missing = (after**2 - ((1 - step) * sigma) ** 2) * EYE - brought
                size, basis = torch.linalg.eigh(0.5 * (missing + missing.T))
                yield matrix, shift, 2 * h if noise == "langevin" else (basis * size.clamp_min(0)) @ basis.T
        gain, offset = law.denoiser(sigmas[-2])
        yield gain, offset, zero()

    return propagate(warm_start(prior, sigmas[0], a, y, sigma_y), steps())


def posterior_spread(prior):
    return lambda sigma: prior.s0**2 * sigma**2 / (prior.s0**2 + sigma**2)


def paper_spread(sigma):
    return sigma**2


SAMPLERS = {
    "ddrm": (DDRM(), lambda law, prior, a, y: ddrm_law(law, prior.s0, grid(prior, 50), a, y)),
    "ddrm-eta_b": (DDRM(20, 0.5, 0.7), lambda law, prior, a, y: ddrm_law(law, prior.s0, grid(prior, 20), a, y, eta=0.5, eta_b=0.7)),
    "ddrm-top": (DDRM(20, sigma_max=80.0), lambda law, prior, a, y: ddrm_law(law, prior.s0, prior.sigmas(20), a, y)),
    "diffpir": (DiffPIR(), lambda law, prior, a, y: diffpir_law(law, prior, grid(prior, 30), a, y, zeta=1.0, spread=paper_spread)),
    "diffpir-zeta": (
        DiffPIR(zeta=0.3, variance="posterior"),
        lambda law, prior, a, y: diffpir_law(law, prior, grid(prior, 30), a, y, zeta=0.3, spread=posterior_spread(prior)),
    ),
    "diffpir-weight": (
        DiffPIR(weight=2.0, sigma_max=80.0),
        lambda law, prior, a, y: diffpir_law(law, prior, prior.sigmas(30), a, y, zeta=1.0, spread=lambda sigma: sigma**2 / 2),
    ),
    "score-ald": (ScoreALD(60), lambda law, prior, a, y: ald_component_law(law, prior, grid(prior, 60), a, y)),
    "score-ald-langevin": (
        ScoreALD(40, inner=2, step=0.3, gamma=0.5, noise="langevin"),
        lambda law, prior, a, y: ald_component_law(law, prior, grid(prior, 40), a, y, inner=2, step=0.3, gamma=0.5, noise="langevin"),
    ),
    "score-ald-one": (
        ScoreALD(30, inner=2, precondition=False),
        lambda law, prior, a, y: ald_law(law, prior, grid(prior, 30), a, y, inner=2),
    ),
    "score-ald-paper": (
        ScoreALD(60, inner=3, step=0.3, noise="langevin", precondition=False),
        lambda law, prior, a, y: ald_law(law, prior, grid(prior, 60), a, y, inner=3, step=0.3, noise="langevin"),
    ),
}


@pytest.mark.parametrize(("sampler", "name"), one_in(3, [pytest.param(s, n) for s in SAMPLERS for n in "SGI"], lambda *cell: cell))
def test_posterior_samplers_have_their_exact_law(sampler, name):
    law, prior, matrix, y = case(name)
    solver, expected = SAMPLERS[sampler]
    samples = solver.solve(problem_of(matrix, y), prior, generator=Pooled(0, range(CHAINS))).x
    mean, cov = standard_errors(samples, expected(law, prior, matrix, y))
    assert mean < 4
    assert cov < 4


@pytest.mark.parametrize("name", ["S", "G"])
@pytest.mark.parametrize(
    ("solver", "expected"),
    [
        (DDIM(steps=25), lambda law, prior: generic_law(law, prior.sigmas(25), 0.0)),
        (DDIM(steps=25, eta=0.5), lambda law, prior: generic_law(law, prior.sigmas(25), 0.5)),
        (DDPM(steps=40), lambda law, prior: generic_law(law, prior.sigmas(40), 1.0)),
        (DDPM(steps=40, grid="vp-respaced"), lambda law, prior: generic_law(law, prior.sigmas(40, "vp-respaced"), 1.0)),
        (Heun(), lambda law, prior: heun_law(law, prior.sigmas(18))),
    ],
    ids=["ddim", "ddim-eta", "ddpm", "ddpm-vp", "heun"],
)
def test_unconditional_samplers_have_their_exact_law(solver, expected, name):
    law, prior, _, _ = case(name)
    samples = solver.solve(Problem.unconditional((1, 1, SIZE), CHAINS, dtype=torch.float64), prior, generator=Pooled(1, range(CHAINS))).x
    mean, cov = standard_errors(samples, expected(law, prior))
    assert mean < 4
    assert cov < 4


def test_churn_keeps_the_prior_when_steps_are_small():
    """EDM's churn adds the noise it then removes: with many levels the output law tends to the prior's."""
    law, prior, _, _ = case("S")
    problem = Problem.unconditional((1, 1, SIZE), CHAINS, dtype=torch.float64)
    samples = Heun(steps=60, churn=20).solve(problem, prior, generator=Pooled(2, range(CHAINS))).x
    mean, cov = standard_errors(samples, law)
    assert mean < 4
    assert cov < 4


def posterior_problem(name, seed):
    law, prior, matrix, y = case(name, seed)
    return law, prior, matrix, y, law.posterior(matrix, y, SIGMA_Y)


@pytest.mark.parametrize(("solver", "name"), [(DDPM(steps=150, sigma_max=5.0), "S"), (Heun(steps=40), "G")], ids=["ddpm-S", "heun-G"])
def test_the_exact_score_reaches_the_sampling_floor(solver, name):
    """Rule (ii): with the posterior's own denoiser, mean sliced W1 is within 1.1 of that of exact samples.

    One distance of 1000 exact samples varies by .18 (S) and .26 (G) of itself, the ratio of two means of 64, 8 of each posterior, by
    2^.5 / 8 of that: 1.1 is three standard deviations away for S, two for G.
    """
    count, reached, floor = 1000, 0.0, 0.0
    for case in range(8):
        *_, posterior = posterior_problem(name, case)
        prior = GaussianPrior(posterior.mean.reshape(1, 1, SIZE), cov=posterior.cov)
        unconditional = Problem.unconditional((1, 1, SIZE), 8 * count, dtype=torch.float64)
        drawn = solver.solve(unconditional, prior, generator=Pooled(case, range(8 * count))).x.flatten(1)
        for seed, samples in zip(range(case, 64, 8), drawn.split(count), strict=True):
            reached += sliced_wasserstein(samples, exact := posterior.sample(count, seed=1000 + seed))
            floor += sliced_wasserstein(posterior.sample(count, seed=2000 + seed), exact)
    assert reached <= 1.1 * floor


def test_the_exact_score_of_a_mixture_finds_its_modes():
    """Three modes, well apart: the share of samples near each is its weight within 4 binomial standard errors."""
    means = torch.stack([torch.full((1, 1, 2), value, dtype=torch.float64) for value in (-0.5, 0.5, 1.5)])
    weights = torch.tensor([0.2, 0.5, 0.3])
    prior = GaussianMixturePrior(means, std=0.1, weights=weights)
    count = 3000
    samples = Heun(steps=40).solve(Problem.unconditional((1, 1, 2), count, dtype=torch.float64), prior, generator=0).x
    nearest = (samples.flatten(1)[:, None] - means.flatten(1)[None]).square().sum(2).argmin(1)
    share = torch.bincount(nearest, minlength=3) / count
    assert bool(((share - weights).abs() < 4 * (weights * (1 - weights) / count).sqrt()).all())


SOLVERS_FOR_RULE = {"ddrm": DDRM(), "diffpir": DiffPIR(), "score-ald": ScoreALD(), "dps": DPS()}


@pytest.mark.parametrize(("solver", "name"), one_in(2, [pytest.param(s, n) for s in SOLVERS_FOR_RULE for n in "SG"], lambda *cell: cell))
def test_posterior_samplers_beat_the_prior(solver, name):
    """Rule (i): mean sliced W1 to the posterior over 4 draws of (A, y) below the prior's own."""
    count, reached, prior_only = 500, 0.0, 0.0
    for seed in range(4):
        law, prior, matrix, y, posterior = posterior_problem(name, seed)
        samples = SOLVERS_FOR_RULE[solver].solve(problem_of(matrix, y, count), prior, generator=Pooled(seed, range(count))).x.flatten(1)
        exact = posterior.sample(count, seed=1000 + seed)
        reached += sliced_wasserstein(samples, exact)
        prior_only += sliced_wasserstein(law.sample(count, seed=2000 + seed), exact)
    assert reached < prior_only


def test_diffpir_of_the_paper_halves_the_covariance():
    """Rule (vi): lambda = 1, zeta = 1, r^2 = sigma^2 on a white prior: trace ratio .5 +- .05, mean nearly exact."""
    law, prior, matrix, y, posterior = posterior_problem("S", 0)
    found = diffpir_law(law, prior, grid(prior, 100), matrix, y, zeta=1.0, spread=paper_spread)
    bias = Bias.of(found, posterior)
    assert abs(bias.trace - 0.5) < 0.05
    samples = DiffPIR(steps=100).solve(problem_of(matrix, y), prior, generator=Pooled(0, range(CHAINS))).x
    measured = Bias.of(empirical(samples), posterior)
    # The trace of a sample covariance of N chains has relative standard error sqrt(2 |C|_F^2 / N) / tr C.
    error = math.sqrt(2 * float(found.cov.square().sum()) / CHAINS) / float(posterior.cov.trace())
    assert abs(measured.trace - bias.trace) < 4 * error


# ---- single facts ----


def test_ddrm_without_noise_ends_consistent():
    law, prior, matrix, _, _ = posterior_problem("S", 0)
    y = matrix @ law.sample(1, 5)[0]
    problem = problem_of(matrix, y, 3, sigma=0)
    x = DDRM().solve(problem, prior, generator=0).x
    # y - H x is a few roundings of numbers of size |y| / s_min.
    smallest = float(torch.linalg.svdvals(matrix).min())
    assert float((problem.operator(x) - problem.y).abs().max()) < 100 * torch.finfo(torch.float64).eps * float(y.abs().max()) / smallest
    theirs = DDRM(authors=True).solve(problem, prior, generator=0).x
    assert float((problem.operator(theirs) - problem.y).abs().max()) > 1e-6  # E5: the strict inequality loses it


def test_ddrm_with_noise_returns_the_estimate():
    _, prior, matrix, y, _ = posterior_problem("S", 0)
    solution = DDRM().solve(problem_of(matrix, y, 2), prior, generator=0, keep=1)
    last = solution.trace[-1]
    assert float((last.x - last.x0_hat).abs().max()) < 1e-12


def test_diffpir_uses_its_last_step():
    """E6: the authors return the state at the last level, whose noise is still there; ours is the data-consistent estimate."""
    _, prior, matrix, y, _ = posterior_problem("S", 0)
    problem = problem_of(matrix, y, 200)
    ours = DiffPIR(steps=20, grid="vp-sqrt").solve(problem, prior, generator=0, keep=1)
    assert torch.equal(ours.x, ours.trace[-1].x0_hat)
    theirs = DiffPIR(steps=20, grid="vp-sqrt", authors=True).solve(problem, prior, generator=0, keep=1)
    assert torch.equal(theirs.x, theirs.trace[-2].x)


def test_diffpir_authors_rho_is_a_quarter_of_lambda():
    """lambda_code = 4 lambda: the authors' 7 in mixed units is our 7 / 4 with r^2 = sigma^2."""
    _, prior, matrix, y, _ = posterior_problem("S", 0)
    problem = problem_of(matrix, y, 1)
    ours = DiffPIR(weight=7 / 4, variance="noise").tau(problem, prior, 0.37)
    theirs = DiffPIR(weight=7.0, authors=True).tau(problem, prior, 0.37)
    assert float((ours - theirs).abs() / ours) < 1e-12


def test_score_ald_stays_stable_without_gamma():
    """gamma = 0 is stiff (the null space hardly moves), but the step rule keeps it finite: a fixed share of the stability limit."""
    _, prior, matrix, y, _ = posterior_problem("G", 0)
    x = ScoreALD(steps=40, gamma=0.0).solve(problem_of(matrix, y, 20), prior, generator=0).x
    assert bool(torch.isfinite(x).all())


def test_score_ald_counts_its_calls():
    _, prior, matrix, y, _ = posterior_problem("S", 0)
    solution = ScoreALD(steps=10, inner=2).solve(problem_of(matrix, y, 2), prior, generator=0)
    assert solution.nfe == 21


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_the_norm_of_nothing_has_gradient_zero(dtype):
    rows = torch.tensor([[0.0, 0.0], [3.0, 4.0]], dtype=dtype, requires_grad=True)
    (gradient,) = torch.autograd.grad(inner_norm(rows).sum(), rows)
    # r / |r|: one quotient and the norm's own rounding.
    expected = torch.tensor([[0.0, 0.0], [0.6, 0.8]], dtype=dtype)
    assert torch.allclose(gradient, expected, rtol=0, atol=4 * torch.finfo(torch.float64).eps)
    assert not bool(gradient[0].abs().any())
