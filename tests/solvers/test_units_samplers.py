"""DiffPIR, DDRM and ScoreALD: the unit of y, what "no noise" means, the authors' constants, the first level, and small singular values."""

import itertools
import math

import pytest
import torch
from invsolve_operators import BlockMean, GaussianBlur, Mask
from sweeps import thinned

from invsolve import GaussianNoise, NoNoise, Operator, Problem
from invsolve.priors import GaussianPrior
from invsolve.priors.base import DiffusionPrior
from invsolve.rng import Rng
from invsolve.schedule import DiscreteVP
from invsolve.solvers import DDRM, DiffPIR, ScoreALD
from invsolve.testing.oracle import Bias, DenseOperator, Gaussian, empirical, normal

SHAPE = (1, 8, 8)
SOLVERS = [
    DiffPIR(steps=12),
    DiffPIR(steps=12, zeta=0.3, variance="posterior"),
    DDRM(steps=12),
    ScoreALD(steps=12),
    ScoreALD(steps=12, noise="langevin"),
    ScoreALD(steps=12, precondition=False),
]


def circulant(blur):
    """A blur as a matrix: its singular values come in pairs, whose basis LAPACK turns as rounding goes."""
    return DenseOperator(torch.stack([blur(one[None])[0].flatten() for one in torch.eye(64).double().reshape(64, *SHAPE)], 1), SHAPE)


OPERATORS = {
    "mask": Mask(SHAPE, mask=(torch.arange(64).reshape(SHAPE) % 3 > 0).double()),
    "blur": GaussianBlur(SHAPE, sigma=0.8),
    "means": BlockMean(SHAPE, factor=2),
    "dense": DenseOperator(normal(20, 64, seed=3) / 8, SHAPE),
    "dense-blur": circulant(GaussianBlur(SHAPE, sigma=0.8)),
}


def images(count=2):
    return 0.5 + 0.2 * normal(count, *SHAPE, seed=1)


def scaled(operator: Operator, y, sigma, factor):
    """(c H, c y, c sigma)."""
    times = DenseOperator(factor * operator.matrix, SHAPE) if isinstance(operator, DenseOperator) else factor * operator
    noise = GaussianNoise(abs(factor) * sigma) if isinstance(sigma, torch.Tensor) or sigma else NoNoise()
    return Problem(times, factor * y, noise, check_range=False)


SIGMAS = {"none": 0.0, "even": 0.05, "per item": torch.tensor([0.02, 0.3], dtype=torch.float64)}
UNITS = [
    pytest.param(solver, name, sigma, id=f"{type(solver).__name__}-{name}-{level}")
    for solver in SOLVERS
    for name in OPERATORS
    for level, sigma in SIGMAS.items()
]


def met(place):
    """In a plain run every solver on every operator at one level, by turns."""
    pair, level = divmod(place, len(SIGMAS))
    return sum(divmod(pair, len(OPERATORS))) % len(SIGMAS) == level


@pytest.mark.parametrize(("solver", "name", "sigma"), thinned(UNITS, met))
def test_the_unit_of_y_does_not_matter(solver, name, sigma):
    """(cH, cy, c sigma) has one answer. 1e-6 relative; noise is drawn in the image, so that the basis of an SVD has no say either.

    But for ScoreALD's Langevin noise, of which a part is drawn in y: c < 0 turns that part, and gives another draw of one law.
    """
    operator = OPERATORS[name]
    noise = torch.as_tensor(sigma, dtype=torch.float64).reshape(-1, *[1] * len(operator.out_shape))
    y = operator(images()) + noise * normal(2, *operator.out_shape, seed=2)
    prior = GaussianPrior(0.5, 0.25)
    sign = 1 if getattr(solver, "noise", "") == "langevin" else -1
    answers = [solver.solve(scaled(operator, y, sigma, factor), prior, generator=0).x for factor in (1.0, 1e-4, 0.3 * sign, 1e4)]
    for answer in answers[1:]:
        assert float((answer - answers[0]).abs().max() / answers[0].abs().max()) < 1e-6


@pytest.mark.parametrize("factor", [1.0, 40.0])
def test_what_no_noise_means_to_diffpir(factor):
    """H = c I, one step, no noise: x is the warm start's estimate m pulled to y / c with noise .001 in the image.

    x_1 = m + w (y / c - m), w = r^2 / (r^2 + .001^2), r = sigma: here sigma is chosen so small that w is no 1 to rounding.
    """
    sigma, shape = 0.003, (1, 1, 3)
    y = factor * torch.tensor([[[[0.2, 0.5, 0.9]]]], dtype=torch.float64)
    operator = factor * Mask(shape, mask=torch.ones(shape).double())
    prior = GaussianPrior(0.5, 0.25)
    problem = Problem(operator, y, NoNoise(), check_range=False)
    x = DiffPIR(steps=1, sigma_max=sigma).solve(problem, prior, generator=0, paste=False).x
    z = Rng.make(0, (0,)).normal(shape, y)
    warm = 0.5 + 0.25**2 / (0.25**2 + 0.001**2) * (y / factor - 0.5)
    estimate = 0.5 + 0.25**2 / (0.25**2 + sigma**2) * (warm + sigma * z - 0.5)
    expected = estimate + sigma**2 / (sigma**2 + 0.001**2) * (y / factor - estimate)
    assert float((x - expected).abs().max()) < 1e-12
    assert float((estimate - y / factor).abs().max()) > 1e-3  # so that a floor of another size would show


def test_the_floor_of_diffpirs_authors_is_in_the_units_of_y():
    """rho = lambda sigma_y^2 / (width sigma)^2, sigma_y at least .001."""
    prior, problem = GaussianPrior(), Problem(DenseOperator(2 * torch.eye(3).double()), torch.zeros(1, 3).double(), NoNoise())
    assert float(DiffPIR(authors=True, weight=7.0).tau(problem, prior, 0.37)) == pytest.approx((2 * 0.37 / 0.001) ** 2 / 7, rel=1e-12)


def test_score_ald_of_the_authors_is_their_recursion():
    """x <- x + h [s + 5 (|s| / |g|) g] + sqrt(2 h) z, h = 5e-5 (sigma_i / sigma_L)^2, g = H^T (y - H x), then the denoising."""
    matrix = normal(4, 6, seed=5)
    y, prior = normal(1, 4, seed=6), GaussianPrior(0.4, 0.3)
    solver = ScoreALD(steps=5, inner=2, sigma_max=0.02, authors=True)
    x = solver.solve(Problem(DenseOperator(matrix), y, GaussianNoise(0.1)), prior, generator=3).x.flatten()
    rng, like = Rng.make(3, (0,)), torch.zeros(1, 1, 1, 6, dtype=torch.float64)

    def draw():
        return rng.normal_like(like).flatten()

    def denoised(state, sigma):
        return 0.4 + 0.3**2 / (0.3**2 + sigma**2) * (state - 0.4)

    root = [0.02 ** (1 / 7) + i / 4 * (0.002 ** (1 / 7) - 0.02 ** (1 / 7)) for i in range(5)]
    state = 0.4 + 0.02 * draw()
    for sigma in [value**7 for value in root]:
        for _ in range(2):
            score = (denoised(state, sigma) - state) / sigma**2
            pull = matrix.T @ (y[0] - matrix @ state)
            h = 5e-5 * (sigma / 0.002) ** 2
            state = state + h * (score + 5.0 * score.norm() / pull.norm() * pull) + math.sqrt(2 * h) * draw()
    expected = denoised(state, 0.002)
    assert float((x - expected).abs().max()) < 1e-9 * float(expected.abs().max())
    assert float((expected - 0.4).abs().max()) > 0.01


def test_the_state_has_the_noise_that_the_network_is_told_next():
    """A prior that is a point: all that x differs by from it is noise, which must have the level told next, measured or not.

    Where y measures, x holds its noise n from the steps before and gets b n again, c_next = (1 - step) c + b: the solver adds variances,
    as if the two were independent, and so ends a little above the level, by what the recursion here says and at most 7 % on this grid of
    30 (3 % at the defaults). The standard deviation of m numbers has relative error 1 / sqrt(2 m).
    """
    shape, point, level, step = (1, 24, 24), GaussianPrior(0.5, 1e-9), 0.05, 0.8
    mask = torch.ones(shape).double()
    mask[..., 12:] = 0
    y = 0.5 * mask.expand(16, *shape) + level * normal(16, *shape, seed=4) * mask
    problem, solver = Problem(Mask(shape, mask=mask), y, GaussianNoise(level)), ScoreALD(steps=30, sigma_max=2.0)
    unseen, seen, expected = [], [], []

    def look(state):
        unseen.append(float(state.x[..., mask[0] == 0].std()))
        seen.append(float(state.x[..., mask[0] == 1].std()))

    solver.solve(problem, point, generator=0, callback=look)
    told = solver.sigmas(point)[:-1]
    held, other = 0.0, told[0] ** 2
    for sigma, following in itertools.pairwise(told):
        precision = 1 / (level**2 + sigma**2)
        brought = step * precision / (1 / sigma**2 + precision) * level
        other = (1 - step) ** 2 * other + following**2 - ((1 - step) * sigma) ** 2 - brought**2
        held = (1 - step) * held + brought
        expected.append(math.sqrt(other + held**2))
    error = 4 / math.sqrt(2 * 16 * 288)
    unseen, seen = unseen[:-2], seen[:-2]  # but the last level and the denoising
    for free, measured, both, following in zip(unseen, seen, expected, told[1:], strict=True):
        assert free / following == pytest.approx(1, abs=error)
        assert measured / both == pytest.approx(1, abs=error)
        assert 1 - 1e-9 < both / following < 1.07


@pytest.mark.parametrize("solver", [DiffPIR(), DDRM(), ScoreALD()], ids=lambda solver: type(solver).__name__)
def test_the_first_level_by_rule(solver):
    """20 s0, inside the prior's range; the vp grids and a sigma_max of one's own are left alone."""
    assert solver.sigmas(GaussianPrior(0.5, 0.1))[0] == pytest.approx(2.0, rel=1e-12)
    assert solver.sigmas(GaussianPrior(0.5, 10.0))[0] == pytest.approx(80.0, rel=1e-12)
    assert solver.sigmas(GaussianPrior(0.5, 1e-6))[0] == pytest.approx(0.002, rel=1e-12)
    table = DiffusionPrior(GaussianPrior(0.5, 0.25), DiscreteVP())
    levels = [level / 2 for level in DiscreteVP().sigmas]
    assert solver.sigmas(table)[0] == max(level for level in levels if level <= 5.0)
    assert type(solver)(grid="vp-uniform").sigmas(table)[0] > 40
    assert type(solver)(sigma_max=1.5).sigmas(GaussianPrior())[0] == pytest.approx(1.5, rel=1e-12)
    assert type(solver)(authors=True).sigmas(GaussianPrior())[0] == pytest.approx(80.0, rel=1e-12)
    assert solver.mismatches(Problem(Mask(SHAPE, mask=torch.ones(SHAPE)), torch.zeros(1, *SHAPE), GaussianNoise(0.1)), table) == []


def decades():
    """A 6 x 6 matrix whose singular values lie between .03 and 3, a correlated law, y."""
    left, right = (torch.linalg.qr(normal(6, 6, seed=seed))[0] for seed in (11, 12))
    basis = torch.linalg.qr(normal(6, 6, seed=13))[0]
    law = Gaussian(torch.full((6,), 0.5).double(), basis @ torch.logspace(-1.1, -3.1, 6).double().diag() @ basis.T)
    matrix = left @ torch.logspace(math.log10(0.03), math.log10(3), 6).double().diag() @ right
    return law, matrix, matrix @ law.sample(1, 14)[0] + 0.05 * normal(6, seed=15)


def field():
    """A blur of 8 x 8 pixels, of a field with exponential covariance."""
    place = torch.cartesian_prod(torch.arange(8.0), torch.arange(8.0)).double()
    law = Gaussian(torch.full((64,), 0.5).double(), 0.0625 * (-torch.cdist(place, place) / 3).exp())
    matrix = circulant(GaussianBlur(SHAPE, sigma=1.0)).matrix
    return law, matrix, matrix @ law.sample(1, 16)[0] + 0.05 * normal(64, seed=17)


@pytest.mark.parametrize("case", [decades, field])
def test_a_step_per_component_serves_small_singular_values(case):
    """One step for all directions is as long as |H| lets it be: what small singular values measure is not reached in time."""
    law, matrix, y = case()
    posterior, prior = law.posterior(matrix, y, 0.05), GaussianPrior(0.5, cov=law.cov)
    problem = Problem(DenseOperator(matrix), y.expand(400, len(y)), GaussianNoise(0.05))
    each, one = (Bias.of(empirical(ScoreALD(precondition=kind).solve(problem, prior, generator=0).x), posterior) for kind in (True, False))
    assert each.mean < 0.25  # 400 chains alone: |error| / s.d. of about sqrt(1 / 400) = .05
    assert each.mean < 0.6 * one.mean
