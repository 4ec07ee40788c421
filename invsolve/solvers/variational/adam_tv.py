"""Adam on the objective nll(y, Hx) + weight R(x), for any differentiable operator and any regulariser."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.noise import Ability
from invsolve.operator import Capability
from invsolve.priors.base import Prior, Regulariser
from invsolve.problem import Problem
from invsolve.ranges import Range, Ranges
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solver import Requires, Solver
from invsolve.solvers.variational.common import first_image, objective, objective_gaps


@dataclass(frozen=True)
class AdamTV(Solver):
    """Minimise nll(y, Hx) + weight R(x) by Adam with a step that decays to 0.

        x <- x - lr_k m_hat / (sqrt(v_hat) + eps),   lr_k = lr (1 + cos(pi k / steps)) / 2

    Every quantity belongs to one pixel, so items do not influence each other. The decay is what makes it reach the optimum: with
    a constant step Adam stalls at a distance of the order of lr.

    Args:
        steps: gradient evaluations (and one more for the last objective).
        lr: first step, in units of images in [0, 1].
        betas: decay of the mean and of the mean square of the gradient; 0.999, the usual one, remembers for 1000 steps how steep a
            likelihood of counts is below 0.
        eps: added to sqrt(v_hat). A gradient in x is that of a negative log-likelihood, whatever the unit of y, and of the order of the
            weight: one of 1e-4 is next to none, and dividing by less would make steps of rounding errors.
        positive: x >= 0. x is cut at 0 after every step: the projection in Adam's own metric, which is diagonal.

    Raises:
        InputError: a parameter out of its range.

    References:
        Adam: A Method for Stochastic Optimization (Kingma, Ba, 2015), arXiv:1412.6980, algorithm 1.
        Deviation: the cosine decay; a deterministic gradient.
    """

    ranges: ClassVar[Ranges] = {"lr": Range(0.005, 0.1, log=True)}
    requires: ClassVar[Requires] = Requires(
        operator=frozenset({Capability.DIFFERENTIABLE}), prior=(Regulariser,), noise=frozenset({Ability.NLL})
    )
    declared_bias: ClassVar[Mapping[str, Any]] = {"mean": 0.45}
    steps: int = 400
    lr: float = 0.02
    betas: tuple[float, float] = (0.9, 0.99)
    eps: float = 1e-4
    positive: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.steps, int) or self.steps < 1:
            raise InputError(f"steps must be a whole number, at least 1; given {self.steps!r}")
        if not (math.isfinite(self.lr) and self.lr > 0 and self.eps > 0):
            raise InputError(f"lr and eps must be positive and finite; given lr={self.lr}, eps={self.eps}")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise InputError(f"betas must be two numbers in [0, 1); given {self.betas}")

    def gaps(self, problem: Problem, prior: Prior) -> list[str]:
        """No noise, or an unusable weight."""
        assert isinstance(prior, Regulariser)
        return objective_gaps(problem, prior)

    @staticmethod
    def _evaluate(problem: Problem, prior: Regulariser, x: Tensor) -> tuple[Tensor, Tensor]:
        """Objective (B,) and gradient at x."""
        with torch.enable_grad():
            leaf = x.detach().requires_grad_(True)
            value = objective(problem, prior, leaf)
            (gradient,) = torch.autograd.grad(value.sum(), leaf)
        return value.detach(), gradient

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Regulariser, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """x is the answer; stats: the objective at x per item."""
        x = first_image(problem, start)
        x = x.clamp_min(0) if self.positive else x
        state = start.state if start is not None else {}
        mean, square = state.get("mean", torch.zeros_like(x)), state.get("square", torch.zeros_like(x))
        (fast, slow), first = self.betas, 0 if start is None else start.index + 1
        _, gradient = self._evaluate(problem, prior, x)
        for index in range(first, self.steps):
            mean = torch.lerp(gradient, mean, fast)
            square = torch.lerp(gradient.square(), square, slow)
            lr = self.lr * (1 + math.cos(math.pi * index / self.steps)) / 2
            size = (square / (1 - slow ** (index + 1))).sqrt_().add_(self.eps)
            x = x - (lr / (1 - fast ** (index + 1))) * mean / size
            x = x.clamp_min(0) if self.positive else x
            value, gradient = self._evaluate(problem, prior, x)
            yield Step(index, self.steps, x, x, stats={"objective": value}, state={"mean": mean, "square": square})
