"""Differences, intervals, tests, ranks and fronts, against closed forms and enumeration."""

import itertools
import math

import numpy as np
import pytest

from invsolve.bench.pareto import budgets, cheapest, front, within_budget
from invsolve.bench.statistics import RESAMPLES, Interval, contest, holm, interval, paired, tails, weights, wilcoxon


def test_the_interval_covers_the_mean_as_often_as_it_says():
    # 95 % of n draws from a skewed law and from a normal one; the standard error of a share of 600 is .009.
    rng = np.random.default_rng(1)
    cases = ((5, rng.standard_normal, 0.0, 0.95), (20, rng.standard_normal, 0.0, 0.95), (30, rng.standard_exponential, 1.0, 0.92))
    for count, draw, mean, least in cases:
        found = [interval(list(draw(count))) for _ in range(600)]
        share = sum(one.low <= mean <= one.high for one in found) / 600
        assert least - 3 * 0.009 <= share <= 0.95 + 4 * 0.009, (count, share)


def test_the_bootstrap_variance_is_the_closed_form():
    # Var of a resampled mean = population variance / n; the variance of 4000 draws is known to sqrt(2 / 4000) = 2.2 %.
    values = np.random.default_rng(0).standard_exponential(40)
    drawn = weights(40) @ values
    assert drawn.var() == pytest.approx(values.var() / 40, rel=4 * math.sqrt(2 / RESAMPLES))
    assert np.allclose(weights(40).sum(1), 1)


def test_expanded_percentiles_become_the_plain_ones():
    assert tails(100_000)[0] == pytest.approx(0.025, rel=1e-3)
    # n = 10: Phi(-sqrt(10 / 9) 2.262157) = .00855
    assert tails(10)[0] == pytest.approx(0.00855, rel=2e-3)


def test_few_values_have_no_narrower_interval_than_students():
    # mean 2, s = 1, t = 4.302653 with 2 degrees of freedom
    found = interval([1.0, 2.0, 3.0])
    assert (found.low, found.high) == (
        pytest.approx(2 - 4.302653 / math.sqrt(3), rel=1e-6),
        pytest.approx(2 + 4.302653 / math.sqrt(3), rel=1e-6),
    )
    assert interval([4.0]) == Interval(4.0, None, None, 1)
    assert interval([]) is None
    assert interval([math.inf, 1.0]) == Interval(math.inf, None, None, 2)
    equal = interval([0.25] * 5)
    assert (equal.low, equal.high, equal.sign) == (0.25, 0.25, 1)


def test_resamples_do_not_depend_on_what_was_asked_before():
    first = interval([1.0, 4.0, 2.0, 8.0, 5.0, 7.0, 1.5, 3.0, 2.5])
    weights.cache_clear()
    interval([0.0] * 11)
    assert interval([1.0, 4.0, 2.0, 8.0, 5.0, 7.0, 1.5, 3.0, 2.5]) == first


def test_wilcoxon_is_the_share_of_sign_patterns_as_extreme():
    differences = [0.3, -0.1, 0.8, 0.5, 1.2, -0.2, 0.9]
    ranks = np.argsort(np.argsort(np.abs(differences))) + 1
    half = ranks.sum() / 2
    seen = abs(ranks[np.array(differences) > 0].sum() - half)
    sums = [abs(sum(rank for rank, sign in zip(ranks, signs, strict=True) if sign) - half) for signs in itertools.product((0, 1), repeat=7)]
    assert wilcoxon(differences) == pytest.approx(np.mean([one >= seen for one in sums]))
    assert wilcoxon([0.0, 0.0]) == 1.0
    assert wilcoxon([0.0, *differences]) == wilcoxon(differences)


def test_holm_by_hand():
    # sorted .01 .02 .03 .04 times 4 3 2 1 = .04 .06 .06 .04, made monotone
    found = holm([0.04, 0.01, None, 0.03, 0.02])
    assert [one and round(one, 9) for one in found] == [0.06, 0.04, None, 0.06, 0.06]
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_pairs_are_of_the_same_problems_and_better_is_above_0():
    first = {"a": 3.0, "b": 2.0, "c": None, "d": 1.0, "e": math.nan}
    second = {"b": 1.0, "a": 1.0, "c": 9.0, "d": 1.001, "e": 0.0, "f": 7.0}
    found = paired(first, second, higher=True, tie=0.005)
    assert (found.wins, found.ties, found.losses, found.difference.count) == (2, 1, 0, 3)
    assert found.difference.mean == pytest.approx((2 + 1 - 0.001) / 3)
    lower = paired(first, second, higher=False, tie=0.005)
    assert (lower.wins, lower.losses, lower.difference.mean) == (0, 2, pytest.approx(-found.difference.mean))
    assert -lower == paired(second, first, higher=False, tie=0.005)
    assert paired({"a": 1.0}, {"b": 1.0}, higher=True).difference is None
    assert paired({"a": math.inf}, {"a": math.inf}, higher=True).ties == 1


def test_a_common_offset_of_each_problem_does_not_hide_a_difference():
    # Pictures differ by 10 dB, the solvers by .1 on each: the means overlap, the difference is sure.
    table = {"worse": {str(k): 20.0 + k for k in range(10)}, "better": {str(k): 20.1 + k for k in range(10)}}
    found = contest(table, higher=True)
    assert found.best == "better"
    assert found.means["worse"].high > found.means["better"].low
    assert (found.rank("better"), found.rank("worse")) == (1, 2)
    assert found.leaders == ["better"]


def test_no_rank_where_the_interval_holds_0():
    rng = np.random.default_rng(3)
    shifts = {"a": 0.0, "b": 0.05, "c": -9.0}
    table = {name: {str(k): shift + value for k, value in enumerate(rng.standard_normal(12))} for name, shift in shifts.items()}
    found = contest(table, higher=True)
    assert {found.rank("a"), found.rank("b")} == {1}
    assert set(found.leaders) == {"a", "b"}
    assert found.rank("c") == 3
    assert found.corrected["a", "c"] == found.corrected["c", "a"]
    assert contest({"x": {"1": 1.0}, "y": {"1": 0.5}, "z": {}}, higher=True).leaders == [
        "x"
    ]  # one picture: no interval, nothing told apart or tied
    assert contest({}, higher=True).leaders == []


def test_the_front_by_enumeration():
    rng = np.random.default_rng(0)
    entries = [(str(k), float(cost), float(quality)) for k, (cost, quality) in enumerate(rng.integers(0, 6, (40, 2)))]
    kept = front(entries)
    for name, cost, quality in entries:
        better = any(c <= cost and q >= quality and (c, q) != (cost, quality) for _, c, q in entries)
        assert (name in kept) == (not better)
    assert front([("nan", 1.0, math.nan), ("one", 2.0, 1.0)]) == ["one"]


def test_what_a_budget_buys_and_what_a_quality_costs():
    entries = [("free", 0.0, 20.0), ("cheap", 10.0, 23.0), ("dear", 100.0, 24.0), ("waste", 50.0, 22.0)]
    assert within_budget(entries, 60)[0] == "cheap"
    assert within_budget(entries, 5)[0] == "free"
    assert within_budget(entries[1:], 5) is None
    assert cheapest(entries, 22.5)[0] == "cheap"
    assert cheapest(entries, 25) is None
    assert budgets([0.0, 8.0, 30.0, 100.0]) == [0.0, 10.0, 20.0, 50.0, 100.0]
    assert budgets([0.3]) == [0.5]
    assert budgets([]) == []
    assert len(budgets([1e-3, 1e5])) <= 6
    assert budgets([1e-3, 1e5])[-1] == 1e5
