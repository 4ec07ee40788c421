"""DiffPIR's step with a covariance per frequency: what this project adds to the field's samplers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from invsolve.errors import InputError
from invsolve.operator import Capability
from invsolve.priors.base import Denoiser
from invsolve.problem import Problem
from invsolve.ranges import Range, Ranges
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solver import Requires, Solver
from invsolve.solvers.diffusion.common import Restorer, estimate, initial, renoised
from invsolve.solvers.diffusion.covariance import Smooth


@dataclass(frozen=True)
class Spectral(Restorer):
    """Denoise, move the estimate to the data by a covariance that falls with frequency, add fresh noise.

        x0~ = x0_hat + V H^T (H V H^T + sigma_y^2)^-1 (y - H x0_hat),   V = Cov[x0 | x], diagonal in the DCT
        x_s = x0~ + sigma_s (sqrt(1 - zeta) (x_t - x0~) / sigma_t + sqrt(zeta) z);   the last step returns x0~

    Derived: if x0 given x were Gaussian about D(x, sigma) with covariance V, x0~ is its mean given y as well. DiffPIR takes V = sigma^2,
    the same for all frequencies: then what is seen of one pixel says nothing of its neighbours, and holes and missing pixels come in a
    step at a time. A photograph's V falls with frequency (`invsolve.solvers.diffusion.covariance`), so one step carries the coarse scales
    over. It starts at x0~ for x0_hat = centre and sigma = infinity, plus sigma_max z, and needs H^T alone.

    Args:
        steps: network evaluations.
        draw: x0~ is drawn from the Gaussian above in place of its mean: samples whose spread can be believed more, each worse by itself
            (`natural`, 8 pictures of 64 x 64, sigma_y .05, 4 samples of 20 evaluations: spread over error, 1 if calibrated, .89 on a box,
            .57 on a blur, .66 on 4 x 4 means, where the mean's are .48, .30, .29; one sample 2.9, .8, 1.8 dB below).
        zeta: share of fresh noise, 0 to 1.
        slope: of the spectrum; None for the prior's own.
        grid: name of the sigma grid.
        sigma_max: first noise level in data units; None for 4 s0 (1 where s0 is .25), since the start holds what is coarse already.

    References:
        Ours. Its parts: Denoising Diffusion Models for Plug-and-Play Image Restoration (Zhu et al., 2023), arXiv:2305.08995, for the
        step; Improving Diffusion Models for Inverse Problems Using Optimal Posterior Covariance (Peng et al., 2024), arXiv:2402.02149,
        has covariances diagonal in a basis, learned, for guidance by gradients; Decoupled Annealing (Zhang et al., 2024),
        arXiv:2407.01521, has the draw.
    """

    ranges: ClassVar[Ranges] = {"zeta": Range(0.0, 1.0), "slope": Range(1.0, 3.0)}
    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.ADJOINT}))
    declared_bias: ClassVar[Mapping[str, Any]] = {"mean": 0.75, "cov": 0.6, "trace": (0.4, 0.65), "white": {"mean": 0.1}}
    reach: ClassVar[float] = 4.0
    steps: int = 20
    draw: bool = False
    zeta: float = 1.0
    slope: float | None = None
    grid: str = "karras"
    sigma_max: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.zeta <= 1:
            raise InputError(f"zeta must be in [0, 1]; given {self.zeta}")
        if self.slope is not None and not 0 <= self.slope < math.inf:
            raise InputError(f"slope must be a number, at least 0, or None for the prior's own; given {self.slope}")

    def stated_bias(self) -> Mapping[str, Any]:
        """For a white prior V is exact, so that each step's estimate is: with draws the law is the posterior's but for the grid."""
        if self.draw and self.slope is None:
            return {"white": {"mean": 0.1, "cov": 0.2, "trace": (0.9, 1.1)}}
        return super().stated_bias()

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Denoiser, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """The last x is the answer."""
        sigmas, smooth = self.sigmas(prior), Smooth.of(problem, prior, self.slope)
        first, x = initial(problem, prior, rng, sigmas[0], start, lambda about, y, tau: smooth.mean(about, math.inf))
        total = len(sigmas) - 1
        for index in range(first, total):
            sigma, following = sigmas[index], sigmas[index + 1]
            x0_hat = estimate(prior, x, sigma)
            x0_hat = smooth.draw(x0_hat, sigma, rng) if self.draw else smooth.mean(x0_hat, sigma)
            x = renoised(x, x0_hat, sigma, following, self.zeta, rng)
            yield Step(index, total, x, x0_hat, following)

    @classmethod
    def examples(cls) -> list[Solver]:
        """Eight steps: the mean, and draws."""
        return [cls(steps=8), cls(steps=4, draw=True, sigma_max=2.0)]
