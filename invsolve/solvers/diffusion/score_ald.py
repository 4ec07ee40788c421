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
from invsolve.operator.measurement import column, mapped, minus
from invsolve.priors.base import Denoiser, Prior
from invsolve.problem import Problem
from invsolve.ranges import Range, Ranges
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solver import Requires, Solver
from invsolve.solvers.diffusion.common import Prox, Restorer, estimate, initial, noise_of, proximal, real_normal
from invsolve.solvers.ranges import need_count

THEIRS = "tuned to the authors' grid and prior, it diverges on small cases; a test has its recursion"
Move = Callable[[Tensor, Tensor, float, float, Rng], Tensor]  # x, D(x, sigma), sigma, sigma_next, draws -> the next x

AUTHORS_RATE, AUTHORS_MSE = 5e-5, 5.0  # step_lr and mse of the authors' configuration files


@dataclass(frozen=True)
class ScoreALD(Restorer):
    """Langevin steps on the smoothed posterior, level by level, each with the noise that the next level is told.

        x <- x + h_i [(D(x, sigma_i) - x) / sigma_i^2 + H^T (y - H x) / (sigma_y^2 + gamma_i^2)] + noise,   gamma_i = gamma |H| sigma_i
        h_i = step / (1 / sigma_i^2 + |H|^2 / (sigma_y^2 + gamma_i^2)):   a fixed share of the stability limit 2 at every level
        noise: sqrt(max(0, sigma_next^2 - (1 - h_i / sigma_i^2)^2 sigma_i^2)) z;   sigma_next = sigma_i but for the level's last step

    That is with precondition=False. By default h_i is a matrix, step (1 / sigma_i^2 + H^T H / (sigma_y^2 + gamma^2 sigma_i^2 H H^T))^-1,
    a step of its own for each singular component, and needs no SVD, but one prox of H:

        x <- x + step (D(x, sigma_i) - x) + k (prox(z) - z) + noise,   prox(z) = argmin_u |y - Hu|^2 / sigma_y^2 + |u - z|^2 / rho_i^2
        k = step / (1 + gamma^2),   rho_i^2 = (1 + gamma^2) sigma_i^2

    so that small singular values are served as well as |H|. With P = rho_i^2 H^T (sigma_y^2 + rho_i^2 H H^T)^-1 H, y brings noise of
    covariance (k rho_i)^2 P (1 - P). What is drawn is q (2 P - 1) z' + sqrt(c - q^2) z, c = max(0, sigma_next^2 - (1 - step)^2 sigma_i^2)
    and q = min(k rho_i / 2, sqrt(c)), of covariance c - 4 q^2 P (1 - P): z = D - 2 (q / k) z' in prox makes the first term. The noise that
    x keeps, 1 - step of it, that which y brings and that which is drawn are together white with the level that the network is told next
    (3 % above it at most: their correlation is left out). All is drawn in the image, and H enters by prox alone: one chain whether the
    operator knows its SVD, a prox or only its adjoint (then prox is by Krylov's space).

    It starts about argmin_x |y - Hx|^2 / sigma_y^2 + |x - centre|^2 / s0^2.
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
        precondition: a step per singular component: .4 to 3 dB in holes, .2 to 1.5 on blurs, nothing on 4 x 4 means, which have one
            singular value. False for the same step in all directions, which takes no prox.
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
        not drown the data; the step per component; the start about what y says, where there is a prox; the final denoising. With
        authors=True it agrees with their code to 6e-16 on shared noise, up to that denoising (benchmarks/results/parity.md).
    """

    ranges: ClassVar[Ranges] = {"step": Range(0.1, 0.95, log=True), "gamma": Range(0.2, 5.0, log=True)}
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
        need_count(self, "inner")
        if not 0 < self.step < 1 or not 0 <= self.gamma < math.inf:
            raise InputError(f"need 0 < step < 1, gamma >= 0; given step={self.step}, gamma={self.gamma}")
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
        """One Step per level, and one for the last denoising, whose x is the answer."""
        sigmas = self.sigmas(prior)[:-1]
        prox = proximal(problem)
        first, x = initial(problem, prior, rng, sigmas[0], start, None if self.authors else prox)
        total = len(sigmas) + 1
        each = self.precondition and not self.authors
        move = self._by_component(problem, prox) if each else self._in_one(problem, sigmas[-1])
        for index in range(first, total - 1):
            sigma, x0_hat = sigmas[index], x
            after = sigmas[min(index + 1, total - 2)]
            for count in range(self.inner):
                x0_hat = estimate(prior, x, sigma)
                x = move(x, x0_hat, sigma, sigma if count < self.inner - 1 else after, rng)
            yield Step(index, total, x, x0_hat, sigma)
        if first < total:
            x = estimate(prior, x, sigmas[-1])
            yield Step(total - 1, total, x, x, 0.0)

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

    def _by_component(self, problem: Problem, prox: Prox) -> Move:
        """The step of each singular component, by one prox."""
        share = 1 / (1 + self.gamma**2)
        k, level = self.step * share, noise_of(problem)

        def move(x: Tensor, x0_hat: Tensor, sigma: float, following: float, rng: Rng) -> Tensor:
            rho, y = sigma / math.sqrt(share), problem.y
            if self.noise == "langevin":
                # 2 h = 2 step sigma^2 (1 - share P); w + R (sigma_y n / rho - H w) has covariance 1 - P, R as in P = R H
                shift = math.sqrt(2 * self.step * share) * sigma
                y = mapped(lambda part: part + column(shift / (k * rho) * level, part) * real_normal(part, rng), y)
                kept, white = shift, math.sqrt(2 * self.step * (1 - share)) * sigma
            else:
                missing = max(0.0, following**2 - ((1 - self.step) * sigma) ** 2)
                half = min(k * rho / 2, math.sqrt(missing))
                shift, kept, white = -2 * half, -half, math.sqrt(max(0.0, missing - half**2))
            drawn = rng.normal_like(x)
            z = x0_hat + shift / k * drawn
            pulled = prox(z, y, (rho / level).square()) - z
            return x + self.step * (x0_hat - x) + k * pulled + kept * drawn + white * rng.normal_like(x)

        return move

    @classmethod
    def examples(cls) -> list[Solver]:
        """Eight levels, a step per component and one for all, with both kinds of noise."""
        langevin = [cls(steps=4, inner=2, noise="langevin", precondition=each) for each in (True, False)]
        return [cls(steps=8), cls(steps=4, precondition=False, sigma_max=2.0), *langevin]
