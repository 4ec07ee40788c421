"""JPEG compression and decompression: y = decode(encode(x)).

Levels 0..255 to YCbCr, chroma halved on request, 8 x 8 blocks by the cosine transform, division by a table and rounding; and back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad

from invsolve.errors import InputError
from invsolve.operator import Capability, Operator, image_shape
from invsolve_operators.common import expect
from invsolve_operators.nonlinear.rounding import STRAIGHT_THROUGH, rounded
from invsolve_operators.sampled import checked_count

# Annex K of the standard (ITU-T T.81), tables K.1 and K.2.
LUMINANCE = """16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62
18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99"""
CHROMINANCE = """17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66 99 99 99 99 99 99
99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99"""
YCBCR = ((0.299, 0.587, 0.114), (-0.168735892, -0.331264108, 0.5), (0.5, -0.418687589, -0.081312411))


class JPEG(Operator):
    """y = the picture after JPEG compression at a quality, in [0, 1] in steps of 1 / 255.

    Every rounding (colours, coefficients, result) carries the straight-through surrogate gradient, so that the whole passes about the
    gradient of the identity; the derivative itself is 0 almost everywhere. Sides that 8 (16 with halved chroma) does not divide are
    continued by their last pixels, as encoders do.

    Args:
        in_shape: (1, H, W) grey or (3, H, W) colour.
        quality: 1 to 100, as the reference encoder counts.
        subsample: chroma at half the resolution (4:2:0): means of 2 x 2, and linear interpolation on the way back.

    Raises:
        InputError: another number of channels, or a quality that is not a whole number from 1 to 100.

    References:
        ITU-T Recommendation T.81 (1992), Annex A and K; JPEG File Interchange Format 1.02 (1992) for the colours. The scaling
        of the tables is that of the Independent JPEG Group's encoder. Deviation: that decoder smooths repeated chroma, here it is repeated.
    """

    traits: ClassVar[frozenset[Capability]] = frozenset({Capability.DIFFERENTIABLE})
    surrogate = STRAIGHT_THROUGH
    output_range = (0.0, 1.0)
    uniform = True
    tables: Tensor
    cosines: Tensor
    colours: Tensor
    primaries: Tensor

    def __init__(self, in_shape: Sequence[int], quality: int = 25, subsample: bool = False) -> None:
        super().__init__()
        self.in_shape = self.out_shape = image_shape(in_shape)
        if self.in_shape[0] not in (1, 3):
            raise InputError(f"JPEG takes grey (1, H, W) or colour images (3, H, W); given {self.in_shape}")
        if checked_count(quality, "quality", 1) > 100:
            raise InputError(f"quality must be at most 100; given {quality}")
        self.subsample = bool(subsample) and self.in_shape[0] == 3
        # Chroma is interpolated from the next block's too.
        self.period, self.reach = (16, 16) if self.subsample else (8, 7)
        self.register_buffer("tables", torch.stack([scaled(LUMINANCE, quality), scaled(CHROMINANCE, quality)]))
        self.register_buffer("cosines", cosine_matrix())
        colours = torch.tensor(YCBCR, dtype=torch.float64)
        self.register_buffer("colours", colours)
        self.register_buffer("primaries", torch.linalg.inv(colours))

    def forward(self, x: Tensor) -> Tensor:
        """decode(encode(x))."""
        expect(self, x)
        if not len(x):
            return x.clone()
        step = 16 if self.subsample else 8
        _, height, width = self.in_shape
        levels = pad(rounded(255 * x.clamp(0, 1)), (0, -width % step, 0, -height % step), mode="replicate")
        out = self._grey(levels) if self.in_shape[0] == 1 else self._colour(levels)
        return rounded(out[..., :height, :width].clamp(0, 255)) / 255

    def _grey(self, levels: Tensor) -> Tensor:
        return self._coded(levels - 128, 0) + 128

    def _colour(self, levels: Tensor) -> Tensor:
        """Through YCbCr, luminance about 128 and chrominance about 0."""
        planes = rounded(torch.einsum("kc,bchw->bkhw", self.like("colours", levels), levels))
        luma = self._coded(planes[:, :1] - 128, 0) + 128
        chroma = planes[:, 1:]
        if self.subsample:
            small = self._coded(rounded(avg_pool2d(chroma, 2)), 1)
            chroma = interpolate(small, scale_factor=2, mode="bilinear", align_corners=False)
        else:
            chroma = self._coded(chroma, 1)
        return torch.einsum("ck,bkhw->bchw", self.like("primaries", levels), rounded(torch.cat([luma, chroma], dim=1)))

    def _coded(self, plane: Tensor, table: int) -> Tensor:
        """Every 8 x 8 block through the cosine transform, quantised, and back."""
        batch, channels, height, width = plane.shape
        cosines, steps = self.like("cosines", plane), self.like("tables", plane)[table]
        blocks = plane.reshape(batch, channels, height // 8, 8, width // 8, 8).transpose(3, 4)
        coefficients = cosines @ blocks @ cosines.mT
        back = cosines.mT @ (rounded(coefficients / steps) * steps) @ cosines
        return back.transpose(3, 4).reshape(plane.shape)

    @classmethod
    def examples(cls) -> list[Operator]:
        """Colour, grey with sides that 8 does not divide, halved chroma."""
        return [cls((3, 8, 8), 50), cls((1, 9, 13)), cls((3, 10, 17), 75, subsample=True)]


def scaled(table: str, quality: int) -> Tensor:
    """The table (8, 8) at a quality: times 50 / quality below 50, times 2 - quality / 50 above; whole numbers from 1 to 255."""
    factor = 5000 // quality if quality < 50 else 200 - 2 * quality
    values = torch.tensor([int(number) for number in table.split()])
    return ((values * factor + 50) // 100).clamp(1, 255).reshape(8, 8).double()


def cosine_matrix() -> Tensor:
    """(8, 8), orthonormal: row k is the k-th cosine."""
    k, n = torch.arange(8, dtype=torch.float64)[:, None], torch.arange(8, dtype=torch.float64)
    matrix = torch.cos(torch.pi * (2 * n + 1) * k / 16) / 2
    matrix[0] /= 2**0.5
    return matrix
