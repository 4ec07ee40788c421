"""CoPaint: DDIM in which every state is first moved, by the gradient through the network, until its estimate fits the known pixels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator import Capability
from invsolve.operator.measurement import column
from invsolve.priors.base import Denoiser
from invsolve.priors.meter import network_time
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.schedule import DiscreteVP
from invsolve.solution import Step
from invsolve.solver import Requires, Solver
from invsolve.solvers.diffusion.common import estimate, generic_step, initial
from invsolve.solvers.diffusion.travel import go_up, legs
from invsolve.solvers.inpainting.common import Inpainter, Known
from invsolve.solvers.ranges import need_count
from invsolve.unit import Unit

RATE_GROWTH, ANCHOR, ANCHOR_GROWTH = 1.012**250, 1e-4, 1.01**250  # the authors', over a whole run
SHORTER = 0.8  # the authors' factor of a step that was too long


@dataclass(frozen=True)
class CoPaint(Inpainter):
    """Move x_t down the gradient of what its estimate misses of the known pixels, then go on by DDIM.

        L(x) = v |m (x0_hat(x) - y)|^2 + c |x - x_t|^2,   v = sigma_t^2 / (sigma_t^2 + sigma_y^2)
        `inner` times:   x <- x - l grad L(x);   x_s = generic step of x, eta = 0

    l = rate 1.012^(250 p) sqrt(1 + (w sigma_t)^2) and c = 1e-4 1.01^(250 p) / (1 + (w sigma_t)^2), p the share of the authors' way that
    lies above the level (their lr_t and c_t, of VP states in the network's unit of width w, as functions of the level, so that they do not
    depend on the grid). A step that raises an item's L is not taken, and the item's steps are shorter by a factor 0.8 from then on.

    Near the posterior's mean, and narrower than the posterior: each state is moved to where the known pixels fit best. 250 levels, the
    authors', are narrower still and not nearer: their steps add up. On pictures (benchmarks/results/inpainting.md) it is behind `repaint`.

    Args:
        steps: noise levels; the network is evaluated 1 + inner times at each, inner times with a backward pass.
        inner: gradient steps a level, at least 1.
        rate: their length, positive; 0.02 to 0.025 are the authors'.
        jump, repeats: every jump-th level, repeats - 1 times, it is fitted once more and goes `jump` levels back up: `copaint-tt`.
        grid: name of the sigma grid; `vp-respaced` is the authors'.
        sigma_max: first noise level in data units; None for 20 s0 on the grid `karras` (5 where s0 is .25), the whole schedule on others.

    Raises:
        InputError: inner, jump or repeats is not a whole number, at least 1; rate is not positive and finite.

    References:
        Towards Coherent Image Inpainting Using Denoising Diffusion Implicit Models (Zhang et al., 2023), arXiv:2304.03322, algorithms 1, 2.
        Deviations: L and the length of steps are per item (theirs are the batch's, E19); a step that was too long is not tried again at
        once, so that the number of evaluations is known; their evaluations that repeat another are left out; noise in y weakens the pull by
        v, so that it is not fitted; pixels known exactly are in the answer as they are in y; the last step ends at noise 0, not at the
        lowest level. Where no step is too long their code agrees to 5e-15, its growth by the level and its sqrt(1 + sigma^2) from noise 0
        on, as here (benchmarks/results/parity.md).
    """

    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.MASK}), gradient=True)
    whole: ClassVar[bool] = True
    declared_bias: ClassVar[Mapping[str, Any]] = {"mean": 0.4, "cov": 0.45, "trace": (0.5, 0.7)}
    steps: int = 50
    inner: int = 2
    rate: float = 0.02
    jump: int = 1
    repeats: int = 1
    grid: str = "karras"
    sigma_max: float | None = None

    def __post_init__(self) -> None:
        need_count(self, "jump", "repeats", "inner")
        if not 0 < self.rate < math.inf:
            raise InputError(f"rate must be positive and finite; given {self.rate}")

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Denoiser, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """A step is one fit and the way down or up after it; the last x is the answer."""
        sigmas, known = self.sigmas(prior), Known.of(problem)
        path = [part for leg in legs(sigmas, self.jump, self.repeats) for part in fits(*leg)]
        first, x = initial(problem, prior, rng, sigmas[0], start)
        length = x.new_ones(len(x)) if start is None else start.state.get("length", x.new_ones(len(x)))
        x0_hat = x if start is None else start.x0_hat
        for index in range(first, len(path)):
            sigma, following = path[index]
            x, found, length = self.fitted(known, prior, x, sigma, length)
            if following > sigma:
                x = go_up(x, sigma, following, rng)
            else:
                x0_hat = found
                x = generic_step(x, x0_hat, sigma, following, 0.0, rng)
            x = known.pasted(x) if following == 0 else x
            yield Step(index, len(path), x, x0_hat, following, state={"length": length})

    def fitted(self, known: Known, prior: Denoiser, x: Tensor, sigma: float, length: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x after the gradient steps, its estimate, and the items' lengths (B,), 1 at first."""
        origin, step = x, self.rate * rising(prior.unit, sigma, RATE_GROWTH) * math.sqrt(1 + prior.unit.sigma(sigma) ** 2)
        x0_hat, loss, gradient = self.misfit(known, prior, x, origin, sigma)
        for count in range(self.inner):
            trial = x - column(step * length, x) * gradient
            found = self.misfit(known, prior, trial, origin, sigma, last=count == self.inner - 1)
            better = found[1] <= loss
            length = torch.where(better, length, SHORTER * length)
            loss = torch.where(better, found[1], loss)
            pairs = ((trial, x), (found[0], x0_hat), (found[2], gradient))
            x, x0_hat, gradient = (torch.where(better.reshape(-1, *[1] * (x.ndim - 1)), new, old) for new, old in pairs)
        return x, x0_hat, length

    def misfit(
        self, known: Known, prior: Denoiser, x: Tensor, origin: Tensor, sigma: float, *, last: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x0_hat, L per item, (B,), and its gradient in x; zeros in its place where it is not needed."""
        anchor = ANCHOR * rising(prior.unit, sigma, ANCHOR_GROWTH) / (1 + prior.unit.sigma(sigma) ** 2)
        weight = torch.where(known.shown, sigma**2 / (sigma**2 + known.sigma.square()), 0.0)
        with torch.set_grad_enabled(not last):
            x = x.detach().requires_grad_(not last)
            x0_hat = estimate(prior, x, sigma)
            loss = (weight * (x0_hat - known.y).square() + anchor * (x - origin).square()).flatten(1).sum(1)
            if last:
                return x0_hat, loss, torch.zeros_like(x)
            with network_time():  # the backward pass is the network's time too
                (gradient,) = torch.autograd.grad(loss.sum(), x)
        return x0_hat.detach(), loss.detach(), gradient

    @classmethod
    def examples(cls) -> list[Solver]:
        """Four levels with jumps of two, from a level of one's own, by steps that are too long at first."""
        return [cls(steps=4, jump=2, repeats=2, rate=1.0, sigma_max=3.0)]


def fits(sigma: float, following: float, reached: float) -> list[tuple[float, float]]:
    """A leg as its fits, each with the level after it: the way up begins with a fit of its own."""
    return [(sigma, following), (following, reached)] if reached > following else [(sigma, following)]


def rising(unit: Unit, sigma: float, growth: float) -> float:
    """growth^p, p from 0 at the authors' top to 1 at their lowest level: the share of their 1000 steps that lie above sigma."""
    time = float(DiscreteVP().time(torch.tensor(unit.sigma(sigma), dtype=torch.float64)))
    return growth ** (1 - min(max(time, 0.0), 999.0) / 999)
