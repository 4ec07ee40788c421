"""Latent DAPS: decoupled annealing posterior sampling in codes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from invsolve.priors.base import Prior
from invsolve.problem import Problem
from invsolve.solver import Solver
from invsolve.solvers.decoupled.daps import DAPS
from invsolve.solvers.latent.common import code_gaps


@dataclass(frozen=True)
class LatentDAPS(DAPS):
    """`daps` on y = H(D(z)) + n: estimate the code, draw one given y about the estimate, add the next level's noise.

        z0 ~ exp(-|y - H(D(z0))|^2 / (2 sigma_y^2) - |z0 - z0_hat|^2 / (2 r^2)),   z_s = z0 + sigma_s n

    It is `daps` with the paper's levels and moves for latents, and refuses priors of images. A linear decoder leaves H D linear, whose
    draw is exact; a network is moved through by Langevin steps with a velocity, each a backward pass through the decoder alone.

    Args:
        steps: noise levels.
        calls: network evaluations each, see DAPS.
        inner: "exact" (linear H and D), "langevin", "hmc" (with a velocity) or None: exact where it can be, else hmc.
        inner_steps: of the draws that are not exact, each a pass through the decoder and back.
        step: their length, see DAPS.
        variance: what r^2 stands for, see DAPS; s0 is that of the codes.
        grid: name of the sigma grid.
        sigma_max: first noise level, in units of the codes; None for 20 s0 on the grid `karras`.

    Raises:
        InputError: a field out of its range.

    References:
        Improving Diffusion Inverse Problem Solving with Decoupled Noise Annealing (Zhang et al., 2024), arXiv:2407.01521, section 3.3:
        LatentDAPS, 50 levels, 24 to 30 moves.
        Deviations: those of DAPS; one network evaluation a level, theirs two.
    """

    unreached: ClassVar[Mapping[str, str]] = {"return self.sigma_max": "of Restorer; examples of others reach it"}
    steps: int = 50
    inner_steps: int = 30

    def gaps(self, problem: Problem, prior: Prior) -> list[str]:
        """A prior of images; see DAPS."""
        return [*code_gaps(problem, prior, "daps"), *super().gaps(problem, prior)]

    @classmethod
    def examples(cls) -> list[Solver]:
        """Eight levels with exact draws."""
        return [cls(steps=8)]
