"""What is read from JSON beside weights (cards, settings): from regular files of bounded size only, and its values checked by kind."""

from __future__ import annotations

import json
import math
import os
import stat
from numbers import Real
from pathlib import Path
from typing import Any

from invsolve.errors import InputError

SIZE_LIMIT = 1 << 20
DEPTH_LIMIT = 32


def read_table(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        InputError: no such file, no regular one (a pipe or a device would never end), more than SIZE_LIMIT bytes, not JSON, nested
            deeper than DEPTH_LIMIT, or no object.
    """
    shown = f"{path!s:.300}"
    try:
        # Opened without waiting and looked at when open: a pipe must not block, nor take the file's place in between.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with open(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise InputError(f"{shown}: not a regular file; JSON is read from such only")
            data = file.read(SIZE_LIMIT + 1)
        if len(data) > SIZE_LIMIT:
            raise InputError(f"{shown}: JSON of more than {SIZE_LIMIT} bytes is not read here; give the file another name or place")
        value = json.loads(data.decode("utf-8"))
    except InputError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{shown}: no readable JSON ({type(error).__name__}: {error!s:.200})") from error
    if depth_of(value) > DEPTH_LIMIT:
        raise InputError(f"{shown}: nested deeper than {DEPTH_LIMIT} levels")
    if not isinstance(value, dict):
        raise InputError(f"{shown}: a JSON object is needed; given a {type(value).__name__}")
    return value


def depth_of(value: Any) -> int:
    """Levels of nesting, counted to one beyond DEPTH_LIMIT."""
    layer, depth = [value], 0
    while layer and depth <= DEPTH_LIMIT:
        layer = [part for one in layer if isinstance(one, dict | list) for part in (one.values() if isinstance(one, dict) else one)]
        depth += 1
    return depth


def is_number(value: Any) -> bool:
    """Whether a value is a finite number (true and false are none)."""
    try:
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(float(value))
    except OverflowError:  # an integer beyond the floats
        return False


def is_count(value: Any, low: int, high: int) -> bool:
    """Whether a value is an integer from low to high."""
    return type(value) is int and low <= value <= high
