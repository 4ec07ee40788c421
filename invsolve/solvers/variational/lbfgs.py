"""L-BFGS on a smoothed objective, for any differentiable operator, linear or not, and any regulariser."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.noise import Ability
from invsolve.operator import Capability
from invsolve.operator.measurement import column
from invsolve.priors.base import Prior, Regulariser
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solution import Step
from invsolve.solver import Requires, Solver
from invsolve.solvers.ranges import need_count
from invsolve.solvers.splitting.common import keep
from invsolve.solvers.variational.common import first_image, objective, objective_gaps

ARMIJO, HALVINGS = 1e-4, 10
WIDE, SAME = 0.1, 5  # the first width; steps with one width


@dataclass(frozen=True)
class LBFGS(Solver):
    """Minimise nll(y, Hx) + weight R_width(x) by limited-memory BFGS, the width of the rounded corners of R falling to its last.

        d = -B g, B from the last moves and changes of gradient (two loops);   x <- x + t d,   t = 1, 1/2, ... until
        F(x + t d) <= F(x) + 1e-4 <g, t d>

    R_width is `Regulariser.smooth_value`: below R by at most width for every norm or coefficient in it, so that for TV of N pixels the
    minimum found is above that of nll + weight R by at most weight N width, plus what the iterations leave. Every item has its own
    memory, line search and end.

    Args:
        steps: iterations; each takes a gradient, and as many values of F as the line search asks for.
        memory: pairs kept.
        width: last width, in the units of x; from 0.1 it falls geometrically through the first half of the steps.
        positive: x >= 0, by two metrics: pixels at 0 that F pushes below stay there and the rest moves by L-BFGS, cut at 0.

    Raises:
        InputError: steps or memory < 1, a width outside (0, 0.1].

    References:
        On the Limited Memory BFGS Method for Large Scale Optimization (Liu, Nocedal, 1989), algorithm 2.1.
        Projected Newton Methods for Optimization Problems with Simple Constraints (Bertsekas, 1982), for x >= 0.
        Deviations: Armijo's condition by halving, pairs without positive curvature being left out, in place of Wolfe's; the widths.
    """

    requires: ClassVar[Requires] = Requires(
        operator=frozenset({Capability.DIFFERENTIABLE}), prior=(Regulariser,), noise=frozenset({Ability.NLL})
    )
    declared_bias: ClassVar[Mapping[str, Any]] = {"mean": 0.1}
    steps: int = 150
    memory: int = 8
    width: float = 1e-3
    positive: bool = False

    def __post_init__(self) -> None:
        need_count(self, "steps", "memory")
        if not 0 < self.width <= WIDE:
            raise InputError(f"width must lie in (0, {WIDE}]; given {self.width}")

    def gaps(self, problem: Problem, prior: Prior) -> list[str]:
        """No noise, or an unusable weight."""
        assert isinstance(prior, Regulariser)
        return objective_gaps(problem, prior)

    def at(self, index: int) -> float:
        """The width of a step; the same for some, so that the memory and the last gradient are of one function."""
        falling = max(1, self.steps // 2)
        return WIDE * (self.width / WIDE) ** min(1.0, index // SAME * SAME / falling)

    @torch.no_grad()
    def iterate(self, problem: Problem, prior: Regulariser, rng: Rng, start: Step | None = None) -> Iterator[Step]:
        """x is the answer; stats: the objective itself, without widths, per item."""
        x = first_image(problem, start)
        x = x.clamp_min(0) if self.positive else x
        state = dict(start.state) if start is not None else {}
        moves = state.get("moves", x.new_zeros(len(x), self.memory, x[0].numel()))
        changes = state.get("changes", torch.zeros_like(moves))
        for index in range(0 if start is None else start.index + 1, self.steps):
            width = self.at(index)
            if "gradient" in state and width == self.at(index - 1):
                value, gradient = state["value"], state["gradient"]
            else:
                value, gradient = evaluated(problem, prior, x, width)
            held = (x <= 0) & (gradient > 0) if self.positive else torch.zeros_like(x, dtype=torch.bool)
            free = torch.where(held, 0.0, gradient)
            direction = torch.where(held, 0.0, -two_loops(free.flatten(1), moves, changes).reshape(x.shape))
            downhill = (direction * free).flatten(1).sum(1) < 0
            direction = keep(downhill, direction, -free)
            first = torch.where(changes.flatten(1).any(1) & downhill, 1.0, FIRST / rows(free).clamp_min(torch.finfo(x.dtype).tiny))
            new = self._searched(problem, prior, x, value, gradient, column(first, x) * direction, width)
            ahead, slope = evaluated(problem, prior, new, width)
            change = torch.where(held, 0.0, slope - gradient)
            moves, changes = remembered(moves, changes, (new - x).flatten(1), change.flatten(1))
            x, state = new, {"moves": moves, "changes": changes, "value": ahead, "gradient": slope}
            yield Step(index, self.steps, x, x, stats={"objective": objective(problem, prior, x)}, state=dict(state))

    def _searched(
        self, problem: Problem, prior: Regulariser, x: Tensor, value: Tensor, gradient: Tensor, move: Tensor, width: float
    ) -> Tensor:
        """x moved by the largest of move, move / 2, ... that F falls enough by; x itself where none does."""
        out, waiting = x, torch.ones(len(x), dtype=torch.bool, device=x.device)
        for _ in range(HALVINGS):
            new = x + move
            new = new.clamp_min(0) if self.positive else new
            found = smoothed(problem, prior, new, width)
            wanted = value + ARMIJO * (gradient * (new - x)).flatten(1).sum(1)
            taken = waiting & ~(found > wanted)  # NaN is taken, so that it is seen
            out, waiting = keep(taken, new, out), waiting & ~taken
            if not bool(waiting.any()):
                break
            move = move / 2
        return out

    @classmethod
    def examples(cls) -> list[Solver]:
        """Eight steps, free and with x >= 0 and a short memory."""
        return [cls(steps=8), cls(steps=4, memory=3, positive=True)]


FIRST = 0.01  # rms of the first move, before there is a curvature


def rows(x: Tensor) -> Tensor:
    """Root mean square per item, (B,)."""
    return x.flatten(1).square().mean(1).sqrt()


def smoothed(problem: Problem, prior: Regulariser, x: Tensor, width: float) -> Tensor:
    """nll + weight R_width, (B,)."""
    return problem.noise.nll(problem.y, problem.operator(x)) + prior.weight * prior.smooth_value(x, width)


def evaluated(problem: Problem, prior: Regulariser, x: Tensor, width: float) -> tuple[Tensor, Tensor]:
    """Value (B,) and gradient."""
    with torch.enable_grad():
        leaf = x.detach().requires_grad_(True)
        value = smoothed(problem, prior, leaf, width)
        (gradient,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), gradient


def two_loops(gradient: Tensor, moves: Tensor, changes: Tensor) -> Tensor:
    """B g, (B, n), of the pairs (B, m, n) from old to new; a pair of zeros is none."""
    curvature = (moves * changes).sum(2)
    known = curvature > 0
    weight = torch.where(known, 1 / torch.where(known, curvature, 1.0), 0.0)
    q, shares = gradient, []
    for index in reversed(range(moves.shape[1])):
        share = weight[:, index] * (moves[:, index] * q).sum(1)
        q = q - share[:, None] * changes[:, index]
        shares.append(share)
    last = changes[:, -1].square().sum(1)
    r = torch.where(known[:, -1] & (last > 0), curvature[:, -1] / torch.where(last > 0, last, 1.0), 1.0)[:, None] * q
    for index, share in zip(range(moves.shape[1]), reversed(shares), strict=True):
        back = weight[:, index] * (changes[:, index] * r).sum(1)
        r = r + (share - back)[:, None] * moves[:, index]
    return r


def remembered(moves: Tensor, changes: Tensor, move: Tensor, change: Tensor) -> tuple[Tensor, Tensor]:
    """The pairs with one more, the oldest gone; as they were for an item whose pair has no positive curvature."""
    bent = (move * change).sum(1) > 1e-12 * move.square().sum(1).sqrt() * change.square().sum(1).sqrt()

    def pushed(held: Tensor, new: Tensor) -> Tensor:
        return keep(bent, torch.cat([held[:, 1:], new[:, None]], 1), held)

    return pushed(moves, move), pushed(changes, change)
