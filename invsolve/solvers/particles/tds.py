"""TDS: a twisted diffusion sampler, sequential Monte Carlo with proposals and look-ahead weights that know y."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from invsolve.operator import Capability
from invsolve.operator.measurement import flat, minus
from invsolve.priors.base import Denoiser
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solver import Requires, Solver
from invsolve.solvers.diffusion.common import Prox, Restorer, estimate, noise_of, proximal, white_spread
from invsolve.solvers.ranges import need_between, need_count


@dataclass(frozen=True)
class TDS(Restorer):
    """Draw from the posterior by weighted particles: exact as their number grows, for whatever prior the network stands for.

        d = argmin_d |y - H (x0_hat + d)|^2 / sigma_y^2 + |d|^2 / r^2,   x_s ~ q = N(x_t-mean of the ancestral step + k d, v)
        log w += log p(x_s | x_t) - log q(x_s | x_t) + log psi(x_s) - log psi(x_t),   psi(x) = N(y; H x0_hat(x), sigma_y^2 + r^2 H H^T)

    p is the ancestral step (eta = 1) of variance v = sigma_s^2 (1 - sigma_s^2 / sigma_t^2), k = 1 - sigma_s^2 / sigma_t^2, and r^2 = s0^2
    sigma^2 / (s0^2 + sigma^2). At the last level psi is the likelihood itself, r = 0: whatever psi was on the way, the weights end right.
    What the particles converge to is the law of the ancestral sampler with `steps` steps, given y. Particles of an item whose effective
    number, 1 / sum w^2, is below half are drawn anew (systematic resampling). The answer is one particle, drawn by weight.

    Each sample of `samples=n` is a run of its own. Weights of large images are uneven whatever is done: few particles count there.

    Memory is that of any other solver: the network sees one particle of every item at a time. The last step's state holds them all,
    `particles` (B, n, *in_shape) and `log_weights` (B, n); its stats the effective number, `ess`.

    Args:
        steps: noise levels.
        particles: of each item; a network evaluation each and level.
        threshold: share of the particles below which they are drawn anew, 0 (never) to 1.
        grid: name of the sigma grid.
        sigma_max: first noise level in data units; None for 20 s0 on the grid `karras`: next to nothing of
            the image is left there.

    Raises:
        InputError: a field out of its range.

    References:
        Practical and Asymptotically Exact Conditional Sampling in Diffusion Models (Wu, Trippe et al., 2023), arXiv:2306.17775,
        algorithm 1.
        Deviations: the proposal is moved by d, a proximal step, where theirs differentiates log psi through the network; psi has the width
        that a white prior leaves, for every linear H; resampling by need, systematic, where theirs is at every level. With these undone
        azula's agrees to 3e-15 on shared noise, its weights to 2e-14 (benchmarks/results/parity.md).
    """

    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.ADJOINT}))
    whole: ClassVar[bool] = True
    declared_bias: ClassVar[Mapping[str, Any]] = {"mean": 0.1, "cov": 0.15, "trace": (0.82, 1.05)}
    steps: int = 50
    particles: int = 16
    threshold: float = 0.5
    grid: str = "karras"
    sigma_max: float | None = None

    def __post_init__(self) -> None:
        need_count(self, "particles")
        need_between(self, "threshold", 0, 1, ends="[]")

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Denoiser, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """The last x is the answer; before that, x is one of the particles."""
        sigmas = self.sigmas(prior)
        first, x, weights, before = self._begin(problem, prior, rng, sigmas[0], start)
        prox, level, total = proximal(problem), noise_of(problem), len(sigmas) - 1
        for index in range(first, total):
            sigma, following = sigmas[index], sigmas[index + 1]
            width = white_spread(prior, sigma) if following > 0 else 0.0
            looks = [look(problem, prior, prox, level, x[:, one], sigma, width) for one in range(self.particles)]
            x0_hat, shift, ahead = (torch.stack(parts, 1) for parts in zip(*looks, strict=True))
            weights = torch.log_softmax(weights + ahead - before, 1)
            ess = 1 / weights.exp().square().sum(1)
            mean = torch.einsum("bp,bp...->b...", weights.exp(), x0_hat)
            if following > 0:
                order, weights = self._order(weights, ess, rng)
                x, x0_hat, shift, before = (taken(one, order) for one in (x, x0_hat, shift, ahead))
                x, gained = proposed(x, x0_hat, shift, sigma, following, rng)
                weights, chosen = weights + gained, x[:, 0]
            else:
                x, chosen = x0_hat, taken(x0_hat, drawn(weights, 1, rng))[:, 0]
            chosen = torch.where(mean.isfinite(), chosen, mean)  # one particle that is not finite spoils the weights of all
            yield Step(index, total, chosen, mean, following, {"ess": ess}, {"particles": x, "log_weights": weights, "twist": before})

    def _order(self, weights: Tensor, ess: Tensor, rng: Rng) -> tuple[Tensor, Tensor]:
        """(which particle stands in each place, log weights): drawn anew where too few count. Every item draws, or streams would part."""
        anew = (ess < self.threshold * self.particles)[:, None]
        fresh = drawn(weights, self.particles, rng)
        order = torch.where(anew, fresh, torch.arange(self.particles, device=fresh.device))
        return order, torch.where(anew, -math.log(self.particles), weights)

    def _begin(self, problem: Problem, prior: Denoiser, rng: Rng, sigma: float, start: Step | None) -> tuple[int, Tensor, Tensor, Tensor]:
        """(first index, particles, log weights, log psi): a kept step's own, copies of a user's x, or draws about the data's mean."""
        even = problem.image.new_zeros(problem.batch, self.particles)
        if start is not None and "particles" in start.state:
            return start.index + 1, start.state["particles"], start.state["log_weights"], start.state["twist"]
        if start is not None:
            return 0, start.x[:, None].expand(-1, self.particles, -1, -1, -1), even, even
        draws = rng.normal((self.particles, *problem.operator.in_shape), problem.image)
        return 0, prior.centre + sigma * draws, even, even

    @classmethod
    def examples(cls) -> list[Solver]:
        """Eight levels with three particles."""
        return [cls(steps=8, particles=3, sigma_max=2.0)]


def look(
    problem: Problem, prior: Denoiser, prox: Prox, level: Tensor, x: Tensor, sigma: float, width: float
) -> tuple[Tensor, Tensor, Tensor]:
    """(x0_hat, d, log psi) of one particle of every item; width 0 has psi = p(y | x0_hat) and d = 0.

    log psi is minus half the least |y - H (x0_hat + d)|^2 / sigma_y^2 + |d|^2 / r^2, and a constant that is the same for all particles.
    """
    x0_hat = estimate(prior, x, sigma)
    moved = prox(x0_hat, problem.y, width / level.square()) if width > 0 else x0_hat
    misfit = flat(minus(problem.y, problem.operator(moved))).abs().square().sum(1) / level.square()
    shift = moved - x0_hat
    if width > 0:
        misfit = misfit + shift.flatten(1).square().sum(1) / width
    return x0_hat, shift, -0.5 * misfit


def proposed(x: Tensor, x0_hat: Tensor, shift: Tensor, sigma: float, following: float, rng: Rng) -> tuple[Tensor, Tensor]:
    """(x_s, log p - log q), (B, n, ...) and (B, n)."""
    k = 1 - (following / sigma) ** 2
    noise = following * math.sqrt(k) * rng.normal_like(x)
    moved = k * shift
    gained = -(moved * (moved + 2 * noise)).flatten(2).sum(2) / (2 * following**2 * k)
    return x + k * (x0_hat - x) + moved + noise, gained


def drawn(weights: Tensor, count: int, rng: Rng) -> Tensor:
    """Places (B, count) of particles drawn by log weights (B, n), systematically: one number for all of an item's."""
    places = (torch.arange(count, device=weights.device) + rng.uniform((1,), weights)) / count
    return torch.searchsorted(weights.exp().cumsum(1), places).clamp_max(weights.shape[1] - 1)


def taken(values: Tensor, order: Tensor) -> Tensor:
    """values (B, n, ...) at places (B, k)."""
    return values[torch.arange(len(values), device=values.device)[:, None], order]
