"""Two more metrics of structure without network weights: SSIM over several scales, and the deviation of gradient similarity."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as functional
from torch import Tensor

from invsolve.bench.metrics import Metric
from invsolve.errors import InputError

# ITU-R BT.601 luma of R, G, B without offset: what Matlab's rgb2gray takes.
GREY = (0.299, 0.587, 0.114)


class MSSSIM(Metric):
    """Multi-scale structural similarity: contrast and structure at each of several halvings, luminance at the last, with Wang's exponents.

        prod_s cs_s^w_s  l_S^w_S,   w = (.0448, .2856, .3001, .2363, .1333)

    Windows lie inside the image (11 pixels, sigma 1.5, k1 .01, k2 .03), a halving is a mean over 2 x 2; a mean of channels.
    Five scales need 176 pixels a side. Fewer scales divide the first exponents by their sum: another number, which the settings name.

    Args:
        scales: 1 to 5.

    Raises:
        InputError: another number of scales; when measured: images too small for them.

    References:
        Wang, Simoncelli, Bovik, Multiscale structural similarity for image quality assessment, Asilomar 2003.
    """

    label = "MS-SSIM"
    image_shape = (3, 176, 176)
    EXPONENTS: ClassVar[tuple[float, ...]] = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)

    def __init__(self, scales: int = 5) -> None:
        if isinstance(scales, bool) or not isinstance(scales, int) or not 1 <= scales <= len(self.EXPONENTS):
            raise InputError(f"scales must be 1 to {len(self.EXPONENTS)}; given {scales!r:.80}")
        self.scales = scales
        self.weights = tuple(one / sum(self.EXPONENTS[:scales]) for one in self.EXPONENTS[:scales])
        window = "Gaussian window inside the image, sigma 1.5 (11x11), k1 0.01, k2 0.03, data range 1"
        self.settings = f"{scales} scales, {window}, negative means are 0, mean over channels"

    def compute(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """Per image, in float64."""
        least = 11 * 2 ** (self.scales - 1)
        if min(x.shape[-2:]) < least:
            raise InputError(f"MS-SSIM with scales={self.scales} needs {least} pixels a side; given {x.shape[-2]} x {x.shape[-1]}")
        a, b = x_hat.double(), x.double()
        whole = torch.ones(x.shape[:2], dtype=torch.float64, device=x.device)
        for scale, weight in enumerate(self.weights, 1):
            structure, luminance = parts(a, b)
            last = scale == self.scales
            whole = whole * (structure * luminance if last else structure).mean((-2, -1)).clamp_min(0) ** weight
            a, b = (a, b) if last else (functional.avg_pool2d(a, 2), functional.avg_pool2d(b, 2))
        return whole.mean(1)


def parts(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Contrast with structure, and luminance, at every place whose window lies inside; (B, C, h, w) each."""
    mean_a, mean_b = smooth(a), smooth(b)
    var_a, var_b, both = smooth(a * a) - mean_a**2, smooth(b * b) - mean_b**2, smooth(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    return (2 * both + c2) / (var_a + var_b + c2), (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)


def smooth(x: Tensor) -> Tensor:
    """Weighted means over Wang's window, (B, C, h - 10, w - 10)."""
    window = torch.exp(-0.5 * (torch.arange(-5, 6, dtype=x.dtype, device=x.device) / 1.5) ** 2)
    window = window / window.sum()
    flat = functional.conv2d(x.flatten(0, 1)[:, None], window[None, None, None])
    return functional.conv2d(flat, window[None, None, :, None]).view(*x.shape[:2], x.shape[-2] - 10, x.shape[-1] - 10)


class GMSD(Metric):
    """Gradient magnitude similarity deviation, 0 for equal images: the standard deviation over places of how alike the gradients are.

        s = (2 a b + c) / (a^2 + b^2 + c),   a, b = |Prewitt gradient| / 3 of both after a mean over 2 x 2 and every second pixel

    c = 170 / 255^2, of luma (BT.601) where there are three channels. At the border the image is continued by 0, as the authors' conv2 does.

    Raises:
        InputError: neither 1 nor 3 channels, or under 4 pixels a side.

    References:
        Xue, Zhang, Mou, Bovik, Gradient magnitude similarity deviation, IEEE TIP 23 (2014), arXiv:1308.3052. Deviation: values are not
        rounded to 8 bits.
    """

    label, digits, higher = "GMSD", 4, False
    settings = "Prewitt gradients of luma at half size, c = 170 / 255^2, standard deviation over all places"
    C: ClassVar[float] = 170 / 255**2

    def compute(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """Per image, in float64."""
        if x.shape[1] not in (1, 3) or min(x.shape[-2:]) < 4:
            raise InputError(f"GMSD takes 1 or 3 channels and at least 4 pixels a side; given {tuple(x.shape[1:])}")
        a, b = (self.gradient(one.double()) for one in (x_hat, x))
        alike = (2 * a * b + self.C) / (a.square() + b.square() + self.C)
        return alike.flatten(1).std(1, correction=0)

    @staticmethod
    def gradient(x: Tensor) -> Tensor:
        """Its magnitude, (B, 1, h, w)."""
        grey = x if x.shape[1] == 1 else (x * x.new_tensor(GREY)[:, None, None]).sum(1, keepdim=True)
        # The authors' mean lies over a pixel and its neighbours to the right and below, with 0 beyond the border.
        small = functional.avg_pool2d(functional.pad(grey, (0, 1, 0, 1)), 2, stride=1)[..., ::2, ::2]
        step = x.new_tensor([[1.0, 0.0, -1.0]]).expand(3, 3) / 3
        return functional.conv2d(small, torch.stack([step, step.T])[:, None], padding=1).square().sum(1, keepdim=True).sqrt()
