"""Projecting samplers against closed forms: their exact laws under a Gaussian prior, hand recursions, what holds without noise."""

import itertools
import math
from dataclasses import fields, replace

import pytest
import torch
from invsolve_operators import BlockMean, GaussianBlur, Identity, Mask

from invsolve import GaussianNoise, InputError, NoNoise, Problem
from invsolve.operator.algebra import Scaled
from invsolve.priors import GaussianPrior
from invsolve.rng import Rng
from invsolve.solvers import CCDF, DDNM, DDS, ILVR, DDNMPlus, ScoreSDE
from invsolve.solvers.start import smooth_guess
from invsolve.testing.oracle import DenseOperator, Gaussian, gaussian_case, normal, propagate, standard_errors
from invsolve.testing.pooled import Pooled

DOUBLE = torch.float64
SIZE, CHAINS, STEPS, TOP, SIGMA_Y = 8, 1500, 8, 2.0, 0.05
EYE = torch.eye(SIZE, dtype=DOUBLE)


def warm(prior, sigma, matrix, y):
    """sigma z about the mean of N(centre, s0^2) given y."""
    white = Gaussian(torch.full((SIZE,), prior.centre, dtype=DOUBLE), prior.s0**2 * EYE)
    return Gaussian(white.posterior(matrix, y, SIGMA_Y).mean, sigma**2 * EYE)


def gain_at(matrix, variance):
    """K = v A^T (v A A^T + sigma_y^2)^-1."""
    return variance * matrix.T @ torch.linalg.inv(variance * matrix @ matrix.T + SIGMA_Y**2 * torch.eye(len(matrix), dtype=DOUBLE))


def kept_of(sigma, following, eta):
    return following / sigma * math.sqrt(1 - eta**2 * (1 - (following / sigma) ** 2))


def generic(law, sigma, following, eta):
    gain, offset = law.denoiser(sigma)
    kept = kept_of(sigma, following, eta)
    return gain + kept * (EYE - gain), (1 - kept) * offset, (following**2 - (kept * sigma) ** 2) * EYE


def replacement(matrix, y, sigma, variance, weight=1.0):
    """x + weight K (y + sigma A z - A x)."""
    gain = weight * gain_at(matrix, variance)
    noise = sigma * gain @ matrix
    return EYE - gain @ matrix, gain @ y, noise @ noise.T


def replacing(law, begin, sigmas, matrix, y, eta, stop=0.0):
    def steps():
        for sigma, following in itertools.pairwise(sigmas):
            yield generic(law, sigma, following, eta)
            if following >= stop:
                yield replacement(matrix, y, following, (1 - kept_of(sigma, following, eta)) * following**2)

    return propagate(begin, steps())


def score_sde(law, begin, sigmas, matrix, y, weight, correct):
    def steps():
        for sigma, following in itertools.pairwise(sigmas):
            share = 1 - (following / sigma) ** 2
            yield replacement(matrix, y, sigma, share * sigma**2, weight)
            yield generic(law, sigma, following, 1.0)
            if correct and following > 0:
                yield replacement(matrix, y, following, share * following**2, weight)
                gain, offset = law.denoiser(following)
                h = 2 * 0.16**2
                yield EYE + h * (gain - EYE), h * offset, 2 * h * following**2 * EYE

    return propagate(begin, steps())


def corrected(law, begin, path, matrix, y, eta, gain_of):
    """x_s = x0~ + sigma_s (sqrt(1 - eta^2) (x - D) / sigma + eta z), then up to the next level of the path, (sigma, sigma_s, reached)."""

    def steps():
        for sigma, following, reached in path:
            gain, offset = law.denoiser(sigma)
            pull, kept = gain_of(sigma), following / sigma * math.sqrt(1 - eta**2)
            fresh = (following * eta) ** 2 + reached**2 - following**2
            yield (EYE - pull @ matrix) @ gain + kept * (EYE - gain), (1 - kept) * offset + pull @ (y - matrix @ offset), fresh * EYE

    return propagate(begin, steps())


def ddnm_plus(law, prior, sigmas, path, matrix, y, eta):
    """In the singular basis: p = b s_l(sigma), the rest of the noise goes on as in the generic step."""
    _, s, vh = torch.linalg.svd(matrix, full_matrices=True)
    u = torch.linalg.svd(matrix, full_matrices=True)[0]
    level, value, told = torch.zeros(3, SIZE, dtype=DOUBLE)
    level[:4], value[:4] = SIGMA_Y / s, (u.T @ y) / s
    told[:4] = 1 / (1 + (level[:4] / (10 * prior.s0)) ** 2)

    def at(sigma):
        share = told * sigma / torch.hypot(torch.full_like(level, sigma), level).clamp_min(1e-300)
        return share, (sigma**2 - (share * level) ** 2).sqrt()

    def steps():
        for sigma, following, reached in path:
            gain, offset = law.denoiser(sigma)
            gain, offset = vh @ gain @ vh.T, vh @ offset
            (before, above), (after, below) = at(sigma), at(following)
            kept = below / above * (1 - eta**2 * (1 - (below / above) ** 2)).sqrt()
            fresh = eta**2 * below**2 * (1 - (below / above) ** 2) + reached**2 - following**2
            of_x0 = 1 - after - kept * (1 - before)
            yield of_x0[:, None] * gain + torch.diag(kept), of_x0 * offset + (after - kept * before) * value, torch.diag(fresh)

    share, own = at(sigmas[0])
    middle = vh @ torch.full((SIZE,), prior.centre, dtype=DOUBLE)
    return propagate(Gaussian(middle + share * (value - middle), torch.diag(own**2)), steps()).affine(
        vh.T, torch.zeros(SIZE, dtype=DOUBLE), torch.zeros(SIZE, SIZE, dtype=DOUBLE)
    )


def straight(sigmas):
    return [(sigma, following, following) for sigma, following in itertools.pairwise(sigmas)]


def travelled(sigmas):
    """Six levels, up by two at every second one, once: 0 1 2 | 1 2 3 4 | 3 4 5."""
    visited = [0, 1, 2, 1, 2, 3, 4, 3, 4, 5, 6]
    return [(sigmas[one], sigmas[one + 1], sigmas[two]) for one, two in itertools.pairwise(visited)]


def prior_square(prior, sigma):
    return prior.s0**2 * sigma**2 / (prior.s0**2 + sigma**2)


TRAVEL = {"steps": 6, "jump": 2, "repeats": 2, "sigma_max": TOP}


def smooth(matrix, y, sigma):
    """The start of ccdf: the smooth guess, whose own tests are elsewhere, and the level's noise."""
    guess = smooth_guess(Problem(DenseOperator(matrix), y[None], GaussianNoise(SIGMA_Y), check_range=False))
    return Gaussian(guess.flatten(), sigma**2 * EYE)


def weighted(matrix, variance):
    """K of a weight that does not know the noise: gamma / |A|^2."""
    size = torch.linalg.matrix_norm(matrix, 2) ** 2
    return gain_at(matrix, variance * SIGMA_Y**2 / size)


LAWS = {
    "ilvr": (ILVR(STEPS, sigma_max=TOP), lambda law, prior, s, a, y: replacing(law, warm(prior, s[0], a, y), s, a, y, 1.0)),
    "ilvr-stop": (
        ILVR(STEPS, eta=0.5, stop=0.1, sigma_max=TOP),
        lambda law, prior, s, a, y: replacing(law, warm(prior, s[0], a, y), s, a, y, 0.5, 0.1),
    ),
    "ccdf": (CCDF(STEPS), lambda law, prior, s, a, y: replacing(law, smooth(a, y, s[0]), s, a, y, 1.0)),
    "score-sde": (
        ScoreSDE(STEPS, sigma_max=TOP),
        lambda law, prior, s, a, y: score_sde(law, warm(prior, s[0], a, y), s, a, y, 1.0, False),
    ),
    "score-sde-correct": (
        ScoreSDE(STEPS, weight=0.7, correct=True, sigma_max=TOP),
        lambda law, prior, s, a, y: score_sde(law, warm(prior, s[0], a, y), s, a, y, 0.7, True),
    ),
    "ddnm": (
        DDNM(STEPS, sigma_max=TOP),
        lambda law, prior, s, a, y: corrected(law, warm(prior, s[0], a, y), straight(s), a, y, 1.0, lambda sigma: gain_at(a, sigma**2)),
    ),
    "ddnm-travel": (
        DDNM(eta=0.4, **TRAVEL),
        lambda law, prior, s, a, y: corrected(law, warm(prior, s[0], a, y), travelled(s), a, y, 0.4, lambda sigma: gain_at(a, sigma**2)),
    ),
    "ddnm-plus": (
        DDNMPlus(STEPS, sigma_max=TOP),
        lambda law, prior, s, a, y: ddnm_plus(law, prior, s, straight(s), a, y, 1.0),
    ),
    "ddnm-plus-travel": (
        DDNMPlus(eta=0.4, **TRAVEL),
        lambda law, prior, s, a, y: ddnm_plus(law, prior, s, travelled(s), a, y, 0.4),
    ),
    "dds": (
        DDS(STEPS, eta=0.8, sigma_max=TOP),
        lambda law, prior, s, a, y: corrected(
            law, warm(prior, s[0], a, y), straight(s), a, y, 0.8, lambda sigma: gain_at(a, prior_square(prior, sigma))
        ),
    ),
    "dds-gamma": (
        DDS(STEPS, gamma=3.0, eta=0.0, sigma_max=TOP),
        lambda law, prior, s, a, y: corrected(law, warm(prior, s[0], a, y), straight(s), a, y, 0.0, lambda sigma: weighted(a, 3.0)),
    ),
}


@pytest.mark.parametrize("name", ["G", "I"])
@pytest.mark.parametrize("sampler", LAWS)
def test_projecting_samplers_have_their_exact_law(sampler, name):
    """DDS has five products for an A with four rows, which is the whole span."""
    law, prior, matrix, y = gaussian_case(name)
    solver, expected = LAWS[sampler]
    problem = Problem(DenseOperator(matrix), y.expand(CHAINS, -1), GaussianNoise(SIGMA_Y))
    samples = solver.solve(problem, prior, generator=Pooled(0, range(CHAINS))).x
    mean, cov = standard_errors(samples, expected(law, prior, solver.sigmas(prior), matrix, y))
    assert mean < 4
    assert cov < 4


# ---- facts ----

SHAPE = (1, 8, 8)
OPERATORS = {
    "mask": Mask(SHAPE, mask=(torch.arange(64).reshape(SHAPE) % 3 > 0).double()),
    "means": BlockMean(SHAPE, factor=2),
    "blur": GaussianBlur(SHAPE, sigma=0.6),
}


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("solver", [DDNM(6), DDNMPlus(6), ILVR(6), CCDF(6), ScoreSDE(6)], ids=lambda one: type(one).__name__)
def test_without_noise_the_answer_satisfies_y(solver, name):
    """H x = y to the roundings of numbers up to the first level, some hundred of them, over the smallest singular value (.05 here)."""
    operator, prior = OPERATORS[name], GaussianPrior(0.5, 0.25)
    problem = Problem.simulate(operator, 0.5 + 0.2 * normal(2, *SHAPE, seed=1), NoNoise())
    found = solver.solve(problem, prior, generator=0).x
    assert float((operator(found) - problem.y).abs().max()) < 1e-11


def test_dds_is_the_iterate_of_conjugate_gradients():
    """Two steps of the textbook's recursion on (1 + gamma A^T A) x = x0 + gamma A^T y from x0."""
    _, prior, matrix, y = gaussian_case("G", 4)
    x0, sigma = normal(1, 1, 1, SIZE, seed=2), 0.3
    gamma = prior_square(prior, sigma) / SIGMA_Y**2
    system = EYE + gamma * matrix.T @ matrix
    x = x0.flatten()
    residual = x + gamma * matrix.T @ y - system @ x
    direction = residual
    for _ in range(2):
        step = residual @ residual / (direction @ system @ direction)
        x, following = x + step * direction, residual - step * system @ direction
        direction = following + following @ following / (residual @ residual) * direction
        residual = following
    problem = Problem(DenseOperator(matrix), y[None], GaussianNoise(SIGMA_Y))
    found = DDS(iterations=2)._pulled(problem, prior, x0, sigma).flatten()
    assert torch.allclose(found, x, rtol=0, atol=1e-10)


def test_the_state_of_ddnm_plus_has_the_noise_that_the_network_is_told():
    """A prior that is a point: x - x0 is noise alone, of which y's, the same in every step, and the rest add up to sigma at every level."""
    s = torch.tensor([1.0, 0.3, 0.05, 0.001, 0.0], dtype=DOUBLE)
    operator = DenseOperator(torch.diag(s)[:4])
    count = 4000
    y = 0.5 * s[:4] + 0.1 * normal(count, 4, seed=1)
    prior = GaussianPrior(0.5, 0.25)

    class Point(GaussianPrior):
        """D = 1/2 whatever x is."""

        def forward(self, x, sigma):
            return torch.full_like(x, 0.5)

    point = Point(0.5, 0.25)
    problem = Problem(operator, y, GaussianNoise(0.1), check_range=False)
    spread = []
    DDNMPlus(6, sigma_max=2.0).solve(problem, point, generator=0, callback=lambda step: spread.append(step.x.flatten(1).std(0)))
    for sigma, found in zip(DDNMPlus(6, sigma_max=2.0).sigmas(prior)[1:-1], spread[:-1], strict=True):
        # a standard deviation of N draws has relative standard error 1 / sqrt(2 N)
        assert float((found / sigma - 1).abs().max()) < 4 / math.sqrt(2 * count)


def shrunk(x, sigma):
    """D of N(1/2, .25^2)."""
    return 0.5 + 0.25**2 / (0.25**2 + sigma**2) * (x - 0.5)


def put(x, aim, variance):
    """argmin |aim - 2 x'|^2 / .01 + |x' - x|^2 / variance."""
    return x + 2 * variance / (4 * variance + 0.01) * (aim - 2 * x)


def by_hand(solver, x, sigma, following, rng):
    """One step of H = 2 I, y = 1.4, sigma_y = .1 by the formulas of the classes, the draws in their order."""
    eta = getattr(solver, "eta", 1.0)
    ratio = 1 - (following / sigma) ** 2
    kept = following / sigma * math.sqrt(1 - eta**2 * ratio)

    def draw():
        return rng.normal_like(x) if following > 0 else 0.0

    if isinstance(solver, ScoreSDE):
        x = put(x, 1.4 + 2 * sigma * rng.normal_like(x), ratio * sigma**2)
    x0 = shrunk(x, sigma)
    if isinstance(solver, DDNM | DDS):
        variance = sigma**2 if isinstance(solver, DDNM) else 0.25**2 * sigma**2 / (0.25**2 + sigma**2)
        return put(x0, 1.4, variance) + following * (math.sqrt(1 - eta**2) * (x - x0) / sigma + eta * draw())
    if isinstance(solver, DDNMPlus):
        b, z = 1 / (1 + (0.05 / 2.5) ** 2), rng.normal_like(x)
        (p, q), (after, below) = (
            (b * level / math.hypot(level, 0.05), math.sqrt(level**2 - (b * level / math.hypot(level, 0.05) * 0.05) ** 2))
            for level in (sigma, following)
        )
        rest = 1 - (below / q) ** 2
        own = below * (math.sqrt(1 - eta**2 * rest) * (x - x0 - p * (0.7 - x0)) / q + eta * math.sqrt(rest) * z)
        return x0 + after * (0.7 - x0) + own
    x = x0 + kept * (x - x0) + following * eta * math.sqrt(ratio) * draw()
    if isinstance(solver, ScoreSDE) or following == 0:
        return x
    return put(x, 1.4 + 2 * following * rng.normal_like(x), (1 - kept) * following**2)


BY_HAND = [DDNM(3, eta=0.6), DDNMPlus(3, eta=0.6), DDS(3, eta=0.6), ILVR(3, eta=0.6), CCDF(3, eta=0.6), ScoreSDE(3)]


@pytest.mark.parametrize("solver", BY_HAND, ids=lambda one: type(one).__name__)
def test_three_steps_by_hand(solver):
    """H = 2, from a state of one's own: every number of every step."""
    shape = (1, 2, 3)
    problem = Problem(Scaled(Identity(shape), 2.0), torch.full((1, *shape), 1.4, dtype=DOUBLE), GaussianNoise(0.1), check_range=False)
    prior, rng = GaussianPrior(0.5, 0.25), Rng(0, [0])
    solver = replace(solver, sigma_max=0.5)
    x = x_init = 0.5 + 0.5 * normal(1, *shape, seed=4)
    for sigma, following in itertools.pairwise(solver.sigmas(prior)):
        x = by_hand(solver, x, sigma, following, rng)
    assert torch.allclose(solver.solve(problem, prior, generator=0, x_init=x_init).x, x, rtol=0, atol=1e-12)


def test_where_ccdf_begins():
    """2 s0 inside the prior's range, unless a level is given; about the smooth guess, which moves with the prior's centre."""
    prior = GaussianPrior(0.2, 0.25)
    assert CCDF().top(prior) == pytest.approx(0.5)
    assert CCDF(sigma_max=0.1).top(prior) == 0.1
    prior.sigma_range = (0.01, 0.2)
    assert CCDF().top(prior) == 0.2
    y = torch.full((1, *SHAPE), 0.3, dtype=DOUBLE)
    problem, moved = (Problem(OPERATORS["blur"], y + by, GaussianNoise(0.1)) for by in (0.0, 0.3))
    _, x = CCDF().first(problem, prior, Rng(0, [0]), 0.1, None)
    expected = smooth_guess(moved) - 0.3 + 0.1 * Rng(0, [0]).normal_like(problem.image)  # a blur keeps a grey
    assert torch.allclose(x, expected, rtol=0, atol=1e-12)


DEFAULTS = {
    DDNM: {"steps": 50, "eta": 1.0, "jump": 1, "repeats": 1},
    DDNMPlus: {"steps": 50, "eta": 1.0, "jump": 1, "repeats": 1},
    DDS: {"steps": 50, "gamma": None, "iterations": 5, "eta": 1.0},
    CCDF: {"steps": 20, "eta": 1.0, "stop": 0.0},
    ILVR: {"steps": 50, "eta": 1.0, "stop": 0.0},
    ScoreSDE: {"steps": 50, "weight": 1.0, "correct": False, "snr": 0.16},
}
SHARE = ((0, 1), (-1e-9, 1 + 1e-9, math.nan))
RANGES = [
    *((cls, "eta", *SHARE) for cls in DEFAULTS if cls is not ScoreSDE),
    *((cls, name, (1, 7), (0, -1)) for cls in (DDNM, DDNMPlus) for name in ("jump", "repeats")),
    *((cls, "stop", (0, 9.0), (-1e-9, math.inf, math.nan)) for cls in (ILVR, CCDF)),
    (DDS, "gamma", (None, 1e-9, 1e9), (0, -1.0, math.inf, math.nan)),
    (DDS, "iterations", (1, 7), (0, -1)),
    (ScoreSDE, "weight", (1e-9, 1), (0, 1 + 1e-9, math.nan)),
    (ScoreSDE, "snr", (1e-9, 1 - 1e-9), (0, 1, math.nan)),
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
