"""What the inpainting samplers share: the pixels that a mask shows, as one point of the diffusion's own chain.

y = x0 + sigma_y n on the pixels shown is what the chain x0 -> x_s -> ... -> x_t has there at the level sigma_y. So, for any prior,

    sigma_t >= sigma_y:             x_t | y = y + sqrt(sigma_t^2 - sigma_y^2) z
    sigma_s < sigma_y <= sigma_t:   x_s | x0, y, x_t = x_s | x0, y, the generic step from y, as if y were the state and sigma_y its level
    below sigma_y:                  a step down is the prior's own; one up, from x_r to x_s, is drawn between x_r and y
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from invsolve.noise import Ability
from invsolve.operator import Capability
from invsolve.operator.measurement import column, parts
from invsolve.priors.base import Denoiser, Prior
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solver import Requires
from invsolve.solvers.diffusion.common import Restorer


@dataclass(frozen=True)
class Known:
    """The pixels shown.

    Args:
        y: (B, C, H, W).
        shown: bool, (1 or C, H, W) or one mask per item, (B, 1 or C, H, W).
        sigma: sigma_y, (B, 1, 1, 1), in units of the image; 0 for exact pixels.
    """

    y: Tensor
    shown: Tensor
    sigma: Tensor

    @classmethod
    def of(cls, problem: Problem) -> Known:
        """What a problem with a mask tells."""
        y, operator = parts(problem.y)[0], problem.operator
        mask: Any = operator.mask
        return cls(y, mask.to(y.device) != 0, column(problem.sigma.expand(len(y)), y))

    def of_particles(self) -> Known:
        """The same for (B, K, C, H, W): K states an item."""
        return Known(self.y[:, None], self.shown if self.shown.ndim < self.y.ndim else self.shown[:, None], self.sigma[:, None])

    def at(self, x: Tensor, sigma: float, rng: Rng) -> Tensor:
        """x with the pixels shown drawn anew given y, by numbers of their own: y + sqrt(sigma^2 - sigma_y^2) z; as it is below sigma_y."""
        drawn = self.y + (sigma**2 - self.sigma.square()).clamp_min(0).sqrt() * rng.normal_like(x)
        return torch.where(self.shown & (self.sigma <= sigma), drawn, x)

    def down(self, x: Tensor, x0_hat: Tensor, sigma: float, following: float, rng: Rng, eta: float = 1.0) -> Tensor:
        """The generic step sigma -> following, from y where it comes past sigma_y; at 0 it is x0_hat, and y where y is exact."""
        if following == 0:
            return self.pasted(x0_hat)
        passed = self.shown & (following < self.sigma) & (self.sigma <= sigma)
        share = following / torch.where(passed, self.sigma, sigma)
        kept = share * (1 - eta**2 * (1 - share.square())).sqrt()
        x = x0_hat + kept * (torch.where(passed, self.y, x) - x0_hat)
        return x + following * eta * (1 - share.square()).sqrt() * rng.normal_like(x) if eta > 0 else x

    def pasted(self, x0_hat: Tensor) -> Tensor:
        """An estimate with y where y is exact."""
        return torch.where(self.shown & (self.sigma == 0), self.y, x0_hat)

    def along(self, path: Tensor, sigma: float, following: float, rng: Rng) -> Tensor:
        """The known pixels at `following` given y and those at sigma, where that is not below sigma_y; y below."""
        width, left = (sigma**2 - self.sigma.square()).clamp_min(0), (following**2 - self.sigma.square()).clamp_min(0)
        share = torch.where(width > 0, left / torch.where(width > 0, width, 1.0), 0.0)
        return self.y + share * (path - self.y) + (left * (1 - share)).sqrt() * rng.normal_like(path)

    def up(self, x: Tensor, sigma: float, higher: float, rng: Rng) -> Tensor:
        """The state with as much noise as `higher` has; between x and y on pixels shown if that is below sigma_y."""
        added = higher**2 - sigma**2
        below = self.shown & (higher < self.sigma)
        share = torch.where(below, added / (self.sigma.square() - sigma**2).clamp_min(added), 0.0)
        return x + share * (self.y - x) + math.sqrt(added) * (1 - share).sqrt() * rng.normal_like(x)


class Inpainter(Restorer):
    """Base: asks for a mask, and for a first level at which y's noise is not the larger."""

    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.MASK}))
    authors = False

    def gaps(self, problem: Problem, prior: Prior) -> list[str]:
        """A grid that leaves the prior's range, or begins below the noise of y."""
        found = super().gaps(problem, prior)
        assert isinstance(prior, Denoiser)
        if found or Ability.SIGMA not in problem.noise.abilities:
            return found
        noise, top = problem.sigma.max().item(), self.sigmas(prior)[0]
        return [f"y's noise, sigma {noise:.3g}, is above the first noise level of the run, {top:.3g}; raise sigma_max"] * (noise > top)
