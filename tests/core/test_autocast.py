"""Inside torch.autocast matrices and convolutions are rounded to 8 bits; operators and solvers are what they are outside."""

import pytest
import torch

from invsolve import GaussianNoise, Problem, load_prior
from invsolve.operator import Capability
from invsolve.operator.measurement import parts
from invsolve.plugins import registry
from invsolve.solvers import DPS, HQS, AdamTV, DiffPIR
from invsolve.testing.settings import Coupled, truth

SHAPE = (3, 8, 9)


def examples():
    """The first example of every operator."""
    return [(entry.name, entry.load().examples()[0]) for entry in registry().of("operator")]


def outcomes(operator, x):
    """H x, and what the ways back make of it."""
    y = operator(x)
    found = [*parts(y)]
    for name in (Capability.ADJOINT, Capability.PINV):
        if name in operator.capabilities:
            found.append(getattr(operator, name.value)(y))
    if Capability.PROX in operator.capabilities:
        found.append(operator.prox(x, y, 0.5))
    return found


@pytest.mark.parametrize(("name", "operator"), examples(), ids=lambda one: one if isinstance(one, str) else "")
def test_an_operator_is_exact(name, operator):
    x = torch.rand(operator.batch or 1, *operator.in_shape, generator=torch.Generator().manual_seed(0))
    x = x + 0j if operator.complex_input else x
    wanted = outcomes(operator, x)
    with torch.autocast("cpu", torch.bfloat16):
        found = outcomes(operator, x)
        assert torch.is_autocast_enabled("cpu")
    for one, other in zip(wanted, found, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("solver", "prior"),
    [(AdamTV(steps=3), "tv"), (HQS(steps=3), "natural"), (DPS(steps=3), "natural"), (DiffPIR(steps=3), "natural")],
    ids=str,
)
def test_a_solver_gives_the_same_bits(solver, prior):
    problem = Problem.simulate(Coupled(SHAPE), truth(SHAPE, 1, torch.float32), GaussianNoise(0.1), generator=0)
    prior = load_prior(prior)
    wanted = solver.solve(problem, prior, generator=0).x
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(solver.solve(problem, prior, generator=0).x, wanted)
        assert torch.is_autocast_enabled("cpu")
