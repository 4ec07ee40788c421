"""Few-step maps: the consistency objective, its noise levels, and the loop's own shape of it.

    f(x, sigma) = the end, at sigma 0, of the path through x of the probability-flow ODE   dx / dsigma = (x - D(x, sigma)) / sigma

f is the same all along a path, and f(x, 0) = x. A pair of neighbouring levels s < t asks for both:

    L = E s0 / (t - s) d(f(x_t, t), stop f(x_s, s)),   x_t = x0 + t n,   d(a, b) = sqrt(mean |a - b|^2 / s0^2 + c^2) - c

x_s is one step of the teacher's ODE from x_t (distillation), or x0 + s n with the same noise (training without a teacher: unbiased, since
E[x0 | x_t] is the teacher's D). At s = 0 the target is x_s itself: the boundary is put into the target, so that any network will do.

References:
    Consistency Models (Song, Dhariwal, Chen, Sutskever, 2023), arXiv:2303.01469, algorithms 2 and 3.
    Improved Techniques for Training Consistency Models (Song, Dhariwal, 2023), arXiv:2310.14189: no average of weights in the target, d and
    its c, the factor 1 / (t - s), log-normal levels, a number of levels that doubles.
    Deviations: paths end at sigma 0 and not at the lowest level, so that the teacher's networks keep their preconditioning; the last step
    is Euler's, as in EDM's sampler. d is a mean over pixels and in units of s0, so that no setting depends on side or range. Levels are
    drawn from the config's law and moved up to the next of the ladder, which is their discretised log-normal law.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from invsolve.errors import InputError
from invsolve.priors.base import Denoiser
from invsolve.rng import Rng
from invsolve.schedule import karras
from invsolve.solvers.diffusion.common import estimate
from invsolve.solvers.paths import descend
from invsolve.training.loop import Recipe, Training

PATH = 16  # evaluations of the path that the log holds the map against


def ladder(count: int, low: float, high: float) -> Tensor:
    """0 and `count` rising levels from low to high, (count + 1,) float64: EDM's, whose steps are even in sigma^(1/7)."""
    return torch.tensor(karras(count, low, high)[::-1], dtype=torch.float64)


def levels_at(done: float, first: int, last: int) -> int:
    """How many levels there are when a part of the run is done: first, twice as many, ..., at most last, each for the same time."""
    stages = max(1, math.ceil(math.log2(last / first)) + 1)
    return min(last, first * 2 ** min(int(done * stages), stages - 1))


def neighbours(sigma: Tensor, rungs: Tensor) -> tuple[Tensor, Tensor]:
    """(t, s) of each item: the first rung from sigma on, and the one below it; (B,) of sigma's type."""
    index = torch.searchsorted(rungs.to(sigma.device), sigma.double() * (1 - 1e-6)).clamp(1, len(rungs) - 1)
    rungs = rungs.to(sigma)
    return rungs[index], rungs[index - 1]


def ode_step(teacher: Denoiser, x: Tensor, t: Tensor, s: Tensor, ode: str) -> Tensor:
    """x at level t moved to level s along the teacher's ODE by one step, "euler" or "heun"; t, s (B,). To s = 0 it is Euler's."""
    high, low = t.reshape(-1, 1, 1, 1), s.reshape(-1, 1, 1, 1)
    slope = (x - estimate(teacher, x, t)) / high
    moved = x + (low - high) * slope
    on = s > 0
    if ode == "euler" or not bool(on.any()):
        return moved
    # Every row is asked, at its own level, so that batches keep one shape; rows that end at 0 keep Euler's answer.
    below = torch.where(on, s, t)
    second = (moved - estimate(teacher, moved, below)) / below.reshape(-1, 1, 1, 1)
    return torch.where(on.reshape(-1, 1, 1, 1), x + (low - high) * (slope + second) / 2, moved)


def consistency_losses(
    network: nn.Module,
    x0: Tensor,
    pair: tuple[Tensor, Tensor],
    noise: Tensor,
    s0: float,
    huber: float = 0.00108,
    teacher: Denoiser | None = None,
    ode: str = "heun",
) -> Tensor:
    """L of each item, (B,).

    Args:
        network: (x, sigma) -> f(x, sigma).
        x0: (B, C, H, W) in [0, 1].
        pair: (t, s), each (B,), s < t; s may be 0.
        noise: (B, C, H, W), standard normal.
        s0: standard deviation of the data.
        huber: c, in units of s0.
        teacher: whose paths are followed; None: the data's own.
        ode: "heun" or "euler".
    """
    t, s = pair
    high, low = t.reshape(-1, 1, 1, 1), s.reshape(-1, 1, 1, 1)
    x = x0 + high * noise
    with torch.no_grad():
        moved = x0 + low * noise if teacher is None else ode_step(teacher, x, t, s, ode)
        target = torch.where(low > 0, network(moved, torch.where(s > 0, s, t)), moved)
    error = (network(x, t) - target).square().flatten(1).mean(1)
    # c (sqrt(1 + e) - 1) without its cancellation for small errors
    ratio = error / s0**2
    return s0 / (t - s) * ratio / ((ratio + huber**2).sqrt() + huber)


@dataclass(frozen=True)
class ConsistencyRecipe(Recipe):
    """A recipe of a few-step map; `target` is not looked at.

    Args:
        rungs: numbers of noise levels at the start and at the end of the run, doubling between.
        huber: c of the distance, in units of s0; 0.00108 is the authors' 0.00054 for data of standard deviation 1/2.
        ode: the teacher's step, "heun" or "euler".
    """

    rungs: tuple[int, int] = (20, 160)
    huber: float = 0.00108
    ode: str = "heun"


class ConsistencyTraining(Training):
    """A run of a few-step map; its log has the PSNR of f(x, sigma) against the end of the teacher's path in 16 evaluations.

    Args:
        arguments: those of `Training`.
        teacher: a denoiser; None for training without one.
        options: those of `Training`.

    Raises:
        InputError: a teacher that is a few-step map itself, does not take the crops, or whose levels do not reach those of the recipe.
    """

    recipe: ConsistencyRecipe

    def __init__(self, *arguments: Any, teacher: Denoiser | None = None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.teacher = None if teacher is None else self._fitting(teacher).to(self.device)
        self.paths: list[tuple[float, Tensor, Tensor]] = [] if self.teacher is None else self._paths(self.teacher)

    def _fitting(self, teacher: Denoiser) -> Denoiser:
        sigmas, (low, high) = self.recipe.sigmas, teacher.sigma_range
        if teacher.few_step:
            raise InputError("teacher: it is a few-step map itself, which has no ODE to follow; give the denoiser that it was made from")
        if sigmas.low < low * (1 - 1e-6) or sigmas.high > high * (1 + 1e-6):
            raise InputError(f"sigmas: {sigmas.low:g} to {sigmas.high:g}, but the teacher is good for {low:g} to {high:g}; narrow them")
        if teacher.channels not in (None, self.crops.channels):
            raise InputError(f"teacher: it takes {teacher.channels} channels, the network {self.crops.channels}; give one of as many")
        return teacher

    @torch.no_grad()
    def _paths(self, teacher: Denoiser) -> list[tuple[float, Tensor, Tensor]]:
        """(sigma, x, end of the path through x) of the validation images at each level within the recipe's."""
        if self.validation is None:
            return []
        noise = torch.randn(self.validation.shape, generator=torch.Generator().manual_seed(0)).to(self.device)
        found = []
        for level in self.recipe.levels:
            if self.recipe.sigmas.low <= level / 255 <= self.recipe.sigmas.high:
                x = self.validation + level / 255 * noise
                found.append((level, x, descend(teacher, x, level / 255, PATH, Rng(0, range(len(x))))))
        return found

    def _losses(self, batch: Tensor) -> tuple[Tensor, float]:
        recipe = self.recipe
        rungs = ladder(levels_at(self.done, *recipe.rungs), recipe.sigmas.low, recipe.sigmas.high)

        def losses(x0: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
            pair = neighbours(sigma, rungs)
            return consistency_losses(self.model, x0, pair, noise, recipe.s0, recipe.huber, self.teacher, recipe.ode)

        return self._weighed(batch, losses)

    @torch.no_grad()
    def _measures(self) -> dict[str, float]:
        if self.teacher is None:
            return super()._measures()
        found = {}
        for level, x, end in self.paths:
            made = self.ema(x, torch.full((len(x),), level / 255, device=self.device)).float()
            found[f"path{level:g}"] = round(float((-10 * (made - end).square().flatten(1).mean(1).log10()).mean()), 3)
        return found
