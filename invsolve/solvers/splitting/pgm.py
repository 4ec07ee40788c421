"""Plug-and-play proximal gradient: a gradient step on the data, then a denoiser in place of a prox."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator import Capability
from invsolve.operator.measurement import column, minus
from invsolve.priors.base import Denoiser, Prior
from invsolve.problem import Problem
from invsolve.ranges import Range, Ranges
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solver import Requires, Solver
from invsolve.solvers.splitting.common import level_gaps, noise_levels
from invsolve.solvers.splitting.hqs import START, spaced
from invsolve.solvers.start import first_image


@dataclass(frozen=True)
class PGM(Solver):
    """Alternate a gradient step on |y - Hx|^2 with a denoiser whose level falls to the one that the step belongs to; momentum, too.

        x_k = D(w - step H^T (Hw - y) / |H|^2 + share sigma_k n, sigma_k),   w = x_k + k / (k + 3) (x_k - x_{k-1})
        sigma_k from sigma_start to sqrt(step) sigma_x in the first half of the run, and there in the second

    sigma_x = sigma_y / |H| is the noise in units of the image. A denoiser of level s is the prox of s^2 times -log p for a Gaussian p, and
    the step's prox is of step sigma_x^2: so with the level sqrt(step) sigma_x the fixed point is the posterior mean of a Gaussian. Another
    `denoiser_sigma` counts the prior (denoiser_sigma / (sqrt(step) sigma_x))^2 times.

    Photographs of 64 x 64 with noise .05 and the prior `natural`, made for samplers: 23.0, 22.5, 20.0 dB for a blur of 1.6, a hole of 24
    and 4 x 4 means, where hqs has 23.5, 24.5, 21.5 and red 23.3, 25.0, 20.1.

    Args:
        steps: network evaluations.
        step: in units of 1 / |H|^2, below 2; at most 1 with momentum.
        momentum: as FISTA's; without it the plain iteration (ISTA).
        sigma_start: first level in data units; None for DPIR's 49 / 255 within the prior's range; raised to the last one.
        denoiser_sigma: last level; None for sqrt(step) sigma_x within the prior's range.
        noise: share of sigma_k that is added before the denoiser, but in the last step; without momentum only, which would carry it on.
        positive: x >= 0: the estimate is cut.

    Raises:
        InputError: a parameter out of its range, or a step above 1 with momentum.

    References:
        Plug-and-Play Priors for Bright Field Electron Tomography and Sparse Interpolation (Sreehari et al., 2016) and An Online
        Plug-and-Play Algorithm for Regularized Image Reconstruction (Kamilov, Mansour, Wohlberg, 2017), arXiv:1709.04344: PnP-ISTA, FISTA.
        Deviations: the level falls, since one of sigma_x leaves holes as they were for hundreds of calls; sigma_x below 0.255 / 255 counts
        as that; a level outside the prior's range is never asked for. It converges where D is nonexpansive, which a network need not be.
    """

    ranges: ClassVar[Ranges] = {"step": Range(0.3, 1.0), "denoiser_sigma": Range(0.3, 3.0, log=True, unit="sigma_x")}
    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.ADJOINT}), prior=(Denoiser,))
    declared_bias: ClassVar[Mapping[str, Any]] = {"mean": 0.1}
    steps: int = 30
    step: float = 1.0
    momentum: bool = True
    sigma_start: float | None = None
    denoiser_sigma: float | None = None
    noise: float = 0.0
    positive: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.steps, int) or self.steps < 1:
            raise InputError(f"steps must be a whole number, at least 1; given {self.steps!r}")
        most = 1.0 if self.momentum else math.nextafter(2.0, 0.0)
        if not 0 < self.step <= most:
            raise InputError(f"step must lie in (0, 2) / |H|^2, and be at most 1 with momentum; given {self.step}")
        for name in ("sigma_start", "denoiser_sigma"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise InputError(f"{name} must be positive and finite; given {value}")
        if not 0 <= self.noise <= (0 if self.momentum else 1):
            raise InputError(f"noise must lie in [0, 1], and be 0 with momentum; given {self.noise}")

    def gaps(self, problem: Problem, prior: Prior) -> list[str]:
        """A level outside the prior's range."""
        assert isinstance(prior, Denoiser)
        return level_gaps(prior, {"sigma_start": self.sigma_start, "denoiser_sigma": self.denoiser_sigma})

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Denoiser, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """x is the answer; stats: sigma_k."""
        levels, operator = self.levels(problem, prior), problem.operator
        x = first_image(problem, start)
        w = start.state["w"] if start is not None and start.state else x
        for index in range(0 if start is None else start.index + 1, self.steps):
            level = levels[index]
            near = w - self.step * operator.adjoint(minus(operator(w), problem.y)) / column(problem.gain, w) ** 2
            if self.noise > 0 and index < self.steps - 1:
                near = near + column(self.noise * level, near) * rng.normal_like(near)
            new = prior(near, level)
            new = new.clamp_min(0) if self.positive else new
            w, x = (new + index / (index + 3) * (new - x) if self.momentum else new), new
            yield Step(index, self.steps, x, x, stats={"sigma": level}, state={"w": w})

    def levels(self, problem: Problem, prior: Denoiser) -> Tensor:
        """sigma_k, (steps, B)."""
        sigma, (low, high) = noise_levels(problem), prior.sigma_range
        end = torch.full_like(sigma, self.denoiser_sigma) if self.denoiser_sigma is not None else (self.step**0.5 * sigma).clamp(low, high)
        first = end.clamp_min(min(max(START, low), high) if self.sigma_start is None else self.sigma_start)
        falling = (self.steps + 1) // 2
        return torch.cat([spaced(first, end, falling), end.expand(self.steps - falling, -1)])

    @classmethod
    def examples(cls) -> list[Solver]:
        """Eight steps as they come, and plain with levels of one's own, noise and x >= 0."""
        plain = cls(steps=4, step=1.5, momentum=False, sigma_start=0.4, denoiser_sigma=0.08, noise=0.5, positive=True)
        return [cls(steps=8), plain]
