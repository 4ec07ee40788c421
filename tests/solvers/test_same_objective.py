"""Equal weight is the same problem for every variational solver; the duality gap of pdhg-tv is the certificate of its minimum."""

import math
from dataclasses import replace

import pytest
import torch
from invsolve_operators.blurs.blur import GaussianBlur
from invsolve_operators.masks.mask import BoxMask
from sweeps import thinned

from invsolve import GaussianNoise, Problem, Status
from invsolve.errors import CompatibilityError, InputError
from invsolve.operator import Capability, Operator
from invsolve.priors import GaussianPrior, TotalVariation, VectorialTV, WaveletL1
from invsolve.solvers import ADMM, FISTA, HQS, LBFGS, PDHGTV, AdamTV
from invsolve.solvers.variational.common import objective
from invsolve.solvers.variational.pdhg_tv import Dual
from invsolve.testing.oracle import DenseOperator
from invsolve.testing.subjects import NegativeLog

SIDE, SIGMA, WEIGHT, WIDTH, TOL = 12, 0.05, 8.0, 1e-4, 1e-3
NUMBERS = 3 * SIDE * SIDE
SHAPE = (3, SIDE, SIDE)
SOLVERS = {"admm": ADMM(steps=500, tol=1e-4), "hqs": HQS(), "fista": FISTA(tol=TOL), "adam-tv": AdamTV(), "lbfgs": LBFGS(width=WIDTH)}


def scene(dark=0.0):
    x = torch.linspace(0.2, 0.8, SIDE, dtype=torch.float64).expand(1, *SHAPE).clone()
    x[0, :, 3:6, 4:-3] = torch.tensor([0.9, 0.2, 0.5], dtype=torch.float64)[:, None, None]
    return x - dark


def allowed(name, lowest):
    """How far above the minimum a solver may end, from its own rules.

    fista: F(x) - F* <= <g, x - x*> / sigma_x^2 with rms(g) <= tol sigma_x^2 and rms(x - x*) <= 1 for images in [0, 1]: N tol.
    lbfgs: weight N width, and as much again for what its iterations leave.
    admm: rms(x - z) <= tol sigma_x moves F by at most N tol (rms of y - Hx over sigma is about 1) and weight sqrt(8) N tol sigma for TV.
    hqs states .13 % of the objective at its default, adam-tv 1 %.
    """
    return {
        "fista": NUMBERS * TOL,
        "lbfgs": 2 * WEIGHT * NUMBERS * WIDTH,
        "admm": NUMBERS * 1e-4 * (1 + WEIGHT * math.sqrt(8) * SIGMA),
        "hqs": 1.3e-3 * lowest,
        "adam-tv": 1e-2 * lowest,
    }[name]


CELLS = [
    pytest.param(operator, prior, positive, id=f"{name}-{'positive' if positive else 'free'}")
    for name, operator, prior in (
        ("blur, colour", GaussianBlur(SHAPE, 1.2), VectorialTV(WEIGHT)),
        ("box", BoxMask(SHAPE, 5), TotalVariation(WEIGHT)),
    )
    for positive in (True, False)
]


@pytest.mark.parametrize(("operator", "prior", "positive"), thinned(CELLS, lambda place: place in (1, 2)))
def test_equal_weight_is_the_same_problem(operator, prior, positive):
    """No answer is below the proved lower bound, and none above it by more than the solver's own rule and the gap."""
    problem = Problem.simulate(operator, scene(0.3 * positive), GaussianNoise(SIGMA), generator=0, check_range=False)
    solution = PDHGTV(steps=4000, tol=1e-4, positive=positive).solve(problem, prior, generator=0, keep=1)
    assert solution.status == Status.CONVERGED
    best = float(objective(problem, prior, solution.x))
    lower = best * (1 - float(solution.trace[-1].stats["gap"]))
    for name, solver in SOLVERS.items():
        x = replace(solver, positive=positive).solve(problem, prior, generator=0).x
        found = float(objective(problem, prior, x))
        assert found >= lower * (1 - 1e-12), name
        assert found <= best + allowed(name, lower), name
        assert not positive or float(x.min()) >= 0


def test_the_lower_bound_is_one_for_any_dual_point():
    """Points of no merit: below the least objective known, and the best of them is made by the solver."""
    operator = GaussianBlur(SHAPE, 1.2)
    for positive in (False, True):
        problem = Problem.simulate(operator, scene(), GaussianNoise(SIGMA), generator=0)
        prior = TotalVariation(WEIGHT)
        least = float(objective(problem, prior, HQS(positive=positive).solve(problem, prior, generator=0).x) * problem.sigma_x**2)
        dual = Dual(problem, prior, positive=positive)
        generator = torch.Generator().manual_seed(0)
        bounds = []
        for size in (1e-3, 1e-2, 0.1):
            q = size * torch.randn(problem.y.shape, generator=generator, dtype=torch.float64) + (dual.seen(problem.image + 0.5) - dual.b)
            p = size * torch.randn(1, 2, *SHAPE, generator=generator, dtype=torch.float64)
            bounds.append(float(dual.lower(q, p)))
        assert all(0 <= bound <= least for bound in bounds)
        assert max(bounds) > 0


def test_pdhg_needs_nothing_but_products():
    """A dense matrix without structure, and the gap closes; a weight of its own per item's noise."""
    matrix = torch.randn(20, 36, generator=torch.Generator().manual_seed(1), dtype=torch.float64) / 6
    x = torch.linspace(0, 1, 36, dtype=torch.float64).reshape(1, 1, 6, 6).expand(2, 1, 6, 6)
    problem = Problem.simulate(
        DenseOperator(matrix, (1, 6, 6)), x, GaussianNoise(torch.tensor([0.05, 0.1], dtype=torch.float64)), generator=0
    )
    solution = PDHGTV(steps=8000).solve(problem, TotalVariation(4.0, isotropic=False), generator=0, keep=1)
    assert solution.status == Status.CONVERGED
    assert bool((solution.trace[-1].stats["gap"] <= 1e-4).all())


@pytest.mark.parametrize("prior", [WaveletL1(20.0), WaveletL1(20.0, "haar", 2)], ids=["db2", "haar"])
def test_other_regularisers_have_one_minimum_too(prior):
    """fista and admm, each within its own bound of the other."""
    shape = (1, 8, 8)
    x = torch.linspace(0.2, 0.8, 8, dtype=torch.float64).expand(1, *shape).clone()
    x[..., 2:5, 3:6] = 0.1
    problem = Problem.simulate(GaussianBlur(shape, 1.0), x, GaussianNoise(SIGMA), generator=0)
    both = [solver.solve(problem, prior, generator=0).x for solver in (ADMM(steps=100, tol=1e-3), FISTA(steps=100, tol=1e-2))]
    first, second = (float(objective(problem, prior, found)) for found in both)
    slack = 64 * (1e-2 + 1e-3 * (1 + prior.weight * math.sqrt(8) * SIGMA))
    assert abs(first - second) <= slack


@pytest.mark.parametrize("solver", [FISTA(steps=2000, tol=1e-6), LBFGS(steps=120)], ids=["fista", "lbfgs"])
def test_a_quadratic_is_solved_to_the_posterior_mean(solver):
    """-log p of N(1/2, 1/16) has precision 16 at least in every direction: |x - x*| <= |subgradient| / 16, fista's being 1e-6 a pixel."""
    matrix = torch.randn(10, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64) / 4
    x = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    problem = Problem.simulate(DenseOperator(matrix, (1, 4, 4)), x, GaussianNoise(SIGMA), generator=0)
    precision = matrix.T @ matrix / SIGMA**2 + 16 * torch.eye(16, dtype=torch.float64)
    right = problem.y @ matrix / SIGMA**2 + 8
    exact = torch.linalg.solve(precision, right.T).T.reshape(x.shape)
    found = solver.solve(problem, NegativeLog(GaussianPrior(0.5, 0.25)), generator=0).x
    assert float((found - exact).abs().max()) <= 4 * 1e-6 / 16 * 4


class Square(Operator):
    """A nonlinear operator."""

    traits = frozenset({Capability.DIFFERENTIABLE})

    def __init__(self, in_shape):
        super().__init__()
        self.in_shape = self.out_shape = in_shape

    def forward(self, x):
        return x**2


@pytest.mark.parametrize("positive", [False, True], ids=["free", "positive"])
def test_lbfgs_ends_where_a_nonlinear_problem_is_stationary(positive):
    """F = (x^2 - y)^2 / (2 sigma^2) + 8 (x - 1/2)^2 pixel by pixel: its slope by hand is 1e-6 of the curvature 2 / sigma^2."""
    y = torch.linspace(0.05, 0.9, 16, dtype=torch.float64).reshape(1, 1, 4, 4)
    problem = Problem(Square((1, 4, 4)), y, GaussianNoise(SIGMA))
    x = LBFGS(steps=100, positive=positive).solve(problem, NegativeLog(GaussianPrior(0.5, 0.25)), generator=0).x
    slope = 2 * x * (x**2 - y) / SIGMA**2 + 16 * (x - 0.5)
    assert float(slope.abs().max()) <= 1e-6 * 2 / SIGMA**2
    assert float((x - y.sqrt()).abs().max()) < 0.1


def test_refusals():
    problem = Problem.simulate(BoxMask(SHAPE, 5), scene(), GaussianNoise(SIGMA), generator=0)
    with pytest.raises(CompatibilityError, match="WaveletL1"):
        PDHGTV().solve(problem, WaveletL1())


@pytest.mark.parametrize(
    ("cls", "name", "inside", "outside"),
    [
        (FISTA, "steps", (1, 100), (0, -1)),
        (FISTA, "tol", (0, 1e9), (-1e-9, math.inf, math.nan)),
        (PDHGTV, "steps", (1, 100), (0, -1)),
        (PDHGTV, "tol", (0, 1e9), (-1e-9, math.inf, math.nan)),
        (PDHGTV, "ratio", (None, 1e-9, 1e9), (0, -1.0, math.inf, math.nan)),
        (LBFGS, "steps", (1, 100), (0, -1)),
        (LBFGS, "memory", (1, 100), (0, -1)),
        (LBFGS, "width", (1e-9, 0.1), (0, -1.0, 0.1 + 1e-9, math.nan)),
    ],
    ids=lambda one: getattr(one, "__name__", one if isinstance(one, str) else ""),
)
def test_the_ends_of_every_range(cls, name, inside, outside):
    for value in inside:
        assert getattr(cls(**{name: value}), name) == value
    for value in outside:
        with pytest.raises(InputError, match=name):
            cls(**{name: value})
