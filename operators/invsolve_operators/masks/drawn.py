"""Masks that are drawn: boxes anywhere, a range of fractions, free-form strokes, text, damaged film.

Each takes `seed` and `items`: without items one mask serves every image; with items = B image i has a mask of its own, keyed by
(seed, i), so that it does not depend on B.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator import Operator, Shape, image_shape
from invsolve.rng import Rng
from invsolve_operators.masks.mask import Mask
from invsolve_operators.masks.patterns import one_of
from invsolve_operators.sampled import checked_count

FLOAT = torch.empty(0, dtype=torch.float64)


class Draws:
    """Numbers from one item's stream, one after the other."""

    def __init__(self, seed: int, item: int, purpose: str) -> None:
        self.rng = Rng(seed, (item,), purpose=purpose)

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """On [low, high)."""
        (stream,) = self.rng.streams  # a mask takes thousands of numbers: what Rng does for batches is three quarters of the time
        return low + (high - low) * torch.rand((), generator=stream, dtype=FLOAT.dtype).item()

    def whole(self, low: int, high: int) -> int:
        """low, ..., high, each as likely; low where high is less."""
        return low + int(self.uniform() * max(1, high - low + 1))

    def normals(self, *shape: int) -> Tensor:
        """Standard normal numbers."""
        return self.rng.normal(shape, FLOAT)[0]

    def uniforms(self, *shape: int) -> Tensor:
        """On [0, 1)."""
        return self.rng.uniform(shape, FLOAT)[0]


class DrawnMask(Mask):
    """Base of masks that are drawn.

    Args:
        in_shape: (C, H, W).
        draw: an item's stream to its (H, W), 1 known.
        seed, items: see the module.
        purpose: what the streams are keyed by.
    """

    def __init__(self, in_shape: Sequence[int], draw: Callable[[Draws, Shape], Tensor], seed: int, items: int | None, purpose: str) -> None:
        shape = image_shape(in_shape)
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise InputError(f"seed must be a whole number; given {seed!r}")
        count = 1 if items is None else checked_count(items, "items", 1)
        masks = torch.stack([draw(Draws(seed, item, purpose), shape[1:]) for item in range(count)])
        super().__init__(shape, mask=masks if items is None else masks[:, None])


class RandomBoxMask(DrawnMask):
    """A box missing at a random place.

    Args:
        in_shape: (C, H, W).
        box: side of the square; half of the shorter side by default.
        margin: least distance from the edges.
        seed, items: see the module.

    Raises:
        InputError: the box and its margins do not fit.
    """

    def __init__(self, in_shape: Sequence[int], box: int | None = None, margin: int = 0, seed: int = 0, items: int | None = None) -> None:
        shape = image_shape(in_shape)
        side = max(1, min(shape[1:]) // 2) if box is None else checked_count(box, "box", 1)
        room = [extent - side - 2 * checked_count(margin, "margin") for extent in shape[1:]]
        if min(room) < 0:
            raise InputError(f"a box of {side} with margins of {margin} does not fit into {shape[1]} x {shape[2]} pixels")

        def draw(draws: Draws, sides: Shape) -> Tensor:
            top, left = (margin + draws.whole(0, free) for free in room)
            mask = torch.ones(sides)
            mask[top : top + side, left : left + side] = 0
            return mask

        super().__init__(shape, draw, seed, items, "random-box-mask")

    @classmethod
    def examples(cls) -> list[Operator]:
        """One for all, and one each."""
        return [cls((3, 8, 8)), cls((1, 9, 7), 3, 1, seed=2, items=3)]


class RandomRangeMask(DrawnMask):
    """Random pixels, the fraction removed itself drawn from a range; every channel alike.

    Args:
        in_shape: (C, H, W).
        least, most: the fraction removed is uniform on [least, most]; the number of pixels removed is exact.
        seed, items: see the module.

    Raises:
        InputError: not 0 <= least <= most <= 1.

    References:
        Diffusion Posterior Sampling (Chung et al., 2023), arXiv:2209.14687: 30 to 70 % in its configuration, 92 % in the paper.
    """

    def __init__(self, in_shape: Sequence[int], least: float = 0.3, most: float = 0.92, seed: int = 0, items: int | None = None) -> None:
        if not all(isinstance(value, int | float) for value in (least, most)) or not 0 <= least <= most <= 1:
            raise InputError(f"the fractions removed must be 0 <= least <= most <= 1; given {least!r} and {most!r}")

        def draw(draws: Draws, sides: Shape) -> Tensor:
            size = math.prod(sides)
            mask = torch.ones(size)
            missing = round(draws.uniform(least, most) * size)
            mask[draws.uniforms(size).argsort()[:missing]] = 0
            return mask.reshape(sides)

        super().__init__(in_shape, draw, seed, items, "random-range-mask")

    @classmethod
    def examples(cls) -> list[Operator]:
        """One for all, and one each."""
        return [cls((3, 8, 8)), cls((1, 9, 7), 0.5, 0.5, seed=2, items=3)]


# LaMa's settings at 256 x 256 (configs/data_gen/random_*_256.yaml): chains of strokes, and boxes in 3 images of 10.
STROKES = {
    "narrow": {"times": (4, 50), "width": 10, "length": 40, "boxes": None},
    "medium": {"times": (4, 5), "width": 50, "length": 100, "boxes": (1, 5, 10, 50, 0)},
    "wide": {"times": (1, 5), "width": 100, "length": 200, "boxes": (1, 3, 30, 150, 10)},
}


class StrokeMask(DrawnMask):
    """Free-form strokes and boxes missing, as LaMa draws them for training and tests.

    A stroke is a chain of 1 to 5 thick lines from a random place; a chain's lines turn by up to 4 radians, every second chain the
    other way. All lengths are those of a 256-pixel side, scaled with the shorter side.

    Args:
        in_shape: (C, H, W).
        style: "narrow" (4 to 50 strokes of width 5 to 15), "medium" (4 or 5, width 5 to 55) or "wide" (1 to 5, width 5 to 105).
        largest: drawn anew, up to 8 times, while more than this part is missing.
        seed, items: see the module.

    Raises:
        InputError: another style, or largest outside (0, 1].

    References:
        Resolution-robust Large Mask Inpainting with Fourier Convolutions (Suvorov et al., 2021), arXiv:2109.07161, section 2.3 and
        the authors' configurations. Deviation: lines have round ends, places are real numbers; images whose missing part is
        larger than `largest` are drawn anew, where the authors leave them out.
    """

    def __init__(self, in_shape: Sequence[int], style: str = "wide", largest: float = 0.5, seed: int = 0, items: int | None = None) -> None:
        settings = STROKES[one_of(style, "style", tuple(STROKES))]
        if not isinstance(largest, int | float) or not 0 < largest <= 1:
            raise InputError(f"largest is the part that may be missing, a number in (0, 1]; given {largest!r}")

        def draw(draws: Draws, sides: Shape) -> Tensor:
            mask = torch.ones(sides)
            for left in reversed(range(8)):
                mask = strokes(draws, sides, settings, largest if left else 1.0)
                if missing(mask) <= largest:
                    break
            return mask

        super().__init__(in_shape, draw, seed, items, f"stroke-mask-{style}")

    @classmethod
    def examples(cls) -> list[Operator]:
        """Every style; one each."""
        return [cls((3, 8, 8)), cls((1, 9, 12), "narrow", seed=1), cls((1, 8, 6), "medium", items=3)]


def missing(mask: Tensor) -> float:
    """The part that is missing."""
    return 1 - float(mask.mean())


def strokes(draws: Draws, sides: Shape, settings: dict, largest: float) -> Tensor:
    """One mask: chains of lines, then boxes. Once more than a part is missing lines are drawn from the stream, and no longer into it."""
    height, width = sides
    scale = min(sides) / 256
    mask, full = torch.ones(sides), False
    for chain in range(draws.whole(*settings["times"])):
        row, column = draws.uniform(0, height), draws.uniform(0, width)
        for _ in range(draws.whole(1, 5)):
            angle = 0.01 + draws.whole(0, 3)
            angle = -angle if chain % 2 == 0 else angle
            length = scale * (10 + draws.uniform(0, settings["length"]))
            thickness = scale * (5 + draws.uniform(0, settings["width"]))
            following = (min(max(row + length * math.cos(angle), 0), height), min(max(column + length * math.sin(angle), 0), width))
            if not full:
                erase_line(mask, (row, column), following, thickness)
            row, column = following
        full = full or missing(mask) > largest
    if settings["boxes"] is not None and draws.uniform() < 0.3:
        least, most, small, large, margin = settings["boxes"]
        for _ in range(draws.whole(least, most)):
            extents = [min(max(1, round(scale * draws.uniform(small, large))), side) for side in sides]
            free = [max(0, side - extent - 2 * round(scale * margin)) for side, extent in zip(sides, extents, strict=True)]
            top, left = (round(scale * margin) + draws.whole(0, room) for room in free)
            mask[top : top + extents[0], left : left + extents[1]] = 0
    return mask


def erase_line(mask: Tensor, start: tuple[float, float], end: tuple[float, float], thickness: float) -> None:
    """Set to 0 the pixels whose centre is within thickness / 2 of a segment; at least the nearest pixel's row of it."""
    radius = max(thickness / 2, 0.5)
    lows = [max(0, math.floor(min(a, b) - radius)) for a, b in zip(start, end, strict=True)]
    highs = [min(side, math.ceil(max(a, b) + radius) + 1) for a, b, side in zip(start, end, mask.shape, strict=True)]
    if lows[0] >= highs[0] or lows[1] >= highs[1]:
        return
    # Thousands of lines of some pixels each: numpy's calls cost a third of torch's.
    rows, columns = (centres(side)[low:high] - place for side, low, high, place in zip(mask.shape, lows, highs, start, strict=True))
    rows = rows[:, None]
    along = (end[0] - start[0], end[1] - start[1])
    square = along[0] ** 2 + along[1] ** 2
    place = np.minimum(np.maximum((rows * along[0] + columns * along[1]) / max(square, 1e-12), 0), 1)
    distance = np.square(rows - place * along[0]) + np.square(columns - place * along[1])
    np.putmask(mask.numpy()[lows[0] : highs[0], lows[1] : highs[1]], distance <= radius**2, 0)


@functools.lru_cache(maxsize=16)
def centres(side: int) -> np.ndarray:
    """Of pixels along a side."""
    return np.arange(side) + 0.5
