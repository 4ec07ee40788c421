"""The round numbers of an axis, and the colours of a report."""

from __future__ import annotations

import math

from invsolve.io.html import data_uri as data_uri
from invsolve.plugins.former import without

COLOURS = ("#1f6f8b", "#c8553d", "#588157", "#6d597a", "#b08900", "#3d5a80", "#9c4668", "#2f3e6e", "#7f5539", "#5c677d")


def decades(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten within [low, high]."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [value for exponent in exponents for factor in (1, 2, 5) if low <= (value := factor * 10.0**exponent) <= high]


def nice(step: float) -> float:
    """The next of 1, 2, 5 times a power of ten above `step`."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * (1 - 1e-9))


CHART = "invsolve.plot.front(points), a chart of quality against cost"
without(__name__, dict.fromkeys(("Mark", "Point", "Scatter", "scatter"), CHART))
