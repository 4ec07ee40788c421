"""DiffPIR: diffusion sampling with a proximal data step on every estimate."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator import Capability
from invsolve.priors.base import Denoiser
from invsolve.problem import Problem
from invsolve.ranges import Range, Ranges
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solver import Requires, Solver
from invsolve.solvers.diffusion.common import FLOOR, Restorer, estimate, initial, noise_of, renoised, white_spread


@dataclass(frozen=True)
class DiffPIR(Restorer):
    """Denoise, pull the estimate to the data, go to the next noise level with part of the noise fresh.

        x0~ = argmin_x |y - Hx|^2 + rho |x - x0_hat|^2,   rho = weight sigma_y^2 / r^2,   r = sigma
        x_s = x0~ + sigma_s (sqrt(1 - zeta) (x_t - x0~) / sigma_t + sqrt(zeta) z);   the last step returns x0~

    It starts at x = argmin_x |y - Hx|^2 / sigma_y^2 + |x - centre|^2 / s0^2, the prior's own two numbers, plus sigma_max z. sigma_y is
    at least 0.001 |H|: a noiseless problem keeps a finite step.

    Defaults are those of benchmarks/results/defaults.md, chosen on validation crops, three operators, sigma_y .01 to .2. The spread of
    samples is .21 to .48 of the error of their mean there (zeta 1); with zeta 0.3 it is .5 to .9 of it.

    Args:
        steps: network evaluations. 20 are within .3 dB of 50 but for clean holes (.6); 10 cost .1 to 1 dB.
            Of random masks that keep a fifth of the pixels, one sample of the default lies up to 1.3 dB below the smooth start (the coarse
            scales come in by that share a step); 100 steps gain .2 to .8 dB there, HQS .9 to 1.
        zeta: share of fresh noise, 0 to 1. 1 gives one good picture; 0.3 samples whose spread can be believed more, each 1.5 to 5 dB
            worse. With a Gaussian prior 1 halves the covariance and 0 biases the mean.
        weight: lambda, in consistent units: 1 is Bayes, and best on average from 0.5 to 4; the authors' 7 is 7 / 4 here.
        variance: what r^2 stands for, the variance of x0 given x: "noise", sigma^2 as in the paper, or "posterior", s0^2 sigma^2 /
            (s0^2 + sigma^2), right for white images. What H shows of real ones varies more than their pixels do (a mean of 16 is not 16
            times less sure than each), so "posterior" distrusts y where sigma_y / |H| > s0: 2 to 4 dB on 4 x 4 means at sigma_y .2.
        grid: name of the sigma grid; `vp-sqrt` is the authors'.
        sigma_max: first noise level in data units; None for 20 s0 on the grid `karras` (5 where s0 is .25), the whole schedule on others.
        authors: reproduce the authors' recurrence, items of E6: sigma_y in [0, 1] mixed with sigma in the prior's unit, [-1, 1]
            (rho = weight sigma_y^2 / (2 sigma)^2), and a last network call that is thrown away, the state at the last level being returned.

    References:
        Denoising Diffusion Models for Plug-and-Play Image Restoration (Zhu et al., 2023), arXiv:2305.08995, algorithm 1.
        Deviations: one unit for all noise levels; the last step returns the data-consistent estimate; sigma_y is floored in units of the
        image (by the same number in those of y in the authors' code); the start (theirs is y lifted to the first level; with authors=True
        it is the prior's centre) and sigma_max: half of a short grid would go to levels at which x says nothing. With authors=True it
        agrees with their code to 3e-11 on shared noise, without noise in y to 3e-9 (benchmarks/results/parity.md).
    """

    ranges: ClassVar[Ranges] = {"zeta": Range(0.0, 1.0), "weight": Range(0.2, 5.0, log=True)}
    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.PROX}))
    declared_bias: ClassVar[Mapping[str, Any]] = {"mean": 0.75, "cov": 0.6, "trace": (0.4, 0.65)}
    steps: int = 30
    zeta: float = 1.0
    weight: float = 1.0
    variance: str = "noise"
    grid: str = "karras"
    sigma_max: float | None = None
    authors: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.zeta <= 1 or not 0 < self.weight < math.inf:
            raise InputError(f"need 0 <= zeta <= 1 and weight > 0; given zeta={self.zeta}, weight={self.weight}")
        if self.variance not in ("posterior", "noise"):
            hint = "; one per frequency is the solver Spectral()" if self.variance == "spectrum" else ""
            raise InputError(f"variance must be 'posterior' or 'noise'; given {self.variance!r}{hint}")

    def stated_bias(self) -> Mapping[str, Any]:
        """With variance="posterior" and weight 1 each step's estimate is E[x0 | x_t, y] of a white prior: no zeta biases the mean."""
        if self.variance != "posterior" or self.weight != 1 or self.authors:
            return super().stated_bias()
        return {"white": {"mean": 0.1, **({"trace": (0.8, 0.9)} if self.zeta == 0.3 else {})}}

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Denoiser, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """The last x is the answer."""
        sigmas = self.sigmas(prior)
        first, x = initial(problem, prior, rng, sigmas[0], start, None if self.authors else problem.operator.prox)
        total = len(sigmas) - 1
        for index in range(first, total):
            sigma, following = sigmas[index], sigmas[index + 1]
            x0_hat = estimate(prior, x, sigma)
            if not (self.authors and following == 0):
                x0_hat = problem.operator.prox(x0_hat, problem.y, self.tau(problem, prior, sigma))
                x = renoised(x, x0_hat, sigma, following, self.zeta, rng)
            yield Step(index, total, x, x0_hat, following)

    def tau(self, problem: Problem, prior: Denoiser, sigma: float) -> Tensor:
        """1 / rho, a scalar or (B,): r^2 / (weight sigma_y^2)."""
        if self.authors:
            return (prior.unit.sigma(sigma) / problem.sigma.clamp_min(FLOOR)) ** 2 / self.weight
        spread = sigma**2 if self.variance == "noise" else white_spread(prior, sigma)
        return spread / (self.weight * noise_of(problem) ** 2)

    @classmethod
    def examples(cls) -> list[Solver]:
        """Eight steps, for a picture and for calibrated samples, and as the authors have it."""
        return [cls(steps=8), cls(steps=8, zeta=0.3, variance="posterior", sigma_max=2.0), cls(steps=8, authors=True)]
