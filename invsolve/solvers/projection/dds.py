"""DDS: decomposed diffusion sampling, a few conjugate-gradient steps on the data from every estimate."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator import Capability
from invsolve.operator.measurement import column, minus
from invsolve.priors.base import Denoiser
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solver import Requires, Solver
from invsolve.solvers.diffusion.common import Restorer, estimate, initial, noise_of, proximal, white_spread
from invsolve.solvers.lanczos import shifted_solve
from invsolve.solvers.ranges import need_between, need_count


@dataclass(frozen=True)
class DDS(Restorer):
    """Pull every estimate to the data by a few steps of conjugate gradients, go to the next noise level with part of the noise fresh.

        x0~ = CG from x0_hat on (1 + gamma H^T H) x = x0_hat + gamma H^T y
        gamma = r^2 / sigma_y^2,   r^2 = s0^2 sigma^2 / (s0^2 + sigma^2)
        x_s = x0~ + sigma_s (sqrt(1 - eta^2) (x_t - x0_hat) / sigma_t + eta z);   the last step returns x0~

    It asks for H and H^T only, and for no derivative of the network: made for operators too large for anything else.

    Args:
        steps: network evaluations.
        gamma: weight of the data in units of 1 / |H|^2, the same at all levels and for all noise (the paper's is 1); None for r^2 over
            sigma_y^2.
        iterations: of conjugate gradients, at least 1, each a product with H^T H.
        eta: share of fresh noise, 0 to 1.
        grid: name of the sigma grid.
        sigma_max: first noise level in data units; None for 20 standard deviations of the prior's data on the grid `karras`.

    Raises:
        InputError: gamma is not positive and finite, iterations not a whole number >= 1, eta not in [0, 1].

    References:
        Decomposed Diffusion Sampler for Accelerating Large-Scale Inverse Problems (Chung, Lee, Ye, 2024), arXiv:2303.05754, algorithm 1
        (2-D, without the TV along the third axis).
        Deviations: gamma follows the noise; the iterate of conjugate gradients is computed with directions that stay orthogonal; it starts
        from y; without noise sigma_y is 0.001 |H|. The authors' code leaves the noise out one level before the last; with it, and gamma
        given, it agrees to 1e-15 on shared noise (benchmarks/results/parity.md).
    """

    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.ADJOINT}))
    declared_bias: ClassVar[Mapping[str, Any]] = {"mean": 0.5, "cov": 0.6, "trace": (0.4, 0.7)}
    steps: int = 50
    gamma: float | None = None
    iterations: int = 5
    eta: float = 1.0
    grid: str = "karras"
    sigma_max: float | None = None

    def __post_init__(self) -> None:
        need_between(self, "eta", 0, 1, ends="[]")
        need_count(self, "iterations")
        if self.gamma is not None and not 0 < self.gamma < math.inf:
            raise InputError(f"gamma must be positive and finite; given {self.gamma}")

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Denoiser, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """The last x is the answer."""
        sigmas = self.sigmas(prior)
        first, x = initial(problem, prior, rng, sigmas[0], start, proximal(problem))
        total = len(sigmas) - 1
        for index in range(first, total):
            sigma, following = sigmas[index], sigmas[index + 1]
            x0_hat = estimate(prior, x, sigma)
            x0 = self._pulled(problem, prior, x0_hat, sigma)
            x = x0 + following / sigma * math.sqrt(1 - self.eta**2) * (x - x0_hat)
            if following > 0 and self.eta > 0:
                x = x + following * self.eta * rng.normal_like(x)
            yield Step(index, total, x, x0, following)

    def _pulled(self, problem: Problem, prior: Denoiser, x0_hat: Tensor, sigma: float) -> Tensor:
        """x0~; in the unknown x - x0_hat the right-hand side is gamma H^T (y - H x0_hat), and the start 0."""
        operator = problem.operator
        if self.gamma is None:
            gamma = white_spread(prior, sigma) / noise_of(problem).square()
        else:
            gamma = self.gamma / problem.gain.square()
        right = column(gamma, x0_hat) * operator.adjoint(minus(problem.y, operator(x0_hat)))
        return x0_hat + shifted_solve(lambda v: operator.adjoint(operator(v)), right, gamma, self.iterations)

    @classmethod
    def examples(cls) -> list[Solver]:
        """Eight steps; the paper's weight."""
        return [cls(steps=8), cls(steps=4, gamma=1.0, iterations=2, eta=0.0, sigma_max=2.0)]
