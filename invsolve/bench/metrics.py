"""How good an answer is, per image: never pooled over a batch.

    PSNR = -10 log10(mean |x_hat - x|^2)  (data range 1, infinite for equal images)
    residual = |W (H x_hat - y)| / (sigma sqrt(m)),  about 1 for the truth; W drops what a mask does not measure, m counts the rest

A metric sees the case: problem, truth, solution and samples. Those that compare two images write `compute`, the others (`case_metrics`)
`measure`. Image metrics are taken after clipping x_hat to [0, 1], all others before.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.noise import GaussianNoise
from invsolve.operator import Operator
from invsolve.operator.measurement import flat, minus
from invsolve.priors.base import Prior
from invsolve.problem import Problem
from invsolve.solution import Solution

# ITU-R BT.601 for R, G, B in [0, 1]: Y in [16, 235] / 255, what SR papers' rgb2ycbcr gives.
LUMA, LUMA_OFFSET = (65.481 / 255, 128.553 / 255, 24.966 / 255), 16 / 255


@dataclass(frozen=True)
class Case:
    """What a metric may look at.

    Args:
        problem: what was measured, of B items.
        truth: (B, C, H, W) in [0, 1]; None where nobody knows it.
        solution: the answer and how it came about; without trace where it was read from a run's folder.
        prior: what was believed, for metrics that solve once more; None where a case came without.
    """

    problem: Problem
    truth: Tensor | None
    solution: Solution
    prior: Prior | None = None

    @property
    def x(self) -> Tensor:
        """(B, C, H, W): the answer; of several samples their mean."""
        return self.solution.mean

    @property
    def samples(self) -> Tensor | None:
        """(n, B, C, H, W), None for a plain run."""
        return None if self.solution.samples is None else self.solution.x


class Measure:
    """What every metric says of itself.

    Attributes:
        label: heading of its column.
        unit: e.g. "dB".
        digits: decimals shown.
        higher: whether higher is better; None ranks nothing.
        settings: what it was computed with, for every table and report.
        libraries: distributions that compute it; their versions stand in the rows, and another version is another metric.
        image_shape: an image shape that it takes, where it does not take every one: what conformance checks show it.
    """

    label: ClassVar[str]
    unit: ClassVar[str] = ""
    digits: ClassVar[int] = 3
    higher: ClassVar[bool | None] = True
    settings: str = ""
    libraries: ClassVar[tuple[str, ...]] = ()
    image_shape: ClassVar[tuple[int, int, int] | None] = None


class Metric(Measure):
    """A number per item of a case: a subclass writes `compute` (two images) or `measure` (anything in the case).

    Higher is better unless `higher` is False; see `Measure` for the other attributes.
    """

    def measure(self, case: Case) -> Tensor:
        """(B,) in float64; NaN where the case has no such number (no truth, no samples, another noise).

        Raises:
            InputError: images that the metric does not take.
        """
        if case.truth is None:
            return undefined(case)
        return self(case.x, case.truth.to(case.x))

    def __call__(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """(B, C, H, W) twice -> (B,) in float64; x_hat is clipped to [0, 1].

        Raises:
            InputError: shapes that differ, or a metric that needs more than two images.
        """
        if x_hat.shape != x.shape or x.ndim != 4:
            raise InputError(f"{self.label} compares two (B, C, H, W) batches; given {tuple(x_hat.shape)} and {tuple(x.shape)}")
        return self.compute(x_hat.detach().clamp(0, 1), x.detach()).double()

    def compute(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """(B,), for x_hat in [0, 1]."""
        raise InputError(f"{self.label} needs more than two images: {type(self).__name__}().measure(case)")


class SetMetric(Measure, ABC):
    """One number of all images of a solver on an operator, such as a distance between two sets of images.

    It is computed when a run ends, over the items that have an answer, and stands in the table without a spread.
    """

    @abstractmethod
    def compute(self, x_hat: Sequence[Tensor], x: Sequence[Tensor]) -> float:
        """The answers, clipped to [0, 1], and the truths, (C, H, W) each and in the same order; NaN where there is no such number."""


def undefined(case: Case) -> Tensor:
    """NaN for every item: there is no such number."""
    return torch.full((case.problem.batch,), torch.nan, dtype=torch.float64)


def luma(x: Tensor) -> Tensor:
    """The Y of BT.601 as in super-resolution papers, (B, 1, H, W) in [16, 235] / 255; grey images are their own. Not rounded to 8 bits.

    Raises:
        InputError: neither 1 nor 3 channels.
    """
    if x.shape[1] == 1:
        return x
    if x.shape[1] != 3:
        raise InputError(f'channel = "y" takes 1 or 3 channels; given {x.shape[1]}')
    red, green, blue = (x[:, index : index + 1] * weight for index, weight in enumerate(LUMA))
    return red + green + blue + LUMA_OFFSET


class Compared(Metric):
    """A metric of two images with the options of super-resolution papers.

    Args:
        channel: None for all channels, "y" for the luma alone, see `luma`.
        shave: pixels left out on each side.

    Raises:
        InputError: another channel, or shave < 0.
    """

    def __init__(self, channel: str | None = None, shave: int = 0) -> None:
        if channel not in (None, "y"):
            raise InputError(f'channel must be "y" or left out; given {channel!r}')
        if isinstance(shave, bool) or not isinstance(shave, int) or shave < 0:
            raise InputError(f"shave must be a whole number of pixels, at least 0; given {shave!r}")
        self.channel, self.shave = channel, shave
        luma_only = "Y of BT.601 (16..235), not rounded; " if channel else ""
        self.options = luma_only + (f"{shave} pixels shaved on each side; " if shave else "")

    def seen(self, x: Tensor) -> Tensor:
        """What is compared of an image.

        Raises:
            InputError: nothing is left of it.
        """
        x = x.double() if self.channel is None else luma(x.double())
        height, width = x.shape[-2:]
        if min(height, width) <= 2 * self.shave:
            raise InputError(f"{self.label}: shave={self.shave} leaves nothing of {height} x {width} pixels")
        return x[..., self.shave : height - self.shave, self.shave : width - self.shave]


class PSNR(Compared):
    """Peak signal-to-noise ratio in dB, -10 log10(mean |x_hat - x|^2) for data range 1; infinite for equal images.

    Args:
        channel, shave: "y" and, for super-resolution by s, shave = s give the convention of its papers (but for their rounding to 8 bits).
    """

    label, unit, digits = "PSNR", "dB", 2

    def __init__(self, channel: str | None = None, shave: int = 0) -> None:
        super().__init__(channel, shave)
        self.settings = self.options + f"data range 1, {'' if channel else 'all channels together, '}float64, per image"

    def compute(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """-10 log10 of the mean squared error."""
        return -10 * (self.seen(x_hat) - self.seen(x)).square().flatten(1).mean(1).log10()


class SSIM(Compared):
    """Structural similarity with Wang's constants and window, mean over pixels and channels, in float64.

    At the border the window needs 5 pixels that are not there. crop = 0 (the default, torchmetrics') mirrors the image and counts every
    pixel; crop = 5 counts only pixels whose window lies inside, as Wang's code and scikit-image (gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False, data_range=1) do. On photographs with noise of 0.05 they differ by .012 to
    .024 at 128 x 128 pixels, by up to .055 at 32 x 32: name the one you use.

    Args:
        crop: pixels of the similarity map left out on each side before the mean.
        channel, shave: as of PSNR; the image is shaved before the map is made.

    Raises:
        InputError: crop < 0.

    References:
        Wang, Bovik, Sheikh, Simoncelli, Image quality assessment: from error visibility to structural similarity, IEEE TIP 13 (2004).
    """

    label = "SSIM"
    libraries = ("torchmetrics",)
    WINDOW: ClassVar[dict[str, object]] = {"gaussian_kernel": True, "sigma": 1.5, "kernel_size": 11, "k1": 0.01, "k2": 0.03}

    def __init__(self, crop: int = 0, channel: str | None = None, shave: int = 0) -> None:
        super().__init__(channel, shave)
        if isinstance(crop, bool) or not isinstance(crop, int) or crop < 0:
            raise InputError(f"crop must be a whole number of pixels, at least 0; given {crop!r}")
        self.crop = crop
        border = f"map cropped by {crop} (5: Wang, scikit-image)" if crop else "mirrored at the border, all pixels count"
        window = "torchmetrics: Gaussian window, sigma 1.5 (11x11), k1 0.01, k2 0.03, data range 1, mean over channels"
        self.settings = f"{self.options}{window}, {border}"

    def compute(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """Per image, in float64: a window's variance is a small difference of large numbers."""
        from torchmetrics.functional.image import structural_similarity_index_measure as similarity

        pair, crop = (self.seen(x_hat), self.seen(x)), self.crop
        height, width = pair[0].shape[-2:]
        if min(height, width) < max(6, 2 * crop + 1):
            raise InputError(f"SSIM with crop={crop} needs {max(6, 2 * crop + 1)} pixels a side; given {height} x {width}")
        maps = [
            similarity(a[None], b[None], data_range=1.0, reduction="none", return_full_image=True, **self.WINDOW)[1]  # pyright: ignore
            for a, b in zip(*pair, strict=True)
        ]
        return torch.cat([one[..., crop : height - crop, crop : width - crop].reshape(1, -1).mean(-1) for one in maps])


class HaarPSI(Metric):
    """Haar wavelet perceptual similarity index in [0, 1]; weight-free, 1 or 3 channels."""

    label = "HaarPSI"
    settings = "deepinv: C 30, alpha 4.2 (natural images), with subsampling; perceptual, without network weights"
    libraries = ("deepinv",)

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
