"""Who was better, and whether that is sure: differences on the same problems, their intervals, tests and ranks.

    d_i = s (a_i - b_i)           problem i, both with an answer; s = 1 where higher is better, -1 where lower is: d > 0 is better
    interval of mean d            bootstrap over problems, expanded percentiles
    p                             Wilcoxon's signed-rank test of d, two-sided; Holm's correction over all pairs
    rank of a = 1 + number of solvers whose difference from a has an interval above 0

No rank is given by a difference whose interval holds 0: such solvers share it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from invsolve.rng import derive

LEVEL = 0.95
RESAMPLES = 4000
# Below this number of problems a resampled mean takes so few values that its percentiles are too narrow: Student's interval bounds them.
FEW = 8

Values = Mapping[str, float | None]


@dataclass(frozen=True)
class Interval:
    """A mean and the interval that holds it at a confidence of LEVEL; low and high are None under two values, or where one is infinite.

    Args:
        mean: of `count` values.
        low, high: the interval.
        count: how many values.
    """

    mean: float
    low: float | None
    high: float | None
    count: int

    @property
    def sign(self) -> int:
        """1 where the whole interval lies above 0, -1 below; 0 where it holds 0, or there is none."""
        if self.low is None or self.high is None:
            return 0
        return 1 if self.low > 0 else -1 if self.high < 0 else 0

    def __neg__(self) -> Interval:
        return Interval(-self.mean, None if self.high is None else -self.high, None if self.low is None else -self.low, self.count)


@dataclass(frozen=True)
class Paired:
    """Two solvers on the same problems, seen from the first; more is better.

    Args:
        difference: mean and interval; None where they share no problem.
        wins, ties, losses: of the first, problem by problem.
        p: Wilcoxon's, 1 where every difference is a tie; None where they share no problem.
    """

    difference: Interval | None
    wins: int
    ties: int
    losses: int
    p: float | None

    @property
    def sign(self) -> int:
        """1 or -1 where one is surely better, else 0."""
        return 0 if self.difference is None else self.difference.sign

    def __neg__(self) -> Paired:
        return Paired(None if self.difference is None else -self.difference, self.losses, self.ties, self.wins, self.p)


def interval(values: Sequence[float]) -> Interval | None:
    """Bootstrap interval of the mean of some values, None without any.

    Percentiles at Phi(-sqrt(n / (n - 1)) t), t Student's quantile with n - 1 degrees of freedom: the plain ones are too narrow by that.
    For fewer than 8 values the interval is at least Student's, mean ± t s / sqrt(n). The resamples are the same for every set of n values.

    References:
        Hesterberg, What Teachers Should Know about the Bootstrap, 2015, arXiv:1411.5279, section 5.3 (expanded percentiles).
    """
    if not len(values):
        return None
    count = len(values)
    if count < 2 or not all(math.isfinite(value) for value in values):
        return Interval(math.fsum(values) / count if all(map(math.isfinite, values)) else sum(values), None, None, count)
    array = np.asarray(values, dtype=np.float64)
    mean, quantile = float(array.mean()), student(count)
    # Resampled about the mean: equal values give an interval of exactly one point.
    low, high = (mean + float(part) for part in np.quantile(weights(count) @ (array - mean), tails(count)))
    if count < FEW:
        half = quantile * float(array.std(ddof=1)) / math.sqrt(count)
        low, high = min(low, mean - half), max(high, mean + half)
    return Interval(mean, low, high, count)


@lru_cache(maxsize=256)
def student(count: int) -> float:
    """Student's quantile at LEVEL, two-sided, of n values."""
    from scipy.stats import t

    return float(t.ppf((1 + LEVEL) / 2, count - 1))


@lru_cache(maxsize=256)
def tails(count: int) -> tuple[float, float]:
    """The expanded percentiles, as shares."""
    from scipy.stats import norm

    tail = float(norm.cdf(-math.sqrt(count / (count - 1)) * student(count)))
    return tail, 1 - tail


@lru_cache(maxsize=16)
def weights(count: int) -> np.ndarray:
    """(RESAMPLES, n): how often a resample takes each of n values, over n."""
    rng = np.random.default_rng(derive("bootstrap", count))
    return rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES) / count


def paired(first: Values, second: Values, *, higher: bool, tie: float = 0.0) -> Paired:
    """Compare two solvers by their values on problems; a problem without a number of both is left out.

    Args:
        first, second: value by problem.
        higher: whether more is better.
        tie: a difference of at most this is a tie, e.g. half of the last digit shown.
    """
    shared = [(a, b) for key in first if (a := first[key]) is not None and (b := second.get(key)) is not None]
    pairs = [pair for pair in shared if not any(map(math.isnan, pair))]
    if not pairs:
        return Paired(None, 0, 0, 0, None)
    differences = [0.0 if a == b else (a - b if higher else b - a) for a, b in pairs]
    wins, losses = sum(one > tie for one in differences), sum(one < -tie for one in differences)
    return Paired(interval(differences), wins, len(differences) - wins - losses, losses, wilcoxon(differences))


def wilcoxon(differences: Sequence[float]) -> float:
    """Two-sided p of the signed-rank test, zeros left out; exact up to 50 differences without equal sizes (scipy's choice).

    References:
        Wilcoxon, Individual Comparisons by Ranking Methods, Biometrics Bulletin 1 (1945).
    """
    from scipy.stats import wilcoxon as test

    kept = [one for one in differences if one]
    return float(test(kept).pvalue) if kept else 1.0  # pyright: ignore[reportAttributeAccessIssue]


def holm(values: Sequence[float | None]) -> list[float | None]:
    """p values corrected for their number: max over smaller ones of (m - rank + 1) p, at most 1; None stays and is not counted.

    References:
        Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6 (1979).
    """
    order = sorted((value, index) for index, value in enumerate(values) if value is not None)
    out: list[float | None] = [None] * len(values)
    running = 0.0
    for place, (value, index) in enumerate(order):
        running = max(running, min(1.0, (len(order) - place) * value))
        out[index] = running
    return out


@dataclass(frozen=True)
class Contest:
    """All solvers against all, on one operator by one metric.

    Args:
        names: the solvers that have numbers.
        means: mean and interval of each.
        pairs: (first, second) -> comparison, for both orders.
        corrected: p values by pair after Holm's correction over all pairs.
        best: the one with the best mean, "" without any.
    """

    names: tuple[str, ...]
    means: Mapping[str, Interval]
    pairs: Mapping[tuple[str, str], Paired]
    corrected: Mapping[tuple[str, str], float | None]
    best: str

    def rank(self, name: str) -> int:
        """1 + how many are surely better."""
        return 1 + sum(self.pairs[other, name].sign > 0 for other in self.names if other != name)

    @property
    def leaders(self) -> list[str]:
        """The best one and those that it is not surely better than, best mean first."""
        return [] if not self.best else [self.best, *(one for one in self.names if one != self.best and self.level(one))]

    def level(self, name: str) -> bool:
        """Whether a solver is the best one, or not told apart from it."""
        if name == self.best:
            return True
        found = self.pairs[self.best, name]
        return found.difference is not None and found.difference.low is not None and found.sign == 0


def contest(table: Mapping[str, Values], *, higher: bool, tie: float = 0.0) -> Contest:
    """Compare every solver with every other one.

    Args:
        table: solver -> value by problem.
        higher: whether more is better.
        tie: see `paired`.
    """
    numbers = {name: [one for one in values.values() if one is not None and not math.isnan(one)] for name, values in table.items()}
    means = {name: found for name, values in numbers.items() if (found := interval(values)) is not None}
    names = tuple(sorted(means, key=lambda name: means[name].mean, reverse=higher))
    ordered = [(a, b) for place, a in enumerate(names) for b in names[place + 1 :]]
    found = [paired(table[a], table[b], higher=higher, tie=tie) for a, b in ordered]
    corrected = holm([one.p for one in found])
    pairs, tests = {}, {}
    for (a, b), one, p in zip(ordered, found, corrected, strict=True):
        pairs[a, b], pairs[b, a] = one, -one
        tests[a, b] = tests[b, a] = p
    return Contest(names, means, pairs, tests, names[0] if names else "")
