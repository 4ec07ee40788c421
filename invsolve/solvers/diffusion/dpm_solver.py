"""DPM-Solver++: unconditional sampling by a multistep integrator of second order, one network evaluation a step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from invsolve.errors import InputError
from invsolve.priors.base import Denoiser
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solver import Requires, Solver
from invsolve.solvers.diffusion.common import Sampler, estimate, initial
from invsolve.solvers.paths import ahead


@dataclass(frozen=True)
class DPMSolver(Sampler):
    """Draw from the prior by an exponential integrator in lambda = -log sigma that remembers the estimate before.

        x_s = e^{-(1 + eta) h} x_t + (1 - e^{-(1 + eta) h}) D' + sigma_s sqrt(1 - e^{-2 eta h}) z,   h = lambda_s - lambda_t
        D' = D_t + (D_t - D_before) / (2 r),   r = h_before / h

    The first step, which has no estimate before it, takes D' = D_t, and so does the last one, to sigma = 0, where h is infinite: x = D_t.
    With eta = 0 the state at the last level above 0 is that of the probability-flow ODE to second order in the step; with eta = 1 the
    same is done for the reverse SDE.

    Args:
        steps: network evaluations.
        eta: 0 deterministic, 1 the reverse SDE.
        grid: name of the sigma grid; a DiffusionPrior brings its own levels.
        sigma_max: first noise level in data units; None for the top of the prior's range.

    Raises:
        InputError: eta outside [0, 1].

    References:
        DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models (Lu et al., 2022), arXiv:2211.01095, algorithm 2
        (2M) and the SDE form of its appendix (SDE-DPM-Solver++(2M), the midpoint rule).
        Deviation: in VE form, where alpha = 1 and lambda = -log sigma; eta between the two forms, of which the paper has the ends. Agrees
        with the authors' code (eta = 0) to 1e-15 without its `lower_order_final`, an Euler step at the end of short runs
        (benchmarks/results/parity.md).
    """

    requires: ClassVar[Requires] = Requires(noise=(), measurement=False)
    declared_bias: ClassVar[Mapping[str, Any]] = {"mean": 0.1, "cov": 0.2, "trace": (0.85, 1.1)}
    steps: int = 25
    eta: float = 0.0
    grid: str = "karras"
    sigma_max: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise InputError(f"eta must lie in [0, 1]; given {self.eta}")

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Denoiser, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """The last x is the sample."""
        sigmas = self.sigmas(prior)
        first, x = initial(problem, prior, rng, sigmas[0], start)
        before = start.state.get("before") if start is not None else None
        total = len(sigmas) - 1
        for index in range(first, total):
            sigma, following = sigmas[index], sigmas[index + 1]
            x0_hat = estimate(prior, x, sigma)
            if following == 0:
                x = x0_hat
            else:
                h = math.log(sigma / following)
                aim = ahead(x0_hat, None if before is None else (before, sigmas[index - 1]), sigma, following)
                x = aim + math.exp(-(1 + self.eta) * h) * (x - aim)
                if self.eta > 0:
                    x = x + following * math.sqrt(-math.expm1(-2 * self.eta * h)) * rng.normal_like(x)
            before = x0_hat
            yield Step(index, total, x, x0_hat, following, state={"before": before})

    @classmethod
    def examples(cls) -> list[Solver]:
        """Eight steps of both forms."""
        return [cls(steps=8), cls(steps=8, eta=1.0)]
