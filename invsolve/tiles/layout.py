"""Where the pieces of a large image lie, and with which weights they are laid together."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator.windows import Window


@dataclass(frozen=True)
class Tiles:
    """How an image is cut.

    Two neighbours share at least 2 (margin + reach) + blend pixels, `reach` being the operator's. Within margin + reach of an edge that is
    none of the image a piece counts nothing; over `blend` pixels its weight rises to 1 while the neighbour's falls from 1.

    Args:
        size: side of a piece at most, in pixels: the memory.
        margin: what is thrown away of a piece along its inner edges, beside the operator's reach: the accuracy.
        blend: over how many pixels one piece goes over into the next.

    Raises:
        InputError: no whole numbers, a negative margin, size or blend below 1.
    """

    size: int = 1024
    margin: int = 32
    blend: int = 16

    def __post_init__(self) -> None:
        for name, value, least in (("size", self.size, 1), ("margin", self.margin, 0), ("blend", self.blend, 1)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(f"{name} must be a whole number of pixels, at least {least}; given {value!r}")

    def overlap(self, reach: int) -> int:
        """What two neighbours share at least."""
        return 2 * (self.margin + reach) + self.blend


@dataclass(frozen=True)
class Layout:
    """The pieces of one image.

    Args:
        windows: row by row.
        weights: of each, along the rows and along the columns, float64; over all pieces their products sum to 1 at every pixel.
    """

    windows: tuple[Window, ...]
    weights: tuple[tuple[Tensor, Tensor], ...]

    @property
    def pixels(self) -> int:
        """Of all pieces together: what the run costs."""
        return sum(window.height * window.width for window in self.windows)

    def weight(self, index: int, like: Tensor) -> Tensor:
        """(h, w) of a piece."""
        rows, columns = (one.to(like) for one in self.weights[index])
        return rows[:, None] * columns


def laid(tiles: Tiles, height: int, width: int, *, reach: int = 0, step: int = 1) -> Layout:
    """The pieces of an image of height x width pixels, which start at multiples of `step`.

    Raises:
        InputError: pieces that consist of what they share.
    """
    sides = [along(tiles, side, reach, step) for side in (height, width)]
    ramps = [faded(spans, tiles.blend) for spans in sides]
    windows, weights = [], []
    for (top, bottom), down in zip(sides[0], ramps[0], strict=True):
        for (left, right), across in zip(sides[1], ramps[1], strict=True):
            windows.append(Window(top, left, bottom - top, right - left))
            weights.append((down, across))
    return Layout(tuple(windows), tuple(weights))


def along(tiles: Tiles, side: int, reach: int, step: int) -> list[tuple[int, int]]:
    """(first, behind the last) of the pieces along a side: as few as the overlap allows, spread evenly; the last may be shorter."""
    size, shared = max(step, tiles.size // step * step), tiles.overlap(reach)
    if side <= size:
        return [(0, side)]
    if size < shared + step + 2 * tiles.blend:  # else the next piece but one would begin before this one's weight has fallen to 0
        least = -(-(shared + step + 2 * tiles.blend) // step) * step
        raise InputError(
            f"pieces of {size} pixels that share {shared} are too small; take at least Tiles(size={least}), or a smaller margin"
        )
    last = -(-(side - size) // step) * step
    count = 1 + -(-last // (size - shared - step))
    firsts = [index * last // (count - 1) // step * step for index in range(count)]
    return [(first, min(side, first + size)) for first in firsts]


def faded(spans: list[tuple[int, int]], blend: int) -> list[Tensor]:
    """The weight along each span: 1, but falling from 1 to 0 over the middle `blend` places of what it shares with the next."""
    weights = [torch.ones(end - first, dtype=torch.float64) for first, end in spans]
    for index, ((first, end), (following, _)) in enumerate(pairwise(spans)):
        begin = following + (end - following - blend) / 2
        rising = ((torch.arange(following, end, dtype=torch.float64) + 0.5 - begin) / blend).clamp(0, 1)
        weights[index][following - first :] *= 1 - rising
        weights[index + 1][: end - following] *= rising
    return weights
