"""What the splitting solvers share: proximal steps of what is believed of x, levels in units of the image, and their checks."""

from __future__ import annotations

import torch
from torch import Tensor

from invsolve.priors.base import Denoiser, Regulariser
from invsolve.problem import Problem

SIGMA_FLOOR = 0.255 / 255  # of sigma_x, DPIR's: the data step of a denoiser stays finite without noise
WEIGHT_FLOOR = 1e-3  # of a regulariser's weight in rules for a penalty, which has to be positive without a regulariser too


def noise_levels(problem: Problem) -> Tensor:
    """sigma_x as (B,), at least SIGMA_FLOOR."""
    return problem.sigma_x.clamp_min(SIGMA_FLOOR)


def pulls(problem: Problem, prior: Regulariser) -> Tensor:
    """weight sigma_x^2, (B,): what the regulariser counts where the data count |Hx - y|^2 / (2 |H|^2)."""
    return prior.weight * problem.sigma_x**2


def data_step(problem: Problem, near: Tensor, rho: Tensor) -> Tensor:
    """argmin |Hx - y|^2 / |H|^2 + rho |x - near|^2; rho (B,) is in units of |H|^2."""
    return problem.operator.prox(near, problem.y, 1 / (rho * problem.gain**2))


def regulariser_prox(prior: Regulariser, x: Tensor, tau: Tensor, dual: Tensor | None, tol: float) -> tuple[Tensor, Tensor | None]:
    """The prox, warm-started where the regulariser offers `prox_with_dual(x, tau, dual, tol)`; its dual belongs to the caller."""
    warm = getattr(prior, "prox_with_dual", None)
    return (prior.prox(x, tau), None) if warm is None else warm(x, tau, dual, tol)


def prox_copies(
    prior: Regulariser, x: Tensor, tau: Tensor, dual: Tensor | None, tol: float, positive: bool
) -> tuple[Tensor, Tensor | None]:
    """The copies of x, (B, 1 or 2, *in_shape), each pulled to what it stands for: R, and x >= 0 where that is asked for."""
    pulled, dual = regulariser_prox(prior, x[:, 0], tau, dual, tol)
    return torch.stack([pulled, x[:, 1].clamp_min(0)] if positive else [pulled], 1), dual


def copies(x: Tensor, positive: bool) -> Tensor:
    """(B, 1, *in_shape), or (B, 2, *in_shape) where x >= 0 has a copy of its own."""
    return torch.stack([x, x.clamp_min(0)] if positive else [x], 1)


def level_gaps(prior: Denoiser, named: dict[str, float | None]) -> list[str]:
    """Levels that were asked for and leave the denoiser's sigma_range; those that follow from a rule stay inside it by themselves."""
    low, high = prior.sigma_range
    slack = 1e-6
    return [
        f"{name}={sigma:.4g} leaves the range {low:.4g} .. {high:.4g} of prior {type(prior).__name__}"
        for name, sigma in named.items()
        if sigma is not None and not low * (1 - slack) <= sigma <= high * (1 + slack)
    ]


def keep(active: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """new for the active items, old for the frozen ones."""
    return torch.where(active.reshape(-1, *[1] * (new.ndim - 1)), new, old)
