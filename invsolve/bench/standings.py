"""A run's rows as contests: who stands where on each operator by each metric, and at what cost."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from invsolve.bench.export import Line, lines
from invsolve.bench.fairness import UNFINISHED
from invsolve.bench.kinds import KINDS, kind_of
from invsolve.bench.numbers import Times, timed
from invsolve.bench.pareto import Entry, front
from invsolve.bench.statistics import Contest, Paired, Values, contest

# (column of a row, heading, heading in short, digits)
COSTS = (
    ("nfe", "network evaluations per picture", "NFE", 0),
    ("seconds", "seconds per picture", "s", 2),
    ("peak_bytes", "peak memory", "MiB", 0),
)
FAILED = UNFINISHED


@dataclass(frozen=True)
class Board:
    """One operator.

    Args:
        operator: its label.
        lines: its solvers, in the order of the suite.
        kinds: sort of method by solver.
        contests: by the name of the metric, for those that rank.
        costs: mean cost by its column, then by solver; only what was measured. Of seconds that were taken several times the median.
        times: spread of those seconds by solver.
    """

    operator: str
    lines: list[Line]
    kinds: Mapping[str, str]
    contests: Mapping[str, Contest]
    costs: Mapping[str, Mapping[str, float]]
    times: Mapping[str, Times] = field(default_factory=dict)

    def line(self, solver: str) -> Line:
        """The line of a solver."""
        return next(line for line in self.lines if line.solver == solver)

    def entries(self, metric: str, cost: str, *, higher: bool, kind: str = "") -> list[Entry]:
        """(solver, cost, quality) of those that have both, quality with more being better; of one sort of method, or of all."""
        means = self.contests[metric].means
        sign = 1 if higher else -1
        known = self.costs.get(cost, {})
        return [(name, known[name], sign * means[name].mean) for name in means if name in known and kind in ("", self.kinds[name])]

    def front(self, metric: str, cost: str, *, higher: bool) -> list[str]:
        """The solvers that none beats in quality and cost, cheapest first."""
        return front(self.entries(metric, cost, higher=higher))


def ranking(run: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The metrics that can rank solvers: a value per picture, and a direction."""
    return {name: one for name, one in run["metrics"].items() if not one["of_sets"] and one["higher"] is not None}


def tie(metric: Mapping[str, Any]) -> float:
    """Half of the last digit that tables show."""
    return 0.5 * 10.0 ** -metric["digits"]


def boards(run: Mapping[str, Any], rows: Sequence[dict[str, Any]]) -> list[Board]:
    """The operators that have rows, in the order of the suite."""
    labels = [entry["label"] for entry in run["suite"]["operator"]]
    present = {row["operator"] for row in rows}
    return [board(run, [row for row in rows if row["operator"] == label], label) for label in labels if label in present]


def board(run: Mapping[str, Any], rows: Sequence[dict[str, Any]], operator: str) -> Board:
    """One operator; rows are its own."""
    kinds = {row["solver"]: kind_of(row["solver_name"], row["prior"]) for row in rows}
    found = {
        name: contest({solver: values(rows, solver, name) for solver in kinds}, higher=one["higher"], tie=tie(one))
        for name, one in ranking(run).items()
    }
    times = {solver: one for solver in kinds if (one := timed(row for row in rows if row["solver"] == solver)) is not None}
    costs = {name: spent for name, *_ in COSTS if (spent := cost(rows, name))}
    if times:
        costs["seconds"] = costs.get("seconds", {}) | {solver: one.mean for solver, one in times.items()}
    return Board(operator, lines(list(rows), operator, dict(run)), kinds, found, costs, times)


def values(rows: Sequence[Mapping[str, Any]], solver: str, metric: str) -> Values:
    """A solver's number by picture, of several seeds their mean (they are no further pictures); None where there is none."""
    found: dict[str, list[float | None]] = {}
    for row in rows:
        if row["solver"] == solver:
            found.setdefault(row["image"], []).append(None if row["status"] in FAILED else row["metrics"].get(metric))
    known = {image: [one for one in several if one is not None] for image, several in found.items()}
    return {image: statistics.fmean(known[image]) if len(known[image]) == len(several) else None for image, several in found.items()}


def cost(rows: Sequence[Mapping[str, Any]], column: str) -> dict[str, float]:
    """Mean cost of each solver that has one."""
    out = {}
    for solver in dict.fromkeys(row["solver"] for row in rows):
        known = [row[column] for row in rows if row["solver"] == solver and row["status"] not in FAILED and row.get(column) is not None]
        if known:
            out[solver] = math.fsum(known) / len(known)
    return out


def from_best(found: Contest, solver: str) -> Paired | None:
    """How far a solver is from the best one, seen from it: below 0 is worse; None for the best, and for one without numbers."""
    return None if solver == found.best or solver not in found.means else found.pairs[solver, found.best]


def order(everything: Sequence[Board], metric: str) -> list[tuple[str, str]]:
    """(solver, kind) of all boards: by sort of method, then by mean rank under a metric, then as the suite has them."""
    kinds = {solver: kind for board in everything for solver, kind in board.kinds.items()}
    place = {solver: index for index, solver in enumerate(kinds)}

    def mean_rank(solver: str) -> float:
        ranks = [held.rank(solver) for board in everything if (held := board.contests.get(metric)) and solver in held.means]
        return math.fsum(ranks) / len(ranks) if ranks else math.inf

    return sorted(kinds.items(), key=lambda pair: (KINDS.index(pair[1]), mean_rank(pair[0]), place[pair[0]]))


def leads(everything: Sequence[Board], metric: str, solver: str) -> int:
    """On how many operators no other solver is surely better."""
    return sum(solver in held.means and held.rank(solver) == 1 for board in everything if (held := board.contests.get(metric)))
