"""Latent DPS: diffusion posterior sampling in codes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from invsolve.priors.base import Prior
from invsolve.problem import Problem
from invsolve.solver import Solver
from invsolve.solvers.diffusion.dps import DPS
from invsolve.solvers.latent.common import code_gaps

AUTHORS = (
    "return self.sigma_max",
    "- self._length(",
    "spread = variances(",
    "weight = torch.where(spread",
    "return inner_norm(weight",
    "scale = AUTHORS_SCALE",
    "level, after = unit.sigma",
    "return crossed(level",
)


@dataclass(frozen=True)
class LatentDPS(DPS):
    """`dps` on y = H(D(z)) + n, the likelihood's gradient taken through the decoder and the network.

        z0~ = z0_hat - scale sigma_t^2 grad_{z_t} 1/2 sum_j (y - H(D(z0_hat(z_t))))_j^2 / (v_j + |H D|^2 sigma_t^2)

    It is `dps` to the bit, and refuses priors of images: the name under which tables of latent solvers have it. Noise levels are in
    units of the codes. |H D| of a network is that of its Jacobian at one code, which may be exceeded elsewhere: scale is 1, not 1.5.

    Args:
        steps: network evaluations, each with a backward pass through network and decoder.
        scale: weight of the likelihood, see DPS; None for 1.5.
        zeta: share of fresh noise, see DPS.
        grid: name of the sigma grid.
        sigma_max: first noise level, in units of the codes; None for 20 standard deviations of the codes.
        authors: see DPS: the norm's gradient with one length, which is PSLD's comparison.

    Raises:
        InputError: see DPS.

    References:
        Solving Linear Inverse Problems Provably via Posterior Sampling with Latent Diffusion Models (Rout et al., 2023), arXiv:2307.00619,
        section 3.1 (its "GML-DPS" has another gradient); Diffusion Posterior Sampling (Chung et al., 2023), arXiv:2209.14687.
        Deviations: those of DPS.
    """

    declared_bias: ClassVar[Mapping[str, Any]] = {"mean": 0.35, "cov": 0.6, "trace": (0.4, 0.6)}
    unreached: ClassVar[Mapping[str, str]] = dict.fromkeys(AUTHORS, "of DPS, whose own examples reach it")
    scale: float | None = 1.0

    def gaps(self, problem: Problem, prior: Prior) -> list[str]:
        """A prior of images; a grid that leaves the prior's range."""
        return [*code_gaps(problem, prior, "dps"), *super().gaps(problem, prior)]

    @classmethod
    def examples(cls) -> list[Solver]:
        """Eight steps; the other branches are those of DPS."""
        return [cls(steps=8)]
