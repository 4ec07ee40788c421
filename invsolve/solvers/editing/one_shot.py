"""One-shot denoising: the prior's own estimate of an image seen with nothing but white noise."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.noise import Ability, GaussianNoise
from invsolve.operator import Capability
from invsolve.operator.matrix import MatrixOperator
from invsolve.operator.measurement import column
from invsolve.priors.base import Denoiser, Prior
from invsolve.priors.gaussian import GaussianPrior
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solver import Requires, Solver

PROBES = "one-shot"


@dataclass(frozen=True)
class OneShot(Solver):
    """Denoise y once, for y = c x0 + sigma_y n: the posterior mean, as exact as the denoiser is.

        x = D(y / c, sigma_y / c) = E[x0 | y]

    One network evaluation. The answer has no spread: it is the mean, which is the best picture by mean square and smoother than any sample.
    Noise below the prior's lowest level is taken for that level; without any, y / c is the image.

    Args:
        strength: factor on the level that the denoiser is told; 1 is the posterior mean, more is smoother.

    Raises:
        InputError: strength is not positive and finite.
        CompatibilityError: H is not c times the identity, or the noise is above the prior's highest level.

    References:
        An Empirical Bayes Approach to Statistics (Robbins, 1956); Tweedie's formula as in Efron (2011): what a denoiser trained by mean
        square estimates.
    """

    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.LINEAR}))
    declared_bias: ClassVar[Mapping[str, Any]] = {"mean": 1e-6}
    strength: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.strength < math.inf:
            raise InputError(f"strength must be positive and finite; given {self.strength}")

    def gaps(self, problem: Problem, prior: Prior) -> list[str]:
        """Anything but white noise on the image itself, or more of it than the prior knows."""
        assert isinstance(prior, Denoiser)
        label = problem.operator.label
        factor = identity_factor(problem)
        if factor is None:
            return [f"operator {label} is not a multiple of the identity, and y no noisy image; hqs, diffpir and ddrm take any such H"]
        if not problem.batch or Ability.SIGMA not in problem.noise.abilities:
            return []
        most, high = self.strength * float((problem.sigma / factor).max()), prior.sigma_range[1]
        if most > high * (1 + 1e-6):
            return [f"the noise, sigma {most:.4g} in units of the image, is above what the prior is good for, {high:.4g}"]
        return []

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Denoiser, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """x is the answer."""
        if start is not None and start.index >= 0:
            return
        factor = identity_factor(problem)
        assert factor is not None
        y = problem.y if start is None else start.x * column(factor, start.x)
        assert isinstance(y, Tensor)
        y, sigma = y / column(factor, y), (problem.sigma / factor).expand(len(y))
        x = prior(y, (self.strength * sigma).clamp(*prior.sigma_range))
        x = torch.where(column(sigma, y) == 0, y, x)
        yield Step(0, 1, x, x)

    @classmethod
    def settings(cls) -> list[tuple[Problem, Prior]]:
        """The identity, and three times it, with a level per item."""
        found: list[tuple[Problem, Prior]] = []
        for factor in (1.0, 3.0):
            operator = MatrixOperator(factor * torch.eye(12, dtype=torch.float64), (1, 3, 4), (1, 3, 4))
            x = Rng(11, range(3), purpose="simulate").uniform((1, 3, 4), torch.zeros(1, dtype=torch.float64))
            noise = GaussianNoise(factor * torch.tensor([0.05, 0.1, 0.2], dtype=torch.float64))
            found.append((Problem.simulate(operator, x, noise, generator=0, check_range=False), GaussianPrior(0.5, 0.25)))
        return found

    @classmethod
    def examples(cls) -> list[Solver]:
        """As it comes, and half as strong."""
        return [cls(), cls(strength=0.5)]


@torch.no_grad()
def identity_factor(problem: Problem) -> Tensor | None:
    """c per item, (B,), where H x = c x, c > 0, to rounding; None where it is not: told by one random image, which no other H leaves so."""
    operator, image = problem.operator, problem.image
    if not isinstance(problem.y, Tensor) or problem.y.is_complex() or problem.y.shape != image.shape:
        return None
    probe = Rng(0, [0] * len(image), purpose=PROBES).normal_like(image)
    seen = operator(probe)
    assert isinstance(seen, Tensor)
    flat, other = probe.flatten(1), seen.flatten(1)
    factor = (flat * other).sum(1) / flat.square().sum(1)
    off = (other - factor[:, None] * flat).norm(dim=1)
    rounding = flat.shape[1] * torch.finfo(image.dtype).eps * other.norm(dim=1)
    return factor if bool(((off <= rounding) & (factor > 0)).all()) else None
