"""Whether a measurement looks like those of the draws: a prior predictive check (Box 1980).

    t = (s(y) - mean_j s(y_j)) / (std_j s(y_j) sqrt(1 + 1/N))  ~  Student's t with N - 1 degrees of freedom

if s(y) and the s(y_j) are independent draws of one normal law. s: numbers that a picture's looks move: its mean, the logarithms of its
contrast and of its energy in bands of frequency, the kurtosis of its differences. p is that of the most surprising one times how many were
looked at (Bonferroni). The smallest draws that are too few to speak (fewer than 4) give no verdict.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from scipy import stats
from torch import Tensor

from invsolve.operator.measurement import parts
from invsolve.predictive.draws import SIDE, Draws, window
from invsolve.problem import Problem

LEVEL = 0.01
LEAST = 4
BANDS = ((0.0, 0.1), (0.1, 0.25), (0.25, 0.75))  # cycles per sample, from below the first to the corner


@dataclass(frozen=True)
class Fit:
    """The verdict.

    Args:
        p: how often as surprising a measurement comes about if the prior is right; of several items the least, times their number; NaN
            where nothing could be said.
        what: the most surprising number, in words.
        score: its t.
        level: below which p counts as a misfit.
    """

    p: float
    what: str = ""
    score: float = math.nan
    level: float = LEVEL

    @property
    def fits(self) -> bool:
        """Whether nothing speaks against the prior."""
        return not self.p < self.level

    @property
    def said(self) -> str:
        """In a sentence."""
        if math.isnan(self.p):
            return "too few draws, or of another size, to say whether the measurement looks like theirs"
        if self.fits:
            return f"the measurement looks like those of the draws (p = {self.p:.2g})"
        side = "more" if self.score > 0 else "less"
        return (
            f"THE MEASUREMENT DOES NOT LOOK LIKE THE DRAWS: {side} {self.what} than they have (p = {self.p:.1g}). Give pictures like it, "
            "pool=FOLDER, or another prior; settings and intervals found on these draws may not hold"
        )

    def record(self) -> dict[str, Any]:
        """As JSON data."""
        return {"p": None if math.isnan(self.p) else self.p, "fits": self.fits, "said": self.said}


def fit(problem: Problem, draws: Draws) -> Fit:
    """Hold a measurement against those of the draws."""
    several = draws.problem.operator.batch is not None or draws.problem.noise.batch is not None
    names, mine = looks(problem)
    _, theirs = looks(draws.problem)
    worst = Fit(math.nan)
    for item in range(problem.batch):
        rows = theirs[item % problem.batch :: problem.batch] if several else theirs
        if len(rows) < LEAST:
            continue
        spread = rows.std(0).clamp_min(1e-6 * (1 + rows.abs().mean(0)))
        t = (mine[item] - rows.mean(0)) / (spread * math.sqrt(1 + 1 / len(rows)))
        place = int(t.abs().argmax())
        p = min(1.0, 2 * float(stats.t.sf(abs(float(t[place])), len(rows) - 1)) * len(names) * problem.batch)
        if math.isnan(worst.p) or p < worst.p:
            worst = Fit(p, names[place], float(t[place]))
    return worst


def look(problem: Problem, draws: Draws, side: int = SIDE) -> Fit:
    """The same of a problem of any size: of a large one the window that the draws are of is held against them; no verdict without one."""
    for mine in (problem, window(problem, side)):
        if mine.operator.in_shape == draws.problem.operator.in_shape:
            return fit(mine, draws)
    return Fit(math.nan)


def looks(problem: Problem) -> tuple[list[str], Tensor]:
    """(names, numbers (B, K)) of what y looks like."""
    names, columns = [], []
    for index, part in enumerate(parts(problem.y)):
        real = (torch.view_as_real(part).movedim(-1, 1).flatten(1, 2) if part.is_complex() and part.ndim > 2 else part.abs()).double()
        of = f" in part {index}" if isinstance(problem.y, tuple) else ""
        for name, column in numbers(real):
            names.append(name + of)
            columns.append(column)
    return names, torch.stack(columns, 1).cpu()


def numbers(y: Tensor) -> list[tuple[str, Tensor]]:
    """Named numbers per item of a measurement (B, ...)."""
    flat = y.flatten(1)
    centred = flat - flat.mean(1, keepdim=True)
    found = [("brightness", flat.mean(1)), ("contrast", log(centred.square().mean(1)))]
    if y.ndim != 4 or min(y.shape[-2:]) < 8:
        return found
    steps = torch.cat([y.diff(dim=-1).flatten(1), y.diff(dim=-2).flatten(1)], 1)
    found.append(("outliers among differences of neighbours", log(steps.pow(4).mean(1) / steps.square().mean(1).square().clamp_min(1e-30))))
    power = torch.fft.rfft2(y - y.mean((-2, -1), keepdim=True), norm="ortho").abs().square().mean(1)
    rows, columns = torch.fft.fftfreq(y.shape[-2], device=y.device), torch.fft.rfftfreq(y.shape[-1], device=y.device)
    radius = (rows[:, None].square() + columns.square()).sqrt()
    for name, (low, high) in zip(("coarse structure", "middle structure", "fine structure"), BANDS, strict=True):
        ring = (radius > low) & (radius <= high)
        if bool(ring.any()):  # small measurements have no coarse band
            found.append((name, log(power[:, ring].mean(1))))
    return found


def log(x: Tensor) -> Tensor:
    """Of what may be 0."""
    return x.clamp_min(1e-30).log()
