"""The exact law of a solver whose answer is affine in the numbers that it draws: no sampling error.

    x = F z + g(y), z ~ N(0, I)   ->   mean g(y), covariance F F^T

z is planted through the random streams, one unit vector a row, so that one run of many rows gives F: nothing has to be known of the
solver. That it is affine, and F the same for every y, is tested by a few rows first.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from invsolve.priors.base import Prior
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.solver import Solver

MOST = 4500  # numbers drawn in a run, and so rows
CLOSE = 1e-6  # of the spread: what a few hundred float64 steps round, while anything that is not affine shows at 1e-2


class NotAffineError(Exception):
    """The run draws other numbers than normal ones, or another count of them."""


class Planted(Rng):
    """Streams that give what they are told.

    Args:
        noise: (B, T): the T numbers of every row, in the order in which they are asked for.
        items: as for an Rng.
    """

    def __init__(self, noise: Tensor, items: Sequence[int]) -> None:
        super().__init__(0, items)
        self.noise, self.used = noise, 0
        self.parts: list[Planted] = []

    def chosen(self, pairs: Sequence[tuple[int, int]]) -> Planted:
        """The numbers of some rows, for a run in parts."""
        places = [place for _, place in pairs]
        self.parts.append(Planted(self.noise[places], [self.items[place] for place in places]))
        return self.parts[-1]

    @property
    def asked(self) -> set[int]:
        """How many numbers the parts of the run asked for: one count, if they are alike; parts that were only looked at asked for none."""
        found = {self.used}.union(*(part.asked for part in self.parts))
        return found - {0} or {0}

    def normal(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """The next numbers.

        Raises:
            NotAffineError: there are none left, or complex ones are asked for.
        """
        size = int(torch.Size(shape).numel())
        if like.is_complex() or self.used + size > self.noise.shape[1]:
            raise NotAffineError
        out = self.noise[:, self.used : self.used + size].reshape(len(self.noise), *shape).to(like)
        self.used += size
        return out

    def uniform(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """None of these.

        Raises:
            NotAffineError: always.
        """
        raise NotAffineError

    def poisson(self, rate: Tensor) -> Tensor:
        """None of these.

        Raises:
            NotAffineError: always.
        """
        raise NotAffineError


def law(solver: Solver, problem: Problem, prior: Prior, most: int = MOST) -> tuple[Tensor, Tensor, Tensor] | None:
    """(g (D, n), C (n, n), F^T (T, n)) of the answers to D measurements; None where they are not affine, or T is above `most`."""
    try:
        total = asked(solver, problem, prior, most)
        if total is None or not is_affine(solver, problem, prior, total):
            return None
        items = problem.batch
        noise = torch.cat([torch.zeros(items, total), torch.eye(total)]).double()
        x = run(solver, problem, prior, [*range(items), *[0] * total], noise)
    except NotAffineError:
        return None
    factor = x[items:] - x[0]
    return x[:items], factor.T @ factor, factor


def asked(solver: Solver, problem: Problem, prior: Prior, most: int) -> int | None:
    """How many normal numbers a run of one item draws; None above `most`."""
    held = Planted(torch.zeros(1, most, dtype=torch.float64), [0])
    try:
        solver.solve(problem.rows([0]), prior.select([0]), generator=held)
    except NotAffineError:
        return None
    return max(held.asked)


def is_affine(solver: Solver, problem: Problem, prior: Prior, total: int) -> bool:
    """Whether x(2 z) - x(0) = 2 (x(z) - x(0)), x(z + z') - x(0) is the sum of both, and x(z) - x(0) is the same for another y."""
    first, second = (Rng(3, [which], purpose="affine").normal((total,), torch.zeros(1, dtype=torch.float64))[0] for which in (0, 1))
    zero, last = torch.zeros_like(first), problem.batch - 1
    x = run(solver, problem, prior, [0, 0, 0, 0, 0, last, last], torch.stack([zero, first, 2 * first, second, first + second, zero, first]))
    one, twice, other, both = (x[row] - x[0] for row in (1, 2, 3, 4))
    faults = (twice - 2 * one, both - one - other, x[6] - x[5] - one)
    scale = float(one.abs().max())
    return scale > 0 and all(float(fault.abs().max()) <= CLOSE * scale for fault in faults)


def run(solver: Solver, problem: Problem, prior: Prior, rows: list[int], noise: Tensor) -> Tensor:
    """The answers (B, n) of some items, each with its own numbers."""
    planted = Planted(noise, range(len(rows)))
    x = solver.solve(problem.rows(rows), prior.select(rows), generator=planted).x.flatten(1).double()
    if planted.asked != {noise.shape[1]}:
        raise NotAffineError
    return x
