"""ReSample: estimates made consistent with y, and the state drawn anew about them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from invsolve.operator import Capability
from invsolve.operator.measurement import column, minus, parts
from invsolve.priors.base import Denoiser, Prior
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solver import Requires, Solver
from invsolve.solvers.diffusion.common import Restorer, generic_step, initial, noise_of
from invsolve.solvers.diffusion.dps import DPS
from invsolve.solvers.guidance.common import rows_of
from invsolve.solvers.latent.common import code_gaps
from invsolve.solvers.ranges import need_between, need_count

FIRST, SECOND, TINY = 0.9, 0.999, 1e-12  # of Adam


@dataclass(frozen=True)
class ReSample(Restorer):
    """DPS's step; every so often also a code that fits y as well as its noise allows, near which the state is drawn anew.

        z' = DDIM(z0~),   z* = Adam from z0~ on |y - H(D(z))|^2, each item until it is m sigma_y^2 or `inner` steps are done
        z_s ~ N(z* , sigma_s^2) N(z', v^2) = N(z' + t (z* - z'), t sigma_s^2),   t = v^2 / (v^2 + sigma_s^2)
        v^2 = gamma sigma_s^2 (1 - sigma_s^2 / sigma_t^2);   the last step returns z*

    z0~ is DPS's guided estimate, m the number of measured entries: a residual below m sigma_y^2 would be a fit of the noise. The fit is
    hard, so that what y does not say and the fit changes is put right by the steps that follow.

    Args:
        steps: network evaluations, each with a backward pass.
        every: a code is fitted at every so many of them, after the first third.
        inner: gradients of the decoder for a fit, at most.
        lr: of Adam, in standard deviations of the codes.
        gamma: trust in the fitted code; 0 never draws anew.
        scale: weight of DPS's likelihood, 0 <= scale < 2.
        grid: name of the sigma grid.
        sigma_max: first noise level, in units of the codes; None for 20 s0 on the grid `karras`.

    Raises:
        InputError: a field out of its range.

    References:
        Solving Inverse Problems with Latent Diffusion Models via Hard Data Consistency (Song et al., 2024), arXiv:2307.08123, algorithm 1.
        Deviations: it stops by the discrepancy, their code at 1e-6 whatever the noise, which it then fits; codes are fitted at every
        level, theirs first fit the image and encode it; from z0~, theirs from five more DDIM steps; items do not depend on their batch.
    """

    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.DIFFERENTIABLE}), gradient=True)
    declared_bias: ClassVar[Mapping[str, Any]] = {"mean": 0.4, "cov": 0.6, "trace": (0.4, 0.6)}
    unreached: ClassVar[Mapping[str, str]] = {"return self.sigma_max": "of Restorer; examples of others reach it"}
    steps: int = 50
    every: int = 1
    inner: int = 50
    lr: float = 0.03
    gamma: float = 40.0
    scale: float = 1.0
    grid: str = "karras"
    sigma_max: float | None = None

    def __post_init__(self) -> None:
        need_count(self, "every", "inner")
        need_between(self, "lr", 0)
        need_between(self, "gamma", 0, ends="[)")
        need_between(self, "scale", 0, 2, ends="[)")

    def gaps(self, problem: Problem, prior: Prior) -> list[str]:
        """A prior of images; a grid that leaves the prior's range."""
        return code_gaps(problem, prior, "dps") or super().gaps(problem, prior)

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Denoiser, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """The last x is the answer."""
        sigmas, guide = self.sigmas(prior), DPS(steps=self.steps).guide
        first, z = initial(problem, prior, rng, sigmas[0], start)
        total = len(sigmas) - 1
        for index in range(first, total):
            sigma, following = sigmas[index], sigmas[index + 1]
            z0_hat, gradient, _ = guide(problem, prior, z, sigma)
            guided = z0_hat - self.scale * gradient
            z = generic_step(z, guided, sigma, following, 0.0, rng)
            if following == 0:
                z = self.fitted(problem, guided, self.lr * prior.s0)
            elif 3 * index >= total and (total - 1 - index) % self.every == 0:
                near = self.fitted(problem, guided, self.lr * prior.s0)
                v = self.gamma * (1 - (following / sigma) ** 2)  # in sigma_s^2
                share = v / (v + 1)
                z = z + share * (near - z) + following * math.sqrt(share) * rng.normal_like(z)
            yield Step(index, total, z, z0_hat, following)

    def fitted(self, problem: Problem, z: Tensor, lr: float) -> Tensor:
        """z*, item by item."""
        goal = measured(problem) * noise_of(problem).square()
        mean, square = torch.zeros_like(z), torch.zeros_like(z)
        for count in range(1, self.inner + 1):
            with torch.enable_grad():
                leaf = z.detach().requires_grad_(True)
                misfit = rows_of(minus(problem.y, problem.operator(leaf))).square().sum(1)
                (gradient,) = torch.autograd.grad(misfit.sum(), leaf)
            going = misfit.detach() > goal
            if not bool(going.any()):
                break
            gradient = gradient / column(problem.gain.square(), z)
            mean, square = FIRST * mean + (1 - FIRST) * gradient, SECOND * square + (1 - SECOND) * gradient.square()
            move = mean / (1 - FIRST**count) / ((square / (1 - SECOND**count)).sqrt() + TINY)
            z = torch.where(column(going, z).bool(), z - lr * move, z)
        return z

    @classmethod
    def examples(cls) -> list[Solver]:
        """Eight steps, a fit at each."""
        return [cls(steps=8, inner=10)]


def measured(problem: Problem) -> Tensor:
    """How many real numbers of y are measured, (B,)."""
    total = torch.zeros(problem.batch, dtype=problem.image.dtype, device=problem.image.device)
    for part, support in zip(parts(problem.y), problem.operator.supports, strict=True):
        shown = torch.ones_like(part.real) if support is None else (support != 0).to(total).expand(part.shape)
        total = total + shown.flatten(1).sum(1) * (2 if part.is_complex() else 1)
    return total
