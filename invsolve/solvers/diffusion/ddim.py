"""DDIM: unconditional sampling from a diffusion prior, with eta from deterministic (0) to ancestral (1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from invsolve.errors import InputError
from invsolve.priors.base import Denoiser
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solver import Requires, Solver
from invsolve.solvers.diffusion.common import Sampler, estimate, generic_step, initial


@dataclass(frozen=True)
class DDIM(Sampler):
    """Draw from the prior by the generic step, deterministic after the initial noise.

        x_s = x0_hat + sigma_s (sqrt(1 - eta^2 r) eps_hat + eta sqrt(r) z),   r = 1 - sigma_s^2 / sigma_t^2

    Args:
        steps: network evaluations.
        eta: 0 deterministic, 1 ancestral.
        grid: name of the sigma grid; a DiffusionPrior brings its own levels.
        sigma_max: first noise level in data units; None for the top of the prior's range.

    References:
        Denoising Diffusion Implicit Models (Song et al., 2021), arXiv:2010.02502, eq. 12 and 16.
        Deviation: in VE form on [0, 1] data, which is the same map in other variables.
    """

    requires: ClassVar[Requires] = Requires(noise=(), measurement=False)
    declared_bias: ClassVar[Mapping[str, Any]] = {"mean": 0.1, "cov": 0.2, "trace": (0.8, 1.05)}
    steps: int = 50
    eta: float = 0.0
    grid: str = "karras"
    sigma_max: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise InputError(f"eta must lie in [0, 1]; given {self.eta}")

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Denoiser, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """The last x is the sample."""
        sigmas = self.sigmas(prior)
        first, x = initial(problem, prior, rng, sigmas[0], start)
        total = len(sigmas) - 1
        for index in range(first, total):
            x0_hat = estimate(prior, x, sigmas[index])
            x = generic_step(x, x0_hat, sigmas[index], sigmas[index + 1], self.eta, rng)
            yield Step(index, total, x, x0_hat, sigmas[index + 1])

    @classmethod
    def examples(cls) -> list[Solver]:
        """Eight steps; deterministic, and half way to ancestral where eta is a choice."""
        return [cls(steps=8)] if cls.eta == 1 else [cls(steps=8), cls(steps=8, eta=0.5)]
