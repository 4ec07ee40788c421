"""Whether a picture was once a JPEG, and of which quality: its cosine coefficients lie on the lattice of a table.

For every place (u, v) of an 8 x 8 block with step q the coefficients are q times whole numbers, up to the rounding of the pixels. Against
coefficients that lie anywhere, the logarithm of the likelihood of a table is

    sum over coefficients of  log q - log(sqrt(2 pi) e) - d^2 / (2 e^2),    d the distance from the nearest multiple of q,

e their rounding; those that are 0 are so for any table and are left out. The grid is where most are.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from invsolve.io.images import GREY as LUMA

# ITU-T T.81 (1992), table K.1: the steps of luminance at quality 50.
STEPS = """16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62
18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99"""
ROUNDING = 0.4  # grey levels: of luminance, of its decoding to colours and of those
LEAST, MOST = 200, 4096  # coefficients that are not 0, and blocks: fewer say nothing, more say nothing new
WORST = -6.0  # of one coefficient, however far from the lattice
SURE = 0.05  # of the likelihood's logarithm a coefficient: pictures that never were JPEGs are below 0
FINEST = 97  # above, no step differs from rounding


class Compression(NamedTuple):
    """A JPEG that was.

    Args:
        quality: 1 to 100, as the Independent JPEG Group's encoder counts.
        corner: the first row and column at which a block begins, 0 to 7.
        gain: the mean logarithm of the likelihood ratio of a coefficient, 0 for no JPEG.
    """

    quality: int
    corner: tuple[int, int]
    gain: float


def find_compression(image: Tensor) -> Compression | None:
    """The quality of the JPEG that a picture was; None where it was none, or one of so high a quality that nothing is lost.

    Args:
        image: (C, H, W) in [0, 1], in steps of 1 / 255 at best: noise, blur or another size after it wipe the lattice out.
    """
    luma = luminance(image)
    if min(luma.shape) < 40:
        return None
    corner = max(((down, right) for down in range(8) for right in range(8)), key=lambda place: zeros(luma, place))
    found = coefficients(luma, corner)
    if int(told(found).sum()) < LEAST:
        return None
    gains = [gain(found, table(quality)) for quality in range(1, FINEST + 1)]
    best = max(range(len(gains)), key=lambda index: gains[index])
    return Compression(best + 1, corner, gains[best]) if gains[best] > SURE else None


def luminance(image: Tensor) -> Tensor:
    """Grey levels 0 to 255 of the middle, as large as `MOST` blocks at most; no number where a colour may have been clipped."""
    side = 8 * math.isqrt(MOST) + 8
    top, left = (8 * (max(0, length - side) // 16) for length in image.shape[1:])
    part = 255 * image[:, top : top + side, left : left + side].double()
    grey = part.mean(0) if len(part) != 3 else torch.einsum("c,chw->hw", torch.tensor(LUMA, dtype=torch.float64), part)
    return torch.where(((part > 0.5) & (part < 254.5)).all(0), grey, torch.nan)


def coefficients(luma: Tensor, corner: tuple[int, int]) -> Tensor:
    """(blocks, 8, 8) of the orthonormal cosine transform about the middle grey; what was clipped has left the lattice, and its block."""
    blocks = (luma - 128)[corner[0] :, corner[1] :].unfold(0, 8, 8).unfold(1, 8, 8).reshape(-1, 8, 8)
    blocks = blocks[~blocks.isnan().flatten(1).any(1)]
    return cosines() @ blocks @ cosines().mT


def zeros(luma: Tensor, corner: tuple[int, int]) -> float:
    """The share of coefficients that are 0 to their rounding."""
    found = coefficients(luma, corner)
    return float((found.abs() < 2 * ROUNDING).double().mean()) if len(found) else 0.0


def gain(found: Tensor, steps: Tensor) -> float:
    """The mean over the coefficients that are not 0 of the logarithm of the likelihood ratio."""
    distance = found - steps * (found / steps).round()
    ratio = (steps / (math.sqrt(2 * math.pi) * ROUNDING)).log() - 0.5 * (distance / ROUNDING).square()
    return float(ratio.clamp_min(WORST)[told(found)].mean())


def told(found: Tensor) -> Tensor:
    """Which coefficients are not 0; the mean grey of a block is left out."""
    large = found.abs() > 3 * ROUNDING
    large[:, 0, 0] = False
    return large


@cache
def cosines() -> Tensor:
    """(8, 8), orthonormal."""
    index = torch.arange(8, dtype=torch.float64)
    matrix = torch.cos(math.pi / 8 * index[:, None] * (index + 0.5)) / 2
    matrix[0] /= math.sqrt(2)
    return matrix


@cache
def table(quality: int) -> Tensor:
    """(8, 8): the steps of a quality, those of 50 times 50 / quality below it and 2 - quality / 50 above, 1 to 255."""
    factor = 5000 // quality if quality < 50 else 200 - 2 * quality
    steps = torch.tensor([int(number) for number in STEPS.split()])
    return ((steps * factor + 50) // 100).clamp(1, 255).reshape(8, 8).double()
