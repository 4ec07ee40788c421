"""Conditional networks in closed form: of images x0 ~ N(m, C) and measurements y = A x0 + s n, what an ideally trained network gives.

    x0 | y ~ N(mu(y), C_y),   D(x, sigma, c) = E[x0 | x0 + sigma n = x, y] = mu + C_y (C_y + sigma^2)^-1 (x - mu)

Eigenvectors of C_y make both cheap; the condition c is A^+ y, from which y = A c.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from invsolve.noise import GaussianNoise
from invsolve.operator.matrix import MatrixOperator
from invsolve.operator.measurement import column
from invsolve.priors.base import Prior
from invsolve.priors.conditional import ConditionalPrior
from invsolve.priors.made_for import MadeFor
from invsolve.priors.moving import Moving
from invsolve.priors.staged import StagedPrior
from invsolve.problem import Problem

SHAPE = (1, 4, 6)
STD = 0.25


class GaussianPairs(nn.Module):
    """The closed form as a network (x, sigma, condition); see the module.

    Args:
        shape: (C, H, W) of n pixels in all.
        mean: m, a number.
        covariance: C, (n, n) float64.
        matrix: A, (m, n) float64 of full row rank.
        noise: s.
        moving: the network is shown w x0 + (1 - w) c + sigma n, as PartDiff's is.
    """

    gain: Tensor
    matrix: Tensor
    spread: Tensor
    basis: Tensor

    def __init__(
        self, shape: tuple[int, ...], mean: float, covariance: Tensor, matrix: Tensor, noise: float, moving: Moving | None = None
    ) -> None:
        super().__init__()
        self.shape, self.mean, self.moving = shape, mean, moving
        size = len(matrix)
        seen = matrix @ covariance @ matrix.T + noise**2 * torch.eye(size, dtype=matrix.dtype)
        gain = torch.linalg.solve(seen, matrix @ covariance).T
        spread, basis = torch.linalg.eigh(covariance - gain @ matrix @ covariance)
        values = {"gain": gain, "matrix": matrix, "spread": spread.clamp_min(0), "basis": basis}
        for name, value in values.items():
            self.register_buffer(name, value)

    def means(self, condition: Tensor) -> Tensor:
        """mu(y), (B, n)."""
        offset = condition.flatten(1).double() - self.mean
        return self.mean + offset @ self.matrix.T @ self.gain.T

    @property
    def covariance(self) -> Tensor:
        """C_y."""
        return self.basis @ torch.diag(self.spread) @ self.basis.T

    def forward(self, x: Tensor, sigma: Tensor, condition: Tensor) -> Tensor:
        """E[x0 | x, y] in x's dtype; sigma > 0."""
        state, mu = x.flatten(1).double(), self.means(condition)
        level = column(sigma.double(), mu)
        w = torch.ones_like(level)
        if self.moving is not None:
            w = column(self.moving.share(sigma.double()), mu)
            state = state - (1 - w) * condition.flatten(1).double()
        shrink = w * self.spread / (w**2 * self.spread + level**2)
        out = mu + ((state - w * mu) @ self.basis * shrink) @ self.basis.T
        return out.reshape(x.shape).to(x.dtype)


def smooth_covariance(shape: tuple[int, ...] = SHAPE, std: float = STD) -> Tensor:
    """std^2 exp(-d / 2) with the distance d of two pixels, (n, n) float64."""
    _, height, width = shape
    place = torch.cartesian_prod(torch.arange(height, dtype=torch.float64), torch.arange(width, dtype=torch.float64))
    return std**2 * (-torch.cdist(place, place) / 2).exp()


def neighbours(shape: tuple[int, ...] = SHAPE) -> Tensor:
    """The means of two neighbours in a row, (n / 2, n) float64."""
    half = shape[-1] // 2
    row = torch.eye(half, dtype=torch.float64).repeat_interleave(2, 1) / 2
    return torch.kron(torch.eye(shape[-2], dtype=torch.float64), row)


class GaussianPairsPrior(ConditionalPrior):
    """A conditional prior in closed form: smooth pixels of which the means of neighbours are measured.

    Args:
        noise: of the measurement.
        mean: of the pixels.
        total, part: T and K of a network of the moving image; 0 for one of the image itself.
    """

    def __init__(self, noise: float = 0.05, mean: float = 0.5, total: int = 0, part: int = 0) -> None:
        matrix, moving = neighbours(), Moving(total, part) if total else None
        network = GaussianPairs(SHAPE, mean, smooth_covariance(), matrix, noise, moving)
        table = {"name": "matrix", "matrix": matrix.tolist(), "out_shape": [1, 4, 3]}
        made_for = MadeFor((table,), noise=(noise, noise), up="pinv", shape=SHAPE)
        top = 80.0 if moving is None else moving.outer()[-1]
        super().__init__(network, made_for, moving=moving, sigma_range=(0.002, top), s0=STD, centre=mean, precision="float64")

    @classmethod
    def examples(cls) -> list[Prior]:
        """Of the image itself, and of the moving one."""
        return [cls(), cls(total=40, part=8)]


def gaussian_stages(noise: float = 0.05) -> StagedPrior:
    """x ~ N(1/2, C) of (1, 2, 8) pixels, z the means of its neighbours, y the means of z's with noise: p(z | y) and p(x | z)."""
    large, middle = (1, 2, 8), (1, 2, 4)
    first, second, covariance = neighbours(middle), neighbours(large), smooth_covariance(large)
    stages = []
    for shape, matrix, cov, level in ((middle, first, second @ covariance @ second.T, noise), (large, second, covariance, 0.0)):
        table = {"name": "matrix", "matrix": matrix.tolist(), "out_shape": [1, 2, shape[-1] // 2]}
        made_for = MadeFor((table,), noise=(level, level), up="pinv", shape=shape)
        network = GaussianPairs(shape, 0.5, cov, matrix, level)
        stages.append(ConditionalPrior(network, made_for, sigma_range=(0.002, 80.0), s0=STD, centre=0.5, precision="float64"))
    return StagedPrior(*stages)


def averages(x: Tensor, unit: float = 1.0, noise: float = 0.05) -> Problem:
    """The means of neighbours of images x (B, 1, H, W) with noise, all times `unit`."""
    shape = tuple(x.shape[1:])
    operator = MatrixOperator(unit * neighbours(shape), shape, (*shape[:-1], shape[-1] // 2))
    return Problem.simulate(operator, x, GaussianNoise(unit * noise), generator=0, check_range=False)
