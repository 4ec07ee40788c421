"""ADMM on the split z = x: a regulariser's objective exactly, or plug-and-play with a denoiser in place of its prox."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.measurement import column
from invsolve.operator import Capability
from invsolve.priors.base import Denoiser, Prior, Regulariser
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solver import Requires, Solver
from invsolve.solvers.splitting.common import keep, level_gaps, noise_levels, regulariser_prox
from invsolve.solvers.variational.common import first_image, objective, objective_gaps, rms


@dataclass(frozen=True)
class ADMM(Solver):
    """Alternating direction method of multipliers, stopped per item by its primal and dual residuals.

        x = argmin 1/2 |Hx - y|^2 + rho/2 |x - z + u|^2
        z = prox_R(x + u, weight sigma_y^2 / rho)     or     z = D(x + u; sigma_d),  rho = strength sigma_y^2 / sigma_d^2
        u <- u + x - z

    With a regulariser the limit is the minimiser of nll + weight R. With a denoiser rho is tied to its level, because then the
    denoiser of a Gaussian prior has the posterior mean as fixed point, whatever sigma_d; the answer is z.

    Args:
        steps: at most so many iterations; default 500 for a regulariser, 20 for a denoiser.
        tol: an item stops at rms(x - z) <= tol and rho rms(z - z_before) <= tol, both in units of images in [0, 1]; the second
            is the residual of H^T (Hx - y) + rho u = 0. 0 never stops.
        rho: for a regulariser: first penalty, in units of |H|^2, balanced later.
        relaxation: x is replaced by relaxation x + (1 - relaxation) z in the last two lines; in (0, 2), for a regulariser.
        denoiser_sigma: sigma_d in data units; None for sigma_y, or the low end of the prior's range where that is higher.
        strength: for a denoiser: factor in front of rho; more than 1 trusts the denoiser more.

    Raises:
        InputError: a parameter out of its range.

    References:
        Distributed Optimization and Statistical Learning via ADMM (Boyd et al., 2011), sections 3.3 and 3.4.1.
        Plug-and-Play Priors for Model Based Reconstruction (Venkatakrishnan, Bouman, Wohlberg, 2013).
        Deviations: rho is balanced in the first half of the run only, so that convergence is that of a fixed rho; without noise
        the denoiser form takes sigma_y = 0.255 / 255.
    """

    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.PROX}), prior=(Regulariser, Denoiser), prox=True)
    steps: int | None = None
    tol: float = 1e-4
    rho: float = 0.3
    relaxation: float = 1.6
    denoiser_sigma: float | None = None
    strength: float = 1.0

    def __post_init__(self) -> None:
        if self.steps is not None and (not isinstance(self.steps, int) or self.steps < 1):
            raise InputError(f"steps must be a whole number, at least 1; given {self.steps!r}")
        for name in ("rho", "strength"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise InputError(f"{name} must be positive and finite; given {getattr(self, name)}")
        if not self.tol >= 0 or not 0 < self.relaxation < 2:
            raise InputError(f"need tol >= 0 and 0 < relaxation < 2; given tol={self.tol}, relaxation={self.relaxation}")

    def gaps(self, problem: Problem, prior: Prior) -> list[str]:
        """An objective that is none, or a level outside the denoiser's range."""
        if isinstance(prior, Regulariser):
            return objective_gaps(problem, prior)
        assert isinstance(prior, Denoiser)
        return level_gaps(problem, prior, {} if self.denoiser_sigma is None else {"denoiser_sigma": self.denoiser_sigma})

    def iterate(self, problem: Problem, prior: Regulariser | Denoiser, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """x is the answer (z above); stats: primal and dual residual, and the objective where there is one."""
        if start is not None and start.converged:
            return iter([start])
        return self._exact(problem, prior, start) if isinstance(prior, Regulariser) else self._plug(problem, prior, start)

    @torch.no_grad()
    def _exact(self, problem: Problem, prior: Regulariser, start: Step | None) -> Iterator[Step]:
        total = self.steps or 500
        first, z, u, active = self._begin(problem, start)
        state = start.state if start is not None else {}
        sigma, inner = noise_levels(problem), min(1e-4, max(1e-8, 0.1 * self.tol))
        rho, dual = state.get("rho", torch.full_like(sigma, self.rho)), state.get("dual")
        for index in range(first, total):
            x = problem.operator.prox(z - u, problem.y, 1 / rho)
            mixed = self.relaxation * x + (1 - self.relaxation) * z
            new, found = regulariser_prox(prior, mixed + u, prior.weight * sigma**2 / rho, dual, inner)
            primal, change = rms(x - new), rho * rms(new - z)
            u, z = keep(active, u + mixed - new, u), keep(active, new, z)
            dual = found if found is None or dual is None else keep(active, found, dual)
            active = active & ~((primal <= self.tol) & (change <= self.tol))
            if index < total // 2 and index % 5 == 4:
                scale = torch.where(primal > 3 * change, 2.0, torch.where(change > 3 * primal, 0.5, 1.0)).to(rho)
                scale = torch.where(active, scale, 1.0)
                rho, u = rho * scale, u / column(scale, u)
            stats = {"primal": primal, "dual": change, "objective": objective(problem, prior, z)}
            kept = {"u": u, "rho": rho, "active": active, **({} if dual is None else {"dual": dual})}
            done = not bool(active.any())
            yield Step(index, total, z, z, stats=stats, state=kept, converged=done)
            if done:
                return

    @torch.no_grad()
    def _plug(self, problem: Problem, prior: Denoiser, start: Step | None) -> Iterator[Step]:
        total = self.steps or 20
        first, z, u, active = self._begin(problem, start)
        sigma = noise_levels(problem)
        level = sigma.clamp_min(prior.sigma_range[0]) if self.denoiser_sigma is None else torch.full_like(sigma, self.denoiser_sigma)
        rho = self.strength * (sigma / level) ** 2
        for index in range(first, total):
            x = problem.operator.prox(z - u, problem.y, 1 / rho)
            new = prior(x + u, level)
            primal, change = rms(x - new), rho * rms(new - z)
            u, z = keep(active, u + x - new, u), keep(active, new, z)
            active = active & ~((primal <= self.tol) & (change <= self.tol))
            done = not bool(active.any())
            yield Step(index, total, z, z, stats={"primal": primal, "dual": change}, state={"u": u, "active": active}, converged=done)
            if done:
                return

    @staticmethod
    def _begin(problem: Problem, start: Step | None) -> tuple[int, Tensor, Tensor, Tensor]:
        """First index, z, u and which items still run."""
        z = first_image(problem, start)
        state = start.state if start is not None else {}
        running = torch.ones(len(z), dtype=torch.bool, device=z.device)
        return 0 if start is None else start.index + 1, z, state.get("u", torch.zeros_like(z)), state.get("active", running)
