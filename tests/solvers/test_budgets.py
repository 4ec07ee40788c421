"""No solver of the registry takes more evaluations than it was given, but for its first step."""

import functools

import pytest
import torch
from invsolve_operators import BoxMask, GaussianBlur, Identity

from invsolve import GaussianNoise, Problem
from invsolve.plugins import registry
from invsolve.priors import GaussianPrior

SHAPE = (1, 8, 8)


@functools.cache
def problems():
    x = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    operators = (BoxMask(SHAPE, box=3), GaussianBlur(SHAPE, sigma=1.0), Identity(SHAPE))
    return [*(Problem.simulate(one, x, GaussianNoise(0.05), generator=0) for one in operators), Problem.unconditional(SHAPE, 2)]


@pytest.mark.parametrize("name", registry().names("solver"))
@pytest.mark.filterwarnings("ignore::invsolve.errors.Note")
def test_evaluations_are_never_passed(name):
    """Of the whole run's, half of them and all but one: a step that is dearer than those before it, such as a last one, would be seen."""
    prior = GaussianPrior()
    for solver in registry().load("solver", name).examples():
        problem = next((one for one in problems() if not solver.mismatches(one, prior)), None)
        if problem is None:
            continue
        whole = solver.solve(problem, prior, generator=0).nfe
        for budget in {whole // 2, whole - 1} - {0, -1}:
            found = solver.solve(problem, prior, generator=0, budget_nfe=budget)
            first = solver.solve(problem, prior, generator=0, budget_nfe=1).nfe if found.nfe > budget else 0
            assert found.nfe <= max(budget, first), (solver, budget)
