"""Which of the installed solvers fit a problem and a prior, why the others do not, and what would make them fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from invsolve.errors import InputError, InvsolveError
from invsolve.operator import Capability, Operator
from invsolve.plugins.arguments import checked, signature_of
from invsolve.plugins.entries import at_defaults
from invsolve.plugins.interrupts import attempted
from invsolve.priors.base import Prior, no_prior
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


@dataclass(frozen=True)
class Door:
    """An explicit approximation: a registered operator that is made of another one and adds what that lacks.

    Args:
        name: its registered name, for files and the shell.
        adds: the capability.
        code: how it is written, such as "IterativeProx(H, tol=1e-4)".
        table: the same in a file, with ... in the place of H's own table.
        opens: whether it can be made of an operator that is linear and has an adjoint.
        carried: whether W(H) @ D is W(H @ D): with it in place of H a prior of codes has the capability too.
    """

    name: str
    adds: Capability
    code: str
    table: str
    opens: Callable[[Operator], bool]
    carried: bool = False


def known_doors() -> list[Door]:
    """The doors in the registry, those of plug-ins too: entries with `adds`. One that cannot be loaded is none."""
    from invsolve.plugins import registry

    found = []
    for entry in registry().of("operator"):
        try:
            cls = entry.load() if entry.adds else None
        except InvsolveError:
            continue
        if cls is not None:
            text, inner = getattr(cls, "door", ""), next(iter(signature_of(cls).parameters), "operator")
            code = f"{getattr(cls, '__name__', entry.name)}({', '.join(part for part in ('H', text) if part)})"
            settings = f"{text.replace('=', ' = ')}, " if text else ""
            table = f'{{ name = "{entry.name}", {settings}{inner} = {{ ... }} }}'
            opens, carried = getattr(cls, "opens", lambda operator: True), getattr(cls, "carried", False)
            found.append(Door(entry.name, Capability(entry.adds), code, table, opens, carried))
    return found


def __getattr__(name: str) -> tuple[tuple[Capability, str], ...]:
    """DOORS, what `known_doors` replaces: (capability, code) of every door."""
    if name == "DOORS":
        return tuple((door.adds, door.code) for door in known_doors())
    raise AttributeError(f"module 'invsolve.which' has no attribute {name!r}")


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
        raise InputError(f"prior must be a Prior, {no_prior(prior)}")
    fits = [fit(entry.name, entry.load, problem, prior) for entry in registry().of("solver")]
    return sorted(fits, key=lambda one: (not one.fits, one.solver))


def fit(name: str, load: Callable[[], Any], problem: Problem, prior: Prior | None) -> Fit:
    """One solver with its default hyperparameters; a plug-in that cannot be loaded is a reason too."""
    from invsolve.solver import noise_gaps, operator_gaps

    def asked() -> tuple[Any, list[str]]:
        solver = at_defaults(load())
        gaps = [*operator_gaps(solver, problem), *noise_gaps(solver, problem)] if prior is None else solver.mismatches(problem, prior)
        return solver, gaps

    found = attempted(asked)  # a stranger's solver must not hide the others
    if isinstance(found, BaseException):
        return Fit(name, (str(found) if isinstance(found, InvsolveError) else f"it cannot be asked: {type(found).__name__}: {found}",))
    solver, gaps = found
    return Fit(name, tuple(gaps), doors(solver.requires.operator, problem, prior) if gaps else ())


def doors(required: frozenset[Capability], problem: Problem | Operator, prior: Prior | None = None) -> tuple[str, ...]:
    """The approximations of H that add what is missing, in code; none where something else is missing too.

    What is missing is asked of the problem that the solver sees: with a prior of codes that of H @ decoder, which has what W(H) adds
    where W is carried through a composition.

    Args:
        required: what a solver asks for.
        problem: y = H(x) + n; H alone, as it was before, does without a prior.
        prior: what is believed.
    """
    operator = seen = problem if isinstance(problem, Operator) else problem.operator
    if isinstance(problem, Problem) and isinstance(prior, Prior):
        try:
            seen = prior.space(problem)[0].operator
        except InputError:  # the prior does not fit at all
            return ()
    missing = required - seen.capabilities
    if not missing or not seen.has(Capability.ADJOINT):
        return ()
    known = [door for door in known_doors() if door.adds in missing and (seen is operator or door.carried)]
    open_ones = [door for door in known if door.opens(operator)]
    return tuple(door.code for door in open_ones) if missing <= {door.adds for door in open_ones} else ()
