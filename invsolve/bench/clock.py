"""Seconds that were taken several times: where a run keeps them, what its rows say of them, and how they were taken, in words.

    times/<key[:2]>/<key>/time.json          the timings of the cell of this key, see `TimeRecord`

A record that is torn or foreign counts as none, and is taken again.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from invsolve.bench.cells import Store
from invsolve.bench.numbers import QUARTILES, repeated
from invsolve.bench.records import CellRecord, Conditions, TimeRecord, Timing, time_record

# A wall clock that goes on more than so many times as long as the processor works has waited for somebody else.
BUSY = 1.25
KIND, RECORD = "times", "time.json"
SHOWN = 3  # solvers that a sentence names
Row = Mapping[str, Any]


class Spent:
    """`with spent: ...`, then `spent.wall` and `spent.processor`: seconds within, of the clock and of all threads of this process."""

    wall = processor = 0.0

    def __enter__(self) -> Spent:
        self.wall, self.processor = -time.perf_counter(), -time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall += time.perf_counter()
        self.processor += time.process_time()


class Clock:
    """The timings in a run's folder.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.store = Store(root, KIND, RECORD)

    def read(self, key: str) -> TimeRecord | None:
        """The timings of a cell; None without any, or where they are not as they were written."""
        return time_record(self.store.read(key))

    def write(self, key: str, conditions: Conditions, timings: Sequence[Timing]) -> None:
        """Keep the timings of a cell, in place of those that are there.

        Raises:
            InputError: the disk does not take it.
        """
        held = [one.model_dump(mode="json") for one in timings]
        self.store.write(key, {"conditions": conditions.model_dump(mode="json"), "timings": held}, {})

    def columns(self, cell: CellRecord) -> dict[str, Any]:
        """What the row of a cell says of its timings: seconds None and counts 0 without any."""
        found = self.read(cell.key) if cell.answer.x_sha256 is not None else None
        timings = [] if found is None else found.timings
        median, low, high = repeated([one.seconds for one in timings]) if timings else (None, None, None)
        return {
            "seconds_median": median,
            "seconds_low": low,
            "seconds_high": high,
            "processor_seconds": statistics.median(one.processor_seconds for one in timings) if timings else None,
            "timings": len(timings),
            "timings_busy": 0 if found is None else sum(busy(one, found.conditions) for one in timings),
            "timings_another": sum(one.x_sha256 != cell.answer.x_sha256 for one in timings),
            "timed_on": "" if found is None else found.conditions.hardware,
        }


def busy(timing: Timing, conditions: Conditions) -> bool:
    """Whether the solver had to wait for a processor; never on another device, whose time the processor's says nothing of."""
    return conditions.device == "cpu" and timing.wall_seconds > BUSY * timing.processor_seconds


def said(rows: Iterable[Row], hardware: str = "") -> list[str]:
    """How the seconds of a run were taken, in words; [] where it has none.

    Args:
        rows: of the run.
        hardware: what it was computed on.
    """
    columns: dict[str, list[Row]] = {}
    for row in rows:
        if row["seconds"] is not None:
            columns.setdefault(f"{row['operator']} · {row['solver']}", []).append(row)
    again = {name: found for name, mine in columns.items() if (found := [row for row in mine if row.get("timings")])}
    if not again:
        return ["seconds: once, while computing"] if columns else []
    taken = [row for found in again.values() for row in found]
    once = [name for name in columns if name not in again]
    return [
        f"seconds: median of {_counted(taken)}, in turns, {_quiet(again)}",
        *([f"seconds of {_named(once)}: once, while computing"] if once else []),
        *_places(taken, hardware),
        *_others(again),
    ]


def _counted(taken: Sequence[Row]) -> str:
    least, most = (end(row["timings"] for row in taken) for end in (min, max))
    spread = "least, most" if most < QUARTILES else "quartiles" if least >= QUARTILES else f"least, most; from {QUARTILES} on quartiles"
    images = dict.fromkeys(row["image"] for row in taken)
    of = next(iter(images)) if len(images) == 1 else f"{len(images)} pictures"
    return f"{least if least == most else f'{least} to {most}'} repeat{'' if most == 1 else 's'} [{spread}] of {of}"


def _quiet(again: Mapping[str, Sequence[Row]]) -> str:
    """Whether somebody else was at work."""
    waited = {name: count for name, found in again.items() if (count := sum(row["timings_busy"] for row in found))}
    if waited:
        total = sum(row["timings"] for found in again.values() for row in found)
        many = f"{sum(waited.values())} of {total} timings"
        why = f"in {many} the clock went on more than {BUSY:g} times as long as the processor ({_named(list(waited))})"
        return f"on a busy machine: {why}; what the processor took is processor_seconds of the rows"
    if any(row["device"] != "cpu" for found in again.values() for row in found):
        return "after a discarded step each"
    return f"on an otherwise idle processor (the clock went on at most {BUSY:g} times as long)"


def _places(taken: Sequence[Row], hardware: str) -> list[str]:
    """On which machines, where it is not the run's own alone."""
    machines = list(dict.fromkeys(row["timed_on"] for row in taken))
    if len(machines) > 1:
        return [f"seconds are of {len(machines)} machines, and no comparison: {'; '.join(machines)}"]
    return [f"repeated on {machines[0]}"] if hardware and machines[0] != hardware else []


def _others(again: Mapping[str, Sequence[Row]]) -> list[str]:
    """Whether the repeats gave the stored answers."""
    other = [name for name, found in again.items() if any(row["timings_another"] for row in found)]
    if not other:
        return ["every repeat gave the stored answer, to the bit"]
    return [f"another answer than the stored one: {_named(other)}"]


def _named(names: Sequence[str]) -> str:
    """The first of them."""
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
