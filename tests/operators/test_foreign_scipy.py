"""scipy's LinearOperator, and what looks like it, as ours; ours as scipy's, with lsqr and svds run on it."""

import importlib.util
import types

import numpy as np
import pytest
import scipy.sparse
import torch
from scipy.sparse.linalg import LinearOperator, aslinearoperator, lsqr, svds

from invsolve import CapabilityError, InputError, IterativeProx, Operator, Stack
from invsolve.operator.iterative import matrix
from invsolve.operator.matrix import MatrixOperator
from invsolve.operator.scipy import ScipyOperator
from invsolve.rng import Rng
from invsolve.testing import operator_cases, operator_checks

SHAPE = (2, 4, 5)
EPS = torch.finfo(torch.float64).eps


def white(*shape, seed=0, dtype=torch.float64):
    return Rng(seed, range(shape[0]), purpose="test").normal(shape[1:], torch.empty(0, dtype=dtype))


def dense(rows, columns, seed=3):
    return white(rows, columns, seed=seed)


SPARSE = scipy.sparse.csr_array(np.array([[0, 2.0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0], [3, 0, -1, 0, 0, 0], [0, 0, 0, 0, 4, 0]]))


@pytest.mark.parametrize(("operator", "check"), operator_cases(*ScipyOperator.examples()))
def test_conformance(operator, check):
    check(operator)


class Duck:
    """What a library might have: its products under one of several names."""

    def __init__(self, A, names):
        self.shape = A.shape
        if names == "@":
            self.A = A
            return
        setattr(self, names[0], lambda v: A @ v)
        setattr(self, names[1], lambda v: A.conj().T @ v)

    def __matmul__(self, v):
        return self.A @ v

    @property
    def H(self):  # noqa: N802
        return Duck(self.A.conj().T, "@")


def complex_matrix():
    return (white(5, 6, seed=1) + 1j * white(5, 6, seed=2)).numpy()


@pytest.mark.parametrize("kind", [float, complex])
@pytest.mark.parametrize("names", [("matvec", "rmatvec"), ("_matvec", "_rmatvec"), "@", "scipy"])
def test_linear_operators_of_others(names, kind):
    A = complex_matrix() if kind is complex else white(5, 6).numpy()
    operator = Operator.from_scipy(aslinearoperator(A) if names == "scipy" else Duck(A, names), (1, 2, 3))
    assert operator.complex_output == (kind is complex)
    assert {one.value for one in operator.capabilities} == {"linear", "adjoint", "differentiable"}
    x = white(3, 1, 2, 3)
    assert np.allclose(operator(x).numpy(), x.flatten(1).numpy() @ A.T, rtol=0, atol=100 * EPS)
    for name, check in operator_checks(operator):
        if name != "check_copies" or names == "scipy":  # the ducks hold lambdas, which no pickle takes
            check(operator)
    leaf = white(1, 1, 2, 3).requires_grad_()
    assert torch.autograd.gradcheck(operator, (leaf,))
    assert torch.autograd.gradgradcheck(operator, (leaf,))


def test_an_operator_that_writes_into_its_vectors_does_no_harm():
    def greedy(v):
        v *= 2
        return v

    operator = Operator.from_scipy(LinearOperator((6, 6), matvec=greedy, rmatvec=greedy, dtype=float), (1, 2, 3))
    x = white(2, 1, 2, 3)
    kept = x.clone()
    assert torch.equal(operator(x), 2 * kept.flatten(1))
    assert torch.equal(operator.adjoint(operator(x)), 4 * kept)
    assert torch.equal(x, kept)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.eye(6), ["from_matrix"]),
        (SPARSE, ["from_matrix"]),
        (None, ["shape (m, n)", "NoneType"]),
        (types.SimpleNamespace(shape=(6, 6)), ["no matvec"]),
        (LinearOperator((6, 6), matvec=lambda v: v, dtype=float), ["no rmatvec"]),
        (LinearOperator((6, 6), matvec=lambda v: 2 * v, rmatvec=lambda v: v, dtype=float), ["not the adjoint", "<Lx, y>"]),
        (LinearOperator((6, 6), matvec=lambda v: v * v, rmatvec=lambda v: v, dtype=float), ["not linear"]),
        (types.SimpleNamespace(shape=(6, 6), matvec=lambda v: v[:3], rmatvec=lambda v: v), ["3 values", "says 6"]),
        (aslinearoperator(np.eye(5)), ["5 columns"]),
    ],
)
def test_linear_operators_that_do_not_fit(value, words):
    with pytest.raises(InputError) as found:
        Operator.from_scipy(value, (1, 2, 3))
    assert all(word in str(found.value) for word in words), found.value


@pytest.mark.parametrize("dtype", [None, "float32"])
def test_ours_is_a_linear_operator_of_scipy(dtype):
    A = dense(20, 12)
    ours = Operator.from_matrix(A, (3, 2, 2), (4, 5)).to_scipy(dtype)
    assert (ours.shape, ours.dtype) == ((20, 12), np.dtype(dtype or "float64"))
    x, y = white(12, 4).numpy(), white(20, 4).numpy()
    slack = 100 * np.finfo(ours.dtype).eps * float(A.norm())
    for found, wanted in ((ours @ x, A.numpy() @ x), (ours @ x[:, 0], A.numpy() @ x[:, 0]), (ours.H @ y, A.numpy().T @ y)):
        assert found.dtype == ours.dtype
        assert found.shape == wanted.shape
        assert np.abs(found - wanted).max() < slack * np.abs(wanted).max()


@pytest.mark.parametrize("name", ["gaussian-blur", "separable-blur", "block-mean", "grey", "mask"])
def test_lsqr_and_svds_agree_with_pinv_and_svd(name):
    from invsolve import registry

    operator = registry().load("operator", name).examples()[0]
    view, y = operator.to_scipy(), white(1, *operator.out_shape)
    # lsqr stops at a relative residual of the normal equations of 1e-12: the error is that times the condition number of H.
    s = operator.svd().s.double()
    condition = float(s.max() / s[s > 0].min())
    if condition < 1e4:
        x = lsqr(view, y.flatten().numpy(), atol=1e-12, btol=1e-12, iter_lim=2000)[0]
        gap = np.abs(x - operator.pinv(y).flatten().numpy()).max()
        assert gap < 1e-12 * condition**2 * 10 * float(operator.pinv(y).norm() + y.norm())
    ours = s.expand(operator.in_shape).flatten() if s.numel() != view.shape[1] else s.flatten()
    top = np.sort(svds(view, k=5, return_singular_vectors=False, random_state=0))
    assert np.abs(top - ours.sort().values[-5:].numpy()).max() < 1e-10 * float(ours.max())  # ARPACK: eps of the squared values


def test_stacks_and_single_items_go_to_scipy():
    stack = Stack(*MatrixOperator.examples()[:1], Operator.from_matrix(dense(4, 12), (3, 2, 2), (2, 2)))
    A = torch.cat([matrix(part) for part in stack.parts]).numpy()
    assert np.abs(stack.to_scipy() @ np.eye(12) - A).max() == 0
    assert np.abs(stack.to_scipy().H @ np.eye(11) - A.T).max() < 100 * EPS
    each = MatrixOperator.examples()[2]
    with pytest.raises(InputError, match=r"parameters for 3 images.*operator\[0\]"):
        each.to_scipy()
    assert np.abs(each[1].to_scipy() @ np.eye(6) - each.matrix[1].numpy()).max() == 0


def test_there_and_back_again():
    A = complex_matrix()
    back = Operator.from_scipy(Operator.from_scipy(aslinearoperator(A), (1, 2, 3)).to_scipy(), (1, 2, 3))
    x = white(2, 1, 2, 3)
    assert np.allclose(back(x).numpy(), x.flatten(1).numpy() @ A.T, rtol=0, atol=100 * EPS)


def test_what_scipy_cannot_have():
    with pytest.raises(CapabilityError, match="not linear"):
        Operator.from_function(torch.square, (1, 2, 2), linear=False).to_scipy()
    for dtype, words in (("int32", "float32 or float64"), ("nonsense", "one of numpy's"), ("complex128", "float32 or float64")):
        with pytest.raises(InputError, match=words):
            Operator.from_function(torch.neg, (1, 2, 2)).to_scipy(dtype)


def test_a_foreign_operator_is_solved_through_iterative_prox():
    view = Operator.from_scipy(aslinearoperator(dense(20, 64).numpy() / 8), (1, 8, 8))
    z, y = white(2, 1, 8, 8), white(2, 20)
    A = matrix(view)
    wanted = torch.linalg.solve(A.mT @ A + torch.eye(64, dtype=A.dtype), (y @ A + z.flatten(1)).mT).mT
    found = IterativeProx(view, tol=1e-10).prox(z, y, 1.0)
    assert (found.flatten(1) - wanted).norm() < 1e-10 * (1 + float(A.norm()) ** 2) * wanted.norm()


@pytest.mark.skipif(importlib.util.find_spec("pylops") is None, reason="pylops is not installed")
def test_pylops_itself():
    import pylops

    for foreign, in_shape, out_shape in (
        (pylops.FirstDerivative((6, 5), axis=0), (1, 6, 5), (1, 6, 5)),
        (pylops.Restriction(30, [1, 4, 7]), (1, 6, 5), None),
        (pylops.signalprocessing.FFT2D((6, 5)), (1, 6, 5), (1, 6, 5)),
    ):
        operator = Operator.from_scipy(foreign, in_shape, out_shape)
        for _, check in operator_checks(operator):
            check(operator)
