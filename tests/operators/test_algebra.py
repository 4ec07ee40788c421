"""Operators made of operators, and the explicit iterative approximations, against dense matrices."""

import math

import pytest
import torch
from invsolve_operators import BlockMean, BlurDecimate, GaussianBlur, Grey, Identity, KernelBlur, Mask, SeparableGaussianBlur
from invsolve_operators.transforms.fourier import fft2
from turns import one_in

from invsolve import Capability, CapabilityError, InputError, IterativePinv, IterativeProx, Operator, Stack
from invsolve.errors import ArgumentError
from invsolve.operator.iterative import conjugate_gradients, matrix, norm
from invsolve.testing import operator_cases

SHAPE = (2, 6, 5)
# Float64 products of 60 to 120 terms of order one: n eps is 3e-14; ten of them.
TOL = 3e-13


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def blur(seed=3):
    kernel = torch.rand(3, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return KernelBlur(SHAPE, kernel / kernel.sum())


class Square(Operator):
    """y = x^2."""

    traits = frozenset({Capability.DIFFERENTIABLE})

    def __init__(self, in_shape=SHAPE):
        super().__init__()
        self.in_shape = self.out_shape = tuple(in_shape)

    def forward(self, x):
        return x.square()


class Spectrum(Operator):
    """y = F x, complex, without an adjoint of its own."""

    traits = frozenset({Capability.LINEAR})
    complex_output = True

    def __init__(self, in_shape=SHAPE):
        super().__init__()
        self.in_shape = self.out_shape = tuple(in_shape)

    def forward(self, x):
        return fft2(x, norm="ortho")


MASK = Mask(SHAPE, keep=0.6)
COMBINED = {
    "composed": (MASK @ blur(), lambda: matrix(MASK) @ matrix(blur())),
    "composed to a smaller image": (
        BlockMean((1, 6, 5), 1) @ Grey(SHAPE) @ blur(),
        lambda: matrix(Grey(SHAPE)) @ matrix(blur()),
    ),
    "sum": (MASK + blur(), lambda: matrix(MASK) + matrix(blur())),
    "scaled": (blur() * 2.5, lambda: 2.5 * matrix(blur())),
    "scaled from the left by a negative": (-0.5 * blur(), lambda: -0.5 * matrix(blur())),
    "transposed": (Grey(SHAPE).T, lambda: matrix(Grey(SHAPE)).T),
    "stack": (Stack(MASK, Grey(SHAPE)), lambda: torch.cat([matrix(MASK), matrix(Grey(SHAPE))])),
    "nested": (2.0 * (MASK @ (blur() + Identity(SHAPE))), lambda: 2 * matrix(MASK) @ (matrix(blur()) + torch.eye(60, dtype=torch.float64))),
}
EXAMPLES = [operator for operator, _ in COMBINED.values()]
EXAMPLES += [
    IterativeProx(blur(), tol=1e-13),
    IterativePinv(MASK @ Identity(SHAPE), tol=1e-13),
    IterativeProx(Stack(MASK, blur()), tol=1e-13),
    Square(),
    Square() @ blur(),
    Spectrum(),
    Stack(Spectrum(), Spectrum() * 2.0),
    Mask(SHAPE, mask=torch.rand(3, 1, 6, 5, generator=torch.Generator().manual_seed(0)) < 0.5) @ blur(),
    3.0 * GaussianBlur(SHAPE, torch.tensor([0.5, 1.0])),
]


@pytest.mark.parametrize("name", COMBINED)
def test_dense_matrix(name):
    operator, wanted = COMBINED[name]
    assert (matrix(operator) - wanted()).abs().max() <= TOL


@pytest.mark.parametrize(
    ("operator", "check"), one_in(3, operator_cases(*EXAMPLES), lambda operator, check: (id(operator), check.__name__))
)
def test_conformance(operator, check):
    check(operator)


def test_composition_reads_right_to_left():
    x = draw(1, *SHAPE)
    assert torch.equal((MASK @ blur())(x), MASK(blur()(x)))
    assert torch.equal((MASK @ blur()).adjoint(x), blur().adjoint(MASK.adjoint(x)))


def test_composition_keeps_only_what_stays_exact():
    composed, total, scaled = MASK @ blur(), MASK + blur(), 2.0 * MASK
    kept = {Capability.LINEAR, Capability.ADJOINT, Capability.DIFFERENTIABLE}
    assert composed.capabilities == total.capabilities == kept
    assert scaled.capabilities == MASK.capabilities - {Capability.MASK}
    assert (Square() @ blur()).capabilities == {Capability.DIFFERENTIABLE}
    for attempt in (composed.svd, lambda: composed.pinv(draw(1, *SHAPE)), lambda: composed.prox(draw(1, *SHAPE), draw(1, *SHAPE), 1.0)):
        with pytest.raises(CapabilityError, match=r"Composed has no .*; it provides: adjoint, differentiable, linear"):
            attempt()
    with pytest.raises(CapabilityError, match="Square has no adjoint; it provides: differentiable"):
        Square().adjoint(draw(1, *SHAPE))
    with pytest.raises(CapabilityError, match="no adjoint"):
        _ = Square().T


def test_shapes_that_differ_are_named():
    with pytest.raises(InputError, match=r"Grey takes \(3, 6, 5\), Mask gives \(2, 6, 5\)"):
        _ = Grey((3, 6, 5)) @ MASK
    with pytest.raises(InputError, match="cannot add"):
        _ = Grey(SHAPE) + MASK
    with pytest.raises(InputError, match="same image"):
        Stack(MASK, Identity((1, 6, 5)))
    with pytest.raises(InputError, match="Stack of Stacks"):
        Stack(Stack(MASK, MASK), MASK)
    with pytest.raises(InputError, match=r"stack\.adjoint"):
        _ = Stack(MASK, MASK).T
    for factor in (0.0, math.nan, math.inf):
        with pytest.raises(InputError, match="factor"):
            _ = MASK * factor
    with pytest.raises(TypeError):
        _ = MASK * blur()  # type: ignore[operator]
    two, three = (GaussianBlur(SHAPE, torch.linspace(0.5, 1, count)) for count in (2, 3))
    with pytest.raises(InputError, match="batches of"):
        _ = two @ three


def test_transpose_twice_is_the_operator():
    operator = Grey(SHAPE)
    assert operator.T.T is operator


def test_scaled_closed_forms():
    """prox, pinv and SVD of c H against dense solves."""
    operator, dense = -2.5 * blur(), -2.5 * matrix(blur())
    z, y = draw(2, *SHAPE), draw(2, *SHAPE, seed=1)
    for tau in (0.3, 20.0):
        system = dense.T @ dense + torch.eye(60, dtype=torch.float64) / tau
        wanted = torch.linalg.solve(system, (y.flatten(1) @ dense + z.flatten(1) / tau).T).T
        assert (operator.prox(z, y, tau).flatten(1) - wanted).abs().max() <= TOL * (1 + tau * 2.5**2) * wanted.abs().max()
    s = torch.linalg.svdvals(dense)
    assert (operator.pinv(y).flatten(1) - y.flatten(1) @ torch.linalg.inv(dense).T).abs().max() <= TOL * float((s[0] / s[-1]) ** 2)
    assert (operator.svd().s.flatten().sort().values - s.sort().values).abs().max() <= TOL


def test_sum_of_item_wise_operators_selects_both():
    sigmas = torch.tensor([0.5, 1.0, 2.0])
    total = GaussianBlur(SHAPE, sigmas) + MASK
    x = draw(3, *SHAPE)
    assert total.batch == 3
    assert (total[1](x[1:2]) - (GaussianBlur(SHAPE, 1.0)(x[1:2]) + MASK(x[1:2]))).abs().max() <= TOL


def test_what_is_no_operator_is_refused():
    for make in (lambda: Stack([MASK, MASK]), lambda: IterativeProx(3), lambda: Stack(MASK, draw(1, *SHAPE))):  # pyright: ignore
        with pytest.raises(InputError, match=r"takes operators, one after the other; given (list|int|Tensor)"):
            make()


def test_stack_prox_needs_to_be_asked_for():
    stack = Stack(MASK, blur())
    assert not stack.has(Capability.PROX)
    dense, z = matrix(stack), draw(2, *SHAPE)
    y = (draw(2, *SHAPE, seed=1), draw(2, *SHAPE, seed=2))
    flat = torch.cat([part.flatten(1) for part in y], dim=1)
    wanted = torch.linalg.solve(dense.T @ dense + torch.eye(60, dtype=torch.float64) / 5, (flat @ dense + z.flatten(1) / 5).T).T
    found = IterativeProx(stack, tol=1e-12).prox(z, y, 5.0)
    # |d error| <= tol (1 + tau |H|^2) |d|, |H|^2 <= 2.
    assert (found.flatten(1) - wanted).norm(dim=1).max() <= 1e-12 * 11 * (wanted - z.flatten(1)).norm(dim=1).max() + TOL


@pytest.mark.parametrize("tau", [0.5, 50.0])
def test_iterative_prox_meets_its_bound(tau):
    """Against the closed form of the same blur; tau per item too."""
    operator, tol = blur(), 1e-8
    z, y = draw(3, *SHAPE), draw(3, *SHAPE, seed=1)
    taus = torch.tensor([tau, 2 * tau, tau / 2], dtype=torch.float64)
    exact = operator.prox(z, y, taus)
    found = IterativeProx(operator, tol=tol).prox(z, y, taus)
    bound = tol * (1 + taus) * (exact - z).flatten(1).norm(dim=1)
    assert bool(((found - exact).flatten(1).norm(dim=1) <= bound + TOL).all())


def test_iterative_pinv_is_of_minimum_norm():
    """On a composition of rank 20 of 60: the dense pseudo-inverse."""
    operator = BlurDecimate((1, 6, 10), 2) @ SeparableGaussianBlur((1, 6, 10), 0.6)
    dense, y = matrix(operator), draw(2, 1, 3, 5)
    s = torch.linalg.svdvals(dense)
    wanted = y.flatten(1) @ torch.linalg.pinv(dense).T
    found = IterativePinv(operator, tol=1e-10, max_iter=500).pinv(y).flatten(1)
    # |x error| <= |H^T y - H^T H x| / s_min^2 <= tol |H| |y| / s_min^2
    bound = 1e-10 * float(s[0] / s[-1] ** 2) * y.flatten(1).norm(dim=1)
    assert bool(((found - wanted).norm(dim=1) <= bound).all())
    assert (IterativePinv(operator).capabilities - operator.capabilities) == {Capability.PINV}


def test_iterative_arguments():
    with pytest.raises(CapabilityError, match="no adjoint"):
        IterativeProx(Square())
    with pytest.raises(InputError, match="0 < tol < 1"):
        IterativeProx(blur(), tol=0.0)
    with pytest.raises(ArgumentError, match="did you mean tol"):
        IterativePinv(blur(), toll=0.1)  # pyright: ignore[reportCallIssue]


def test_cg_items_do_not_influence_each_other():
    """An item that converges at once is frozen; its neighbours go on."""
    dense = draw(6, 6) / 3
    system = dense @ dense.T + 0.1 * torch.eye(6, dtype=torch.float64)
    right = draw(3, 6)
    right[1] = 0
    solved = conjugate_gradients(lambda v: v @ system, right, torch.zeros_like(right), tol=1e-12, max_iter=500)
    x, residual = solved.x, solved.residual
    wanted = torch.linalg.solve(system, right.T).T
    condition = float(torch.linalg.cond(system))
    assert (x - wanted).abs().max() <= 1e-12 * condition * float(wanted.norm(dim=1).max())
    assert bool((x[1] == 0).all())
    assert bool((residual <= 1e-12).all())
    alone = conjugate_gradients(lambda v: v @ system, right[:1], torch.zeros_like(right[:1]), tol=1e-12, max_iter=500).x
    assert (alone - x[:1]).abs().max() <= 1e-12 * condition * float(wanted.norm(dim=1).max())


def test_norm_is_the_largest_singular_value():
    operator = BlurDecimate((1, 6, 4), 2, torch.rand(3, 3, 3, generator=torch.Generator().manual_seed(0)))
    largest = torch.linalg.svdvals(matrix(operator))[:, 0]
    # 100 steps of the power method: the relative gap shrinks as (s_2 / s_1)^400, here with s_2 / s_1 < 0.97.
    ratio = (torch.linalg.svdvals(matrix(operator))[:, 1] / largest).max()
    assert ratio < 0.97
    assert (norm(operator, draw(3, 1, 6, 4)) / largest - 1).abs().max() <= 1e-4


def test_difference_negation_and_quotient():
    first, second = GaussianBlur((1, 6, 5), sigma=1.0), GaussianBlur((1, 6, 5), sigma=2.0)
    a, b = matrix(first), matrix(second)
    # Each entry of the matrix is one product or sum of entries: two roundings.
    assert torch.allclose(matrix(first - second), a - b, rtol=0, atol=4 * torch.finfo(torch.float64).eps)
    assert torch.allclose(matrix(-first), -a, rtol=0, atol=0)
    assert torch.allclose(matrix(first / 4), a / 4, rtol=0, atol=4 * torch.finfo(torch.float64).eps)


def test_an_operator_class_that_is_not_complete_says_so():
    class NoShape(Operator):
        def forward(self, x):
            return x

    class ListShape(NoShape):
        def __init__(self):
            super().__init__()
            self.in_shape, self.out_shape = [1, 4, 4], (1, 4, 4)

    class NoInit(NoShape):
        def __init__(self):
            pass

    for cls, message in ((NoShape, "must set self.in_shape"), (ListShape, "must set self.in_shape"), (NoInit, "super")):
        with pytest.raises(InputError, match=message):
            cls()
