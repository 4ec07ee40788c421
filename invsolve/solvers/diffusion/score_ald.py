"""ScoreALD: annealed Langevin dynamics with an annealed likelihood."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator import Capability
from invsolve.operator.iterative import inner
from invsolve.operator.measurement import column, minus
from invsolve.priors.base import Denoiser, Prior
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solver import Requires, Solver
from invsolve.solvers.diffusion.common import Restorer, estimate, initial
from invsolve.solvers.diffusion.spectrum import Measured

THEIRS = "tuned to the authors' grid and prior, it diverges on small cases; a test has its recursion"
Move = Callable[[Tensor, Tensor, float, float, Rng], Tensor]  # x, D(x, sigma), sigma, sigma_next, draws -> the next x

AUTHORS_RATE, AUTHORS_MSE = 5e-5, 5.0  # step_lr and mse of the authors' configuration files


@dataclass(frozen=True)
class ScoreALD(Restorer):
    """Langevin steps on the smoothed posterior, level by level, each with the noise that the next level is told.

        x <- x + h_i [(D(x, sigma_i) - x) / sigma_i^2 + H^T (y - H x) / (sigma_y^2 + gamma_i^2)] + noise,   gamma_i = gamma |H| sigma_i
        h_i = step / (1 / sigma_i^2 + |H|^2 / (sigma_y^2 + gamma_i^2)):   a fixed share of the stability limit 2 at every level
        noise: sqrt(max(0, sigma_next^2 - (1 - h_i / sigma_i^2)^2 sigma_i^2)) z;   sigma_next = sigma_i but for the level's last step

    Where the operator has an SVD each singular component has a step of its own: with x- = V^T x, y- = U^T y / s and its noise
    level l = sigma_y / s,

        p = 1 / (l^2 + gamma^2 sigma_i^2)  (0 where s = 0),   h = step / (1 / sigma_i^2 + p)
        x- <- x- + h [(D- - x-) / sigma_i^2 + p (y- - x-)] + sqrt(max(0, sigma_next^2 - (1 - step)^2 sigma_i^2 - (h p l)^2)) z

    so that small singular values are served as well as |H|, and the noise that x keeps, 1 - step of it, that which y brings and that
    which is drawn are together white with the level that the network is told next (3 % above it at most: their correlation is left out).

    It starts about argmin_x |y - Hx|^2 / sigma_y^2 + |x - centre|^2 / s0^2 where the operator has a prox, else about the prior's centre.
    Defaults are those of benchmarks/results/defaults.md, chosen on validation crops, three operators, sigma_y .01 to .2. The spread of
    samples is .21 to .46 of the error of their mean there.

    x itself enters the likelihood, so no gradient runs through the network. After the last level one denoising removes what is left of
    the noise (the answer is D(x, sigma_L)).

    Args:
        steps: noise levels; network evaluations are steps * inner + 1. 50 lose at most .2 dB of 100, 20 up to 2 dB in holes.
        inner: Langevin steps per level.
        step: share of the stability limit, 0 < step < 1; 0.5 makes the spread 1.2 to 1.9 times as large, holes .5 dB worse.
        gamma: width of the likelihood in units of |H| sigma_i, what the noise in x is worth in the measurement; 0 is stiff, about 1 works.
        noise: "consistent" as above, or "langevin" for sqrt(2 h) z, the paper's: up to 1.67 times the variance that the network is told.
            With a Gaussian prior that has the better covariance (.6 and 1.1 to 1.4 times the variance), with a network it costs .3 to 8 dB.
        precondition: a step per singular component where there is an SVD: .4 to 3 dB in holes, .2 to 1.5 on blurs, nothing on 4 x 4 means,
            which have one singular value. False for the same step in all directions.
        grid: name of the sigma grid.
        sigma_max: first noise level in data units; None for 20 s0 on the grid `karras` (5 where s0 is .25), the whole schedule on others.
        authors: reproduce the authors' recurrence, item E13: Langevin noise, one step size, the data gradient rescaled to 5 times the
            score's norm (per item here), without gamma and sigma_y, and h_i = 5e-5 (sigma_i / sigma_L)^2. Their sigma_L is .0066 at the
            end of 2311 levels: on another grid these constants are another dynamics.

    References:
        Robust Compressed Sensing MRI with Deep Generative Priors (Jalal et al., 2021), arXiv:2108.01368, eq. 4 and its section 3.
        The noise: Adversarial score matching and improved sampling for image generation (Jolicoeur-Martineau et al., 2020),
        arXiv:2009.05475, algorithm 2 (consistent annealed sampling), here with the data term.
        Deviations: the step rule above in place of eta_0 (sigma_i / sigma_L)^2, to which it is proportional while gamma_i dominates
        sigma_y; gamma_i in units of |H| sigma_i (the paper leaves its scale open), so that a small |H|, as in super-resolution, does
        not drown the data; the step per component; the start about what y says, where there is a prox; the final denoising.
    """

    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.LINEAR, Capability.ADJOINT}))
    declared_bias: ClassVar[Mapping[str, Any]] = {"mean": 0.65, "cov": 0.5, "trace": (0.5, 0.8)}
    unreached: ClassVar[Mapping[str, str]] = {"AUTHORS_RATE *": THEIRS, "size = inner(data, data)": THEIRS, "AUTHORS_MSE *": THEIRS}
    steps: int = 100
    inner: int = 1
    step: float = 0.8
    gamma: float = 1.0
    noise: str = "consistent"
    precondition: bool = True
    grid: str = "karras"
    sigma_max: float | None = None
    authors: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.inner, int) or self.inner < 1 or not 0 < self.step < 1 or not 0 <= self.gamma < math.inf:
            raise InputError(
                f"need a whole inner >= 1, 0 < step < 1, gamma >= 0; given inner={self.inner}, step={self.step}, gamma={self.gamma}"
            )
        if self.noise not in ("consistent", "langevin"):
            raise InputError(f"noise must be 'consistent' or 'langevin'; given {self.noise!r}")

    def gaps(self, problem: Problem, prior: Prior) -> list[str]:
        """A grid that leaves the prior's range; no noise and no gamma, which leaves the likelihood without a width."""
        gaps = super().gaps(problem, prior)
        if self.gamma == 0 and not self.authors and bool((problem.sigma == 0).any()):
            gaps.append("sigma_y = 0 with gamma = 0 leaves the likelihood no width; take gamma > 0")
        return gaps

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Denoiser, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """One Step per level; the last one's x is the answer."""
        sigmas = self.sigmas(prior)[:-1]
        first, x = initial(problem, prior, rng, sigmas[0], start, warm=not self.authors)
        total = len(sigmas)
        spectral = self.precondition and not self.authors and problem.operator.has(Capability.SVD)
        move = self._by_component(problem, sigmas[-1]) if spectral else self._in_one(problem, sigmas[-1])
        for index in range(first, total):
            sigma, x0_hat = sigmas[index], x
            after = sigmas[min(index + 1, total - 1)]
            for count in range(self.inner):
                x0_hat = estimate(prior, x, sigma)
                x = move(x, x0_hat, sigma, sigma if count < self.inner - 1 else after, rng)
            if index == total - 1:
                x = x0_hat = estimate(prior, x, sigma)
            yield Step(index, total, x, x0_hat, sigma if index < total - 1 else 0.0)

    def _in_one(self, problem: Problem, last: float) -> Move:
        """The step of one size in all directions; last is sigma_L."""
        bound = problem.gain**2

        def move(x: Tensor, x0_hat: Tensor, sigma: float, following: float, rng: Rng) -> Tensor:
            score = (x0_hat - x) / sigma**2
            data = problem.operator.adjoint(minus(problem.y, problem.operator(x)))
            if self.authors:
                rate = torch.full_like(bound, AUTHORS_RATE * (sigma / last) ** 2)
                size = inner(data, data).sqrt().clamp_min(torch.finfo(x.dtype).tiny)
                drift = score + column(AUTHORS_MSE * inner(score, score).sqrt() / size, x) * data
            else:
                width = problem.sigma**2 + (self.gamma * sigma) ** 2 * bound
                rate = self.step / (1 / sigma**2 + bound / width)
                drift = score + data / column(width, x)
            if self.authors or self.noise == "langevin":
                added = 2 * rate
            else:
                added = (following**2 - (1 - rate / sigma**2) ** 2 * sigma**2).clamp_min(0)
            return x + column(rate, x) * drift + column(added.sqrt(), x) * rng.normal_like(x)

        return move

    def _by_component(self, problem: Problem, last: float) -> Move:
        """The step of each singular component; last is sigma_L."""
        svd = problem.operator.svd()
        measured = Measured.of(svd, problem, last)

        def move(x: Tensor, x0_hat: Tensor, sigma: float, following: float, rng: Rng) -> Tensor:
            precision = torch.where(measured.seen, 1 / (measured.level**2 + (self.gamma * sigma) ** 2), 0.0)
            rate = self.step / (1 / sigma**2 + precision)
            drift = svd.Vt(x0_hat - x) / sigma**2 + precision * (measured.value - svd.Vt(x))
            if self.noise == "langevin":
                added = 2 * rate
            else:
                brought = rate * precision * measured.level
                added = (following**2 - ((1 - self.step) * sigma) ** 2 - brought**2).clamp_min(0)
            return x + svd.V(rate * drift + added.sqrt() * svd.Vt(rng.normal_like(x)))

        return move

    @classmethod
    def examples(cls) -> list[Solver]:
        """Eight levels, a step per component and one for all, with both kinds of noise."""
        langevin = [cls(steps=8, inner=2, noise="langevin", precondition=each) for each in (True, False)]
        return [cls(steps=8), cls(steps=8, precondition=False, sigma_max=2.0), *langevin]
