"""Sweeps, a check on each of many subjects: all of it in `pytest --whole`, a part that meets every row and column in a plain run.

The part is chosen by position, so it is the same in every run; a test that is left out counts as "deselected" in pytest's last line.

What is swept within one test asks for `--whole` itself, and its docstring says its part: settings on the pretended device (a quarter of
one example), checks of deepinv's physics (a sixth), solvers on complex data (an eighth), wrong values in files (a half), changes of a
suite (a quarter), hostile files (a third or three quarters), the settings in a stranger's own tests (a third). See also
`setting_turns.py`, `solver_turns.py`.
"""

from collections.abc import Callable, Iterable
from typing import Any

import pytest


def thinned(cases: Iterable[Any], kept: Callable[[int], bool]) -> list[Any]:
    """The cases as parameters, those at places that `kept(place)` denies marked for `pytest --whole`."""
    params = [one if hasattr(one, "values") else pytest.param(*(one if isinstance(one, tuple) else (one,))) for one in cases]
    whole = pytest.mark.whole
    return [one if kept(place) else pytest.param(*one.values, id=one.id, marks=[*one.marks, whole]) for place, one in enumerate(params)]
