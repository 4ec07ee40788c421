"""Compositions that stay exact: what they become, and that they are the plain composition."""

import pytest
import torch
from invsolve_operators import (
    HDR,
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
    ThroughPlane,
    WalshHadamard,
)
from turns import one_in

from invsolve import Capability, GaussianNoise, Problem, load_prior
from invsolve.operator.algebra import Composed
from invsolve.operator.iterative import matrix
from invsolve.solvers import DDRM, DiffPIR
from invsolve.testing import operator_cases

COLOUR = (3, 4, 8)
KERNELS = torch.rand(3, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
SHARED = torch.rand(1, 4, 8, generator=torch.Generator().manual_seed(0)) < 0.6
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
    "of the identity": (GaussianBlur(COLOUR), Identity(COLOUR)),
    "blurs of images": (GaussianBlur(COLOUR, 0.8), GaussianBlur(COLOUR, 0.5)),
    "grey of block means": (Grey((3, 2, 4)), BlockMean(COLOUR, 2)),
    "grey of blur and decimation": (Grey((3, 2, 4)), BlurDecimate(COLOUR, 2)),
    "grey of a decimation per image": (Grey((3, 2, 4)), BlurDecimate(COLOUR, 2, KERNELS)),
    "grey of bicubic": (Grey((3, 2, 4), [0.3, -0.6, 0.1]), Bicubic(COLOUR, 2)),
    "grey of a mask": (Grey(COLOUR), Mask(COLOUR, mask=SHARED)),
    "thick slices of a blur": (ThroughPlane((4, 3, 4), 2), SeparableGaussianBlur((4, 3, 4), 0.8)),
    "a factor outside": (-2 * GaussianBlur(COLOUR, 0.8), KernelBlur(COLOUR, KERNELS[0])),
    "a factor inside": (Grey(COLOUR), -3 * GaussianBlur(COLOUR)),
    "factors": (2 * Mask(COLOUR, keep=0.4), -3 * Mask(COLOUR, keep=0.6, seed=1)),
    "a chain on the left": (Grey(COLOUR) @ GaussianBlur(COLOUR), KernelBlur(COLOUR, KERNELS[2])),
    "a chain on the right": (BlockMean((1, 4, 8), 2), SeparableGaussianBlur((1, 4, 8), 0.8) @ Grey(COLOUR)),
    "a mask of a chain": (Mask((1, 4, 8), keep=0.4), Mask((1, 4, 8), keep=0.6, seed=1) @ Grey(COLOUR)),
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
    chain = Composed(outer, inner)
    assert together.batch == chain.batch
    for own, plain in zip(together.supports, chain.supports, strict=True):
        # What no part measures is marked at least; a mask of a mask knows more.
        assert plain is None or own is None or bool((own <= plain).all())


@pytest.mark.parametrize("name", PAIRS)
def test_the_range_of_an_image_stays_one(name):
    """Data in another unit are refused as before: an interval where the chain has one, which H x keeps for x in [0, 1]."""
    outer, inner = PAIRS[name]
    together, chain = outer @ inner, Composed(outer, inner)
    if chain.output_range is not None:
        assert together.output_range is not None
    if together.output_range is not None:
        dense = matrix(together)
        low, high = together.output_range
        assert dense.clamp_max(0).sum(-1).min() >= low - 1e-6
        assert dense.clamp_min(0).sum(-1).max() <= high + 1e-6


def test_a_factor_comes_out_and_the_identity_goes():
    blur, mask = GaussianBlur(COLOUR), Mask(COLOUR)
    assert blur @ Identity(COLOUR) is blur
    assert Identity(COLOUR) @ mask is mask
    both = (2 * blur) @ (-3 * blur)
    assert (both.label, both.parts[0].label, both.parts[0].parts[0].label) == ("Scaled", "Scaled", "KernelBlur")
    # Nothing is gained by taking it out of a chain that stays one.
    assert [part.label for part in (mask @ (2 * blur)).parts] == ["Mask", "Scaled"]


def test_neighbours_join_in_a_chain_that_stays_one():
    """One blur in place of two, and no endless regrouping."""
    blur, mask, grey = GaussianBlur(COLOUR), Mask(COLOUR), Grey(COLOUR)
    chain = mask @ blur @ blur
    assert [part.label for part in chain.parts] == ["Mask", "KernelBlur"]
    assert (matrix(chain) - matrix(mask) @ matrix(blur) @ matrix(blur)).abs().max() <= 1e-13
    for inner in (grey @ blur, grey @ mask @ blur, (grey @ blur) @ mask):
        found = Mask((1, 4, 8)) @ inner
        assert (matrix(found) - matrix(Mask((1, 4, 8))) @ matrix(inner)).abs().max() <= 1e-13


def test_a_nonlinear_outer_part_keeps_the_gradient():
    outer = HDR(COLOUR)
    for inner in (GaussianBlur(COLOUR), 2 * GaussianBlur(COLOUR), Mask(COLOUR) @ GaussianBlur(COLOUR)):
        found = outer @ inner
        assert found.capabilities == {Capability.DIFFERENTIABLE}
        x = torch.rand(2, *COLOUR, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        assert torch.equal(found(x), outer(inner(x)))


@pytest.mark.parametrize(
    ("operator", "check"),
    one_in(6, operator_cases(*(outer @ inner for outer, inner in PAIRS.values())), lambda operator, check: (id(operator), check.__name__)),
)
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
        (Grey(COLOUR), Mask(COLOUR, mask=KERNELS.new_zeros(3, 4, 8).bernoulli_(0.5, generator=torch.Generator().manual_seed(1)))),
        (GaussianBlur(COLOUR), SeparableGaussianBlur(COLOUR)),
        (Mosaic(COLOUR), GaussianBlur(COLOUR)),
        (WalshHadamard(COLOUR, 0.5), GaussianBlur(COLOUR)),
    ],
    ids=lambda one: one.label,
)
def test_what_has_no_closed_form_stays_plain(outer, inner):
    assert type(outer @ inner) is Composed
    assert not (outer @ inner).has(Capability.SVD)
