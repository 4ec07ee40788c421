"""LATINO: an image by a few-step map, a proximal step to the data, the next level's noise."""

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
from invsolve.solvers.diffusion.common import Restorer, initial, noise_of, proximal, white_spread
from invsolve.solvers.paths import descend
from invsolve.solvers.ranges import need_between, need_count


@dataclass(frozen=True)
class LATINO(Restorer):
    """Few levels, each with a map f from noise to image.

        x0 = f(x_t, sigma),   x0~ = argmin_x |y - Hx|^2 / sigma_y^2 + |x - x0|^2 / (delta r^2),   x_s = x0~ + sigma_s z

    with r^2 = s0^2 sigma^2 / (s0^2 + sigma^2); the last x0~ is the answer. f is one call of a prior with `few_step`
    (a consistency model), whatever `calls` says, and of others the short ODE of `calls` evaluations.

    With means in the place of f its draws have a third to a half of the posterior's variance (Gaussian priors); with the exact f .98 to
    .99 of it for white images, where all else is within 5 %, too, and 1.05 to 1.4 times for correlated ones.

    Args:
        steps: noise levels.
        calls: network evaluations each.
        delta: trust in x0 against y; 1 is Bayes for white images.
        grid: name of the sigma grid.
        sigma_max: first noise level in data units; None for 20 s0 on the grid `karras`.

    Raises:
        InputError: a field out of its range.

    References:
        LATINO-PRO: LAtent consisTency INverse sOlver with PRompt Optimization (Spagnoletti et al., 2025), arXiv:2503.12615, algorithm 1.
        Deviations: in pixels, without encoder and decoder; 1 - a_t is r^2 in data units; delta is one number (in their code it also has the
        residual's norm, which depends on the size of the image, and a value for each task and level); levels down to the prior's lowest,
        theirs end at a tenth of the range, whose noise stays in the spread; the start. With one delta their step agrees to 1e-7 on shared
        noise, the share of the state that their scheduler mixes in (benchmarks/results/parity.md).
    """

    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.ADJOINT}), mean=False)
    declared_bias: ClassVar[Mapping[str, Any]] = {"mean": 0.95, "cov": 0.72, "trace": (0.28, 0.55), "white": {"mean": 0.1}}
    steps: int = 8
    calls: int = 1
    delta: float = 1.0
    grid: str = "karras"
    sigma_max: float | None = None

    def __post_init__(self) -> None:
        need_count(self, "calls")
        need_between(self, "delta", 0)

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Denoiser, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """The last x is the answer."""
        sigmas = self.sigmas(prior)
        prox = proximal(problem)
        first, x = initial(problem, prior, rng, sigmas[0], start, prox)
        total = len(sigmas) - 1
        for index in range(first, total):
            sigma, following = sigmas[index], sigmas[index + 1]
            x0_hat = descend(prior, x, sigma, self.calls, rng)
            x = prox(x0_hat, problem.y, self.delta * white_spread(prior, sigma) / noise_of(problem).square())
            if following > 0:
                x = x + following * rng.normal_like(x)
            yield Step(index, total, x, x0_hat, following)

    @classmethod
    def examples(cls) -> list[Solver]:
        """The default, and two levels with the map of a consistency model."""
        return [cls(), cls(steps=8, calls=1, delta=0.5, sigma_max=1.0)]
