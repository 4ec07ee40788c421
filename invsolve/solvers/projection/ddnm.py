"""DDNM: denoising diffusion null-space model, the range of every estimate from y and the null space from the network."""

from __future__ import annotations

import math
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
from invsolve.solvers.diffusion.common import Restorer, estimate, initial
from invsolve.solvers.diffusion.travel import go_up, legs
from invsolve.solvers.projection.common import trust
from invsolve.solvers.ranges import need_between, need_count


@dataclass(frozen=True)
class DDNM(Restorer):
    """Put y into the range of every estimate, leave its null space as it is, go to the next noise level with part of the noise fresh.

        x0~ = x0_hat - H^+ (H x0_hat - y)
        x_s = x0~ + sigma_s (sqrt(1 - eta^2) (x_t - x0_hat) / sigma_t + eta z);   the last step returns x0~

    Without noise the answer satisfies H x = y. With noise H^+ is H^T (H H^T + sigma_y^2 / sigma_t^2)^-1: y tells nothing more where the
    estimate is surer than it. H^+ itself, at every step, would bring y's noise over the singular values in.

    Args:
        steps: noise levels.
        eta: share of fresh noise, 0 to 1. With 1 and noise in y the step is `diffpir`'s. The paper's .85 keeps noise of which y's is a
            part: of three crops (`natural`, 50 steps) it is alike on holes, loses .6 dB on 4 x 4 means without noise, and with sigma_y .05
            1.2 there and 4 on blurs.
        jump, repeats: time travel: at every jump-th level the state goes up by as many, repeats - 1 times. Network evaluations grow by
            about `repeats`.
        grid: name of the sigma grid.
        sigma_max: first noise level in data units; None for 20 standard deviations of the prior's data on the grid `karras`.

    Raises:
        InputError: eta is not in [0, 1]; jump or repeats is not a whole number >= 1.

    References:
        Zero-Shot Image Restoration Using Denoising Diffusion Null-Space Model (Wang, Yu, Zhang, 2023), arXiv:2212.00490, algorithms 1, 2.
        Deviations: what H^+ is with noise; time travel goes up from the state reached, as algorithm 2 has it (its code from x0_hat before
        the projection); it starts from y. Agrees with the authors' code to 2e-15 on shared noise, time travel undone
        (benchmarks/results/parity.md).
    """

    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.PROX}))
    declared_bias: ClassVar[Mapping[str, Any]] = {"mean": 0.35, "cov": 0.55, "trace": (0.4, 0.6)}
    steps: int = 50
    eta: float = 1.0
    jump: int = 1
    repeats: int = 1
    grid: str = "karras"
    sigma_max: float | None = None

    def __post_init__(self) -> None:
        need_between(self, "eta", 0, 1, ends="[]")
        need_count(self, "jump", "repeats")

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Denoiser, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """The last x is the answer."""
        sigmas = self.sigmas(prior)
        path = legs(sigmas, self.jump, self.repeats)
        first, x = initial(problem, prior, rng, sigmas[0], start, problem.operator.prox)
        for index in range(first, len(path)):
            sigma, following, reached = path[index]
            x0_hat = estimate(prior, x, sigma)
            x0 = problem.operator.prox(x0_hat, problem.y, trust(problem, sigma))
            x = x0 + following / sigma * math.sqrt(1 - self.eta**2) * (x - x0_hat)
            if following > 0 and self.eta > 0:
                x = x + following * self.eta * rng.normal_like(x)
            if reached > following:
                x = go_up(x, following, reached, rng)
            yield Step(index, len(path), x, x0, reached)

    @classmethod
    def examples(cls) -> list[Solver]:
        """Eight steps; with time travel."""
        return [cls(steps=8), cls(steps=6, eta=0.5, jump=2, repeats=2, sigma_max=2.0)]
