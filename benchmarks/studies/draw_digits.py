"""The digits of the data set `quick-digits`: drawn here, by strokes that wobble, so that they are nobody's.

    python benchmarks/studies/draw_digits.py [--out FOLDER]

Every digit is one or two strokes through a few points, as a hand would lead a pen. A stroke is a Catmull-Rom curve; points are moved by a
pixel or so, the whole is leant and scaled a little, and ink falls off over a pixel at the edge of the pen.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from invsolve.io.images import write_image
from invsolve.rng import Rng

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
# Points (across, down) in a box of 1 x 1.
STROKES: tuple[tuple[tuple[tuple[float, float], ...], ...], ...] = (
    (((0.55, 0.0), (0.15, 0.25), (0.1, 0.7), (0.45, 1.0), (0.85, 0.75), (0.9, 0.3), (0.55, 0.0)),),
    (((0.6, 0.0), (0.52, 0.5), (0.42, 1.0)),),
    (((0.12, 0.25), (0.4, 0.0), (0.8, 0.2), (0.65, 0.55), (0.1, 0.98)), ((0.1, 0.98), (0.5, 0.92), (0.95, 0.95))),
    (((0.15, 0.1), (0.55, 0.0), (0.8, 0.2), (0.4, 0.45)), ((0.4, 0.45), (0.85, 0.65), (0.7, 0.95), (0.1, 0.95))),
    (((0.35, 0.0), (0.1, 0.55), (0.9, 0.5)), ((0.75, 0.1), (0.68, 0.55), (0.62, 1.0))),
    (((0.85, 0.02), (0.3, 0.05), (0.22, 0.45)), ((0.22, 0.45), (0.7, 0.42), (0.85, 0.75), (0.5, 1.0), (0.1, 0.92))),
    (((0.7, 0.0), (0.25, 0.35), (0.12, 0.75), (0.5, 1.0), (0.85, 0.75), (0.5, 0.55), (0.18, 0.75)),),
    (((0.1, 0.08), (0.5, 0.05), (0.9, 0.05)), ((0.9, 0.05), (0.6, 0.5), (0.4, 1.0))),
    (((0.8, 0.12), (0.4, 0.0), (0.2, 0.25), (0.75, 0.7), (0.45, 1.0), (0.15, 0.75), (0.6, 0.42), (0.8, 0.12)),),
    (((0.8, 0.25), (0.45, 0.0), (0.15, 0.25), (0.45, 0.5), (0.8, 0.25)), ((0.8, 0.25), (0.75, 0.6), (0.6, 1.0))),
)
SIDE, BOX, PEN = 28, (14.0, 19.0), 1.25  # pixels: of the picture, of the digit (across, down), half the pen's width


def curve(points: Tensor, steps: int = 24) -> Tensor:
    """Places on the Catmull-Rom curve through points (n, 2), both ends doubled."""
    ends = torch.cat([points[:1], points, points[-1:]])
    t = torch.linspace(0, 1, steps, dtype=points.dtype)[:, None]
    parts = []
    for a, b, c, d in zip(ends, ends[1:], ends[2:], ends[3:], strict=False):
        parts.append(0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3))
    return torch.cat(parts)


def digit(number: int, seed: int = 0) -> Tensor:
    """(1, 28, 28), white on black."""
    rng = Rng(seed, [number], purpose="draw a digit")
    like = torch.zeros(1, dtype=torch.float64)
    lean, wide, high = (float(value) for value in rng.normal((3,), like)[0])
    places = []
    for stroke in STROKES[number]:
        points = torch.tensor(stroke, dtype=torch.float64)
        size = torch.tensor(BOX) * torch.tensor([1 + 0.08 * wide, 1 + 0.04 * high])
        points = (points - 0.5) * size + 0.45 * rng.normal(tuple(points.shape), like)[0]
        slope = 0.12 + 0.08 * lean
        places.append(curve(torch.stack([points[:, 0] - slope * points[:, 1], points[:, 1]], 1)))
    middle = (SIDE - 1) / 2
    grid = torch.cartesian_prod(*2 * [torch.arange(SIDE, dtype=torch.float64) - middle]).flip(1)
    distance = torch.cdist(grid, torch.cat(places)).amin(1).reshape(1, SIDE, SIDE)
    return ((PEN + 0.5 - distance) / 1.0).clamp(0, 1).pow(0.8)


def main() -> None:
    """Write the ten."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    folder = Path(__file__).parents[1] / "invsolve_benchmarks" / "datasets" / "digits"
    parser.add_argument("--out", type=Path, default=folder)
    given = parser.parse_args()
    for number, name in enumerate(NAMES):
        write_image(given.out / f"{name}.png", digit(number))


if __name__ == "__main__":
    main()
