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
from invsolve.ranges import Range, Ranges
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solver import Requires, Solver
from invsolve.solvers.diffusion.common import Restorer, estimate
from invsolve.solvers.diffusion.spectrum import Measured

# Of s0, the noise with which y's share of a component is half. With `natural` and 20 steps, 1 costs 5 dB on 4 x 4 means at sigma_y .2 and
# .5 on blurs, 4 costs up to .3, 10 and 20 nothing; the more, the smaller the s that y's noise leads.
TRUST = 10.0
# Of the first level, the same: a network told less than 10 s0 at most (those of plug and play) has no use for more.
REACH = 4.0


@dataclass(frozen=True)
class DDRM(Restorer):
    """Sample every singular component with the variance the measurement leaves it.

    With x- = V^T x, y- = U^T y / s with its noise level l = sigma_y / s, e- = V^T (x_t - x0_hat) / sigma_t and the next level sigma,

        x-0 + p (y- - x-0) + q sigma e- + sqrt(sigma^2 - (p l)^2 - (q sigma)^2) z
        p = a (w eta_b + (1 - w) sqrt(1 - eta^2)) min(1, sigma / l),   q = sqrt(1 - a^2) sqrt(1 - eta^2)
        w = log(sigma_t / l) / log(sigma_t / sigma), inside [0, 1];   a = 1 / (1 + (l / r)^2), 0 where s = 0

    with r = min(10 s0, 4 sigma_max): the paper's three cases, s = 0 (a = 0), sigma >= l (a = w = 1) and sigma < l (a = 1, w = 0), joined
    to one continuous function of s. w turns from one to the other over one step of the grid. a leaves out what y tells with much more
    noise than the prior has, or than its network knows: such components would be led by y's noise, the same at all levels, and a
    thousandth of H would make a null space into them.

    With noise the last step (sigma = 0) returns x0_hat; without noise and eta_b = 1 the answer satisfies H x = y, but for components
    that y does not resolve in its precision: those where a rounding of y, divided by s, exceeds the last noise level of the grid.
    They are taken as measured with that much noise.

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
        centre (0 in the authors' [-1, 1]); a and w, where the paper jumps. authors=True has neither. With authors=True it agrees with their
        code to 5e-15 on shared noise (benchmarks/results/parity.md).
    """

    ranges: ClassVar[Ranges] = {"eta": Range(0.0, 1.0), "eta_b": Range(0.0, 1.0)}
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
        measured = Measured.of(svd, problem, sigmas[-2])
        total = len(sigmas) - 1
        first, state = self._first(measured, problem, prior, svd, sigmas[0], rng, start)
        x = svd.V(state)
        for index in range(first, total):
            sigma, following = sigmas[index], sigmas[index + 1]
            x0_hat = estimate(prior, x, sigma)
            x0 = svd.Vt(x0_hat)
            of_y, of_x = self._shares(measured, reach(prior, sigmas[0]), sigma, following)
            pull = torch.where(measured.level <= following, of_y, of_y * following * measured.precision)
            state = x0 + pull * (measured.value - x0) + of_x * (following / sigma) * (state - x0)
            if following > 0:
                left = following**2 * (1 - of_x.square()) - (pull * measured.level).square()
                state = state + left.clamp_min(0).sqrt() * svd.Vt(rng.normal_like(x))
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
        """V^T x_T: about the measurement as far as it tells more than the prior, else about the data's mean."""
        middle = svd.Vt(problem.image + prior.centre)
        if self.authors:
            informed = (measured.seen & (measured.level < sigma)).to(middle.dtype)
        else:
            informed = self._trust(measured, reach(prior, sigma))
        std = (sigma**2 - (informed * measured.level).square()).clamp_min(0).sqrt()
        away = informed * (measured.value - middle) + std * svd.Vt(rng.normal_like(problem.image))
        return middle + away * (math.sqrt(1 + 1 / prior.unit.sigma(sigma) ** 2) if self.authors else 1.0)

    def _trust(self, measured: Measured, reach: float) -> Tensor:
        """a: how much of a component's noise is taken from y."""
        return torch.where(measured.seen, 1 / (1 + (measured.level / reach).square()), 0.0)

    def _shares(self, measured: Measured, reach: float, sigma: float, following: float) -> tuple[Tensor, Tensor]:
        """(p max(1, l / sigma), q): the parts of the next level's noise that are y's and that are x_t's."""
        kept = math.sqrt(1 - self.eta**2)
        if self.authors:
            strong = (measured.seen & (measured.level < following)).to(measured.level.dtype)
            weak = (measured.seen & (measured.level > following)).to(measured.level.dtype)
            return strong * self.eta_b + weak * kept, (1 - strong - weak) * kept
        trust = self._trust(measured, reach)
        strong = (measured.level <= following).to(trust.dtype)
        if following > 0:
            strong = ((sigma / measured.level).log() / math.log(sigma / following)).clamp(0, 1)
        of_y = strong * self.eta_b + (1 - strong) * kept
        return trust * of_y, (1 - trust.square()).sqrt() * kept

    @classmethod
    def examples(cls) -> list[Solver]:
        """Eight steps, by rule and from a level of one's own, and as the authors have it."""
        return [cls(steps=8), cls(steps=4, eta=0.5, eta_b=0.7, sigma_max=3.0), cls(steps=4, authors=True)]


def reach(prior: Denoiser, first: float) -> float:
    """r: the noise of a component with which y's share is half, from the prior's spread and the first level of the grid."""
    return min(TRUST * prior.s0, REACH * first)
