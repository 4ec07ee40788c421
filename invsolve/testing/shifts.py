"""Whether a solver knows where its prior is, and keeps x >= 0 where it says so: the same problem about another grey.

With a linear H and Gaussian noise the problem of x + d, y + H d under the prior N(m + d, C) is that of x under N(m, C), moved by d.
"""

from __future__ import annotations

import dataclasses
from unittest import SkipTest

import torch

from invsolve.noise import GaussianNoise
from invsolve.priors.base import Prior
from invsolve.priors.gaussian import GaussianPrior
from invsolve.problem import Problem
from invsolve.solver import Solver
from invsolve.testing.cases import need
from invsolve.testing.posterior import at_length
from invsolve.testing.settings import SHAPE, truth
from invsolve.testing.subjects import Coupled, Kept, NegativeLog

MOVE = -0.3  # a mean of .5 goes to .2: far from 1/2, and inside the range of images
SPREAD, SIGMA = 0.25, 0.05
ROUNDING = 1e-9  # float64: values of up to 80 times the range of images are added and subtracted, for some hundred steps


def gaussians(mean: float) -> tuple[Prior, Prior]:
    """N(mean, .25^2) as a denoiser and as -log p."""
    exact = GaussianPrior(mean, SPREAD)
    return exact, NegativeLog(exact)


def check_moved(solver: Solver) -> None:
    """A solver that says so (`moves`): the problem moved by a grey of -.3 has the answer moved by -.3, with the same random numbers.

    What starts or pulls to 1/2 in place of the prior's centre, or cuts where the prior has no `clip`, is found.
    """
    if not solver.moves:
        raise SkipTest("it does not say that its answer moves with the prior (`moves`)")
    asked = 0
    for operator in (Kept(SHAPE), Coupled(SHAPE)):
        prior, other = GaussianPrior(0.5, SPREAD), GaussianPrior(0.5 + MOVE, SPREAD)
        plain, moved = moved_problem(solver, operator)
        if solver.mismatches(plain, prior):
            continue
        first, second = (solver.solve(one, of, generator=1).x for one, of in ((plain, prior), (moved, other)))
        gap, what = float((second - MOVE - first).abs().max()), f"{type(solver).__name__} on {operator.label}"
        need(
            gap <= ROUNDING, f"{what}: prior and y moved by {MOVE:g}, the answer is {gap:.3g} from moving as well; {ROUNDING:g} is allowed"
        )
        asked += 1
    if not asked:
        raise SkipTest("no Gaussian prior or noise is taken")


def moved_problem(solver: Solver, operator: Kept | Coupled) -> tuple[Problem, Problem]:
    """y of two images and y + H(MOVE); nothing measured for a solver that takes no measurement."""
    if not solver.requires.measurement:
        empty = Problem.unconditional(SHAPE, 2, dtype=torch.float64)
        return empty, empty
    plain = Problem.simulate(operator, truth(SHAPE, 2, torch.float64), GaussianNoise(SIGMA), generator=5)
    return plain, Problem(operator, plain.y + operator(plain.image + MOVE), plain.noise, check_range=False)


def check_positive(solver: Solver) -> None:
    """With positive=True no answer is below 0, where without it one is: pixels about 0 under noise, prior N(.1, .25^2)."""
    if "positive" not in {field.name for field in dataclasses.fields(solver)}:  # pyright: ignore[reportArgumentType]
        raise SkipTest("it has no `positive`")
    asked = 0
    for operator in (Kept(SHAPE), Coupled(SHAPE)):
        dark = 0.2 * truth(SHAPE, 2, torch.float64) - 0.1
        problem = Problem.simulate(operator, dark, GaussianNoise(0.1), generator=5, check_range=False)
        for prior in gaussians(0.1):
            both = [dataclasses.replace(solver, positive=value) for value in (False, True)]  # pyright: ignore[reportArgumentType]
            if both[0].mismatches(problem, prior):
                continue
            free, cut = (at_length(one).solve(problem, prior, generator=1).x for one in both)
            least, what = float(cut.min()), f"{type(solver).__name__} on {operator.label} with {type(prior).__name__}"
            need(float(free.min()) < 0, f"{what}: without positive=True the answer is {float(free.min()):.3g} and more; nothing is cut")
            need(least >= 0, f"{what}: positive=True, and the answer goes down to {least:.3g}")
            asked += 1
    if not asked:
        raise SkipTest("no Gaussian prior or noise is taken")
