"""Functions, matrices and scipy's operators as ours, and ours as scipy's: against dense matrices, and with the kit run on them."""

import importlib.util
import math
import pickle
import types

import numpy as np
import pytest
import scipy.sparse
import torch
from scipy.sparse.linalg import LinearOperator, aslinearoperator, lsqr, svds
from torch import nn

from invsolve import Capability, CapabilityError, GaussianNoise, InputError, IterativeProx, Operator, Problem, Stack
from invsolve.foreign import FunctionOperator
from invsolve.linalg import matrix
from invsolve.matrix import SVD_SIDE, MatrixOperator, SparseMatrixOperator
from invsolve.priors import GaussianPrior, TotalVariation
from invsolve.rng import Rng
from invsolve.scipy_bridge import ScipyOperator
from invsolve.solvers import DDRM, AdamTV
from invsolve.testing import operator_cases, operator_checks

SHAPE = (2, 4, 5)
EPS = torch.finfo(torch.float64).eps


def white(*shape, seed=0, dtype=torch.float64):
    return Rng(seed, range(shape[0]), purpose="test").normal(shape[1:], torch.empty(0, dtype=dtype))


def dense(rows, columns, seed=3):
    return white(rows, columns, seed=seed)


class Convolution(nn.Module):
    """A function with a tensor that moves along, in the precision of its input."""

    kernel: torch.Tensor

    def __init__(self):
        super().__init__()
        self.register_buffer("kernel", white(3, 2, 3, 3))

    def forward(self, x):
        return nn.functional.conv2d(x, self.kernel.to(x), stride=2, padding=1)


def differences(x):
    return x[..., 1:] - x[..., :-1]


def gamma(x):
    return x.clamp_min(0) ** 2


def by_numpy(x):
    return torch.from_numpy(np.cumsum(x.numpy(), axis=-1))


def by_numpy_back(y):
    return torch.from_numpy(np.ascontiguousarray(np.cumsum(y.numpy()[..., ::-1], axis=-1)[..., ::-1]))


def in_place(x):
    return x.mul_(2)


def mean(x):
    return x.mean((2, 3)).reshape(len(x), -1)


def mean_pinv(y):
    return y[..., None, None].expand(-1, -1, 4, 5).clone()


def mean_prox(z, y, tau):
    tau = torch.as_tensor(tau, dtype=z.dtype).reshape(-1, 1, 1, 1)
    step = torch.where(torch.isinf(tau), 1.0, tau / 20 / (1 + tau / 20))
    return z + step * (y[..., None, None] - z.mean((2, 3), keepdim=True))


def spectrum(x):
    return torch.fft.fft2(x)


LINEAR = [
    FunctionOperator(differences, SHAPE),
    FunctionOperator(Convolution(), SHAPE),
    FunctionOperator(by_numpy, SHAPE, adjoint=by_numpy_back),
    FunctionOperator(in_place, SHAPE),
    FunctionOperator(mean, SHAPE, pinv=mean_pinv, prox=mean_prox),
    FunctionOperator(spectrum, SHAPE),
]
OTHERS = [FunctionOperator(gamma, SHAPE, linear=False), *MatrixOperator.examples(), *SparseMatrixOperator.examples()]


@pytest.mark.parametrize(("operator", "check"), operator_cases(*LINEAR, *OTHERS, *ScipyOperator.examples()))
def test_conformance(operator, check):
    check(operator)


@pytest.mark.parametrize("operator", LINEAR[:5], ids=lambda one: one.label)
def test_adjoint_is_the_transposed_matrix(operator):
    H = matrix(operator)
    y = white(2, *operator.out_shape)
    assert (operator.adjoint(y).flatten(1) - y.flatten(1) @ H).abs().max() < 100 * EPS * H.norm() * y.norm()


def test_capabilities_are_what_was_given():
    names = {one: {capability.value for capability in one.capabilities} for one in [*LINEAR, *OTHERS]}
    plain = {"linear", "adjoint", "differentiable"}
    assert names[LINEAR[0]] == plain
    assert names[LINEAR[4]] == plain | {"pinv", "prox"}
    assert names[OTHERS[0]] == {"differentiable"}
    assert FunctionOperator(lambda x: torch.from_numpy(np.sign(x.numpy())), SHAPE, linear=False).capabilities == frozenset()


def test_gradients_go_through_a_given_adjoint_twice():
    operator = LINEAR[2]
    x = white(1, *SHAPE).requires_grad_()
    assert torch.autograd.gradcheck(operator, (x,))
    assert torch.autograd.gradgradcheck(operator, (x,))


# What is wrong with a function, and what the error has to name


def noisy(x):
    return x + torch.rand(x.shape, generator=GENERATOR, dtype=x.dtype)


GENERATOR = torch.Generator().manual_seed(0)


class Counting:
    calls = 0

    def __call__(self, x):
        self.calls += 1
        return self.calls * x


def broken(x):
    raise KeyError("lost")


def constant_float(x):
    return x * torch.ones(5, dtype=torch.float64)


@pytest.mark.parametrize(
    ("function", "options", "words"),
    [
        (lambda x: x.numpy(), {}, ["must return a tensor", "ndarray", "from_scipy"]),
        (lambda x: None, {}, ["NoneType"]),
        (lambda x: (x, x), {}, ["2 parts", "Stack"]),
        (lambda x: x[0], {}, ["keep the batch", "(2, 4, 5)"]),
        (lambda x: x.flatten(), {}, ["keep the batch", "(80,)"]),
        (lambda x: x.flatten(1).sum(1), {}, ["return (B, 1)"]),
        (lambda x: x.half(), {}, ["keep the precision", "float16"]),
        (lambda x: x.int(), {}, ["keep the precision", "int32"]),
        (lambda x: x > 0, {}, ["keep the precision", "bool"]),
        (constant_float, {}, ["keep the precision", "given torch.float32, it returned torch.float64"]),
        (lambda x: x / 0, {}, ["NaN or Inf", "white noise"]),
        (lambda x: x[..., :0], {}, ["returned nothing"]),
        (noisy, {}, ["another result for the same images", "random"]),
        (Counting(), {}, ["another result", "state"]),
        (nn.Dropout(0.5), {}, ["another result", ".eval()"]),
        (lambda x: x - x.mean(0), {}, ["couples the items"]),
        (lambda x: x.flip(0), {}, ["couples the items"]),
        (lambda x: x / x.norm(), {"linear": False}, ["couples the items"]),
        (lambda x: x + 1, {}, ["not linear", "f(0)", "linear=False"]),
        (lambda x: x.clamp(-1, 1), {}, ["not linear", "2 f(x) - 3 f(z)"]),
        (torch.abs, {}, ["not linear"]),
        (by_numpy, {}, ["autograd", "adjoint="]),
        (lambda x: x.detach() * 2, {}, ["autograd", "adjoint="]),
        (lambda x: 2 * x, {"adjoint": lambda y: y}, ["not the adjoint", "<f(x), y>"]),
        (differences, {"adjoint": lambda y: y}, ["adjoint must return images of shape (2, 2, 4, 5)"]),
        (differences, {"pinv": lambda y: None}, ["pinv must return", "NoneType"]),
        (differences, {"prox": lambda z, y, tau: y}, ["prox must return"]),
        (differences, {"prox": lambda z, y: z}, ["prox fails", "TypeError"]),
        (broken, {}, ["fails when called", "(2, 2, 4, 5)", "KeyError", "lost"]),
        (lambda x: x @ torch.ones(7, 7), {}, ["fails when called", "RuntimeError"]),
        (gamma, {"linear": False, "adjoint": gamma}, ["linear=False has no adjoint"]),
        (3, {}, ["must be a function", "int"]),
        (None, {}, ["must be a function", "NoneType"]),
        (nn.Conv2d(2, 2, 3).half(), {}, ["float16", ".float()"]),
    ],
)
def test_a_function_that_does_not_fit_is_named(function, options, words):
    with pytest.raises(InputError) as found:
        Operator.from_function(function, SHAPE, **options)
    assert all(word in str(found.value) for word in words), found.value


@pytest.mark.parametrize("shape", [5, "3x4", (), (3, 0, 4), (3, 4.0, 4), (True, 3, 3), None, torch.ones(3)])
def test_a_shape_that_is_none_is_named(shape):
    with pytest.raises(InputError, match="in_shape must be whole numbers"):
        Operator.from_function(differences, shape)


def test_what_f_returns_later_is_checked_too():
    def fickle(x):
        return x if len(x) < 3 else x[..., :2]

    operator = Operator.from_function(fickle, SHAPE)
    with pytest.raises(InputError, match=r"returned \(3, 2, 4, 2\)"):
        operator(white(3, *SHAPE))
    with pytest.raises(InputError, match=r"takes x of shape \(B, 2, 4, 5\)"):
        operator(white(3, 1, 4, 5))


def test_an_error_of_f_keeps_its_type_and_says_where():
    single = torch.ones(5, 5)
    operator = Operator.from_function(lambda x: x @ single, SHAPE)  # float32 only
    assert operator.probed == torch.float32
    assert operator(white(1, *SHAPE, dtype=torch.float32)).dtype == torch.float32
    with pytest.raises(RuntimeError) as found:
        operator(white(1, *SHAPE))
    assert "probed with torch.float32" in "".join(found.value.__notes__)


def test_functions_that_write_where_they_should_not():
    memory = torch.empty(0)

    def reusing(x):
        nonlocal memory
        memory = memory if memory.shape == x.shape and memory.dtype == x.dtype else torch.empty_like(x)
        return torch.mul(x, 3, out=memory)

    x, z = white(2, *SHAPE), white(2, *SHAPE, seed=1)
    kept = x.clone()
    operator = Operator.from_function(reusing, SHAPE, adjoint=lambda y: y.mul_(3))
    first = operator(x)
    operator(z)
    assert torch.equal(first, 3 * x)
    assert torch.equal(operator.adjoint(x), 3 * x)
    doubled = Operator.from_function(in_place, SHAPE)
    assert torch.equal(doubled(x), 2 * x)
    same = Operator.from_function(lambda x: x, SHAPE)
    same(x).zero_()  # y is no view of x
    assert torch.equal(x, kept)


def test_modules_move_and_are_stored():
    operator = Operator.from_function(nn.Conv2d(2, 3, 3, stride=2, padding=1, bias=False), SHAPE)
    assert list(operator.state_dict()) == ["function.weight"]
    assert (operator.device, operator.probed) == (torch.device("cpu"), torch.float32)
    y = operator(white(1, *SHAPE).float())
    exact = operator.to(torch.float64)(white(1, *SHAPE))
    bound = 18 * torch.finfo(torch.float32).eps * float(operator.function.weight.norm() * white(1, *SHAPE).norm())
    assert (y - exact).abs().max() < bound  # sums of 18 products
    assert pickle.loads(pickle.dumps(operator)).out_shape == (3, 2, 3)
    y.sum().backward()  # the parameters of a blind problem get their gradient
    assert operator.function.weight.grad is not None
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(Operator.from_function(lambda x: x, SHAPE))


def test_a_function_composes_stacks_and_is_solved():
    blur = Operator.from_function(lambda x: (x + x.roll(1, -1)) / 2, (1, 8, 8))
    both = Stack(blur, blur.from_function(lambda x: x[..., ::2], (1, 8, 8)) @ blur)
    x = Rng(0, (0,), purpose="test").uniform((1, 8, 8), torch.empty(0))
    problem = Problem.simulate(both, x, GaussianNoise(0.01), generator=0)
    assert AdamTV(steps=3).solve(problem, TotalVariation(), generator=0).x.shape == x.shape


def test_a_function_of_one_image_enters_by_vmap():
    operator = Operator.from_function(torch.vmap(lambda image: image.cumsum(-1)), SHAPE)
    assert torch.equal(operator(white(3, *SHAPE)), white(3, *SHAPE).cumsum(-1))


# Matrices


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
        (torch.eye(3, dtype=torch.complex64), (3,), None, ["complex", "[[A, -B], [B, A]]"]),
        (SPARSE.astype(complex), (6,), None, ["complex"]),
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


# scipy and everything like it


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
        OTHERS[0].to_scipy()
    for dtype, words in (("int32", "float32 or float64"), ("nonsense", "one of numpy's"), ("complex128", "float32 or float64")):
        with pytest.raises(InputError, match=words):
            LINEAR[0].to_scipy(dtype)


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
