"""First-party operators: parameters per image, the prox in both precisions, the rank rule, what is refused."""

import math

import pytest
import torch
from invsolve_operators import (
    Bicubic,
    BlockMean,
    BlurDecimate,
    BoxMask,
    GaussianBlur,
    Grey,
    Identity,
    KernelBlur,
    Mask,
    MotionBlur,
    SeparableBlur,
    SeparableGaussianBlur,
)

from invsolve import InputError, Problem, registry
from invsolve.errors import ArgumentError
from invsolve.noise import GaussianNoise
from invsolve.operator import Capability

# Float64 sums of at most a few hundred terms of order one: n eps is 1e-13.
TOL = 1e-12


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def dense_of(operator):
    """(m, n), from all unit images in one batch."""
    units = torch.eye(math.prod(operator.in_shape), dtype=torch.float64)
    return operator(units.reshape(-1, *operator.in_shape)).flatten(1).T


def blurred_kernels(count, *shape):
    k = torch.rand(count, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return k / k.sum((-2, -1), keepdim=True)


def per_image():
    """(batched operator, the operators of its items)."""
    masks = torch.rand(3, 1, 6, 8, generator=torch.Generator().manual_seed(0)) < 0.5
    colour = torch.rand(3, 2, 6, 8, generator=torch.Generator().manual_seed(0)) < 0.5
    kernels, sigmas = blurred_kernels(3, 4, 3), torch.tensor([0.5, 1.0, 2.0])
    shape = (2, 6, 8)
    return {
        "mask": (Mask(shape, mask=masks), [Mask(shape, mask=one) for one in masks]),
        "colour mask": (Mask(shape, mask=colour), [Mask(shape, mask=one) for one in colour]),
        "kernel": (KernelBlur(shape, kernels), [KernelBlur(shape, one) for one in kernels]),
        "sigma": (GaussianBlur(shape, sigmas), [GaussianBlur(shape, float(one)) for one in sigmas]),
        "decimate": (BlurDecimate(shape, 2, kernels), [BlurDecimate(shape, 2, one) for one in kernels]),
    }


@pytest.mark.parametrize("kind", ["mask", "colour mask", "kernel", "sigma", "decimate"])
def test_per_image_parameters_equal_single_ones(kind):
    batched, singles = per_image()[kind]
    assert batched.batch == 3
    x = draw(3, *batched.in_shape)
    y = batched(x) + 0.1 * draw(3, *batched.out_shape, seed=5)
    tau = torch.tensor([0.1, 1.0, 10.0], dtype=torch.float64)
    prox, pinv, s = batched.prox(x, y, tau), batched.pinv(y), batched.svd().s
    for item, single in enumerate(singles):
        one = slice(item, item + 1)
        # Well-conditioned pieces: a few hundred products, and 1 / s up to about 1e4 for the widest kernel.
        loss = 1 / float(single.svd().s[single.svd().s > 0].min())
        assert (batched(x)[one] - single(x[one])).abs().max() <= TOL
        assert (prox[one] - single.prox(x[one], y[one], float(tau[item]))).abs().max() <= TOL * 100
        assert (pinv[one] - single.pinv(y[one])).abs().max() <= TOL * loss
        assert (s[item] - single.svd().s).abs().max() <= TOL
        assert torch.equal(batched[item](x[one]), batched[one](x[one]))


def test_sliced_problem_of_a_batched_operator():
    batched, _ = per_image()["kernel"]
    x = torch.rand(3, 2, 6, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    problem = Problem.simulate(batched, x, GaussianNoise(0.01), generator=0)
    assert problem[1].operator.batch == 1
    assert torch.equal(problem[1].y, problem.y[1:2])


ACCURATE = [
    # A prox in float32: the Fourier sums round to eps sqrt(log n), the gain sqrt(tau) / 2 = 418 acts on what noise there is; the
    # solution is large where the gain is, so the relative error stays near eps times a few tens. The reference's own figures
    # are 6e-3 (plain form) for blur and 5e-3 for decimation.
    (GaussianBlur((3, 64, 64), 1.6), 1e-5),
    (MotionBlur((3, 64, 64), 15.0, 30.0), 1e-5),
    (KernelBlur((3, 45, 61), blurred_kernels(1, 9, 8)[0]), 1e-5),
    (SeparableGaussianBlur((3, 64, 64), 1.6), 1e-5),
    (BlurDecimate((3, 64, 64), 4), 1e-5),
    (BlurDecimate((1, 45, 60), 3, sigma=1.0), 1e-5),
    (Bicubic((3, 64, 64), 4), 1e-5),
    (BlockMean((3, 64, 64), 4), 1e-6),
    (Mask((3, 64, 64)), 1e-6),
]


@pytest.mark.parametrize(("operator", "limit"), ACCURATE, ids=lambda value: value.label if hasattr(value, "label") else str(value))
@pytest.mark.parametrize("tau", [1.0, 7e5])
def test_prox_in_single_precision(operator, limit, tau):
    """Relative error against float64 on a noisy measurement."""
    x = torch.rand(2, *operator.in_shape, generator=torch.Generator().manual_seed(0))
    y = operator(x) + 0.05 * draw(2, *operator.out_shape, seed=1, dtype=torch.float32)
    z = x + 0.1 * draw(2, *operator.in_shape, seed=2, dtype=torch.float32)
    exact = operator.prox(z.double(), y.double(), tau)
    for found in (operator.prox(z, y, tau), operator.svd().prox(z, y, tau)):
        assert found.dtype == torch.float32
        assert float((found.double() - exact).norm() / exact.norm()) <= limit


@pytest.mark.parametrize("tau", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("name", ["gaussian-blur", "blur-decimate", "bicubic", "separable-blur", "block-mean", "grey", "mask"])
def test_prox_is_the_dense_solution(name, tau):
    for operator in registry().load("operator", name).examples():
        if operator.batch is not None or not operator.has(Capability.PROX):  # a decimated blur has one on the torus
            continue
        dense = dense_of(operator)
        z, y = draw(2, *operator.in_shape, seed=1), draw(2, *operator.out_shape, seed=2)
        system = dense.T @ dense + torch.eye(dense.shape[1], dtype=torch.float64) / tau
        wanted = torch.linalg.solve(system, (y.flatten(1) @ dense + z.flatten(1) / tau).T).T
        # Both solve a system of condition 1 + tau |H|^2, |H| <= 1.2 here.
        assert (operator.prox(z, y, tau).flatten(1) - wanted).abs().max() <= 10 * TOL * (1 + tau) * wanted.abs().max()


def test_prox_at_the_ends_of_tau():
    for operator in (
        GaussianBlur((1, 8, 8)),
        BlurDecimate((1, 8, 8), 2),
        Mask((1, 8, 8)),
        BlockMean((1, 8, 8), 2),
        Grey((3, 8, 8)),
        Identity((1, 8, 8)),
    ):
        z, y = draw(1, *operator.in_shape), draw(1, *operator.out_shape, seed=1)
        assert (operator.prox(z, y, 0.0) - z).abs().max() <= TOL
        clean = operator(z)
        assert (operator.prox(torch.zeros_like(z), clean, math.inf) - operator.pinv(clean)).abs().max() <= 1e-6


def test_rank_rule_and_repr():
    """Untruncated, a Gaussian of 3 pixels on 64 x 64 pixels loses most frequencies: said in the repr, 0 in s, H and pinv."""
    operator = GaussianBlur((1, 64, 64), 3.0, truncate=16.0)
    s = operator.svd().s
    rank = int((s > 0).sum())
    assert 0 < rank < 64 * 64
    assert float(s[s > 0].min()) > torch.finfo(torch.float64).eps * 64 * 64 * float(s.max())
    assert f"{rank} of 4096 singular values" in repr(operator)
    x = draw(1, 1, 64, 64)
    # H^+ y for noisy y is huge, but finite: 1 / s stays below 1 / (eps n).
    assert bool(torch.isfinite(operator.pinv(operator(x) + x)).all())


def test_rank_does_not_depend_on_the_batch():
    """A kernel a million times weaker keeps its own rank beside a strong one."""
    weak, strong = GaussianBlur((1, 12, 10), 3.0, truncate=12.0).kernel * 1e-9, torch.zeros(73, 73, dtype=torch.float64)
    strong[36, 36] = 1
    both = KernelBlur((1, 12, 10), torch.stack([weak, strong]))
    assert torch.equal(both.svd().s[0], KernelBlur((1, 12, 10), weak).svd().s)


def test_moving_to_another_dtype_keeps_the_phase():
    """`module.to(dtype)` drops imaginary parts of complex buffers; ours are stored as pairs."""
    x = draw(1, 1, 9, 7)
    for operator in (MotionBlur((1, 9, 7), 4.0, 30.0), KernelBlur((1, 9, 7), draw(4, 2)), BlurDecimate((1, 9, 6), 3, draw(4, 2))):
        probe = x[..., : operator.in_shape[2]]
        wanted = operator(probe)
        moved = operator.to(torch.float32)
        assert (moved(probe) - wanted).abs().max() <= 1e-5 * wanted.abs().max()


def test_gradient_through_the_operator_in_float32():
    """The converted buffers are made once; a first use under inference mode must not spoil a later gradient."""
    operator = GaussianBlur((1, 8, 8))
    x = draw(1, 1, 8, 8, dtype=torch.float32)
    with torch.inference_mode():
        operator(x)
    x.requires_grad_()
    operator(x).square().sum().backward()
    assert x.grad is not None
    assert (x.grad - 2 * operator.adjoint(operator(x))).abs().max() <= 1e-5


def test_from_plain_values():
    """As a suite file or the command line would give them."""
    build = registry().build
    k = [[0.0, 0.25, 0.0], [0.25, 0.0, 0.25], [0.0, 0.25, 0.0]]
    assert build("operator", "kernel-blur", in_shape=[1, 8, 8], kernel=k).output_range == (0.0, 1.0)
    assert build("operator", "blur-decimate", in_shape=[1, 8, 8], factor=2, kernel=k).out_shape == (1, 4, 4)
    assert build("operator", "separable-blur", in_shape=[1, 8, 8], vertical=[0.5, 0.5]).out_shape == (1, 8, 8)
    assert build("operator", "grey", in_shape=[3, 8, 8], weights=[0.3, 0.6, 0.1]).out_shape == (1, 8, 8)
    assert build("operator", "mask", in_shape=[1, 2, 2], mask=[[1, 0], [0, 1]]).mask.tolist() == [[[1, 0], [0, 1]]]
    with pytest.raises(ArgumentError, match="sigma"):
        build("operator", "gaussian-blur", in_shape=[1, 8, 8], sgima=1.0)


def test_operators_keep_copies_of_what_they_are_given():
    """Writing into the array afterwards changes nothing, nor does load_state_dict write into the array."""
    kernel, mask, weights = torch.rand(3, 3).double(), torch.ones(1, 6, 6), torch.ones(2, dtype=torch.float64)
    made = [
        (KernelBlur((2, 6, 6), kernel), kernel),
        (BlurDecimate((2, 6, 6), 2, kernel), kernel),
        (Mask((2, 6, 6), mask=mask), mask),
        (Grey((2, 6, 6), weights), weights),
        (SeparableBlur((2, 6, 6), weights), weights),
    ]
    for operator, source in made:
        memory = source.untyped_storage().data_ptr()
        assert all(buffer.untyped_storage().data_ptr() != memory for buffer in operator.buffers())


REFUSED = {
    "factor does not divide": (lambda: BlockMean((1, 45, 61), 4), "crop to 44 x 60"),
    "factor is not an int": (lambda: Bicubic((1, 8, 8), 1.5), "positive int"),
    "factor zero": (lambda: BlurDecimate((1, 8, 8), 0), "positive int"),
    "two kernels": (lambda: BlurDecimate((1, 8, 8), 2, torch.ones(3, 3), 1.0), "not both"),
    "two masks": (lambda: Mask((1, 8, 8), keep=0.5, mask=torch.ones(8, 8)), "not both"),
    "keep": (lambda: Mask((1, 8, 8), keep=1.5), r"\[0, 1\]"),
    "grey mask": (lambda: Mask((1, 8, 8), mask=torch.full((8, 8), 0.5)), "only 0"),
    "mask shape": (lambda: Mask((3, 8, 8), mask=torch.ones(2, 8, 8)), "given"),
    "box too large": (lambda: BoxMask((1, 8, 8), box=9), "does not lie"),
    "box outside": (lambda: BoxMask((1, 8, 8), box=4, position=(6, 0)), "does not lie"),
    "sigma": (lambda: GaussianBlur((1, 8, 8), 0.0), "sigma > 0"),
    "sigma nan": (lambda: GaussianBlur((1, 8, 8), math.nan), "sigma"),
    "sigma shape": (lambda: GaussianBlur((1, 8, 8), torch.ones(2, 2)), "number or"),
    "length": (lambda: MotionBlur((1, 8, 8), -1.0), "length > 0"),
    "kernel rank": (lambda: KernelBlur((1, 8, 8), torch.ones(3)), "kh, kw"),
    "kernel nan": (lambda: KernelBlur((1, 8, 8), torch.full((3, 3), math.nan)), "finite"),
    "kernel complex": (lambda: KernelBlur((1, 8, 8), torch.ones(3, 3, dtype=torch.complex64)), "real"),
    "vector": (lambda: SeparableBlur((1, 8, 8), torch.ones(2, 2, 2)), "vector"),
    "boundary": (lambda: SeparableBlur((1, 8, 8), [1.0], boundary="relfect"), "did you mean reflect"),
    "weights": (lambda: Grey((3, 8, 8), [1.0, 1.0]), "3 finite numbers"),
    "zero weights": (lambda: Grey((2, 8, 8), [0.0, 0.0]), "not all 0"),
    "in_shape": (lambda: Identity((8, 8)), "channels, height, width"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    make, words = REFUSED[case]
    with pytest.raises(InputError, match=words):
        make()


@pytest.mark.parametrize("name", ["mask", "gaussian-blur", "block-mean", "bicubic", "blur-decimate", "grey", "identity"])
def test_wrong_channel_count_is_refused_not_broadcast(name):
    operator = registry().load("operator", name).examples()[0]
    with pytest.raises(InputError, match="takes x of shape"):
        operator(torch.zeros(2, 1, *operator.in_shape[1:]))


def test_large_images_need_no_dense_matrix():
    """256 x 256 colour: an n x n matrix would take 300 GB; memory here is a few arrays of the image's size."""
    for operator in (GaussianBlur((3, 256, 256), 3.0), BlurDecimate((3, 256, 256), 4), BlockMean((3, 256, 256)), Bicubic((3, 256, 256))):
        numbers = sum(buffer.numel() for buffer in operator.buffers())
        assert numbers <= 12 * 256 * 256
        x = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
        assert operator.prox(x, operator(x), 1.0).shape == x.shape


def test_a_negative_step_and_a_misplaced_mask_are_refused():
    x = torch.rand(1, 3, 8, 8)
    with pytest.raises(InputError, match="tau must not be negative"):
        Mask((3, 8, 8), keep=0.5).prox(x, x, -1.0)
    with pytest.raises(InputError, match="an array goes to mask="):
        Mask((3, 8, 8), torch.ones(8, 8))
