"""Dense matrices of complex operators, the prox by an SVD in single precision, wrappers that pass on what they wrap."""

import math

import pytest
import torch
from invsolve_operators import Identity, Mask

from invsolve import Capability, IterativePinv, IterativeProx, Operator
from invsolve.operator.iterative import inner, matrix
from invsolve.testing.oracle import DenseOperator

TAUS = [10.0**power for power in range(-8, 9)]


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


class Turned(Operator):
    """y = A F x, complex, with a complex matrix on the rows: not symmetric, not real, not unitary."""

    traits = frozenset({Capability.LINEAR})
    complex_output = True
    rows: torch.Tensor

    def __init__(self, in_shape=(2, 3, 4)):
        super().__init__()
        self.in_shape = tuple(in_shape)
        self.out_shape = (in_shape[0], 5, in_shape[2])
        self.register_buffer("rows", draw(5, in_shape[1], dtype=torch.complex128))

    def forward(self, x):
        return self.like("rows", x) @ torch.fft.fft2(x, norm="ortho")


def test_the_matrix_of_a_complex_operator():
    """H x = M x and H^T y = Re M^* y for real x and complex y; Re <H x, y> = <x, H^T y>. Sums of 24 and 40 terms of order one: 100 eps."""
    operator = Turned()
    dense = matrix(operator)
    assert dense.is_complex()
    x, y = draw(3, *operator.in_shape), draw(3, *operator.out_shape, seed=1, dtype=torch.complex128)
    limit = 100 * torch.finfo(torch.float64).eps
    assert (operator(x).flatten(1) - (x + 0j).flatten(1) @ dense.mT).abs().max() <= limit
    assert (operator.adjoint(y).flatten(1) - (y.flatten(1) @ dense.conj()).real).abs().max() <= limit
    gap = inner(operator(x), y) - inner(x, operator.adjoint(y))
    assert (gap.abs() <= limit * x.flatten(1).norm(dim=1) * y.flatten(1).norm(dim=1) * torch.linalg.matrix_norm(dense)).all()


@pytest.mark.parametrize(("rows", "size", "seed"), [(30, 30, 0), (12, 40, 1), (40, 12, 2)])
def test_the_prox_by_an_svd_keeps_its_digits(rows, size, seed):
    """Random dense matrices, |H| about 1, noisy y, tau over sixteen decades: relative to float64, at most 1e-5.

    In residual form the gain is at most sqrt(tau) / 2 on what noise there is in weak components, which then makes the answer large by
    as much; so the relative error stays eps times the condition of U and V (1) and of sums of `size` terms.
    """
    operator = DenseOperator(draw(rows, size, seed=seed) / math.sqrt(size))
    x = 0.5 + 0.3 * draw(2, *operator.in_shape, seed=3)
    y = operator(x) + 0.05 * draw(2, rows, seed=4)
    z = x + 0.1 * draw(2, *operator.in_shape, seed=5)
    z, y = z.float(), y.float()
    for tau in [*TAUS, math.inf]:
        exact = operator.prox(z.double(), y.double(), tau)
        found = operator.prox(z, y, tau)
        assert found.dtype == torch.float32
        assert ((found.double() - exact).flatten(1).norm(dim=1) <= 1e-5 * exact.flatten(1).norm(dim=1)).all(), tau


@pytest.mark.parametrize("wrap", [IterativeProx, IterativePinv])
def test_a_wrapped_mask_is_still_one(wrap):
    """What asks for MASK finds `mask`; what has none says so as every attribute does."""
    mask = Mask((1, 6, 7), keep=0.5)
    wrapped = wrap(mask)
    assert wrapped.has(Capability.MASK)
    assert torch.equal(wrapped.mask, mask.mask)
    with pytest.raises(AttributeError, match="mask"):
        _ = wrap(Identity((1, 6, 7))).mask
