"""ScoreALD: annealed Langevin dynamics with an annealed likelihood."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.linalg import inner, norm
from invsolve.measurement import column, minus
from invsolve.operator import Capability
from invsolve.priors.base import Denoiser, Prior
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solver import Requires
from invsolve.solvers.diffusion.common import Sampler, estimate, initial

AUTHORS_RATE, AUTHORS_MSE = 5e-5, 5.0  # step_lr and mse of the authors' configuration files


@dataclass(frozen=True)
class ScoreALD(Sampler):
    """Langevin steps on the smoothed posterior, level by level.

        x <- x + h_i [(D(x, sigma_i) - x) / sigma_i^2 + H^T (y - H x) / (sigma_y^2 + gamma_i^2)] + sqrt(2 h_i) z
        gamma_i = gamma |H| sigma_i,
        h_i = step / (1 / sigma_i^2 + |H|^2 / (sigma_y^2 + gamma_i^2)):   a fixed share of the stability limit 2 at every level

    x itself enters the likelihood, so no gradient runs through the network. After the last level one denoising removes what is left of
    the noise (the answer is D(x, sigma_L)).

    Args:
        steps: noise levels; network evaluations are steps * inner + 1.
        inner: Langevin steps per level.
        step: share of the stability limit, 0 < step < 1.
        gamma: width of the likelihood in units of |H| sigma_i, what the noise in x is worth in the measurement; 0 is stiff, about 1 works.
        grid: name of the sigma grid.
        sigma_max: first noise level in data units; None for the top of the prior's range.
        authors: reproduce the authors' recurrence, item E13: the data gradient is rescaled to 5 times the score's norm (per item here),
            without gamma and sigma_y, and h_i = 5e-5 (sigma_i / sigma_L)^2.

    References:
        Robust Compressed Sensing MRI with Deep Generative Priors (Jalal et al., 2021), arXiv:2108.01368, eq. 4 and its section 3.
        Deviations: the step rule above in place of eta_0 (sigma_i / sigma_L)^2, to which it is proportional while gamma_i dominates
        sigma_y; gamma_i in units of |H| sigma_i (the paper leaves its scale open), so that a small |H|, as in super-resolution, does
        not drown the data; |H| by 50 products of the power method; the final denoising.
    """

    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.LINEAR, Capability.ADJOINT}))
    steps: int = 100
    inner: int = 3
    step: float = 0.3
    gamma: float = 1.0
    grid: str = "karras"
    sigma_max: float | None = None
    authors: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.inner, int) or self.inner < 1 or not 0 < self.step < 1 or not 0 <= self.gamma < math.inf:
            raise InputError(
                f"need a whole inner >= 1, 0 < step < 1, gamma >= 0; given inner={self.inner}, step={self.step}, gamma={self.gamma}"
            )

    def gaps(self, problem: Problem, prior: Prior) -> list[str]:
        """A grid that leaves the prior's range; no noise and no gamma, which leaves the likelihood without a width."""
        gaps = super().gaps(problem, prior)
        if self.gamma == 0 and not self.authors and bool((problem.sigma == 0).any()):
            gaps.append("sigma_y = 0 with gamma = 0 leaves the likelihood no width; take gamma > 0")
        return gaps

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Denoiser, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """One Step per level; the last one's x is the answer."""
        sigmas = self.sigmas(prior)[:-1]
        first, x = initial(problem, prior, rng, sigmas[0], start)
        total = len(sigmas)
        bound = norm(problem.operator, x, iterations=50).square().clamp_min(torch.finfo(x.dtype).tiny)
        for index in range(first, total):
            sigma, x0_hat = sigmas[index], x
            rate = self._rate(problem, sigma, sigmas[-1], bound)
            for _ in range(self.inner):
                x0_hat = estimate(prior, x, sigma)
                x = x + column(rate, x) * self._drift(problem, x, x0_hat, sigma, bound) + column((2 * rate).sqrt(), x) * rng.normal_like(x)
            if index == total - 1:
                x = x0_hat = estimate(prior, x, sigma)
            yield Step(index, total, x, x0_hat, sigma if index < total - 1 else 0.0)

    def _width(self, problem: Problem, sigma: float, bound: Tensor) -> Tensor:
        """sigma_y^2 + gamma_i^2, (B,); bound is |H|^2."""
        return problem.sigma**2 + (self.gamma * sigma) ** 2 * bound

    def _rate(self, problem: Problem, sigma: float, last: float, bound: Tensor) -> Tensor:
        if self.authors:
            return torch.full_like(bound, AUTHORS_RATE * (sigma / last) ** 2)
        return self.step / (1 / sigma**2 + bound / self._width(problem, sigma, bound))

    def _drift(self, problem: Problem, x: Tensor, x0_hat: Tensor, sigma: float, bound: Tensor) -> Tensor:
        score = (x0_hat - x) / sigma**2
        data = problem.operator.adjoint(minus(problem.y, problem.operator(x)))
        if self.authors:
            size = inner(data, data).sqrt().clamp_min(torch.finfo(x.dtype).tiny)
            return score + column(AUTHORS_MSE * inner(score, score).sqrt() / size, x) * data
        return score + data / column(self._width(problem, sigma, bound), x)
