"""FISTA: accelerated proximal gradient on nll + weight R, for any linear operator and any regulariser with a prox."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator import Capability
from invsolve.operator.measurement import column, minus
from invsolve.priors.base import Prior, Regulariser
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solver import Requires, Solver, looked
from invsolve.solvers.ranges import need_count
from invsolve.solvers.splitting.common import keep, pulls, regulariser_prox
from invsolve.solvers.variational.common import first_image, objective, objective_gaps, rms


@dataclass(frozen=True)
class FISTA(Solver):
    """Minimise nll(y, Hx) + weight R(x): a gradient step on the data, a prox of R, and momentum that restarts when it points uphill.

        x_k = prox_R(w - g(w) / L, weight sigma_x^2 / L),   g(w) = H^T (Hw - y) / |H|^2
        w = x_k + (t_k - 1) / t_{k+1} (x_k - x_{k-1}),   t_{k+1} = (1 + sqrt(1 + 4 t_k^2)) / 2

    Everything is in least squares of the image, nll times sigma_x^2 = (sigma_y / |H|)^2, where the data's curvature is at most 1. L = 1.05,
    since |H| is known to some per cent where it comes from a power method. t returns to 1 where <w - x_k, x_k - x_{k-1}> > 0, per item.

    With positive=True it is the three-operator splitting of x >= 0, R and the data, without momentum:

        x = max(z, 0),   v = prox_R(2 x - z - g(x) / L, weight sigma_x^2 / L),   z <- z + v - x

    Args:
        steps: at most so many, each a product with H and one with H^T and a prox.
        tol: an item stops where a subgradient of the objective at x, in the units above, has rms at most tol sigma_x^2: for a Gaussian
            prior a distance of at most tol times its variance, and at most tol sigma_x in what H shows. 0 never stops.
        positive: x >= 0.

    Raises:
        InputError: steps < 1, or a tol that is negative.

    References:
        A Fast Iterative Shrinkage-Thresholding Algorithm for Linear Inverse Problems (Beck, Teboulle, 2009).
        Adaptive Restart for Accelerated Gradient Schemes (O'Donoghue, Candes, 2015), arXiv:1204.3982, the gradient scheme.
        A Three-Operator Splitting Scheme and its Optimization Applications (Davis, Yin, 2017), arXiv:1504.01032, algorithm 1.
        Deviations: every item has its own step, momentum and end; the dual of a prox that has one is warm-started.
    """

    requires: ClassVar[Requires] = Requires(operator=frozenset({Capability.ADJOINT}), prior=(Regulariser,), prox=True)
    declared_bias: ClassVar[Mapping[str, Any]] = {"mean": 0.1}
    steps: int = 500
    tol: float = 0.02
    positive: bool = False

    def __post_init__(self) -> None:
        need_count(self, "steps")
        if not 0 <= self.tol < math.inf:
            raise InputError(f"tol must be finite and not negative; given {self.tol}")

    def gaps(self, problem: Problem, prior: Prior) -> list[str]:
        """No noise, or an unusable weight."""
        assert isinstance(prior, Regulariser)
        return objective_gaps(problem, prior)

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Regulariser, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """x is the answer; stats: the objective and the rms of its subgradient, per item."""
        if start is not None and start.converged:
            yield start
            return
        state = dict(start.state) if start is not None else {}
        x = first_image(problem, start)
        x = x.clamp_min(0) if self.positive else x
        active = state.get("active", torch.ones(len(x), dtype=torch.bool, device=x.device))
        advance = self._split if self.positive else self._accelerated
        inner = min(1e-5, max(1e-9, 1e-2 * self.tol))
        for index in range(0 if start is None else start.index + 1, self.steps):
            new, left, found = advance(problem, prior, x, state, inner)
            x = keep(active, new, x)
            state = {name: keep(active, value, state[name]) if name in state else value for name, value in found.items()}
            active = active & (left > self.tol * problem.sigma_x**2)
            state["active"] = active
            finite, going = looked(x, active)
            stats = {"objective": objective(problem, prior, x), "subgradient": left}
            yield Step(index, self.steps, x, x, stats=stats, state=dict(state), converged=not going, finite=finite)
            if not going:
                return

    @staticmethod
    def _accelerated(
        problem: Problem, prior: Regulariser, x: Tensor, state: dict[str, Tensor], inner: float
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """(x_k, the rms of a subgradient there, what the next step needs)."""
        w, t = state.get("w", x), state.get("t", torch.ones_like(problem.sigma_x.expand(len(x))))
        slope = state["slope"] if "slope" in state else gradient(problem, w)
        new, dual = regulariser_prox(prior, w - slope / CURVATURE, pulls(problem, prior) / CURVATURE, state.get("dual"), inner)
        there = gradient(problem, new)
        uphill = ((w - new) * (new - x)).flatten(1).sum(1) > 0
        t = torch.where(uphill, 1.0, t)
        following = (1 + (1 + 4 * t.square()).sqrt()) / 2
        ahead = new + column((t - 1) / following, x) * (new - x)
        # g is affine, so that the gradient ahead is one of the two that are known
        before = state.get("there", slope)
        slope_ahead = there + column((t - 1) / following, x) * (there - before)
        left = rms(CURVATURE * (w - new) + there - slope)
        found = {"w": ahead, "t": following, "slope": slope_ahead, "there": there, **({} if dual is None else {"dual": dual})}
        return new, left, found

    @staticmethod
    def _split(
        problem: Problem, prior: Regulariser, x: Tensor, state: dict[str, Tensor], inner: float
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """The same of the three-operator splitting."""
        z = state.get("z", x)
        slope = gradient(problem, x)
        near = 2 * x - z - slope / CURVATURE
        pulled, dual = regulariser_prox(prior, near, pulls(problem, prior) / CURVATURE, state.get("dual"), inner)
        z = z + pulled - x
        return z.clamp_min(0), CURVATURE * rms(pulled - x), {"z": z, **({} if dual is None else {"dual": dual})}

    @classmethod
    def examples(cls) -> list[Solver]:
        """Eight steps, free and with x >= 0."""
        return [cls(steps=8), cls(steps=4, positive=True)]


CURVATURE = 1.05  # L


def gradient(problem: Problem, x: Tensor) -> Tensor:
    """H^T (Hx - y) / |H|^2."""
    operator = problem.operator
    return operator.adjoint(minus(operator(x), problem.y)) / column(problem.gain, x) ** 2
