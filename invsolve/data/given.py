"""Pictures that a suite speaks of and nobody ships: the user gives their folder."""

from __future__ import annotations

from typing import Any

from invsolve.errors import InputError


def given(wants: str, label: str = "") -> Any:
    """The place of pictures that the user gives: `invsolve bench run SUITE -d LABEL=FOLDER`.

    Args:
        wants: what they are, for people.
        label: what the suite calls them.

    Raises:
        InputError: always: they are not there yet.
    """
    name = label or "LABEL"
    raise InputError(
        f"these pictures are not shipped: {wants}. Give a folder, a zip or an npz file of such: -d {name}=FOLDER "
        f'(in Python Suite.load(..., given={{"{name}": "FOLDER"}}))'
    )
