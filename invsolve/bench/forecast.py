"""What a suite would take, before it runs: cells, network evaluations, seconds and memory.

    seconds of a column = seconds per picture * pictures still to be solved * seeds

The numbers of a column (an operator with a solver) come from the records of its folder where it has run, else from a probe: the first
picture is solved until `probe` seconds are over, and what one step took is taken times the steps there are. A solver that stops by a rule
of its own is counted as if it never did.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from invsolve.bench.export import read_rows
from invsolve.bench.fairness import UNFINISHED
from invsolve.bench.memory import Peak
from invsolve.bench.plan import Workshop, check
from invsolve.bench.suite import OperatorEntry, SolverEntry, Suite
from invsolve.errors import InputError, InvsolveError
from invsolve.plugins.interrupts import attempted
from invsolve.problem import Problem
from invsolve.recipe.device import usable_device
from invsolve.solution import Step


@dataclass(frozen=True)
class Column:
    """What an operator with a solver would take.

    Args:
        operator, solver, prior, settings: labels, and whether it runs as it comes, as set or as tuned.
        pictures, cells: how many; cells counts seeds too.
        there: cells that the folder has answers of under these labels.
        nfe, backward, seconds, peak_bytes: per picture; None where nobody knows.
        source: "records", "probe", or why there is no number.
    """

    operator: str
    solver: str
    prior: str
    settings: str
    pictures: int
    cells: int
    there: int = 0
    nfe: float | None = None
    backward: float | None = None
    seconds: float | None = None
    peak_bytes: int | None = None
    source: str = ""

    @property
    def left(self) -> float | None:
        """Seconds for what is not there yet."""
        return None if self.seconds is None else self.seconds * max(0, self.cells - self.there)


def forecast(suite: Suite, *, out: str | Path | None = None, device: str = "cpu", probe: float = 2.0) -> list[Column]:
    """What every operator with every solver would take, in the suite's order; nothing is written.

    Args:
        suite: checked here.
        out: the folder that it would run in.
        device: where it would run.
        probe: seconds for the probe of a column; 0 for none.

    Raises:
        InputError: the suite names or sets what does not exist, pictures that are not there, an unknown device, probe < 0.
    """
    if not probe >= 0:
        raise InputError(f"probe must be a number of seconds, 0 for none; given {probe}")
    check(suite)
    shop, known = Workshop(suite, usable_device(device)), recorded(out)
    return [column(shop, operator, solver, known, probe) for operator in suite.operator for solver in suite.solver]


def recorded(out: str | Path | None) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """The finished rows of a folder by operator and solver; {} where there is no run."""
    if out is None or not (Path(out) / "run.json").is_file():
        return {}
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in read_rows(out):
        if row["status"] not in UNFINISHED:
            found.setdefault((row["operator"], row["solver"]), []).append(row)
    return found


def column(shop: Workshop, operator: OperatorEntry, solver: SolverEntry, known: dict[Any, list[dict[str, Any]]], probe: float) -> Column:
    """One column."""
    pictures, rows = len(shop.pictures(operator)), known.get((operator.label, solver.label), [])
    names = (operator.label, solver.label, solver.at(operator.label)[1].name, solver.settings(operator.label))
    whole = Column(*names, pictures, pictures * len(shop.suite.seeds), len(rows))
    if rows:
        numbers = {name: statistics.fmean(row[name] for row in rows) for name in ("nfe", "backward", "seconds")}
        peaks = [row["peak_bytes"] for row in rows if row["peak_bytes"] is not None]
        return Column(*names, pictures, whole.cells, whole.there, **numbers, peak_bytes=max(peaks, default=None), source="records")
    if not probe:
        return whole
    found = attempted(lambda: probed(shop, operator, solver, probe))
    if isinstance(found, BaseException):
        text = f"it fails: {found}" if isinstance(found, InvsolveError) else f"it fails: {type(found).__name__}: {found}"
        return Column(*names, pictures, whole.cells, source=text)
    if isinstance(found, str):
        return Column(*names, pictures, whole.cells, source=f"skipped: {found}")
    return Column(*names, pictures, whole.cells, whole.there, **found, source="probe")


def probed(shop: Workshop, operator: OperatorEntry, solver: SolverEntry, probe: float) -> dict[str, Any] | str:
    """The numbers of one picture, from its first steps; or why the solver cannot work."""
    pictures = shop.pictures(operator)
    picture = pictures[0]
    truth = picture.image[None].to(getattr(torch, shop.suite.dtype))
    prior = shop.prior(solver.at(operator.label)[1])
    if isinstance(prior, str):
        raise InputError(prior)
    made = shop.operator(operator, picture, device=torch.device("cpu"))
    measured = shop.measured(operator, picture) or Problem.simulate(made, truth, shop.noise(operator), generator=0)
    problem = measured.to(shop.device)
    chosen, times = few_steps(shop.solver(solver, operator.label))
    gaps = chosen.mismatches(problem, prior)
    if gaps:
        return "; ".join(gaps)
    began, seen = time.perf_counter(), []

    def watch(step: Step) -> bool:
        seen.append((time.perf_counter() - began, step.index + 1, step.total))
        return seen[-1][0] < probe or len(seen) < 2  # the first step alone has what is done once

    with Peak(shop.device) as peak:
        solution = chosen.solve(problem, prior, generator=0, callback=watch, throw=False)
    (first, begun, _), (last, done, total) = seen[0], seen[-1]
    whole = total if solution.status.value in ("stopped", "diverged") else done
    # The first step has what is done once (first calls, setting up): one step is what the later ones took.
    step = (last - first) / (done - begun) if done > begun else last
    samples = solver.samples or 1
    scale = sum(one.image.numel() for one in pictures) / (len(pictures) * picture.image.numel())
    samples *= times
    counts = {"nfe": solution.nfe * whole / done * samples, "backward": solution.backward * whole / done * samples}
    seconds = (first + step * (whole - begun)) * samples * scale
    return {**with_tuning(solver.tune, counts, seconds), "peak_bytes": peak.bytes}


def with_tuning(tune: str | None, counts: dict[str, float], seconds: float) -> dict[str, float]:
    """The numbers of a picture with what its tuning may take at most: its budget."""
    if tune is None:
        return {**counts, "seconds": seconds}
    amount = float(tune.rstrip(" abcdefghijklmnopqrstuvwxyz"))
    if not tune.endswith("nfe"):
        return {**counts, "seconds": seconds + amount * {"s": 1, "n": 60, "h": 3600}[tune[-1]]}
    each = seconds / max(1.0, counts["nfe"] + counts["backward"])
    return {**counts, "nfe": counts["nfe"] + amount, "seconds": seconds + amount * each}


def few_steps(solver: Any) -> tuple[Any, float]:
    """A solver that can be probed, and how many times its own work is: one that shows nothing on its way is given fewer steps."""
    steps = getattr(solver, "steps", None)
    if not solver.silent or not isinstance(steps, int):
        return solver, 1.0
    few = max(2, steps // 50)
    return (replace(solver, steps=few), steps / few) if few < steps else (solver, 1.0)
