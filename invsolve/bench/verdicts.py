"""What a report says in words and tables: who won where, what a budget buys, what a quality costs, and what did not work."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from invsolve.bench.figures import nice
from invsolve.bench.kinds import side
from invsolve.bench.numbers import overlapping
from invsolve.bench.pareto import Entry, budgets, cheapest, within_budget
from invsolve.bench.standings import COSTS, FAILED, Board, from_best, leads, order
from invsolve.bench.statistics import Interval, Paired

Metric = Mapping[str, Any]
MINUS = "\N{MINUS SIGN}"
GLYPH = 120  # pixels of a cell's interval, the best at SEAT
SEAT = 96
PAIRED = 16  # more solvers than this make the table of all pairs one that nobody reads


def signed(value: float, digits: int) -> str:
    """`+0.12`, with a true minus; 0 has no sign."""
    text = f"{abs(value):.{digits}f}"
    return text if not float(text) else ("+" if value > 0 else MINUS) + text


def between(found: Interval, digits: int) -> str:
    """`[-0.30, +0.10]`, "" without an interval."""
    return "" if found.low is None or found.high is None else f"[{signed(found.low, digits)}, {signed(found.high, digits)}]"


def number(value: float, digits: int) -> str:
    """A value; infinity as a word."""
    return f"{value:.{digits}f}" if math.isfinite(value) else str(value)


def price(column: str, value: float | None) -> str:
    """A cost with its unit."""
    if value is None:
        return ""
    if column == "nfe":
        return f"{value:.0f} NFE"
    if column == "seconds":
        return f"{value:.2g} s" if value < 10 else f"{value:.0f} s"
    return f"{value / 2**20:.0f} MiB"


def card(board: Board, name: str, metric: Metric) -> dict[str, Any] | None:
    """Who won on an operator, whether that is sure, and what it cost; None where nobody has a number."""
    found, digits = board.contests[name], metric["digits"]
    if not found.best:
        return None
    leaders = [one for one in found.leaders if one != found.best]
    rival = next((one for one in found.names if side(board.kinds[one]) not in ("", side(board.kinds[found.best]))), None)
    spent, times = board.costs.get("seconds", {}), board.times
    apart = [one for one in found.leaders if one == found.best or not overlapping(times.get(one), times.get(found.best))]
    cheap = min((one for one in apart if one in spent), key=lambda one: spent[one], default=None)
    return {
        "operator": board.operator,
        "best": found.best,
        "kind": board.kinds[found.best],
        "mean": number(found.means[found.best].mean, digits),
        "count": found.means[found.best].count,
        "level": leaders,
        "others": len(found.names) - 1,
        "alone": not leaders and all(found.pairs[found.best, one].sign > 0 for one in found.names[1:]),
        "cost": costs(board, found.best),
        "cheap": None if cheap in (None, found.best) else {"name": cheap, "kind": board.kinds[cheap], "cost": costs(board, cheap)},
        "rival": None if rival is None else versus(board, name, rival, digits),
    }


def costs(board: Board, solver: str) -> str:
    """What a solver cost, in a line."""
    known = [column for column in ("nfe", "seconds") if solver in board.costs.get(column, {})]
    return " · ".join(paid_by(board, solver, column, board.costs[column][solver]) for column in known)


def paid_by(board: Board, solver: str, column: str, value: float) -> str:
    """A cost with its unit, and with the spread of seconds that were taken several times."""
    known = board.times.get(solver) if column == "seconds" else None
    return price(column, value) + ("" if known is None else f" [{known.low:.3g}, {known.high:.3g}]")


def versus(board: Board, metric: str, solver: str, digits: int) -> dict[str, Any]:
    """The best of the other side against the winner."""
    found, gap = board.contests[metric], board.contests[metric].pairs[solver, board.contests[metric].best]
    return {
        "name": solver,
        "kind": board.kinds[solver],
        "side": side(board.kinds[solver]),
        "mean": number(found.means[solver].mean, digits),
        "gap": "" if gap.difference is None else signed(gap.difference.mean, digits),
        "interval": "" if gap.difference is None else between(gap.difference, digits),
        "sure": gap.sign < 0,
        "told": gap.difference is not None and gap.difference.low is not None,
    }


def matrix(everything: Sequence[Board], name: str, metric: Metric) -> list[dict[str, Any]]:
    """A row a solver, a cell an operator."""
    scales = [scale(board, name) for board in everything]
    rows = []
    for solver, kind in order(everything, name):
        cells = [cell(board, name, solver, metric, most) for board, most in zip(everything, scales, strict=True)]
        spent = {
            column: [board.costs[column][solver] for board in everything if solver in board.costs.get(column, {})] for column, *_ in COSTS
        }
        means = {column: math.fsum(known) / len(known) if known else None for column, known in spent.items()}
        rows.append(
            {
                "solver": solver,
                "kind": kind,
                "cells": cells,
                "leads": leads(everything, name, solver),
                "costs": {column: {"value": value, "short": price(column, value).split(" ")[0] or "-"} for column, value in means.items()},
            }
        )
    return rows


def scale(board: Board, metric: str) -> float:
    """How far from the best a cell's drawing reaches: as far as three quarters of the solvers."""
    gaps = sorted(
        abs(gap.difference.mean)
        for one in board.contests[metric].names
        if (gap := from_best(board.contests[metric], one)) and gap.difference
    )
    finite = [gap for gap in gaps if math.isfinite(gap)]
    return (finite[(3 * len(finite)) // 4] if finite else 0.0) * 1.15 or 1.0


def cell(board: Board, name: str, solver: str, metric: Metric, most: float) -> dict[str, Any]:
    """One cell: the mean, the difference from the best with its interval, whether it is told apart."""
    found, digits = board.contests[name], metric["digits"]
    if solver not in found.means:
        line = next((line for line in board.lines if line.solver == solver), None)
        return {
            "state": "none",
            "text": "-" if line is None else line.status if line.reason else "no number",
            "title": "" if line is None else line.reason,
            "value": None,
        }
    mean, gap = found.means[solver], from_best(found, solver)
    whole = {"text": number(mean.mean, digits), "value": mean.mean, "rank": found.rank(solver), "count": mean.count}
    if gap is None:
        return {**whole, "state": "best", "gap": "best", "interval": "", "glyph": None, "title": f"best mean of {mean.count} pictures"}
    state = "level" if found.level(solver) else "below"
    difference = gap.difference
    if difference is None or difference.low is None:
        return {
            **whole,
            "state": "below",
            "gap": "" if difference is None else signed(difference.mean, digits),
            "interval": "",
            "glyph": None,
            "title": "no interval",
        }
    p = found.corrected[solver, found.best]
    tally = f"{gap.wins} wins, {gap.ties} ties, {gap.losses} losses; corrected p {p:.2g}"
    title = f"{solver} {MINUS} {found.best}: {signed(difference.mean, digits)} {between(difference, digits)}; {tally}"
    return {
        **whole,
        "state": state,
        "gap": signed(difference.mean, digits),
        "interval": between(difference, digits),
        "glyph": glyph(difference, most),
        "title": title,
    }


def glyph(difference: Interval, most: float) -> dict[str, float]:
    """Pixels of a difference's interval, cut at the ends of the drawing."""

    def at(value: float) -> float:
        return round(min(GLYPH - 2.0, max(2.0, SEAT + value / most * (SEAT - 8))), 1)

    assert difference.low is not None
    assert difference.high is not None
    return {"low": at(difference.low), "mid": at(difference.mean), "high": at(difference.high)}


def differences(board: Board, name: str, metric: Metric) -> list[dict[str, Any]]:
    """Every solver against the best one, in full."""
    found, digits = board.contests[name], metric["digits"]
    rows = []
    for solver in found.names:
        gap = from_best(found, solver)
        rows.append(
            {
                "solver": solver,
                "kind": board.kinds[solver],
                "rank": found.rank(solver),
                **spelled(found.means[solver], gap, digits),
                "p": found.corrected.get((solver, found.best)),
            }
        )
    return rows


def all_pairs(board: Board, name: str, metric: Metric) -> list[tuple[str, list[dict[str, Any] | None]]]:
    """Every solver against every other one, best first: row minus column, None on the diagonal; [] for more than PAIRED solvers."""
    found, digits = board.contests[name], metric["digits"]
    if len(found.names) > PAIRED:
        return []
    rows = []
    for one in found.names:
        gaps = [None if one == other else found.pairs[one, other] for other in found.names]
        rows.append((one, [None if gap is None else pair(gap, digits) for gap in gaps]))
    return rows


def pair(gap: Paired, digits: int) -> dict[str, Any]:
    """A comparison as a cell."""
    known = gap.difference
    told = "" if known is None else f"{between(known, digits)}; {gap.wins} wins, {gap.ties} ties, {gap.losses} losses"
    return {"text": "-" if known is None else signed(known.mean, digits), "title": told, "sign": gap.sign}


def spelled(mean: Interval, gap: Paired | None, digits: int) -> dict[str, Any]:
    """A mean and a comparison in text."""
    span = "" if mean.low is None or mean.high is None else f"[{mean.low:.{digits}f}, {mean.high:.{digits}f}]"
    known = None if gap is None else gap.difference
    return {
        "mean": number(mean.mean, digits),
        "value": mean.mean,
        "span": span,
        "gap": "" if known is None else signed(known.mean, digits),
        "gap_value": 0.0 if known is None else known.mean,
        "interval": "" if known is None else between(known, digits),
        "tally": "" if gap is None else f"{gap.wins} / {gap.ties} / {gap.losses}",
        "verdict": "best" if gap is None else "worse" if gap.sign < 0 else "better" if gap.sign > 0 else "not told apart",
    }


def bought(board: Board, name: str, column: str, metric: Metric) -> list[dict[str, Any]]:
    """The best of each side within equal budgets."""
    rows = []
    for budget in budgets(board.costs.get(column, {}).values()):
        held = {who: within_budget(of_side(board, name, column, metric, who), budget) for who in ("classical", "diffusion")}
        rows.append(
            {
                "budget": price(column, budget),
                **{who: None if one is None else entry(one, column, metric, board) for who, one in held.items()},
            }
        )
    return rows


def paid(board: Board, name: str, column: str, metric: Metric) -> list[dict[str, Any]]:
    """The cheapest of each side that reaches a quality."""
    rows = []
    for target in targets([found.mean for found in board.contests[name].means.values()], higher=metric["higher"], digits=metric["digits"]):
        aim = target if metric["higher"] else -target
        held = {who: cheapest(of_side(board, name, column, metric, who), aim) for who in ("classical", "diffusion")}
        rows.append(
            {
                "target": number(target, metric["digits"]),
                **{who: None if one is None else entry(one, column, metric, board) for who, one in held.items()},
            }
        )
    return rows


def of_side(board: Board, name: str, column: str, metric: Metric, who: str) -> list[Entry]:
    """The entries of classical or of diffusion methods."""
    return [one for one in board.entries(name, column, higher=metric["higher"]) if side(board.kinds[one[0]]) == who]


def entry(one: Entry, column: str, metric: Metric, board: Board) -> dict[str, str]:
    """A solver with its quality and cost."""
    quality = one[2] if metric["higher"] else -one[2]
    spent = paid_by(board, one[0], column, one[1])
    return {"solver": one[0], "kind": board.kinds[one[0]], "quality": number(quality, metric["digits"]), "cost": spent}


def targets(means: Sequence[float], *, higher: bool, digits: int, count: int = 5) -> list[float]:
    """Round qualities between the best and the middle of what was reached, the hardest first."""
    known = sorted((mean for mean in means if math.isfinite(mean)), reverse=higher)
    if len(known) < 2 or known[0] == known[-1]:
        return []
    best, least = known[0], known[(3 * len(known)) // 4]
    span = abs(best - least) or abs(best - known[-1])
    step = max(nice(span / (count - 1)), 10.0**-digits)
    start = math.floor(best / step) * step if higher else math.ceil(best / step) * step
    out = [round(start - index * step if higher else start + index * step, 10) for index in range(count)]
    worst = known[-1]
    return [one for one in out if (one >= worst - step if higher else one <= worst + step)]


def troubles(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What gave no answer, or not the usual one: (operator, solver, status, reason) with how often."""
    found: dict[tuple[str, str, str, str], int] = {}
    for row in rows:
        if row["status"] in (*FAILED, "diverged", "budget", "stopped"):
            key = (row["operator"], row["solver"], row["status"], row["reason"])
            found[key] = found.get(key, 0) + 1
    totals = (
        {
            (row["operator"], row["solver"]): sum(one["operator"] == row["operator"] and one["solver"] == row["solver"] for one in rows)
            for row in rows
        }
        if found
        else {}
    )
    return [
        {"operator": o, "solver": s, "status": status, "reason": reason, "count": many, "total": totals[o, s]}
        for (o, s, status, reason), many in found.items()
    ]
