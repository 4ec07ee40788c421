"""Compositions that stay exact: what they become, and that they are the plain composition."""

import pytest
import torch
from invsolve_operators import (
    MRI,
    Bicubic,
    BlockMean,
    BlockOrthogonal,
    BlurDecimate,
    GaussianBlur,
    Grey,
    Identity,
    KernelBlur,
    Mask,
    Mosaic,
    SeparableBlur,
    SeparableGaussianBlur,
    WalshHadamard,
)

from invsolve import Capability, GaussianNoise, Problem, load_prior
from invsolve.algebra import Composed
from invsolve.linalg import matrix
from invsolve.solvers import DDRM, DiffPIR
from invsolve.testing import operator_cases

COLOUR = (3, 4, 8)
KERNELS = torch.rand(3, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
PAIRS = {
    "mask of a transform": (Mask(COLOUR, keep=0.4), WalshHadamard(COLOUR, 1.0)),
    "blur of a rotated image": (SeparableGaussianBlur(COLOUR, 1.0), WalshHadamard(COLOUR, 1.0)),
    "transform of a blur": (WalshHadamard(COLOUR, 1.0), GaussianBlur(COLOUR)),
    "k-space of a scaled image": (MRI((1, 4, 4), mask=torch.ones(4, 4)), -2 * Identity((1, 4, 4))),
    "blocks of super-resolution": (BlockOrthogonal((3, 2, 4), 1.0, 2), BlockMean(COLOUR, 2)),
    "grey of a circular blur": (Grey(COLOUR), GaussianBlur(COLOUR)),
    "grey of a separable blur": (Grey(COLOUR, [0.3, 0.6, 0.1]), SeparableBlur(COLOUR, [0.5, 0.3, 0.2], boundary="zero")),
    "grey of a blur per image": (Grey(COLOUR), KernelBlur(COLOUR, KERNELS)),
    "circular blur of grey": (GaussianBlur((1, 4, 8)), Grey(COLOUR)),
    "block mean of grey": (BlockMean((1, 4, 8), 2), Grey(COLOUR, [0.3, -0.6, 0.1])),
    "bicubic of grey": (Bicubic((1, 4, 8), 2), Grey(COLOUR)),
    "blur and decimation of grey": (BlurDecimate((1, 4, 8), 2), Grey(COLOUR)),
    "blur per image of grey": (KernelBlur((1, 4, 8), KERNELS), Grey(COLOUR)),
    "circular blurs": (GaussianBlur(COLOUR, 0.8), KernelBlur(COLOUR, KERNELS[0])),
    "circular blurs per image": (GaussianBlur(COLOUR, 0.8), KernelBlur(COLOUR, KERNELS)),
    "decimation of a blur": (BlurDecimate(COLOUR, 2, sigma=0.7), KernelBlur(COLOUR, KERNELS[1])),
    "separable blurs": (SeparableGaussianBlur(COLOUR, 0.8), SeparableBlur(COLOUR, [0.5, 0.3, 0.2], boundary="symmetric")),
    "bicubic of a separable blur": (Bicubic(COLOUR, 2), SeparableGaussianBlur(COLOUR, 0.8)),
    "block mean of a separable blur": (BlockMean(COLOUR, 2), SeparableGaussianBlur(COLOUR, 0.8)),
    "masks": (Mask(COLOUR, keep=0.4), Mask(COLOUR, keep=0.6, seed=1)),
    "identity": (Identity(COLOUR), GaussianBlur(COLOUR)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_it_is_the_composition_and_has_an_svd(name):
    """Equal to one map after the other, on the unit vectors; sums of at most a hundred terms of order one."""
    outer, inner = PAIRS[name]
    together = outer @ inner
    assert together.has(Capability.SVD), together
    assert type(together) is not Composed
    wanted = matrix(outer) @ matrix(inner)
    assert (matrix(together) - wanted).abs().max() <= 1e-13
    assert (together.in_shape, together.out_shape) == (inner.in_shape, outer.out_shape)


@pytest.mark.parametrize(("operator", "check"), operator_cases(*(outer @ inner for outer, inner in PAIRS.values())))
def test_conformance(operator, check):
    check(operator)


@pytest.mark.parametrize("name", PAIRS)
def test_solvers_that_need_the_structure_run(name):
    outer, inner = PAIRS[name]
    operator = outer @ inner
    x = torch.rand(3, *operator.in_shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    problem = Problem.simulate(operator, x, GaussianNoise(0.05), generator=0, check_range=False)
    prior = load_prior("gaussian", mean=0.5, std=0.3)
    for solver in (DDRM(steps=5), DiffPIR(steps=5)):
        assert torch.isfinite(solver.solve(problem, prior, generator=0).x).all()
    projected = operator.prox(torch.zeros_like(x), problem.y, float("inf"))
    assert (projected - operator.pinv(problem.y)).abs().max() <= 1e-6 * (1 + operator.pinv(problem.y).abs().max())


def test_a_saved_problem_comes_back(tmp_path):
    for index, (outer, inner) in enumerate(PAIRS.values()):
        operator = outer @ inner
        x = torch.rand(3, *operator.in_shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        problem = Problem.simulate(operator, x, GaussianNoise(0.05), generator=0, check_range=False)
        problem.save(tmp_path / str(index))
        again = Problem.load(tmp_path / str(index))
        assert type(again.operator) is type(operator)
        assert torch.equal(again.operator(x), operator(x))


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        (Mask(COLOUR), GaussianBlur(COLOUR)),
        (Grey(COLOUR), Mask(COLOUR)),
        (GaussianBlur(COLOUR), SeparableGaussianBlur(COLOUR)),
        (Mosaic(COLOUR), GaussianBlur(COLOUR)),
        (WalshHadamard(COLOUR, 0.5), GaussianBlur(COLOUR)),
    ],
    ids=lambda one: one.label,
)
def test_what_has_no_closed_form_stays_plain(outer, inner):
    assert type(outer @ inner) is Composed
    assert not (outer @ inner).has(Capability.SVD)
