"""The ends of solvers' ranges: a field outside them is refused, with what was given and what is allowed."""

from __future__ import annotations

import math
from typing import Any

from invsolve.errors import InputError


def need_count(solver: Any, *names: str) -> None:
    """Raise InputError unless these fields are whole numbers, at least 1."""
    for name in names:
        value = getattr(solver, name)
        if not isinstance(value, int) or value < 1:
            raise InputError(f"{name} must be a whole number, at least 1; given {value!r}")


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
