"""Damage without a network: pixels that stand out from the median of their neighbourhood."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def outliers(photo: Tensor, side: int = 5) -> Tensor:
    """How far each pixel is from the median around it, in robust standard deviations of its picture, (B, H, W).

        r = max over channels of |x - median_{side x side}(x)|,   score = r / (1.4826 median(r) + 1/255)

    Args:
        photo: (B, C, H, W) in [0, 1].
        side: of the neighbourhood, odd.
    """
    margin = side // 2
    mode = "reflect" if min(photo.shape[-2:]) > margin else "replicate"
    padded = functional.pad(photo, [margin] * 4, mode=mode)
    around = padded.unfold(2, side, 1).unfold(3, side, 1).flatten(-2)
    return standardised((photo - around.median(-1).values).abs().amax(1))


def standardised(residual: Tensor) -> Tensor:
    """Residuals (B, H, W), not negative, over the robust standard deviation of each picture's; one grey level keeps it above 0."""
    spread = 1.4826 * residual.flatten(1).median(1).values + 1 / 255
    return residual / spread[:, None, None]


def unlikely(photo: Tensor, estimate: Tensor) -> Tensor:
    """The same of a denoiser's estimate in place of the median, (B, H, W)."""
    return standardised((photo - estimate).abs().amax(1))


def blurred(score: Tensor, width: float) -> Tensor:
    """(B, H, W) under a Gaussian window of `width` pixels; itself at 0."""
    if width <= 0:
        return score
    reach = max(1, round(3 * width))
    places = torch.arange(-reach, reach + 1, dtype=score.dtype, device=score.device)
    window = torch.exp(-0.5 * (places / width) ** 2)
    window = window / window.sum()
    out = functional.pad(score[:, None], [reach] * 4, mode="replicate")
    return functional.conv2d(functional.conv2d(out, window[None, None, :, None]), window[None, None, None, :])[:, 0]
