"""Steps of the solvers that alternate or follow a flow, written out; the ends of their ranges; problems that are not linear."""

import math
from itertools import pairwise

import pytest
import torch
from invsolve_operators import Identity, PhaseRetrieval

from invsolve import GaussianNoise, NoNoise, Problem
from invsolve.errors import CompatibilityError, InputError
from invsolve.operator.algebra import Scaled
from invsolve.priors import GaussianPrior
from invsolve.rng import Rng
from invsolve.schedule import karras
from invsolve.solvers import CM4IR, DAPS, LATINO, OTODE, TDS, PnPDM, PnPFlow, REDDiff
from invsolve.solvers.decoupled.draws import moved_draw, pull
from invsolve.solvers.flow.ot_ode import positive_solve
from invsolve.solvers.guidance.common import from_rows, rows_of
from invsolve.solvers.paths import descend
from invsolve.testing.oracle import normal

DOUBLE, SHAPE = torch.float64, (1, 3, 4)
PRIOR = GaussianPrior(0.5, 0.25)


def twice(y=1.4, sigma=0.1):
    return Problem(Scaled(Identity(SHAPE), 2.0), torch.full((1, *SHAPE), y, dtype=DOUBLE), GaussianNoise(sigma), check_range=False)


def shrunk(x, sigma):
    """The estimate of N(1/2, 1/16)."""
    return 0.5 + (1 / 16) / (1 / 16 + sigma**2) * (x - 0.5)


@pytest.mark.parametrize(("inner", "momentum"), [("langevin", 0.0), ("hmc", 0.9)])
def test_daps_by_moves(inner, momentum):
    """H = 2: force 2 (y - 2 x) / sigma_y^2 + (x0 - x) / r^2, h = step / (1 / r^2 + 4 / sigma_y^2), r = sigma as in the paper."""
    solver = DAPS(2, inner=inner, inner_steps=3, step=0.3, variance="noise", sigma_max=2.0)
    rng, problem = Rng(0, [0]), twice()
    first, second, _ = solver.sigmas(PRIOR)
    warm = (0.5 / PRIOR.s0**2 + 2 * 1.4 / 0.01) / (1 / PRIOR.s0**2 + 4 / 0.01)
    x = warm + first * rng.normal_like(problem.image)
    for r, following in ((first, second), (second, 0.0)):
        x0 = shrunk(x, r)
        x = x0 + r * rng.normal_like(x)
        h = 0.3 / (1 / r**2 + 4 / 0.01)
        v = rng.normal_like(x) if momentum else 0.0
        for _ in range(3):
            force = 2 * (1.4 - 2 * x) / 0.01 + (x0 - x) / r**2
            v = momentum * v + math.sqrt(h) * force + math.sqrt(2 * (1 - momentum)) * rng.normal_like(x)
            x = x + math.sqrt(h) * v
        x = x + following * rng.normal_like(x) if following else x
    assert torch.allclose(solver.solve(problem, PRIOR, generator=Rng(0, [0])).x, x, rtol=0, atol=1e-10)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_moves_end_in_the_law_that_is_asked_for(momentum):
    """Many short moves on H = 2: mean and variance of 20000 pixels, within 4 standard errors and a bias of the step of less than 5 %."""
    shape = (1, 100, 200)
    problem = Problem(Scaled(Identity(shape), 2.0), torch.full((1, *shape), 1.4, dtype=DOUBLE), GaussianNoise(0.3), check_range=False)
    x = moved_draw(problem, 100, 0.1, momentum)(problem.image + 0.2, 0.25, Rng(0, [0]))
    precision = 4 / 0.09 + 16
    mean = (2 * 1.4 / 0.09 + 0.2 * 16) / precision
    assert float(x.mean()) == pytest.approx(mean, abs=4 * precision**-0.5 / math.sqrt(20000))
    # Euler's moves are wider by 1 / (1 - step / 2); 4 standard errors of a variance are 4 sqrt(2 / N) = .04
    assert 0.96 < float(x.var()) * precision < 1 / (1 - 0.05) + 0.04


@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_red_diff_by_hand(weight):
    """H = 2, sigma_x = .05: g = (2 x - y) / 2 + w (x - D(x + s n, s)), s = max(sigma, .025), w = weight .05^2 / s^2; Adam."""
    solver = REDDiff(3, weight=weight, lr=0.2, betas=(0.8, 0.9), sigma_max=1.0)
    rng, problem = Rng(0, [0]), twice()
    warm = (0.5 / PRIOR.s0**2 + 2 * 1.4 / 0.01) / (1 / PRIOR.s0**2 + 4 / 0.01)
    rng.normal_like(problem.image)  # the start's, times 0
    x, mean, square = torch.full_like(problem.image, warm), 0.0, 0.0
    for index, sigma in enumerate(solver.sigmas(PRIOR)[:-1]):
        s = max(sigma, 0.025)
        slope = (2 * x - 1.4) / 2 + weight * 0.0025 / s**2 * (x - shrunk(x + s * rng.normal_like(x), s))
        mean, square = 0.8 * mean + 0.2 * slope, 0.9 * square + 0.1 * slope**2
        rate = 0.2 * (1 + math.cos(math.pi * index / 3)) / 2
        x = x - rate * (mean / (1 - 0.8 ** (index + 1))) / ((square / (1 - 0.9 ** (index + 1))).sqrt() + 1e-16)
    assert torch.allclose(solver.solve(problem, PRIOR, generator=Rng(0, [0])).x, x, rtol=0, atol=1e-10)


def test_red_diff_ends_near_the_posterior_mean_of_a_white_prior():
    """Bayes' weight: nothing but Adam's last steps is between."""
    exact = (0.5 * 16 + 2 * 1.4 / 0.01) / (16 + 4 / 0.01)
    x = REDDiff(400).solve(twice(), PRIOR, generator=0).x
    assert float((x.mean() - exact).abs()) < 0.1 * (16 + 4 / 0.01) ** -0.5


def test_the_short_ode_by_hand():
    """Three calls from 1: levels of karras(4) but its last; the second step by the line through two estimates in log sigma."""
    one, two, three, _, _ = karras(4, 0.002, 1.0)
    x = torch.full((1, *SHAPE), 0.9, dtype=DOUBLE)
    a = shrunk(x, one)
    x1 = a + two / one * (x - a)
    b = shrunk(x1, two)
    ahead = b + (b - a) * math.log(two / three) / (2 * math.log(one / two))
    x2 = ahead + three / two * (x1 - ahead)
    found = descend(PRIOR, x, 1.0, 3, Rng(0, [0]))
    assert torch.allclose(found, shrunk(x2, three), rtol=0, atol=1e-14)
    assert torch.equal(descend(PRIOR, x, 0.002, 3, Rng(0, [0])), PRIOR(x, 0.002))


def test_positive_solve():
    """Exact for as many products as numbers; for A = -1, which no covariance is, it gives b itself and not b / 0."""
    root = normal(2, 6, 6, seed=1)
    matrix, right, tau = root @ root.mT, normal(2, 6, seed=2), torch.tensor([0.5, 40.0], dtype=DOUBLE)
    exact = torch.linalg.solve(torch.eye(6, dtype=DOUBLE) + tau[:, None, None] * matrix, right)
    found = positive_solve(lambda v: torch.einsum("bij,bj->bi", matrix, v), right, tau, 9)
    assert torch.allclose(found, exact, rtol=0, atol=1e-9)
    assert torch.allclose(positive_solve(lambda v: -v, right, torch.ones(2, dtype=DOUBLE), 3), right, rtol=0, atol=1e-12)


def test_measurements_as_rows_and_back():
    y = (torch.complex(normal(2, 3, seed=1), normal(2, 3, seed=2)), normal(2, 1, 2, seed=3))
    rows = rows_of(y)
    assert rows.shape == (2, 8)
    assert all(torch.equal(a, b) for a, b in zip(from_rows(rows, y), y, strict=True))


def test_the_levels_of_cm4ir_are_the_authors():
    assert [2 * sigma for sigma in CM4IR().levels(PRIOR)] == pytest.approx([0.69, 0.6094, 0.4956, 0.3077, 0.0], abs=1e-4)
    assert 2 * CM4IR(steps=20).levels(PRIOR)[-2] == pytest.approx(0.01)
    assert "below 0.5" in CM4IR(sigma_max=0.6).gaps(twice(), PRIOR)[0]
    assert "leave the prior's range" in CM4IR(delta=500.0).gaps(twice(), PRIOR)[0]


def test_the_levels_of_pnp_dm():
    assert PnPDM(3, sigma_max=1.0, sigma_min=0.01).levels(PRIOR) == pytest.approx([1.0, 0.1, 0.01])
    assert PnPDM(1).levels(PRIOR) == [0.01]
    assert PnPDM().top(PRIOR) == pytest.approx(5.0)
    for wrong in (PnPDM(sigma_min=0.001), PnPDM(sigma_min=2.0, sigma_max=1.0), PnPDM(sigma_max=100.0)):
        assert "the prior is good for" in wrong.gaps(twice(), PRIOR)[0]


def test_a_nonlinear_operator():
    """By moves, from the modulus of a transform: better than the grey that nothing is known from; an exact draw is refused."""
    operator = PhaseRetrieval((1, 8, 8))
    x = PRIOR.sample((1, 8, 8), Rng(3, [0]), torch.zeros(1, dtype=DOUBLE))
    problem = Problem.simulate(operator, x, GaussianNoise(0.02), generator=0)
    for solver in (DAPS(20, inner_steps=30), PnPDM(12, 2, inner_steps=30), REDDiff(60)):
        found = solver.solve(problem, PRIOR, generator=1).x
        misfit = float((problem.y - operator(found)).square().mean().sqrt())
        grey = float((problem.y - operator(problem.image + 0.5)).square().mean().sqrt())
        assert misfit < grey / 2, solver
    for solver in (DAPS(inner="exact"), PnPDM(inner="exact")):
        with pytest.raises(CompatibilityError, match="needs a linear operator"):
            solver.solve(problem, PRIOR)


def test_without_noise_the_width_is_a_thousandth():
    problem = Problem(Scaled(Identity(SHAPE), 2.0), torch.full((1, *SHAPE), 1.4, dtype=DOUBLE), NoNoise(), check_range=False)
    # |H| = 2: sigma_y counts as .002; the pull is 2 (1.4 - 2 x) / sigma_y^2
    assert torch.allclose(pull(problem, problem.image + 0.5), torch.full_like(problem.image, 2 * 0.4 / 0.002**2))


RANGES = [
    (DAPS, "calls", (1, 9), (0, -1)),
    (DAPS, "inner_steps", (1, 9), (0,)),
    (DAPS, "step", (1e-9, 2 - 1e-9), (0.0, 2.0, -1.0, math.nan)),
    (DAPS, "inner", (None, "exact", "langevin", "hmc"), ("other",)),
    (DAPS, "variance", ("posterior", "noise"), ("other",)),
    (PnPDM, "steps", (1, 9), (0,)),
    (PnPDM, "calls", (1, 9), (0,)),
    (PnPDM, "inner_steps", (1, 9), (0,)),
    (PnPDM, "step", (1e-9, 2 - 1e-9), (0.0, 2.0, math.nan)),
    (PnPDM, "inner", (None, "exact"), ("other",)),
    (PnPDM, "sigma_min", (1e-9, 1e9), (0.0, -1.0, math.inf, math.nan)),
    (PnPDM, "sigma_max", (None, 1e-9, 1e9), (0.0, -1.0, math.inf, math.nan)),
    (REDDiff, "weight", (1e-9, 1e9), (0.0, -1.0, math.inf, math.nan)),
    (REDDiff, "lr", (1e-9, 1e9), (0.0, -1.0, math.inf, math.nan)),
    (REDDiff, "betas", ((0, 0), (0.9, 1 - 1e-9)), ((0.9,), (0.9, 1.0), (-1e-9, 0.9))),
    (OTODE, "products", (1, 9), (0,)),
    (OTODE, "covariance", ("tweedie", "white"), ("other",)),
    (OTODE, "gamma", ("constant", "schedule"), ("other",)),
    (OTODE, "order", (1, 2), (0, 3)),
    (PnPFlow, "draws", (1, 9), (0,)),
    (PnPFlow, "lr", (1e-9, 2 - 1e-9), (0.0, 2.0, -1.0, math.nan)),
    (PnPFlow, "alpha", (None, 0, 1e9), (-1e-9, math.inf, math.nan)),
    (LATINO, "calls", (1, 9), (0,)),
    (LATINO, "delta", (1e-9, 1e9), (0.0, -1.0, math.inf, math.nan)),
    (CM4IR, "steps", (1, 9), (0,)),
    (CM4IR, "calls", (1, 9), (0,)),
    (CM4IR, "eta", (0, 1), (-1e-9, 1 + 1e-9, math.nan)),
    (CM4IR, "noise", ("predicted", "opposite"), ("other",)),
    (CM4IR, "zeta", (1e-9, 1e9), (0.0, math.inf, math.nan)),
    (CM4IR, "delta", (-1 + 1e-9, 1e9), (-1.0, math.inf, math.nan)),
    (CM4IR, "growth", (1e-9, 1e9), (0.0, math.inf, math.nan)),
    (CM4IR, "sigma_max", (None, 1e-9, 1e9), (0.0, math.inf, math.nan)),
    (TDS, "particles", (1, 9), (0,)),
    (TDS, "threshold", (0, 1), (-1e-9, 1 + 1e-9, math.nan)),
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


def test_gamma_of_the_papers():
    """t = 1 / (1 + 2 sigma): at sigma = 1/2, t = 1/2 and gamma = sqrt(t / (t^2 + (1 - t)^2)) = 1; at 3/2, t = 1/4 and sqrt(.25 / .625)."""
    solver = OTODE(covariance="white", gamma="schedule")
    assert [solver.weight(PRIOR, sigma) for sigma in (0.5, 1.5)] == pytest.approx([1.0, math.sqrt(0.25 / 0.625)])
    assert [first > second for first, second in pairwise(solver.sigmas(PRIOR))] == [True] * 30
