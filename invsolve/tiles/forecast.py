"""How long a run in pieces will take, before it begins."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from invsolve.operator import Window
from invsolve.priors.base import Prior
from invsolve.problem import Problem
from invsolve.tiles.field import Field
from invsolve.tiles.layout import Tiles
from invsolve.tiles.run import Large

if TYPE_CHECKING:
    from invsolve.solver import Solver

SIDES = (128, 256)  # of the pieces that a forecast is made from


@dataclass(frozen=True)
class Forecast:
    """What a run in pieces will take.

    Args:
        seconds: about.
        pieces: how many.
        evaluations: of the network, per pixel.
    """

    seconds: float
    pieces: int
    evaluations: int

    def __str__(self) -> str:
        rest = f"{self.seconds:.0f} s" if self.seconds < 90 else f"{self.seconds / 60:.1f} min"
        many = f"{self.pieces} pieces" if self.pieces > 1 else "one piece"
        return f"{many}, {self.evaluations} evaluations of the network each, about {rest}"


def forecast(solver: Solver, problem: Problem | Large, prior: Prior, tiles: Tiles | None = None, samples: int | None = None) -> Forecast:
    """How long `solve_tiled` will take, from pieces of 128 and 256 pixels a side in the middle of the image, by seconds = a + b pixels.

    A first run, which loads and compiles, does not count. Solvers that stop by themselves may take longer elsewhere.
    """
    large = problem if isinstance(problem, Large) else Large.of(problem)
    layout = large.layout(tiles or Tiles())
    first, step = layout.windows[0], large.step
    probes = [Window(*centred(large.shape, first, side, step)) for side in (SIDES[0], *SIDES)]
    taken = []
    for window in probes:
        problem = large.piece(window)
        began = time.perf_counter()
        solution = solver.solve(problem, prior, generator=Field(0, problem.items, window, problem.operator.strides), throw=False)
        taken.append((window.height * window.width, time.perf_counter() - began))
    (few, short), (many, long) = taken[1:]
    slope = max(0.0, long - short) / (many - few) if many > few else 0.0
    fixed = max(0.0, short - slope * few)
    seconds = fixed * len(layout.windows) + slope * layout.pixels if slope else long / many * layout.pixels
    return Forecast(seconds * (samples or 1), len(layout.windows), solution.nfe)  # pyright: ignore[reportPossiblyUnboundVariable]


def centred(shape: tuple[int, ...], first: Window, side: int, step: int) -> tuple[int, int, int, int]:
    """A window of about `side` pixels in the middle of the image, on the pieces' grid and no larger than a piece."""
    side = -(-side // step) * step
    height, width = min(side, first.height), min(side, first.width)
    top, left = ((length - own) // 2 // step * step for length, own in zip(shape[1:], (height, width), strict=True))
    return top, left, height, width
