"""Predictor-corrector: unconditional sampling by the reverse SDE, with Langevin steps at every noise level."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from invsolve.errors import InputError
from invsolve.priors.base import Denoiser
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solver import Requires, Solver
from invsolve.solvers.diffusion.common import Sampler, estimate, initial
from invsolve.solvers.diffusion.euler_maruyama import reverse_diffusion
from invsolve.solvers.ranges import need_count


@dataclass(frozen=True)
class PredictorCorrector(Sampler):
    """Draw from the prior: a step of the reverse SDE to the next level, then Langevin steps there, whose law that level's is.

        predictor:  x <- x + (sigma_t^2 - sigma_s^2) g(x, sigma_t) + sqrt(sigma_t^2 - sigma_s^2) z,   g = (D - x) / sigma^2
        corrector:  x <- x + e g(x, sigma_s) + sqrt(2 e) z,   e = 2 snr^2 sigma_s^2

    The last step, to sigma = 0, returns D.

    Args:
        steps: noise levels; the network is evaluated steps + (steps - 1) correct times.
        correct: Langevin steps a level.
        snr: the size of their drift over that of their noise, where x is all noise.
        grid: name of the sigma grid; a DiffusionPrior brings its own levels.
        sigma_max: first noise level in data units; None for the top of the prior's range.

    Raises:
        InputError: correct is no whole number >= 1, or snr not in (0, 0.7]: with e > sigma_s^2 a Langevin step overshoots.

    References:
        Score-Based Generative Modeling through Stochastic Differential Equations (Song et al., 2021), arXiv:2011.13456, algorithm 2 (VE)
        and its appendix's algorithm 4.
        Deviations: theirs is e = 2 (snr |z| / |g|)^2, which is ours where |g|^2 = |z|^2 / sigma^2, in images whose variance is the noise's.
        A step that depends on the state leaves another law invariant: with norms of one image of 8 numbers, N(1/2, 1/4), the output has
        1.5 times the variance; with means over the batch, as in their code, an image depends on its neighbours. The order is the
        paper's; their code corrects before it predicts. The last step returns the estimate. With their corrector `ald`, whose e is ours, it
        agrees with their code to 1e-11 on shared noise (benchmarks/results/parity.md).
    """

    requires: ClassVar[Requires] = Requires(noise=(), measurement=False)
    declared_bias: ClassVar[Mapping[str, Any]] = {"mean": 0.1, "cov": 0.2, "trace": (0.9, 1.15)}
    steps: int = 100
    correct: int = 1
    snr: float = 0.16
    grid: str = "karras"
    sigma_max: float | None = None

    def __post_init__(self) -> None:
        need_count(self, "correct")
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
                x = x + 2 * self.snr**2 * (x0_hat - x) + 2 * self.snr * following * rng.normal_like(x)
            yield Step(index, total, x, x0_hat, following)

    @classmethod
    def examples(cls) -> list[Solver]:
        """Eight levels, with one and with two Langevin steps."""
        return [cls(steps=8), cls(steps=8, correct=2, snr=0.3)]
