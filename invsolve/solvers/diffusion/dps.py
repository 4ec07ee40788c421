"""DPS: diffusion posterior sampling, the likelihood's gradient taken through the network."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.measurement import flat, minus
from invsolve.meter import network_time
from invsolve.noise import PoissonNoise
from invsolve.operator import Capability
from invsolve.priors.base import Denoiser
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solver import Requires
from invsolve.solvers.diffusion.common import Sampler, estimate, generic_step, initial, inner_norm


@dataclass(frozen=True)
class DPS(Sampler):
    """Ancestral sampling, each step followed by a gradient step on the residual's norm.

        x_s = ancestral(x_t, x0_hat) - (scale / 2) sqrt((1 + 4 sigma_t^2)(1 + 4 sigma_s^2)) grad_{x_t} |y - H(x0_hat(x_t))|

    Works for any differentiable operator. sigma_y does not enter: this is a heuristic, not a sampler of p(x | y); its bias
    under a Gaussian prior is recorded by the tests.

    Args:
        steps: network evaluations, each with a backward pass.
        scale: the authors' zeta: 0.3 (deblurring, super-resolution) to 1 at their 1000 steps; fewer steps want more.
        grid: name of the sigma grid; a DiffusionPrior brings its own levels.
        sigma_max: first noise level in data units; None for the top of the prior's range.

    References:
        Diffusion Posterior Sampling for General Noisy Inverse Problems (Chung et al., 2023), arXiv:2209.14687, algorithm 1.
        The norm, not its square, as the authors' code has it (the paper's zeta_i = zeta' / |y - H x0_hat| makes both agree).
        The factor (1/2) sqrt(...) carries their step from a VP state in [-1, 1] to a VE state in [0, 1].
        Deviations: norms are per item, so that a batch is its items; a residual of 0 has gradient 0, not NaN; for Poisson noise the
        residual is weighted by sqrt(mean v / v), v = gain max(y, gain), which is 1 where the noise is even, instead of the authors'
        division by |y|; noise where a mask measures nothing does not enter the norm (E9), since a Problem sets y to 0 there.
    """

    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.DIFFERENTIABLE}), noise=frozenset(), gradient=True)
    steps: int = 250
    scale: float = 1.0
    grid: str = "karras"
    sigma_max: float | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and self.scale >= 0):
            raise InputError(f"scale must be finite and not negative; given {self.scale}")

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Denoiser, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """The last x is the answer."""
        sigmas = self.sigmas(prior)
        first, x = initial(problem, prior, rng, sigmas[0], start)
        total = len(sigmas) - 1
        weight = residual_weight(problem)
        for index in range(first, total):
            sigma, following = sigmas[index], sigmas[index + 1]
            x0_hat, norm, gradient = self._guide(problem, prior, x, sigma, weight)
            x = generic_step(x, x0_hat, sigma, following, 1.0, rng)
            x = x - 0.5 * self.scale * math.sqrt((1 + 4 * sigma**2) * (1 + 4 * following**2)) * gradient
            yield Step(index, total, x, x0_hat, following, stats={"residual": norm})

    @staticmethod
    def _guide(problem: Problem, prior: Denoiser, x: Tensor, sigma: float, weight: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """x0_hat, |y - H x0_hat| per item, and its gradient in x."""
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            x0_hat = estimate(prior, x, sigma)
            residual = flat(minus(problem.y, problem.operator(x0_hat)))
            norm = inner_norm(residual if weight is None else weight * residual)
            with network_time():  # the backward pass is the network's time too
                (gradient,) = torch.autograd.grad(norm.sum(), x)
        return x0_hat.detach(), norm.detach(), gradient


def residual_weight(problem: Problem) -> Tensor | None:
    """sqrt(mean v / v) per measurement for Poisson noise, (B, m); None where the noise is even."""
    if not isinstance(problem.noise, PoissonNoise):
        return None
    variance = problem.noise.gain * flat(problem.y).clamp_min(problem.noise.gain)
    return (variance.mean(1, keepdim=True) / variance).sqrt()
