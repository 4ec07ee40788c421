"""What is tried: settings of a solver in the ranges that it declares, or the defaults of several solvers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

from invsolve.errors import InputError
from invsolve.plugins import registry
from invsolve.plugins.interrupts import attempted
from invsolve.priors.base import Prior, Regulariser
from invsolve.problem import Problem
from invsolve.ranges import Range, drawn, fitting, gridded, joint, parted
from invsolve.solver import Solver
from invsolve.solvers.auto import Auto

# Cheap ones first, so that a small budget has seen the ones that most often win. A regulariser of its own where one is named.
PORTFOLIO: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("hqs", {}, ""),
    ("hqs", {"steps": 20}, ""),
    ("admm", {"steps": 20}, ""),
    ("diffpir", {}, ""),
    ("pdhg-tv", {}, "tv"),
    ("rl-tv", {}, "tv"),
    ("lbfgs", {}, "tv"),
    ("spectral", {}, ""),
    ("ddrm", {"steps": 20}, ""),
    ("ccdf", {}, ""),
    ("dds", {}, ""),
    ("dps", {}, ""),
)
WEIGHTS = (0.2, 0.35, 0.5)  # places in a regulariser's range


@dataclass(frozen=True)
class Candidate:
    """A solver with a prior.

    Args:
        label: for tables.
        values: what differs from the first candidate, by the names of `ranges`; of the prior's as "prior.NAME".
        reason: why it cannot be tried, "" where it can.
    """

    label: str
    solver: Solver
    prior: Prior
    values: dict[str, Any] = field(default_factory=dict)
    reason: str = ""


def tried(solver: Solver, prior: Prior, values: dict[str, Any]) -> Candidate:
    """The candidate with some hyperparameters set; one that cannot be made says why, and is never tried."""
    label = ", ".join(f"{name} {value}" for name, value in values.items())
    made = attempted(lambda: changed(solver, prior, values))
    if isinstance(made, BaseException):
        return Candidate(label, solver, prior, values, f"{type(made).__name__}: {made}"[:300])
    return Candidate(label, *made, values)


def changed(solver: Solver, prior: Prior, values: dict[str, Any]) -> tuple[Solver, Prior]:
    """Both with some hyperparameters set."""
    own, inner = parted(values)
    if own:
        solver = replace(solver, **own) if is_dataclass(solver) else type(solver)(**{**solver.arguments, **own})  # pyright: ignore
    return solver, type(prior)(**{**prior.arguments, **inner}) if inner else prior


def settings(
    solver: Solver, prior: Prior, problem: Problem, count: int, *, names: Sequence[str] = (), method: str = "random", seed: int = 0
) -> list[Candidate]:
    """At most `count` candidates: the solver as it is, then others in its ranges.

    Raises:
        InputError: no ranges, unknown names, an unknown method, ranges that go with a noise level which differs between items.
    """
    ranges = declared(solver, prior, names)
    sigma_x = level(problem, ranges)
    if method == "grid":
        wanted = gridded(ranges, count - 1, sigma_x) if count > 1 else []
    elif method == "random":
        wanted = list(drawn(ranges, count - 1, seed, sigma_x))
    else:
        raise InputError(f"method must be random, grid or optuna; given {method!r:.40}")
    return [Candidate("as given", solver, prior), *(tried(solver, prior, values) for values in wanted)]


def declared(solver: Solver, prior: Prior, names: Sequence[str] = ()) -> dict[str, Any]:
    """The ranges of a solver, and as `prior.NAME` those of its regulariser.

    Raises:
        InputError: neither declares any, or not the named ones.
    """
    found = joint(solver.ranges, prior.ranges if isinstance(prior, Regulariser) else None, names)
    if not found:
        able = "a solver says where its hyperparameters are looked for in its class attribute `ranges`"
        raise InputError(f"{type(solver).__name__} with {type(prior).__name__} declares nothing to tune: {able}; or tune 'auto'")
    return found


def level(problem: Problem, ranges: dict[str, Any]) -> float:
    """The noise in units of the image, where a range goes with it.

    Raises:
        InputError: it differs between the items by more than a hundredth.
    """
    if not any(isinstance(one, Range) and one.unit for one in ranges.values()):
        return 1.0
    found = problem.sigma_x
    if float(found.max()) > 1.01 * float(found.min()):
        raise InputError(
            f"the noise differs between the items ({float(found.min()):.3g} to {float(found.max()):.3g}): tune problem[i] each"
        )
    return float(found.mean())


def portfolio(problem: Problem, prior: Prior) -> list[Candidate]:
    """The defaults of the solvers that fit the problem, first what the tables recommend; classical ones with a regulariser of their own.

    Raises:
        InputError: none fits.
    """
    found: list[Candidate] = []
    chosen = Auto().choose(problem, prior)
    if chosen is not None:
        found.append(Candidate(f"auto: {named(chosen.solver)}", chosen.solver, prior))
    for name, options, own in PORTFOLIO:
        made = attempted(lambda name=name, options=options: registry().load("solver", name)(**options))
        if not isinstance(made, Solver) or (not own and any(alike(made, one.solver) for one in found)):
            continue
        for believed, said in believable(problem, prior, own):
            if attempted(lambda made=made, believed=believed: made.mismatches(problem, believed)) == []:
                found.append(Candidate(named(made) + said, made, believed))
    if not found:
        raise InputError(f"no solver of the portfolio fits this problem and {type(prior).__name__}: invsolve which says what they lack")
    return found


def believable(problem: Problem, prior: Prior, own: str) -> list[tuple[Prior, str]]:
    """The priors that a line of the portfolio is tried with, and what they add to its label: regularisers with three weights each."""
    if not own:
        return [(prior, "")]
    if isinstance(prior, Regulariser):
        return [(prior, "")] if registry().name_of("prior", prior) == own else []
    found = []
    cls = registry().load("prior", own)
    sigma_x = float(problem.sigma_x.mean())
    for place in WEIGHTS:
        values = {name: one.at(place, sigma_x) for name, one in fitting(cls.ranges, "regulariser").items()}
        said = ", ".join(f"{name} {value:g}" for name, value in values.items())
        found.append((cls(**values), f" + {own} ({said})"))
    return found


def alike(one: Solver, other: Solver) -> bool:
    """Whether two solvers are the same with the same settings."""
    return type(one) is type(other) and all(getattr(one, f.name) == getattr(other, f.name) for f in fields(one))  # pyright: ignore


def named(solver: Solver) -> str:
    """Its name in the registry, with what differs from its defaults."""
    name = registry().name_of("solver", solver) or type(solver).__name__
    apart = [f"{f.name} {getattr(solver, f.name)}" for f in fields(solver) if getattr(solver, f.name) != f.default]  # pyright: ignore
    return f"{name} ({', '.join(apart)})" if apart else name
