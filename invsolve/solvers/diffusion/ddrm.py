"""DDRM: denoising diffusion restoration, component by component in the operator's singular basis."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator import Capability
from invsolve.operator.svd import SVD
from invsolve.priors.base import Denoiser
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solver import Requires, Solver
from invsolve.solvers.diffusion.common import Restorer, estimate
from invsolve.solvers.diffusion.spectrum import Measured


@dataclass(frozen=True)
class DDRM(Restorer):
    """Sample every singular component with the variance the measurement leaves it.

    With x- = V^T x, y- = U^T y / s, e- = V^T (x_t - x0_hat) / sigma_t and the next level sigma:

        s = 0:               x-0 + sqrt(1 - eta^2) sigma e- + eta sigma z
        sigma < sigma_y / s:  x-0 + sqrt(1 - eta^2) sigma (y- - x-0) s / sigma_y + eta sigma z
        sigma >= sigma_y / s: (1 - eta_b) x-0 + eta_b y- + sqrt(sigma^2 - eta_b^2 sigma_y^2 / s^2) z

    With noise the last step (sigma = 0) returns x0_hat; without noise and eta_b = 1 the answer satisfies H x = y, but for components
    that y does not resolve in its precision: those where a rounding of y, divided by s, exceeds the last noise level of the grid.
    They are taken as measured with that much noise.

    What y tells with more noise than sigma_max in the image counts as not measured: such components would be led by y's noise, not by it.

    Defaults are those of benchmarks/results/defaults.md, chosen on validation crops, three operators, sigma_y .01 to .2. The spread of
    samples is .43 to .65 of the error of their mean in holes, .25 to .38 elsewhere.

    Args:
        steps: network evaluations. From the authors' 20 to 50 holes gain .7 to 1.6 dB, 4 x 4 means .2 to .3, blurs nothing.
        eta, eta_b: shares of fresh noise, 0 to 1. 0.9 and 0.95 are alike; the authors' 0.85 loses up to .5 dB at 20, 1 up to 2.4.
        grid: name of the sigma grid; `vp-uniform` is the authors'.
        sigma_max: first noise level in data units; None for 20 s0 on the grid `karras` (5 where s0 is .25), the whole schedule on others.
        authors: reproduce the authors' recurrence, item E5: strict inequalities on both sides (equality falls to the null-space case, so a
            noiseless run ends inconsistent), and a first state divided by sigma_T where sqrt(1 + sigma_T^2) is meant (in the prior's unit,
            [-1, 1]). Theirs are also steps=20, eta=0.85 and grid="vp-uniform".

    References:
        Denoising Diffusion Restoration Models (Kawar et al., 2022), arXiv:2201.11793, eq. 4, 7 and 8.
        Deviations: s = 0 is tested first and >= is the paper's, not the code's; components that are not measured start about the prior's
        centre (0 in the authors' [-1, 1]), and those measured with more noise than sigma_max are among them.
    """

    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.SVD}))
    declared_bias: ClassVar[Mapping[str, Any]] = {"mean": 0.65, "cov": 0.45, "trace": (0.55, 0.85)}
    steps: int = 50
    eta: float = 0.9
    eta_b: float = 1.0
    grid: str = "karras"
    sigma_max: float | None = None
    authors: bool = False

    def __post_init__(self) -> None:
        if not (0 <= self.eta <= 1 and 0 <= self.eta_b <= 1):
            raise InputError(f"eta and eta_b must lie in [0, 1]; given eta={self.eta}, eta_b={self.eta_b}")

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Denoiser, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """The last x is the answer."""
        sigmas = self.sigmas(prior)
        svd = problem.operator.svd()
        measured = Measured.of(svd, problem, sigmas[-2], math.inf if self.authors else sigmas[0])
        total = len(sigmas) - 1
        first, state = self._first(measured, problem, prior, svd, sigmas[0], rng, start)
        x = svd.V(state)
        for index in range(first, total):
            sigma, following = sigmas[index], sigmas[index + 1]
            x0_hat = estimate(prior, x, sigma)
            state = self._step(measured, svd.Vt(x0_hat), state, sigma, following)
            if following > 0:
                state = state + self._spread(measured, following) * svd.Vt(rng.normal_like(x))
            x = svd.V(state)
            yield Step(index, total, x, x0_hat, following, state={"spectrum": state})

    def _first(
        self, measured: Measured, problem: Problem, prior: Denoiser, svd: SVD, sigma: float, rng: Rng, start: Step | None
    ) -> tuple[int, Tensor]:
        """First index and V^T x: a kept step's own, a user's x transformed, or a draw."""
        if start is None:
            return 0, self._begin(measured, problem, prior, svd, sigma, rng)
        held = start.state.get("spectrum")
        return start.index + 1, svd.Vt(start.x) if held is None else held

    def _begin(self, measured: Measured, problem: Problem, prior: Denoiser, svd: SVD, sigma: float, rng: Rng) -> Tensor:
        """V^T x_T: about the measurement where sigma_T tells more than it, else about the data's mean."""
        middle = svd.Vt(problem.image + prior.centre)
        informed = measured.seen & (measured.level < sigma)
        std = torch.where(informed, (sigma**2 - measured.level**2).clamp_min(0).sqrt(), sigma)
        state = torch.where(informed, measured.value, middle) + std * svd.Vt(rng.normal_like(problem.image))
        return state * math.sqrt(1 + 1 / prior.unit.sigma(sigma) ** 2) if self.authors else state

    def _strong(self, measured: Measured, following: float) -> Tensor:
        """Where the measurement tells more than the next level."""
        return measured.seen & (measured.level < following if self.authors else measured.level <= following)

    def _step(self, measured: Measured, x0: Tensor, state: Tensor, sigma: float, following: float) -> Tensor:
        """x0 + pull (y- - x0) + keep (x- - x0), with the three cases in the factors."""
        kept = math.sqrt(1 - self.eta**2) * following
        strong = self._strong(measured, following)
        weak = measured.seen & (measured.level > following)
        pull = torch.where(strong, self.eta_b, torch.where(weak, kept * measured.precision, 0.0))
        keep = (~(strong | weak)).to(x0.dtype) * (kept / sigma)
        return x0 + pull * (measured.value - x0) + keep * (state - x0)

    def _spread(self, measured: Measured, following: float) -> Tensor:
        """Standard deviation of the fresh noise, component by component."""
        left = (following**2 - (self.eta_b * measured.level).square()).clamp_min(0).sqrt()
        return torch.where(self._strong(measured, following), left, self.eta * following)

    @classmethod
    def examples(cls) -> list[Solver]:
        """Eight steps, by rule and from a level of one's own, and as the authors have it."""
        return [cls(steps=8), cls(steps=8, eta=0.5, eta_b=0.7, sigma_max=3.0), cls(steps=8, authors=True)]
