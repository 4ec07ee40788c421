"""Two runs side by side: what changed in the numbers, on the same measurements, and what differs in how they were made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from invsolve.bench.export import read_rows, read_run
from invsolve.bench.numbers import overlapping, timed
from invsolve.bench.standings import FAILED, ranking, tie
from invsolve.bench.statistics import LEVEL, Paired, paired
from invsolve.bench.table import plain
from invsolve.bench.verdicts import between, signed

Row = dict[str, Any]


@dataclass(frozen=True)
class Change:
    """A solver on an operator by one metric: the second run against the first.

    Args:
        operator, solver, metric: labels.
        change: better is above 0, picture by picture.
        digits: decimals shown.
    """

    operator: str
    solver: str
    metric: str
    change: Paired
    digits: int

    @property
    def verdict(self) -> str:
        """In a word."""
        found = self.change.difference
        if found is None or found.low is None:
            return "no interval"
        if found.low == found.high == 0:
            return "equal"
        return {1: "better", -1: "worse", 0: "not told apart"}[self.change.sign]


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    Args:
        first, second: folders.
        pairs: answers of the same solver to the same measurement.
        equal: how many of those are equal to the bit.
        alone: (answers of the first run alone, of the second run alone): another measurement, solver or picture.
        changes: by operator, solver and metric.
        times: (operator, solver, seconds of the second over the first, geometric mean over pictures).
        statuses: (operator, solver, picture, first status, second status), where it changed.
        differing: (what, in the first, in the second) of versions, hardware and settings.
        level: (operator, solver) of those times that are not told apart: the spreads of their repeats overlap.
    """

    first: str
    second: str
    pairs: int
    equal: int
    alone: tuple[int, int]
    changes: list[Change]
    times: list[tuple[str, str, float]]
    statuses: list[tuple[str, str, str, str, str]]
    differing: list[tuple[str, str, str]]
    level: list[tuple[str, str]] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "changes": [{**asdict(one), "verdict": one.verdict} for one in self.changes]}

    def text(self) -> str:
        """For a terminal."""
        out = [f"{self.first} against {self.second}: {self.pairs} answers to the same measurements, {self.equal} of them equal to the bit"]
        if any(self.alone):
            out.append(f"not compared, for the other run has no such measurement and solver: {self.alone[0]} and {self.alone[1]}")
        out += ["", "what differs:" if self.differing else "versions, hardware and settings are the same"]
        out += [f"  {what}: {one} -> {other}" for what, one, other in self.differing]
        out += ["", f"second minus first, plus is better ({100 * LEVEL:.0f} % interval; wins / ties / losses):"] if self.changes else []
        for one in self.changes:
            found = one.change.difference
            number = "" if found is None else f"{signed(found.mean, one.digits)} {between(found, one.digits)}"
            tally = f"{one.change.wins} / {one.change.ties} / {one.change.losses}"
            out.append(f"  {one.operator}, {one.solver}, {one.metric}: {number}  {tally}  {one.verdict}")
        out += ["", "seconds, second over first:"] if self.times else []
        for operator, solver, ratio in self.times:
            told = ", not told apart: the spreads of the repeats overlap" if (operator, solver) in self.level else ""
            out.append(f"  {operator}, {solver}: x {ratio:.2f}{told}")
        out += ["", "status:"] if self.statuses else []
        out += [f"  {operator}, {solver}, {image}: {one} -> {other}" for operator, solver, image, one, other in self.statuses]
        return "\n".join(plain(line) for line in out) + "\n"


def compare(first: str | Path, second: str | Path) -> Comparison:
    """Compare two runs: answers of the same solver to the same measurement (by its SHA-256) are a pair.

    Raises:
        InputError: a folder holds no run.
    """
    runs = read_run(first), read_run(second)
    rows = read_rows(first), read_rows(second)
    found = [{key: row for row in many if (key := (row["y_sha256"], row["solver"]))[0] is not None} for many in rows]
    pairs = [(row, found[1][key]) for key, row in found[0].items() if key in found[1]]
    alone = len(rows[0]) - len(pairs), len(rows[1]) - len(pairs)
    equal = sum(one["x_sha256"] is not None and one["x_sha256"] == other["x_sha256"] for one, other in pairs)
    statuses = [
        (one["operator"], one["solver"], one["image"], one["status"], other["status"])
        for one, other in pairs
        if one["status"] != other["status"]
    ]
    kept = changes(runs[0], runs[1], pairs), times(pairs), statuses, differing(runs[0], runs[1], pairs)
    return Comparison(str(first), str(second), len(pairs), equal, alone, *kept, level(pairs))


def grouped(pairs: Sequence[tuple[Row, Row]]) -> dict[tuple[str, str], list[tuple[Row, Row]]]:
    """Pairs by operator and solver, labels of the first run."""
    out: dict[tuple[str, str], list[tuple[Row, Row]]] = {}
    for one, other in pairs:
        out.setdefault((one["operator"], one["solver"]), []).append((one, other))
    return out


def changes(first: Row, second: Row, pairs: Sequence[tuple[Row, Row]]) -> list[Change]:
    """By the metrics that both runs have, computed in the same way."""
    shared = {name: one for name, one in ranking(first).items() if ranking(second).get(name, {}).get("settings") == one["settings"]}
    out = []
    for (operator, solver), many in grouped(pairs).items():
        for name, one in shared.items():
            values = [
                {row["y_sha256"]: None if row["status"] in FAILED else row["metrics"].get(name) for row in side}
                for side in zip(*many, strict=True)
            ]
            found = paired(values[1], values[0], higher=one["higher"], tie=tie(one))
            if found.difference is not None:
                out.append(Change(operator, solver, one["label"], found, one["digits"]))
    return out


def times(pairs: Sequence[tuple[Row, Row]]) -> list[tuple[str, str, float]]:
    """Geometric means of the ratios of seconds: of the medians where both runs were timed again, else of those while computing."""
    out = []
    for (operator, solver), many in grouped(pairs).items():
        again = [pair for pair in many if all(row.get("timings") for row in pair)]
        name = "seconds_median" if again else "seconds"
        logs = [math.log(other[name] / one[name]) for one, other in again or many if one[name] and other[name]]
        if logs:
            out.append((operator, solver, math.exp(math.fsum(logs) / len(logs))))
    return out


def level(pairs: Sequence[tuple[Row, Row]]) -> list[tuple[str, str]]:
    """Whose repeated seconds overlap, over the pictures that both runs have timed again."""
    out = []
    for name, many in grouped(pairs).items():
        again = [pair for pair in many if all(row.get("timings") for row in pair)]
        if again and overlapping(*(timed(side) for side in zip(*again, strict=True))):
            out.append(name)
    return out


def differing(first: Row, second: Row, pairs: Sequence[tuple[Row, Row]]) -> list[tuple[str, str, str]]:
    """Versions, hardware, device, batch, seed and the settings of solvers."""
    out = [(name, str(first[name]), str(second[name])) for name in ("seed", "device", "batch", "hardware") if first[name] != second[name]]
    for name in sorted({*first["versions"], *second["versions"]}):
        one, other = (run["versions"].get(name, "none") for run in (first, second))
        if one != other:
            out.append((name, one, other))
    for name in {*first["metrics"], *second["metrics"]}:
        one, other = (run["metrics"].get(name, {}).get("settings", "not taken") for run in (first, second))
        if one != other:
            out.append((f"metric {name}", one, other))
    settings = [
        (f"{one['operator']}, {one['solver']}: {what}", str(one[key]), str(other[key]))
        for one, other in pairs
        for key, what in (("config", "settings"), ("prior", "prior"), ("dtype", "dtype"))
        if one[key] != other[key]
    ]
    return out + list(dict.fromkeys(settings))
