"""The optimum of total variation, certified by a dual point: hqs, admm and adam-tv end within a stated gap of a lower bound."""

import numpy as np
import pytest
import torch
from invsolve_operators import GaussianBlur, Identity
from sweeps import thinned

from invsolve import GaussianNoise, Problem
from invsolve.operator.iterative import matrix
from invsolve.operator.measurement import flat
from invsolve.priors import TotalVariation
from invsolve.solvers import ADMM, HQS, AdamTV
from invsolve.solvers.variational.common import objective

SIDE = 12


def gradient_matrix(side):
    """D, (2 n, n): differences down, then right; 0 at the far edge."""
    step = np.diff(np.eye(side), axis=0, append=0)
    step[-1] = 0
    eye = np.eye(side)
    return np.concatenate([np.kron(step, eye), np.kron(eye, step)])


def projected(p, isotropic, weight):
    """Onto |p| <= weight, pixel by pixel."""
    if not isotropic:
        return np.clip(p, -weight, weight)
    pair = p.reshape(2, -1)
    return (pair / np.maximum(1, np.sqrt((pair**2).sum(0)) / weight)).ravel()


def lower_bound(A, y, sigma, weight, isotropic):
    """max over |p| <= weight of min_x |Ax - y|^2 / (2 sigma^2) + <p, Dx>: by weak duality below every value of nll + weight TV.

    The inner minimum is finite, since A has full rank here: image(p) = (A^T A / sigma^2)^-1 (A^T y / sigma^2 - D^T p).
    """
    D, n = gradient_matrix(SIDE), A.shape[1]
    inverse, right = np.linalg.inv(A.T @ A / sigma**2), A.T @ y / sigma**2
    first, slope = D @ inverse @ right, D @ inverse @ D.T  # D image(p) = first - slope p
    step, p, ahead = 1 / np.linalg.eigvalsh(slope)[-1], np.zeros(2 * n), np.zeros(2 * n)
    for k in range(4000):
        new = projected(ahead + step * (first - slope @ ahead), isotropic, weight)
        ahead, p = new + k / (k + 5) * (new - p), new
    x = inverse @ (right - D.T @ p)
    return ((A @ x - y) ** 2).sum() / (2 * sigma**2) + p @ D @ x


OPERATORS = {"denoise": Identity((1, SIDE, SIDE)), "blur": GaussianBlur((1, SIDE, SIDE), 0.8)}
# what the cards claim: 0.03 %, 0.01 % and Adam's decaying step, over a dual's own gap of 1e-6
SOLVERS = {"hqs": (HQS(), 1e-3), "admm": (ADMM(), 3e-4), "adam-tv": (AdamTV(), 1e-3)}


CASES = [(kind, sigma, isotropic) for sigma in (0.02, 0.1, 0.3) for kind in OPERATORS for isotropic in (True, False)]


@pytest.mark.parametrize(("kind", "sigma", "isotropic"), thinned(CASES, lambda place: place in (0, 7, 9, 10)))
def test_within_a_certified_gap_of_the_optimum(kind, sigma, isotropic):
    operator = OPERATORS[kind]
    x = torch.linspace(0.2, 0.8, SIDE, dtype=torch.float64).expand(1, 1, SIDE, SIDE).clone()
    x[..., 3:8, 4:9] = 0.1
    problem = Problem.simulate(operator, x, GaussianNoise(sigma), generator=4)
    prior = TotalVariation(0.4 / sigma, isotropic)
    bound = lower_bound(matrix(operator).numpy(), flat(problem.y).numpy().ravel(), sigma, prior.weight, isotropic)
    for name, (solver, allowed) in SOLVERS.items():
        found = solver.solve(problem, prior).x
        value = float(objective(problem, prior, found))
        assert value >= bound * (1 - 1e-9), name  # or the bound is none
        assert value - bound <= allowed * bound, name


def test_a_bound_says_that_an_answer_is_not_the_optimum():
    """A run of too few steps, and the minimiser for a weight of 3 / 4, exceed it."""
    operator, sigma = OPERATORS["blur"], 0.1
    x = torch.linspace(0.2, 0.8, SIDE, dtype=torch.float64).expand(1, 1, SIDE, SIDE).clone()
    problem = Problem.simulate(operator, x, GaussianNoise(sigma), generator=4)
    prior = TotalVariation(0.4 / sigma)
    bound = lower_bound(matrix(operator).numpy(), flat(problem.y).numpy().ravel(), sigma, prior.weight, True)
    for solver, other in ((HQS(steps=4), prior), (AdamTV(steps=20), prior), (ADMM(), TotalVariation(0.75 * prior.weight))):
        assert float(objective(problem, prior, solver.solve(problem, other).x)) > bound * (1 + 1e-3), solver
