"""Whether a picture was enlarged by a whole factor: its rows lie in the span of an interpolation.

A row that was enlarged is U c, c the smaller one and U the matrix of the interpolation. What is left of m pixels of it,

    r^2 = |y - U U^+ y|^2 / (m - rank U),

is noise and rounding. Smooth rows lie near that span whatever made them, but near U moved by a pixel just as well: a picture was enlarged
where one place of the grid leaves much less than the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

SPAN = 48  # pixels of a row that are looked at together, a multiple of every factor
FACTORS = (2, 3, 4)
ROWS = 4096  # at most
DROP = 1.25  # the other places leave this many times as much in the mean square
KERNELS = ("bicubic", "bilinear", "lanczos")
REACH = 3


class Enlargement(NamedTuple):
    """How a picture was made larger.

    Args:
        factor: 2, 3 or 4.
        kernel: "bicubic" (Keys, a = -1/2), "bilinear" (not told from the former at factor 2) or "lanczos" (of three lobes).
        corner: rows and columns before the first whole pixel of the smaller picture.
        drop: how much less this place of the grid leaves than the others, in the mean square.
    """

    factor: int
    kernel: str
    corner: tuple[int, int]
    drop: float


def find_enlargement(image: Tensor) -> Enlargement | None:
    """The factor that a picture was enlarged by; None where it was not, or noise hides it.

    Args:
        image: (C, H, W) in [0, 1].
    """
    if min(image.shape[1:]) < 2 * SPAN:
        return None
    found = []
    for factor in FACTORS:
        both = {kernel: [place(lines, factor, kernel) for lines in (rows(image.mT), rows(image))] for kernel in KERNELS}
        # At factor 2 linear and cubic interpolation have the same span, and the cubic one is the usual.
        kernel = min(both, key=lambda name: round(math.log(sum(one.left for one in both[name])), 2))
        down, across = both[kernel]
        found.append(Enlargement(factor, kernel, (down.first, across.first), min(down.drop, across.drop)))
    best = max(found, key=lambda one: one.drop)
    return best if best.drop > DROP else None


def rows(image: Tensor) -> Tensor:
    """(n, SPAN + 3): parts of rows, from columns that are multiples of SPAN on, with what a shift needs."""
    wide = SPAN + max(FACTORS) - 1
    step = max(1, image.shape[0] * image.shape[1] * (image.shape[2] // SPAN) // ROWS)
    return image[:, ::step].double().unfold(2, wide, SPAN).reshape(-1, wide)


class Place(NamedTuple):
    """Of the grid of the smaller picture in rows.

    Args:
        first: the column before the first whole pixel of the smaller picture.
        left: what an enlarged row cannot have, in the mean square.
        drop: how many times as much the next best place leaves.
    """

    first: int
    left: float
    drop: float


def place(lines: Tensor, factor: int, kernel: str) -> Place:
    """The place that leaves least."""
    outside = leftover(factor, kernel)
    left = torch.stack([(lines[:, first : first + SPAN] @ outside).square().mean() for first in range(factor)]).clamp_min(1e-14)
    least = left.sort().values
    return Place(int(left.argmin()), float(least[0]), float(least[1] / least[0]))


@cache
def leftover(factor: int, kernel: str) -> Tensor:
    """The projection (SPAN, SPAN) on what no enlarged row has, scaled so that noise of level 1 keeps it."""
    matrix = interpolation(SPAN, factor, kernel)
    basis, sizes, _ = torch.linalg.svd(matrix)
    rank = int((sizes > 1e-6 * sizes[0]).sum())
    outside = basis[:, rank:]
    return outside @ outside.mT * (SPAN / (SPAN - rank)) ** 0.5


def interpolation(length: int, factor: int, kernel: str) -> Tensor:
    """U, (length, length / factor + 2 * 3): pixels of a row that begins where a small pixel does, from the small ones around."""
    weight = WEIGHTS[kernel]
    centres = (torch.arange(length, dtype=torch.float64) + 0.5) / factor - 0.5
    small = torch.arange(-REACH, length // factor + REACH, dtype=torch.float64)
    matrix = weight(centres[:, None] - small)
    return matrix / matrix.sum(1, keepdim=True)


def reduced(image: Tensor, found: Enlargement) -> Tensor:
    """The smaller picture, (C, H / factor, W / factor) of what is whole: the least squares solution of U c U^T = y."""
    tall = across(image.double(), found.factor, found.kernel, found.corner[1])
    return across(tall.mT, found.factor, found.kernel, found.corner[0]).mT.to(image.dtype).contiguous()


def across(image: Tensor, factor: int, kernel: str, first: int) -> Tensor:
    """The columns made fewer; what is no whole pixel at either side is left out, and the last ones go on beyond the frame."""
    kept = (image.shape[-1] - first) // factor * factor
    matrix = interpolation(kept, factor, kernel)
    # Beyond the frame a small row goes on as its last pixel, as programs that enlarge take it.
    inner = matrix[:, REACH:-REACH].clone()
    inner[:, 0] += matrix[:, :REACH].sum(1)
    inner[:, -1] += matrix[:, -REACH:].sum(1)
    return image[..., first : first + kept] @ torch.linalg.pinv(inner).mT


def keys(distance: Tensor) -> Tensor:
    """The cubic of Keys (1981) with a = -1/2."""
    x = distance.abs()
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


def hat(distance: Tensor) -> Tensor:
    """Linear interpolation."""
    return (1 - distance.abs()).clamp_min(0)


def lanczos(distance: Tensor) -> Tensor:
    """sinc under a window of three lobes."""
    return torch.sinc(distance) * torch.sinc(distance / 3) * (distance.abs() < 3)


WEIGHTS: dict[str, Callable[[Tensor], Tensor]] = {"bicubic": keys, "bilinear": hat, "lanczos": lanczos}
