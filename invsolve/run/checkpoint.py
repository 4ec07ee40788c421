"""A long run kept on disk while it goes on, to be taken up again where it was: the parts that have ended and the one under way."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from invsolve.errors import InputError, Note
from invsolve.io.digest import made_hash
from invsolve.operator.measurement import parts
from invsolve.priors.base import Prior
from invsolve.problem import Problem
from invsolve.run.parts import Rows
from invsolve.solution import Solution, Status, Step


@dataclass(frozen=True)
class Checkpoint:
    """Where a run is kept, and how often.

    The same call, made again, goes on from what the folder holds: on the CPU to the same bits as a run in one piece. The folder is
    exchanged whole, so that one that was being written when the power failed is not there; a run that has ended stays in it, and the same
    call gives its answer at once. One that was stopped, or out of budget, goes on from there. A place that cannot be written is refused
    before the first step; if it fails later, the run goes on without, and says so.

    Args:
        path: the folder.
        every: seconds between two writings; the end of a part is always written.

    Raises:
        InputError: every is no number of seconds.
    """

    path: str | Path
    every: float = 60.0

    def __post_init__(self) -> None:
        if not isinstance(self.path, str | Path) or not str(self.path) or "\0" in str(self.path):
            raise InputError(f"a checkpoint is the path of a folder; given {self.path!r}")
        if isinstance(self.every, bool) or not isinstance(self.every, int | float) or not self.every >= 0:
            raise InputError(f"every must be a number of seconds, at least 0; given {self.every!r}")


@dataclass
class Underway:
    """The part that was going on: its rows, its last step, the streams' positions, and what it had cost."""

    rows: Rows
    step: Step
    streams: list[Tensor]
    counts: dict[str, float]
    trace: tuple[Step, ...] = ()


@dataclass
class Kept:
    """What a folder holds of a run, and is written again from.

    Args:
        where: the folder; None keeps nothing.
        key: digests of what the run is made of.
        seed: of its streams.
        queue: parts not begun.
        ended: parts that have, with their answers.
        underway: the part between.
    """

    where: Checkpoint | None
    key: dict[str, str]
    seed: int
    queue: list[Rows]
    ended: list[tuple[Rows, Solution]] = field(default_factory=list)
    underway: Underway | None = None
    written: float = field(default_factory=time.monotonic)

    def due(self, *, last: bool = False) -> bool:
        """Whether it is time to write: always before the run stops."""
        return self.where is not None and (last or time.monotonic() - self.written >= self.where.every)

    def step(self, now: Underway) -> None:
        """Write where the part under way is."""
        self.underway = now
        self.write()

    def end(self, rows: Rows, solution: Solution) -> None:
        """After a part. One that was stopped is not kept: the folder goes on where it stopped, and nothing after it is written."""
        self.ended.append((rows, solution))
        self.underway = None
        if solution.status in (Status.STOPPED, Status.BUDGET):
            self.where = None
        elif self.where is not None:
            self.write()

    def write(self, *, first: bool = False) -> None:
        """All of it, at once or not at all.

        Raises:
            InputError: the place cannot be written, at the beginning; later the run goes on without.
        """
        from invsolve.io.unfinished import save_run

        assert self.where is not None
        try:
            save_run(self, Path(self.where.path))
        except (InputError, OSError) as error:
            if first:
                raise
            warnings.warn(f"the run is no longer kept: {error}", Note, stacklevel=2)
            self.where = None
        self.written = time.monotonic()


def taken_up(where: Checkpoint, key: dict[str, str], solver: Any) -> Kept | None:
    """What the folder holds of the run with this key; None where there is no folder yet, or nothing in it.

    Raises:
        InputError: it is damaged, or belongs to another run: what differs is named.
    """
    from invsolve.io.unfinished import read_run

    path = Path(where.path)
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return None
    found = read_run(path)
    different = [name for name, value in key.items() if found["key"].get(name) != value]
    if different:
        raise InputError(f"{path} holds another run ({', '.join(different)} differ); take another folder, or remove it to begin anew")
    try:
        ended = [(rows, solution_of(values, solver)) for rows, values in found["ended"]]
        now = found["underway"]
        underway = (
            None if now is None else Underway(**{**now, "step": Step(**now["step"]), "trace": tuple(Step(**step) for step in now["trace"])})
        )
    except (TypeError, ValueError) as error:
        raise InputError(f"{path} is no run that can be taken up: {error}") from error
    return Kept(where, found["key"], found["seed"], found["queue"], ended, underway)


def solution_of(values: dict[str, Any], solver: Any) -> Solution:
    """A part's answer from what the folder held of it."""
    trace = tuple(Step(**step) for step in values["trace"])
    return Solution(**{**values, "trace": trace, "status": Status(values["status"]), "solver": solver})


def key_of(solver: Any, problem: Problem, prior: Prior, options: Mapping[str, Any]) -> dict[str, str]:
    """Digests of everything that a run's numbers depend on, by name."""
    values = {
        "solver": [repr(solver), solver],
        "operator": problem.operator,
        "noise": problem.noise,
        "y": [problem.items, *parts(problem.y)],
        "context": dict(problem.context),
        "prior": prior,
        **options,
    }
    return {name: made_hash(value)[:16] for name, value in values.items()}
