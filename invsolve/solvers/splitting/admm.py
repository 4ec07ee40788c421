"""ADMM on the split z = x: a regulariser's objective exactly, or plug-and-play with a denoiser in place of its prox."""

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
from invsolve.problem import Problem
from invsolve.ranges import Range, Ranges
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solver import Requires, Solver, looked
from invsolve.solvers.splitting.common import WEIGHT_FLOOR, copies, data_step, keep, level_gaps, noise_levels, prox_copies, pulls
from invsolve.solvers.start import seen_share
from invsolve.solvers.variational.common import first_image, objective, objective_gaps, rms

RHO = 0.3  # first penalty at most
FIRST = 15.0  # of weight sigma_x^2: the first penalty for a weak regulariser
PLUGGED = 7.5  # sigma_x tol is the tolerance of the denoiser form's gradient, in units of sigma_x
LEVEL = 0.05  # a denoiser told less moves so little that it takes hundreds of calls
MOST = 3.0  # of sigma_x: the best of 1 .. 5 for a blur of 1.6 pixels, on photographs with dncnn
PATIENCE, FALL = 6, 0.95  # a residual that has not fallen to this share within so many calls will not


@dataclass(frozen=True)
class ADMM(Solver):
    """Alternating direction method of multipliers, stopped per item by its primal and dual residuals.

        x = argmin |Hx - y|^2 / |H|^2 + rho |x - z + u|^2
        z = prox_R(x + u, weight sigma_x^2 / rho)     or     z = D(x + u; sigma_d),  rho = strength sigma_x^2 / sigma_d^2
        u <- u + x - z

    sigma_x = sigma_y / |H| is the noise in units of the image, so that nothing depends on the unit of y.

    With a regulariser the limit is the minimiser of nll + weight R. With a denoiser rho is tied to its level, because then the
    denoiser of a Gaussian prior has the posterior mean as fixed point, whatever sigma_d; the answer is z. What is left of
    H^T (Hz - y) / |H|^2 + rho u = 0 is then one vector g, since z = D(z + u) holds after every iteration.

    With a regulariser the defaults end within 0.01 % of the minimum in the cases of `hqs`, after 6 to 40 iterations. Networks made for
    plug and play fare as well as in `hqs`; one made for samplers (the shipped `natural`), which wants the noise it is told, does not: it
    ends 0.6 to 3 dB below, but for 4 x 4 means with noise 0.2. Take hqs there.

    Args:
        steps: at most so many iterations; default 500 for a regulariser, 100 for a denoiser.
        tol: with a regulariser an item stops at rms(x - z) <= tol sigma_x and rho rms(z - z_before) <= tol max(rho rms(u), sigma_x^2);
            with a denoiser at rms(g) <= 7.5 tol sigma_x^2, which for Gaussian priors is less than a twentieth of the posterior's standard
            deviation (0.034 at most in 24 cases), or where rms(g) has not fallen by 5 % in 6 calls: a network's never falls to 0. 0 never
            stops.
        rho: for a regulariser: first penalty, in units of |H|^2, balanced later; None for 15 weight sigma_x^2, at most 0.3.
        relaxation: x is replaced by relaxation x + (1 - relaxation) z in the last two lines; in (0, 2), for a regulariser.
        denoiser_sigma: sigma_d in data units; None for sigma_x / sqrt(s), s the share of the image that is seen (the mean diagonal of
            H^T H / |H|^2), but at most 3 sigma_x, at least 0.05 and within the prior's range.
        strength: for a denoiser: factor in front of rho; more than 1 trusts the denoiser more.
        positive: x >= 0. The objective has it as a second copy of x, and the answer is cut at 0; a denoiser's estimate is cut.

    Raises:
        InputError: a parameter out of its range.

    References:
        Distributed Optimization and Statistical Learning via ADMM (Boyd et al., 2011), sections 3.3 and 3.4.1.
        ADMM Penalty Parameter Selection by Residual Balancing (Wohlberg, 2017), arXiv:1704.06209: relative residuals.
        Plug-and-Play Priors for Model Based Reconstruction (Venkatakrishnan, Bouman, Wohlberg, 2013).
        Deviations: rho is balanced in the first half of the run only, so that convergence is that of a fixed rho; without noise
        the denoiser form takes sigma_x = 0.255 / 255.
    """

    ranges: ClassVar[Ranges] = {"strength": Range(0.2, 5.0, log=True, only="denoiser")}
    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.PROX}), prior=(Regulariser, Denoiser), prox=True)
    declared_bias: ClassVar[Mapping[str, Any]] = {"mean": 0.3}
    unreached: ClassVar[Mapping[str, str]] = {
        "return sigma.clamp_min(LEVEL)": "a prox without an adjoint: a plug-in's operator that is not linear"
    }
    steps: int | None = None
    tol: float = 4e-3
    rho: float | None = None
    relaxation: float = 1.6
    denoiser_sigma: float | None = None
    strength: float = 1.0
    positive: bool = False

    def __post_init__(self) -> None:
        if self.steps is not None and (not isinstance(self.steps, int) or self.steps < 1):
            raise InputError(f"steps must be a whole number, at least 1; given {self.steps!r}")
        for name in ("rho", "strength"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise InputError(f"{name} must be positive and finite; given {value}")
        if not self.tol >= 0 or not 0 < self.relaxation < 2:
            raise InputError(f"need tol >= 0 and 0 < relaxation < 2; given tol={self.tol}, relaxation={self.relaxation}")

    def stated_bias(self) -> Mapping[str, Any]:
        """That of the defaults for every penalty and every level of the denoiser, on which the limit does not depend."""
        return self.declared_bias if self.strength == 1 and 0 < self.tol <= type(self).tol and not self.positive else {}

    def gaps(self, problem: Problem, prior: Prior) -> list[str]:
        """An objective that is none, or a level outside the denoiser's range."""
        if isinstance(prior, Regulariser):
            return objective_gaps(problem, prior)
        assert isinstance(prior, Denoiser)
        return level_gaps(prior, {"denoiser_sigma": self.denoiser_sigma})

    def iterate(self, problem: Problem, prior: Regulariser | Denoiser, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """x is the answer (z above); stats: primal and dual residual, and the objective where there is one."""
        if start is not None and start.converged:
            return iter([start])
        return self._exact(problem, prior, start) if isinstance(prior, Regulariser) else self._plug(problem, prior, start)

    @torch.no_grad()
    def _exact(self, problem: Problem, prior: Regulariser, start: Step | None) -> Iterator[Step]:
        total, sigma, pull = self.steps or 500, problem.sigma_x, pulls(problem, prior)
        first, z, u, active = self._begin(problem, start, self.positive)
        state = start.state if start is not None else {}
        inner = min(1e-5, max(1e-9, 2.5e-3 * self.tol))
        rho, dual = state.get("rho", self._penalty(problem, prior)), state.get("dual")
        for index in range(first, total):
            x = data_step(problem, (z - u).mean(1), z.shape[1] * rho)[:, None]
            mixed = self.relaxation * x + (1 - self.relaxation) * z
            new, found = prox_copies(prior, mixed + u, pull / rho, dual, inner, self.positive)
            primal, change = rms(x - new), rho * rms(new - z)
            u, z = keep(active, u + mixed - new, u), keep(active, new, z)
            dual = found if found is None or dual is None else keep(active, found, dual)
            small = torch.maximum(rho * rms(u), sigma**2)
            active = active & ~((primal <= self.tol * sigma) & (change <= self.tol * small))
            if index < total // 2 and index % 5 == 4:
                # Without a regulariser u tends to 0 and tells no scale: then the residuals are compared as they are.
                left, right = primal / sigma, change / small
                scale = torch.where(left > 3 * right, 2.0, torch.where(right > 3 * left, 0.5, 1.0)).to(rho)
                scale = torch.where(active, scale, 1.0)
                rho, u = rho * scale, u / column(scale, u)
            answer = z[:, 0].clamp_min(0) if self.positive else z[:, 0]
            stats = {"primal": primal, "dual": change, "objective": objective(problem, prior, answer)}
            kept = {"z": z, "u": u, "rho": rho, "active": active, **({} if dual is None else {"dual": dual})}
            finite, going = looked(answer, active)
            yield Step(index, total, answer, answer, stats=stats, state=kept, converged=not going, finite=finite)
            if not going:
                return

    def _penalty(self, problem: Problem, prior: Regulariser) -> Tensor:
        """The first rho, (B,)."""
        sigma = problem.sigma_x
        if self.rho is not None:
            return torch.full_like(sigma, self.rho)
        return (FIRST * max(prior.weight, WEIGHT_FLOOR) * sigma**2).clamp_max(RHO)

    @torch.no_grad()
    def _plug(self, problem: Problem, prior: Denoiser, start: Step | None) -> Iterator[Step]:
        total, sigma = self.steps or 100, noise_levels(problem)
        first, z, u, active = self._begin(problem, start, positive=False)
        z, u = z[:, 0], u[:, 0]
        state = start.state if start is not None else {}
        least, waited = state.get("least", torch.full_like(sigma, torch.inf)), state.get("waited", torch.zeros_like(sigma))
        level = self.level(problem, prior)
        rho = self.strength * (sigma / level) ** 2
        for index in range(first, total):
            x = data_step(problem, z - u, rho)
            new = prior(x + u, level)
            new = new.clamp_min(0) if self.positive else new
            left = rms(unsolved(problem, x, new, z, rho))
            primal = rms(x - new)
            u, z = keep(active, u + x - new, u), keep(active, new, z)
            fell = left <= FALL * least
            least, waited = torch.where(fell, left, least), torch.where(fell, 0.0, waited + 1)
            done = (left <= PLUGGED * self.tol * sigma**2) | (waited >= PATIENCE)
            active = active & ~done if self.tol > 0 else active
            kept = {"z": z[:, None], "u": u[:, None], "active": active, "least": least, "waited": waited}
            finite, going = looked(z, active)
            stats = {"primal": primal, "gradient": left}
            yield Step(index, total, z, z, stats=stats, state=kept, converged=not going, finite=finite)
            if not going:
                return

    def level(self, problem: Problem, prior: Denoiser) -> Tensor:
        """sigma_d, (B,)."""
        sigma = noise_levels(problem)
        if self.denoiser_sigma is not None:
            return torch.full_like(sigma, self.denoiser_sigma)
        if not problem.operator.has(Capability.ADJOINT):
            return sigma.clamp_min(LEVEL).clamp(*prior.sigma_range)
        seen = seen_share(problem).clamp_min(torch.finfo(sigma.dtype).tiny)
        return torch.minimum(sigma / seen**0.5, MOST * sigma).clamp_min(LEVEL).clamp(*prior.sigma_range)

    @staticmethod
    def _begin(problem: Problem, start: Step | None, positive: bool) -> tuple[int, Tensor, Tensor, Tensor]:
        """First index, the copies z and their u, (B, 1 or 2, *in_shape), and which items still run."""
        state = start.state if start is not None else {}
        z = state["z"] if "z" in state else copies(first_image(problem, start), positive)
        running = torch.ones(len(z), dtype=torch.bool, device=z.device)
        return 0 if start is None else start.index + 1, z, state.get("u", torch.zeros_like(z)), state.get("active", running)

    @classmethod
    def examples(cls) -> list[Solver]:
        """Eight steps as they come, and with a penalty and a level of one's own and x >= 0."""
        return [cls(steps=8), cls(steps=4, rho=1.0, denoiser_sigma=0.2, positive=True)]


def unsolved(problem: Problem, x: Tensor, z: Tensor, before: Tensor, rho: Tensor) -> Tensor:
    """H^T (Hz - y) / |H|^2 + rho u after an iteration: H^T H (z - x) / |H|^2 - rho (z - z_before), as x solved its own line.

    Without a transpose the first term is taken for z - x, which is not smaller.
    """
    operator, off = problem.operator, z - x
    if operator.has(Capability.ADJOINT):
        off = operator.adjoint(operator(off)) / column(problem.gain, z) ** 2
    return off - column(rho, z) * (z - before)
