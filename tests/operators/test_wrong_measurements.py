"""A measurement, an image or a tau of another shape or kind: an error of ours from every operator, never a wrong image."""

import copy
import pickle
import time

import pytest
import torch
from invsolve_operators import Bicubic, BlockMean, GaussianBlur, Identity, KernelBlur, Mask, SeparableGaussianBlur

from invsolve import Capability, GaussianNoise, Operator, Problem, estimate_noise, registry
from invsolve.cli.setup import converted
from invsolve.errors import ArgumentError, CapabilityError, InputError
from invsolve.operator.algebra import Stack
from invsolve.operator.iterative import matrix
from invsolve.operator.structure import Structured
from invsolve.testing.oracle import DenseOperator

SHAPE = (1, 4, 5)


def one_each():
    """Of every registered operator the first example and the first with parameters per item."""
    for entry in registry().of("operator"):
        examples = entry.load().examples()
        chosen = dict.fromkeys([examples[0], *[one for one in examples if one.batch not in (None, 1)][:1]])
        for operator in chosen:
            yield pytest.param(operator, id=f"{entry.name}-{operator.batch}")


OPERATORS = list(one_each())


def given(operator):
    """An image batch and its measurement."""
    x = torch.rand(operator.batch or 2, *operator.in_shape, dtype=torch.float64)
    return x, operator(x)


def wrong(y):
    """Measurements that no operator with this y gives."""
    changed = {
        "no batch": y[0],
        "two batches": y[None],
        "one entry more": y.new_zeros((*y.shape[:-1], y.shape[-1] + 1)),
        "whole numbers": torch.zeros_like(y.real).long(),
        "a list": [y],
        "a tuple of two": (y, y),
        "None": None,
        "numpy": y.numpy(),
    }
    if y.ndim > 2 and y.shape[1] > 1:
        changed["one channel"] = y[:, :1]
    if y.shape[-1] > 1:
        changed["one column"] = y[..., :1]
    return changed


@pytest.mark.parametrize("operator", OPERATORS)
def test_a_wrong_measurement_is_refused(operator):
    x, y = given(operator)
    if operator.stacked:
        pytest.skip("tuples are tested below")
    calls = {
        Capability.ADJOINT: operator.adjoint,
        Capability.PINV: operator.pinv,
        Capability.PROX: lambda y: operator.prox(x, y, 0.5),
    }
    tried = wrong(y)
    if operator.batch is not None:
        tried |= {"one item of several": y[:1], "one item more": torch.cat([y, y[:1]])}
    for capability, call in calls.items():
        if not operator.has(capability):
            continue
        assert call(y).shape == x.shape
        for what, bad in tried.items():
            with pytest.raises(InputError):
                pytest.fail(f"{capability} took {what}: {call(bad)}")


@pytest.mark.parametrize("operator", OPERATORS)
def test_a_wrong_z_or_tau_is_refused(operator):
    if not operator.has(Capability.PROX):
        pytest.skip("no prox")
    x, y = given(operator)
    count = len(x)
    assert operator.prox(x, y, torch.full((count,), 0.5)).shape == x.shape
    assert operator.prox(z=x, y=y, tau=1).shape == x.shape
    for bad in (x[0], x[..., :-1], torch.cat([x, x]), x.long(), x.tolist(), None, *([] if operator.complex_output else [x + 0j])):
        with pytest.raises(InputError):
            operator.prox(bad, y, 0.5)
    for bad in (-1.0, float("nan"), None, "a", [1.0] * count, 1j, torch.ones(count + 3), torch.full((count,), -1.0), torch.ones(()) * 1j):
        with pytest.raises(InputError, match="tau"):
            operator.prox(x, y, bad)


@pytest.mark.parametrize("operator", [one for one in OPERATORS if one.values[0].batch is not None])
def test_another_number_of_images_than_parameters_is_refused(operator):
    x, _ = given(operator)
    for bad in (x[:1], torch.cat([x, x])):
        with pytest.raises(InputError):
            operator(bad)


def test_the_message_says_what_was_given_and_what_to_do():
    blur = GaussianBlur((3, 8, 8))
    y = torch.rand(2, 3, 8, 8)
    with pytest.raises(InputError, match=r"gives y of shape \(B, 3, 8, 8\); given \(2, 1, 8, 8\)"):
        blur.adjoint(y[:, :1])
    with pytest.raises(InputError, match=r"given \(3, 8, 8\); y\[None\] is a batch of one"):
        blur.pinv(y[0])
    with pytest.raises(InputError, match="batch sizes differ: z 2, y 1"):
        blur.prox(y, y[:1], 1.0)
    with pytest.raises(InputError, match=r"takes real images; given x of torch.complex64, .*torch.cat\(\[x.real, x.imag\], dim=1\)"):
        blur(y + 0j)
    with pytest.raises(InputError, match=r"y is complex \(torch.complex64\), but this operator's output is real; pass y.real"):
        blur.adjoint(y + 0j)


def test_what_an_operator_cannot_do_is_said_first():
    with pytest.raises(CapabilityError, match="no pinv"):
        Operator.from_function(lambda x: x.flip(-1), SHAPE).pinv("nonsense")


def test_views_and_combinations_are_guarded():
    half = Mask(SHAPE, keep=0.5)
    y = torch.rand(2, *SHAPE)
    for operator in (
        2.0 * half,
        half + half,
        half @ GaussianBlur(SHAPE),
        half.T,
        GaussianBlur(SHAPE) @ half,
        DenseOperator(torch.eye(20), SHAPE),
    ):
        with pytest.raises(InputError, match="gives y"):
            operator.adjoint(y[..., :1])
    stack = Stack(half, GaussianBlur(SHAPE))
    assert stack.adjoint((y, y)).shape == y.shape
    for bad in (y, [y, y], (y, y, y), (y, None), (y, y[..., :1]), (y, y[:1])):
        with pytest.raises(InputError):
            stack.adjoint(bad)


class Stranger(Operator):
    """An operator of somebody else, with parameters of their own naming."""

    def __init__(self, in_shape=SHAPE):
        super().__init__()
        self.in_shape = self.out_shape = in_shape

    def forward(self, image):
        return 2 * image

    def adjoint(self, data, *, gain=2.0):
        return gain * data


class Heir(Stranger):
    """It inherits, and calls what it inherits."""

    def adjoint(self, data, *, gain=2.0):
        return super().adjoint(data, gain=gain)


@pytest.mark.parametrize("cls", [Stranger, Heir])
def test_classes_of_strangers_are_guarded_and_stay_what_they_are(cls):
    operator, y = cls(), torch.rand(2, *SHAPE)
    assert operator.capabilities == {Capability.ADJOINT}
    assert torch.equal(operator.adjoint(data=y, gain=3.0), 3 * y)
    for bad in (y[0], y[..., :1]):
        with pytest.raises(InputError):
            operator.adjoint(bad)
        with pytest.raises(InputError):
            operator.adjoint(data=bad)
    with pytest.raises(TypeError, match="data"):
        operator.adjoint()
    for same in (pickle.loads(pickle.dumps(operator)), copy.deepcopy(operator)):
        assert torch.equal(same.adjoint(y), 2 * y)


def test_transforms_meta_tensors_and_empty_batches_pass():
    mask, y = Mask(SHAPE, keep=0.5), torch.rand(2, *SHAPE)
    _, back = torch.func.vjp(mask.adjoint, y)
    assert torch.equal(back(y)[0], mask(y))
    one_by_one = torch.func.vmap(lambda y, tau: mask.prox(y[None], y[None], tau)[0])(y, torch.ones(2))
    assert torch.equal(one_by_one, mask.prox(y, y, 1.0))
    assert mask.adjoint(y[:0]).shape == (0, *SHAPE)
    assert Identity(SHAPE).prox(y.to("meta"), y.to("meta"), torch.ones(2, device="meta")).shape == y.shape


def test_looking_costs_microseconds():
    operator, y = Identity(SHAPE), torch.rand(2, *SHAPE)
    plain = Identity.adjoint.__wrapped__

    def took(call):
        start = time.perf_counter()
        for _ in range(1000):
            call()
        return (time.perf_counter() - start) / 1000

    assert min(took(lambda: operator.adjoint(y)) - took(lambda: plain(operator, y)) for _ in range(5)) < 50e-6


def test_whole_numbers_do_not_cut_off_a_matrix():
    for A in (torch.rand(4, 4), torch.rand(4, 4).to_sparse()):
        operator, x = Operator.from_matrix(A, (1, 2, 2)), torch.ones(1, 1, 2, 2)
        assert operator(x).abs().sum() > 0
        with pytest.raises(InputError, match="int64"):
            operator(x.long())
        with pytest.raises(InputError, match="int64"):
            operator.adjoint(torch.ones(1, 4).long())
    with pytest.raises(InputError, match="int64"):
        Operator.from_function(lambda x: x.flip(-1), SHAPE)(torch.ones(1, *SHAPE).long())


def test_items_can_be_counted_through_and_end():
    operator = GaussianBlur(SHAPE, torch.tensor([0.5, 1.0, 2.0]))
    x = torch.rand(3, *SHAPE)
    assert torch.allclose(torch.cat([one(x[item : item + 1]) for item, one in enumerate(operator)]), operator(x))
    assert operator[-1].arguments["sigma"].item() == 2.0
    for index in (3, 9, -4):
        with pytest.raises(IndexError, match=f"3 items; there is no item {index}"):
            operator[index]
    with pytest.raises(TypeError, match="cannot be iterated"):
        list(Identity(SHAPE))
    assert Identity(SHAPE)[9].in_shape == SHAPE


@pytest.mark.parametrize(
    ("first", "second"),
    [("x", torch.rand(1, *SHAPE)), (torch.rand(1, *SHAPE), Identity(SHAPE)), (Identity(SHAPE), [1.0]), (Identity(SHAPE), None)],
)
def test_the_noise_level_of_swapped_arguments(first, second):
    with pytest.raises(InputError, match=r"operator comes first|must be a tensor"):
        estimate_noise(first, second)


def test_simulating_with_swapped_arguments():
    x = torch.rand(1, *SHAPE)
    with pytest.raises(InputError, match="operator comes first"):
        Problem.simulate(x, Identity(SHAPE), GaussianNoise(0.1))
    with pytest.raises(InputError, match=r"GaussianNoise\(0.05\); given float"):
        Problem.simulate(Identity(SHAPE), x, 0.1)


def test_factors_that_are_none():
    operator = Identity(SHAPE)
    with pytest.raises(InputError, match="not 0"):
        operator / 0
    with pytest.raises(InputError, match="a number"):
        operator * torch.tensor(2.0)
    assert (operator / 4).factor == 0.25


@pytest.mark.parametrize("sigma", [1.0, torch.tensor([0.5, 1.0])])
def test_block_means_of_a_separable_blur_per_image(sigma):
    mean, blur = BlockMean((1, 4, 6), 2), SeparableGaussianBlur((1, 4, 6), sigma)
    product = mean @ blur
    assert product.has(Capability.SVD)
    assert product.batch == blur.batch
    assert not isinstance(product, Structured)
    assert (matrix(product) - matrix(mean) @ matrix(blur)).abs().max() < 1e-14


def test_what_the_constructors_promise_to_refuse():
    with pytest.raises(InputError, match="'zero'"):
        Bicubic((1, 8, 8), 2, "zero")
    with pytest.raises(InputError, match="no entries"):
        Mask((1, 8, 8), mask=torch.ones(0, 1, 8, 8))


def rolled(x):
    """One to the right."""
    return x.roll(1, -1)


def rolled_prox(z, y, tau):
    """The prox of `rolled`."""
    tau = tau.reshape(-1, 1, 1, 1)
    return z + tau * (y.roll(-1, -1) - z) / (1 + tau)


def test_a_pinv_and_a_prox_are_probed():
    assert Operator.from_function(rolled, SHAPE, pinv=lambda y: y.roll(-1, -1), prox=rolled_prox).has(Capability.PROX)
    assert Operator.from_function(torch.fft.fft2, SHAPE, pinv=torch.fft.ifft2).has(Capability.PINV)
    for pinv in (lambda y: y, lambda y: 0 * y, lambda y: y.roll(-1, -1) * (1 + 1e-5)):
        with pytest.raises(InputError, match="pseudo-inverse of rolled"):
            Operator.from_function(rolled, SHAPE, pinv=pinv)
    for prox in (lambda z, y, tau: z, lambda z, y, tau: rolled_prox(z, y, tau**0), lambda z, y, tau: rolled_prox(z, rolled(y), tau)):
        with pytest.raises(InputError, match="prox is not that of rolled"):
            Operator.from_function(rolled, SHAPE, prox=prox)


def test_a_pinv_must_be_the_smallest_solution():
    def first(x):
        return x.sum(-1, keepdim=True)

    assert Operator.from_function(first, SHAPE, pinv=lambda y: y.expand(*y.shape[:-1], 5) / 5).has(Capability.PINV)
    with pytest.raises(InputError, match="symmetric"):
        Operator.from_function(first, SHAPE, pinv=lambda y: torch.nn.functional.pad(y, (0, 4)))


def test_a_path_where_numbers_belong_names_the_way():
    with pytest.raises(ArgumentError, match=r'kernel = \{ file = "k.npy" \}'):
        converted("k.npy", "kernel", "operator 'kernel-blur'", KernelBlur, None)
