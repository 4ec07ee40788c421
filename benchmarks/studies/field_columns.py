"""Runs of `field.py`'s suites as one paired table, a column for every size, noise and number of evaluations.

    for each size, noise and budget: field.py suite ... --out field.toml; invsolve bench run field.toml --out runs/NAME --batch 8
    python benchmarks/studies/field_columns.py runs/A runs/B ... [--out FILE]

All runs of one size, noise and picture share y: the draw depends on the suite's name (field), the operator and the picture alone, and a
y that differs is refused here. Differences are of the same picture, task and evaluations; their error is over pictures.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections import defaultdict
from pathlib import Path

from invsolve.bench.export import read_rows
from invsolve.errors import InputError

Where = tuple[int, float]  # side, sigma
REFERENCE = "diffpir"
ORDERS = (
    ("DPS above Score-ALD", ("dps", None), ("score-ald", None)),
    ("Score-ALD above SDEdit", ("score-ald", None), ("sdedit", None)),
    ("CoPaint above RePaint", ("copaint", None), ("repaint", None)),
    ("CoPaint-TT above CoPaint", ("copaint-tt", None), ("copaint", None)),
    ("DiffPIR at 20 above DPS at 1000", ("diffpir", 20), ("dps", 1000)),
    ("DiffPIR at 100 above DPS at 1000", ("diffpir", 100), ("dps", 1000)),
)


class Runs:
    """A metric by (side, sigma), solver, evaluations, task and picture."""

    def __init__(self, folders: list[Path], metric: str) -> None:
        self.digits = {"psnr": 2, "haarpsi": 3}[metric]
        self.values: dict[tuple[Where, str, int], dict[tuple[str, str], float]] = defaultdict(dict)
        self.tasks: list[str] = []
        measured: dict[tuple[Where, str, str], str] = {}
        for folder in folders:
            about = json.loads((folder / "run.json").read_text(encoding="utf-8"))["suite"]
            where = (int(about["data"]["crop"]), float(about["noise"]["sigma"]))
            for row in read_rows(folder):
                key = (where, row["operator"], row["image"])
                if measured.setdefault(key, row["y_sha256"]) != row["y_sha256"]:
                    raise InputError(
                        f"{folder}: y of {key} is another one than in the runs before; the suite's file must be called field.toml"
                    )
                solver, _, budget = row["solver"].partition(" @ ")
                if (row["metrics"] or {}).get(metric) is not None:
                    self.values[where, solver, int(budget or 0)][row["operator"], row["image"]] = row["metrics"][metric]
                    if row["operator"] not in self.tasks:
                        self.tasks.append(row["operator"])

    @property
    def places(self) -> list[tuple[Where, int]]:
        """(side and sigma, evaluations) of the columns."""
        return sorted({(where, budget) for where, _, budget in self.values if budget})

    def of(self, where: Where, solver: str, budget: int) -> dict[tuple[str, str], float]:
        """By task and picture; a solver without evaluations has one entry for all budgets."""
        return self.values.get((where, solver, budget)) or self.values.get((where, solver, 0)) or {}

    @property
    def solvers(self) -> list[str]:
        """By name."""
        return sorted({solver for _, solver, _ in self.values})


def paired(one: dict[tuple[str, str], float], two: dict[tuple[str, str], float]) -> tuple[float, float, int] | None:
    """Mean over pictures of the mean difference over the tasks that both have, its standard error, and the number of tasks."""
    shared = sorted(one.keys() & two.keys())
    if not shared:
        return None
    pictures: dict[str, list[float]] = defaultdict(list)
    for key in shared:
        pictures[key[1]].append(one[key] - two[key])
    means = [statistics.mean(values) for values in pictures.values()]
    error = statistics.stdev(means) / math.sqrt(len(means)) if len(means) > 1 else math.nan
    return statistics.mean(means), error, len({task for task, _ in shared})


def told(found: tuple[float, float, int] | None, runs: Runs) -> str:
    """With its error, and the number of tasks where it is not all of them."""
    if found is None:
        return ""
    tasks = "" if found[2] == len(runs.tasks) else f" [{found[2]}]"
    return f"{found[0]:+.{runs.digits}f} ({found[1]:.{runs.digits}f}){tasks}"


def head(first: list[str], runs: Runs) -> list[str]:
    """The head of a table with a column for every place."""
    names = [f"{side}, {sigma:g}: {budget}" for (side, sigma), budget in runs.places]
    return [f"| {' | '.join([*first, *names])} |", "|---" * (len(first) + len(names)) + "|"]


def summary(runs: Runs) -> list[str]:
    """Every solver's paired difference to the reference at the same evaluations, and the reference itself."""
    out = [f"## PSNR above `{REFERENCE}` at the same evaluations, mean over the tasks (number of them if not all)", ""]
    out += head(["solver"], runs)
    for solver in runs.solvers:
        cells = []
        for where, budget in runs.places:
            values, reference = runs.of(where, solver, budget), runs.of(where, REFERENCE, budget)
            if solver == REFERENCE:
                cells.append(f"{statistics.mean(values.values()):.2f}" if values else "")
            else:
                cells.append(told(paired(values, reference), runs))
        out.append(f"| {solver}{' (PSNR)' if solver == REFERENCE else ''} | {' | '.join(cells)} |")
    return [*out, ""]


def whole(runs: Runs) -> list[str]:
    """The mean PSNR of every task, solver and column."""
    out = ["## PSNR by task", "", *head(["task", "solver"], runs)]
    for task in runs.tasks:
        for solver in runs.solvers:
            cells = []
            for where, budget in runs.places:
                values = [value for (name, _), value in runs.of(where, solver, budget).items() if name == task]
                cells.append(f"{statistics.mean(values):.2f}" if values else "")
            if any(cells):
                out.append(f"| {task} | {solver} | {' | '.join(cells)} |")
    return [*out, ""]


def verdict(found: tuple[float, float, int] | None) -> str:
    """Whether a difference is above 0, by two standard errors."""
    if found is None:
        return ""
    return "seen " if found[0] > 2 * found[1] else "reversed " if found[0] < -2 * found[1] else "unsure "


def orders(runs: Runs, title: str) -> list[str]:
    """The orders that papers state, as paired differences: seen where they are above 0 by two standard errors."""
    places = [place for place in runs.places if place[1] != 1000]
    names = [f"{side}, {sigma:g}: {budget}" for (side, sigma), budget in places]
    out = [f"## The papers' orders, {title}", "", f"| order | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for label, (better, own), (worse, other) in ORDERS:
        cells = []
        for where, budget in places:
            if own not in (None, budget):
                cells.append("")
                continue
            found = paired(runs.of(where, better, own or budget), runs.of(where, worse, other or budget))
            cells.append(verdict(found) + told(found, runs))
        out.append(f"| {label} | {' | '.join(cells)} |")
    return [*out, ""]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="+", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    runs, perceived = (Runs(arguments.run, metric) for metric in ("psnr", "haarpsi"))
    text = "\n".join([*summary(runs), *orders(runs, "PSNR"), *orders(perceived, "HaarPSI"), *whole(runs)])
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
