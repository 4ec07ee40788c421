"""Cells solved together: batches of a given size or of one that memory allows; what fails together is tried apart."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from invsolve.bench.cells import Cell
from invsolve.bench.flight import POISON, TRIES
from invsolve.bench.memory import Peak, room
from invsolve.bench.progress import Bar
from invsolve.bench.score import fault
from invsolve.bench.stop import Stop
from invsolve.errors import DivergedError
from invsolve.plugins.interrupts import OutOfTimeError, attempted
from invsolve.run.memory import out_of_memory

if TYPE_CHECKING:
    from invsolve.bench.job import Job

log = logging.getLogger("invsolve")
LARGEST = 64  # pictures in a batch that memory chooses
# Of the memory that is free: what a batch takes grows in proportion only roughly, and others take some meanwhile.
SHARE = 0.5


def solve_all(job: Job, bar: Bar, stop: Stop) -> None:
    """Every cell of a run that is not finished, in this process; those that are get the metrics they lack."""
    for operator in job.suite.operator:
        for solver in job.suite.solver:
            column = job.column(operator, solver)
            waiting = [cell for cell in column if not stop.asked and cell.key not in job.tried and (job.fresh or not job.finished(cell))]
            if stop.asked:
                return
            bar.begin(f"{operator.label} · {solver.label}", len(column) - len(waiting))
            for same in alike(waiting):
                solve(job, same, bar, stop)
            bar.end(len(column) - len(waiting), bar.computed)


def alike(cells: list[Cell]) -> Iterator[list[Cell]]:
    """Cells of one operator and solver, those that may share a batch together: equal shapes, equal seeds."""
    kinds = list(dict.fromkeys((tuple(cell.picture.image.shape), cell.base) for cell in cells))
    for kind in kinds:
        yield [cell for cell in cells if (tuple(cell.picture.image.shape), cell.base) == kind]


def solve(job: Job, cells: list[Cell], bar: Bar, stop: Stop) -> None:
    """Cells that may share a batch, batch by batch, with a mark on those in flight.

    What killed a worker before is solved alone, so that its neighbours are not blamed, and left out after three times.
    """
    size, rest = 1 if job.batch == "auto" else job.batch, list(cells)
    chosen = job.batch != "auto"
    while rest and not stop.asked:
        tries = {cell.key: job.flight.tries(cell.key) for cell in rest[:size]}
        chunk = rest[: 1 if any(tries.values()) else size]
        rest = rest[len(chunk) :]
        keys = [cell.key for cell in chunk]
        if tries[keys[0]] >= TRIES:
            settle(job, chunk, "failed", POISON, bar)
            job.flight.forget(keys)
            continue
        with job.flight.over(keys), Peak(job.device) as peak:
            worked = attempt(job, chunk, bar)
        size = min(size, worked) if len(chunk) > 1 else size
        if not chosen:
            size, chosen = fitting(job, peak.bytes), True


def fitting(job: Job, each: int | None) -> int:
    """How many pictures fit into the free memory if one takes `each` bytes; 1 where nobody counts them."""
    free = room(job.device)
    if each is None or free is None:
        return 1
    return max(1, min(LARGEST, int(SHARE * free / job.sharing) // max(each, 1)))


def attempt(job: Job, chunk: list[Cell], bar: Bar) -> int:
    """Solve some pictures together; if that fails, each on its own, so that one failure stays one row; half of them, if memory ran out.

    Returns the number of pictures that could be solved together.
    """
    found = attempted(lambda: job.compute(chunk, bar))
    if not isinstance(found, BaseException):
        for outcome in found:
            close(job, outcome, bar)
        return len(chunk)
    if len(chunk) == 1:
        log.debug("%s", found, exc_info=found)
        settle(job, chunk, "diverged" if isinstance(found, DivergedError) else "failed", why(job, found), bar)
        return 1
    short = out_of_memory(found)
    del found  # its frames hold the tensors that there was no room for
    size, worked, rest = (len(chunk) + 1) // 2 if short else 1, len(chunk), list(chunk)
    if short:
        gc.collect()
        if job.device.type == "cuda":
            torch.cuda.empty_cache()
        log.info("out of memory with %d pictures together; %d next", len(chunk), size)
    while rest:
        size = min(size, attempt(job, rest[:size], bar))
        rest = rest[size:]
        worked = min(worked, size) if short else worked
    return worked


def why(job: Job, error: BaseException) -> str:
    """What kept a cell from an answer, in a line."""
    return f"it took more than the limit of {job.limit:g} seconds a cell" if isinstance(error, OutOfTimeError) else fault(error)


def settle(job: Job, chunk: list[Cell], status: str, reason: str, bar: Bar) -> None:
    """Rows without an answer, with the reason."""
    for cell in chunk:
        close(job, (cell, job.answer(cell, status, reason), {}), bar)


def close(job: Job, outcome: tuple, bar: Bar) -> None:
    """Write a cell and count it."""
    job.close(outcome, {})
    job.tried.add(outcome[0].key)
    bar.done()
