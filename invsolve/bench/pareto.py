"""Quality against cost: what nobody beats in both, what a budget buys, and what a quality costs.

An entry is (name, cost, quality), quality with more being better. A cost is a number of network evaluations, seconds or bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

Entry = tuple[str, float, float]


def usable(entries: Iterable[Entry]) -> list[Entry]:
    """Those with a finite cost and a quality."""
    return [one for one in entries if math.isfinite(one[1]) and not math.isnan(one[2])]


def front(entries: Sequence[Entry]) -> list[str]:
    """The names that no other entry beats, cheapest first: none is as cheap and better, or cheaper and as good.

    Entries equal in both stand together.
    """
    known = usable(entries)

    def beaten(one: Entry) -> bool:
        return any(other[1] <= one[1] and other[2] >= one[2] and (other[1] < one[1] or other[2] > one[2]) for other in known)

    return [one[0] for one in sorted(known, key=lambda one: (one[1], -one[2])) if not beaten(one)]


def within_budget(entries: Sequence[Entry], budget: float) -> Entry | None:
    """The best of those that cost at most a budget; the cheaper of equals; None where nothing is so cheap."""
    held = [one for one in usable(entries) if one[1] <= budget]
    return min(held, key=lambda one: (-one[2], one[1])) if held else None


def cheapest(entries: Sequence[Entry], quality: float) -> Entry | None:
    """The cheapest of those that reach a quality; the better of equals; None where nobody does."""
    held = [one for one in usable(entries) if one[2] >= quality]
    return min(held, key=lambda one: (one[1], -one[2])) if held else None


def budgets(costs: Iterable[float], count: int = 6) -> list[float]:
    """1, 2 and 5 times powers of ten that tell costs apart: from the first that buys something to the first that buys all; at most `count`.

    0 stands first where something is free.
    """
    known = sorted(cost for cost in costs if math.isfinite(cost))
    if not known:
        return []
    paid = [cost for cost in known if cost > 0]
    free = [0.0] if len(paid) < len(known) else []
    if not paid:
        return free
    powers = range(math.floor(math.log10(paid[0])), math.ceil(math.log10(paid[-1])) + 1)
    steps = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    needed = [step for step in steps if step >= paid[0] * (1 - 1e-9)]
    last = next((index for index, step in enumerate(needed) if step >= paid[-1] * (1 - 1e-9)), len(needed) - 1)
    return free + thinned(needed[: last + 1], count - len(free))


def thinned(values: list[float], count: int) -> list[float]:
    """At most `count` of them, the last among them, evenly."""
    if len(values) <= count:
        return values
    return [values[round(place * (len(values) - 1) / (count - 1))] for place in range(count)]
