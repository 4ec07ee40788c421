"""Runs a suite: every operator x picture x solver, all solvers on the same measurement; finished cells are not computed again."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from invsolve.bench.export import read_rows, write_rows
from invsolve.bench.job import Job
from invsolve.bench.lock import locked
from invsolve.bench.plan import check
from invsolve.bench.progress import Bar
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
    batch: int = 1,
    fresh: bool = False,
    limit: float | None = None,
) -> list[dict[str, Any]]:
    """Run a suite and return its rows, one per operator x solver x picture; rows.jsonl and rows.csv are written to `out`.

    A pair that cannot work is a row "skipped", a solver that fails a row "failed", each with its reason; the others go on, and are what
    they are without it. Killed and started again with the same `out`, it goes on where it stopped; skipped and failed rows are tried
    again, and so is what is damaged. Metrics that changed are taken anew from the stored answers.

    Args:
        suite: a Suite, a registered name or a TOML file.
        out: folder of the run; its sub-folder `cells` is the truth, the rest is derived from it. One run at a time.
        seed: base seed, 0 too.
        device: where solvers run; measurements are drawn on the CPU, so that they are equal everywhere.
        progress: a bar on stderr, or a line per operator and solver where stderr is no terminal.
        batch: pictures of equal size solved together; their time is divided equally.
        fresh: compute finished cells again.
        limit: seconds that a cell may take, a row "failed" if it takes more; None for no limit. In the main thread only.

    Raises:
        InputError: the suite names or sets what does not exist, an unknown device, batch < 1, limit <= 0; another run works in `out`; the
            disk does not take what is written.
        UnknownNameError: no such suite.
    """
    chosen = suite if isinstance(suite, Suite) else Suite.load(suite)
    if batch < 1:
        raise InputError(f"batch must be at least 1; given {batch}")
    if limit is not None and not (limit > 0 and math.isfinite(limit)):
        raise InputError(f"limit must be a number of seconds above 0, or None; given {limit}")
    check(chosen)
    job = Job(chosen, Path(out), int(seed), usable_device(device), batch, fresh, limit)
    with locked(job.out) as alone:
        job.prepare(alone=alone)
        with Bar(job.todo, progress) as bar:
            for operator in chosen.operator:
                for solver in chosen.solver:
                    job.solve(operator, solver, bar)
        job.measure_sets()
        job.note(complete=True)
        rows = read_rows(job.out)
        write_rows(job.out, rows)
    return rows
