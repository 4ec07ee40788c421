"""PnP-Flow: a step to the data, noise put on, the denoiser's answer taken, at one level after the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from invsolve.operator import Capability
from invsolve.operator.measurement import column, minus
from invsolve.priors.base import Denoiser
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solver import Requires, Solver
from invsolve.solvers.diffusion.common import FLOOR, Restorer, estimate, initial, proximal
from invsolve.solvers.ranges import need_between, need_count


@dataclass(frozen=True)
class PnPFlow(Restorer):
    """One picture by a forward-backward scheme whose denoiser sees points of the flow's path.

        z = x - lr g H^T (Hx - y) / |H|^2,   x = mean over `draws` of D(z + sigma n, sigma)
        g = sigma^2 / (sigma^2 + sigma_x^2),   or (1 - t)^alpha, t = 1 / (1 + sigma) in the prior's unit ([-1, 1])

    sigma_x = sigma_y / |H|, y's noise in the image. Not a sampler: means are taken, and little of the posterior's spread is left.

    Args:
        steps: noise levels.
        draws: of n at each, a network evaluation each.
        lr: 0 < lr < 2; beyond, the step overshoots along the largest singular vector.
        alpha: the paper's exponent, .01 (holes at random) to .8 (denoising), where y's noise enters by nothing else; None for g by sigma_x.
        grid: name of the sigma grid.
        sigma_max: first noise level in data units; None for 20 s0 on the grid `karras`.

    Raises:
        InputError: a field out of its range.

    References:
        PnP-Flow: Plug-and-Play Image Restoration with Flow Matching (Martin et al., 2025), arXiv:2410.02423, algorithm 3.
        Deviations: |H|^2 divides (theirs needs |H| <= 1); g by sigma_x where no alpha is given, since an exponent for each task is no
        default; levels of the grid in place of equal steps of t; the start, which counts for little. With alpha, lr and their levels it
        agrees with the authors' code to 7e-16 on shared noise (benchmarks/results/parity.md).
    """

    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.ADJOINT}))
    noiseless: ClassVar[bool] = True
    declared_bias: ClassVar[Mapping[str, Any]] = {"mean": 0.55, "cov": 0.6, "trace": (0.42, 0.7)}
    steps: int = 50
    draws: int = 1
    lr: float = 1.0
    alpha: float | None = None
    grid: str = "karras"
    sigma_max: float | None = None

    def __post_init__(self) -> None:
        need_count(self, "draws")
        need_between(self, "lr", 0, 2)
        need_between(self, "alpha", 0, ends="[)")

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Denoiser, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """The last x is the answer."""
        sigmas = self.sigmas(prior)
        operator, size = problem.operator, problem.gain.square()
        first, x = initial(problem, prior, rng, 0.0, start, proximal(problem))
        total = len(sigmas) - 1
        for index in range(first, total):
            sigma = sigmas[index]
            length = column(self.lr * self.share(problem, prior, sigma) / size, x)
            z = x + length * operator.adjoint(minus(problem.y, operator(x)))
            made = [estimate(prior, z + sigma * rng.normal_like(z), sigma) for _ in range(self.draws)]
            x = torch.stack(made).mean(0)
            yield Step(index, total, x, x)

    def share(self, problem: Problem, prior: Denoiser, sigma: float) -> Tensor:
        """g, (B,)."""
        if self.alpha is not None:
            return torch.full_like(problem.gain, (1 - 1 / (1 + prior.unit.sigma(sigma))) ** self.alpha)
        return sigma**2 / (sigma**2 + (problem.sigma / problem.gain).clamp_min(FLOOR).square())

    @classmethod
    def examples(cls) -> list[Solver]:
        """Eight levels, by rule and as in the paper."""
        return [cls(steps=8), cls(steps=4, draws=2, alpha=0.5, sigma_max=2.0)]
