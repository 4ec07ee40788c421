"""Numbers of several: of pictures, a mean and its deviation; of repeats, a median and its spread."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# From this number of repeats on the spread is that of the middle half: one repeat that something disturbed no longer sets it.
QUARTILES = 5


@dataclass(frozen=True)
class Spread:
    """Mean and per-image standard deviation (unbiased; None for one image) of a number.

    Args:
        mean, std: over images; infinite values make the mean infinite and the std None.
        count: number of images.
        infinite: how many of the values are infinite.
    """

    mean: float
    std: float | None
    count: int
    infinite: int = 0

    @classmethod
    def of(cls, values: list[float]) -> Spread | None:
        """None without values."""
        if not values:
            return None
        infinite = sum(not math.isfinite(value) for value in values)
        std = statistics.stdev(values) if len(values) > 1 and not infinite else None
        return cls(math.fsum(values) / len(values) if not infinite else sum(values), std, len(values), infinite)

    def text(self, digits: int) -> str:
        """`26.31 ± 1.20`."""
        mean = f"{self.mean:.{digits}f}"
        return mean if self.std is None else f"{mean} ± {self.std:.{digits}f}"


@dataclass(frozen=True)
class Times(Spread):
    """Seconds that were taken several times: `mean` is the median over the repeats, of several pictures the mean of their medians.

    Args:
        low, high: of the repeats: the least and the greatest, from 5 on the quartiles; of several pictures their means.
    """

    low: float = 0.0
    high: float = 0.0

    def text(self, digits: int) -> str:
        """`1.24 [1.21, 1.30]`."""
        return f"{self.mean:.{digits}f} {self.between(digits)}"

    def between(self, digits: int) -> str:
        """`[1.21, 1.30]`."""
        return f"[{self.low:.{digits}f}, {self.high:.{digits}f}]"


def repeated(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, low and high of one value or more; see `Times`."""
    if len(values) < QUARTILES:
        return statistics.median(values), min(values), max(values)
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return middle, low, high


def timed(rows: Iterable[Mapping[str, Any]]) -> Times | None:
    """The repeated seconds of a solver's rows on an operator; None where none of its pictures was timed again."""
    found = [[row[name] for name in ("seconds_median", "seconds_low", "seconds_high")] for row in rows if row.get("timings")]
    if not found:
        return None
    median, low, high = (math.fsum(values) / len(values) for values in zip(*found, strict=True))
    return Times(median, None, len(found), low=low, high=high)


def overlapping(one: Times | None, other: Times | None) -> bool:
    """Whether the spreads of two share a value, so that the seconds are not told apart; False unless both were timed again."""
    return one is not None and other is not None and one.low <= other.high and other.low <= one.high
