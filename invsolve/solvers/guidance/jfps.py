"""JFPS: the covariance of x0 given x_t from a covariance of the signal that is given, without a derivative of the network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator import Capability
from invsolve.priors.base import Denoiser
from invsolve.problem import Problem
from invsolve.solver import Requires, Solver
from invsolve.solvers.diffusion.common import estimate
from invsolve.solvers.diffusion.covariance import Smooth
from invsolve.solvers.guidance.common import Guided


@dataclass(frozen=True)
class JFPS(Guided):
    """Move every estimate to the mean of x0 given x_t and y for x0 | x_t ~ N(x0_hat, C), then go to the next noise level.

        C = (S^-1 + sigma^-2)^-1,   D^y = x0_hat + C H^T (sigma_y^2 + H C H^T)^-1 (y - H x0_hat);   the generic step with eta from D^y

    S is the covariance of the signal, from two numbers of the prior: its variance s0^2 and the slope with which its spectrum falls in the
    cosine transform (`invsolve.solvers.diffusion.covariance`); slope 0 is S = s0^2. Exact for a Gaussian prior with that covariance, and
    as good as its covariance elsewhere: where y says much of directions in which S is wrong, the answer leans on y too much or too little.
    What `mmps` takes from the network's Jacobian, C / sigma^2, is given here: no backward pass.

    Args:
        steps: network evaluations.
        slope: of the signal's spectrum, at least 0; None for the prior's own.
        eta: share of the ancestral noise, 0 (deterministic) to 1.
        grid: name of the sigma grid.
        sigma_max: first noise level in data units; None for 20 standard deviations of the prior's data on the grid `karras`.

    Raises:
        InputError: eta is not in [0, 1]; slope is negative or not finite.

    References:
        Learning Diffusion Priors from Observations by Expectation Maximization (Rozet et al., 2024), arXiv:2405.13712, with a fixed
        covariance of the signal in the place of Tweedie's; as `JFPS` in the authors' library azula 0.11.
        Deviations: S is of one family, not the covariance of a set of data; it starts from y; without noise sigma_y is 0.001 |H|. For a
        white S azula's agrees to 2e-15 on shared noise with a mask, to 2e-9 where it solves by iteration (benchmarks/results/parity.md).
    """

    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.ADJOINT}))
    declared_bias: ClassVar[Mapping[str, Any]] = {"mean": 0.85, "cov": 0.5, "trace": (0.8, 1.35), "white": {"mean": 0.1, "cov": 0.15}}
    steps: int = 50
    slope: float | None = None
    eta: float = 1.0
    grid: str = "karras"
    sigma_max: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.slope is not None and not 0 <= self.slope < math.inf:
            raise InputError(f"slope must be finite and not negative, or None for the prior's own; given {self.slope}")

    def given_y(self, problem: Problem, prior: Denoiser, x: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        """D and D + C H^T (sigma_y^2 + H C H^T)^-1 (y - H D)."""
        x0_hat = estimate(prior, x, sigma)
        return x0_hat, Smooth.of(problem, prior, self.slope).mean(x0_hat, sigma)

    @classmethod
    def examples(cls) -> list[Solver]:
        """A few steps; a slope and a level of one's own."""
        return [cls(steps=8), cls(steps=4, slope=0.5, sigma_max=2.0)]
