"""A long run kept on disk while it goes on, to be taken up again where it was: the parts that have ended and the one under way."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invsolve.errors import InputError
from invsolve.operator.measurement import parts
from invsolve.priors.base import Prior
from invsolve.problem import Problem
from invsolve.rng import Rng
from invsolve.run.parts import Rows
from invsolve.solution import Solution, Status, Step


@dataclass(frozen=True)
class Checkpoint:
    """Where a run is kept, and how often.

    The same call, made again, goes on from what the folder holds: on the CPU to the same bits as a run in one piece. The folder is
    exchanged whole, so that one that was being written when the power failed is not there; a run that has ended stays in it, and the same
    call gives its answer at once.

    Args:
        path: the folder.
        every: seconds between two writings; the end of a part is always written.

    Raises:
        InputError: every is no number of seconds.
    """

    path: str | Path
    every: float = 60.0

    def __post_init__(self) -> None:
        if not isinstance(self.every, int | float) or not self.every >= 0:
            raise InputError(f"every must be a number of seconds, at least 0; given {self.every!r}")


@dataclass
class Underway:
    """The part that was going on: its rows, its last step, the streams' positions, and what it had cost."""

    rows: Rows
    step: Step
    streams: list[Tensor]
    counts: dict[str, float]


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

    def step(self, rows: Rows, step: Step, rng: Rng, counts: dict[str, float]) -> None:
        """After a step: written if it is time."""
        if self.where is not None and time.monotonic() - self.written >= self.where.every:
            self.underway = Underway(rows, step, rng.state(), counts)
            self.write()

    def end(self, rows: Rows, solution: Solution) -> None:
        """After a part."""
        self.ended.append((rows, solution))
        self.underway = None
        if self.where is not None:
            self.write()

    def write(self) -> None:
        """All of it, at once or not at all."""
        from invsolve.io.unfinished import save_run

        assert self.where is not None
        save_run(self, Path(self.where.path))
        self.written = time.monotonic()


def taken_up(where: Checkpoint, key: dict[str, str], solver: Any) -> Kept | None:
    """What the folder holds of the run with this key; None where there is no folder yet.

    Raises:
        InputError: it is damaged, or belongs to another run: what differs is named.
    """
    from invsolve.io.unfinished import read_run

    path = Path(where.path)
    if not path.exists():
        return None
    found = read_run(path)
    different = [name for name, value in key.items() if found["key"].get(name) != value]
    if different:
        raise InputError(f"{path} holds another run ({', '.join(different)} differ); take another folder, or remove it to begin anew")
    try:
        ended = [(rows, solution_of(values, solver)) for rows, values in found["ended"]]
        now = found["underway"]
        underway = None if now is None else Underway(now["rows"], Step(**now["step"]), now["streams"], now["counts"])
    except (TypeError, ValueError) as error:
        raise InputError(f"{path} is no run that can be taken up: {error}") from error
    return Kept(where, found["key"], found["seed"], found["queue"], ended, underway)


def solution_of(values: dict[str, Any], solver: Any) -> Solution:
    """A part's answer from what the folder held of it."""
    trace = tuple(Step(**step) for step in values["trace"])
    return Solution(**{**values, "trace": trace, "status": Status(values["status"]), "solver": solver})


def key_of(solver: Any, problem: Problem, prior: Prior, options: Mapping[str, Any]) -> dict[str, str]:
    """Digests of everything that a run's numbers depend on, by name."""

    def digest(*values: Any) -> str:
        found = hashlib.sha256()
        for value in values:
            if isinstance(value, Tensor):
                found.update(f"{value.dtype}{tuple(value.shape)}".encode())
                found.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
            else:
                found.update(repr(value).encode())
        return found.hexdigest()[:16]

    def state(module: Any) -> list[Any]:
        return [item for name, value in sorted(module.state_dict().items()) for item in (name, value)]

    return {
        "solver": digest(repr(solver)),
        "operator": digest(repr(problem.operator), *state(problem.operator)),
        "noise": digest(repr(problem.noise), *state(problem.noise)),
        "y": digest(problem.items, *parts(problem.y)),
        "context": digest(*[item for name, value in sorted(problem.context.items()) for item in (name, value)]),
        "prior": digest(type(prior).__name__, *state(prior)),
        **{name: digest(value) for name, value in options.items()},
    }
