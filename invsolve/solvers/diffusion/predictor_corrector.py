"""Predictor-corrector: unconditional sampling by the reverse SDE, with Langevin steps at every noise level."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator.measurement import column
from invsolve.priors.base import Denoiser
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solver import Requires, Solver
from invsolve.solvers.diffusion.common import Sampler, estimate, initial, inner_norm
from invsolve.solvers.diffusion.euler_maruyama import reverse_diffusion


@dataclass(frozen=True)
class PredictorCorrector(Sampler):
    """Draw from the prior: a step of the reverse SDE to the next level, then Langevin steps there, whose law that level's is.

        predictor:  x <- x + (sigma_t^2 - sigma_s^2) g(x, sigma_t) + sqrt(sigma_t^2 - sigma_s^2) z,   g = (D - x) / sigma^2
        corrector:  x <- x + e g(x, sigma_s) + sqrt(2 e) z,   e = min(2 (snr |z| / |g|)^2, sigma_s^2)

    Norms are per image. The last step, to sigma = 0, returns D.

    Args:
        steps: noise levels; the network is evaluated steps + (steps - 1) correct times.
        correct: Langevin steps a level.
        snr: the size of their drift over that of their noise: a step of 2 snr^2 sigma^2 where x is all noise.
        grid: name of the sigma grid; a DiffusionPrior brings its own levels.
        sigma_max: first noise level in data units; None for the top of the prior's range.

    Raises:
        InputError: correct is no whole number >= 1, or snr not in (0, 0.7]: with e >= sigma^2 a Langevin step overshoots.

    References:
        Score-Based Generative Modeling through Stochastic Differential Equations (Song et al., 2021), arXiv:2011.13456, algorithm 2 (VE)
        and its appendix's algorithm 4 for e.
        Deviations: |z| and |g| are those of one image; the authors' code takes their means over the batch, so that an image depends on
        its neighbours. e is at most sigma_s^2, which puts D in the place of x: an image near its own estimate has no score to divide
        by. The order is the paper's; the authors' code corrects before it predicts. The last step returns the estimate.
    """

    requires: ClassVar[Requires] = Requires(noise=(), measurement=False)
    declared_bias: ClassVar[Mapping[str, Any]] = {"mean": 0.1, "cov": 0.35, "trace": (0.9, 1.35)}
    steps: int = 100
    correct: int = 1
    snr: float = 0.16
    grid: str = "karras"
    sigma_max: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.correct, int) or self.correct < 1:
            raise InputError(f"correct must be a whole number, at least 1; given {self.correct!r}")
        if not 0 < self.snr <= 0.7:
            raise InputError(f"snr must lie in (0, 0.7]; given {self.snr}")

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Denoiser, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """The last x is the sample."""
        sigmas = self.sigmas(prior)
        first, x = initial(problem, prior, rng, sigmas[0], start)
        total = len(sigmas) - 1
        for index in range(first, total):
            following = sigmas[index + 1]
            x0_hat = estimate(prior, x, sigmas[index])
            x = reverse_diffusion(x, x0_hat, sigmas[index], following, rng)
            for _ in range(self.correct if following > 0 else 0):
                x0_hat = estimate(prior, x, following)
                x = self._langevin(x, (x0_hat - x) / following**2, following, rng)
            yield Step(index, total, x, x0_hat, following)

    def _langevin(self, x: Tensor, score: Tensor, sigma: float, rng: Rng) -> Tensor:
        z = rng.normal_like(x)
        step = 2 * (self.snr * inner_norm(z.flatten(1)) / inner_norm(score.flatten(1))).square()
        step = column(step.clamp_max(sigma**2), x)
        return x + step * score + (2 * step).sqrt() * z

    @classmethod
    def examples(cls) -> list[Solver]:
        """Eight levels, with one and with two Langevin steps."""
        return [cls(steps=8), cls(steps=8, correct=2, snr=0.3)]
