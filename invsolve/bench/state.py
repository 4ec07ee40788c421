"""Whether a solver changed what it shares with others; and what built objects hold, for the keys of cells."""

from __future__ import annotations

from invsolve.io.digest import shared_state as shared_state
from invsolve.io.digest import state_hash as state_hash


def changed(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Names of what is another now, or gone; what was added (a cached value) is no change."""
    return [name for name, digest in before.items() if after.get(name) != digest]
