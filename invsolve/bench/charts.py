"""Quality against cost as a drawing in pixels, with the Pareto front: geometry only, the template draws it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from invsolve.bench.figures import decades, nice
from invsolve.bench.pareto import front, usable
from invsolve.bench.standings import Board, from_best

WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP, BOTTOM = 56, 20, 18, 50
# Who is farther below the best than this many times the distance of two thirds of the solvers is drawn at the lower edge.
OUTLYING = 2.5
CHARACTER = 7.0
SIDES = (
    (12, 4, "start"),
    (-12, 4, "end"),
    (0, -13, "middle"),
    (0, 22, "middle"),
    (12, -10, "start"),
    (-12, -10, "end"),
    (12, 18, "start"),
    (-12, 18, "end"),
)


@dataclass(frozen=True)
class Mark:
    """A solver in the drawing.

    Args:
        solver, kind: what it is.
        x, y: centre.
        low, high: ends of the interval of its difference from the best, about its own place; None where there is none.
        front: whether it is on the front.
        below: whether it lies below the drawing, at whose edge it stands.
        label: (x, y, anchor) of its name; None where there is no room.
        text: numbers, for the pointer.
        left, right: ends of the spread of its seconds; None where they were not taken several times.
    """

    solver: str
    kind: str
    x: float
    y: float
    low: float | None
    high: float | None
    front: bool
    below: bool
    label: tuple[float, float, str] | None
    text: str
    left: float | None = None
    right: float | None = None


@dataclass(frozen=True)
class Chart:
    """A drawing.

    Args:
        marks: solvers, those on the front last.
        steps: the corners of the front, as SVG takes them.
        x_ticks, y_ticks: (position, text).
        logarithmic: the axis of costs; free solvers stand at its left end, at the tick "0".
    """

    marks: list[Mark]
    steps: str
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    logarithmic: bool
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


@dataclass(frozen=True)
class Axes:
    """Where values lie."""

    least: float
    most: float
    low: float
    high: float
    free: bool
    upwards: bool

    def across(self, cost: float) -> float:
        """Pixels from the left, logarithmic; what is free stands on the first tenth."""
        start = LEFT + (0.1 * (WIDTH - LEFT - RIGHT) if self.free else 0.0)
        if cost <= 0:
            return LEFT + 0.035 * (WIDTH - LEFT - RIGHT)
        return start + (math.log10(cost) - self.least) / (self.most - self.least) * (WIDTH - RIGHT - start)

    def up(self, value: float) -> float:
        """Pixels from the top, within the frame; better is higher."""
        share = min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))
        return HEIGHT - BOTTOM - (share if self.upwards else 1 - share) * (HEIGHT - TOP - BOTTOM)


def chart(board: Board, metric: str, cost: str, *, higher: bool, digits: int, unit: str) -> Chart | None:
    """The drawing of an operator; None unless two solvers have a finite quality and a cost."""
    entries = [one for one in usable(board.entries(metric, cost, higher=higher)) if math.isfinite(one[2])]
    if len(entries) < 2:
        return None
    sign = 1 if higher else -1
    axes = scaled(board, metric, [(name, price, sign * quality) for name, price, quality in entries], higher=higher)
    leading, found = front(entries), board.contests[metric]
    places = {name: (axes.across(price), axes.up(sign * quality)) for name, price, quality in entries}
    named = labels(places, [*leading, *sorted(set(places) - set(leading), key=found.names.index)])
    times = board.times if cost == "seconds" else {}
    marks = []
    for name, price, quality in entries:
        mean, gap = sign * quality, from_best(found, name)
        ends: tuple[float | None, float | None] = (None, None)
        if gap is not None and gap.difference is not None and gap.difference.low is not None and gap.difference.high is not None:
            best = found.means[found.best].mean
            ends = axes.up(best + sign * gap.difference.low), axes.up(best + sign * gap.difference.high)
        below = not axes.low <= mean <= axes.high
        text = f"{name} ({board.kinds[name]}): {mean:.{digits}f} {unit}".rstrip() + f", {price:.3g} {cost}"
        across: tuple[float | None, float | None] = (None, None)
        if name in times and times[name].low > 0:
            held = times[name]
            across = max(float(LEFT), axes.across(held.low)), min(float(WIDTH - RIGHT), axes.across(held.high))
            text += f" [{held.low:.3g}, {held.high:.3g}]"
        marks.append(Mark(name, board.kinds[name], *places[name], *ends, name in leading, below, named.get(name), text, *across))
    marks.sort(key=lambda mark: mark.front)
    return Chart(marks, corners([places[name] for name in leading]), *ticks(axes), logarithmic=axes.most > axes.least)


def scaled(board: Board, metric: str, points: Sequence[tuple[str, float, float]], *, higher: bool) -> Axes:
    """The axes: all costs, and all qualities but those far below the rest."""
    paid = [math.log10(price) for _, price, _ in points if price > 0]
    least, most = (min(paid) - 0.08, max(paid) + 0.12) if paid else (0.0, 1.0)
    means = sorted((mean for _, _, mean in points), reverse=higher)
    best = means[0]
    limit = OUTLYING * abs(best - means[(2 * len(means)) // 3])
    kept = [mean for mean in means if abs(mean - best) <= limit]
    if len(kept) < 2:
        kept = means
    found, sign = board.contests[metric], 1 if higher else -1
    gaps = [gap.difference for name, _, mean in points if mean in kept and (gap := from_best(found, name)) is not None]
    reach = [best + sign * gap.high for gap in gaps if gap is not None and gap.high is not None]
    low, high = min(kept), max(kept)
    span = high - low or abs(high) or 1.0
    # An interval may reach above the best; it may not flatten the rest.
    top = max([best, *(value for value in reach if abs(value - best) < 0.3 * span)], key=lambda value: sign * value)
    low, high = min(low, top), max(high, top)
    return Axes(least, most, low - 0.08 * span, high + 0.08 * span, any(price <= 0 for _, price, _ in points), higher)


def ticks(axes: Axes) -> tuple[list[tuple[float, str]], list[tuple[float, str]]]:
    """Of both axes."""
    across = [(axes.across(value), f"{value:g}") for value in decades(10**axes.least, 10**axes.most)]
    if len(across) > 7:
        across = [(axes.across(value), f"{value:g}") for value in decades(10**axes.least, 10**axes.most) if f"{value:e}"[0] == "1"]
    step = nice((axes.high - axes.low) / 5)
    upwards = [(axes.up(step * k), f"{step * k:g}") for k in range(math.ceil(axes.low / step), math.floor(axes.high / step) + 1)]
    return ([(axes.across(0.0), "0")] if axes.free else []) + across, upwards


def corners(places: Sequence[tuple[float, float]]) -> str:
    """The front as a staircase: a budget buys what is to its left."""
    points: list[tuple[float, float]] = []
    for x, y in places:
        if points:
            points.append((x, points[-1][1]))
        points.append((x, y))
    if points:
        points.append((WIDTH - RIGHT, points[-1][1]))
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def labels(places: dict[str, tuple[float, float]], wanted: Sequence[str]) -> dict[str, tuple[float, float, str]]:
    """Places for names, the first ones first, each where it covers no mark and no other name; without one where there is no room."""
    taken = [(x - 8, y - 8, x + 8, y + 8) for x, y in places.values()]
    out = {}
    for name in wanted:
        x, y = places[name]
        wide = CHARACTER * min(len(name), 24)
        for dx, dy, anchor in SIDES:
            left = x + dx - {"start": 0.0, "end": wide, "middle": wide / 2}[anchor]
            box = (left, y + dy - 11, left + wide, y + dy + 3)
            inside = box[0] >= LEFT and box[2] <= WIDTH - 4 and box[1] >= 2 and box[3] <= HEIGHT - BOTTOM
            if inside and not any(box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3] for other in taken):
                out[name] = (x + dx, y + dy, anchor)
                taken.append(box)
                break
    return out
