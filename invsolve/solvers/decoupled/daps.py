"""DAPS: decoupled annealing posterior sampling, a draw given y about every estimate."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from invsolve.operator import Capability
from invsolve.priors.base import Denoiser, Prior
from invsolve.problem import Problem
from invsolve.ranges import Range, Ranges
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solver import Requires, Solver
from invsolve.solvers.decoupled.draws import INNER, draw_gaps, draw_of
from invsolve.solvers.diffusion.common import Restorer, initial, proximal, white_spread
from invsolve.solvers.paths import descend
from invsolve.solvers.ranges import need_between, need_count, need_name


@dataclass(frozen=True)
class DAPS(Restorer):
    """Estimate the image, draw one given y about the estimate, add the next level's noise.

        x0_hat = the end of the ODE from x_t, in `calls` steps;   1: the denoiser's mean
        x0 ~ exp(-|y - H x0|^2 / (2 sigma_y^2) - |x0 - x0_hat|^2 / (2 r^2)),   x_s = x0 + sigma_s z;   the last x0 is the answer

    Nothing of one step is kept in the noise of the next, so that an error made at a high level can be put right at a lower one. Any
    differentiable H; a linear one has its draw exactly, others by Langevin moves.

    Exact for white Gaussian images. Of photographs the second factor's draws, which are white, are wider than what x0_hat is off by where H
    looks: the residual of 4 x 4 means is 1.6 sigma_y (`natural`), and a draw 1 to 2.5 dB below DiffPIR's picture.

    Args:
        steps: noise levels.
        calls: network evaluations each. 1 is exact for white Gaussian images; from 2 on x0_hat is nearer to a draw of its own, to which
            the second factor adds its width once more (trace 1.65 times the posterior's in the limit of many).
        inner: "exact" (linear H), "langevin", "hmc" (with a velocity) or None: exact where H is linear, else hmc.
        inner_steps: of the draws that are not exact, gradients of H each.
        step: their length, a share of 1 / the largest curvature, 0 < step < 2.
        variance: what r^2 stands for: "posterior", s0^2 sigma^2 / (s0^2 + sigma^2), or "noise", sigma^2 as in the paper.
        grid: name of the sigma grid.
        sigma_max: first noise level in data units; None for 20 s0 on the grid `karras`.

    Raises:
        InputError: a field out of its range.

    References:
        Improving Diffusion Inverse Problem Solving with Decoupled Noise Annealing (Zhang et al., 2024), arXiv:2407.01521, algorithm 1.
        Deviations: sigma_y is the noise of y, and the likelihood has its 1/2 (E14: the authors' code has neither, seven times too sure of
        y in standard deviations); the denoiser's mean as centre and r^2 of the posterior, since r = sigma is the width about a mean; draws
        that are not exact start at a draw of the second factor, not at x0_hat; their step follows |H|, sigma_y and r, where the authors'
        learning rate is tuned for each task; the start. Their ODE is taken by Euler's steps and ends at the lowest level, ours is of second
        order and ends at 0. With these undone, and one call, their code agrees to 8e-16 on shared noise (benchmarks/results/parity.md).
    """

    ranges: ClassVar[Ranges] = {"step": Range(0.02, 0.5, log=True), "inner_steps": Range(20, 200, log=True, whole=True)}
    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.DIFFERENTIABLE}))
    declared_bias: ClassVar[Mapping[str, Any]] = {
        "mean": 0.65,
        "cov": 0.25,
        "trace": (0.95, 1.2),
        "white": {"mean": 0.05, "cov": 0.05, "trace": (0.97, 1.03)},
    }
    steps: int = 30
    calls: int = 1
    inner: str | None = None
    inner_steps: int = 100
    step: float = 0.1
    variance: str = "posterior"
    grid: str = "karras"
    sigma_max: float | None = None

    def __post_init__(self) -> None:
        need_count(self, "calls", "inner_steps")
        need_between(self, "step", 0, 2)
        need_name(self, "inner", INNER)
        need_name(self, "variance", ("posterior", "noise"))

    def gaps(self, problem: Problem, prior: Prior) -> list[str]:
        """A grid that leaves the prior's range; an exact draw where H is not linear."""
        return [*super().gaps(problem, prior), *draw_gaps(problem, self.inner)]

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Denoiser, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """The last x is the answer."""
        sigmas = self.sigmas(prior)
        draw = draw_of(problem, self.inner, self.inner_steps, self.step)
        warm = proximal(problem) if problem.operator.has(Capability.ADJOINT) else None
        first, x = initial(problem, prior, rng, sigmas[0], start, warm)
        total = len(sigmas) - 1
        for index in range(first, total):
            sigma, following = sigmas[index], sigmas[index + 1]
            x0_hat = descend(prior, x, sigma, self.calls, rng)
            r = math.sqrt(white_spread(prior, sigma)) if self.variance == "posterior" else sigma
            x = draw(x0_hat, r, rng)
            if following > 0:
                x = x + following * rng.normal_like(x)
            yield Step(index, total, x, x0_hat, following)

    @classmethod
    def examples(cls) -> list[Solver]:
        """Eight levels with exact draws, and as in the paper by moves about the end of an ODE."""
        return [cls(steps=8), cls(steps=4, inner="hmc", inner_steps=4, calls=2, variance="noise", sigma_max=1.0)]
