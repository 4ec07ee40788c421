"""Euler-Maruyama: unconditional sampling by the reverse-time SDE as it stands."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from invsolve.priors.base import Denoiser
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solver import Requires
from invsolve.solvers.diffusion.common import Sampler, estimate, initial


@dataclass(frozen=True)
class EulerMaruyama(Sampler):
    """Draw from the prior by Euler steps of the reverse SDE, whose variance is that of the noise which is taken away.

        x_s = x + (sigma_t^2 - sigma_s^2) score + sqrt(sigma_t^2 - sigma_s^2) z,   score = (D(x, sigma_t) - x) / sigma_t^2

    Its mean is that of `ddpm`; its fresh noise is larger, by sigma_t / sigma_s. So it needs steps that are short on the scale of log sigma,
    and the error of its law falls as one over their number. The last step returns D.

    Args:
        steps: network evaluations.
        grid: name of the sigma grid; a DiffusionPrior brings its own levels.
        sigma_max: first noise level in data units; None for the top of the prior's range.

    References:
        Score-Based Generative Modeling through Stochastic Differential Equations (Song et al., 2021), arXiv:2011.13456, eq. 6 and its
        appendix on reverse diffusion samplers, for the VE SDE.
        Deviation: on the grid of the other samplers; the last step returns the estimate without noise (the authors' own "denoise"). Agrees
        with the authors' `reverse_diffusion` to 2e-11 on shared noise (benchmarks/results/parity.md).
    """

    requires: ClassVar[Requires] = Requires(noise=(), measurement=False)
    declared_bias: ClassVar[Mapping[str, Any]] = {"mean": 0.1, "cov": 0.35, "trace": (0.95, 1.35)}
    steps: int = 200
    grid: str = "karras"
    sigma_max: float | None = None

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Denoiser, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """The last x is the sample."""
        sigmas = self.sigmas(prior)
        first, x = initial(problem, prior, rng, sigmas[0], start)
        total = len(sigmas) - 1
        for index in range(first, total):
            sigma, following = sigmas[index], sigmas[index + 1]
            x0_hat = estimate(prior, x, sigma)
            x = reverse_diffusion(x, x0_hat, sigma, following, rng)
            yield Step(index, total, x, x0_hat, following)


def reverse_diffusion(x: Tensor, x0_hat: Tensor, sigma: float, following: float, rng: Rng) -> Tensor:
    """The step above from the estimate at sigma; to 0 the estimate itself."""
    if following == 0:
        return x0_hat
    gone = sigma**2 - following**2
    return x + gone / sigma**2 * (x0_hat - x) + math.sqrt(gone) * rng.normal_like(x)
