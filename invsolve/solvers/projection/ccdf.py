"""CCDF: come closer diffuse faster, replacement that starts low, from a cheap reconstruction."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator import Capability
from invsolve.operator.measurement import minus
from invsolve.priors.base import Denoiser
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solver import Requires, Solver
from invsolve.solvers.projection.common import Replacing
from invsolve.solvers.ranges import need_between
from invsolve.solvers.start import smooth_guess

LEVEL = 2.0  # of s0, the first level by rule


@dataclass(frozen=True)
class CCDF(Replacing):
    """Diffuse a cheap reconstruction to a low level, then take steps of the prior, each followed by a step to the data.

        x = x^ + sigma_max z,   x^ the smooth guess of y (`invsolve.solvers.start`)
        x' = generic step (eta) from x_t with x0_hat to the level sigma
        x = x' + H^T (H H^T + sigma_y^2 / (a sigma^2))^-1 (y + sigma H z - H x')        where sigma >= stop

    a is the share of x' that the step made anew. Both maps of a step are contractions, so that the error of x^ shrinks step by step and
    the levels above sigma_max are not needed. What x^ lacks and the first level's noise does not drown is not made up for: large holes need
    a higher one. More than 20 steps give samples that are worse pictures, up to 2 dB on holes.

    Args:
        steps: network evaluations, all of them below sigma_max.
        eta: share of the ancestral noise, 0 to 1 (the paper's).
        stop: the level, in data units, below which y is not asked any more; 0 to the end.
        grid: name of the sigma grid.
        sigma_max: first noise level in data units, t0 of the paper; None for 2 standard deviations of the prior's data.

    Raises:
        InputError: eta is not in [0, 1]; stop is negative or not finite.

    References:
        Come-Closer-Diffuse-Faster (Chung, Sim, Ye, 2022), arXiv:2112.05146, algorithms 1 to 3.
        Deviations: one start and one data step for all linear operators with a prox, in the place of networks and of a projection per
        task; the noise of y, see `projection.common.replaced`.
    """

    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.PROX}))
    declared_bias: ClassVar[Mapping[str, Any]] = {"mean": 1.0, "cov": 0.4, "trace": (0.55, 1.0)}
    steps: int = 20
    eta: float = 1.0
    stop: float = 0.0
    grid: str = "karras"
    sigma_max: float | None = None

    def __post_init__(self) -> None:
        need_between(self, "eta", 0, 1, ends="[]")
        if not 0 <= self.stop < math.inf:
            raise InputError(f"stop must be finite and not negative; given {self.stop}")

    def top(self, prior: Denoiser) -> float | None:
        """sigma_max, or 2 s0 inside the prior's range."""
        low, high = prior.sigma_range
        return min(max(LEVEL * prior.s0, low), high) if self.sigma_max is None else self.sigma_max

    def first(self, problem: Problem, prior: Denoiser, rng: Rng, sigma: float, start: Step | None) -> tuple[int, Tensor]:
        """The smooth guess about the prior's centre, with noise."""
        if start is not None:
            return start.index + 1, start.x
        away = torch.full_like(problem.image, prior.centre - 0.5)
        centred = replace(problem, y=minus(problem.y, problem.operator(away)), check_range=False)  # the guess is made about 1/2
        return 0, smooth_guess(centred) + away + sigma * rng.normal_like(problem.image)

    @classmethod
    def examples(cls) -> list[Solver]:
        """Eight steps; from a level of one's own."""
        return [cls(steps=8), cls(steps=4, sigma_max=1.0)]
