"""MPGD: manifold preserving guided diffusion, a gradient step on the estimate itself, without a derivative of the network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator import Capability
from invsolve.operator.measurement import column, flat, minus
from invsolve.priors.base import Denoiser
from invsolve.problem import Problem
from invsolve.solver import Requires, Solver
from invsolve.solvers.diffusion.common import estimate
from invsolve.solvers.guidance.common import Guided

LIMIT = 2.0  # of scale: at it a step along the largest singular vector turns the residual round


@dataclass(frozen=True)
class MPGD(Guided):
    """Take one gradient step on the misfit of every estimate, then go to the next noise level.

        D^y = x0_hat - scale sigma^2 / (sigma_y^2 + |H|^2 sigma^2) grad_{x0_hat} 1/2 |y - H x0_hat|^2;   the generic step with eta from D^y

    The step is DPS's without the network's Jacobian, which the estimate is taken to stand on the manifold of images for. At scale 1 it
    fits the component of the largest singular value as far as the noise lets it, and weaker ones by the square of their ratio to it.
    Works for any differentiable operator (|H| is then that of its Jacobian).

    Args:
        steps: network evaluations.
        scale: weight of the likelihood, 0 <= scale < 2.
        eta: share of the ancestral noise, 0 (deterministic) to 1.
        grid: name of the sigma grid.
        sigma_max: first noise level in data units; None for 20 standard deviations of the prior's data on the grid `karras`.

    Raises:
        InputError: scale is negative, or 2 and more; eta is not in [0, 1].

    References:
        Manifold Preserving Guided Diffusion (He et al., 2024), arXiv:2311.16424, algorithm 1 without its autoencoder.
        Deviations: the paper leaves the step c_t open, its code takes c_t grad |y - H x0_hat|, whose length does not shrink with the
        residual, so that it must be tuned for every task and size; here it has the weight that Bayes gives it if Cov[x0 | x_t] is
        sigma^2, its upper bound; the noise that is kept is that of D^y, theirs that of D. With both undone their code agrees to 4e-15
        on shared noise (benchmarks/results/parity.md).
    """

    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.ADJOINT}))
    declared_bias: ClassVar[Mapping[str, Any]] = {"mean": 0.9, "cov": 0.7, "trace": (0.8, 1.55)}
    steps: int = 50
    scale: float = 1.0
    eta: float = 1.0
    grid: str = "karras"
    sigma_max: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.scale < LIMIT:
            raise InputError(f"scale must be at least 0 and below 2, where a step overshoots the data; given {self.scale}")

    def given_y(self, problem: Problem, prior: Denoiser, x: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        """D and D less the step."""
        x0_hat = estimate(prior, x, sigma)
        with torch.enable_grad():
            leaf = x0_hat.detach().requires_grad_(True)
            misfit = 0.5 * flat(minus(problem.y, problem.operator(leaf))).abs().square().sum()
            (gradient,) = torch.autograd.grad(misfit, leaf)
        width = problem.sigma.square() + (problem.gain * sigma).square()
        return x0_hat, x0_hat - column(self.scale * sigma**2 / width, x) * gradient

    @classmethod
    def examples(cls) -> list[Solver]:
        """Eight steps; from a level of one's own."""
        return [cls(steps=8), cls(steps=4, sigma_max=2.0)]
