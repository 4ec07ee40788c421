"""A run over workers: chunks of cells go out, two for each worker, and come back written."""

from __future__ import annotations

import queue
import secrets
import time
from collections import Counter, deque
from typing import Any

from invsolve.bench.batches import alike, settle
from invsolve.bench.cells import Cell
from invsolve.bench.flight import POISON, TRIES
from invsolve.bench.job import Job
from invsolve.bench.pool import GPU, pool
from invsolve.bench.progress import Bar
from invsolve.bench.stop import Stop
from invsolve.bench.worker import Order, Place, work
from invsolve.errors import InputError

AUTO = 16  # cells in a chunk whose worker chooses the batches
AHEAD = 2  # chunks for each worker: the one that it computes, and the next, so that it does not wait for us
LOOK = 1.0  # seconds between two looks at which workers there are
GONE = "the scheduler is gone, or has dropped what was in flight; what is finished is kept, and the same command goes on from there"
NOBODY = 60.0  # seconds without a worker of our own that are too many


def spread(job: Job, bar: Bar, stop: Stop, *, workers: int | None, scheduler: str | None) -> None:
    """Every cell of a run that is not finished, by the workers of a local or another cluster.

    Raises:
        InputError: as `pool`; a worker cannot compute what is asked for; the scheduler is lost.
    """
    waiting = chunks(job)
    held = job.todo - sum(map(len, waiting))
    bar.begin(f"{workers} workers" if scheduler is None else f"workers of {scheduler}", held)
    if waiting:
        with pool(workers, scheduler, job.device) as client:
            Driver(job, client, bar, stop, workers).run(waiting)
    bar.end(held, bar.computed)


def chunks(job: Job) -> list[list[Cell]]:
    """What is to be computed, cut into what one worker solves at a time; equal cells under two labels once."""
    size, seen, found = AUTO if job.batch == "auto" else job.batch, set[str](), []
    for operator in job.suite.operator:
        for solver in job.suite.solver:
            column = [cell for cell in job.column(operator, solver) if cell.key not in seen and (job.fresh or not job.whole(cell))]
            seen |= {cell.key for cell in column}
            for same in alike(column):
                found += [same[start : start + size] for start in range(0, len(same), size)]
    return found


class Driver:
    """Sends chunks and waits for them.

    Args:
        job: prepared.
        client: of the cluster.
        bar: of the run.
        stop: nothing is sent any more once it is asked.
        workers: number of our own; None for another cluster.
    """

    def __init__(self, job: Job, client: Any, bar: Bar, stop: Stop, workers: int | None) -> None:
        self.job, self.client, self.bar, self.stop, self.own = job, client, bar, stop, workers
        place = (job.suite, str(job.out.resolve()), job.seed, str(job.device))
        self.order = Order(secrets.token_hex(8), *place, job.batch, job.fresh, job.limit, job.versions, workers or 1)
        self.done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.flying: dict[Any, list[Cell]] = {}
        self.deaths: Counter[str] = Counter()
        self.slots, self.looked, self.seen = workers or 0, -LOOK, time.monotonic()
        self.resources: dict[str, float] | None = None
        self.sent = 0

    def run(self, chunks: list[list[Cell]]) -> None:
        """All chunks, or those in flight once somebody asked to stop."""
        waiting = deque(chunks)
        while self.flying or (waiting and not self.stop.asked):
            self.look()
            while waiting and not self.stop.asked and len(self.flying) < AHEAD * self.slots:
                self.send(waiting.popleft())
            if self.stop.asked:
                self.recall()
            try:
                future = self.done.get(timeout=LOOK / 2)
            except queue.Empty:
                continue
            chunk = self.flying.pop(future, None)
            waiting.extendleft(reversed([] if chunk is None else self.receive(future, chunk)))

    def look(self) -> None:
        """How many workers there are, now and then."""
        now = time.monotonic()
        if now - self.looked < LOOK:
            return
        self.looked = now
        if self.client.status in ("closed", "closing"):
            raise InputError(GONE)
        found = self.client.nthreads()
        self.slots = len(found)
        self.seen = now if found else self.seen
        if not found and self.own is not None and now - self.seen > NOBODY:
            raise InputError(f"no worker is left, and none has started in {NOBODY:g} s; run without --workers to see why")
        self.bar.tell("" if found else "no worker is there yet")
        if self.resources is None and found:  # a slot of a GPU is asked for where workers declare them
            declared = [one.get("resources") or {} for one in self.client.scheduler_info()["workers"].values()]
            self.resources = {GPU: 1} if self.job.device.type == "cuda" and any(GPU in one for one in declared) else {}

    def send(self, chunk: list[Cell]) -> None:
        """One task."""
        self.sent += 1
        places = [Place(cell.operator.label, cell.solver.label, cell.picture.id, cell.base, cell.key) for cell in chunk]
        name = f"invsolve-{self.order.token}-{self.sent}"
        future = self.client.submit(work, self.order, places, key=name, pure=False, resources=self.resources or None)
        self.flying[future] = chunk
        future.add_done_callback(self.done.put)

    def recall(self) -> None:
        """Take back what no worker has begun."""
        begun = self.job.flight.marks()
        for future, chunk in list(self.flying.items()):
            if not future.done() and not any(cell.key in begun for cell in chunk):
                del self.flying[future]
                future.cancel()

    def receive(self, future: Any, chunk: list[Cell]) -> list[list[Cell]]:
        """What came back; chunks that are to be sent again.

        Raises:
            InputError: a worker cannot compute it, or the scheduler is lost.
        """
        if future.status == "finished":
            fault = future.result()
            if fault:
                raise InputError(f"a worker cannot compute cells of this run: {fault}")
            for cell in chunk:
                self.job.tried.add(cell.key)
                self.bar.done()
            return []
        if future.status != "error":
            raise InputError(GONE)
        error = future.exception()
        if type(error).__name__ != "KilledWorker":
            raise InputError(f"a worker cannot run invsolve: {type(error).__name__}: {error}; install the same versions there")
        return self.retried(chunk)

    def retried(self, chunk: list[Cell]) -> list[list[Cell]]:
        """Cells whose task dask has given up, each alone; those that had no chance to begin in three times are left out."""
        self.deaths.update(cell.key for cell in chunk)
        poison = [cell for cell in chunk if self.deaths[cell.key] >= TRIES]
        settle(self.job, poison, "failed", POISON, self.bar)
        return [[cell] for cell in chunk if cell not in poison]
