"""Score-SDE's conditional sampler: projection onto the noised measurement before every step of the reverse process."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator import Capability
from invsolve.priors.base import Denoiser
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solver import Requires, Solver
from invsolve.solvers.diffusion.common import Restorer, estimate, generic_step, initial
from invsolve.solvers.projection.common import renewed, replaced


@dataclass(frozen=True)
class ScoreSDE(Restorer):
    """Pull the state to y at its own noise level, then take a step of the reverse process; with `correct`, pull and correct too.

        x <- x + weight H^T (H H^T + sigma_y^2 / (a sigma^2))^-1 (y + sigma H z - H x),   a = 1 - sigma_s^2 / sigma^2
        predict: the ancestral step to the next level, which is the reverse SDE's step
        correct: x <- x + h s(x) + sqrt(2 h) z,   s(x) = (x0_hat - x) / sigma^2,   h = 2 snr^2 sigma^2, the last level left out

    Without noise the last estimate is projected on H x = y.

    Args:
        steps: levels, each a network evaluation (two with `correct`).
        weight: how far the state follows y, above 0 to 1: the paper's lambda.
        correct: whether a Langevin step follows every predictor step.
        snr: of the corrector, below 1: its step against the noise level.
        grid: name of the sigma grid.
        sigma_max: first noise level in data units; None for 20 standard deviations of the prior's data on the grid `karras`.

    Raises:
        InputError: weight is not in (0, 1], snr not in (0, 1).

    References:
        Solving Inverse Problems in Medical Imaging with Score-Based Generative Models (Song, Shen, Xing, Ermon, 2022), arXiv:2111.08005,
        algorithm 2; the predictor and the corrector: Score-Based Generative Modeling through Stochastic Differential Equations (Song et
        al., 2021), arXiv:2011.13456, algorithms 2 and 4, appendix I.4.
        Deviations: any linear H with a prox in the place of masked transforms; the noise of y, see `projection.common.replaced`; the
        corrector's step has |z| / |s| = sigma in expectation, not measured, and without the factor for the dimension; it starts from y. The
        inpainting of Song et al.'s (2021) code agrees to 1e-11 on shared noise, its pixels put in at the level reached
        (benchmarks/results/parity.md).
    """

    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.PROX}))
    declared_bias: ClassVar[Mapping[str, Any]] = {"mean": 0.8, "cov": 0.4, "trace": (0.7, 1.2)}
    steps: int = 50
    weight: float = 1.0
    correct: bool = False
    snr: float = 0.16
    grid: str = "karras"
    sigma_max: float | None = None

    def __post_init__(self) -> None:
        if not (0 < self.weight <= 1 and 0 < self.snr < 1):
            raise InputError(f"need 0 < weight <= 1 and 0 < snr < 1; given weight={self.weight}, snr={self.snr}")

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Denoiser, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """The last x is the answer."""
        sigmas = self.sigmas(prior)
        first, x = initial(problem, prior, rng, sigmas[0], start, problem.operator.prox)
        total = len(sigmas) - 1
        for index in range(first, total):
            sigma, following = sigmas[index], sigmas[index + 1]
            share = renewed(sigma, following, 1.0)
            x = replaced(problem, x, sigma, share, rng, self.weight)
            x0_hat = estimate(prior, x, sigma)
            x = generic_step(x, x0_hat, sigma, following, 1.0, rng)
            if following == 0:
                x = replaced(problem, x, 0.0, 1.0, rng, self.weight)
            elif self.correct:
                x = self._corrected(problem, prior, x, following, share, rng)
            yield Step(index, total, x, x0_hat, following)

    def _corrected(self, problem: Problem, prior: Denoiser, x: Tensor, sigma: float, share: float, rng: Rng) -> Tensor:
        x = replaced(problem, x, sigma, share, rng, self.weight)
        share = 2 * self.snr**2
        return x + share * (estimate(prior, x, sigma) - x) + math.sqrt(2 * share) * sigma * rng.normal_like(x)

    @classmethod
    def examples(cls) -> list[Solver]:
        """Eight steps; with the corrector and a weaker pull."""
        return [cls(steps=8), cls(steps=4, correct=True, weight=0.7, sigma_max=2.0)]
