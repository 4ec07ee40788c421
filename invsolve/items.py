"""Which items of a batch an index means: the same words for problems, operators and priors."""

from __future__ import annotations

from typing import Any

from invsolve.errors import InputError


def chosen(batch: int, index: Any, what: str) -> range:
    """The rows that `index`, a whole number or a slice, takes out of 0 ... batch - 1.

    Raises:
        InputError: it is neither.
        IndexError: there is no such item.
    """
    try:
        rows = range(batch)[index]
    except IndexError as error:
        raise IndexError(f"{what} holds {batch} items; there is no item {index}") from error
    except TypeError as error:
        given = f"{what} takes a whole number or a slice, [2] or [1:3]; given {type(index).__name__}"
        raise InputError(f"{given}. Several items in any order: .rows([2, 0, 1]) of a problem, .select([2, 0, 1]) of the others") from error
    return rows if isinstance(rows, range) else range(rows, rows + 1)
