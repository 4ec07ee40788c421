"""What the projecting samplers share: what y says in the place of what a state has, at its noise level, and the walk that does so."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from invsolve.operator.measurement import column, mapped
from invsolve.priors.base import Denoiser
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solvers.diffusion.common import FLOOR, Restorer, estimate, generic_step, initial
from invsolve.solvers.diffusion.spectrum import ROUNDINGS
from invsolve.solvers.guidance.common import rows_of


def trust(problem: Problem, spread: float) -> Tensor:
    """(spread / sigma_y)^2, (B,): the tau of a prox that holds an image as sure as `spread` against y.

    sigma_y is at least four roundings of y's root mean square: what lies below says nothing of the image. Without noise the spread is at
    least FLOOR, so that what y resolves is held to it at the end too.
    """
    rows = rows_of(problem.y)
    rounding = ROUNDINGS * torch.finfo(rows.dtype).eps * rows.square().mean(1).sqrt()
    width = torch.where(problem.sigma > 0, torch.full_like(rounding, spread), max(spread, FLOOR))
    sigma = torch.maximum(problem.sigma, rounding)
    return torch.where(sigma > 0, (width / sigma).square(), torch.inf)


def replaced(problem: Problem, x: Tensor, sigma: float, share: float, rng: Rng, weight: float = 1.0) -> Tensor:
    """A state at noise level sigma with what it has of y exchanged for y, brought to that level.

        x + weight H^T (H H^T + sigma_y^2 / (share sigma^2))^-1 (y + sigma H z - H x)

    Without noise that is x - H^+ (H x - y_t), y_t = y + sigma H z, the projection of the papers. With noise a component of singular value
    s follows y by w = 1 / (1 + l^2 / (share sigma^2)), l = sigma_y / s: wholly where y is surer than the state, hardly where it is less
    sure; sigma = 0 leaves x as it is. `share` is what the step makes anew of the state. y's noise is the same in every step: what a state
    has of it tends to w l / share, which is below sigma where l is large. Without the share it is above, a noise that the network is not
    told of: on blurs (`natural`, sigma_y .05, 50 steps) 5 dB.
    """
    aim, tau = problem.y, trust(problem, math.sqrt(share) * sigma)
    if sigma > 0:
        aim = mapped(torch.add, aim, problem.operator(sigma * rng.normal_like(x)))
        moved = problem.operator.prox(x, aim, tau)
    else:  # a prox by iteration has none at tau = 0, where x stays
        moved = torch.where(column(tau > 0, x).bool(), problem.operator.prox(x, aim, torch.where(tau > 0, tau, 1.0)), x)
    return moved if weight == 1 else x + weight * (moved - x)


def renewed(sigma: float, following: float, eta: float) -> float:
    """The share of the state that a generic step makes anew, 1 less what it keeps of x_t."""
    return 1 - following / sigma * math.sqrt(1 - eta**2 * (1 - (following / sigma) ** 2))


class Replacing(Restorer):
    """A sampler that takes a step of the prior and puts y into the state at the level reached, down to the level `stop`.

    A subclass has the fields eta and stop besides those of a Restorer.
    """

    eta: float
    stop: float

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Denoiser, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """The last x is the answer."""
        sigmas = self.sigmas(prior)
        first, x = self.first(problem, prior, rng, sigmas[0], start)
        total = len(sigmas) - 1
        for index in range(first, total):
            sigma, following = sigmas[index], sigmas[index + 1]
            x0_hat = estimate(prior, x, sigma)
            x = generic_step(x, x0_hat, sigma, following, self.eta, rng)
            if following >= self.stop:
                x = replaced(problem, x, following, renewed(sigma, following, self.eta), rng)
            yield Step(index, total, x, x0_hat, following)

    def first(self, problem: Problem, prior: Denoiser, rng: Rng, sigma: float, start: Step | None) -> tuple[int, Tensor]:
        """Index and state to begin with."""
        return initial(problem, prior, rng, sigma, start, problem.operator.prox)
