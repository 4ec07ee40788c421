"""Nonlinear cameras: clipped range, few bits, saturating blur."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator import Capability, Operator, image_shape
from invsolve_operators.blurs.blur import GaussianBlur, KernelBlur
from invsolve_operators.common import expect, positive
from invsolve_operators.nonlinear.rounding import STRAIGHT_THROUGH, rounded
from invsolve_operators.sampled import checked_count


class HDR(Operator):
    """High dynamic range: y = clip(f (x - 1/2) + 1/2, 0, 1), the dark and the bright ends lost.

    The gradient is f inside and 0 where clipped: the derivative but at the two kinks.

    Args:
        in_shape: (C, H, W).
        factor: f.

    Raises:
        InputError: factor is not a positive number.

    References:
        DAPS (Zhang et al., 2024), arXiv:2407.01521: clip(2 v, -1, 1) on v in [-1, 1]. With v = 2 x - 1 and y = (v' + 1) / 2 that is
        clip(2 (x - 1/2) + 1/2, 0, 1): factor 2. Its noise of 0.05 there is 0.025 here.
    """

    traits: ClassVar[frozenset[Capability]] = frozenset({Capability.DIFFERENTIABLE})
    output_range = (0.0, 1.0)
    uniform = True

    def __init__(self, in_shape: Sequence[int], factor: float = 2.0) -> None:
        super().__init__()
        self.in_shape = self.out_shape = image_shape(in_shape)
        self.factor = positive(factor, "factor")

    def forward(self, x: Tensor) -> Tensor:
        """clip(f (x - 1/2) + 1/2, 0, 1)."""
        expect(self, x)
        return (self.factor * (x - 0.5) + 0.5).clamp(0, 1)

    @classmethod
    def examples(cls) -> list[Operator]:
        """Colour, and not square."""
        return [cls((3, 4, 4)), cls((1, 5, 3), 1.5)]


class Quantise(Operator):
    """Few bits: y = round(x (2^b - 1)) / (2^b - 1), clipped to [0, 1].

    The derivative is 0 almost everywhere; the gradient is the straight-through surrogate, that of the clip alone.

    Args:
        in_shape: (C, H, W).
        bits: b, 1 to 16.

    Raises:
        InputError: bits is not a whole number from 1 to 16.
    """

    traits: ClassVar[frozenset[Capability]] = frozenset({Capability.DIFFERENTIABLE})
    surrogate = STRAIGHT_THROUGH
    output_range = (0.0, 1.0)
    uniform = True

    def __init__(self, in_shape: Sequence[int], bits: int = 3) -> None:
        super().__init__()
        self.in_shape = self.out_shape = image_shape(in_shape)
        if checked_count(bits, "bits", 1) > 16:
            raise InputError(f"bits must be at most 16; given {bits}")
        self.levels = 2**bits - 1

    def forward(self, x: Tensor) -> Tensor:
        """round(x (2^b - 1)) / (2^b - 1)."""
        expect(self, x)
        return rounded(x.clamp(0, 1) * self.levels) / self.levels

    @classmethod
    def examples(cls) -> list[Operator]:
        """Three bits and one."""
        return [cls((3, 4, 4)), cls((1, 5, 3), 1)]


class SaturatingBlur(Operator):
    """A blur in linear light whose bright end the sensor clips: y = clip(g (k * x), 0, 1), convolution on the torus unless said.

    Args:
        in_shape: (C, H, W).
        kernel: (kh, kw), or one per image (B, kh, kw), as in KernelBlur; a Gaussian of 1.5 pixels by default.
        gain: g, above 1 where highlights saturate.
        boundary: as in KernelBlur.

    Raises:
        InputError: a kernel or boundary that KernelBlur refuses, or gain is not a positive number.

    References:
        Handling Outliers in Non-Blind Image Deconvolution (Cho, Wang, Lee, 2011), ICCV, section 3: clipping in the forward model.
    """

    traits: ClassVar[frozenset[Capability]] = frozenset({Capability.DIFFERENTIABLE})
    output_range = (0.0, 1.0)
    uniform = True

    def __init__(
        self,
        in_shape: Sequence[int],
        kernel: Tensor | Sequence[Sequence[float]] | None = None,
        gain: float = 2.0,
        boundary: str = "circular",
    ) -> None:
        super().__init__()
        self.blur = GaussianBlur(in_shape, boundary=boundary) if kernel is None else KernelBlur(in_shape, kernel, boundary)
        self.in_shape, self.out_shape = self.blur.in_shape, self.blur.out_shape
        self.batch, self.reach = self.blur.batch, self.blur.reach
        self.gain = positive(gain, "gain")

    def select(self, items: range) -> Operator:
        """The items' kernels."""
        return SaturatingBlur(self.in_shape, self.blur.kernel[list(items)], self.gain, self.blur.boundary).to(self.device)

    def forward(self, x: Tensor) -> Tensor:
        """clip(g (k * x), 0, 1)."""
        return (self.gain * self.blur(x)).clamp(0, 1)

    @classmethod
    def examples(cls) -> list[Operator]:
        """A Gaussian, and a kernel per image."""
        kernels = torch.rand(3, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        return [cls((3, 6, 6)), cls((1, 5, 4), kernels / kernels.sum((1, 2), keepdim=True), 1.5)]
