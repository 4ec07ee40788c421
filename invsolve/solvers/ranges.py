"""The ends of solvers' ranges: a field outside them is refused, with what was given and what is allowed."""

from __future__ import annotations

import math
from typing import Any

from invsolve.errors import InputError
from invsolve.solver import MAX_STEPS

# What is done again within a step: more than anybody waits for, yet no mistyped number runs for ever. Particles are held all at once.
MOST, MOST_OF = 100_000, {"steps": MAX_STEPS, "particles": 10_000}


def need_count(solver: Any, *names: str, least: int = 1) -> None:
    """Raise InputError unless these fields are whole numbers from `least` to what `MOST_OF` says, else `MOST`."""
    for name in names:
        value, most = getattr(solver, name), MOST_OF.get(name, MOST)
        if not isinstance(value, int) or not least <= value <= most:
            raise InputError(f"{name} must be a whole number, at least {least} and at most {most}; given {value!r}")


def need_between(solver: Any, name: str, low: float, high: float = math.inf, *, ends: str = "()") -> None:
    """Raise InputError unless a field lies between low and high; `ends` as in interval notation, "[)" with low and without high."""
    value = getattr(solver, name)
    if value is None:
        return
    above = value >= low if ends[0] == "[" else value > low
    below = value <= high if ends[1] == "]" else value < high
    if not (above and below):
        raise InputError(f"{name} must lie in {ends[0]}{low:g}, {high:g}{ends[1]}; given {value}")


def need_name(solver: Any, name: str, allowed: tuple[str, ...]) -> None:
    """Raise InputError unless a field is one of some names (or None, where it is None by default)."""
    value = getattr(solver, name)
    if value is not None and value not in allowed:
        raise InputError(f"{name} must be one of {', '.join(map(repr, allowed))}; given {value!r}")
