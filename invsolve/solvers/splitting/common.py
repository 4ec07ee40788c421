"""What the splitting solvers share: the proximal step of a regulariser, and the checks of a denoiser's levels."""

from __future__ import annotations

import torch
from torch import Tensor

from invsolve.noise import GaussianNoise, NoNoise
from invsolve.priors.base import Denoiser, Regulariser
from invsolve.problem import Problem
from invsolve.solvers.variational.common import levels

SIGMA_FLOOR = 0.255 / 255  # DPIR's: the data step stays finite without noise


def noise_levels(problem: Problem) -> Tensor:
    """sigma_y as (B,), at least SIGMA_FLOOR."""
    return levels(problem).clamp_min(SIGMA_FLOOR)


def regulariser_prox(prior: Regulariser, x: Tensor, tau: Tensor, dual: Tensor | None, tol: float) -> tuple[Tensor, Tensor | None]:
    """The prox, warm-started where the regulariser offers `prox_with_dual(x, tau, dual, tol)`; its dual belongs to the caller."""
    warm = getattr(prior, "prox_with_dual", None)
    return (prior.prox(x, tau), None) if warm is None else warm(x, tau, dual, tol)


def level_gaps(problem: Problem, prior: Denoiser, named: dict[str, float]) -> list[str]:
    """Levels that leave the denoiser's sigma_range; nothing is clamped to its upper end."""
    low, high = prior.sigma_range
    slack = 1e-6
    gaps = []
    for name, sigma in named.items():
        if not low * (1 - slack) <= sigma <= high * (1 + slack):
            gaps.append(f"{name}={sigma:.4g} leaves the range {low:.4g} .. {high:.4g} of prior {type(prior).__name__}")
    noise = problem.noise
    if isinstance(noise, GaussianNoise | NoNoise) and float(noise.sigma.max()) > high * (1 + slack):
        gaps.append(f"the noise level {float(noise.sigma.max()):.4g} is above the range {low:.4g} .. {high:.4g} of the prior")
    return gaps


def keep(active: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """new for the active items, old for the frozen ones."""
    return torch.where(active.reshape(-1, *[1] * (new.ndim - 1)), new, old)
