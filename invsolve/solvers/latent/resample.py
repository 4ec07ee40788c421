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


@dataclass(frozen=True)
class ReSample(Restorer):
    """DPS's step; every so often also a code that fits y as well as its noise allows, near which the state is drawn anew.

        z' = DDIM(z0~),   z* = z0~ moved by z <- z - lr grad 1/2 |y - H(D(z))|^2 / |H D|^2, until |y - H(D(z))|^2 is m sigma_y^2
        z_s ~ N(z* , sigma_s^2) N(z', v^2) = N(z' + t (z* - z'), t sigma_s^2),   t = v^2 / (v^2 + sigma_s^2)
        v^2 = gamma sigma_s^2 (1 - sigma_s^2 / sigma_t^2);   the last step returns z*

    z0~ is DPS's guided estimate, m the number of measured entries: a residual below m sigma_y^2 would be a fit of the noise. What the fit
    does to the code where y says nothing is put right by the steps that follow.

    Args:
        steps: network evaluations, each with a backward pass.
        every: a code is fitted at every so many of them, after the first third.
        inner: gradients of the decoder for a fit, at most.
        lr: their length, 0 < lr < 2; beyond, a step overshoots along the largest singular vector.
        gamma: trust in the fitted code; 0 never draws anew.
        scale: weight of DPS's likelihood, 0 <= scale < 2.
        grid: name of the sigma grid.
        sigma_max: first noise level, in units of the codes; None for 20 s0 on the grid `karras`.

    Raises:
        InputError: a field out of its range.

    References:
        Solving Inverse Problems with Latent Diffusion Models via Hard Data Consistency (Song et al., 2024), arXiv:2307.08123, algorithm 1.
        Deviations: it stops by the discrepancy, their code at 1e-6 whatever the noise, which it then fits; steps of the gradient itself,
        since Adam, which theirs are of, moves codes that y hardly depends on as far as all others (a hole in faces: 8 dB worse than DPS);
        codes are fitted at every level, theirs first fit the image and encode it; from z0~, theirs from five more DDIM steps; items do
        not depend on their batch.
    """

    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.DIFFERENTIABLE}), gradient=True)
    declared_bias: ClassVar[Mapping[str, Any]] = {"mean": 0.3, "cov": 0.6, "trace": (0.4, 0.6)}
    unreached: ClassVar[Mapping[str, str]] = {"return self.sigma_max": "of Restorer; examples of others reach it"}
    steps: int = 50
    every: int = 1
    inner: int = 20
    lr: float = 1.0
    gamma: float = 40.0
    scale: float = 1.0
    grid: str = "karras"
    sigma_max: float | None = None

    def __post_init__(self) -> None:
        need_count(self, "every", "inner")
        need_between(self, "lr", 0, 2)
        need_between(self, "gamma", 0, ends="[)")
        need_between(self, "scale", 0, 2, ends="[)")

    def gaps(self, problem: Problem, prior: Prior) -> list[str]:
        """A prior of images; a grid that leaves the prior's range."""
        return [*code_gaps(problem, prior, "dps"), *super().gaps(problem, prior)]

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
                z = self.fitted(problem, guided)
            elif 3 * index >= total and (total - 1 - index) % self.every == 0:
                near = self.fitted(problem, guided)
                v = self.gamma * (1 - (following / sigma) ** 2)  # in sigma_s^2
                share = v / (v + 1)
                z = z + share * (near - z) + following * math.sqrt(share) * rng.normal_like(z)
            yield Step(index, total, z, z0_hat, following)

    def fitted(self, problem: Problem, z: Tensor) -> Tensor:
        """z*, item by item."""
        goal = measured(problem) * noise_of(problem).square()
        length = column(self.lr / problem.gain.square(), z)
        for _ in range(self.inner):
            with torch.enable_grad():
                leaf = z.detach().requires_grad_(True)
                misfit = rows_of(minus(problem.y, problem.operator(leaf))).square().sum(1)
                (gradient,) = torch.autograd.grad(0.5 * misfit.sum(), leaf)
            going = misfit.detach() > goal
            if not bool(going.any()):
                break
            z = torch.where(column(going, z).bool(), z - length * gradient, z)
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
