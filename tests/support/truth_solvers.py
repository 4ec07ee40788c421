"""Samplers for the tests of the leaderboard of truth: one that is exact for Gaussian priors, and bad ones."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch

from invsolve.errors import InputError
from invsolve.operator import Capability
from invsolve.solution import Step
from invsolve.solver import Requires, Solver
from invsolve.testing.units import matrix_of


@dataclass(frozen=True)
class ExactDraws(Solver):
    """x0 + C A' (A C A' + s^2)^-1 (y - A x0 - s e), x0 drawn from the prior: a draw of the posterior by perturbing and solving.

    Args:
        steps: calls of the denoiser, which it does not look at.
        shift: added to every draw.
        scale: of the draws about their mean, which is the answer to z = 0.
    """

    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.ADJOINT}))
    declared_bias: ClassVar[dict] = {"mean": 0.05, "cov": 0.03}
    steps: int = 4
    shift: float = 0.0
    scale: float = 1.0

    def iterate(self, problem, prior, rng, start=None) -> Iterator[Step]:
        """The last x is the draw."""
        matrix = matrix_of(problem.operator)
        seen = matrix.abs().sum(1) > 0
        matrix, sigma = matrix[seen], float(problem.sigma)
        mean, cov = prior.mean.flatten(), prior.vectors @ (prior.values[:, None] * prior.vectors.T)
        x0 = mean + self.scale * rng.normal((len(mean),), problem.image) * prior.values.sqrt() @ prior.vectors.T
        noise = self.scale * sigma * rng.normal((len(matrix),), problem.image)
        spread = matrix @ cov @ matrix.T + sigma**2 * torch.eye(len(matrix), dtype=cov.dtype)
        gain = cov @ matrix.T @ torch.linalg.inv(spread)
        x = (x0 + (problem.y.flatten(1)[:, seen] - x0 @ matrix.T - noise) @ gain.T + self.shift).reshape(problem.image.shape)
        for index in range(self.steps):
            prior(x, 1.0)
            yield Step(index, self.steps, x, x, 0.0)


@dataclass(frozen=True)
class Narrow(ExactDraws):
    """Too far and too alike, and proud of it."""

    shift: float = 0.1
    scale: float = 0.5


@dataclass(frozen=True)
class Broken(ExactDraws):
    """Fails."""

    def iterate(self, problem, prior, rng, start=None) -> Iterator[Step]:
        """Never a step."""
        raise InputError("this one is broken")
        yield


@dataclass(frozen=True)
class Uneven(ExactDraws):
    """Draws a uniform number besides: its law is not affine in normal ones."""

    def iterate(self, problem, prior, rng, start=None) -> Iterator[Step]:
        """The exact draw."""
        rng.uniform((1,), problem.image)
        yield from super().iterate(problem, prior, rng, start)
