"""MS-SSIM, GMSD, CRPS, diversity and the share of the null space, against closed forms and other code."""

import math

import numpy as np
import pytest
import torch
from invsolve_operators import BlockMean, Mask
from scipy.ndimage import gaussian_filter
from scipy.signal import convolve2d

from invsolve import GaussianNoise, InputError, Problem, Rng
from invsolve.bench.case_metrics import NullSpaceError
from invsolve.bench.metrics import SSIM, Case
from invsolve.bench.sample_metrics import CRPS, Diversity, IntervalWidth, NullSpaceShare
from invsolve.bench.structure_metrics import GMSD, MSSSIM
from invsolve.solution import Solution, Status

LIKE = torch.zeros(1, dtype=torch.float64)


def uniform(*shape, seed=0):
    return Rng(seed, [0], purpose="test").uniform(shape, LIKE)[0]


def case(x, truth, operator=None):
    operator = Mask(tuple(truth.shape[1:]), keep=0.5) if operator is None else operator
    problem = Problem.simulate(operator, truth, GaussianNoise(0.1), generator=0)
    numbers = {"nfe": 0, "backward": 0, "steps": 1, "seconds": 0.0, "network_seconds": 0.0, "samples": None if x.ndim == 4 else len(x)}
    return Case(problem, truth, Solution(x=x, status=Status.FINISHED, seed=0, solver=None, **numbers))


def test_crps_of_two_samples_by_hand_and_of_many_by_the_closed_form():
    # samples 0 and 1, truth .25: (.25 + .75) / 2 - 1 / 2 = 0
    two = torch.stack([torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)]).double()
    assert CRPS().measure(case(two, torch.full((1, 1, 2, 2), 0.25).double())).item() == pytest.approx(0.0)
    # N(m, s^2) at x: s (z (2 Phi(z) - 1) + 2 phi(z) - 1 / sqrt(pi)); 4 standard errors of 200 x 400 draws, each below s in deviation
    z = 0.7
    wanted = z * math.erf(z / math.sqrt(2)) + 2 * math.exp(-z * z / 2) / math.sqrt(2 * math.pi) - 1 / math.sqrt(math.pi)
    drawn = Rng(0, [0], purpose="test").normal((200, 1, 20, 20), LIKE)[0][:, None]
    assert CRPS().measure(case(drawn, torch.full((1, 1, 20, 20), z).double())).item() == pytest.approx(wanted, abs=4 / math.sqrt(200 * 400))


def test_crps_by_all_pairs_and_diversity_by_numpy():
    drawn, truth = uniform(5, 2, 3, 4, 4), uniform(2, 3, 4, 4, seed=1)
    a = drawn.numpy()
    pairs = sum(np.abs(a[i] - a[j]) for i in range(5) for j in range(5)) / (5 * 4)
    wanted = (np.abs(a - truth.numpy()).mean(0) - pairs / 2).reshape(2, -1).mean(1)
    assert CRPS().measure(case(drawn, truth)).numpy() == pytest.approx(wanted, rel=1e-12)
    assert Diversity().measure(case(drawn, truth)).numpy() == pytest.approx(np.sqrt(a.var(0, ddof=1).reshape(2, -1).mean(1)), rel=1e-12)
    equal = drawn[:1].expand(3, -1, -1, -1, -1)
    assert CRPS().measure(case(equal, truth)).numpy() == pytest.approx((drawn[0] - truth).abs().flatten(1).mean(1).numpy(), rel=1e-12)
    for metric in (CRPS(), Diversity()):
        assert metric.measure(case(drawn[0], truth)).isnan().all()


def test_the_share_of_the_null_space_by_hand():
    # Means over 2 x 2: an error of (1, 1, 1, -1) .1 in a block has mean .05, so 1 - 4 (.05)^2 / (4 (.1)^2) = 3/4 is unseen.
    truth = torch.full((1, 1, 2, 2), 0.5).double()
    x = truth + 0.1 * torch.tensor([[[[1.0, 1.0], [1.0, -1.0]]]]).double()
    found = case(x, truth, BlockMean((1, 2, 2), factor=2))
    assert NullSpaceShare().measure(found).item() == pytest.approx(0.75)
    assert NullSpaceError().measure(found).item() == pytest.approx(0.1 * math.sqrt(0.75))
    assert NullSpaceShare().measure(case(truth, truth, BlockMean((1, 2, 2), factor=2))).isnan().all()


def gmsd(x, y):
    """As the paper's text has it, by scipy."""
    step = np.array([[1, 0, -1]] * 3) / 3
    found = []
    for one in (x, y):
        # a mean over a pixel and those to the right and below
        small = convolve2d(np.pad(one, ((0, 1), (0, 1))), np.full((2, 2), 0.25), mode="valid")[::2, ::2]
        found.append(np.hypot(convolve2d(small, step, mode="same"), convolve2d(small, step.T, mode="same")))
    a, b = found
    c = 170 / 255**2
    return ((2 * a * b + c) / (a * a + b * b + c)).std()


def test_gmsd_by_scipy():
    x, y = uniform(1, 1, 12, 14), uniform(1, 1, 12, 14, seed=1)
    assert GMSD()(x, y).item() == pytest.approx(gmsd(x[0, 0].numpy(), y[0, 0].numpy()), rel=1e-9)
    assert GMSD()(x, x).item() == 0
    assert GMSD()(x, y).item() == pytest.approx(GMSD()(y, x).item())
    colour = uniform(1, 3, 8, 8)
    grey = (colour * torch.tensor([0.299, 0.587, 0.114]).double()[:, None, None]).sum(1, keepdim=True)
    assert GMSD()(colour, colour.flip(-1)).item() == pytest.approx(GMSD()(grey, grey.flip(-1)).item())
    with pytest.raises(InputError, match="1 or 3 channels"):
        GMSD()(torch.zeros(1, 2, 8, 8), torch.zeros(1, 2, 8, 8))


def test_one_scale_of_ms_ssim_is_ssim_where_windows_lie_inside():
    x = uniform(2, 3, 24, 24)
    y = (x + 0.1 * uniform(2, 3, 24, 24, seed=1)).clamp(0, 1)
    assert MSSSIM(1)(y, x).numpy() == pytest.approx(SSIM(crop=5)(y, x).numpy(), rel=1e-9)


def test_more_scales_by_their_parts():
    # contrast and structure of the full size by scipy, SSIM of the halved one, with exponents .0448 and .2856 over their sum
    x = uniform(1, 1, 40, 40)
    y = (x + 0.2 * uniform(1, 1, 40, 40, seed=1)).clamp(0, 1)
    a, b = x[0, 0].numpy(), y[0, 0].numpy()

    def mean(image):
        return gaussian_filter(image, 1.5, truncate=3.4)[5:-5, 5:-5]  # 3.4 x 1.5 = 5 pixels on each side

    first = (2 * (mean(a * b) - mean(a) * mean(b)) + 9e-4) / (mean(a * a) - mean(a) ** 2 + mean(b * b) - mean(b) ** 2 + 9e-4)
    halves = [torch.nn.functional.avg_pool2d(one, 2) for one in (y, x)]
    wanted = first.mean() ** (0.0448 / 0.3304) * SSIM(crop=5)(*halves).item() ** (0.2856 / 0.3304)
    assert MSSSIM(2)(y, x).item() == pytest.approx(wanted, rel=1e-9)
    assert MSSSIM()(torch.full((1, 1, 176, 176), 0.5), torch.full((1, 1, 176, 176), 0.5)).item() == pytest.approx(1.0)


def test_what_is_too_small_is_refused():
    with pytest.raises(InputError, match="176 pixels a side; given 128 x 128"):
        MSSSIM()(torch.zeros(1, 1, 128, 128), torch.zeros(1, 1, 128, 128))
    with pytest.raises(InputError, match="scales must be 1 to 5; given 0"):
        MSSSIM(0)


def test_interval_width_is_that_of_the_order_statistics():
    """Of n uniform samples the k-th smallest and largest lie (n + 1 - 2k) / (n + 1) apart on average."""
    drawn = torch.rand(19, 1, 1, 60, 60, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    truth = torch.zeros(1, 1, 60, 60, dtype=torch.float64)
    # k = 1 at 90 %; the range of 19 uniform numbers has the standard deviation sqrt(2 * 18 / 21) / 20 = .065, over 3600 pixels
    assert IntervalWidth(0.9).measure(case(drawn, truth)).item() == pytest.approx(18 / 20, abs=5 * 0.066 / 60)
    assert IntervalWidth(0.5).measure(case(drawn, truth)).item() == pytest.approx(10 / 20, abs=5 * 0.12 / 60)
    assert IntervalWidth().measure(case(7 * drawn - 3, truth)).item() == pytest.approx(
        7 * IntervalWidth().measure(case(drawn, truth)).item()
    )
    assert math.isnan(IntervalWidth().measure(case(drawn[:1], truth)).item())
    with pytest.raises(InputError, match="between 0 and 1"):
        IntervalWidth(1.0)
