"""Runs a suite: every operator x picture x solver, all solvers on the same measurement; finished cells are not computed again."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

from invsolve.bench.batches import solve_all
from invsolve.bench.export import read_rows, write_rows
from invsolve.bench.gauging import measure_sets
from invsolve.bench.job import Job
from invsolve.bench.lock import locked
from invsolve.bench.plan import check
from invsolve.bench.progress import Bar
from invsolve.bench.stop import InterruptedRunError, stopping
from invsolve.bench.suite import Suite
from invsolve.errors import InputError
from invsolve.recipe.device import usable_device


def run(
    suite: Suite | str | Path,
    *,
    out: str | Path,
    seed: int = 0,
    device: str = "cpu",
    progress: bool = True,
    batch: int | Literal["auto"] = 1,
    fresh: bool = False,
    limit: float | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
) -> list[dict[str, Any]]:
    """Run a suite and return its rows, one per operator x solver x picture; rows.jsonl and rows.csv are written to `out`.

    A pair that cannot work is a row "skipped", a solver that fails a row "failed", each with its reason; the others go on, and are what
    they are without it. Killed and started again with the same `out`, it goes on where it stopped; skipped and failed rows are tried
    again, and so is what is damaged. Metrics that changed are taken anew from the stored answers. Ctrl-C finishes the cells in flight
    first, a second one stops at once.

    Args:
        suite: a Suite, a registered name or a TOML file.
        out: folder of the run; its sub-folder `cells` is the truth, the rest is derived from it. One run at a time.
        seed: base seed, 0 too.
        device: where solvers run; measurements are drawn on the CPU, so that they are equal everywhere.
        progress: a bar on stderr, or a line per operator and solver where stderr is no terminal.
        batch: pictures of equal size solved together; their time is divided equally. "auto": as many as half of the free memory holds. What
            memory runs out with is halved.
        fresh: compute finished cells again.
        limit: seconds that a cell may take, a row "failed" if it takes more; None for no limit.
        workers: processes of a local cluster (extra `dask`), one thread of torch each; None computes here. The rows are those of a run
            here, to the bit on the CPU if torch has one thread here too. A script that asks for workers guards its own code by
            `if __name__ == "__main__":`, because they import it.
        scheduler: address of a dask scheduler in place of workers of our own; its workers see `out` and the suite's files where we do.

    Raises:
        InputError: the suite names or sets what does not exist, an unknown device, batch < 1, limit <= 0, workers < 1, both workers and
            scheduler; another run works in `out`; the disk does not take what is written; dask is not installed, the scheduler does not
            answer, or a worker has other versions, other code or another disk.
        UnknownNameError: no such suite.
        InterruptedRunError: Ctrl-C; a KeyboardInterrupt.
    """
    chosen = suite if isinstance(suite, Suite) else Suite.load(suite)
    _check_numbers(batch, limit, workers, scheduler)
    check(chosen)
    job = Job(chosen, Path(out), int(seed), usable_device(device), batch, fresh, limit)
    with locked(job.out) as alone:
        job.prepare(alone=alone)
        with Bar(job.todo, progress) as bar, stopping() as stop:
            if workers is None and scheduler is None:
                solve_all(job, bar, stop)
            else:
                from invsolve.bench.spread import spread

                spread(job, bar, stop, workers=workers, scheduler=scheduler)
            job.flight.tidy()
            if stop.asked:
                raise InterruptedRunError("stopped by Ctrl-C; what is finished is kept, and the same call goes on from there")
        measure_sets(job)
        job.note(complete=True)
        rows = read_rows(job.out)
        write_rows(job.out, rows)
    return rows


def _check_numbers(batch: int | str, limit: float | None, workers: int | None, scheduler: str | None) -> None:
    if batch != "auto" and (not isinstance(batch, int) or batch < 1):
        raise InputError(f'batch must be at least 1, or "auto"; given {batch}')
    if limit is not None and not (limit > 0 and math.isfinite(limit)):
        raise InputError(f"limit must be a number of seconds above 0, or None; given {limit}")
    if workers is not None and workers < 1:
        raise InputError(f"workers must be at least 1, or None to compute in this process; given {workers}")
    if workers is not None and scheduler is not None:
        raise InputError("workers starts a cluster here, scheduler names another one: give one of them")
