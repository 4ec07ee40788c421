"""The prox of operators that have only an adjoint, against LAPACK, and what rounding does to it."""

import pytest
import torch

from invsolve.solvers.lanczos import shifted_solve


def cases(size, low):
    """Symmetric A of norm 1 with eigenvalues down to `low`, b for two items, two tau."""
    draw = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(size, size, generator=draw, dtype=torch.float64))[0]
    A = (basis * torch.logspace(0, low, size, dtype=torch.float64)) @ basis.T
    return A, torch.randn(2, size, generator=draw, dtype=torch.float64), torch.tensor([3.0, 4e4], dtype=torch.float64)


@pytest.mark.parametrize(("size", "low"), [(30, -6), (60, -3), (12, -14)])
def test_with_as_many_products_as_dimensions_it_is_the_solution(size, low):
    """Backward stable: eps times the condition, 1 + tau, of each item's system, with size for the sums."""
    A, right, tau = cases(size, low)
    found = shifted_solve(lambda x: x @ A, right.reshape(2, 1, 1, size).squeeze(1).squeeze(1), tau, products=size)
    for item in range(2):
        wanted = torch.linalg.solve(torch.eye(size, dtype=torch.float64) + tau[item] * A, right[item])
        bound = 10 * size * torch.finfo(torch.float64).eps * float(1 + tau[item]) * float(wanted.norm())
        assert float((found[item] - wanted).norm()) <= bound


def test_stopped_early_it_is_what_conjugate_gradients_reach():
    """The error in the norm of the system falls as 2 ((sqrt(c) - 1) / (sqrt(c) + 1))^k, c the condition."""
    A, right, _ = cases(200, -4)
    tau = torch.full((2,), 50.0, dtype=torch.float64)
    system = torch.eye(200, dtype=torch.float64) + 50 * A
    wanted = torch.linalg.solve(system, right.T).T
    size = torch.einsum("bn,nm,bm->b", wanted, system, wanted).sqrt()
    for products in (5, 10, 20):
        gap = shifted_solve(lambda x: x @ A, right, tau, products) - wanted
        error = torch.einsum("bn,nm,bm->b", gap, system, gap).sqrt()
        root = 51**0.5
        assert (error <= 2 * ((root - 1) / (root + 1)) ** products * size).all()


def test_rounding_stays_rounding():
    """Another unit, another batch: 50 products on 200 dimensions of condition 4e4, where conjugate gradients differ in the first digits."""
    A, right, tau = cases(200, -8)
    plain = shifted_solve(lambda x: x @ A, right, tau)
    for factor in (1e-4, 0.3, 1e4):
        other = shifted_solve(lambda x, c=factor: c * (x @ (c * A)), factor * right, tau / factor**2) / factor
        assert float((other - plain).abs().max()) <= 1e-9 * float(plain.abs().max())
    alone = shifted_solve(lambda x: x @ A, right[1:], tau[1:])
    assert float((alone[0] - plain[1]).abs().max()) <= 1e-9 * float(plain.abs().max())


def test_nothing_to_solve_and_few_dimensions():
    A, right, tau = cases(12, -1)
    assert (shifted_solve(lambda x: x @ A, torch.zeros_like(right), tau) == 0).all()
    flat = torch.eye(12, dtype=torch.float64) / 2  # one eigenvalue: the span is b alone
    found = shifted_solve(lambda x: x @ flat, right, tau)
    assert torch.allclose(found, right / (1 + tau[:, None] / 2), rtol=1e-12, atol=0)
