"""First-party operators against their definitions, written out with loops or dense matrices."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import interpolate

from invsolve import InputError, Problem, registry
from invsolve.errors import ArgumentError
from invsolve.linalg import matrix
from invsolve.noise import GaussianNoise
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
from invsolve_operators.kernels import gaussian_1d, motion

# Float64 sums of at most a few hundred terms of order one: n eps is 1e-13.
TOL = 1e-12
few = settings(max_examples=25, deadline=None, derandomize=True)


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def convolved(x, k):
    """y[i, j] = sum_ab k[a, b] x[i - (a - kh // 2), j - (b - kw // 2)], indices modulo the image."""
    out = torch.zeros_like(x)
    for a in range(k.shape[0]):
        for b in range(k.shape[1]):
            out += k[a, b] * x.roll((a - k.shape[0] // 2, b - k.shape[1] // 2), (-2, -1))
    return out


sides = st.integers(1, 9)


@few
@given(height=sides, width=sides, rows=st.integers(1, 11), columns=st.integers(1, 11), seed=st.integers(0, 99))
def test_kernel_blur_is_circular_convolution(height, width, rows, columns, seed):
    """Odd and even kernels, larger than the image too."""
    k, x = draw(rows, columns, seed=seed), draw(2, 2, height, width, seed=seed + 1)
    found = KernelBlur((2, height, width), k)(x)
    assert (found - convolved(x, k)).abs().max() <= TOL * max(1, rows * columns)


@few
@given(height=st.integers(1, 4), width=st.integers(1, 4), r=st.integers(1, 4), rows=st.integers(1, 9), seed=st.integers(0, 99))
def test_blur_decimate_keeps_the_upper_left_pixel(height, width, r, rows, seed):
    k, x = draw(rows, rows + 1, seed=seed), draw(2, 2, height * r, width * r, seed=seed + 1)
    found = BlurDecimate((2, height * r, width * r), r, kernel=k)(x)
    assert (found - convolved(x, k)[..., ::r, ::r]).abs().max() <= TOL * max(1, rows * (rows + 1))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_kernel_centre_is_half_its_size(size):
    """A one at index k // 2 is the identity; a one further down moves the image down: convolution, not correlation."""
    k = torch.zeros(size, size)
    k[size // 2, size // 2] = 1
    x = draw(1, 1, 7, 6)
    assert (KernelBlur((1, 7, 6), k)(x) - x).abs().max() <= TOL
    below = torch.zeros(3, 3)
    below[2, 1] = 1
    assert (KernelBlur((1, 7, 6), below)(x) - x.roll(1, -2)).abs().max() <= TOL
    assert torch.equal(SeparableBlur((1, 7, 6), [0.0, 0.0, 1.0], [1.0], "circular")(x), x.roll(1, -2))


@pytest.mark.parametrize(("boundary", "mode"), [("zero", "constant"), ("reflect", "reflect"), ("symmetric", "symmetric"), ("circular", "wrap")])
@pytest.mark.parametrize("taps", [1, 3, 4, 9])
def test_separable_boundaries_are_numpy_pads(boundary, mode, taps):
    """A kernel longer than the image (6 rows) reflects more than once."""
    kv, kh = draw(taps, seed=1), draw(3, seed=2)
    x = draw(1, 1, 6, 7)
    width = taps
    padded = torch.from_numpy(np.pad(x[0, 0].numpy(), width, mode=mode))
    full = convolved(padded, kv[:, None] * kh)
    found = SeparableBlur((1, 6, 7), kv, kh, boundary)(x)[0, 0]
    assert (found - full[width:-width, width:-width]).abs().max() <= TOL


@few
@given(height=sides, width=sides, sigma=st.floats(0.3, 3))
def test_circular_separable_equals_fft_blur(height, width, sigma):
    x = draw(1, 2, height, width)
    one, other = GaussianBlur((2, height, width), sigma), SeparableGaussianBlur((2, height, width), sigma, "circular")
    assert (one(x) - other(x)).abs().max() <= TOL


def test_gaussian_kernel():
    kernel = gaussian_1d(1.5)
    assert len(kernel) == 2 * 6 + 1  # floor(4 * 1.5 + 1/2) = 6 pixels each way
    assert float(kernel.sum()) == pytest.approx(1, abs=1e-15)
    assert float(kernel[7] / kernel[6]) == pytest.approx(math.exp(-1 / (2 * 1.5**2)), rel=1e-14)
    assert len(gaussian_1d(1.5, truncate=2)) == 7


def test_motion_kernel():
    """Mass 1, centre of mass in the middle, a quarter turn is a transpose, a point along a line at constant speed."""
    for arguments in ((5.0, 0.0, 0.0, 0), (7.3, 33.0, 0.0, 0), (9.0, 20.0, 1.0, 4)):
        kernel = motion(*arguments)
        index = torch.arange(len(kernel), dtype=torch.float64) - len(kernel) // 2
        assert bool((kernel >= 0).all())
        assert float(kernel.sum()) == pytest.approx(1, abs=1e-12)
        assert abs(float((kernel.sum(0) * index).sum())) < 1e-12
        assert abs(float((kernel.sum(1) * index).sum())) < 1e-12
    line = motion(5.0, 0.0, 0.0, 0)
    # The path covers [-2.5, 2.5]; pixel k gets the hat's integral over it: 1 inside, 7/8 at 2, 1/8 at 3, out of 5.
    wanted = torch.tensor([0.125, 0.875, 1, 1, 1, 0.875, 0.125], dtype=torch.float64) / 5
    assert (line[3] - wanted).abs().max() < 1e-3  # the midpoint rule with 32 samples per pixel: h^2 / 24 at the hat's kinks
    assert float(line.sum() - line[3].sum()) == pytest.approx(0, abs=1e-12)
    assert (motion(5.0, 90.0, 0.0, 0) - line.T).abs().max() < 1e-12
    # Counter-clockwise from the horizontal: at 45 degrees the path goes to the upper right, i.e. up the anti-diagonal.
    diagonal = motion(6.0, 45.0, 0.0, 0)
    assert float(diagonal.fliplr().diagonal().sum()) > 2 * float(diagonal.diagonal().sum())
    assert torch.equal(motion(9.0, 0.0, 1.0, 3), motion(9.0, 0.0, 1.0, 3))
    assert motion(9.0, 0.0, 1.0, 3).shape != motion(9.0, 0.0, 1.0, 4).shape or not torch.equal(
        motion(9.0, 0.0, 1.0, 3), motion(9.0, 0.0, 1.0, 4)
    )


def test_block_mean_values():
    x = torch.arange(16, dtype=torch.float64).reshape(1, 1, 4, 4)
    assert BlockMean((1, 4, 4), 2)(x).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert BlockMean((1, 4, 4), 2).pinv(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]))[0, 0, 0].tolist() == [1, 1, 2, 2]


def test_block_mean_is_box_blur_and_decimation():
    """The box kernel (r, r) centred at r // 2 covers the block whose upper-left pixel is kept after a shift by (r - 1) // 2."""
    x = draw(1, 2, 8, 12)
    kernel = torch.zeros(7, 7, dtype=torch.float64)
    kernel[0:4, 0:4] = 1 / 16  # taps -3..0 about the centre 3: reads x[i], ..., x[i + 3]
    assert (BlurDecimate((2, 8, 12), 4, kernel=kernel)(x) - BlockMean((2, 8, 12), 4)(x)).abs().max() <= TOL


def test_bicubic_weights():
    """Factor 2: Keys's cubic at t / 2 for t = .5, 1.5, 2.5, 3.5, halved."""
    dense = Bicubic((1, 16, 2), 2).vertical
    half = [0.43359375, 0.11328125, -0.03515625, -0.01171875]
    wanted = torch.tensor(half[::-1] + half, dtype=torch.float64)
    assert (dense[3, 3:11] - wanted).abs().max() <= 1e-15
    assert (dense.sum(1) - 1).abs().max() <= 1e-15


@pytest.mark.parametrize("boundary", ["symmetric", "reflect", "circular"])
def test_bicubic_rows_sum_to_one(boundary):
    for factor, rows in ((2, 6), (3, 9), (4, 4), (5, 25)):
        operator = Bicubic((1, rows, 2 * rows), factor, boundary)
        assert (operator(torch.full((1, 1, rows, 2 * rows), 0.7, dtype=torch.float64)) - 0.7).abs().max() <= TOL


def test_bicubic_agrees_with_torch_inside():
    """Away from the border torch's antialiased bicubic (a = -1/2) is the same filter."""
    x = draw(1, 2, 48, 64)
    wanted = interpolate(x, scale_factor=0.25, mode="bicubic", antialias=True, align_corners=False)
    found = Bicubic((2, 48, 64), 4)(x)
    # torch evaluates the weights in float64 for float64 images: agreement to a few eps times 16 taps
    assert (found - wanted)[..., 2:-2, 2:-2].abs().max() <= TOL


def test_bicubic_symmetric_border():
    """numpy's symmetric pad, then the inner filter."""
    x = draw(1, 1, 12, 12)
    padded = torch.from_numpy(np.pad(x[0, 0].numpy(), 8, mode="symmetric"))[None, None]
    inner = interpolate(padded, scale_factor=0.25, mode="bicubic", antialias=True, align_corners=False)[..., 2:-2, 2:-2]
    assert (Bicubic((1, 12, 12), 4)(x) - inner).abs().max() <= TOL


def test_bicubic_output_range_is_attained():
    """The interval is the least one: the image that is 1 where the weight is positive reaches its end."""
    operator = Bicubic((1, 16, 16), 4)
    dense = matrix(operator)
    low, high = operator.output_range
    assert float(dense.clamp_min(0).sum(1).max()) == pytest.approx(high, rel=1e-12)
    assert float(dense.clamp_max(0).sum(1).min()) == pytest.approx(low, rel=1e-12)


def test_grey():
    x = draw(2, 3, 4, 5)
    assert (Grey((3, 4, 5))(x) - x.mean(1, keepdim=True)).abs().max() <= TOL
    luma = Grey((3, 4, 5), [0.299, 0.587, 0.114])
    assert (luma(x)[:, 0] - (0.299 * x[:, 0] + 0.587 * x[:, 1] + 0.114 * x[:, 2])).abs().max() <= TOL
    assert luma.output_range == (0.0, 1.0)
    assert Grey((2, 4, 4), [1.0, -1.0]).output_range is None
    assert float(Grey((3, 4, 4)).svd().s.max()) == pytest.approx(1 / math.sqrt(3), rel=1e-15)


def test_random_mask_keeps_the_exact_number():
    for keep in (0.0, 0.25, 0.5, 1.0):
        assert int(Mask((3, 10, 7), keep=keep).mask.sum()) == round(keep * 70)
    assert torch.equal(Mask((1, 10, 7), keep=0.5, seed=3).mask, Mask((3, 10, 7), keep=0.5, seed=3).mask)
    assert not torch.equal(Mask((1, 10, 7), keep=0.5, seed=3).mask, Mask((1, 10, 7), keep=0.5, seed=4).mask)
    assert torch.equal(Mask((1, 10, 7)).mask, Mask((1, 10, 7), keep=0.5).mask)


def test_box_mask_place():
    mask = BoxMask((1, 6, 8), box=(2, 3), position=(1, 4)).mask[0]
    wanted = torch.ones(6, 8)
    wanted[1:3, 4:7] = 0
    assert torch.equal(mask, wanted)
    centred = BoxMask((3, 8, 8), box=4).mask[0]
    assert int((centred == 0).sum()) == 16
    assert bool((centred[2:6, 2:6] == 0).all())


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
        if operator.batch is not None:
            continue
        dense = matrix(operator)
        z, y = draw(2, *operator.in_shape, seed=1), draw(2, *operator.out_shape, seed=2)
        system = dense.T @ dense + torch.eye(dense.shape[1], dtype=torch.float64) / tau
        wanted = torch.linalg.solve(system, (y.flatten(1) @ dense + z.flatten(1) / tau).T).T
        # Both solve a system of condition 1 + tau |H|^2, |H| <= 1.2 here.
        assert (operator.prox(z, y, tau).flatten(1) - wanted).abs().max() <= 10 * TOL * (1 + tau) * wanted.abs().max()


def test_prox_at_the_ends_of_tau():
    for operator in (GaussianBlur((1, 8, 8)), BlurDecimate((1, 8, 8), 2), Mask((1, 8, 8)), BlockMean((1, 8, 8), 2), Grey((3, 8, 8)), Identity((1, 8, 8))):
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
    "vector": (lambda: SeparableBlur((1, 8, 8), torch.ones(2, 2)), "vector"),
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
