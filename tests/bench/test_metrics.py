"""Image metrics and the data residual against closed forms and an independent computation."""

# pyright: reportArgumentType=false, reportCallIssue=false, reportOperatorIssue=false, reportOptionalMemberAccess=false, reportOptionalSubscript=false

import math

import numpy as np
import pytest
import torch
from invsolve_operators import BlockMean, BoxMask, GaussianBlur, Mask
from scipy import ndimage

from invsolve import GaussianNoise, NoNoise, PoissonNoise, Problem
from invsolve.bench.metrics import PSNR, SSIM, HaarPSI, residual
from invsolve.errors import InputError


def images(count, shape=(3, 32, 32), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, *shape, generator=generator)


def test_psnr_of_a_constant_error_is_its_closed_form():
    x = torch.full((3, 3, 8, 8), 0.5, dtype=torch.float64)
    errors = torch.tensor([0.1, 0.01, 0.25], dtype=torch.float64)
    found = PSNR()(x + errors[:, None, None, None], x)
    # mean squared error is d^2 up to a few roundings of 0.5 + d: relative 2 eps / d, times 20 / ln 10 dB.
    assert torch.allclose(found, -20 * errors.log10(), rtol=0, atol=1e-12)


def test_psnr_is_per_image_and_infinite_for_equal_images():
    x = images(2)
    x_hat = torch.stack([x[0], (x[1] * 0.9)])
    found = PSNR()(x_hat, x)
    assert found[0] == math.inf
    expected = -10 * math.log10(float(((x_hat[1].double() - x[1].double()) ** 2).mean()))
    assert float(found[1]) == pytest.approx(expected, abs=1e-9)


def test_image_metrics_clip_the_answer_but_never_the_truth():
    x = torch.ones(1, 3, 16, 16)
    for metric in (PSNR(), SSIM(), HaarPSI()):
        assert torch.equal(metric(x + 0.7, x), metric(x, x))


def reference_ssim(a, b):
    """Wang's SSIM with an 11-point Gaussian window of sigma 1.5 by scipy, mirrored at the edges, mean over pixels and channels."""
    taps = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    taps /= taps.sum()

    def mean(z):
        return ndimage.correlate1d(ndimage.correlate1d(z, taps, axis=-1, mode="mirror"), taps, axis=-2, mode="mirror")

    mu_a, mu_b = mean(a), mean(b)
    var_a, var_b, cov = mean(a * a) - mu_a**2, mean(b * b) - mu_b**2, mean(a * b) - mu_a * mu_b
    c1, c2 = 0.01**2, 0.03**2
    return float((((2 * mu_a * mu_b + c1) * (2 * cov + c2)) / ((mu_a**2 + mu_b**2 + c1) * (var_a + var_b + c2))).mean())


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 21, 34)])
def test_ssim_equals_an_independent_computation(shape):
    x = images(3, shape)
    x_hat = (x + 0.2 * images(3, shape, seed=1) - 0.1).clamp(0, 1)
    found = SSIM()(x_hat, x)
    for index in range(3):
        expected = reference_ssim(x_hat[index].double().numpy(), x[index].double().numpy())
        # Both in float64; the window's weights agree to eps, c2 = 9e-4 divides: 1e-16 / 1e-3, with a wide margin.
        assert float(found[index]) == pytest.approx(expected, abs=1e-9)


def test_ssim_of_constant_images_is_the_luminance_term():
    a, b = 0.3, 0.8
    found = SSIM()(torch.full((1, 3, 16, 16), a, dtype=torch.float64), torch.full((1, 3, 16, 16), b, dtype=torch.float64))
    assert float(found) == pytest.approx((2 * a * b + 1e-4) / (a * a + b * b + 1e-4), abs=1e-9)


def test_ssim_of_equal_images_is_one():
    x = images(2)
    assert torch.allclose(SSIM()(x, x), torch.ones(2, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("channels", [1, 3])
def test_haarpsi_is_one_for_equal_images_and_falls_with_noise(channels):
    x = 0.25 + 0.5 * images(2, (channels, 32, 32))
    metric = HaarPSI()
    # The inverse logistic amplifies float32 rounding by 1 / (s (1 - s) alpha) = 16 at s = sigmoid(4.2), squared by the last step:
    # some 33 * 10 * 6e-8 = 2e-5.
    assert torch.allclose(metric(x, x), torch.ones(2, dtype=torch.float64), rtol=0, atol=1e-4)
    noise = images(2, (channels, 32, 32), seed=3) - 0.5
    values = [metric(x + level * noise, x) for level in (0.05, 0.15, 0.5)]
    assert bool((values[0] > values[1]).all())
    assert bool((values[1] > values[2]).all())
    assert all(bool(((value > 0) & (value < 1)).all()) for value in values)


def test_each_image_counts_for_itself():
    x = images(3)
    x_hat = (x + 0.1 * images(3, seed=5)).clamp(0, 1)
    for metric in (PSNR(), SSIM(), HaarPSI()):
        together = metric(x_hat, x)
        alone = torch.cat([metric(x_hat[k : k + 1], x[k : k + 1]) for k in range(3)])
        assert torch.equal(together, alone)


def test_shapes_that_differ_are_refused():
    with pytest.raises(InputError, match="PSNR compares"):
        PSNR()(images(1), images(1, (3, 16, 16)))
    with pytest.raises(InputError, match="1 or 3 channels"):
        HaarPSI()(images(1, (2, 16, 16)), images(1, (2, 16, 16)))


OPERATORS = [GaussianBlur((3, 32, 32), 1.2), BlockMean((3, 32, 32), 2), BoxMask((3, 32, 32), 16), Mask((3, 32, 32), keep=0.3)]


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.label)
def test_residual_of_the_truth_is_that_of_noise(operator):
    x = images(4)
    problem = Problem.simulate(operator, x, GaussianNoise(0.05), generator=7)
    m = int(operator.mask.expand(operator.in_shape).sum()) if isinstance(operator, Mask) else math.prod(operator.out_shape)
    found = residual(problem, x)
    assert found is not None
    # |n| / (sigma sqrt m) = chi_m / sqrt m has mean 1 - 1 / (4 m) and standard deviation 1 / sqrt(2 m): within 4 of them.
    assert bool(((found - 1).abs() < 4 / math.sqrt(2 * m)).all())


def test_residual_counts_only_what_a_mask_measures():
    operator, x = BoxMask((3, 32, 32), 16), images(2)
    problem = Problem.simulate(operator, x, GaussianNoise(0.05), generator=7)
    hole = operator.mask.expand(3, 32, 32) == 0
    assert int(hole.sum()) == 3 * 16 * 16
    filled = Problem(operator, torch.where(hole, problem.y + 0.4, problem.y), problem.noise)
    assert torch.equal(residual(filled, x), residual(problem, x))
    # A shift by 2 sigma everywhere adds 4 to the mean square: sqrt(1 + 4), for the m entries kept, within 4 standard errors of the
    # cross term, whose standard deviation in the mean square is 4 / sqrt(m).
    m = 3 * (32 * 32 - 16 * 16)
    assert residual(problem, x + 0.1).square().sub(5).abs().max() < 4 * math.sqrt(2 + 16) / math.sqrt(m)


def test_residual_takes_one_sigma_per_item():
    operator, x = GaussianBlur((1, 16, 16), 1.0), images(2, (1, 16, 16)).double()
    sigma = torch.tensor([0.02, 0.1])
    problem = Problem.simulate(operator, x, GaussianNoise(sigma), generator=1)
    both = residual(problem, x)
    for index, level in enumerate(sigma):
        alone = residual(Problem(operator, problem.y[index : index + 1], GaussianNoise(level)), x[index : index + 1])
        # A batched FFT may round otherwise than a single one: float64 eps times the norm of x over that of the noise, below 1e-12.
        assert torch.allclose(both[index], alone[0], rtol=1e-12)


@pytest.mark.parametrize("noise", [NoNoise(), PoissonNoise(0.01), GaussianNoise(0.0)], ids=str)
def test_without_a_gaussian_level_there_is_no_residual(noise):
    x = images(1)
    problem = Problem.simulate(GaussianBlur((3, 32, 32), 1.0), x, noise, generator=0)
    assert residual(problem, x) is None
