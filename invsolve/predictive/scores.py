"""What a setting is chosen by: numbers per item of an answer and its truth, more is better.

psnr          10 log10(1 / mean squared error)       of the answer; of several samples, of their mean
perception    HaarPSI                                of the answer; of several samples, of the first one
calibration   - CRPS                                 of several samples: a proper score, best for the posterior itself
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from invsolve.bench.metrics import Case, HaarPSI
from invsolve.bench.sample_metrics import CRPS
from invsolve.errors import InputError
from invsolve.problem import Problem
from invsolve.solution import Solution

SAMPLES = 4  # that a spread is scored with, unless said
Scorer = Callable[[Solution, Tensor], Tensor]


@dataclass(frozen=True)
class Score:
    """A score by its name.

    Args:
        name: as it was asked for.
        of: (Solution, truth (B, ...)) -> (B,), more is better.
        samples: how many are drawn for it, None for a plain run.
    """

    name: str
    of: Scorer
    samples: int | None = None


def psnr(solution: Solution, truth: Tensor) -> Tensor:
    """PSNR in dB, unclipped as the answer is."""
    return solution.psnr(truth)


def perception(solution: Solution, truth: Tensor) -> Tensor:
    """HaarPSI of one picture, not of a mean, which is smoother than any."""
    if float(truth.min()) < -0.5 or float(truth.max()) > 1.5:
        raise InputError("perception (HaarPSI) is for images in [0, 1]; in another unit give a function of yours as for_")
    shown = solution.x if solution.samples is None else solution.x[0]
    return HaarPSI().compute(shown.clamp(0, 1), truth.clamp(0, 1)).to(truth)


def calibration(solution: Solution, truth: Tensor) -> Tensor:
    """Minus the fair CRPS, mean over values."""
    problem = Problem.unconditional(truth.shape[1:], len(truth), dtype=truth.dtype)
    return -CRPS().measure(Case(problem, truth, solution)).to(truth)


def scored(wanted: str | Scorer, samples: int | None) -> Score:
    """The score of a name or a function.

    Raises:
        InputError: an unknown name, or a spread asked of fewer than two samples.
    """
    if callable(wanted):
        return Score(getattr(wanted, "__name__", "own"), wanted, samples)
    if wanted == "calibration":
        count = SAMPLES if samples is None else samples
        if count < 2:
            raise InputError(f"calibration is about the spread of samples: samples must be at least 2; given {count}")
        return Score("calibration", calibration, count)
    plain = {"psnr": Score("psnr", psnr, samples), "perception": Score("perception", perception, samples)}
    if wanted not in plain:
        raise InputError(f"for_ must be psnr, perception, calibration, or a function (solution, truth) -> (B,); given {wanted!r:.60}")
    return plain[wanted]


def numbers(score: Score, solution: Solution, truth: Tensor) -> list[float]:
    """The score of every item.

    Raises:
        InputError: a function of one's own that gives something else than a number per item.
    """
    found: Any = score.of(solution, truth)
    if not isinstance(found, Tensor) or found.shape != (len(truth),):
        given = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise InputError(f"{score.name} must give a tensor ({len(truth)},), a number per item; given {given}")
    return [float(one) for one in torch.where(found.isfinite(), found, found.new_tensor(-torch.inf))]
