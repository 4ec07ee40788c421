"""How good an answer is, per image: never pooled over a batch.

    PSNR = -10 log10(mean |x_hat - x|^2)  (data range 1, infinite for equal images)
    residual = |W (H x_hat - y)| / (sigma sqrt(m)),  about 1 for the truth; W drops what a mask does not measure, m counts the rest

Image metrics are taken after clipping x_hat to [0, 1], the residual before.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.noise import GaussianNoise
from invsolve.operator import Operator
from invsolve.operator.measurement import flat, minus
from invsolve.problem import Problem


class Metric(ABC):
    """Compares images per item; higher is better unless `higher` is False.

    Attributes:
        label: heading of its column.
        unit: e.g. "dB".
        digits: decimals shown.
        settings: what it was computed with, for every table and report.
    """

    label: ClassVar[str]
    unit: ClassVar[str] = ""
    digits: ClassVar[int] = 3
    higher: ClassVar[bool] = True
    settings: ClassVar[str] = ""

    def __call__(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """(B, C, H, W) twice -> (B,) in float64; x_hat is clipped to [0, 1].

        Raises:
            InputError: shapes that differ.
        """
        if x_hat.shape != x.shape or x.ndim != 4:
            raise InputError(f"{self.label} compares two (B, C, H, W) batches; given {tuple(x_hat.shape)} and {tuple(x.shape)}")
        return self.compute(x_hat.detach().clamp(0, 1), x.detach()).double()

    @abstractmethod
    def compute(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """(B,), for x_hat in [0, 1]."""


class PSNR(Metric):
    """Peak signal-to-noise ratio in dB, data range 1; infinite for equal images."""

    label, unit, digits = "PSNR", "dB", 2
    settings = "data range 1, all channels together, float64, per image"

    def compute(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """-10 log10 of the mean squared error."""
        return -10 * (x_hat.double() - x.double()).square().flatten(1).mean(1).log10()


class SSIM(Metric):
    """Structural similarity (torchmetrics through deepinv): Wang's constants and window."""

    label = "SSIM"
    settings = "torchmetrics: Gaussian window, sigma 1.5 (11x11), k1 0.01, k2 0.03, data range 1, mean over channels"
    options: ClassVar[dict[str, object]] = {"gaussian_kernel": True, "sigma": 1.5, "kernel_size": 11, "k1": 0.01, "k2": 0.03}

    def compute(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """Per image, in float64: a window's variance is a small difference of large numbers."""
        from deepinv.loss.metric import SSIM as Inner  # noqa: N811

        inner = Inner(max_pixel=1.0, min_pixel=0.0, torchmetric_kwargs=dict(self.options))
        return torch.cat([inner(a[None], b[None]).reshape(1) for a, b in zip(x_hat.double(), x.double(), strict=True)])


class HaarPSI(Metric):
    """Haar wavelet perceptual similarity index in [0, 1]; weight-free, 1 or 3 channels."""

    label = "HaarPSI"
    settings = "deepinv: C 30, alpha 4.2 (natural images), with subsampling; perceptual, without network weights"

    def compute(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """Per image, in float32, which is what deepinv's function takes."""
        from deepinv.loss.metric import HaarPSI as Inner

        if x.shape[1] not in (1, 3):
            raise InputError(f"HaarPSI takes 1 or 3 channels; given {x.shape[1]}")
        inner = Inner(C=30.0, alpha=4.2)
        return torch.cat([inner(a[None], b[None]).reshape(1) for a, b in zip(x_hat.float(), x.float(), strict=True)])


def residual(problem: Problem, x: Tensor) -> Tensor | None:
    """|W (Hx - y)| / (sigma sqrt(m)) per item, (B,); None where the noise is not Gaussian with sigma > 0."""
    if not isinstance(problem.noise, GaussianNoise) or not bool((problem.sigma > 0).all()):
        return None
    with torch.no_grad():
        rows = flat(minus(problem.operator(x), problem.y))
    kept = measured(problem.operator, len(rows)).to(rows.device)
    norm = (rows.abs().double() * kept).square().sum(1).sqrt()
    return norm / (problem.sigma.double() * kept.expand_as(rows).sum(1).sqrt())


def measured(operator: Operator, batch: int) -> Tensor:
    """1 for each entry of y that is a measurement, 0 where a mask holds nothing; (B, m), float64."""
    rows = []
    for shape, support in zip(operator.out_shapes, operator.supports, strict=True):
        whole = torch.ones(shape, dtype=torch.float64) if support is None else support.double().cpu()
        rows.append(whole.expand(batch, *shape).flatten(1))
    return torch.cat(rows, dim=1)
