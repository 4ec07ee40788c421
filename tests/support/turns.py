"""Sweeps over the examples of classes, which differ in their arguments alone: each class meets each check by one of its examples.

Which one goes round, check by check, so that every example meets some; `pytest --whole` runs them all.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from sweeps import thinned


def of_class(subject: Any, check: Any = None) -> tuple[Any, Any]:
    """The row and the column of a case: what the subject is, and what is checked."""
    return type(subject), getattr(check, "__name__", None)


def by_turns(cases: Iterable[Any], cell: Callable[..., tuple[Any, Any]] = of_class, first: int = 0, step: int = 1) -> list[Any]:
    """The cases as parameters, of those in one cell all but one marked for `pytest --whole`.

    Args:
        cases: parameters, or tuples of values, or single values.
        cell: (row, column) of a case's values.
        first: which example the first column takes; sweeps of one column over the same examples take others by it.
        step: one row in so many is kept, others for another `first`: where a check of the kit asks the same of every class.
    """
    cases = list(cases)
    cells = defaultdict(list)
    for place, one in enumerate(cases):
        cells[cell(*getattr(one, "values", one if isinstance(one, tuple) else (one,)))].append(place)
    turns: Counter[Any] = Counter()
    rows: dict[Any, int] = {}
    kept = set()
    for (row, _), places in cells.items():
        if (rows.setdefault(row, len(rows)) + first) % step == 0:
            kept.add(places[(first + turns[row]) % len(places)])
        turns[row] += 1
    return thinned(cases, kept.__contains__)


def sparser(step: int, found: list[Any], whose: Callable[[Any], bool]) -> list[Any]:
    """Parameters in which, of the kept cases of some subjects, one in `step` of every row and column is left, the rest for `--whole`."""
    theirs = [not one.marks and whose(one.values[0]) for one in found]
    others = [one for one, mine in zip(found, theirs, strict=True) if not mine]
    return [*others, *one_in(step, [one for one, mine in zip(found, theirs, strict=True) if mine], of_class)]


def one_in(step: int, cases: Iterable[Any], cell: Callable[..., tuple[Any, Any]]) -> list[Any]:
    """The cases as parameters, one in `step` of every row kept and of every column, a diagonal; the others are for `pytest --whole`."""
    cases = list(cases)
    rows: dict[Any, int] = {}
    columns: dict[Any, int] = {}
    kept = set()
    for place, one in enumerate(cases):
        row, column = cell(*one.values)
        if not (rows.setdefault(row, len(rows)) + columns.setdefault(column, len(columns))) % step:
            kept.add(place)
    return thinned(cases, kept.__contains__)
