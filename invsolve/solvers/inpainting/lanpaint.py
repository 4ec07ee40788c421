"""LanPaint: replacement with Langevin steps at every level, in which the known pixels answer to the unknown ones."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.priors.base import Denoiser
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solver import Solver
from invsolve.solvers.diffusion.common import estimate, initial
from invsolve.solvers.inpainting.common import Inpainter, Known
from invsolve.solvers.ranges import need_count


@dataclass(frozen=True)
class LanPaint(Inpainter):
    """Put back the known pixels, let Langevin dynamics run on all pixels at that level, and go down by the generic step.

    In time units in which the noise of level sigma relaxes, dt = step, with x0_hat = D(x, sigma) held within a step:

        dx = (e - x) dt + sqrt(2) sigma dW,   e = x0_hat where unknown,   e = (1 + lambda) y - lambda x0_hat where known

    e pushes the known pixels against the network's opinion of them, so that they tell the unknown ones what does not fit. What is linear
    in x, with rate A = 1 or 1 + lambda, is integrated exactly, so that a large lambda is stable:

        x <- c + exp(-A dt) (x - c) + sigma sqrt((1 - exp(-2 A dt)) / A) z,   c = x0_hat or y - lambda (x0_hat - x) / (1 + lambda)

    With noise in y the known pixels have the score of N(y, sigma^2 - sigma_y^2) in place of N(y, sigma^2), A = (1 + lambda) / u,
    u = |sigma^2 - sigma_y^2| / sigma^2, c with u lambda for lambda above the line; below sigma_y they have that of p(x_s | y), then exact:
    A = 1 + 1 / u, c = (u x0_hat + y) / (1 + u).

    The defaults, step=2 and eta=1, are for one good picture; step=0.15 to 0.3 and eta=0 (the authors') are nearer to the posterior's law,
    with 20 levels of 10 as near as RePaint at 2410 evaluations, and 2 to 4 dB worse on pictures (benchmarks/results/inpainting.md).

    Args:
        steps: noise levels; the network is evaluated steps (inner + 1) times.
        inner: Langevin steps a level; 0 is `replacement` with eta.
        step: their length, in relaxation times of the level, positive: short ones are exact and slow, long ones narrow the answers.
        guidance: lambda, at least 0; 0 takes no notice of the network's opinion of the known pixels.
        eta: fresh noise of the step down, 0 to 1.
        grid: name of the sigma grid.
        sigma_max: first noise level in data units; None for 20 s0 on the grid `karras` (5 where s0 is .25), the whole schedule on others.

    Raises:
        InputError: inner is no whole number, at least 0; step is not positive, guidance negative, or one not finite; eta not in [0, 1].

    References:
        LanPaint: Training-Free Diffusion Inpainting with Asymptotically Exact and Fast Conditional Sampling (Zheng, Lan and Wang, 2025),
        arXiv:2502.03491.
        Deviations: the overdamped form, the only one that the authors' code has kept; x0_hat is that of the step's beginning (theirs takes
        the last step's for the first half, its own from the middle on); one form for all pixels (their beta = 1); noise in y, see
        `invsolve.solvers.inpainting.common`. Agrees with their code to 1e-14 on shared noise, the middle undone
        (benchmarks/results/parity.md).
    """

    declared_bias: ClassVar[Mapping[str, Any]] = {"mean": 0.15, "cov": 0.5, "trace": (0.5, 0.7)}
    steps: int = 20
    inner: int = 5
    step: float = 2.0
    guidance: float = 6.0
    eta: float = 1.0
    grid: str = "karras"
    sigma_max: float | None = None

    def __post_init__(self) -> None:
        need_count(self, "inner", least=0)
        if not (0 < self.step < math.inf and 0 <= self.guidance < math.inf):
            raise InputError(f"need step > 0 and guidance >= 0, both finite; given step={self.step}, guidance={self.guidance}")
        if not 0 <= self.eta <= 1:
            raise InputError(f"eta must lie in [0, 1]; given {self.eta}")

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Denoiser, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """The last x is the answer."""
        sigmas, known = self.sigmas(prior), Known.of(problem)
        first, x = initial(problem, prior, rng, sigmas[0], start)
        total = len(sigmas) - 1
        for index in range(first, total):
            sigma, following = sigmas[index], sigmas[index + 1]
            x = known.at(x, sigma, rng)
            for _ in range(self.inner):
                x = self.langevin(known, x, estimate(prior, x, sigma), sigma, rng)
            x0_hat = estimate(prior, x, sigma)
            x = known.down(x, x0_hat, sigma, following, rng, self.eta)
            yield Step(index, total, x, x0_hat, following)

    def langevin(self, known: Known, x: Tensor, x0_hat: Tensor, sigma: float, rng: Rng) -> Tensor:
        """One step at a level: rest is 1 / A, goal what x relaxes to."""
        u = (sigma**2 - known.sigma.square()).abs() / sigma**2
        above = known.sigma <= sigma
        rest = torch.where(above, u / (1 + self.guidance), u / (1 + u))
        goal = torch.where(above, known.y - rest * self.guidance * (x0_hat - x), (1 - rest) * known.y + rest * x0_hat)
        rest, goal = torch.where(known.shown, rest, 1.0), torch.where(known.shown, goal, x0_hat)
        spread = (rest * -torch.expm1(-2 * self.step / rest)).sqrt()
        return goal + torch.exp(-self.step / rest) * (x - goal) + sigma * spread * rng.normal_like(x)

    @classmethod
    def examples(cls) -> list[Solver]:
        """Four levels of two Langevin steps, and DDIM's from a level of one's own."""
        return [cls(steps=4, inner=2), cls(steps=4, inner=1, step=0.3, eta=0.0, guidance=0.0, sigma_max=3.0)]
