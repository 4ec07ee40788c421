"""Masks like damage: scratches and dust on film, and text laid over the picture."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator import Operator, Shape, image_shape
from invsolve_operators.masks.drawn import DrawnMask, Draws, erase_line
from invsolve_operators.masks.mask import Mask

TEXT = "The quick brown fox jumps over the lazy dog. "


class FilmMask(DrawnMask):
    """Scratches that wander down the picture, hairs that curl, and specks of dust, all missing.

    With density d: 4 d scratches, 2 d hairs and 60 d specks on average (Poisson numbers), their widths and lengths those of a
    256-pixel side, scaled with the shorter side.

    Args:
        in_shape: (C, H, W).
        density: how much damage; 1 leaves out about 5 % of a square picture.
        seed, items: see `invsolve_operators.masks.drawn`.

    Raises:
        InputError: density is negative, not finite or above 20.
    """

    def __init__(self, in_shape: Sequence[int], density: float = 1.0, seed: int = 0, items: int | None = None) -> None:
        if not isinstance(density, int | float) or not 0 <= density <= 20:
            raise InputError(f"density must be a number in [0, 20]; given {density!r}")

        def draw(draws: Draws, sides: Shape) -> Tensor:
            mask, scale = torch.ones(sides), min(sides) / 256
            for _ in range(poisson(draws, 4 * density)):
                scratch(mask, draws, scale)
            for _ in range(poisson(draws, 2 * density)):
                hair(mask, draws, scale)
            for _ in range(poisson(draws, 60 * density)):
                speck(mask, draws, scale)
            return mask

        super().__init__(in_shape, draw, seed, items, "film-mask")

    @classmethod
    def examples(cls) -> list[Operator]:
        """One for all, and one each."""
        return [cls((3, 8, 8)), cls((1, 12, 9), 3.0, seed=1, items=3)]


def poisson(draws: Draws, rate: float) -> int:
    """A Poisson number: how many exponential waiting times fit into the rate."""
    count, waited = 0, -math.log(1 - draws.uniform())
    while waited < rate:
        count, waited = count + 1, waited - math.log(1 - draws.uniform())
    return count


def scratch(mask: Tensor, draws: Draws, scale: float) -> None:
    """A thin line from top to bottom (a third of them shorter), whose column wanders as a smooth random walk."""
    height, width = mask.shape
    column, thickness = draws.uniform(0, width), scale * draws.uniform(1, 3)
    top, bottom = (0.0, float(height))
    if draws.uniform() < 1 / 3:
        top, bottom = sorted((draws.uniform(0, height), draws.uniform(0, height)))
    steps = max(2, math.ceil((bottom - top) / max(8 * scale, 1)))
    drift = draws.normals(steps).cumsum(0) * scale * 0.6
    rows = torch.linspace(top, bottom, steps + 1).tolist()
    columns = [column, *(column + drift).tolist()]
    for index in range(steps):
        erase_line(mask, (rows[index], columns[index]), (rows[index + 1], columns[index + 1]), thickness)


def hair(mask: Tensor, draws: Draws, scale: float) -> None:
    """A curl: 20 short steps whose heading turns at random."""
    place, heading = [draws.uniform(0, side) for side in mask.shape], draws.uniform(0, 2 * math.pi)
    thickness, step = scale * draws.uniform(1, 2.5), scale * draws.uniform(2, 6)
    for turn in draws.normals(20).tolist():
        heading += 0.35 * turn
        following = [place[0] + step * math.sin(heading), place[1] + step * math.cos(heading)]
        erase_line(mask, (place[0], place[1]), (following[0], following[1]), thickness)
        place = following


def speck(mask: Tensor, draws: Draws, scale: float) -> None:
    """A short thick line: most are small, few are large."""
    row, column = (draws.uniform(0, side) for side in mask.shape)
    size = scale * 1.5 * (1 - draws.uniform()) ** -0.5  # a Pareto tail, as dust has
    size, angle = min(size, 24 * scale), draws.uniform(0, math.pi)
    erase_line(mask, (row, column), (row + 0.5 * size * math.sin(angle), column + 0.5 * size * math.cos(angle)), size)


class TextMask(Mask):
    """Lines of text missing, as a subtitle or a watermark hides them.

    Args:
        in_shape: (C, H, W).
        text: what is written, repeated until the picture is full.
        size: height of a line over the height of the picture.
        spacing: distance of the lines over their height, at least 1.

    Raises:
        InputError: no text, size outside (0, 1], spacing below 1.

    References:
        CoPaint (Zhang et al., 2023), arXiv:2304.03322, section 5: "Text". Deviation: the letters are Pillow's own font.
    """

    def __init__(self, in_shape: Sequence[int], text: str = TEXT, size: float = 0.08, spacing: float = 1.5) -> None:
        shape = image_shape(in_shape)
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"text must have letters; given {text!r}")
        if not isinstance(size, int | float) or not 0 < size <= 1 or not isinstance(spacing, int | float) or not spacing >= 1:
            raise InputError(f"size is a part of the picture's height, in (0, 1], spacing at least 1; given {size!r} and {spacing!r}")
        super().__init__(shape, mask=written(shape[1:], text, size, spacing))

    @classmethod
    def examples(cls) -> list[Operator]:
        """Small and not square."""
        return [cls((3, 16, 16), size=0.5), cls((1, 12, 20), "abc", 0.7)]


def written(sides: Shape, text: str, size: float, spacing: float) -> Tensor:
    """(H, W), 0 where a letter is."""
    from PIL import Image, ImageDraw, ImageFont

    height, width = sides
    letters = max(4.0, size * height)
    picture = Image.new("L", (width, height), 255)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(letters)
    per_line = max(1, math.ceil(width / max(1.0, pen.textlength(text, font=font))) + 1)
    for index in range(math.ceil(height / (letters * spacing))):
        shift = (7 * index) % len(text)
        pen.text((0, index * letters * spacing), (text[shift:] + text * per_line), fill=0, font=font)
    return torch.from_numpy(np.array(picture) > 127).float()
