"""Interpolation of y: the map itself, and what it is no answer to."""

import pytest
import torch
from torch.nn.functional import interpolate

from invsolve import CompatibilityError, GaussianNoise, NoNoise, Problem
from invsolve.plugins import registry
from invsolve.priors import GaussianPrior
from invsolve.solvers import Bicubic, Nearest

PRIOR = GaussianPrior(0.5, 0.25)


def of(name, **arguments):
    x = torch.rand(2, 3, 8, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return Problem.simulate(registry().build("operator", name, in_shape=(3, 8, 12), **arguments), x, NoNoise(), generator=0)


@pytest.mark.parametrize("name", ["block-mean", "bicubic", "resize"])
def test_y_at_the_images_size(name):
    problem = of(name, **({"size": (4, 5)} if name == "resize" else {"factor": 2}))
    wanted = interpolate(problem.y, size=(8, 12), mode="bicubic", align_corners=False)
    assert torch.allclose(Bicubic().solve(problem, PRIOR).x, wanted, atol=1e-12)
    assert torch.allclose(Nearest().solve(problem, PRIOR).x, interpolate(problem.y, size=(8, 12), mode="nearest"), atol=1e-12)


def test_repeated_means_are_the_pseudoinverse():
    problem = of("block-mean", factor=4)
    assert torch.allclose(Nearest().solve(problem, PRIOR).x, problem.operator.pinv(problem.y))
    assert Nearest().solve(problem, PRIOR).nfe == 0


@pytest.mark.parametrize(
    ("name", "arguments", "match"),
    [("grey", {}, "as many channels"), ("matrix", {"matrix": torch.ones(3, 288)}, "as many channels"), ("box-mask", {}, "white image")],
)
def test_other_measurements_are_refused(name, arguments, match):
    operator = registry().build("operator", name, in_shape=(3, 8, 12), **arguments)
    problem = Problem.simulate(operator, torch.rand(1, 3, 8, 12), GaussianNoise(0.1), generator=0, check_range=False)
    with pytest.raises(CompatibilityError, match=match):
        Bicubic().solve(problem, PRIOR)
