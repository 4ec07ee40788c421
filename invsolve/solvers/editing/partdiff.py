"""PartDiff: the last K of T steps of a conditional sampler, from the upsampled measurement."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch

from invsolve.errors import InputError
from invsolve.priors.base import Prior
from invsolve.priors.conditional import ConditionalPrior, Conditioned
from invsolve.priors.pairs import SHAPE, GaussianPairsPrior
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solver import Requires, Solver
from invsolve.solvers.diffusion.common import estimate

# A prior is one of x0, at sigma / w: at the K-th step, where w = 0, this small share stands for it, far below the noise there.
LEAST = 1e-6


@dataclass(frozen=True)
class PartDiff(Solver):
    """Draw from p(x | y) by K network evaluations of a network whose noised image moves from x0 to the upsampled measurement c.

        x_K = c + sigma_K z;   for t = K ... 1, with x_bar_t = w_t x0_hat + (1 - w_t) c and w_t = 1 - t / K:
        x_{t-1} = x_bar + sigma_{t-1} (sqrt(1 - eta^2 r) (x_t - x_bar_t) / sigma_t + eta sqrt(r) z),   r = 1 - sigma_{t-1}^2 / sigma_t^2
        x_bar = x_bar_{t-1} ("exact") or x_bar_t ("paper")

    Args:
        align: "exact" moves the image with the level, so that x_{t-1} has the law that the network was trained on and x_0 = x0_hat. "paper"
            keeps w_t, as the published posterior does: each state lags behind by (x0 - c) / K, and so does the answer.
        eta: 0 deterministic after the first noise, 1 ancestral as published. Of Gaussian pairs, whose mean "exact" hits at every K, the
            covariance is off by 14 % with eta = 0 and by 23 % with 1 at K = 25 of 100, by 1 and 2 % at 400 of 1600; with "paper" by 40 to
            60 % at all of them (`tests/priors/test_conditional.py`). With a network, whose faults it mends, 1 gives the nearer faces.

    Raises:
        InputError: another align, eta outside [0, 1].
        CompatibilityError: the prior's network is not one of the moving image.

    References:
        PartDiff: Image Super-resolution with Partial Diffusion Models (Zhao et al., 2023), arXiv:2307.11926, K of T steps and latent
        alignment. Deviation: "exact" by default; the network estimates x0 (see `training.pairs.Partial`). VE form: the same map.
    """

    requires: ClassVar[Requires] = Requires(prior=(ConditionalPrior,), noise=(), measurement=False)
    moves: ClassVar[bool] = False
    align: Literal["exact", "paper"] = "exact"
    eta: float = 1.0

    def __post_init__(self) -> None:
        if self.align not in ("exact", "paper"):
            raise InputError(f'align must be "exact" or "paper"; given {self.align!r:.60}')
        if not 0 <= self.eta <= 1:
            raise InputError(f"eta must lie in [0, 1]; given {self.eta}")

    def gaps(self, problem: Problem, prior: Prior) -> list[str]:
        """A network of the image itself."""
        if getattr(prior, "moving", None) is not None:
            return []
        return [f"prior {type(prior).__name__} was not trained on an image that moves to the measurement; ddim, ddpm, heun draw from it"]

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Conditioned, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """The last x is the sample."""
        moving, c = prior.moving, prior.image.to(problem.image)
        assert moving is not None
        total, levels = moving.part, (0.0, *moving.levels)
        x = c + levels[total] * rng.normal_like(c) if start is None else start.x
        for index in range(0 if start is None else start.index + 1, total):
            t = total - index
            w = max(1 - t / total, LEAST)
            x0_hat = estimate(prior, c + (x - c) / w, levels[t] / w)
            here, there = ((1 - step / total) * (x0_hat - c) + c for step in (t, t - 1))
            eps_hat = (x - here) / levels[t]
            ratio = 1 - (levels[t - 1] / levels[t]) ** 2
            x = (there if self.align == "exact" else here) + levels[t - 1] * math.sqrt(1 - self.eta**2 * ratio) * eps_hat
            if self.eta > 0 and t > 1:
                x = x + levels[t - 1] * self.eta * math.sqrt(ratio) * rng.normal_like(x)
            yield Step(index, total, x, x0_hat, levels[t - 1])

    def warmed(self, image: torch.Tensor, prior: Any, rng: Rng) -> Step:
        """The image in the place of the upsampled measurement, with the noise of the first level."""
        return Step(-1, 0, image + prior.moving.levels[-1] * rng.normal_like(image), image)

    @classmethod
    def settings(cls) -> list[tuple[Problem, Prior]]:
        """Gaussian pairs in closed form."""
        prior = GaussianPairsPrior(total=40, part=8)
        x = Rng(11, range(3), purpose="simulate").uniform(SHAPE, torch.zeros(1, dtype=torch.float64))
        return [(prior.made_for.example(x), prior)]

    @classmethod
    def examples(cls) -> list[Solver]:
        """Both alignments, ancestral and not."""
        return [cls(), cls(align="paper", eta=0.5)]
