"""Which of the installed solvers fit a problem and a prior, why the others do not, and what would make them fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from invsolve.arguments import checked
from invsolve.errors import InputError, InvsolveError
from invsolve.operator import Capability, Operator
from invsolve.priors.base import Prior
from invsolve.problem import Problem


@dataclass(frozen=True)
class Fit:
    """One solver and one problem.

    Args:
        solver: its registered name.
        reasons: every mismatch; none if it fits.
        doors: what would make it fit, where something would: changes of the operator, in code.
    """

    solver: str
    reasons: tuple[str, ...] = ()
    doors: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether the solver, with its default hyperparameters, can solve the problem."""
        return not self.reasons


# The explicit approximations: what they add, how they are written, and how an operator gets one.
DOORS: tuple[tuple[Capability, str], ...] = (
    (Capability.PROX, "IterativeProx(H, tol=1e-4)"),
    (Capability.PINV, "IterativePinv(H, tol=1e-4)"),
    (Capability.SVD, "KrylovSVD(H, rank=...)"),
)


@checked
def which_solvers(problem: Problem, prior: Prior | None = None) -> list[Fit]:
    """Every installed solver with its reasons: those that fit first, then by name.

    Args:
        problem: what was measured.
        prior: what is believed; None looks at the operator and the noise only.

    Raises:
        InputError: not a Problem, or not a Prior.
    """
    from invsolve.plugins import registry

    if not isinstance(problem, Problem):
        raise InputError(f"problem must be a Problem, given {type(problem).__name__}; the order is which_solvers(problem, prior)")
    if prior is not None and not isinstance(prior, Prior):
        raise InputError(f"prior must be a Prior, given {type(prior).__name__}; invsolve.priors.as_denoiser wraps a network")
    fits = [fit(entry.name, entry.load, problem, prior) for entry in registry().of("solver")]
    return sorted(fits, key=lambda one: (not one.fits, one.solver))


def fit(name: str, load: Callable[[], Any], problem: Problem, prior: Prior | None) -> Fit:
    """One solver with its default hyperparameters; a plug-in that cannot be loaded is a reason too."""
    from invsolve.solver import noise_gaps, operator_gaps

    try:
        solver = load()()
        gaps = [*operator_gaps(solver, problem), *noise_gaps(solver, problem)] if prior is None else solver.mismatches(problem, prior)
    except InvsolveError as error:
        return Fit(name, (str(error),))
    except Exception as error:  # a stranger's solver must not hide the others
        return Fit(name, (f"it cannot be asked: {type(error).__name__}: {error}",))
    return Fit(name, tuple(gaps), doors(solver.requires.operator, problem.operator) if gaps else ())


def doors(required: frozenset[Capability], operator: Operator) -> tuple[str, ...]:
    """The approximations that add what a linear operator lacks; none where something else is missing too."""
    missing = required - operator.capabilities
    known = dict(DOORS)
    if not missing <= set(known) or not operator.has(Capability.ADJOINT):
        return ()
    return tuple(text for capability, text in DOORS if capability in missing)
