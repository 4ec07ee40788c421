"""Laws of the increments of a Levy process: characteristic function, draws, and the latent variances by which Gibbs sampling goes.

All three are scale mixtures of Gaussians: u | tau ~ N(0, tau).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from invsolve.rng import Rng

TINY = 1e-30


def uniform(rng: Rng, like: Tensor) -> Tensor:
    """Uniform numbers of like's shape in (0, 1), from one stream."""
    return rng.uniform(like.shape, like)[0].clamp(TINY, 1 - 1e-16)


def normal(rng: Rng, like: Tensor) -> Tensor:
    """Standard normal numbers of like's shape, from one stream."""
    return rng.normal(like.shape, like)[0]


@dataclass(frozen=True)
class Increments(ABC):
    """A symmetric law with standard deviation `std`, in units of the image."""

    std: float = 0.06

    @abstractmethod
    def transform(self, omega: Tensor) -> Tensor:
        """E exp(i omega u)."""

    @abstractmethod
    def variances(self, rng: Rng, like: Tensor) -> Tensor:
        """tau drawn from its law, of like's shape."""

    @abstractmethod
    def conditional(self, u: Tensor, rng: Rng) -> Tensor:
        """tau drawn given u; where u is exactly 0 as a part of mass says, see `BernoulliLaplace`."""

    def sample(self, rng: Rng, like: Tensor) -> Tensor:
        """u of like's shape."""
        return self.variances(rng, like).sqrt() * normal(rng, like)


@dataclass(frozen=True)
class Laplace(Increments):
    """exp(-|u| / b) / (2 b) with b = std / sqrt 2: tau is exponential of mean 2 b^2."""

    @property
    def width(self) -> float:
        """b."""
        return self.std / math.sqrt(2)

    def transform(self, omega: Tensor) -> Tensor:
        """1 / (1 + b^2 omega^2)."""
        return 1 / (1 + (self.width * omega).square())

    def variances(self, rng: Rng, like: Tensor) -> Tensor:
        """-2 b^2 log U."""
        return -2 * self.width**2 * uniform(rng, like).log()

    def conditional(self, u: Tensor, rng: Rng) -> Tensor:
        """1 / tau is inverse Gaussian of mean 1 / (b |u|) and shape 1 / b^2 (Park and Casella, 2008)."""
        return 1 / inverse_gaussian(1 / (self.width * u.abs().clamp_min(1e-12)), 1 / self.width**2, rng).clamp_min(TINY)


@dataclass(frozen=True)
class Student(Increments):
    """c T with T of three degrees of freedom and c = std / sqrt 3: tau is inverse gamma (3 / 2, 3 c^2 / 2)."""

    @property
    def width(self) -> float:
        """c."""
        return self.std / math.sqrt(3)

    def transform(self, omega: Tensor) -> Tensor:
        """(1 + a) exp(-a), a = sqrt 3 c |omega|."""
        a = math.sqrt(3) * self.width * omega.abs()
        return (1 + a) * (-a).exp()

    def variances(self, rng: Rng, like: Tensor) -> Tensor:
        """3 c^2 over a chi square of three degrees of freedom."""
        square = sum(normal(rng, like).square() for _ in range(3))
        return 3 * self.width**2 / torch.as_tensor(square).clamp_min(TINY)

    def conditional(self, u: Tensor, rng: Rng) -> Tensor:
        """(3 c^2 + u^2) over a chi square of four: twice minus the log of two uniform numbers."""
        square = -2 * (uniform(rng, u).log() + uniform(rng, u).log())
        return (3 * self.width**2 + u.square()) / square.clamp_min(TINY)


@dataclass(frozen=True)
class BernoulliLaplace(Increments):
    """0 with probability 1 - p, else Laplace of width b = std / sqrt(2 p): signals that are constant but for jumps."""

    p: float = 0.2

    @property
    def jump(self) -> Laplace:
        """The law of an increment that is one."""
        return Laplace(self.std / math.sqrt(self.p))

    def transform(self, omega: Tensor) -> Tensor:
        """1 - p + p / (1 + b^2 omega^2)."""
        return 1 - self.p + self.p * self.jump.transform(omega)

    def variances(self, rng: Rng, like: Tensor) -> Tensor:
        """0, or a Laplace law's."""
        return (uniform(rng, like) < self.p) * self.jump.variances(rng, like)

    def conditional(self, u: Tensor, rng: Rng) -> Tensor:
        """Of those that are jumps, u != 0; whether there is one is drawn with u integrated out (`gibbs.switches`)."""
        drawn = self.jump.variances(rng, u)
        return torch.where(u == 0, drawn, self.jump.conditional(u, rng))


def inverse_gaussian(mean: Tensor, shape: float, rng: Rng) -> Tensor:
    """Draws of mean `mean` and variance mean^3 / shape (Michael, Schucany and Haas, 1976).

    The smaller root is written as mean over the larger one's ratio: the textbook form cancels where mean >> shape.
    """
    v = mean * normal(rng, mean).square() / (2 * shape)
    ratio = 1 + v + (v * (2 + v)).sqrt()  # the larger root over the mean; the smaller one is its inverse
    return torch.where(uniform(rng, mean) * (1 + 1 / ratio) <= 1, mean / ratio, mean * ratio)


KINDS: dict[str, Increments] = {"laplace": Laplace(), "student": Student(), "bernoulli-laplace": BernoulliLaplace()}
