"""Masks of a fixed pattern: halves, lines, grids, the middle, a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from invsolve.errors import InputError, did_you_mean
from invsolve.operator import Operator, image_shape
from invsolve_operators.masks.files import read_mask
from invsolve_operators.masks.mask import Mask
from invsolve_operators.sampled import checked_count

SIDES = ("left", "right", "top", "bottom")


def one_of(value: object, name: str, allowed: Sequence[str]) -> str:
    """The value, if it is allowed.

    Raises:
        InputError: with the near name.
    """
    if value not in allowed:
        raise InputError(f"no {name} '{value}'{did_you_mean(str(value), allowed)} There are: {', '.join(allowed)}")
    return str(value)


class ExpandMask(Mask):
    """Only the middle is known: outpainting.

    Args:
        in_shape: (C, H, W).
        part: side of the known rectangle over the side of the image; 1/4 (64 of 256) by default.

    Raises:
        InputError: part is not a number in (0, 1].

    References:
        RePaint (Lugmayr et al., 2022), arXiv:2201.09865, section 5: "Expand".
    """

    def __init__(self, in_shape: Sequence[int], part: float = 0.25) -> None:
        shape = image_shape(in_shape)
        if isinstance(part, bool) or not isinstance(part, int | float) or not 0 < part <= 1:
            raise InputError(f"part is the known side over the image's, a number in (0, 1]; given {part!r}")
        mask = torch.zeros(1, *shape[1:])
        rows, columns = (max(1, round(part * side)) for side in shape[1:])
        top, left = (shape[1] - rows) // 2, (shape[2] - columns) // 2
        mask[:, top : top + rows, left : left + columns] = 1
        super().__init__(shape, mask=mask)

    @classmethod
    def examples(cls) -> list[Operator]:
        """Even, and not square."""
        return [cls((3, 8, 8)), cls((1, 9, 6), 0.5)]


class HalfMask(Mask):
    """Only one half is known; with an odd side the middle line is missing.

    Args:
        in_shape: (C, H, W).
        known: "left", "right", "top" or "bottom".

    Raises:
        InputError: another half.

    References:
        RePaint (Lugmayr et al., 2022), arXiv:2201.09865, section 5: "Half", the left half known.
    """

    def __init__(self, in_shape: Sequence[int], known: str = "left") -> None:
        shape = image_shape(in_shape)
        one_of(known, "half", SIDES)
        across = known in ("left", "right")
        count = shape[2 if across else 1]
        line = (torch.arange(count) < count // 2).float()
        line = line if known in ("left", "top") else line.flip(0)
        super().__init__(shape, mask=line.expand(shape[1:]) if across else line[:, None].expand(shape[1:]))

    @classmethod
    def examples(cls) -> list[Operator]:
        """Each half."""
        return [cls((3, 8, 8)), cls((1, 5, 6), "right"), cls((1, 5, 6), "top"), cls((1, 4, 7), "bottom")]


class LineMask(Mask):
    """Every period-th line is known.

    Args:
        in_shape: (C, H, W).
        period: of the known lines; 2 for alternating ones.
        offset: index of the first known line.
        axis: "rows" or "columns".

    Raises:
        InputError: another axis, a period or an offset that leaves no line.

    References:
        RePaint (Lugmayr et al., 2022), arXiv:2201.09865, section 5: "Alternating lines".
    """

    def __init__(self, in_shape: Sequence[int], period: int = 2, offset: int = 0, axis: str = "rows") -> None:
        shape = image_shape(in_shape)
        rows = one_of(axis, "axis", ("rows", "columns")) == "rows"
        count = shape[1 if rows else 2]
        checked_count(period, "period", 1)
        if checked_count(offset, "offset") >= min(period, count):
            raise InputError(f"offset must be less than the period and the number of {axis}; given {offset} for {period} and {count}")
        line = (torch.arange(count) % period == offset).float()
        super().__init__(shape, mask=line[:, None].expand(shape[1:]) if rows else line.expand(shape[1:]))

    @classmethod
    def examples(cls) -> list[Operator]:
        """Rows and columns."""
        return [cls((3, 8, 8)), cls((1, 7, 5), 3, 1), cls((1, 5, 6), axis="columns")]


class GridMask(Mask):
    """One pixel of every factor x factor block is known, the upper-left one: super-resolution without a blur, as a mask.

    Args:
        in_shape: (C, H, W).
        factor: side of the blocks; those at the edge may be cut.

    Raises:
        InputError: factor is not a whole number, at least 1.

    References:
        RePaint (Lugmayr et al., 2022), arXiv:2201.09865, section 5: "Super-resolve 2x".
    """

    def __init__(self, in_shape: Sequence[int], factor: int = 2) -> None:
        shape = image_shape(in_shape)
        step = checked_count(factor, "factor", 1)
        mask = torch.zeros(shape[1:])
        mask[::step, ::step] = 1
        super().__init__(shape, mask=mask)

    @classmethod
    def examples(cls) -> list[Operator]:
        """Even, and sides that it does not divide."""
        return [cls((3, 8, 8)), cls((1, 7, 5), 3)]


class FileMask(Mask):
    """A mask from a file: bright, 1, true or opaque is known; dark, 0, false or transparent is missing.

    Args:
        in_shape: (C, H, W), or (C, D, H, W) of volumes; a file of another size is refused.
        path: an image, a volume, .npy or .safetensors, see `files.read_mask`; of volumes a picture holds for every slice. None for
            everything known. In a file of tables a relative path starts from its folder.
        threshold: values above it are known, in [0, 1), and greys are allowed; None for 0.5, where greys are refused but at edges.
        invert: the other way round.

    Raises:
        InputError: no such file, not readable, of another size, not of two levels, or nothing (or everything) is known.
    """

    def __init__(
        self, in_shape: Sequence[int], path: str | Path | None = None, threshold: float | None = None, invert: bool = False
    ) -> None:
        shape = image_shape(in_shape, volumes=True)
        known = torch.ones(1, *shape[1:], dtype=torch.bool) if path is None else read_mask(path, threshold)
        if len(shape) == 4 and known.ndim == 3:  # a picture, or an array (D, H, W)
            known = known[:, None].expand(-1, shape[1], -1, -1) if len(known) == 1 else known[None]
        sides = len(shape) - 1
        if known.shape[-sides:] != shape[1:]:
            mine, theirs = (" x ".join(map(str, one[-sides:])) for one in (known.shape, shape))
            raise InputError(f"{path} is {mine}, the image {theirs}; resize one of them")
        super().__init__(shape, mask=known != bool(invert))

    @classmethod
    def examples(cls) -> list[Operator]:
        """Without a file."""
        return [cls((3, 4, 4)), cls((1, 4, 6), invert=True), cls((1, 3, 4, 5))]


class BayerMask(Mask):
    """What a camera's colour filter lets through, at its place in the colour image; see `Mosaic` for the sensor's own image.

    Args:
        in_shape: (3, H, W).
        pattern: colours of the upper-left 2 x 2 pixels, row by row: "RGGB", "BGGR", "GRBG" or "GBRG".

    Raises:
        InputError: another number of channels or another pattern.
    """

    def __init__(self, in_shape: Sequence[int], pattern: str = "RGGB") -> None:
        super().__init__(image_shape(in_shape), mask=bayer(image_shape(in_shape), pattern))

    @classmethod
    def examples(cls) -> list[Operator]:
        """Even and odd sides."""
        return [cls((3, 8, 8)), cls((3, 5, 7), "GBRG")]


def bayer(shape: tuple[int, ...], pattern: str) -> Tensor:
    """(3, H, W) of 0 and 1, one channel at every pixel."""
    one_of(pattern, "pattern", ("RGGB", "BGGR", "GRBG", "GBRG"))
    if shape[0] != 3:
        raise InputError(f"a Bayer filter needs three channels, red, green and blue; given {shape}")
    mask = torch.zeros(shape)
    for place, colour in enumerate(pattern):
        mask["RGB".index(colour), place // 2 :: 2, place % 2 :: 2] = 1
    return mask
