"""Solvers that look at no prior."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from invsolve.priors.base import Prior
from invsolve.priors.gaussian import GaussianPrior
from invsolve.problem import Problem
from invsolve.solution import Solution
from invsolve.solver import Solver


class Unasked(Solver):
    """A solver whose answer depends on no prior, so that it may be left out: `requires.prior` is (Prior,), any of them."""

    expected_failures: ClassVar[Mapping[str, str]] = {"check_divergence": "the prior, which that check spoils, is not asked"}

    def solve(self, problem: Problem, prior: Prior | None = None, **options: Any) -> Solution:
        """As `Solver.solve`, and without a prior too, as none is asked."""
        return super().solve(problem, GaussianPrior() if prior is None else prior, **options)
