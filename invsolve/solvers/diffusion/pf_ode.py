"""Probability-flow ODE with an adaptive step: unconditional sampling to a tolerance, however many evaluations that takes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator.measurement import column
from invsolve.priors.base import Denoiser
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solver import Requires, Solver
from invsolve.solvers.diffusion.common import Sampler, estimate, initial
from invsolve.solvers.variational.common import rms

SAFETY, LEAST, MOST = 0.9, 0.2, 5.0  # of the step that the error asks for, and by how much one may change: as in every such integrator


@dataclass(frozen=True)
class PFODE(Sampler):
    """Follow the probability-flow ODE from noise to the prior's lowest level by an embedded Runge-Kutta pair of orders 3 and 2.

        dx / dt = x - D(x, e^t),   t = log sigma;   the answer is D at the lowest level

    Every image has a step size of its own: one with e = rms(error) / (atol + rtol rms(x - centre)) at most 1 is taken, and the next step
    is 0.9 e^{-1/3} times it, between a fifth and 5 times. A try costs three evaluations of the whole batch; the first slope costs one
    more, and the estimate that is returned none, the last slope having it. `Solution.nfe` is what was spent; images that are done wait for
    the others.

    Args:
        steps: at most so many tries. Where they do not suffice the estimates at the levels reached are returned, status "finished"; else
            the status is "converged".
        rtol: tolerance of a step relative to the state after it, about the prior's centre, which is of the order of sigma.
        atol: absolute tolerance, in units of images in [0, 1].
        sigma_max: first noise level in data units; None for the top of the prior's range.

    Raises:
        InputError: a tolerance that is negative or not finite, or both 0.

    References:
        Score-Based Generative Modeling through Stochastic Differential Equations (Song et al., 2021), arXiv:2011.13456, section 4.3.
        A 3(2) Pair of Runge-Kutta Formulas (Bogacki, Shampine, 1989).
        Deviations: in log sigma, in which the flow of a Gaussian is smooth at all levels; per image (the authors hand the whole batch to
        scipy's RK45 as one vector, so that an image depends on its neighbours); the error is held against the smaller state after the
        step, since what is relative survives on the way down; the last estimate is returned. Meets the authors' own as the tolerances fall,
        to 7e-8 at 1e-8 (benchmarks/results/parity.md).
    """

    requires: ClassVar[Requires] = Requires(noise=(), measurement=False)
    declared_bias: ClassVar[Mapping[str, Any]] = {"mean": 0.1, "cov": 0.1, "trace": (0.95, 1.05)}
    adaptive: ClassVar[bool] = True
    steps: int = 200
    rtol: float = 1e-3
    atol: float = 1e-3
    grid: str = field(default="karras", init=False, repr=False)
    sigma_max: float | None = None

    def __post_init__(self) -> None:
        if not (0 <= self.rtol < math.inf and 0 <= self.atol < math.inf and self.rtol + self.atol > 0):
            raise InputError(f"rtol and atol must be finite and not negative, and not both 0; given rtol={self.rtol}, atol={self.atol}")

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Denoiser, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """The last x is the sample; stats: log sigma reached and the next step in it, per image."""
        if start is not None and start.converged:
            yield start
            return
        high = self.sigmas(prior)[0]
        first, x = initial(problem, prior, rng, high, start)
        state = start.state if start is not None else {}
        last = math.log(min(prior.sigma_range[0], high))
        t = state.get("t", torch.full_like(x.flatten(1)[:, 0], math.log(high)))
        h = state.get("h", torch.full_like(t, (math.log(high) - last) / 20))
        slope = state["slope"] if "slope" in state else x - estimate(prior, x, high)
        for index in range(first, self.steps):
            h = torch.minimum(h, t - last)
            ahead, following, error = self._try(prior, x, t, h, slope)
            taken = ~(error > 1) | (h == 0)  # NaN is taken, so that it is seen
            t = torch.where(taken, t - h, t)
            x, slope = (torch.where(column(taken, x).bool(), new, old) for new, old in ((ahead, x), (following, slope)))
            h = h * (SAFETY * error.clamp_min(1e-9) ** (-1 / 3)).clamp(LEAST, MOST)
            done = bool((t <= last + 1e-9).all())
            shown = x - slope if done or index == self.steps - 1 else x
            kept = {"t": t, "h": h, "slope": slope}
            yield Step(index, self.steps, shown, x - slope, float(t.max().exp()), stats={"t": t, "h": h}, state=kept, converged=done)
            if done:
                return

    def _try(self, prior: Denoiser, x: Tensor, t: Tensor, h: Tensor, first: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The state at t - h, the slope there, and the estimated error over what is allowed, (B,)."""
        low, high = prior.sigma_range

        def slope(x: Tensor, t: Tensor) -> Tensor:
            return x - estimate(prior, x, t.exp().clamp(low, high))  # exp of a log leaves the range by a rounding

        step = column(h, x)
        second = slope(x - step / 2 * first, t - h / 2)
        third = slope(x - 3 / 4 * step * second, t - 3 / 4 * h)
        ahead = x - step * (2 / 9 * first + 1 / 3 * second + 4 / 9 * third)
        fourth = slope(ahead, t - h)
        error = step * (-5 / 72 * first + 1 / 12 * second + 1 / 9 * third - 1 / 8 * fourth)
        return ahead, fourth, rms(error) / (float(self.atol) + float(self.rtol) * rms(ahead - prior.centre))

    @classmethod
    def examples(cls) -> list[Solver]:
        """A loose tolerance, and tries that do not suffice."""
        return [cls(steps=60, rtol=3e-3, atol=3e-3), cls(steps=4)]
