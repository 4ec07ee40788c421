"""Fewer pixels at any ratio: antialiased bicubic resizing, as Pillow and torch do it, to a size that need not divide the image's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from invsolve.errors import InputError
from invsolve.operator import Operator, Shape, image_shape
from invsolve_operators.blurs.separable import Separable


class Resize(Separable):
    """y = the image at another size, Y = A_v X A_h^T with the two matrices of antialiased bicubic interpolation.

    Args:
        in_shape: (C, H, W).
        size: side of y, or its (height, width); none above the image's.
        factor: in place of size: by how much y is smaller, 1 or more and no whole number necessarily: sides are round(side / factor).

    Raises:
        InputError: a size that is none, or above the image's; a factor below 1, or so large that nothing is left; both or neither.

    References:
        The kernel of Keys (1981) with a = -1/2, widened by the ratio, its weights at the border scaled to sum to 1: Pillow's BICUBIC.
        Implicit Diffusion Models for Continuous Super-Resolution (Gao et al., 2023), arXiv:2303.16491: magnifications that are no whole
        numbers. Deviation from `bicubic`: its symmetric border, where this one leaves out what is beyond.
    """

    def __init__(self, in_shape: Sequence[int], size: int | tuple[int, int] | None = None, factor: float | None = None) -> None:
        shape = image_shape(in_shape)
        if (size is None) == (factor is None):
            raise InputError(f"give size (of y) or factor (by which it is smaller), one of them; given size={size}, factor={factor}")
        if size is None:
            size = divided_by(shape, factor)
        sides = tuple(size) if isinstance(size, Sequence) else (size, size)
        usable = len(sides) == 2 and all(isinstance(one, int) and not isinstance(one, bool) for one in sides)
        if not usable or not all(1 <= one <= whole for one, whole in zip(sides, shape[1:], strict=True)):
            raise InputError(f"size must be a side or (height, width), whole numbers from 1 to {shape[1:]}; given {size!r:.60}")
        vertical, horizontal = (resizing(whole, one) for one, whole in zip(sides, shape[1:], strict=True))
        super().__init__(shape, vertical, horizontal)
        self.output_range = self.interval()

    @classmethod
    def examples(cls) -> list[Operator]:
        """Colour at no whole ratio, two ratios at once, the same size, a factor."""
        return [cls((3, 8, 9), 5), cls((1, 9, 12), (4, 3)), cls((1, 4, 5), (4, 5)), cls((1, 8, 10), factor=1.6)]


def divided_by(shape: Shape, factor: float | None) -> tuple[int, int]:
    """Height and width of an image that is smaller by any factor from 1 on, rounded."""
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not 1 <= factor < 2 * min(shape[1:]):
        raise InputError(f"factor must be a number from 1 to below {2 * min(shape[1:])}, twice the shorter side; given {factor!r:.60}")
    height, width = (round(side / factor) for side in shape[1:])
    return height, width


def resizing(whole: int, size: int) -> Tensor:
    """(size, whole) in float64: what interpolation makes of unit images; every row sums to 1."""
    units = torch.eye(whole, dtype=torch.float64)[None, None]
    return interpolate(units, size=(size, whole), mode="bicubic", antialias=True, align_corners=False)[0, 0]
