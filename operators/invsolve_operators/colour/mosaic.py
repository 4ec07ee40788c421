"""Demosaicing: the image of a sensor behind a Bayer filter, y = sum_c m_c x_c with one channel at every pixel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from invsolve.operator import Capability, Operator, Shape, image_shape
from invsolve.operator.svd import SVD
from invsolve_operators.common import damping, expect
from invsolve_operators.masks.patterns import bayer


class Mosaic(Operator):
    """y = the value of one colour at every pixel, (3, H, W) -> (1, H, W).

    H H^T = I: s = 1 on the measured entries of the image, U gathers them and V = I.

    Args:
        in_shape: (3, H, W).
        pattern: colours of the upper-left 2 x 2 pixels, row by row: "RGGB", "BGGR", "GRBG" or "GBRG".

    Raises:
        InputError: another number of channels or another pattern.
    """

    traits: ClassVar[frozenset[Capability]] = frozenset({Capability.LINEAR})
    out_shape: Shape
    output_range = (0.0, 1.0)
    uniform = True
    period = 2
    pattern: Tensor

    def __init__(self, in_shape: Sequence[int], pattern: str = "RGGB") -> None:
        super().__init__()
        self.in_shape = image_shape(in_shape)
        self.out_shape = (1, *self.in_shape[1:])
        self.register_buffer("pattern", bayer(self.in_shape, pattern))

    def forward(self, x: Tensor) -> Tensor:
        """sum_c m_c x_c."""
        expect(self, x)
        return (self.like("pattern", x) * x).sum(1, keepdim=True)

    def adjoint(self, y: Tensor) -> Tensor:
        """m_c y."""
        return self.like("pattern", y) * y

    def pinv(self, y: Tensor) -> Tensor:
        """m_c y: the other colours are 0."""
        return self.like("pattern", y) * y

    def prox(self, z: Tensor, y: Tensor, tau: float | Tensor) -> Tensor:
        """z + m (y - z) / (1 + 1 / tau)."""
        return z + self.like("pattern", z) * (y - z) / (1 + damping(tau, z))

    def svd(self) -> SVD:
        """s = m on the image itself."""
        return SVD(self.pattern, self.forward, self.adjoint, torch.clone, torch.clone)

    @classmethod
    def examples(cls) -> list[Operator]:
        """Even and odd sides."""
        return [cls((3, 8, 8)), cls((3, 5, 7), "GRBG"), cls((3, 4, 6), "BGGR")]
