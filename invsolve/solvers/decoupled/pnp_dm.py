"""PnP-DM: a split Gibbs sampler, its prior step a denoising diffusion from the coupling's own noise level."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from invsolve.operator import Capability
from invsolve.priors.base import Denoiser, Prior
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solver import Requires, Solver
from invsolve.solvers.decoupled.draws import INNER, draw_gaps, draw_of
from invsolve.solvers.diffusion.common import REACH, initial, proximal
from invsolve.solvers.paths import descend
from invsolve.solvers.ranges import need_between, need_count, need_name


@dataclass(frozen=True)
class PnPDM(Solver):
    """Draw z about x given y, draw x given that z is x with noise rho, and let rho fall.

        z ~ exp(-|y - Hz|^2 / (2 sigma_y^2) - |z - x|^2 / (2 rho^2)),   x ~ p(x) exp(-|x - z|^2 / (2 rho^2))

    The second is a denoising problem, of which the ancestral chain from level rho is a draw: `calls` steps of it. The last x is the answer.
    At a fixed rho the chain's law is p(x) times the likelihood blurred by rho; it is the posterior as rho goes to 0, if the chain has been
    led there slowly enough, since a small rho moves little.

    Not for holes: where y measures, z is quieter than the rho that a network is told, and what it makes of the hole next to it is wrong
    (`natural`, a box of 24 in 64: 16.7 dB, where the start has 20.2). Blurs and means are not affected.

    Args:
        steps: sweeps, rho falling geometrically.
        calls: network evaluations each.
        inner: how z is drawn: "exact" (linear H), "langevin", "hmc" or None: exact where H is linear, else hmc.
        inner_steps: of the draws that are not exact, gradients of H each.
        step: their length, a share of 1 / the largest curvature, 0 < step < 2.
        sigma_max: the first rho in data units; None for 20 s0, inside the prior's range.
        sigma_min: the last.

    Raises:
        InputError: a field out of its range.

    References:
        Principled Probabilistic Imaging using Diffusion Models as Plug-and-Play Priors (Wu et al., 2024), arXiv:2405.18782, algorithm 1.
        Deviations: rho goes lower than the authors' 0.1 (in [-1, 1]; its blur of the likelihood is a bias of order rho^2) and is not held
        there; a few steps of the ancestral chain where they make 100; draws that are not exact as for `daps`; the start. Their chain begins
        at the first level of a fixed grid that lies below rho; with one call, their draw of z and their loop agree to 8e-15 on shared noise
        (benchmarks/results/parity.md).
    """

    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.DIFFERENTIABLE}))
    declared_bias: ClassVar[Mapping[str, Any]] = {"mean": 0.65, "cov": 0.3, "trace": (0.7, 1.05), "white": {"mean": 0.1}}
    moves: ClassVar[bool] = True
    steps: int = 30
    calls: int = 4
    inner: str | None = None
    inner_steps: int = 100
    step: float = 0.1
    sigma_max: float | None = None
    sigma_min: float = 0.01

    def __post_init__(self) -> None:
        need_count(self, "steps", "calls", "inner_steps")
        need_between(self, "step", 0, 2)
        need_name(self, "inner", INNER)
        need_between(self, "sigma_min", 0)
        need_between(self, "sigma_max", 0)

    def gaps(self, problem: Problem, prior: Prior) -> list[str]:
        """Levels that leave the prior's range; an exact draw where H is not linear."""
        assert isinstance(prior, Denoiser)
        low, high = prior.sigma_range
        top = self.top(prior)
        gaps = draw_gaps(problem, self.inner)
        if not low * (1 - 1e-6) <= self.sigma_min <= top <= high * (1 + 1e-6):
            ends = f"sigma_min = {self.sigma_min:.4g} and sigma_max = {top:.4g}"
            gaps.append(f"{ends}: the first must not be above the second, and the prior is good for {low:.4g} .. {high:.4g}")
        return gaps

    def top(self, prior: Denoiser) -> float:
        """sigma_max, or 20 s0 inside the prior's range."""
        low, high = prior.sigma_range
        return self.sigma_max if self.sigma_max is not None else min(max(REACH * prior.s0, low), high)

    def levels(self, prior: Denoiser) -> list[float]:
        """rho, geometrically from the first to the last; the last alone for one step."""
        top, count = self.top(prior), self.steps - 1
        return [top * (self.sigma_min / top) ** (index / count) for index in range(count)] + [self.sigma_min]

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Denoiser, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """The last x is the answer."""
        draw = draw_of(problem, self.inner, self.inner_steps, self.step)
        warm = proximal(problem) if problem.operator.has(Capability.ADJOINT) else None
        first, x = initial(problem, prior, rng, 0.0, start, warm)
        for index, rho in list(enumerate(self.levels(prior)))[first:]:
            z = draw(x, rho, rng)
            x = descend(prior, z, rho, self.calls, rng, eta=1.0)
            yield Step(index, self.steps, x, x)

    @classmethod
    def examples(cls) -> list[Solver]:
        """Eight sweeps with exact draws, and with moves."""
        return [cls(steps=8, calls=2), cls(steps=4, calls=1, inner="hmc", inner_steps=8, step=0.5, sigma_max=1.0)]
