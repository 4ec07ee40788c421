"""Half-quadratic splitting on z = x: a regulariser by continuation, or any denoiser on a decreasing noise level (DPIR)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator import Capability
from invsolve.priors.base import Denoiser, Prior, Regulariser
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solver import Requires, Solver
from invsolve.solvers.splitting.common import level_gaps, noise_levels, regulariser_prox
from invsolve.solvers.variational.common import first_image, objective, objective_gaps

START = 49 / 255  # DPIR's first level


def turned(x: Tensor, index: int) -> Tensor:
    """One of the eight symmetries of the square: index % 4 quarter turns, then a flip from 4 on."""
    x = torch.rot90(x, index % 4, (-2, -1))
    return x.flip(-1) if index % 8 >= 4 else x


def turned_back(x: Tensor, index: int) -> Tensor:
    """The inverse of `turned`."""
    x = x.flip(-1) if index % 8 >= 4 else x
    return torch.rot90(x, -(index % 4), (-2, -1))


@dataclass(frozen=True)
class HQS(Solver):
    """Alternate between the data and the prior with a growing penalty on |x - z|; the answer is the last z.

        x_k = argmin |Hx - y|^2 + rho_k |x - z_{k-1}|^2
        z_k = prox_R(x_k, weight sigma_y^2 / rho_k),  rho_k = growth k           (regulariser)
        z_k = D(x_k; sigma_k),  rho_k = fidelity sigma_y^2 / sigma_k^2           (denoiser; sigma_k falls geometrically)

    A penalty that grows linearly has a divergent sum of steps 1 / rho_k, so the regulariser form tends to the minimiser of
    nll + weight R; a geometric one with one sweep a level stops short of it. At the defaults the objective is within 0.3 % of the
    minimum (TV at its default weight, photographs, noise 0.05; blur, a missing box, 4 x 4 means). The distance falls as 1 / steps,
    but as steps^(-b / growth) in directions the data do not see, b = weight sigma_y^2 R'' there: for a weak R take a smaller
    growth, more steps, or admm.

    Args:
        steps: sweeps; default 100 for a regulariser, 8 for a denoiser (one network evaluation each).
        growth: for a regulariser: rho_k / k, in units of |H|^2.
        sigma_start: for a denoiser: first level in data units; None for DPIR's 49 / 255, or the top of the prior's range where that is
            lower; raised to sigma_y where that is higher.
        sigma_end: last level; None for sigma_y, or the low end of the prior's range where that is higher.
        fidelity: lambda of DPIR: less trusts the data more.
        ensemble: the denoiser sees the k-th of the eight turns and flips in sweep k (a periodic self-ensemble).

    Raises:
        InputError: a parameter out of its range.

    References:
        Plug-and-Play Image Restoration with Deep Denoiser Prior (Zhang et al., 2021), arXiv:2008.13751, section 4: DPIR.
        Nonlinear Image Recovery with Half-Quadratic Regularization (Geman, Yang, 1995).
        Deviations: every item has the schedule of its own noise level; sigma_y below 0.255 / 255 counts as that, as in the
        authors' code; a level below the prior's range is never asked for.
    """

    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.PROX}), prior=(Regulariser, Denoiser), prox=True)
    steps: int | None = None
    growth: float = 0.1
    sigma_start: float | None = None
    sigma_end: float | None = None
    fidelity: float = 0.23
    ensemble: bool = False

    def __post_init__(self) -> None:
        if self.steps is not None and (not isinstance(self.steps, int) or self.steps < 1):
            raise InputError(f"steps must be a whole number, at least 1; given {self.steps!r}")
        for name in ("growth", "sigma_start", "fidelity"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise InputError(f"{name} must be positive and finite; given {value}")
        first = START if self.sigma_start is None else self.sigma_start
        if self.sigma_end is not None and not 0 < self.sigma_end <= first:
            raise InputError(f"sigma_end must lie in (0, sigma_start = {first:.4g}]; given {self.sigma_end}")

    def gaps(self, problem: Problem, prior: Prior) -> list[str]:
        """An objective that is none, or levels outside the denoiser's range."""
        if isinstance(prior, Regulariser):
            return objective_gaps(problem, prior)
        assert isinstance(prior, Denoiser)
        named = {"sigma_start": self.sigma_start, "sigma_end": self.sigma_end}
        return level_gaps(problem, prior, {name: value for name, value in named.items() if value is not None})

    def iterate(self, problem: Problem, prior: Regulariser | Denoiser, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """x is z_k; stats: the objective of z_k, or sigma_k."""
        return self._continuation(problem, prior, start) if isinstance(prior, Regulariser) else self._dpir(problem, prior, start)

    @torch.no_grad()
    def _continuation(self, problem: Problem, prior: Regulariser, start: Step | None) -> Iterator[Step]:
        total = self.steps or 100
        z, dual = first_image(problem, start), None if start is None else start.state.get("dual")
        pull = prior.weight * noise_levels(problem) ** 2
        for index in range(0 if start is None else start.index + 1, total):
            rho = self.growth * (index + 1)
            x = problem.operator.prox(z, problem.y, 1 / rho)
            z, dual = regulariser_prox(prior, x, pull / rho, dual, 1e-4)
            state = {} if dual is None else {"dual": dual}
            yield Step(index, total, z, z, stats={"objective": objective(problem, prior, z)}, state=state)

    def sigmas(self, problem: Problem, prior: Denoiser, steps: int) -> Tensor:
        """The levels (steps, B): from sigma_start down to sigma_end, spaced evenly in log sigma, item by item."""
        sigma = noise_levels(problem)
        end = sigma.clamp_min(prior.sigma_range[0]) if self.sigma_end is None else torch.full_like(sigma, self.sigma_end)
        first = end.clamp_min(min(START, prior.sigma_range[1]) if self.sigma_start is None else self.sigma_start)
        share = (
            torch.linspace(0, 1, steps, dtype=sigma.dtype, device=sigma.device)[:, None] if steps > 1 else torch.ones_like(sigma)[None, :1]
        )
        return first * (end / first) ** share

    @torch.no_grad()
    def _dpir(self, problem: Problem, prior: Denoiser, start: Step | None) -> Iterator[Step]:
        total = self.steps or 8
        sigmas, z = self.sigmas(problem, prior, total), first_image(problem, start)
        taus = sigmas**2 / (self.fidelity * noise_levels(problem) ** 2)
        for index in range(0 if start is None else start.index + 1, total):
            x = problem.operator.prox(z, problem.y, taus[index])
            z = turned_back(prior(turned(x, index), sigmas[index]), index) if self.ensemble else prior(x, sigmas[index])
            yield Step(index, total, z, z, stats={"sigma": sigmas[index]})
