"""DDNM+: the null-space model for noisy measurements, in which y's noise takes the place of part of the step's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

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
from invsolve.solvers.diffusion.travel import go_up, legs
from invsolve.solvers.ranges import need_between, need_count

TRUST = 10.0  # of s0: a component that y tells with more noise than that is hardly asked; as `ddrm` has it


@dataclass(frozen=True)
class DDNMPlus(Restorer):
    """Correct every singular component of the estimate as far as y's noise fits into the level's, draw what is missing to it.

    With x- = V^T x, y- = U^T y / s, l = sigma_y / s, and p, q for the level sigma_t, p', q' for the next one, sigma,

        p = b / sqrt(1 + (l / sigma_t)^2),   b = 1 / (1 + (l / (10 s0))^2), 0 where s = 0;   q^2 = sigma_t^2 - (p l)^2
        e = (x_t- - x0- - p (y- - x0-)) / q
        x_s- = x0- + p' (y- - x0-) + q' (sqrt(1 - eta^2 r) e + eta sqrt(r) z),   r = 1 - q'^2 / q^2

    The noise in x_t- is p l of y's, which is the same in every step, and q of its own: with as much noise as the network is told. It is the
    generic step where s = 0, and p = 1 without noise, so that the answer satisfies H x = y but for components below the rounding of y.
    b leaves out what y tells with much more noise than the prior has.

    Args:
        steps: noise levels.
        eta: share of the ancestral noise, 0 to 1.
        jump, repeats: time travel: at every jump-th level the state goes up by as many, repeats - 1 times. Network evaluations grow by
            about `repeats`.
        grid: name of the sigma grid.
        sigma_max: first noise level in data units; None for 20 standard deviations of the prior's data on the grid `karras`.

    Raises:
        InputError: eta is not in [0, 1]; jump or repeats is not a whole number >= 1.

    References:
        Zero-Shot Image Restoration Using Denoising Diffusion Null-Space Model (Wang, Yu, Zhang, 2023), arXiv:2212.00490, section 3.3,
        eq. 17 to 19, and algorithm 2.
        Deviations: the paper's p is min(1, f / (a l)), f the step's noise and a its weight of x0_hat, which counts y's noise as fresh
        in every step: it adds up, and a blur at sigma_y .05 (`natural`, 50 steps) loses 10 dB. The code's is min(1, sigma / l) without e
        in the range, which is `ddrm` with eta_b = 1; p is that, continuous, with e kept. b; the simplified form, which scales the noise
        wrongly, is left out; it starts from y.
    """

    ranges: ClassVar[Ranges] = {"eta": Range(0.0, 1.0)}
    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.SVD}))
    declared_bias: ClassVar[Mapping[str, Any]] = {"mean": 0.8, "cov": 0.5, "trace": (0.55, 1.15)}
    steps: int = 50
    eta: float = 1.0
    jump: int = 1
    repeats: int = 1
    grid: str = "karras"
    sigma_max: float | None = None

    def __post_init__(self) -> None:
        need_between(self, "eta", 0, 1, ends="[]")
        need_count(self, "jump", "repeats")

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Denoiser, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """The last x is the answer."""
        sigmas = self.sigmas(prior)
        path = legs(sigmas, self.jump, self.repeats)
        svd = problem.operator.svd()
        measured = Measured.of(svd, problem, sigmas[-2])
        first, x = self._first(measured, problem, prior, svd, sigmas[0], rng, start)
        for index in range(first, len(path)):
            sigma, following, reached = path[index]
            x0_hat = estimate(prior, x, sigma)
            x = svd.V(self._down(measured, prior, svd.Vt(x), svd.Vt(x0_hat), sigma, following, svd.Vt(rng.normal_like(x))))
            if reached > following:
                x = go_up(x, following, reached, rng)
            yield Step(index, len(path), x, x0_hat, reached)

    def _first(
        self, measured: Measured, problem: Problem, prior: Denoiser, svd: SVD, sigma: float, rng: Rng, start: Step | None
    ) -> tuple[int, Tensor]:
        """First index and x: about y as far as it fits into the level, else about the data's mean."""
        if start is not None:
            return start.index + 1, start.x
        middle = svd.Vt(problem.image + prior.centre)
        share, own = self._shares(measured, prior, sigma)
        return 0, svd.V(middle + share * (measured.value - middle) + own * svd.Vt(rng.normal_like(problem.image)))

    def _shares(self, measured: Measured, prior: Denoiser, sigma: float) -> tuple[Tensor, Tensor]:
        """(p, q): how far a component follows y at a level, and the noise in it that is not y's."""
        level = measured.level
        told = torch.where(measured.seen, 1 / (1 + (level / (TRUST * prior.s0)).square()), 0.0)
        share = told * torch.where(level > 0, sigma / (sigma**2 + level.square()).sqrt(), 1.0)
        return share, (sigma**2 - (share * level).square()).clamp_min(0).sqrt()

    def _down(
        self, measured: Measured, prior: Denoiser, state: Tensor, x0: Tensor, sigma: float, following: float, fresh: Tensor
    ) -> Tensor:
        """The generic step, of the noise that is not y's, about the estimate that is corrected by y."""
        (before, above), (after, below) = (self._shares(measured, prior, level) for level in (sigma, following))
        correction = measured.value - x0
        ratio = (below / above).square()
        kept = (ratio * (1 - self.eta**2 * (1 - ratio))).sqrt()
        drawn = self.eta * below * (1 - ratio).clamp_min(0).sqrt()
        return x0 + after * correction + kept * (state - x0 - before * correction) + drawn * fresh

    @classmethod
    def examples(cls) -> list[Solver]:
        """Eight steps; with time travel."""
        return [cls(steps=8), cls(steps=6, eta=0.7, jump=2, repeats=2, sigma_max=2.0)]
