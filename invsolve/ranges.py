"""Where good values of a hyperparameter are looked for: what solvers and regularisers declare, and what tuning draws from.

Range(low, high):          low + u (high - low),        u in [0, 1]
Range(low, high, log):     low (high / low)^u
unit = "sigma_x":          that times the noise level in units of the image; "1/sigma_x": divided by it
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

from invsolve.errors import InputError
from invsolve.rng import derive


@dataclass(frozen=True)
class Range:
    """Numbers from low to high.

    Args:
        low, high: the ends, both taken.
        log: evenly in the logarithm.
        whole: whole numbers only.
        unit: "" for the number itself, "sigma_x" or "1/sigma_x" for what goes with the noise level in units of the image.
        only: "denoiser" or "regulariser" where it means something with such a prior alone.

    Raises:
        InputError: ends that are no interval, or not above 0 with log.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False
    unit: Literal["", "sigma_x", "1/sigma_x"] = ""
    only: Literal["", "denoiser", "regulariser"] = ""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high and (self.low > 0 or not self.log)):
            raise InputError(f"a range goes from low to high, with log from above 0; given {self.low} to {self.high}, log={self.log}")

    def at(self, u: float, sigma_x: float = 1.0) -> float | int:
        """The value at u in [0, 1]."""
        value = self.low * (self.high / self.low) ** u if self.log else self.low + u * (self.high - self.low)
        scaled = value * {"": 1.0, "sigma_x": sigma_x, "1/sigma_x": 1 / sigma_x}[self.unit]
        return round(scaled) if self.whole else float(f"{scaled:.4g}")  # four digits: what is written is what was tried

    def points(self, count: int, sigma_x: float = 1.0) -> list[float | int]:
        """So many values over the range, ends included; one is the middle."""
        places = [0.5] if count == 1 else [index / (count - 1) for index in range(count)]
        return list(dict.fromkeys(self.at(u, sigma_x) for u in places))


@dataclass(frozen=True)
class Choice:
    """One of some values.

    Args:
        values: what there is.
        only: as for `Range`.
    """

    values: tuple[Any, ...]
    only: Literal["", "denoiser", "regulariser"] = ""
    unit: Literal[""] = ""

    def at(self, u: float, sigma_x: float = 1.0) -> Any:
        """The value at u in [0, 1]: equal shares."""
        del sigma_x
        return self.values[min(int(u * len(self.values)), len(self.values) - 1)]

    def points(self, count: int, sigma_x: float = 1.0) -> list[Any]:
        """All of them, however many are asked for."""
        del count, sigma_x
        return list(self.values)


Ranges = Mapping[str, Range | Choice]
PRIOR = "prior."


def joint(solver: Ranges, regulariser: Ranges | None, names: Sequence[str] = ()) -> dict[str, Range | Choice]:
    """The ranges of a solver, and as `prior.NAME` those of its regulariser; None with a denoiser. {} where neither declares any.

    Raises:
        InputError: a name that is none of them.
    """
    inner = {f"{PRIOR}{name}": one for name, one in (regulariser or {}).items()}
    return fitting({**solver, **inner}, "denoiser" if regulariser is None else "regulariser", names)


def parted(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What of values by such names is the solver's, and what its prior's, by the prior's own names."""
    own = {name: value for name, value in values.items() if not name.startswith(PRIOR)}
    return own, {name.removeprefix(PRIOR): value for name, value in values.items() if name.startswith(PRIOR)}


def drawn(ranges: Ranges, count: int, seed: int, sigma_x: float = 1.0) -> Iterator[dict[str, Any]]:
    """Random settings, each name evenly in its range; setting k does not depend on how many there are."""
    for index in range(count):
        yield {name: one.at(derive(seed, "tune", index, name) / 2**63, sigma_x) for name, one in ranges.items()}


def gridded(ranges: Ranges, count: int, sigma_x: float = 1.0) -> list[dict[str, Any]]:
    """At most `count` settings on a grid, as many values of each range as that allows; the names in their order.

    Raises:
        InputError: not even two values of each.
    """
    size = 1
    while math.prod(len(one.points(size + 1)) for one in ranges.values()) <= count and size < count:
        size += 1
    columns = [one.points(size, sigma_x) for one in ranges.values()]
    if size < 2 and len(ranges) > 1:
        raise InputError(f"{count} trials are too few for a grid over {', '.join(ranges)}: give more, fewer names, or take random ones")
    return [dict(zip(ranges, point, strict=True)) for point in product(*columns)][:count]


def fitting(ranges: Ranges, kind: str, names: Sequence[str] = ()) -> dict[str, Range | Choice]:
    """Those that mean something with a prior of this kind, "denoiser" or "regulariser"; of these the named ones, if any are named.

    Raises:
        InputError: a name that is none of them.
    """
    found = {name: one for name, one in ranges.items() if one.only in ("", kind)}
    unknown = [name for name in names if name not in found]
    if unknown:
        raise InputError(f"nothing declares a range for {', '.join(unknown)}; there are: {', '.join(found) or 'none'}")
    return {name: one for name, one in found.items() if not names or name in names}
