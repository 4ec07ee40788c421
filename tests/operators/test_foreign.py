"""Functions as operators: what is found, what is refused, and that no function can harm our tensors."""

import pickle

import numpy as np
import pytest
import torch
from torch import nn

from invsolve import GaussianNoise, InputError, Operator, Problem, Stack
from invsolve.errors import ArgumentError
from invsolve.operator.function import FunctionOperator
from invsolve.operator.iterative import matrix
from invsolve.priors import TotalVariation
from invsolve.rng import Rng
from invsolve.solvers import AdamTV
from invsolve.testing import operator_cases

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
    tau = torch.as_tensor(tau, dtype=z.dtype, device=z.device).reshape(-1, 1, 1, 1)
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
NONLINEAR = FunctionOperator(gamma, SHAPE, linear=False)


@pytest.mark.parametrize(("operator", "check"), operator_cases(*LINEAR, NONLINEAR))
def test_conformance(operator, check):
    check(operator)


@pytest.mark.parametrize("operator", LINEAR[:5], ids=lambda one: one.label)
def test_adjoint_is_the_transposed_matrix(operator):
    H = matrix(operator)
    y = white(2, *operator.out_shape)
    assert (operator.adjoint(y).flatten(1) - y.flatten(1) @ H).abs().max() < 100 * EPS * H.norm() * y.norm()


def test_capabilities_are_what_was_given():
    names = {one: {capability.value for capability in one.capabilities} for one in [*LINEAR, NONLINEAR]}
    plain = {"linear", "adjoint", "differentiable"}
    assert names[LINEAR[0]] == plain
    assert names[LINEAR[4]] == plain | {"pinv", "prox"}
    assert names[NONLINEAR] == {"differentiable"}
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
        (differences, {"linear": (2, 4, 4)}, ["linear must be True or False", "(2, 4, 4)"]),
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
    bound = 18 * torch.finfo(torch.float32).eps * float(operator.function.weight.detach().norm() * white(1, *SHAPE).norm())
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


def test_a_misspelt_keyword_is_told_the_near_one():
    with pytest.raises(ArgumentError, match="did you mean adjoint"):
        Operator.from_function(differences, SHAPE, adjont=differences)
