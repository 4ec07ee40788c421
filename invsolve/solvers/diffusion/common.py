"""What the samplers share: the grid, the clipped estimate and the generic step, all in VE form on sigmas in data units.

sigma_t -> sigma_s:  x_s = x0_hat + sigma_s (sqrt(1 - eta^2 r) eps_hat + eta sqrt(r) z),   r = 1 - sigma_s^2 / sigma_t^2
eps_hat = (x_t - x0_hat) / sigma_t;   eta = 1: DDPM, eta = 0: DDIM
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar, TypeVar

import torch
from torch import Tensor

from invsolve.operator import Capability
from invsolve.operator.measurement import Measurement, column, minus
from invsolve.priors.base import Denoiser, Prior
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.schedule import GRIDS
from invsolve.solution import Step
from invsolve.solver import Solver
from invsolve.solvers.lanczos import shifted_solve

FLOOR = 0.001  # of sigma_x, DiffPIR's authors' own: a noiseless problem keeps a finite prox step
# First level of a sampler that starts from y, in units of the prior's s0. On blurs and means 10 does as well, but a hole of n pixels has
# an unknown mean of sqrt(n) s0 in the state, which must drown: 10 costs .5 to 1.6 dB there at 10 and 20 evaluations, 40 up to .3.
REACH = 20.0
Level = TypeVar("Level", float, Tensor)  # one for all items, or one each as a column
Prox = Callable[[Tensor, Measurement, float | Tensor], Tensor]  # z, y, tau -> argmin_x |Hx - y|^2 + |x - z|^2 / tau


def estimate(prior: Denoiser, x: Tensor, sigma: float | Tensor) -> Tensor:
    """x0_hat = D(x, sigma), clipped to the prior's interval if it has one."""
    return clipped(prior, prior(x, sigma))


def clipped(prior: Denoiser, x0_hat: Tensor) -> Tensor:
    """An estimate inside the prior's interval if it has one."""
    return x0_hat if prior.clip is None else x0_hat.clamp(*prior.clip)


def generic_step(x: Tensor, x0_hat: Tensor, sigma: float, sigma_next: float, eta: float, rng: Rng) -> Tensor:
    """One step sigma -> sigma_next; eps_hat is recomputed from (clipped) x0_hat; draws only where there is noise to add."""
    if sigma_next == 0:
        return x0_hat
    ratio = max(0.0, 1 - (sigma_next / sigma) ** 2)
    kept = math.sqrt(max(0.0, 1 - eta**2 * ratio))
    x_next = x0_hat + (sigma_next / sigma * kept) * (x - x0_hat)
    if eta > 0:
        x_next = x_next + sigma_next * eta * math.sqrt(ratio) * rng.normal_like(x)
    return x_next


def initial(problem: Problem, prior: Denoiser, rng: Rng, sigma: float, start: Step | None, prox: Prox | None = None) -> tuple[int, Tensor]:
    """(first index, state): the start's, or sigma z about the data's mean, or about what y says, by prox."""
    if start is not None:
        return start.index + 1, start.x
    about = problem.image + prior.centre
    if prox is not None:
        about = prox(about, problem.y, (prior.s0 / noise_of(problem)).square())
    return 0, about + sigma * rng.normal_like(about)


def proximal(problem: Problem) -> Prox:
    """prox of a linear operator: its own, or by `shifted_solve` where it has only an adjoint.

        (1 + tau H^T H) (x - z) = tau H^T (y - H z)

    What the products do not reach are small singular values at levels far above s0, where it matters least.
    """
    operator = problem.operator
    if operator.has(Capability.PROX):
        return operator.prox

    def prox(z: Tensor, y: Measurement, tau: float | Tensor) -> Tensor:
        weight = torch.as_tensor(tau, dtype=z.dtype, device=z.device).expand(len(z))
        right = column(weight, z) * operator.adjoint(minus(y, operator(z)))
        return z + shifted_solve(lambda x: operator.adjoint(operator(x)), right, weight)

    return prox


def real_normal(part: Tensor, rng: Rng) -> Tensor:
    """Standard normal numbers like a measurement, variance 1 in the real and the imaginary part each."""
    return rng.normal_like(part) * (math.sqrt(2) if part.is_complex() else 1.0)


def noise_of(problem: Problem) -> Tensor:
    """sigma_y in y's units, (B,), at least FLOOR in the image's: what "no noise" means where it divides."""
    return torch.maximum(problem.sigma, FLOOR * problem.gain)


def white_spread(prior: Denoiser, sigma: Level) -> Level:
    """r^2 = s0^2 sigma^2 / (s0^2 + sigma^2): the variance of x0 given x of a white prior."""
    return prior.s0**2 * sigma**2 / (prior.s0**2 + sigma**2)


def renoised(x: Tensor, x0: Tensor, sigma: float, following: float, zeta: float, rng: Rng) -> Tensor:
    """DiffPIR's step from an estimate to the next level: x0 + sigma_s (sqrt(1 - zeta) (x_t - x0) / sigma_t + sqrt(zeta) z); x0 at 0."""
    if following == 0:
        return x0
    kept = following / sigma * math.sqrt(1 - zeta) * (x - x0)
    fresh = following * math.sqrt(zeta) * rng.normal_like(x) if zeta > 0 else 0.0
    return x0 + kept + fresh


def grid_gaps(prior: Denoiser, steps: int, grid: str, sigma_max: float | None) -> list[str]:
    """Why the grid does not fit: no such name, or levels outside the prior's sigma_range (to a rounding error)."""
    if grid not in GRIDS:
        return [f"no grid '{grid}'; there are: {', '.join(GRIDS)}"]
    if not isinstance(steps, int) or steps < 1:
        return [f"steps must be a whole number, at least 1; given {steps!r}"]
    low, high = prior.sigma_range
    slack = 1e-6
    if sigma_max is not None and not (isinstance(sigma_max, int | float) and low * (1 - slack) <= sigma_max < math.inf):
        return [f"sigma_max must be a finite number, at least the prior's lowest level {low:.4g}; given {sigma_max!r}"]
    sigmas = prior.sigmas(steps, grid, sigma_max)[:-1]
    if not sigmas or sigmas[0] > high * (1 + slack) or sigmas[-1] < low * (1 - slack):
        span = f"{sigmas[0]:.4g} .. {sigmas[-1]:.4g}" if sigmas else "nothing"
        return [f"grid '{grid}' spans sigma {span}, the prior is good for {low:.4g} .. {high:.4g}; take another grid or sigma_max"]
    return []


class Sampler(Solver):
    """Base of the solvers that walk down a grid of sigmas: a subclass has the fields steps, grid and sigma_max.

    Attributes:
        noiseless: whether its state is an image, not one with the noise of the level it is at.
    """

    moves: ClassVar[bool] = True
    noiseless: ClassVar[bool] = False
    steps: int
    grid: str
    sigma_max: float | None

    def gaps(self, problem: Problem, prior: Prior) -> list[str]:
        """A grid that leaves the prior's range."""
        assert isinstance(prior, Denoiser)
        return grid_gaps(prior, self.steps, self.grid, self.top(prior))

    def top(self, prior: Denoiser) -> float | None:
        """The first level asked of the grid, None for the top of the prior's range: sigma_max."""
        del prior
        return self.sigma_max

    def sigmas(self, prior: Denoiser) -> list[float]:
        """The noise levels of a run, from the first to 0."""
        return prior.sigmas(self.steps, self.grid, self.top(prior))

    def warmed(self, image: Tensor, prior: Denoiser, rng: Rng) -> Step:
        """The image with the noise of the first level, if the state has it."""
        if self.noiseless:
            return super().warmed(image, prior, rng)
        return Step(-1, 0, image + self.sigmas(prior)[0] * rng.normal_like(image), image)


class Restorer(Sampler):
    """A sampler that starts from y, so that its grid need not start where nothing but noise is left.

    Where sigma_max is None its first level is `reach` s0, kept inside the prior's range: for the `karras` grid. The vp grids are the
    authors', as is a run with authors=True: they keep the whole schedule.
    """

    reach: ClassVar[float] = REACH
    authors: bool = False

    def top(self, prior: Denoiser) -> float | None:
        """sigma_max, or the level by rule."""
        if self.sigma_max is not None or self.authors or self.grid != "karras":
            return self.sigma_max
        low, high = prior.sigma_range
        return min(max(self.reach * prior.s0, low), high)


def inner_norm(residual: Tensor) -> Tensor:
    """|r| per item, (B,), for rows (B, m); its gradient at 0 is 0, not NaN (torch's choice of subgradient, held by a test)."""
    return torch.linalg.vector_norm(residual, dim=1)
