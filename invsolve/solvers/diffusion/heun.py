"""Heun: unconditional sampling by EDM's second-order integrator."""

from __future__ import annotations

import math
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
from invsolve.solvers.diffusion.common import Sampler, estimate, initial


@dataclass(frozen=True)
class Heun(Sampler):
    """Draw from the prior by the probability-flow ODE, second order, with optional churn.

        x^ = x + sqrt(sigma^^2 - sigma_i^2) s_noise z,  sigma^ = sigma_i (1 + gamma);   d = (x^ - D(x^, sigma^)) / sigma^
        x' = x^ + (sigma_{i+1} - sigma^) d;  if sigma_{i+1} > 0: d' at (x', sigma_{i+1}), x' = x^ + (sigma_{i+1} - sigma^)(d + d') / 2

    Args:
        steps: noise levels; the network is evaluated 2 steps - 1 times.
        churn: S_churn; gamma = min(churn / steps, sqrt(2) - 1) where s_min <= sigma_i <= s_max.
        s_min, s_max: where churn applies, in data units.
        s_noise: factor on the noise that churn adds.
        grid: name of the sigma grid.
        sigma_max: first noise level in data units; None for the top of the prior's range.

    References:
        Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022), arXiv:2206.00364, algorithm 2.
        Deviation: the state stays in y's dtype (the authors keep it in float64); churn never leaves the prior's sigma_range. Agrees with
        the authors' code to 8e-16 on shared noise, the last undone (benchmarks/results/parity.md).
    """

    requires: ClassVar[Requires] = Requires(noise=(), measurement=False)
    declared_bias: ClassVar[Mapping[str, Any]] = {"mean": 0.1, "cov": 0.25, "trace": (1.0, 1.25)}
    steps: int = 18
    churn: float = 0.0
    s_min: float = 0.0
    s_max: float = math.inf
    s_noise: float = 1.0
    grid: str = "karras"
    sigma_max: float | None = None

    def __post_init__(self) -> None:
        if not (0 <= self.churn < math.inf and 0 < self.s_noise < math.inf):
            raise InputError(f"need churn >= 0 and s_noise > 0; given churn={self.churn}, s_noise={self.s_noise}")

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Denoiser, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """The last x is the sample."""
        sigmas = self.sigmas(prior)
        first, x = initial(problem, prior, rng, sigmas[0], start)
        total = len(sigmas) - 1
        for index in range(first, total):
            sigma, following = sigmas[index], sigmas[index + 1]
            gamma = min(self.churn / total, math.sqrt(2) - 1) if self.s_min <= sigma <= self.s_max else 0.0
            raised = min(sigma * (1 + gamma), prior.sigma_range[1])
            if raised > sigma:
                x = x + math.sqrt(raised**2 - sigma**2) * self.s_noise * rng.normal_like(x)
            else:
                raised = sigma
            x0_hat = estimate(prior, x, raised)
            slope = (x - x0_hat) / raised
            ahead = x + (following - raised) * slope
            if following > 0:
                x0_hat = estimate(prior, ahead, following)
                slope = 0.5 * (slope + (ahead - x0_hat) / following)
                ahead = x + (following - raised) * slope
            x = ahead
            yield Step(index, total, x, x0_hat, following)

    @classmethod
    def examples(cls) -> list[Solver]:
        """Eight steps, deterministic and with churn."""
        return [cls(steps=8), cls(steps=8, churn=2.0, s_noise=1.003)]
