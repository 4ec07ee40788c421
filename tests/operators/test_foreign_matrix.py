"""Matrices as operators, dense, one per image and sparse, against linear algebra written out."""

import math

import numpy as np
import pytest
import scipy.sparse
import torch
from scipy.sparse.linalg import aslinearoperator

from invsolve import Capability, CapabilityError, GaussianNoise, InputError, Operator, Problem
from invsolve.operator.iterative import matrix
from invsolve.operator.matrix import SVD_SIDE, MatrixOperator, SparseMatrixOperator
from invsolve.priors import GaussianPrior
from invsolve.rng import Rng
from invsolve.solvers import DDRM
from invsolve.testing import operator_cases

SHAPE = (2, 4, 5)
EPS = torch.finfo(torch.float64).eps


def white(*shape, seed=0, dtype=torch.float64):
    return Rng(seed, range(shape[0]), purpose="test").normal(shape[1:], torch.empty(0, dtype=dtype))


def dense(rows, columns, seed=3):
    return white(rows, columns, seed=seed)


@pytest.mark.parametrize(("operator", "check"), operator_cases(*MatrixOperator.examples(), *SparseMatrixOperator.examples()))
def test_conformance(operator, check):
    check(operator)


@pytest.mark.parametrize(("rows", "columns"), [(6, 20), (25, 20), (20, 20)])
def test_a_dense_matrix_is_exact(rows, columns):
    A = dense(rows, columns)
    A[:, 3] = A[:, 4]  # not of full rank
    operator = Operator.from_matrix(A.numpy(), (1, 4, 5))
    x, y = white(3, 1, 4, 5), white(3, rows)
    inverse = torch.linalg.pinv(A)
    assert torch.equal(matrix(operator), A)
    assert (operator(x) - x.flatten(1) @ A.mT).abs().max() < 100 * EPS * A.norm() * x.norm()
    size = EPS * max(rows, columns) * A.norm() * inverse.norm() ** 2 * y.norm()
    assert (operator.pinv(y).flatten(1) - y @ inverse.mT).abs().max() < 8 * size
    tau = 0.7
    wanted = torch.linalg.solve(A.mT @ A + torch.eye(columns, dtype=A.dtype) / tau, (y @ A + x.flatten(1) / tau).mT).mT
    # the condition number of the normal equations is 1 + tau |A|^2
    assert (operator.prox(x, y, tau).flatten(1) - wanted).abs().max() < 100 * EPS * (1 + tau * A.norm() ** 2) * (y.norm() + x.norm())


def test_a_matrix_for_each_image():
    A = torch.stack([dense(7, 6, seed) for seed in range(3)])
    operator = Operator.from_matrix(A, (1, 2, 3))
    x = white(3, 1, 2, 3)
    assert operator.batch == 3
    assert operator.svd().s.shape == (3, 6)
    for item in range(3):
        assert (operator(x)[item] - A[item] @ x[item].flatten()).abs().max() < 100 * EPS * A.norm() * x.norm()
        assert torch.equal(operator[item].matrix[0], A[item])
    with pytest.raises(InputError, match=r"takes x of shape \(3, 1, 2, 3\); given \(2, 1, 2, 3\)"):
        operator(x[:2])


def test_the_svd_follows_the_matrix_that_is_loaded():
    operator = Operator.from_matrix(torch.eye(4), (4,))
    y = white(1, 4)
    operator.pinv(y)
    operator.load_state_dict({"matrix": 2 * torch.eye(4)})
    assert torch.allclose(operator.pinv(y), y / 2, rtol=8 * EPS, atol=0)


def test_ddrm_runs_on_a_matrix():
    A = dense(20, 64) / 8
    x = Rng(0, (0,), purpose="test").uniform((1, 8, 8), torch.empty(0, dtype=torch.float64))
    problem = Problem.simulate(Operator.from_matrix(A, (1, 8, 8)), x, GaussianNoise(0.05), generator=0)
    assert torch.isfinite(DDRM(steps=3).solve(problem, GaussianPrior(), generator=0).x).all()


def test_a_large_matrix_claims_no_svd_and_the_user_keeps_his():
    A = torch.zeros(2, SVD_SIDE + 1)
    operator = Operator.from_matrix(A, (1, 1, SVD_SIDE + 1))
    assert operator.capabilities == {Capability.LINEAR, Capability.ADJOINT, Capability.DIFFERENTIABLE}
    for call in (operator.svd, lambda: operator.pinv(torch.zeros(1, 2)), lambda: operator.prox(A[:1, None, None], torch.zeros(1, 2), 1)):
        with pytest.raises(CapabilityError, match="MatrixOperator has no"):
            call()
    operator.matrix.fill_(1)
    assert not A.any()


SPARSE = scipy.sparse.csr_array(np.array([[0, 2.0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0], [3, 0, -1, 0, 0, 0], [0, 0, 0, 0, 4, 0]]))


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
@pytest.mark.parametrize("kind", ["csr", "csc", "coo", "lil", "dia", "matrix", "torch"])
def test_sparse_matrices_of_every_kind(kind):
    given = {"matrix": scipy.sparse.csr_matrix, "torch": lambda a: torch.from_numpy(a.toarray()).to_sparse_csr()}.get(kind)
    operator = Operator.from_matrix(SPARSE.asformat(kind) if given is None else given(SPARSE), (1, 2, 3), (2, 2))
    assert isinstance(operator, SparseMatrixOperator)
    assert len(operator.values) == SPARSE.nnz
    assert np.array_equal(matrix(operator).numpy(), SPARSE.toarray())
    y = white(3, 2, 2)
    assert np.allclose(operator.adjoint(y).flatten(1).numpy(), y.flatten(1).numpy() @ SPARSE.toarray(), rtol=0, atol=100 * EPS)
    x = white(1, 1, 2, 3).requires_grad_()
    assert torch.autograd.gradcheck(operator, (x,))


def test_repeated_entries_of_a_sparse_matrix_add_up_and_the_users_is_left_alone():
    given = scipy.sparse.coo_array(([1.0, 2.0], ([0, 0], [1, 1])), shape=(2, 3))
    assert matrix(Operator.from_matrix(given, (3,)))[0, 1] == 3
    assert given.nnz == 2


@pytest.mark.parametrize(
    ("value", "in_shape", "out_shape", "words"),
    [
        (torch.eye(3), (4,), None, ["3 columns", "in_shape (4,) has 4"]),
        (torch.eye(3), (3,), (2, 2), ["3 rows", "out_shape (2, 2) has 4"]),
        (SPARSE, (5,), None, ["6 columns"]),
        (torch.ones(3), (3,), None, ["(m, n)", "given (3,)"]),
        (torch.eye(3, dtype=torch.complex64), (4,), None, ["3 columns", "has 4 entries"]),
        (SPARSE.astype(complex), (7,), None, ["6 columns", "has 7 entries"]),
        (torch.full((2, 2), math.nan), (2,), None, ["4 NaN or infinite"]),
        ("nonsense", (3,), None, ["given str"]),
        (None, (3,), None, ["given NoneType"]),
        ([[1, 2], [3]], (2,), None, ["given list"]),
        (aslinearoperator(np.eye(3)), (3,), None, ["given MatrixLinearOperator"]),
        (torch.eye(3), "abc", None, ["in_shape must be whole numbers"]),
    ],
)
def test_matrices_that_do_not_fit(value, in_shape, out_shape, words):
    with pytest.raises(InputError) as found:
        Operator.from_matrix(value, in_shape, out_shape)
    assert all(word in str(found.value) for word in words), found.value


def test_the_users_array_is_not_the_operators():
    A = np.eye(3)
    operator = Operator.from_matrix(A, (3,))
    A[:] = 7
    assert np.array_equal(operator.matrix.numpy(), np.eye(3))
    assert np.array_equal(MatrixOperator(**operator.arguments).matrix.numpy(), np.eye(3))


@pytest.mark.parametrize("operator", [MatrixOperator.examples()[0], SparseMatrixOperator.examples()[1]], ids=lambda one: one.label)
def test_first_used_under_inference_mode_and_then_with_gradients(operator):
    with torch.inference_mode():
        for name in ("adjoint", "pinv") if operator.has(Capability.PINV) else ("adjoint",):
            getattr(operator, name)(torch.ones(1, *operator.out_shape))
        operator(torch.ones(1, *operator.in_shape))
    x = torch.ones(1, *operator.in_shape, requires_grad=True)
    y = operator(x)
    (operator.pinv(y) if operator.has(Capability.PINV) else y).sum().backward()
    assert bool((x.grad != 0).any())
