"""MGDM: a Gibbs sampler over the image and two noisy states of it, the lower of them drawn given y."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from invsolve.operator import Capability
from invsolve.operator.measurement import column, flat, mapped, minus
from invsolve.priors.base import Denoiser
from invsolve.priors.meter import network_time
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solver import Requires, Solver
from invsolve.solvers.diffusion.common import Restorer, estimate, initial, noise_of, real_normal, white_spread
from invsolve.solvers.ranges import need_between, need_count

Level = float | Tensor  # for all items, or (B,)


@dataclass(frozen=True)
class MGDM(Restorer):
    """Draw a state between the image and the next level given y, follow it down to an image, draw the level given both, go on.

        x_s ~ q(x_s | x_0, x_t),   then `repeats` times, tau uniform below s:
        x_tau ~ q(x_tau | x_0, x_s) exp(-|y - H D(x_tau, tau)|^2 / (2 (sigma_y^2 + |H|^2 r^2)));   x_0: `calls` ancestral steps from x_tau
        x_s ~ q(x_s | x_tau, x_t)
        q(x_b | x_a, x_c) = N(x_a + w (x_c - x_a), w (c^2 - b^2)),   w = (b^2 - a^2) / (c^2 - a^2),   a < b < c

    The second line is drawn by optimising what is randomised, exact where H D is linear: of a draw x' of q and y' = y + noise of its
    variance, the x with the least |x - x'|^2 / width^2 + |y' - H D(x)|^2 / variance, by `inner` gradient steps in units of the bridge's
    width. r^2 = s0^2 tau^2 / (s0^2 + tau^2) is what D is off by. The last x_0 is the answer.

    The guidance is where there is little noise, at a tau far below the level, and the levels' states are drawn anew: made for H that are
    not linear, where a gradient at the level itself is no help. x_0 is drawn given x_tau and not given y, so that it follows y less than
    it should, by a share of what one sweep moves: with a few sweeps a level half to two thirds of the way (a white Gaussian, sigma_y .5 of
    its width: .58, .74 with 10 sweeps, .80 is exact).

    Args:
        steps: noise levels.
        repeats: sweeps at each.
        inner: gradient steps a sweep, a network evaluation with its backward pass each.
        calls: ancestral steps from tau to the image, a network evaluation each.
        rate: of the gradient steps, a share of 1 / (1 + |H|^2 width^2 / variance), the most any Gaussian prior bends, 0 < rate < 2.
        grid: name of the sigma grid.
        sigma_max: first noise level in data units; None for 20 s0 on the grid `karras`.

    Raises:
        InputError: a field out of its range.

    References:
        A Mixture-Based Framework for Guiding Diffusion Models (Janati et al., 2025), arXiv:2502.03332, algorithm 1; the second line by
        Randomize-Then-Optimize (Bardsley et al., 2014), without its correction for what is not linear.
        Deviations: r^2 beside sigma_y^2, since D(x_tau) is not the image; the second line, where theirs is a Gaussian fitted by Adam with a
        rate for every task, which in so few steps follows y by half as much; tau uniform in the noise level, an item each, where theirs is
        uniform among a schedule's times; fewer levels and calls, more sweeps (theirs: 100 levels, 5 gradients, 20 calls, one sweep). With
        that line in it, and one call, the authors' code agrees to 8e-16 on shared noise (benchmarks/results/parity.md).
    """

    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.DIFFERENTIABLE}), gradient=True)
    declared_bias: ClassVar[Mapping[str, Any]] = {"mean": 0.7, "cov": 0.45, "trace": (0.7, 1.2), "white": {"mean": 0.5}}
    steps: int = 30
    repeats: int = 2
    inner: int = 2
    calls: int = 3
    rate: float = 1.0
    grid: str = "karras"
    sigma_max: float | None = None

    def __post_init__(self) -> None:
        need_count(self, "repeats", "inner", "calls")
        need_between(self, "rate", 0, 2)

    def sigmas(self, prior: Denoiser) -> list[float]:
        """Two levels more than steps, so that there is one below the last."""
        return prior.sigmas(self.steps + 2, self.grid, self.top(prior))

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Denoiser, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """The last x0_hat, which is x then, is the answer."""
        sigmas, low = self.sigmas(prior), prior.sigma_range[0]
        first, x = initial(problem, prior, rng, sigmas[0], start)
        x_0 = estimate(prior, x, sigmas[0]) if start is None else start.x0_hat
        for index in range(first, self.steps):
            level, following, below = sigmas[index], sigmas[index + 1], sigmas[index + 2]
            above, x = x, between(x_0, x, 0.0, following, level, rng)
            for _ in range(self.repeats):
                tau = low + (max(below, low) - low) * rng.uniform((), x)
                x_tau = self._drawn(problem, prior, x_0, x, tau, following, rng)
                x_0 = self._image(prior, x_tau, tau, rng)
                x = between(x_tau, above, tau, following, level, rng)
            x = torch.where(x_0.isfinite(), x, x_0)  # x is drawn from x_tau: what broke on the way down would not show
            last = index + 1 == self.steps
            yield Step(index, self.steps, x_0 if last else x, x_0, 0.0 if last else following)

    def _drawn(self, problem: Problem, prior: Denoiser, x_0: Tensor, x: Tensor, tau: Level, sigma: float, rng: Rng) -> Tensor:
        """x_tau given its neighbours and y: the minimiser of the two squares, each about a draw of its own."""
        centre, width = bridge(x_0, x, 0.0, tau, sigma)
        variance = column(noise_of(problem), x) ** 2 + column(problem.gain, x) ** 2 * white_spread(prior, column(tau, x))
        seen = mapped(lambda part: part + column(variance.flatten().sqrt(), part) * real_normal(part, rng), problem.y)
        # dD/dx <= 1 for every Gaussian prior, and comes near it where the prior is far wider than s0: no smaller bound is one
        steepest = (column(problem.gain, x) * width) ** 2 / variance
        drawn = place = rng.normal_like(x)
        for _ in range(self.inner):
            with torch.enable_grad():
                leaf = place.detach().requires_grad_(True)
                residual = flat(minus(seen, problem.operator(estimate(prior, centre + width * leaf, tau))))
                misfit = (residual.abs().square() / (2 * variance.reshape(-1, 1))).sum()
                with network_time():  # the backward pass is the network's time too
                    (gradient,) = torch.autograd.grad(misfit, leaf)
            place = place - self.rate / (1 + steepest) * (place - drawn + gradient)
        return centre + width * place

    def _image(self, prior: Denoiser, x: Tensor, tau: Level, rng: Rng) -> Tensor:
        """The ancestral chain from tau to 0, its levels in equal ratios."""
        low = prior.sigma_range[0]
        for call in range(self.calls):
            level, following = (tau * (low / tau) ** (place / self.calls) for place in (call, call + 1))
            x_0 = estimate(prior, x, level)
            x = x_0 if call + 1 == self.calls else between(x_0, x, 0.0, following, level, rng)
        return x

    @classmethod
    def examples(cls) -> list[Solver]:
        """A few levels; with two sweeps."""
        return [cls(steps=6, inner=2, calls=2), cls(steps=4, repeats=2, inner=2, calls=1, sigma_max=2.0)]


def bridge(lower: Tensor, upper: Tensor, a: Level, b: Level, c: Level) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of x_b given x_a and x_c, levels a <= b <= c."""
    low, middle, high = (column(one, lower) ** 2 for one in (a, b, c))
    weight = (middle - low) / (high - low)
    return lower + weight * (upper - lower), (weight * (high - middle)).clamp_min(0).sqrt()


def between(lower: Tensor, upper: Tensor, a: Level, b: Level, c: Level, rng: Rng) -> Tensor:
    """A draw of x_b given x_a and x_c."""
    mean, width = bridge(lower, upper, a, b, c)
    return mean + width * rng.normal_like(lower)
