"""CM4IR: four calls of a consistency model, each guided back to the data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from invsolve.operator import Capability
from invsolve.priors.base import Denoiser, Prior
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solver import Requires, Solver
from invsolve.solvers.diffusion.common import initial, noise_of, proximal, white_spread
from invsolve.solvers.paths import descend
from invsolve.solvers.ranges import need_between, need_count, need_name

TOP = 0.69  # the authors' first level, in the prior's unit: 1.4 standard deviations of its data
LAST = 0.9999  # a at most


@dataclass(frozen=True)
class CM4IR(Solver):
    """Very few levels from a rough image on: few-step map, back-projection, noise.

        x0 = f(x_t, (1 + delta) sigma),   x0~ = argmin_x |y - Hx|^2 / sigma_y^2 + zeta |x - x0|^2 / r^2
        x_s = x0~ + sigma_s (eta z + sqrt(1 - eta^2) e),   e = (x_t - x0) / sigma;   the last x0~ is the answer

    with r^2 = s0^2 sigma^2 / (s0^2 + sigma^2) and the levels sigma = sqrt(1 - a) in the prior's unit, a <- min(a (1 + growth), .9999) from
    that of sigma_max on. f is one call of a prior with `few_step` (a consistency model), whatever `calls` says, and of others the short
    ODE of `calls` evaluations.

    With means in the place of f its draws have a third to a half of the posterior's variance (Gaussian priors); with the exact f .63 of it
    for white images, and 1.05 to 1.5 times for correlated ones.

    Args:
        steps: noise levels.
        calls: network evaluations each.
        eta: share of fresh noise, 0 to 1.
        noise: "predicted", e as above, or "opposite", -e, the authors'.
        zeta: weight of x0 against y; 1 is Bayes for white images.
        delta: by how much more noise f is told, above -1.
        growth: of a from level to level.
        sigma_max: first noise level in data units, below one of the prior's unit; None for .69 of it.

    Raises:
        InputError: a field out of its range.

    References:
        Zero-Shot Image Restoration Using Few-Step Guidance of Consistency Models (Garber, Tirer, 2025), arXiv:2412.20596, algorithm 1.
        Deviations: all noise is fresh by default (theirs is eta = .1), and what is kept has the sign of the predicted one. The authors put
        the opposite in, on purpose; with Gaussian priors that leaves less than a tenth of the posterior's variance and is further from the
        posterior (Wasserstein-2) on all problems tried. r^2 is Bayes', 1 in their unit; their zeta and delta are tuned for each task. The
        last step is guided too, by a weight that falls with its level. The start, H^+ y there (with holes filled by a median), is the
        posterior mean of a white prior. With noise="opposite", r^2 and the last step undone, it agrees with the authors' code to 1e-15 on
        shared noise (benchmarks/results/parity.md).
    """

    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.ADJOINT}), mean=False)
    declared_bias: ClassVar[Mapping[str, Any]] = {"mean": 1.0, "cov": 0.66, "trace": (0.33, 0.6), "white": {"mean": 0.1}}
    moves: ClassVar[bool] = True
    steps: int = 4
    calls: int = 1
    eta: float = 1.0
    noise: str = "predicted"
    zeta: float = 1.0
    delta: float = 0.0
    growth: float = 0.2
    sigma_max: float | None = None

    def __post_init__(self) -> None:
        need_count(self, "steps", "calls")
        need_between(self, "eta", 0, 1, ends="[]")
        need_name(self, "noise", ("predicted", "opposite"))
        need_between(self, "zeta", 0)
        need_between(self, "delta", -1)
        need_between(self, "growth", 0)
        need_between(self, "sigma_max", 0)

    def gaps(self, problem: Problem, prior: Prior) -> list[str]:
        """A first level of more than the prior's unit, or levels that leave its range."""
        assert isinstance(prior, Denoiser)
        top = TOP if self.sigma_max is None else prior.unit.sigma(self.sigma_max)
        if not top < 1:
            return [f"sigma_max must be below {prior.unit.unsigma(1.0):.4g}, one in the prior's unit; given {self.sigma_max}"]
        told = [(1 + self.delta) * sigma for sigma in self.levels(prior)[:-1]]
        low, high = prior.sigma_range
        if told[0] > high or told[-1] < low:
            return [f"the levels {told[0]:.4g} .. {told[-1]:.4g} leave the prior's range, {low:.4g} .. {high:.4g}"]
        return []

    def levels(self, prior: Denoiser) -> list[float]:
        """sigma in data units, and 0 at the end."""
        top = TOP if self.sigma_max is None else prior.unit.sigma(self.sigma_max)
        a = [min((1 - top**2) * (1 + self.growth) ** index, max(LAST, 1 - top**2)) for index in range(self.steps)]
        return [*(prior.unit.unsigma(math.sqrt(1 - one)) for one in a), 0.0]

    def warmed(self, image: Tensor, prior: Denoiser, rng: Rng) -> Step:
        """The image with the noise of the first level."""
        return Step(-1, 0, image + self.levels(prior)[0] * rng.normal_like(image), image)

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Denoiser, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """The last x is the answer."""
        sigmas = self.levels(prior)
        prox = proximal(problem)
        first, x = initial(problem, prior, rng, sigmas[0], start, prox)
        sign = 1.0 if self.noise == "predicted" else -1.0
        for index in range(first, self.steps):
            sigma, following = sigmas[index], sigmas[index + 1]
            x0_hat = descend(prior, x, (1 + self.delta) * sigma, self.calls, rng)
            noise = sign * (x - x0_hat) / sigma
            x = prox(x0_hat, problem.y, white_spread(prior, sigma) / self.zeta / noise_of(problem).square())
            if following > 0:
                x = x + following * (math.sqrt(1 - self.eta**2) * noise + self.eta * rng.normal_like(x))
            yield Step(index, self.steps, x, x0_hat, following)

    @classmethod
    def examples(cls) -> list[Solver]:
        """The default, and the authors' noise with the map of a consistency model."""
        return [cls(), cls(calls=1, eta=0.6, noise="opposite", delta=0.1, sigma_max=0.3)]
