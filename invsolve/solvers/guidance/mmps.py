"""MMPS: moment matching posterior sampling, the covariance of x0 given x_t taken from the network's Jacobian."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from invsolve.operator import Capability
from invsolve.operator.measurement import column, minus
from invsolve.priors.base import Denoiser
from invsolve.problem import Problem
from invsolve.ranges import Range, Ranges
from invsolve.solver import Requires, Solver
from invsolve.solvers.diffusion.common import noise_of
from invsolve.solvers.guidance.common import Guided, from_rows, guided, linearised, rows_of
from invsolve.solvers.guidance.gmres import gmres
from invsolve.solvers.ranges import need_count


@dataclass(frozen=True)
class MMPS(Guided):
    """Guide every estimate by grad log p(y | x_t) for x0 | x_t ~ N(x0_hat, C) with Tweedie's covariance C, then go to the next level.

        C = sigma^2 J^T,   J = d x0_hat / d x_t
        g = J^T H^T v,   (sigma_y^2 + H C H^T) v = y - H x0_hat
        D^y = x0_hat + sigma^2 g = x0_hat + C H^T v;   the generic step with eta from D^y

    C is Cov[x0 | x_t] of every prior, so that D^y is exact for every Gaussian one once v is: with as many products as y has entries, and a
    start well above the widest direction of the prior, what is left is the error of the grid, 7 to 8 % of the covariance at 100 steps and
    3 % at 250 (page truth, "mmps, all products"). With 4 products v is exact only of a y of 4 entries, and an ill-conditioned H C H^T at a
    small sigma_y leaves more. J of a network is known by vector-Jacobian products and need not be symmetric: v is the vector of a Krylov
    space with the least residual.

    Args:
        steps: network evaluations, each with iterations + 1 backward passes. A small Gaussian's covariance is 11 % off at 50, 6 % at 100.
        iterations: products with H C H^T a step, at least 1; as many as y has entries are always enough. On photographs 1 to 5 lie within
            .6 dB.
        eta: share of the ancestral noise, 0 (deterministic) to 1. With `natural` and 50 steps 1 is .7 dB better than 0.5, its covariance
            8 % off at 100 steps with a Gaussian.
        diagonal: take v = (y - H x0_hat) / (sigma_y^2 + H C H^T 1), entry by entry: TMPD. Three backward passes a step.
        grid: name of the sigma grid.
        sigma_max: first noise level in data units; None for 20 standard deviations of the prior's data on the grid `karras`.

    Raises:
        InputError: eta is not in [0, 1], iterations is not a whole number >= 1.

    References:
        Learning Diffusion Priors from Observations by Expectation Maximization (Rozet et al., 2024), arXiv:2405.13712, section 4.2 and
        algorithm 2; diagonal: Tweedie Moment Projected Diffusions (Boys et al., 2023), arXiv:2310.06721, eq. 10 and its code.
        Deviations: more iterations than the code's one, by GMRES; it starts from y; the clip of x0_hat is not differentiated; without
        noise sigma_y is 0.001 |H|. TMPD's row sums, which may have any sign where H has both, and then make it diverge, are at least
        r^T H C H^T r / |r|^2, r = y - H x0_hat. Agrees with azula's to 3e-15 on shared noise, iterations alike; TMPD with that floor undone
        to 2e-15 (benchmarks/results/parity.md).
    """

    ranges: ClassVar[Ranges] = {"eta": Range(0.0, 1.0), "iterations": Range(1, 8, whole=True)}
    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.ADJOINT}), gradient=True)
    declared_bias: ClassVar[Mapping[str, Any]] = {"mean": 0.1, "cov": 0.12, "trace": (0.85, 1.0)}
    steps: int = 50
    iterations: int = 4
    eta: float = 0.7
    diagonal: bool = False
    grid: str = "karras"
    sigma_max: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        need_count(self, "iterations")

    def given_y(self, problem: Problem, prior: Denoiser, x: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        """D and D + sigma^2 g."""
        operator, y = problem.operator, problem.y
        x0_hat, pulled = linearised(prior, x, sigma)
        residual = rows_of(minus(y, operator(x0_hat)))
        noise = column(noise_of(problem).square(), residual)

        def spread(rows: Tensor) -> Tensor:  # H C H^T
            return sigma**2 * rows_of(operator(pulled(operator.adjoint(from_rows(rows, y)))))

        if self.diagonal:
            along = (residual * spread(residual)).sum(1) / residual.square().sum(1).clamp_min(torch.finfo(residual.dtype).tiny)
            v = residual / (noise + torch.maximum(spread(torch.ones_like(residual)), column(along.clamp_min(0), residual)))
        else:
            v = gmres(lambda rows: noise * rows + spread(rows), residual, self.iterations)
        return x0_hat, guided(x0_hat, pulled(operator.adjoint(from_rows(v, y))), sigma)

    @classmethod
    def examples(cls) -> list[Solver]:
        """Eight steps; by row sums."""
        return [cls(steps=8), cls(steps=4, diagonal=True, sigma_max=2.0)]
