"""FlowDPS: a flow's estimate pulled to the data, half of its noise drawn anew."""

from __future__ import annotations

import math
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
from invsolve.solvers.diffusion.common import Restorer, estimate, initial, noise_of
from invsolve.solvers.guidance.common import rows_of
from invsolve.solvers.ranges import need_between, need_count


@dataclass(frozen=True)
class FlowDPS(Restorer):
    """Split a flow's state into an image and noise, pull the image to the data, renew a part of the noise, and go on.

        s = sigma / (1 + sigma) in the flow's unit;   z0_y: `inner` steps z <- z - scale w grad 1/2 |y - H(z)|^2 / |H|^2 from z0_hat
        z0~ = (1 - s) z0_hat + s z0_y,   z_next = z0~ + sigma_next (sqrt(s_next) eps_hat + sqrt(1 - s_next) n);   the last is z0_y

    w = sigma^2 / (sigma^2 + sigma_x^2), sigma_x = sigma_y / |H|. H may be H D of a latent flow: the gradient goes through the decoder
    alone, never through the network. s is the weight of the data: the last levels hardly have any, so that the last z0_y is the answer.

    Args:
        steps: network evaluations.
        inner: gradient steps of H each.
        scale: their length, 0 < scale < 2; beyond, a step overshoots along the largest singular vector.
        grid: name of the sigma grid.
        sigma_max: first noise level; None for 20 s0 on the grid `karras`.

    Raises:
        InputError: a field out of its range.

    References:
        FlowDPS: Flow-Driven Posterior Sampling for Inverse Problems (Kim et al., 2025), arXiv:2503.08136, algorithm 1.
        Deviations: steps of the square's gradient in units of |H| and weighed by the noise, theirs of a norm over the batch with a tuned
        length and no sigma_y; H itself for every task, theirs H^+ H or H^T H by the task; no text; the last step.
    """

    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.DIFFERENTIABLE}))
    declared_bias: ClassVar[Mapping[str, Any]] = {"mean": 1.1, "cov": 0.7, "trace": (0.6, 1.3)}
    unreached: ClassVar[Mapping[str, str]] = {"return self.sigma_max": "of Restorer; examples of others reach it"}
    steps: int = 28
    inner: int = 3
    scale: float = 1.5
    grid: str = "karras"
    sigma_max: float | None = None

    def __post_init__(self) -> None:
        need_count(self, "inner")
        need_between(self, "scale", 0, 2)

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Denoiser, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """The last x is the answer."""
        sigmas = self.sigmas(prior)
        first, z = initial(problem, prior, rng, sigmas[0], start)
        total = len(sigmas) - 1
        for index in range(first, total):
            sigma, following = sigmas[index], sigmas[index + 1]
            z0_hat = estimate(prior, z, sigma)
            near = z0_hat
            for _ in range(self.inner):
                near = near - self.scale * pull(problem, near, sigma)
            if following == 0:
                z = near
            else:
                share, after = (level / (1 + level) for level in (prior.unit.sigma(sigma), prior.unit.sigma(following)))
                noise = math.sqrt(after) * (z - z0_hat) / sigma + math.sqrt(1 - after) * rng.normal_like(z)
                z = (1 - share) * z0_hat + share * near + following * noise
            yield Step(index, total, z, z0_hat, following)

    @classmethod
    def examples(cls) -> list[Solver]:
        """Eight steps."""
        return [cls(steps=8)]


def pull(problem: Problem, z: Tensor, sigma: float) -> Tensor:
    """w grad 1/2 |y - H(z)|^2 / |H|^2 at z, w = sigma^2 / (sigma^2 + sigma_x^2)."""
    with torch.enable_grad():
        leaf = z.detach().requires_grad_(True)
        misfit = 0.5 * rows_of(minus(problem.y, problem.operator(leaf))).square().sum()
        (gradient,) = torch.autograd.grad(misfit, leaf)
    return column(sigma**2 / (noise_of(problem).square() + (problem.gain * sigma).square()), z) * gradient
