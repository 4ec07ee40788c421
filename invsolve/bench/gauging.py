"""Metrics of the cells of a run: of one answer each, and of a column of answers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from invsolve.bench.metrics import Case, SetMetric
from invsolve.bench.plan import Workshop
from invsolve.bench.score import Gauge, clipped, fault
from invsolve.bench.state import changed, shared_state
from invsolve.bench.suite import OperatorEntry, SolverEntry
from invsolve.plugins.interrupts import attempted
from invsolve.solution import Solution, Status
from invsolve.testing.world import World, kept

if TYPE_CHECKING:
    from invsolve.bench.job import Job, Outcome


def gauged(job: Job, one: Gauge, outcome: Outcome) -> float | str:
    """A metric of a cell, on its own item and on copies, so that it depends on nothing else."""
    cell, answer, tensors = outcome
    x = tensors.get("samples", tensors["x"]).clone().to(job.device)
    x = x[:, None] if "samples" in tensors else x[None]
    numbers = {name: answer[name] for name in ("steps", "nfe", "seconds", "network_seconds", "samples", "backward")}
    solver = attempted(lambda: job.shop.solver(cell.solver, cell.operator.label))
    if isinstance(solver, BaseException):
        return fault(solver)
    solution = Solution(x=x, status=Status(answer["status"]), seed=cell.inputs["seed"], solver=solver, **numbers)
    with kept():
        World(cell.inputs["seed"], torch.float32).place()
        problem = job.problem([cell])
        before = shared_state(problem.operator)
        prior = job.prior(cell.solver.at(cell.operator.label)[1])[0]
        found = one.of(Case(problem, cell.picture.image[None].to(x), solution, None if isinstance(prior, str) else prior))
        if changed(before, shared_state(problem.operator)):
            job.shop = Workshop(job.suite, job.device)
            return f"{one.label} changed the operator, which it shares with others"
    return found


def measure_sets(job: Job) -> None:
    """The set metrics of every operator and solver, over the cells that have an answer."""
    for operator in job.suite.operator:
        for solver in job.suite.solver:
            for one in job.metrics:
                if isinstance(one.metric, SetMetric):
                    job.sets.append(set_of(job, one, operator, solver))


def set_of(job: Job, one: Gauge, operator: OperatorEntry, solver: SolverEntry) -> dict[str, Any]:
    """A set metric of a column."""
    done = [(held[1]["x"], case.picture.image) for case in job.column(operator, solver) if (held := job.held(case)) is not None]
    answers, truths = ([clipped(pair[index]) for pair in done] for index in range(2))
    found = one.of_set(answers, truths) if done else math.nan
    value, reason = (None, found) if isinstance(found, str) else (None if math.isnan(found) else found, "")
    place = {"operator": operator.label, "solver": solver.label, "metric": one.name}
    return {**place, "value": value, "count": len(done), "reason": reason}
