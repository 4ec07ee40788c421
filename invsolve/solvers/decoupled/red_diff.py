"""RED-diff: an image pulled to y by its likelihood and to what the denoiser makes of it, at one noise level after the other."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator import Capability
from invsolve.operator.measurement import column
from invsolve.priors.base import Denoiser
from invsolve.problem import Problem
from invsolve.ranges import Range, Ranges
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solver import Requires, Solver
from invsolve.solvers.decoupled.draws import pull
from invsolve.solvers.diffusion.common import FLOOR, Restorer, estimate, initial, proximal
from invsolve.solvers.ranges import need_between


@dataclass(frozen=True)
class REDDiff(Restorer):
    """Regularisation by denoising under noise, by Adam.

        g = H^T (H x - y) / |H|^2 + w (x - D(x + sigma n, sigma)),   w = weight sigma_x^2 / sigma^2,   x <- Adam(g)

    sigma_x = sigma_y / |H| is y's noise in the image, at least .001. One picture, near a mode of the posterior; not a sampler: what spread
    the answers have comes from the draws n alone, .02 to .25 of the posterior's variance under Gaussian priors, with a mean .05 (white) to
    .5 (correlated) of its standard deviations off.

    g / sigma_x^2 at weight 1 is -grad log p(y | x) - grad log p_sigma, the smoothed prior's: Bayes at every level.

    Args:
        steps: network evaluations.
        weight: lambda; 1 is Bayes.
        lr: Adam's first step in data units; it falls to 0 as a cosine, so that the draws' noise does not stay in the answer.
        betas: Adam's.
        grid: name of the sigma grid; levels below sigma_x / 2 are left at it.
        sigma_max: first noise level in data units; None for 20 s0 on the grid `karras`.

    Raises:
        InputError: a field out of its range.

    References:
        A Variational Perspective on Solving Inverse Problems with Diffusion Models (Mardani et al., 2023), arXiv:2305.04391, algorithm 1.
        Deviations: sums, not means (E15: with means lambda depends on m / n and on the batch); the paper's weight of eps_hat - eps is
        lambda sigma_t, which is w = lambda whatever y's noise, and the same as here at sigma = sigma_x; |H|^2 divides, so that lambda and
        lr serve every operator; lr falls; the start, which is H^+ y there. Adam has no 1e-8 beside its root. With these undone their code
        agrees to 2e-14 on shared noise (benchmarks/results/parity.md).
    """

    ranges: ClassVar[Ranges] = {"weight": Range(0.05, 5.0, log=True), "lr": Range(0.01, 0.3, log=True)}
    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.DIFFERENTIABLE}))
    noiseless: ClassVar[bool] = True
    steps: int = 100
    weight: float = 1.0
    lr: float = 0.05
    betas: tuple[float, float] = (0.9, 0.99)
    grid: str = "karras"
    sigma_max: float | None = None

    def __post_init__(self) -> None:
        need_between(self, "weight", 0)
        need_between(self, "lr", 0)
        pair = self.betas if isinstance(self.betas, tuple) and len(self.betas) == 2 else (math.nan, math.nan)
        if not all(isinstance(beta, int | float) and 0 <= beta < 1 for beta in pair):
            raise InputError(f"betas must be two numbers in [0, 1); given {self.betas!r}")

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Denoiser, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """The last x is the answer."""
        sigmas = self.sigmas(prior)
        noise = column((problem.sigma / problem.gain).clamp_min(FLOOR), problem.image)
        warm = proximal(problem) if problem.operator.has(Capability.ADJOINT) else None
        first, x = initial(problem, prior, rng, 0.0, start, warm)
        held = {} if start is None else start.state
        moments = [held.get(name, torch.zeros_like(x)) for name in ("mean", "square")]
        total = len(sigmas) - 1
        for index in range(first, total):
            sigma = torch.maximum(noise / 2, torch.full_like(noise, sigmas[index]))
            x0_hat = estimate(prior, x + sigma * rng.normal_like(x), sigma.flatten())
            slope = self.weight * (noise / sigma).square() * (x - x0_hat) - noise.square() * pull(problem, x)
            moments = [beta * old + (1 - beta) * new for beta, old, new in zip(self.betas, moments, (slope, slope.square()), strict=True)]
            x = x - self._step(moments, index, total)
            yield Step(index, total, x, x0_hat, state=dict(zip(("mean", "square"), moments, strict=True)))

    def _step(self, moments: list[Tensor], index: int, total: int) -> Tensor:
        mean, square = (moment / (1 - beta ** (index + 1)) for moment, beta in zip(moments, self.betas, strict=True))
        rate = self.lr * 0.5 * (1 + math.cos(math.pi * index / total))
        return rate * mean / (square.sqrt() + torch.finfo(mean.dtype).eps)

    @classmethod
    def examples(cls) -> list[Solver]:
        """Eight steps."""
        return [cls(steps=8, sigma_max=2.0)]
