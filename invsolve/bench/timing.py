"""Times the solvers of a run again: every column in turns, round after round, under the conditions of its cell.

    round 1: A B C     round 2: C B A     round 3: A B C     ...

so that whatever drifts (heat, a neighbour's work) meets all of them alike. Of a column (an operator and a solver) the first finished
pictures are solved: the same y, prior and seed, alone, after one discarded step; metrics are not taken.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from invsolve.bench.batches import why
from invsolve.bench.cells import Cell, encode
from invsolve.bench.clock import SHOWN, Clock
from invsolve.bench.environment import hardware, versions
from invsolve.bench.export import read_rows, read_run, write_rows
from invsolve.bench.job import FINISHED, Job
from invsolve.bench.lock import locked
from invsolve.bench.progress import Bar
from invsolve.bench.records import Answer, Conditions, Timing, cell_record
from invsolve.bench.stop import InterruptedRunError, Stop, stopping
from invsolve.bench.suite import SolverEntry, Suite
from invsolve.errors import InputError
from invsolve.plugins.interrupts import attempted
from invsolve.recipe.device import usable_device

log = logging.getLogger("invsolve")
STOPPED = "stopped by Ctrl-C; the timings that are there are kept, and the same call goes on from there"
# What an input of a cell belongs to, in words.
PARTS = {"y": "measurement", "samples": "solver", "prior_state": "prior"}
T = TypeVar("T")


@dataclass(frozen=True)
class Choice:
    """A cell that is to be timed; of a column without any its first place.

    Args:
        place: what run.json says of it.
        answer: that it has; None where there is none.
        reason: why it is left out; "" where it is not.
    """

    place: dict[str, Any]
    answer: Answer | None
    reason: str = ""

    @property
    def name(self) -> str:
        """The column, in words."""
        return f"{self.place['operator']} · {self.place['solver']}"


@dataclass(frozen=True)
class Clocked:
    """What came of it.

    Args:
        operator, solver, image: labels.
        row: of the run, with its timings; {} where there is none.
        reason: why no repeat was taken, or not all; "" where nothing is wrong.
        failed: whether that is because a solver gave no answer.
        doubt: what may have made a repeat's answer another than the stored one; "" where every repeat gave it.
    """

    operator: str
    solver: str
    image: str
    row: dict[str, Any]
    reason: str = ""
    failed: bool = False
    doubt: str = ""


@dataclass
class Stopwatch:
    """Takes timings of one run.

    Args:
        job: of the run, batch 1.
        clock: where they are kept.
        cells: what is timed, each key once, in the order of the suite.
        fresh: those that are there are taken again.
        held: the timings of each cell by its key; those of other machines and versions give way.
        failed: why a cell gave no answer, by its key.
    """

    job: Job
    clock: Clock
    cells: list[Cell]
    fresh: bool = False
    held: dict[str, list[Timing]] = field(init=False)
    failed: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        device = self.job.device
        self.conditions = Conditions(device=str(device), hardware=hardware(device), versions=versions())
        found = {cell.key: None if self.fresh else self.clock.read(cell.key) for cell in self.cells}
        self.held = {key: list(one.timings) if one and one.conditions == self.conditions else [] for key, one in found.items()}
        others = sum(one is not None and not self.held[key] for key, one in found.items())
        if others:
            log.warning("%d cells were timed on another machine, or with other versions: these timings give way to new ones", others)

    def run(self, repeats: int, stop: Stop, *, progress: bool) -> None:
        """All rounds, or what is missing of them; Ctrl-C ends them after a timing."""
        plan = [(number, cell) for number in range(repeats) for cell in turned(self.cells, number) if len(self.held[cell.key]) <= number]
        total = repeats * len(self.cells)
        with Bar(total, progress) as bar:
            bar.begin("", total - len(plan))
            for number in range(repeats):
                mine = [cell for at, cell in plan if at == number]
                bar.begin(f"round {number + 1} of {repeats}", 0)
                for cell in mine:
                    if stop.asked:
                        return
                    bar.bar.set_description_str(f"{bar.label}, {cell.operator.label} · {cell.solver.label}")
                    if cell.key not in self.failed:
                        self.take(cell, bar)
                    bar.done()
                bar.end(0, bar.computed)

    def take(self, cell: Cell, bar: Bar) -> None:
        """One more timing of a cell, written at once."""
        job = self.job
        job.warm.clear()  # as the first picture of a column in a run: after one discarded step, each time
        found = attempted(lambda: job.compute([cell], bar))
        if isinstance(found, BaseException):
            self.failed[cell.key] = why(job, found)
            return
        answer = found[0][1]
        if answer["status"] not in FINISHED:
            self.failed[cell.key] = f"{answer['status']}: {answer['reason']}"
            return
        numbers = {name: answer[name] for name in ("seconds", "network_seconds", "x_sha256")}
        numbers |= {"wall_seconds": job.spent.wall, "processor_seconds": job.spent.processor}
        numbers["taken"] = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        self.held[cell.key].append(Timing.model_validate(numbers))
        self.clock.write(cell.key, self.conditions, self.held[cell.key])


def turned(cells: Sequence[T], number: int) -> list[T]:
    """The order of a round: every second one goes back."""
    return list(cells) if number % 2 == 0 else list(reversed(cells))


def time_run(
    folder: str | Path,
    *,
    repeats: int = 3,
    solvers: Sequence[str] = (),
    operators: Sequence[str] = (),
    pictures: int = 1,
    limit: float | None = None,
    fresh: bool = False,
    progress: bool = True,
    suite: Suite | None = None,
) -> list[Clocked]:
    """Time the solvers of a run again, in turns, and keep what was taken in its folder: tables and reports then have median and spread.

    Called again it goes on: only repeats that are missing are taken. Nothing else should work on the machine meanwhile; where something
    does, tables say so. Ctrl-C finishes the timing in flight first, a second one stops at once.

    Args:
        folder: of a run, complete or not.
        repeats: timings of each cell.
        solvers, operators: only these, by label, name or pattern; all without any.
        pictures: how many of each column, the first ones that have an answer.
        limit: a cell that took more seconds is left out, and a repeat that does is stopped; None for no limit.
        fresh: take those that are there again.
        progress: a bar on stderr, or a line a round where stderr is no terminal.
        suite: that was run, where its file names others beside it; None for what run.json says.

    Raises:
        InputError: no run in the folder, or another one works there; repeats or pictures < 1, limit <= 0; cells that would be others now,
            because the code, the prior or the data have changed.
        UnknownNameError: no such solver or operator in the run.
        InterruptedRunError: Ctrl-C; a KeyboardInterrupt.
    """
    _check_numbers(repeats, pictures, limit)
    out = Path(folder)
    run = read_run(out)
    whole = suite or Suite.stored(run["suite"], f"the suite in {out / 'run.json'}")
    with locked(out):
        job = Job(whole.only(solvers, operators=operators), out, run["seed"], usable_device(run["device"]), 1, False, limit)
        chosen = choices(job, run["cells"], pictures)
        watch = Stopwatch(job, Clock(out), wanted(job, chosen), fresh)
        with stopping() as stop:
            watch.run(repeats, stop, progress=progress)
        rows = read_rows(out)
        if run["complete"]:
            write_rows(out, rows)
        if stop.asked:
            raise InterruptedRunError(STOPPED)
    return clocked(chosen, rows, watch)


def choices(job: Job, places: Sequence[dict[str, Any]], pictures: int) -> list[Choice]:
    """The first cells of each column that have an answer, one a picture."""
    out = []
    for operator in job.suite.operator:
        for solver in job.suite.solver:
            mine = [place for place in places if (place["operator"], place["solver"]) == (operator.label, solver.label)]
            found: dict[str, Choice] = {}
            for place in mine:
                record = None if place["image"] in found or len(found) == pictures else cell_record(job.cells.read(place["key"]))
                if record is not None and record.answer.status in FINISHED and record.answer.x_sha256 is not None:
                    found[place["image"]] = Choice(place, record.answer, left_out(job, solver, record.answer))
            out += found.values() or [Choice(place, None, "no finished cell") for place in mine[:1]]
    return out


def left_out(job: Job, solver: SolverEntry, answer: Answer) -> str:
    """Why a cell that has an answer is not timed; "" where it is."""
    if solver.tune is not None:
        return "its time is mostly that of its tuning, which is not done again"
    if job.limit is not None and (answer.seconds or 0.0) > job.limit:
        return f"its cell took {answer.seconds:.3g} seconds, more than the limit of {job.limit:g}"
    if answer.device != str(job.device):
        return f"its cell was computed on {answer.device}, the run is one on {job.device}: run it again with --fresh"
    return ""


def wanted(job: Job, chosen: Sequence[Choice]) -> list[Cell]:
    """The cells that are to be timed, each key once.

    Raises:
        InputError: some would be others now: their seconds would be those of something else than what the run has.
    """
    cells, faults = dict[str, Cell](), []
    for one in chosen:
        if one.answer is None or one.reason:
            continue
        place = one.place
        try:
            cell = job.at(place["operator"], place["solver"], place["image"], one.answer.seed)
        except InputError as error:
            faults.append(f"{one.name}: {error}; the suite's file may be wanted, --suite")
            continue
        if cell is None or cell.key != place["key"]:
            faults.append(f"{one.name}: {'its picture is gone' if cell is None else f'its {changed_in(job, cell, place)} changed'}")
        else:
            cells[cell.key] = cell
    if faults:
        more = f" and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise InputError(
            f"{len(faults)} of {len(chosen)} cells would be others now than those that the run has, and so would their seconds "
            f"({'; '.join(faults[:SHOWN])}{more}); run the suite first: invsolve bench run SUITE --out {job.out}; or time only the rest "
            "by -s and -o"
        )
    return list(cells.values())


def changed_in(job: Job, cell: Cell, place: dict[str, Any]) -> str:
    """Which inputs of a cell are others than those that it was computed from."""
    record = job.cells.read(place["key"]) or {}
    then: dict[str, Any] = record.get("inputs", {})
    now: dict[str, Any] = encode(cell.inputs)
    names = dict.fromkeys(PARTS.get(name, name) for name, value in now.items() if then.get(name) != value)
    return " and ".join(names) or "record"


def clocked(chosen: Sequence[Choice], rows: Sequence[dict[str, Any]], watch: Stopwatch) -> list[Clocked]:
    """What came of each choice."""
    known = {(row["operator"], row["solver"], row["image"], row["key"]): row for row in rows}
    out = []
    for one in chosen:
        operator, solver, image, key = (one.place[name] for name in ("operator", "solver", "image", "key"))
        row = known.get((operator, solver, image, key), {})
        reason = one.reason or watch.failed.get(key, "")
        out.append(Clocked(operator, solver, image, row, reason, key in watch.failed, doubt(row, watch.conditions)))
    return out


def doubt(row: dict[str, Any], conditions: Conditions) -> str:
    """Why a repeat may have given another answer than the stored one, as far as records say it."""
    if not row.get("timings_another"):
        return ""
    then: dict[str, str] = row["versions"]
    other = [f"{name} {then.get(name)}, now {now}" for name, now in conditions.versions.items() if then.get(name) != now]
    found = [f"computed with {'; '.join(other)}"] if other else []
    found += [f"solved with {row['batch'] - 1} others in a batch"] if (row["batch"] or 1) > 1 else []
    return "; ".join(found) or "nothing in the records says why"


def _check_numbers(repeats: int, pictures: int, limit: float | None) -> None:
    for name, value in (("repeats", repeats), ("pictures", pictures)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{name} must be a whole number, at least 1; given {value!r:.40}")
    if limit is not None and not 0 < limit < float("inf"):
        raise InputError(f"limit must be a number of seconds above 0, or None; given {limit!r:.40}")
