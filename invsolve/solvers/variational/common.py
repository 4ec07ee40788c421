"""What solvers of a stated objective nll(y, Hx) + weight R(x) share; the first image is that of `invsolve.solvers.start`."""

from __future__ import annotations

import math

from torch import Tensor

from invsolve.noise import Ability, NoNoise
from invsolve.plugins.former import without
from invsolve.priors.base import Regulariser
from invsolve.problem import Problem
from invsolve.solvers.start import first_image

__all__ = ["first_image", "objective", "objective_gaps", "rms"]


def objective_gaps(problem: Problem, prior: Regulariser) -> list[str]:
    """Why nll + weight R is no objective: no noise, or a weight that is not a non-negative number."""
    gaps = []
    noise = problem.noise
    if isinstance(noise, NoNoise):
        gaps.append("without noise nll is 0 or infinite, so there is no objective; give GaussianNoise(sigma) with sigma > 0")
    elif Ability.SIGMA in noise.abilities and not bool((problem.sigma > 0).all()):
        gaps.append(f"sigma must be positive for every item, or nll is infinite; its smallest value is {float(problem.sigma.min()):g}")
    if not (math.isfinite(prior.weight) and prior.weight >= 0):
        gaps.append(f"the weight of prior {type(prior).__name__} must be finite and not negative; given {prior.weight}")
    return gaps


def objective(problem: Problem, prior: Regulariser, x: Tensor) -> Tensor:
    """nll(y, Hx) + weight R(x) per item, (B,)."""
    return problem.noise.nll(problem.y, problem.operator(x)) + prior.weight * prior.value(x)


def rms(x: Tensor) -> Tensor:
    """Root mean square per item, (B,)."""
    return x.flatten(1).square().mean(1).sqrt()


FIRST = "invsolve.solvers.start.smooth_guess(problem), the image that solvers begin at"
without(__name__, {"enlarge": FIRST, "fill": FIRST, "scaled_adjoint": FIRST, "levels": "problem.sigma.expand(problem.batch)"})
