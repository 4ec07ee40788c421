"""FlowChef: a flow steered by the data's gradient at its estimates, none through the network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from invsolve.operator import Capability
from invsolve.priors.base import Denoiser
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solver import Requires, Solver
from invsolve.solvers.diffusion.common import Restorer, estimate, generic_step, initial
from invsolve.solvers.latent.flowdps import pull
from invsolve.solvers.ranges import need_between


@dataclass(frozen=True)
class FlowChef(Restorer):
    """Move every estimate by one gradient step of its misfit, and go on along the flow's own line from there.

        z0~ = z0_hat - scale w grad_{z0_hat} 1/2 |y - H(z0_hat)|^2 / |H|^2,   z_next = z0~ + sigma_next / sigma (z - z0~)

    w = sigma^2 / (sigma^2 + sigma_x^2), sigma_x = sigma_y / |H|. Nothing is drawn after the start, and no gradient goes through the
    network: H may be H D of a latent flow, the gradient then goes through the decoder. It is `mpgd` with eta = 0, for any differentiable
    H and from pure noise. One picture: what spread samples have is that of their starts.

    Args:
        steps: network evaluations.
        scale: length of the step, 0 < scale < 2; beyond, it overshoots along the largest singular vector.
        grid: name of the sigma grid.
        sigma_max: first noise level; None for 20 s0 on the grid `karras`.

    Raises:
        InputError: a field out of its range.

    References:
        FlowChef: Steering Rectified Flow Models in the Vector Field for Controlled Image Generation (Patel et al., 2024),
        arXiv:2412.00100, algorithm 1.
        Deviations: a step in units of |H| and weighed by the noise, theirs one length without sigma_y; theirs is taken on z_next, whole at
        every level, so that the pull grows with the number of levels: with strong noise it was 2.5 times too far from the prior's mean.
    """

    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.DIFFERENTIABLE}))
    declared_bias: ClassVar[Mapping[str, Any]] = {"mean": 0.95, "cov": 0.9, "trace": (0.8, 1.6)}
    unreached: ClassVar[Mapping[str, str]] = {"return self.sigma_max": "of Restorer; examples of others reach it"}
    steps: int = 50
    scale: float = 1.5
    grid: str = "karras"
    sigma_max: float | None = None

    def __post_init__(self) -> None:
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
            z = generic_step(z, z0_hat - self.scale * pull(problem, z0_hat, sigma), sigma, following, 0.0, rng)
            yield Step(index, total, z, z0_hat, following)

    @classmethod
    def examples(cls) -> list[Solver]:
        """Eight steps."""
        return [cls(steps=8)]
