"""How much may be spent: "60s", "2min", "5000 nfe", or seconds as a number; and what was spent."""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass, field

from invsolve.errors import InputError

UNITS = {"": 1.0, "s": 1.0, "min": 60.0, "h": 3600.0}
FORM = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*(s|min|h|nfe|)\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Budget:
    """Seconds or network evaluations (of one image each, backward passes counted like forward ones); one of the two."""

    seconds: float | None = None
    nfe: int | None = None

    def __post_init__(self) -> None:
        if (self.seconds is None) == (self.nfe is None):
            raise InputError("a budget is seconds or evaluations: Budget(seconds=60) or Budget(nfe=5000)")

    @classmethod
    def make(cls, given: str | float | Budget, nfe: int | None = None) -> Budget:
        """From what a user writes.

        Raises:
            InputError: neither a number of seconds above 0, nor "60s", "2min", "1h" or "5000 nfe".
        """
        if isinstance(given, Budget):
            return given
        if nfe is not None:
            if not isinstance(nfe, int) or isinstance(nfe, bool) or nfe < 1:
                raise InputError(f"nfe must be a whole number, at least 1; given {nfe!r:.40}")
            return cls(nfe=nfe)
        found = FORM.fullmatch(given) if isinstance(given, str) else None
        if found is not None and float(found[1]) > 0:
            size, unit = float(found[1]), found[2].lower()
            return cls(nfe=math.ceil(size)) if unit == "nfe" else cls(seconds=size * UNITS[unit])
        if isinstance(given, int | float) and not isinstance(given, bool) and math.isfinite(given) and given > 0:
            return cls(seconds=float(given))
        raise InputError(f'a budget is seconds, or text such as "60s", "2min" or "5000 nfe", above 0; given {given!r:.40}')

    def __str__(self) -> str:
        return f"{self.nfe} evaluations" if self.nfe is not None else f"{self.seconds:g} s"


@dataclass
class Purse:
    """A budget and what of it is spent; `spent` counts in the budget's own unit."""

    budget: Budget
    began: float = field(default_factory=time.perf_counter)
    nfe: int = 0

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.perf_counter() - self.began

    @property
    def spent(self) -> float:
        """Of the budget."""
        return self.nfe if self.budget.nfe is not None else self.seconds

    @property
    def whole(self) -> float:
        """The budget."""
        return float(self.budget.nfe if self.budget.nfe is not None else self.budget.seconds or math.inf)

    @property
    def left(self) -> float:
        """What is left of it."""
        return self.whole - self.spent
