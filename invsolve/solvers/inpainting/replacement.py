"""Replacement: ancestral sampling in which the known pixels are put back at every noise level."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from invsolve.priors.base import Denoiser
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solver import Solver
from invsolve.solvers.diffusion.common import estimate, initial
from invsolve.solvers.inpainting.common import Inpainter, Known


@dataclass(frozen=True)
class Replacement(Inpainter):
    """Put back the known pixels, as noisy as the level asks, and go down one level by the ancestral step; RePaint with one way down.

        x_t <- y + sqrt(sigma_t^2 - sigma_y^2) z where known;   x_s = generic step of x_t, eta = 1

    Biased: what is known is put back at each level without regard to what was filled in, so that both need not fit together: a hole takes
    its colour from its border, its contents less. RePaint, LanPaint and the resampling of particles are the cures.

    Args:
        steps: network evaluations.
        grid: name of the sigma grid.
        sigma_max: first noise level in data units; None for 20 s0 on the grid `karras` (5 where s0 is .25), the whole schedule on others.

    References:
        Score-Based Generative Modeling through Stochastic Differential Equations (Song et al., 2021), arXiv:2011.13456, appendix I.2;
        Blended Diffusion (Avrahami et al., 2022), arXiv:2111.14818, algorithm 1 without its text.
        Deviations: the known pixels have the level of the others (theirs are one level noisier, E18); noise in y is taken into account,
        see `invsolve.solvers.inpainting.common`; pixels known exactly are in the answer as they are in y. With the level undone, the code
        of MCG's authors, `vanilla`, agrees to 8e-15 on shared noise (benchmarks/results/parity.md).
    """

    declared_bias: ClassVar[Mapping[str, Any]] = {"mean": 0.95, "cov": 0.3, "trace": (0.9, 1.15)}
    steps: int = 20
    grid: str = "karras"
    sigma_max: float | None = None

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Denoiser, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """The last x is the answer."""
        sigmas, known = self.sigmas(prior), Known.of(problem)
        first, x = initial(problem, prior, rng, sigmas[0], start)
        total = len(sigmas) - 1
        for index in range(first, total):
            sigma, following = sigmas[index], sigmas[index + 1]
            x = known.at(x, sigma, rng)
            x0_hat = estimate(prior, x, sigma)
            x = known.down(x, x0_hat, sigma, following, rng)
            yield Step(index, total, x, x0_hat, following)

    @classmethod
    def examples(cls) -> list[Solver]:
        """Six steps from a level of one's own."""
        return [cls(steps=6, sigma_max=3.0)]
