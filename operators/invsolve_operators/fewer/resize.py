"""Fewer pixels at any ratio: antialiased bicubic resizing, as Pillow and torch do it, to a size that need not divide the image's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from invsolve.errors import InputError
from invsolve.operator import Operator, image_shape
from invsolve_operators.blurs.separable import Separable


class Resize(Separable):
    """y = the image at another size, Y = A_v X A_h^T with the two matrices of antialiased bicubic interpolation.

    Args:
        in_shape: (C, H, W).
        size: side of y, or its (height, width); none above the image's.

    Raises:
        InputError: a size that is none, or above the image's.

    References:
        The kernel of Keys (1981) with a = -1/2, widened by the ratio, its weights at the border scaled to sum to 1: Pillow's BICUBIC.
        Implicit Diffusion Models for Continuous Super-Resolution (Gao et al., 2023), arXiv:2303.16491: magnifications that are no whole
        numbers. Deviation from `bicubic`: its symmetric border, where this one leaves out what is beyond.
    """

    def __init__(self, in_shape: Sequence[int], size: int | tuple[int, int]) -> None:
        shape = image_shape(in_shape)
        sides = tuple(size) if isinstance(size, Sequence) else (size, size)
        usable = len(sides) == 2 and all(isinstance(one, int) and not isinstance(one, bool) for one in sides)
        if not usable or not all(1 <= one <= whole for one, whole in zip(sides, shape[1:], strict=True)):
            raise InputError(f"size must be a side or (height, width), whole numbers from 1 to {shape[1:]}; given {size!r:.60}")
        vertical, horizontal = (resizing(whole, one) for one, whole in zip(sides, shape[1:], strict=True))
        super().__init__(shape, vertical, horizontal)
        self.output_range = self.interval()

    @classmethod
    def examples(cls) -> list[Operator]:
        """Colour at no whole ratio, two ratios at once, and the same size."""
        return [cls((3, 8, 9), 5), cls((1, 9, 12), (4, 3)), cls((1, 4, 5), (4, 5))]


def resizing(whole: int, size: int) -> Tensor:
    """(size, whole) in float64: what interpolation makes of unit images; every row sums to 1."""
    units = torch.eye(whole, dtype=torch.float64)[None, None]
    return interpolate(units, size=(size, whole), mode="bicubic", antialias=True, align_corners=False)[0, 0]
