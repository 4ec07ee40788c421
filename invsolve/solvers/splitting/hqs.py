"""Half-quadratic splitting on z = x: a regulariser by continuation, or any denoiser on a decreasing noise level (DPIR)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator import Capability
from invsolve.operator.measurement import column
from invsolve.priors.base import Denoiser, Prior, Regulariser
from invsolve.priors.self_ensemble import turned, turned_back
from invsolve.problem import Problem
from invsolve.ranges import Range, Ranges
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solver import Requires, Solver
from invsolve.solvers.splitting.common import WEIGHT_FLOOR, copies, data_step, level_gaps, noise_levels, prox_copies, pulls
from invsolve.solvers.variational.common import first_image, objective, objective_gaps

START = 49 / 255  # DPIR's first level
# (last level over sigma_x, fidelity) for networks of plug and play, and for those made for samplers
PLUGGED, SAMPLER = (0.5, 0.23), (0.25, 0.35)
FIRST = 5.0  # of weight sigma_x^2: a total variation then moves a pixel by up to a fifth of the range in the first sweep
SWEEPS = 8  # by default, and what more of them smooth as much as
SAMPLED = 1.0  # a network for levels beyond the images' whole range was made for samplers


def for_samplers(prior: Denoiser) -> bool:
    """Whether a prior is a network made for samplers, so that it has only ever seen images with all the noise it is told."""
    return prior.clip is not None and prior.sigma_range[1] > SAMPLED


def spaced(first: Tensor, last: Tensor, steps: int) -> Tensor:
    """(steps, B): from first to last, evenly in the logarithm; last alone for one step."""
    share = torch.linspace(0, 1, steps, dtype=first.dtype, device=first.device) if steps > 1 else torch.ones_like(first[:1])
    return first * (last / first) ** share[:, None]


@dataclass(frozen=True)
class HQS(Solver):
    """Alternate between the data and the prior with a growing penalty on |x - z|; the answer is the last z.

        x_k = argmin |Hx - y|^2 / |H|^2 + rho_k |x - w_{k-1}|^2
        z_k = prox_R(x_k, weight sigma_x^2 / rho_k),   w_k = z_k + k / (k + 5) (z_k - z_{k-1})              (regulariser)
        z_k = z_{k-1} + a (D(x_k + sigma_k n, sigma_k) - z_{k-1}),   w_k = z_k,   rho_k = fidelity sigma_x^2 / sigma_k^2   (denoiser)

    sigma_x = sigma_y / |H| is the noise in units of the image, so that nothing depends on the unit of y.

    With a regulariser rho_k grows geometrically from 5 weight sigma_x^2 to `steps` weight sigma_x, and x - z, which is about
    weight sigma_x^2 / rho, ends at sigma_x / steps: the data do not feel it. The objective tends to the minimum of nll + weight R as
    1 / steps^2. At the default it is within 0.03 % of the minimum for TV of weight 0.4 / sigma_y, and within 0.13 % for 0.1 / sigma_y
    (32 x 32 photograph, sigma_y 0.005, 0.05, 0.5; blur of 1.6, 4 x 4 means, a missing box).

    With a denoiser sigma_k falls geometrically. A network that was trained for samplers has never seen an image with less noise than it
    is told, and makes structure out of what it misses: told 0.2, the shipped `natural` is 5.5 dB worse on clean pictures than on noisy
    ones. So it gets the noise it is told, drawn anew each time, but for the last step. A network for plug and play takes clean images.
    Inside a hole nothing holds what it does, and D(D(...)) smooths the more the more sweeps there are (`dncnn`, a box of 24 in 64 pixels:
    24.1, 23.7 and 23.2 dB after 8, 20 and 40). So with more than 8 sweeps it moves z by a = 8 / steps only: the sweeps together smooth as
    much as 8, and tend to the flow dz/dt = 8 (D(x(z), sigma(t)) - z), 0 < t < 1 (24.1 dB after 20 and 40).

    Args:
        steps: sweeps; default 100 for a regulariser, 8 for a denoiser (one network evaluation each).
        growth: for a regulariser: rho_k / k in units of |H|^2, in place of the schedule above.
        sigma_start: for a denoiser: first level in data units; None for DPIR's 49 / 255 within the prior's range; raised to the last level
            where that is higher.
        sigma_end: last level; None for sigma_x / 2, or sigma_x / 4 for a network made for samplers, within the prior's range.
        fidelity: lambda of DPIR: less trusts the data more; None for DPIR's 0.23, or 0.35 for a network made for samplers.
        noise: share of sigma_k that is added before the denoiser; None: 1 for a network made for samplers (it has a `clip`, and levels
            above 1), else 0.
        relaxation: a, in (0, 1]; None: 8 / steps with more than 8 sweeps of a network for plug and play, else 1. DPIR's 1 is up to
            .5 dB better in 20 or 40 sweeps where pixels are missing one by one, .15 for enlargement, and worse in holes.
        ensemble: the denoiser sees the k-th of the eight turns and flips in sweep k (a periodic self-ensemble); for priors that know no
            place.
        positive: x >= 0. The objective has it as a second copy of x, and the answer is cut at 0; a denoiser's estimate is cut.

    Raises:
        InputError: a parameter out of its range.

    References:
        Plug-and-Play Image Restoration with Deep Denoiser Prior (Zhang et al., 2021), arXiv:2008.13751, section 4: DPIR.
        Nonlinear Image Recovery with Half-Quadratic Regularization (Geman, Yang, 1995).
        A Fast Iterative Shrinkage-Thresholding Algorithm (Beck, Teboulle, 2009), for w; its factor from Chambolle and Dossal (2015).
        Denoising Diffusion Models for Plug-and-Play Image Restoration (Zhu et al., 2023), arXiv:2305.08995, for the noise.
        Deviations: every item has the schedule of its own noise level; a denoiser takes sigma_x below 0.255 / 255 for that; DPIR ends at
        sigma_y, which half of is better for enlargement and no worse elsewhere; a level outside the prior's range is never asked for; a.
        DPIR's own code agrees to 8e-12 with noise=0, relaxation=1 and its levels (benchmarks/results/parity.md).
    """

    ranges: ClassVar[Ranges] = {
        "fidelity": Range(0.05, 2.0, log=True, only="denoiser"),
        "noise": Range(0.0, 1.0, only="denoiser"),
        "growth": Range(1.2, 8.0, log=True, only="regulariser"),
    }
    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.PROX}), prior=(Regulariser, Denoiser), prox=True)
    declared_bias: ClassVar[Mapping[str, Any]] = {"mean": 0.7}
    steps: int | None = None
    growth: float | None = None
    sigma_start: float | None = None
    sigma_end: float | None = None
    fidelity: float | None = None
    noise: float | None = None
    relaxation: float | None = None
    ensemble: bool = False
    positive: bool = False

    def __post_init__(self) -> None:
        if self.steps is not None and (not isinstance(self.steps, int) or self.steps < 1):
            raise InputError(f"steps must be a whole number, at least 1; given {self.steps!r}")
        for name in ("growth", "sigma_start", "fidelity"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise InputError(f"{name} must be positive and finite; given {value}")
        if self.noise is not None and not 0 <= self.noise <= 1:
            raise InputError(f"noise must lie in [0, 1], or be None; given {self.noise}")
        if self.relaxation is not None and not 0 < self.relaxation <= 1:
            raise InputError(f"relaxation must lie in (0, 1], or be None; given {self.relaxation}")
        first = START if self.sigma_start is None else self.sigma_start
        if self.sigma_end is not None and not 0 < self.sigma_end <= first:
            raise InputError(f"sigma_end must lie in (0, sigma_start = {first:.4g}]; given {self.sigma_end}")

    def gaps(self, problem: Problem, prior: Prior) -> list[str]:
        """An objective that is none, levels outside the denoiser's range, or turns for a prior that knows its place."""
        if isinstance(prior, Regulariser):
            return objective_gaps(problem, prior)
        assert isinstance(prior, Denoiser)
        gaps = level_gaps(prior, {"sigma_start": self.sigma_start, "sigma_end": self.sigma_end})
        if self.ensemble and not prior.placeless:
            name = type(prior).__name__
            gaps.append(f"ensemble=True turns the image, and prior {name} does not say that it knows no place (its `placeless`)")
        return gaps

    def iterate(self, problem: Problem, prior: Regulariser | Denoiser, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """x is z_k; stats: the objective of z_k, or sigma_k."""
        return self._continuation(problem, prior, start) if isinstance(prior, Regulariser) else self._dpir(problem, prior, rng, start)

    def penalties(self, problem: Problem, prior: Regulariser, steps: int) -> Tensor:
        """rho_k in units of |H|^2, (steps, B)."""
        sigma = problem.sigma_x
        if self.growth is not None:
            return self.growth * torch.arange(1, steps + 1, dtype=sigma.dtype, device=sigma.device)[:, None] * torch.ones_like(sigma)
        weight = max(prior.weight, WEIGHT_FLOOR)
        first = FIRST * weight * sigma**2
        return spaced(first, torch.maximum(first, steps * weight * sigma), steps)

    @torch.no_grad()
    def _continuation(self, problem: Problem, prior: Regulariser, start: Step | None) -> Iterator[Step]:
        total = self.steps or 100
        state = start.state if start is not None else {}
        z = state.get("z", copies(first_image(problem, start), self.positive))
        before, dual = state.get("before", z), state.get("dual")
        penalties, pull = self.penalties(problem, prior, total), pulls(problem, prior)
        for index in range(0 if start is None else start.index + 1, total):
            rho = penalties[index]
            ahead = z + index / (index + 5) * (z - before)
            x = data_step(problem, ahead.mean(1), z.shape[1] * rho)
            before = z
            z, dual = prox_copies(prior, copies(x, self.positive), pull / rho, dual, 1e-4, self.positive)
            answer = z[:, 0].clamp_min(0) if self.positive else z[:, 0]
            kept = {"z": z, "before": before, **({} if dual is None else {"dual": dual})}
            yield Step(index, total, answer, answer, stats={"objective": objective(problem, prior, answer)}, state=kept)

    def sigmas(self, problem: Problem, prior: Denoiser, steps: int) -> Tensor:
        """The levels (steps, B): from sigma_start down to sigma_end, spaced evenly in log sigma, item by item."""
        sigma, (low, high) = noise_levels(problem), prior.sigma_range
        share = (SAMPLER if for_samplers(prior) else PLUGGED)[0]
        end = (share * sigma).clamp(low, high) if self.sigma_end is None else torch.full_like(sigma, self.sigma_end)
        first = end.clamp_min(min(max(START, low), high) if self.sigma_start is None else self.sigma_start)
        return spaced(first, end, steps)

    def moved(self, prior: Denoiser, steps: int) -> float:
        """a: how much of the way to the denoiser's estimate z goes in one of so many sweeps."""
        if self.relaxation is not None:
            return self.relaxation
        plugged = prior.clip is not None and not for_samplers(prior)
        return min(1.0, SWEEPS / steps) if plugged else 1.0

    @torch.no_grad()
    def _dpir(self, problem: Problem, prior: Denoiser, rng: Rng, start: Step | None) -> Iterator[Step]:
        total = self.steps or SWEEPS
        sigmas, z = self.sigmas(problem, prior, total), first_image(problem, start)
        share = float(for_samplers(prior)) if self.noise is None else self.noise
        fidelity = (SAMPLER if for_samplers(prior) else PLUGGED)[1] if self.fidelity is None else self.fidelity
        moved = self.moved(prior, total)
        for index in range(0 if start is None else start.index + 1, total):
            level = sigmas[index]
            x = data_step(problem, z, fidelity * (noise_levels(problem) / level) ** 2)
            if share > 0 and index < total - 1:
                x = x + column(share * level, x) * rng.normal_like(x)
            mean = turned_back(prior(turned(x, index), level), index) if self.ensemble else prior(x, level)
            z = mean if moved == 1 else torch.lerp(z, mean, moved)
            z = z.clamp_min(0) if self.positive else z
            yield Step(index, total, z, z, stats={"sigma": level})

    @classmethod
    def examples(cls) -> list[Solver]:
        """Eight steps as they come, and with a growth and a relaxation of one's own, noise and x >= 0."""
        return [cls(steps=8), cls(steps=4, growth=0.1, noise=1.0, relaxation=1.0, positive=True)]
