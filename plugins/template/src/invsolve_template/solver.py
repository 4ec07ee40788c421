"""The solver of this plug-in: a gradient step on the data, then the prox of the prior."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch

from invsolve import Ability, Capability, InputError, Problem, Requires, Rng, Solver, Step
from invsolve.operator.measurement import minus
from invsolve.priors import Regulariser


@dataclass(frozen=True)
class ProximalGradient(Solver):
    """Minimise |y - Hx|^2 / (2 sigma^2) + weight R(x) by proximal gradient steps, from the back-projection of y.

        x <- prox_R(x - t H^T (Hx - y), t sigma^2 weight),   t = step / |H|^2

    Noise that has a sigma is taken for Gaussian of that width; the objective in `stats` has the noise's own nll.

    Args:
        steps: iterations.
        step: length of the gradient step in units of 1 / |H|^2; below 2 it converges.

    Raises:
        InputError: a parameter out of its range.

    References:
        Signal Recovery by Proximal Forward-Backward Splitting (Combettes, Wajs, 2005), theorem 3.4.
    """

    requires: ClassVar[Requires] = Requires(
        operator=frozenset({Capability.ADJOINT}), prior=(Regulariser,), noise=frozenset({Ability.SIGMA, Ability.NLL}), prox=True
    )
    steps: int = 50
    step: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.steps, int) or self.steps < 1:
            raise InputError(f"steps must be a whole number, at least 1; given {self.steps!r}")
        if not 0 < self.step < 2:
            raise InputError(f"step must lie in (0, 2); given {self.step}")

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Regulariser, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """x is the answer; stats: objective, nll + weight R at x per item."""
        operator, y = problem.operator, problem.y
        t = self.step / problem.gain**2  # (B,): every item has its own; the same image whatever the unit of y
        x = t.reshape(-1, 1, 1, 1) * operator.adjoint(y) if start is None else start.x
        for index in range(0 if start is None else start.index + 1, self.steps):
            gradient = operator.adjoint(minus(operator(x), y))
            x = prior.prox(x - t.reshape(-1, 1, 1, 1) * gradient, t * problem.sigma**2 * prior.weight)
            objective = problem.noise.nll(y, operator(x)) + prior(x)
            yield Step(index, self.steps, x, x, stats={"objective": objective})
