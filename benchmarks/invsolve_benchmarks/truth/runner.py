"""Runs the leaderboard: every solver on every problem at every budget, two processes, a finished cell never computed again."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from invsolve.bench.cells import Store, cell_key
from invsolve.bench.lock import locked
from invsolve.bench.progress import Bar
from invsolve.plugins import registry
from invsolve_benchmarks.truth.catalogue import CONTROLS, FULL, SHORT, controlled
from invsolve_benchmarks.truth.cells import SAME, Settings, Task, cell, inputs

PROCESSES = 2


def contestants(only: Sequence[Any] | None = None) -> list[tuple[str, str]]:
    """(name, target) of the solvers that are registered, or of some entries."""
    return [(entry.name, entry.target) for entry in (registry().of("solver") if only is None else only)]


def tasks(problems: Sequence[str], budgets: tuple[int, ...], solvers: Sequence[tuple[str, str]], settings: Settings) -> list[Task]:
    """Everything, problem by problem; the floor and the prior have one budget."""
    found = []
    for problem in problems:
        found += [Task(name, "", problem, budgets[:1], settings) for name in SAME]
        found += [Task(name, target, problem, budgets, settings) for name, target in solvers]
    return found


def controls(problems: Sequence[str], settings: Settings) -> list[Task]:
    """The settings that the oracle is held by, on the problems where they can be had, whatever those allow to solvers."""
    specs = FULL if settings.full else SHORT
    return [
        Task(name, one.target, problem, one.budgets, replace(settings, rows=one.rows))
        for problem in problems
        if controlled(specs[problem])
        for name, one in CONTROLS.items()
    ]


def run_task(task: Task, out: Path, fresh: bool) -> list[dict[str, Any]]:
    """The rows of a task: those in the folder, and those computed now; what failed is tried again."""
    store, rows = Store(out, "cells", "cell.json"), []
    most = (FULL if task.settings.full else SHORT)[task.problem].most
    for budget in task.budgets:
        if budget > most and task.solver not in CONTROLS:
            continue
        asked = inputs(task, budget)
        key = cell_key({"suite": "truth", **asked})
        record = None if fresh else store.read(key)
        row = None if record is None else record.get("row")
        if not isinstance(row, dict) or row.get("status") != "done":
            row = cell(task, budget)
            store.write(key, {"inputs": asked, "row": row}, {})
        rows.append({"key": key, **row})
        if row.get("nfe") == 0:  # the same at every budget
            break
    return rows


def started() -> None:
    """A worker has one thread: small tensors do not go faster on two."""
    torch.set_num_threads(1)


def run(plan: Sequence[Task], out: Path, *, fresh: bool = False, processes: int = PROCESSES, progress: bool = True) -> list[dict[str, Any]]:
    """The rows of all tasks, in their order.

    Args:
        plan: what is run.
        out: the folder of the run, whose cells are the truth.
        fresh: compute finished cells again.
        processes: 1 runs all in this one.
        progress: a bar on stderr, a line per problem where that is no terminal.

    Raises:
        InputError: another run works in `out`; the disk does not take what is written.
    """
    rows: list[dict[str, Any]] = []
    with locked(out), Bar(len(plan), progress) as bar:
        for task, found in zip(plan, each(plan, out, fresh, min(processes, len(plan), os.cpu_count() or 1)), strict=True):
            if task.problem != bar.label:  # plans go problem by problem
                bar.end(0, bar.computed)
                bar.begin(task.problem, 0)
            rows += found
            bar.done()
        bar.end(0, bar.computed)
    return rows


def each(plan: Sequence[Task], out: Path, fresh: bool, processes: int) -> Iterator[list[dict[str, Any]]]:
    """The tasks' rows as they come, in order."""
    if processes < 2:
        for task in plan:
            yield run_task(task, out, fresh)
        return
    # not forked: torch's threads do not live through that
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), started) as pool:
        waiting = [pool.submit(run_task, task, out, fresh) for task in plan]
        try:
            for one in waiting:
                yield one.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
