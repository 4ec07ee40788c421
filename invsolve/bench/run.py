"""Runs a suite: every operator x picture x solver, all solvers on the same measurement; finished cells are not computed again.

`invsolve.bench.run` is this module and can also be called as the function `run`.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from invsolve.bench.export import read_rows, write_rows
from invsolve.bench.job import Job
from invsolve.bench.plan import check
from invsolve.bench.progress import Bar
from invsolve.bench.suite import Suite
from invsolve.errors import InputError
from invsolve.recipe.setup import usable_device


def run(
    suite: Suite | str | Path,
    *,
    out: str | Path,
    seed: int = 0,
    device: str = "cpu",
    progress: bool = True,
    batch: int = 1,
    fresh: bool = False,
) -> list[dict[str, Any]]:
    """Run a suite and return its rows, one per operator x solver x picture; rows.jsonl and rows.csv are written to `out`.

    A pair that cannot work is a row "skipped", a solver that fails a row "failed", each with its reason; the others go on.
    Killed and started again with the same `out`, it goes on where it stopped; skipped and failed rows are tried again.

    Args:
        suite: a Suite, a registered name or a TOML file.
        out: folder of the run; its sub-folder `cells` is the truth, the rest is derived from it.
        seed: base seed, 0 too.
        device: where solvers run; measurements are drawn on the CPU, so that they are equal everywhere.
        progress: a bar on stderr, or a line per operator and solver where stderr is no terminal.
        batch: pictures of equal size solved together; their time is divided equally.
        fresh: compute finished cells again.

    Raises:
        InputError: the suite names or sets what does not exist, an unknown device, batch < 1.
        UnknownNameError: no such suite.
    """
    chosen = suite if isinstance(suite, Suite) else Suite.load(suite)
    if batch < 1:
        raise InputError(f"batch must be at least 1; given {batch}")
    check(chosen)
    job = Job(chosen, Path(out), int(seed), usable_device(device), batch, fresh)
    job.prepare()
    with Bar(job.todo, progress) as bar:
        for operator in chosen.operator:
            for solver in chosen.solver:
                job.solve(operator, solver, bar)
    job.note(complete=True)
    rows = read_rows(job.out)
    write_rows(job.out, rows)
    return rows


class _Callable(types.ModuleType):
    """Lets `from invsolve.bench import run` be called although it is this module: a package cannot hold both under one name."""

    __call__: Callable[..., list[dict[str, Any]]] = staticmethod(run)  # pyright: ignore[reportAssignmentType]


sys.modules[__name__].__class__ = _Callable
