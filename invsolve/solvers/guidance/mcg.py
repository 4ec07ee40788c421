"""MCG: manifold constrained gradients, a gradient through the network and then the measured part of the state from y."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from invsolve.errors import InputError
from invsolve.operator import Capability
from invsolve.operator.measurement import column, minus
from invsolve.priors.base import Denoiser
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solver import Requires, Solver
from invsolve.solvers.diffusion.common import Restorer, generic_step, initial
from invsolve.solvers.guidance.common import guided, linearised
from invsolve.solvers.projection.common import renewed, replaced
from invsolve.solvers.ranges import need_between

LIMIT = 2.0  # of scale, as in `dps`


@dataclass(frozen=True)
class MCG(Restorer):
    """Guide every estimate by the gradient of the misfit through the network, take a step, exchange what the state has of y for y.

        g = scale J^T H^T (y - H x0_hat) / (sigma_y^2 + |H|^2 sigma_t^2),   J = d x0_hat / d x_t
        x' = generic step (eta) from x0_hat + sigma_t^2 g to the level sigma
        x = x' + H^T (H H^T + sigma_y^2 / (a sigma^2))^-1 (y + sigma H z - H x'),   a the share of x' that is not x_t's

    The gradient carries into the null space what the replacement alone tells it one denoising later.

    Args:
        steps: network evaluations, each with a backward pass.
        scale: weight of the gradient, 0 <= scale < 2. Of three crops (`natural`, sigma_y .05, 50 steps) 0, which is `ilvr`, and .25 are
            alike, 1 loses .4 dB on blurs, .9 on holes and 1.4 on 4 x 4 means.
        eta: share of the ancestral noise, 0 to 1 (the paper's).
        grid: name of the sigma grid.
        sigma_max: first noise level in data units; None for 20 standard deviations of the prior's data on the grid `karras`.

    Raises:
        InputError: scale is negative, or 2 and more; eta is not in [0, 1].

    References:
        Improving Diffusion Models for Inverse Problems using Manifold Constraints (Chung, Sim, Ryu, Ye, 2022), arXiv:2206.00941, eq. 14, 15
        and algorithms 1 to 3.
        Deviations: the gradient has `dps`'s weight in the place of alpha / |y - H x0_hat|, tuned for each task; the noise of y in the
        projection, see `projection.common.replaced`, for which the paper has no place; a prox for the code's transposes, which are no
        adjoints; it starts from y. The authors' code noises y to the level before the step; with that and the weight undone it agrees to
        8e-15 on shared noise (benchmarks/results/parity.md).
    """

    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.PROX}), gradient=True)
    declared_bias: ClassVar[Mapping[str, Any]] = {"mean": 0.85, "cov": 0.5, "trace": (0.7, 1.3)}
    steps: int = 50
    scale: float = 0.25
    eta: float = 1.0
    grid: str = "karras"
    sigma_max: float | None = None

    def __post_init__(self) -> None:
        need_between(self, "eta", 0, 1, ends="[]")
        if not 0 <= self.scale < LIMIT:
            raise InputError(f"scale must be at least 0 and below 2, where a step overshoots the data; given {self.scale}")

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Denoiser, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """The last x is the answer."""
        sigmas = self.sigmas(prior)
        operator = problem.operator
        first, x = initial(problem, prior, rng, sigmas[0], start, operator.prox)
        total = len(sigmas) - 1
        for index in range(first, total):
            sigma, following = sigmas[index], sigmas[index + 1]
            x0_hat, pulled = linearised(prior, x, sigma)
            width = problem.sigma.square() + (problem.gain * sigma).square()
            gradient = column(self.scale / width, x) * pulled(operator.adjoint(minus(problem.y, operator(x0_hat))))
            x = generic_step(x, guided(x0_hat, gradient, sigma), sigma, following, self.eta, rng)
            x = replaced(problem, x, following, renewed(sigma, following, self.eta), rng)
            yield Step(index, total, x, x0_hat, following)

    @classmethod
    def examples(cls) -> list[Solver]:
        """Eight steps; from a level of one's own."""
        return [cls(steps=8), cls(steps=4, sigma_max=2.0)]
