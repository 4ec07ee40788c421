"""The interval that [0, 1] images fill in another convention's variables: one value in place of a factor 2 here and a 1/2 there."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, TypeVar

from torch import Tensor

from invsolve.errors import InputError

Value = TypeVar("Value", float, Tensor, float | Tensor)


def interval(name: str, value: Any, above: float = -math.inf) -> tuple[float, float]:
    """(low, high) as two floats with above < low < high, both finite.

    Raises:
        InputError: anything else; `name` says what it is.
    """
    pair = value if isinstance(value, tuple | list) and len(value) == 2 else ()
    numbers = pair and all(isinstance(end, Real) and not isinstance(end, bool) for end in pair)
    try:
        low, high = (float(end) for end in pair) if numbers else (math.nan, math.nan)
    except OverflowError:  # an integer beyond the floats
        low = high = math.nan
    if not above < low < high < math.inf:
        least = "" if above == -math.inf else f"{above:g} < "
        raise InputError(f"{name} must be two finite numbers (low, high) with {least}low < high; given {value!r:.100}")
    return low, high


def whole(name: str, value: Any, most: int) -> int:
    """The whole number from 1 to `most` itself.

    Raises:
        InputError: anything else, a truth value too; `name` says what it is.
    """
    number = int(value) if isinstance(value, Integral) and not isinstance(value, bool) else 0
    if not 1 <= number <= most:
        raise InputError(f"{name} must be a whole number, at least 1 and at most {most}; given {value!r:.100}")
    return number


@dataclass(frozen=True)
class Unit:
    """The units of images in (low, high): x' = low + (high - low) x for x in [0, 1]; a noise level is multiplied by the width.

    Args:
        low, high: the ends, low < high; (-1, 1) is the field's convention for networks with a schedule.

    Raises:
        InputError: not two finite numbers with low < high.
    """

    low: float = -1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        low, high = interval("a unit", (self.low, self.high))
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)

    @property
    def width(self) -> float:
        """high - low: a noise level of 1 in [0, 1] units in these."""
        return self.high - self.low

    @property
    def middle(self) -> float:
        """(low + high) / 2."""
        return (self.low + self.high) / 2

    def to(self, x: Value) -> Value:
        """Images (or one value) in [0, 1] in these units."""
        return self.low + self.width * x

    def back(self, x: Value) -> Value:
        """Images (or one value) in these units in [0, 1]."""
        return (x - self.low) / self.width

    def sigma(self, sigma: Value) -> Value:
        """Noise levels in [0, 1] units in these."""
        return self.width * sigma

    def unsigma(self, sigma: Value) -> Value:
        """Noise levels in these units in [0, 1] units."""
        return sigma / self.width
