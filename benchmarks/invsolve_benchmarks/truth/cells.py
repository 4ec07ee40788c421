"""One cell of the leaderboard: a solver, a problem, a number of evaluations; what its answers are measured at."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from invsolve.bench.environment import versions
from invsolve.bench.fingerprint import code_hash, data_hash, locate, source_hash
from invsolve.bench.state import state_hash
from invsolve.errors import CompatibilityError, InputError, InvsolveError
from invsolve.plugins.interrupts import OutOfTimeError, attempted
from invsolve.priors.base import Denoiser
from invsolve.rng import Rng
from invsolve.solver import Solver
from invsolve.testing.pooled import Pooled
from invsolve_benchmarks.truth import affine
from invsolve_benchmarks.truth.catalogue import CONTROLS
from invsolve_benchmarks.truth.measures import Found, measures
from invsolve_benchmarks.truth.problems import Truth, truth_of

SLACK = 1.05  # of the evaluations asked for: a sampler of two evaluations a step has no odd number of them
EXACT, PRIOR = "exact draws", "prior alone"  # the floor, and what looks at no y
SAME = (EXACT, PRIOR)
CONTROL_MEAN, CONTROL_COV = 0.1, 0.06  # posterior standard deviations and relative error: what "exact" means


@dataclass(frozen=True)
class Settings:
    """What is the same for all cells of a run.

    Args:
        seed: of the solvers' draws.
        limit: seconds that an answer may take.
        rows: rows of noise up to which a law is taken exactly.
        full: the problems are the long run's.
    """

    seed: int = 0
    limit: float = 60.0
    rows: int = 2000
    full: bool = False


@dataclass(frozen=True)
class Task:
    """A solver and a problem.

    Args:
        solver: its name, or EXACT or PRIOR.
        target: "module:attribute"; "" for those two.
        problem: a name in `catalogue`.
        budgets: evaluations of the denoiser for one answer.
        settings: of the run.
    """

    solver: str
    target: str
    problem: str
    budgets: tuple[int, ...]
    settings: Settings = Settings()

    @property
    def truth(self) -> Truth:
        """The problem itself."""
        return truth_of(self.problem, self.settings.full)


def inputs(task: Task, budget: int) -> dict[str, Any]:
    """All that a cell depends on: the source of the solver and of the measures, the problem's numbers, the settings."""
    truth, (module, _, _) = task.truth, task.target.partition(":")
    solver = None
    if task.target:
        source = source_hash(module) if locate(module) is not None else code_hash(solver_class(task))
        solver = {"source": source, "data": data_hash(module), "arguments": repr(made(task))}
    return {
        "solver": solver or task.solver,
        "problem": task.problem,
        "numbers": state_hash([truth.operator, truth.prior, truth.problem.y, truth.chains]),
        "operator": source_hash(type(truth.operator).__module__),
        "measures": source_hash(__name__),
        "budget": budget,
        "seed": task.settings.seed,
        "rows": task.settings.rows,
        "torch": versions()["torch"],
    }


def solver_class(task: Task) -> Any:
    """What the target names."""
    module, _, attribute = task.target.partition(":")
    return getattr(import_module(module), attribute)


def made(task: Task) -> Solver:
    """The solver as it comes.

    Raises:
        InputError: it is no Solver.
    """
    target = solver_class(task)
    solver = target if isinstance(target, Solver) else target()
    if not isinstance(solver, Solver):
        raise InputError(f"{task.target} is no solver: a class derived from invsolve.Solver is needed")
    return solver


def cell(task: Task, budget: int) -> dict[str, Any]:
    """The row of a cell: status "done", "refused" (with the solver's reasons) or "failed", and its figures."""
    truth = task.truth
    row: dict[str, Any] = {"solver": task.solver, "problem": task.problem, "family": truth.family, "draws": len(truth.x)}
    row |= {"budget": budget, "status": "done", "reason": ""}
    began = time.process_time()
    found = attempted(lambda: answered(task, budget), task.settings.limit)
    if isinstance(found, BaseException):
        slow = isinstance(found, OutOfTimeError)
        text = (
            f"it took more than {task.settings.limit:g} seconds" if slow else (str(found).strip().splitlines() or [type(found).__name__])[0]
        )
        status = "refused" if isinstance(found, RefusedError) else "failed"
        return {**row, "status": status, "reason": text[:300]}
    found["measures"] = {name: list(pair) for name, pair in found["measures"].items()}
    return {**row, **found, "seconds": round(time.process_time() - began, 3)}


class RefusedError(Exception):
    """The solver does not take the problem, or not at this number of evaluations."""


def answered(task: Task, budget: int) -> dict[str, Any]:
    """Law, counts and figures of a solver on a problem."""
    truth = task.truth
    if not task.target:
        return {
            "law": "sampled",
            "chains": truth.chains,
            "exact": False,
            "measures": measures(alone(truth, task.solver, task.settings.seed), truth.posterior),
        }
    solver = made(task)
    gaps = solver.mismatches(truth.problem, truth.prior_for(solver))
    if gaps:
        raise RefusedError("; ".join(gaps))
    if not solver.requires.measurement:
        raise RefusedError("it takes no measurement")
    solver, counts, random = at_budget(solver, truth, budget)
    found, law = answers(solver, truth, random, task)
    return {
        **counts,
        "law": law,
        "chains": found.draws.shape[1],
        "exact": task.solver in CONTROLS or claims(solver),
        "measures": measures(found, truth.posterior),
    }


def claims(solver: Solver) -> bool:
    """Whether it states that it is exact for Gaussian priors, within .1 s.d. and 6 %."""
    says = solver.stated_bias()
    return says.get("mean", 1.0) <= CONTROL_MEAN and says.get("cov", 1.0) <= CONTROL_COV


def alone(truth: Truth, which: str, seed: int) -> Found:
    """Draws of the posterior, or of the prior, as many as a solver gives."""
    items, size = len(truth.x), truth.chains
    if which == EXACT:
        return Found(truth.posterior.draws(size, 5 + seed))
    sampled: Any = truth.prior
    x = sampled.sample(truth.x.shape[1:], Rng(seed, range(items * size), purpose="alone"), truth.x)
    return Found(viewed(truth, x))


def viewed(truth: Truth, x: Tensor) -> Tensor:
    """Images (D N, C, H, W) as (D, N, k) in the posterior's view."""
    return truth.posterior.view(x.flatten(1).double()).reshape(len(truth.x), -1, truth.posterior.mean.shape[1])


def answers(solver: Solver, truth: Truth, random: bool, task: Task) -> tuple[Found, str]:
    """What the solver gives for every y: a point, its exact law (with draws of that), or chains."""
    prior = truth.prior_for(solver)
    if not random:
        return Found(viewed(truth, solver.solve(truth.problem, prior, generator=task.settings.seed).x), random=False), "point"
    exact = affine.law(solver, truth.problem, prior, task.settings.rows) if truth.family == "gaussian" else None
    if exact is not None:
        mean, cov, factor = exact
        z = Rng(task.settings.seed, range(len(mean)), purpose="law").normal((truth.chains, len(factor)), mean)
        return Found(mean[:, None] + z @ factor, mean, cov.expand(len(mean), -1, -1)), "exact"
    rows = [item for item in range(len(truth.x)) for _ in range(truth.chains)]
    x = solver.solve(truth.problem.rows(rows), prior.select(rows), generator=Pooled(task.settings.seed, rows)).x
    return Found(viewed(truth, x)), "sampled"


def at_budget(solver: Solver, truth: Truth, budget: int) -> tuple[Solver, dict[str, int], bool]:
    """(the solver with as many steps as come next below the evaluations asked for, its counts, whether it draws).

    Raises:
        RefusedError: its least number of evaluations is more.
    """

    def counted(one: Solver) -> tuple[dict[str, int], bool]:
        rng = Rng(0, [0])
        before = rng.state()
        solution = one.solve(truth.problem.rows([0]), truth.prior_for(one).select([0]), generator=rng)
        moved = any(not torch.equal(old, new) for old, new in zip(before, rng.state(), strict=True))
        return {"nfe": solution.nfe, "backward": solution.backward, "steps": solution.steps}, moved

    free = not issubclass(Denoiser, solver.requires.prior)  # it takes no denoiser: its steps cost nothing that is counted here
    if free or not (is_dataclass(solver) and "steps" in {field.name for field in fields(solver)}):
        counts, random = counted(solver)
        if free:
            return solver, {**counts, "nfe": 0}, random
        if counts["nfe"] > SLACK * budget:
            raise RefusedError(f"it takes {counts['nfe']} evaluations, and has no number of steps to set")
        return solver, counts, random
    return fitted(lambda steps: counted_at(solver, steps, counted), budget)


Counted = tuple[Solver, dict[str, int], bool]


def counted_at(solver: Any, steps: int, counted: Callable[[Solver], tuple[dict[str, int], bool]]) -> Counted:
    """The solver at so many steps, with its counts."""
    try:
        one = replace(solver, steps=steps)
    except InvsolveError as error:
        raise RefusedError(str(error)) from error
    return one, *counted(one)


def fitted(at: Callable[[int], Counted], budget: int) -> Counted:
    """The most evaluations within the budget, by the rule of three."""
    steps, best, least, reason = budget, None, 0, ""
    tried: set[int] = set()
    while steps not in tried and len(tried) < 6:
        tried.add(steps)
        try:
            found = at(steps)
        except (RefusedError, CompatibilityError) as error:  # too few steps, or too many for its schedule
            reason, steps = str(error), max(1, steps // 2)
            continue
        spent = found[1]["nfe"]
        if spent <= SLACK * budget and (best is None or spent > best[1]["nfe"]):
            best = found
        least = min(least or spent, spent)
        if 0.9 * budget <= spent <= SLACK * budget:
            break
        steps = max(1, round(steps * budget / max(1, spent)))
    if best is None:
        raise RefusedError(f"it takes {least} evaluations at least" if least else reason)
    return best
