"""The moving image of PartDiff: from the picture at no noise to the upsampled measurement at the level where sampling starts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator.measurement import column
from invsolve.schedule import DiscreteVP


@dataclass(frozen=True)
class Moving:
    """x_bar(sigma) = w x0 + (1 - w) c with w = 1 - t / K at the level of the t-th of T steps: 1 at sigma = 0, 0 from the K-th on.

    Noised, w x0 + (1 - w) c + sigma n = w (x0 + (sigma / w) n) + (1 - w) c: given c it is an affine map of x0 at the noise level
    sigma / w, which rises from 0 to infinity at the K-th step. A denoiser of the moving image is therefore one of x0.

    Args:
        total: T, steps of the whole schedule, a linear one of a DiscreteVP whose betas are 2000 / T times SR3's.
        part: K, the step that sampling starts from.

    Raises:
        InputError: not 2 <= K <= T, or more than 2000 steps, or fewer than 25, of which SR3's betas leave the range of betas.

    References:
        PartDiff: Image Super-resolution with Partial Diffusion Models (Zhao et al., 2023), arXiv:2307.11926, latent alignment: T = 100,
        K = 25 or 50. Deviation: between two steps t is interpolated linearly in log sigma, below the first one linearly in sigma.
    """

    total: int = 100
    part: int = 25

    def __post_init__(self) -> None:
        if not (25 <= self.total <= 2000 and 2 <= self.part <= self.total):
            raise InputError(f"need 25 <= total <= 2000 and 2 <= part <= total; given total={self.total}, part={self.part}")

    def outer(self) -> list[float]:
        """sigma_t / w_t for t = 1 ... K - 1, rising: the levels of x0 that the steps before the last are at."""
        return [sigma / (1 - t / self.part) for t, sigma in enumerate(self.levels[:-1], 1)]

    @cached_property
    def levels(self) -> tuple[float, ...]:
        """sigma_1 < ... < sigma_K for images in [0, 1]: half of those in [-1, 1]."""
        finer = 2000 / self.total
        return tuple(sigma / 2 for sigma in DiscreteVP(self.total, 1e-6 * finer, 1e-2 * finer).sigmas[: self.part])

    def time(self, sigma: Tensor) -> Tensor:
        """t of each level, any number of 0 <= t <= K."""
        table = torch.tensor(self.levels, dtype=torch.float64, device=sigma.device)
        level = sigma.detach().double()
        above = torch.searchsorted(table, level.contiguous()).clamp(1, self.part - 1)
        below, after = table[above - 1], table[above]
        within = above + (level.clamp(below, after) / below).log() / (after / below).log()
        return torch.where(level < table[0], level / table[0], within).to(sigma.dtype)

    def share(self, sigma: Tensor) -> Tensor:
        """w."""
        return 1 - self.time(sigma) / self.part

    def between(self, x0: Tensor, condition: Tensor, sigma: Tensor) -> Tensor:
        """x_bar, sigma (B,) or (B, 1, 1, 1)."""
        w = column(self.share(sigma.reshape(-1)), x0)
        return w * x0 + (1 - w) * condition

    def inner(self, level: Tensor) -> Tensor:
        """The sigma with sigma / w = level, for levels of any shape.

        Below the first step sigma = level / (1 + level / (K sigma_1)). Between two, with r the slope of log sigma in t and u = K - t,
        log u + r u = log(sigma_t / level) + r (K - t) + log K at the step t before: ten of Newton's steps from there, more than enough,
        since the equation is convex in log u and nearly linear over a step.
        """
        table = torch.tensor(self.levels, dtype=torch.float64, device=level.device)
        outer = torch.tensor(self.outer(), dtype=torch.float64, device=level.device)
        asked = level.detach().double().clamp_max(1e300)  # infinity is the level of the K-th step
        before = torch.searchsorted(outer, asked.contiguous()).clamp(1, self.part - 1)
        sigma, slope = table[before - 1], (table[before] / table[before - 1]).log()
        wanted = (sigma / asked).log() + slope * (self.part - before) + math.log(self.part)
        rest = (self.part - before).double().log()  # log u
        for _ in range(10):
            rest = rest - (rest + slope * rest.exp() - wanted) / (1 + slope * rest.exp())
        within = sigma * (slope * (self.part - before - rest.exp())).exp()
        first = asked / (1 + asked / (self.part * table[0]))
        return torch.where(first < table[0], first, within).to(level.dtype)
