"""ILVR: iterative latent variable refinement, a step of the prior and the measured part of the state from y at the same noise level."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from invsolve.errors import InputError
from invsolve.operator import Capability
from invsolve.solver import Requires, Solver
from invsolve.solvers.projection.common import Replacing
from invsolve.solvers.ranges import need_between


@dataclass(frozen=True)
class ILVR(Replacing):
    """Take an ancestral step, exchange what the state has of y for y brought to its noise level, go on.

        x' = generic step (eta) from x_t with x0_hat to the level sigma
        x = x' + H^T (H H^T + sigma_y^2 / (a sigma^2))^-1 (y + sigma H z - H x')        where sigma >= stop

    a is the share of x' that the step made anew, 1 less what it kept of x_t. Without noise x = x' - phi(x') + phi(y_t), phi = H^+ H, which
    is the paper's low-pass filter where H takes means of blocks. What y does not see follows only by way of the next denoising: of the
    replacement family, whose bias does not vanish with more steps.

    Args:
        steps: network evaluations.
        eta: share of the ancestral noise, 0 to 1 (the paper's).
        stop: the level, in data units, below which y is not asked any more; 0 to the end.
        grid: name of the sigma grid.
        sigma_max: first noise level in data units; None for 20 standard deviations of the prior's data on the grid `karras`.

    Raises:
        InputError: eta is not in [0, 1]; stop is negative or not finite.

    References:
        ILVR: Conditioning Method for Denoising Diffusion Probabilistic Models (Choi et al., 2021), arXiv:2108.02938, algorithm 1.
        Deviations: any linear H with a prox in the place of the low-pass filter; the noise of y, see `projection.common.replaced`; the
        paper's y_t is noised in the image and then filtered, which is H z here; it starts from y. The authors' code noises y to the level
        that the step came from; with the paper's, which is ours, it agrees to 8e-15 on shared noise (benchmarks/results/parity.md).
    """

    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.PROX}))
    declared_bias: ClassVar[Mapping[str, Any]] = {"mean": 0.85, "cov": 0.5, "trace": (0.7, 1.3)}
    steps: int = 50
    eta: float = 1.0
    stop: float = 0.0
    grid: str = "karras"
    sigma_max: float | None = None

    def __post_init__(self) -> None:
        need_between(self, "eta", 0, 1, ends="[]")
        if not 0 <= self.stop < math.inf:
            raise InputError(f"stop must be finite and not negative; given {self.stop}")

    @classmethod
    def examples(cls) -> list[Solver]:
        """Eight steps; from a level of one's own."""
        return [cls(steps=8), cls(steps=4, sigma_max=2.0)]
