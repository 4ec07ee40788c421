"""Problems that the checks pose to one solver after the other, made once: so is what a problem keeps, its gain and where solvers begin.

One is made anew after somebody wrote into a tensor of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from invsolve.operator.cache import written
from invsolve.operator.measurement import parts
from invsolve.problem import Problem

Several = TypeVar("Several", Problem, list[Problem])
MADE: dict[Any, tuple[Any, list[int]]] = {}
HELD = "_made_of_it"  # where a problem keeps what is made of it


def versions(problems: Problem | list[Problem]) -> list[int]:
    """How often each of their tensors was written into."""
    every = problems if isinstance(problems, list) else [problems]
    return [written(one) for each in every for one in (*parts(each.y), *each.operator.buffers(), *each.noise.buffers())]


def once_made(key: Any, make: Callable[[], Several], place: dict[Any, tuple[Any, list[int]]] | None = None) -> Several:
    """What `make` gave for the key when it was asked first."""
    place = MADE if place is None else place
    held = place.get(key)
    if held is None or versions(held[0]) != held[1]:
        made = make()
        held = place[key] = (made, versions(made))
    return held[0]


def made_of(problem: Problem, key: Any, make: Callable[[], Several]) -> Several:
    """The same of what is made of a problem, for as long as nobody writes into that."""
    before, place = vars(problem).get(HELD, (None, {}))
    if before != (now := versions(problem)):
        place = {}
        vars(problem)[HELD] = (now, place)
    return once_made(key, make, place)


def items(problem: Problem, first: int, end: int | None = None) -> Problem:
    """problem[first:end], or problem[first]."""
    return made_of(problem, ("items", first, end), lambda: problem[first] if end is None else problem[first:end])
