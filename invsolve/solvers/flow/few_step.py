"""Draws from a few-step map: an image, noise of a lower level, an image again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from invsolve.priors.base import Denoiser, Prior
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solver import Requires, Solver
from invsolve.solvers.diffusion.common import initial
from invsolve.solvers.paths import descend
from invsolve.solvers.ranges import need_between, need_count


@dataclass(frozen=True)
class FewStep(Solver):
    """Draw from the prior in as many calls of a few-step map as there are levels.

        x0 = f(x_t, sigma_t),   x_s = x0 + sigma_s z;   the last x0 is the answer

    The levels are sigma_max, then second s0, and falling by `fall` from there: high levels decide what one call decides as well, and
    low ones mend its details. f is one call of a prior with `few_step`, of others the short ODE of `calls` evaluations.

    Args:
        steps: noise levels.
        calls: network evaluations each, where the prior is no few-step map.
        second: the second level in units of the prior's s0.
        fall: a level over the one after it, above 1.
        sigma_max: first noise level in data units; None for the top of the prior's range.

    Raises:
        InputError: a field out of its range.

    References:
        Consistency Models (Song, Dhariwal, Chen, Sutskever, 2023), arXiv:2303.01469, algorithm 1.
        Deviations: paths end at sigma 0, so that noise of the whole level is added; levels by rule, where the authors search them by FID.
    """

    requires: ClassVar[Requires] = Requires(noise=(), measurement=False, mean=False)
    declared_bias: ClassVar[Mapping[str, Any]] = {}
    moves: ClassVar[bool] = True
    steps: int = 2
    calls: int = 8
    second: float = 3.0
    fall: float = 3.0
    sigma_max: float | None = None

    def __post_init__(self) -> None:
        need_count(self, "steps", "calls")
        need_between(self, "second", 0)
        need_between(self, "fall", 1)
        need_between(self, "sigma_max", 0)

    def gaps(self, problem: Problem, prior: Prior) -> list[str]:
        """A first level out of the prior's range."""
        assert isinstance(prior, Denoiser)
        low, high = prior.sigma_range
        top = self.levels(prior)[0]
        within = low * (1 - 1e-6) <= top <= high * (1 + 1e-6)
        return [] if within else [f"sigma_max must lie in the prior's range, {low:.4g} .. {high:.4g}; given {top:.4g}"]

    def levels(self, prior: Denoiser) -> list[float]:
        """Falling, in data units, and 0 at the end; those that would leave the prior's range are left out."""
        top = prior.sigma_range[1] if self.sigma_max is None else self.sigma_max
        lower = [self.second * prior.s0 / self.fall**index for index in range(self.steps - 1)]
        return [top, *(sigma for sigma in lower if prior.sigma_range[0] <= sigma < top), 0.0]

    def warmed(self, image: Tensor, prior: Denoiser, rng: Rng) -> Step:
        """The image with the noise of the first level."""
        return Step(-1, 0, image + self.levels(prior)[0] * rng.normal_like(image), image)

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Denoiser, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """The last x is the draw."""
        sigmas = self.levels(prior)
        first, x = initial(problem, prior, rng, sigmas[0], start)
        total = len(sigmas) - 1
        for index in range(first, total):
            x0_hat = descend(prior, x, sigmas[index], self.calls, rng)
            following = sigmas[index + 1]
            x = x0_hat if following == 0 else x0_hat + following * rng.normal_like(x0_hat)
            yield Step(index, total, x, x0_hat, following)

    @classmethod
    def examples(cls) -> list[Solver]:
        """Four levels, and one from the middle of the range."""
        return [cls(steps=4, calls=4), cls(steps=1, calls=8, sigma_max=10.0)]
