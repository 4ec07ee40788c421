"""PiGDM: pseudoinverse-guided diffusion, the likelihood of one variance r^2 in every direction, carried back through the network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator import Capability
from invsolve.priors.base import Denoiser
from invsolve.problem import Problem
from invsolve.ranges import Choice, Range, Ranges
from invsolve.solver import Requires, Solver
from invsolve.solvers.diffusion.common import noise_of, proximal, white_spread
from invsolve.solvers.guidance.common import Guided, guided, linearised


@dataclass(frozen=True)
class PiGDM(Guided):
    """Guide every estimate by grad log p(y | x_t) for x0 | x_t ~ N(x0_hat, r^2), then go to the next noise level.

        g = J^T H^T (r^2 H H^T + sigma_y^2)^-1 (y - H x0_hat),   J = d x0_hat / d x_t,   r = sigma
        D^y = x0_hat + sigma^2 g;   the generic step with eta from D^y

    H^T (H H^T + sigma_y^2 / r^2)^-1 (y - H x0_hat) is prox(x0_hat, y, r^2 / sigma_y^2) - x0_hat: any linear H will do.

    The variance of x0 given x_t is not the same in all directions, so that the strength of y is wrong in each by the ratio of r^2 to it.
    `mmps` has the true one, at a few products with J a step.

    Args:
        steps: network evaluations, each with a backward pass.
        eta: share of the ancestral noise, 0 (deterministic) to 1 (the paper's).
        variance: what r^2 stands for: "noise", sigma^2, or "posterior", s0^2 sigma^2 / (s0^2 + sigma^2), the paper's, for which white
            priors have their exact law. sigma^2 is the largest variance there can be, and no step overshoots with it; with the other one
            g sigma^2 is (s0^2 + sigma^2) / s0^2 times J^T, which is far above 1 for the coarse scales of a photograph: of three crops
            (`natural`, sigma_y .05, 50 steps) it loses 3 dB on holes and 7 on 4 x 4 means and blurs.
        grid: name of the sigma grid.
        sigma_max: first noise level in data units; None for 20 standard deviations of the prior's data on the grid `karras`.

    Raises:
        InputError: eta is not in [0, 1]; another variance.

    References:
        Pseudoinverse-Guided Diffusion Models for Inverse Problems (Song, Vahdat, Mardani, Kautz, 2023), ICLR, algorithm 1.
        Deviations: r^2, whose "posterior" has the prior's s0, not 1 in [-1, 1]; the guidance enters with Tweedie's weight sigma^2 (the
        paper's r_t^2 loses 1 to 8 dB on the same crops, and is exact for no prior); it starts from y; the clip of x0_hat is not
        differentiated; without noise sigma_y is 0.001 |H|. RED-diff's code of it, with awd=False and that sigma_y, agrees to 4e-15 on
        shared noise (benchmarks/results/parity.md).
    """

    ranges: ClassVar[Ranges] = {"eta": Range(0.0, 1.0), "variance": Choice(("noise", "posterior"))}
    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.ADJOINT}), gradient=True)
    declared_bias: ClassVar[Mapping[str, Any]] = {"mean": 0.85, "cov": 0.4, "trace": (0.8, 1.3)}
    steps: int = 50
    eta: float = 1.0
    variance: str = "noise"
    grid: str = "karras"
    sigma_max: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.variance not in ("posterior", "noise"):
            raise InputError(f"variance must be 'posterior' or 'noise'; given {self.variance!r}")

    def stated_bias(self) -> Mapping[str, Any]:
        """With variance="posterior" the guidance is exact for a white prior, so that only the steps are left."""
        return {"white": {"mean": 0.1, "cov": 0.15}} if self.variance == "posterior" else super().stated_bias()

    def given_y(self, problem: Problem, prior: Denoiser, x: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        """D and D + sigma^2 g."""
        x0_hat, pulled = linearised(prior, x, sigma)
        square = sigma**2 if self.variance == "noise" else white_spread(prior, sigma)
        pull = proximal(problem)(x0_hat, problem.y, square / noise_of(problem).square()) - x0_hat
        return x0_hat, guided(x0_hat, pulled(pull / square), sigma)

    @classmethod
    def examples(cls) -> list[Solver]:
        """Eight steps; the posterior's variance."""
        return [cls(steps=8), cls(steps=4, variance="posterior", sigma_max=2.0)]
