"""PSLD: latent DPS with a second pull, to the code of what y leaves of the decoded image."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator import Capability
from invsolve.operator.measurement import flat, minus
from invsolve.priors.base import Denoiser, Prior
from invsolve.priors.meter import network_time
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solver import Requires, Solver
from invsolve.solvers.diffusion.common import Prox, Restorer, estimate, generic_step, initial, noise_of, proximal, white_spread
from invsolve.solvers.latent.common import code_gaps, latent_of
from invsolve.solvers.ranges import need_between

LIMIT = 2.0  # of scale + glue: at it a step changes the residual along the largest singular vector by twice that residual


@dataclass(frozen=True)
class PSLD(Restorer):
    """Guide every estimate by the likelihood and by the code of its own image with y put in, then go to the next noise level.

        x_hat = D(z0_hat),   x_y = argmin_x |y - H x|^2 / sigma_y^2 + |x - x_hat|^2 / rho^2   (without noise x_hat + H^+ (y - H x_hat))
        z0~ = z0_hat - w/2 grad_{z_t} (scale |y - H x_hat|^2 / |H D|^2 + glue |z0_hat - E(x_y)|^2),   w = sigma^2 / (sigma^2 + sigma_z^2)
        z_s = z0~ + sigma_s (sqrt(1 - zeta) (z_t - z0~) / sigma_t + sqrt(zeta) n);   the last step returns z0~

    sigma_z = sigma_y / |H D| is y's noise in units of the codes, rho = |D| r with r of a white prior. Many codes fit y, D not being one to
    one in what it leaves of H: the second pull, "gluing", asks for one whose image is decoded from its own code.

    Args:
        steps: network evaluations, each with a backward pass through network and decoder, and a pass through the encoder.
        scale: weight of the likelihood, at least 0; scale + glue < 2.
        glue: weight of the second pull, at least 0; 0 is `latent-dps`.
        zeta: share of fresh noise, 0 to 1; None for the ancestral share 1 - (sigma_s / sigma_t)^2.
        grid: name of the sigma grid.
        sigma_max: first noise level, in units of the codes; None for 20 standard deviations of the codes.

    Raises:
        InputError: a field out of its range.

    References:
        Solving Linear Inverse Problems Provably via Posterior Sampling with Latent Diffusion Models (Rout et al., 2023), arXiv:2307.00619,
        algorithm 2.
        Deviations: H^+ (with noise, the proximal step) where their code has H^T, which glues nothing unless H H^T = I, and in its
        operators is no adjoint (E11, E12); y's prediction is not noised anew (E12); squares with weights that follow sigma_y and |H D| in
        place of norms with tuned ones; E(x_y) is held in the gradient, so that nothing is taken through the encoder; zeta.
    """

    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.DIFFERENTIABLE}), gradient=True)
    declared_bias: ClassVar[Mapping[str, Any]] = {"mean": 0.2, "cov": 0.6, "trace": (0.4, 0.6)}
    unreached: ClassVar[Mapping[str, str]] = {"return self.sigma_max": "of Restorer; examples of others reach it"}
    steps: int = 100
    scale: float = 1.0
    glue: float = 0.3
    zeta: float | None = 1.0
    grid: str = "karras"
    sigma_max: float | None = None

    def __post_init__(self) -> None:
        need_between(self, "scale", 0, ends="[)")
        need_between(self, "glue", 0, ends="[)")
        need_between(self, "zeta", 0, 1, ends="[]")
        if self.scale + self.glue >= LIMIT:
            raise InputError(f"scale + glue must be below 2, where a step overshoots the data; given {self.scale} + {self.glue}")

    def gaps(self, problem: Problem, prior: Prior) -> list[str]:
        """A prior of images or without an encoder, an H that is not linear; a grid that leaves the prior's range."""
        return [*code_gaps(problem, prior, "dps", Capability.ADJOINT, encodes=True), *super().gaps(problem, prior)]

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Denoiser, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """The last x is the answer."""
        assert problem.outer is not None
        sigmas, prox = self.sigmas(prior), proximal(problem.outer)
        first, z = initial(problem, prior, rng, sigmas[0], start)
        total = len(sigmas) - 1
        for index in range(first, total):
            sigma, following = sigmas[index], sigmas[index + 1]
            z0_hat, pull = self.guide(problem, prior, z, sigma, prox)
            eta = 1.0 if self.zeta is None else math.sqrt(self.zeta / (1 - (following / sigma) ** 2))
            z = generic_step(z, z0_hat - pull, sigma, following, eta, rng)
            yield Step(index, total, z, z0_hat, following)

    def guide(self, problem: Problem, prior: Denoiser, z: Tensor, sigma: float, prox: Prox) -> tuple[Tensor, Tensor]:
        """z0_hat, and the gradient in z_t of both terms."""
        outer: Any = problem.outer
        latent, size = latent_of(prior), problem.gain.square()
        noise = noise_of(problem).square()
        with torch.enable_grad():
            z = z.detach().requires_grad_(True)
            z0_hat = estimate(prior, z, sigma)
            image = latent.decoder(z0_hat)
            residual = flat(minus(problem.y, outer.operator(image)))
            with torch.no_grad():
                tau = size * white_spread(prior, sigma) / (outer.gain.square() * noise)
                target = latent.encode(prox(image.detach(), problem.y, tau)).to(z)
            apart = (z0_hat - target).flatten(1).square().sum(1)
            misfit = self.scale * residual.abs().square().sum(1) / size + self.glue * apart
            weighed = 0.5 * sigma**2 / (sigma**2 + noise / size) * misfit
            with network_time():
                (gradient,) = torch.autograd.grad(weighed.sum(), z)
        return z0_hat.detach(), gradient

    @classmethod
    def examples(cls) -> list[Solver]:
        """Eight steps."""
        return [cls(steps=8)]
