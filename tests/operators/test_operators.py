"""First-party operators against their definitions, written out with loops or dense matrices."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from invsolve_operators import (
    Bicubic,
    BlockMean,
    BlurDecimate,
    BoxMask,
    GaussianBlur,
    Grey,
    KernelBlur,
    Mask,
    SeparableBlur,
    SeparableGaussianBlur,
)
from invsolve_operators.blurs.kernels import gaussian_1d, motion
from torch.nn.functional import interpolate

from invsolve.operator.iterative import matrix

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


@pytest.mark.parametrize(
    ("boundary", "mode"), [("zero", "constant"), ("reflect", "reflect"), ("symmetric", "symmetric"), ("circular", "wrap")]
)
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


def test_bicubic_singular_values():
    """256 pixels, factor 4: no zeros, the largest product 1/4 for constants (s = 1/2 per axis: rows sum to 1, columns to 1/4)."""
    s = Bicubic((1, 256, 256), 4).svd().s
    s = s[s > 0]
    assert len(s) == 64 * 64
    assert float(s.max()) == pytest.approx(0.25, abs=5e-5)
    assert float(s.min()) == pytest.approx(0.1215, abs=5e-5)


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
