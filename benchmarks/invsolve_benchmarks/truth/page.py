"""The page and the table of a run: truth.md for people, truth.json and truth.csv for everything else."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from invsolve.bench.cells import encode
from invsolve.io.files import write_text
from invsolve_benchmarks.truth.catalogue import CONTROLS
from invsolve_benchmarks.truth.cells import CONTROL_COV, CONTROL_MEAN, EXACT, PRIOR
from invsolve_benchmarks.truth.measures import NAMES

Row = dict[str, Any]
FAMILIES = {"gaussian": "Gaussian", "field": "field 256 x 256", "mixture": "mixtures", "levy": "Levy processes"}
SURE = 2.0  # standard errors by which a control must be beyond before the oracle is doubted
MOMENTS = ("mean", "cov", "trace", "w2")
BOARD: tuple[tuple[str | None, tuple[str, ...]], ...] = (
    ("gaussian", MOMENTS),
    ("field", ("mean", "trace")),
    ("mixture", ("sliced", "weights")),
    ("levy", ("mean", "sliced")),
    (None, ("in50", "in90")),
)
COLUMNS = ("solver", "problem", "family", "budget", "status", "reason", "nfe", "backward", "steps", "law", "chains", "seconds")

EXPLAINED = """Every solver as it comes, with its number of steps set so that an answer takes the evaluations in the column NFE, on
problems whose posterior is known: {problems} of them, {draws} draws of (x, y) each. A figure is the mean over the draws ± its
standard error.

- **mean**: |m - m_y| / sqrt(tr C_y), the error of the mean in posterior standard deviations, root mean square; sampling noise taken off.
- **gap**: what that costs in squared error over the least possible (that of the posterior mean), in dB.
- **cov**: |C - C_y| / |C_y| (Frobenius), sampling noise taken off. **trace**: tr C / tr C_y, below 1 where the draws are too alike.
- **W2**: Wasserstein-2 distance / sqrt(tr C_y) of Gaussians of the same moments: exact where law is "exact", else that of N draws less
  what N exact draws have.
- **sliced**: sliced Wasserstein-1 distance over its floor, that of two sets of as many exact draws: 1 is perfect.
- **weights**: total variation between the weights of the modes. **in 50, in 90**: shares of exact draws inside the central intervals of
  the solver's, 50 and 90 % for many draws (row "{exact}": what as few have). **ranks**: largest deviation of ranks from uniform.
- **law**: "exact" where the answer is affine in what is drawn, so that its law was taken without sampling; a number where it was sampled,
  so many draws for each y; "point" where nothing is drawn, and only the mean is compared.

Row "{exact}" is the floor: draws of the posterior itself. "{prior}" looks at no y. A blank is a figure that cannot be had."""


HELD = """The controls solve with as many products with H C H^T as y has entries, and start at a noise of 20, where the solvers as they come
take 4 (mmps) or 1 (ot-ode) and start at 20 s0 = 5: that is 2.7 times the spread of the widest direction of the smooth fields, and no
number of steps takes away what is missed there (ot-ode on smooth dense 0.005: .12 s.d. of the mean from 5 on at 100 and at 250, .03 from
20 on). What is left is the grid: mmps draws noise by a first-order step, and its covariance comes nearer with more of them. They run where
y has 16 entries at most; where it has 108 or 144 as many products are too dear for this run. Of laws that are sampled, a
covariance from 96 draws is uncertain by .05 to .1 (mmps on smooth dense 0.005 at 250: .17; .06 and .08 with two other seeds)."""


def write_pages(rows: list[Row], out: Path, title: str, command: str, note: str = "") -> Path:
    """truth.md, truth.json and truth.csv in a folder; the path of the page. A note says what the command does not."""
    write_text(out / "truth.json", json.dumps(encode(rows), indent=0, allow_nan=False) + "\n")
    write_text(out / "truth.csv", table(rows))
    path = out / "truth.md"
    write_text(path, page(rows, title, command, note))
    return path


def table(rows: list[Row]) -> str:
    """A line per cell, each figure with its standard error in the next column."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*COLUMNS, *(f"{name}{end}" for name in NAMES for end in ("", "_se"))])
    for row in rows:
        figures = [[f"{part:.5g}" for part in figure(row, name) or ()] or ["", ""] for name in NAMES]
        writer.writerow([*(row.get(name, "") for name in COLUMNS), *(part for pair in figures for part in pair)])
    return out.getvalue()


def page(rows: list[Row], title: str, command: str, note: str = "") -> str:
    """The page."""
    done = [row for row in rows if row["status"] == "done"]
    problems = list(dict.fromkeys(row["problem"] for row in rows))
    draws = max((row["draws"] for row in done), default=0)
    explained = EXPLAINED.format(problems=len(problems), draws=draws, exact=EXACT, prior=PRIOR)
    parts = [
        f"# {title}",
        f"Made by `{command}`." + (f" {note}" if note else ""),
        explained,
        *leaderboard(done),
        *control(done),
        *per_problem(rows, problems),
        *unsaid(rows),
    ]
    return "\n\n".join(parts) + "\n"


def leaderboard(done: list[Row]) -> list[str]:
    """A row for every solver and number of evaluations: means over the problems of a family; a table for those ranked on the same ones."""
    ranked, ends = [row for row in done if row["solver"] not in CONTROLS], bounds(done)
    tables: dict[frozenset[str], list[tuple[float, tuple[Any, ...], list[Row]]]] = {}
    for key, them in grouped(ranked, ("solver", "budget")).items():
        parts = shares(them, ends)
        tables.setdefault(frozenset(parts), []).append((sum(parts.values()) / len(parts) if parts else 0.0, key, them))
    lines = []
    for problems, rows in sorted(tables.items(), key=lambda pair: (-len(pair[0]), sorted(pair[0]))):
        lines += [f"### {over(problems, len(problems) == len(ends))}", board(sorted(rows, key=lambda one: one[:2]), len(problems))]
    note = (
        "A table for each set of problems that solvers can be ranked on, so that within a table all shares are over the same problems; "
        "rows of two tables are no ranking. The share of the prior's distance that is left is the mean over those problems of "
        "(d - d_floor) / (d_prior - d_floor), d the sliced distance; 0 is exact, 1 no better than not looking; problems where the prior is "
        "nearly as good as exact draws are left out. In brackets: the number of problems that a figure is the mean over, which is that of "
        "the problems where the solver draws, not of all that it takes (third column)."
    )
    return ["## Leaderboard", note, *lines]


def over(problems: frozenset[str], every: bool) -> str:
    """The heading of a table."""
    if not problems:
        return "Not ranked: points, or no problem that tells a solver from the prior"
    if every:
        return f"Ranked on all {len(problems)} problems that tell a solver from the prior"
    return f"Ranked on {len(problems)} problem{'s' if len(problems) > 1 else ''}: {', '.join(sorted(problems))}"


def board(rows: list[tuple[float, tuple[Any, ...], list[Row]]], count: int) -> str:
    """The table of (share over `count` problems, (solver, budget), rows)."""
    columns: list[tuple[str, Callable[[list[Row]], str]]] = []
    for family, names in BOARD:
        for name in names:
            head = f"{FAMILIES[family]}: {name}" if family else name.replace("in", "in ")
            columns.append((head, lambda them, f=family, n=name: counted(*average(them, f, n))))
    heads = ["solver", "NFE", "problems", "share of the prior's distance", *(head for head, _ in columns)]
    lines = [line(heads), "|---" * len(heads) + "|"]
    for mean, (solver, budget), them in rows:
        shown = "" if solver in (EXACT, PRIOR) else str(budget)
        left = counted(mean, count) if count else ""
        lines.append(line([solver, shown, str(len(them)), left, *(of(them) for _, of in columns)]))
    return "\n".join(lines)


def counted(number: float | None, count: int) -> str:
    """A figure and the number of problems that it is the mean over."""
    return f"{told(number)} [{count}]" if count else ""


def grouped(rows: Iterable[Row], names: tuple[str, ...]) -> dict[tuple[Any, ...], list[Row]]:
    """Rows by the values of some columns, in order."""
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in names), []).append(row)
    return found


def figure(row: Row, name: str) -> tuple[float, float] | None:
    """A figure and its error; a stored NaN is text."""
    pair = row.get("measures", {}).get(name)
    return None if pair is None else (float(pair[0]), float(pair[1]))


def value(row: Row, name: str) -> float | None:
    """A figure of a row, if it is a number."""
    pair = figure(row, name)
    return None if pair is None or math.isnan(pair[0]) else pair[0]


def average(rows: list[Row], family: str | None, name: str) -> tuple[float | None, int]:
    """(the mean of a figure over the rows of a family that have it, their number)."""
    found = [value(row, name) for row in rows if family in (None, row["family"])]
    held = [one for one in found if one is not None]
    return (sum(held) / len(held) if held else None), len(held)


def bounds(done: list[Row]) -> dict[str, tuple[float, float]]:
    """The sliced distances of exact draws and of the prior, by problem; none where they are nearly alike: a share of that is noise."""
    ends = {(row["solver"], row["problem"]): value(row, "sliced") for row in done if row["solver"] in (EXACT, PRIOR)}
    found = {}
    for solver, problem in ends:
        low, high = ends.get((EXACT, problem)), ends.get((PRIOR, problem))
        if solver == EXACT and low is not None and high is not None and high > 1.5 * low:
            found[problem] = low, high
    return found


def shares(rows: list[Row], ends: dict[str, tuple[float, float]]) -> dict[str, float]:
    """The share of the prior's sliced distance that is left, by problem."""
    found = {}
    for row in rows:
        d, problem = value(row, "sliced"), row["problem"]
        if d is not None and problem in ends:
            low, high = ends[problem]
            found[problem] = (d - low) / (high - low)
    return found


def told(number: float | None, error: float | None = None) -> str:
    """Two digits after the point, three where it is small; with its error."""
    if number is None or math.isnan(number):
        return ""
    digits = 3 if abs(number) < 0.095 else 2 if abs(number) < 99.5 else 0
    return f"{number:.{digits}f}" if error is None or math.isnan(error) else f"{number:.{digits}f} ± {error:.{digits}f}"


def line(cells: list[str]) -> str:
    """A row of a table."""
    return f"| {' | '.join(one.replace('|', '/') for one in cells)} |"


def surely_above(number: float, error: float, most: float) -> bool:
    """Whether a root is above a bound by SURE standard errors of its square, which is the normal figure: that is 2 root error."""
    return number**2 - SURE * 2 * number * error > most**2


def control(done: list[Row]) -> list[str]:
    """What must be within .1 s.d. and 6 % at its most evaluations, or the oracle is wrong: the controls, and who states such a bias.

    Fewer steps are another thing: what is exact in the limit of many has an error of its grid.
    """
    stated = grouped((row for row in done if row.get("exact") and row["family"] == "gaussian"), ("solver", "problem"))
    claimed = [max(them, key=lambda row: row["budget"]) for them in stated.values()]
    if not claimed:
        return ["## Control", "No solver here claims to be exact for Gaussian priors (`declared_bias` of .1 s.d. and 6 % or less)."]
    beyond = []
    for row in claimed:
        for name, most in (("mean", CONTROL_MEAN), ("cov", CONTROL_COV)):
            number, error = figure(row, name) or (0.0, 0.0)
            if surely_above(number, error, most):
                beyond.append(f"{row['solver']} at {row['budget']} on {row['problem']}: {name} {told(number, error)}")
    names = ", ".join(sorted({row["solver"] for row in claimed}))
    text = f"Exact for Gaussian priors but for their grids: {names}; at the most evaluations that they were given, {len(claimed)} cells"
    verdict = (
        f"all within .1 s.d. and 6 %, or {SURE:g} standard errors of that (of the square, which is the normal figure)."
        if not beyond
        else f"beyond .1 s.d. or 6 % by more than {SURE:g} standard errors:"
    )
    parts = ["## Control", f"{text}, {verdict}", *(["\n".join(f"- {one}" for one in beyond)] if beyond else []), errors_of(stated)]
    return [*parts, HELD] if any(solver in CONTROLS for solver, _ in stated) else parts


def errors_of(stated: dict[tuple[Any, ...], list[Row]]) -> str:
    """A table of the controls' errors at every number of evaluations."""
    lines = [line(["control", "problem", "NFE", "back", *(NAMES[name] for name in MOMENTS), "law"]), "|---" * (5 + len(MOMENTS)) + "|"]
    for (solver, problem), them in stated.items():
        for row in sorted(them, key=lambda one: one["budget"]):
            figures = [told(*pair) if (pair := figure(row, name)) else "" for name in MOMENTS]
            law = f"{row['chains']}" if row["law"] == "sampled" else row["law"]
            lines.append(line([solver, problem, str(row["nfe"]), str(row["backward"]), *figures, law]))
    return "\n".join(lines)


def per_problem(rows: list[Row], problems: list[str]) -> list[str]:
    """A table for every problem."""
    parts = ["## By problem"]
    for problem in problems:
        them = [row for row in rows if row["problem"] == problem and row["status"] == "done"]
        names = [name for name in NAMES if any(name in row["measures"] for row in them)]
        lines = [line(["solver", "NFE", "back", *(NAMES[name] for name in names), "law", "CPU s"]), "|---" * (5 + len(names)) + "|"]
        for row in sorted(them, key=lambda row: (row["solver"] not in (EXACT, PRIOR), row["solver"], row["budget"])):
            figures = [told(*pair) if (pair := figure(row, name)) else "" for name in names]
            law = f"{row['chains']}" if row["law"] == "sampled" else row["law"]
            counts = [str(row.get("nfe", "")), str(row.get("backward") or "")]
            lines.append(line([row["solver"], *counts, *figures, law, f"{row['seconds']:.1f}"]))
        parts += [f"### {problem}", "\n".join(lines)]
    return parts


def unsaid(rows: list[Row]) -> list[str]:
    """Who is not in which table, and why."""
    left = [row for row in rows if row["status"] != "done"]
    lines = []
    for (solver, status, reason), them in grouped(left, ("solver", "status", "reason")).items():
        problems = list(dict.fromkeys(row["problem"] for row in them))
        everywhere = len(problems) == len({row["problem"] for row in rows})
        budgets = sorted({row["budget"] for row in them})
        where = "everywhere" if everywhere else "; ".join(problems)
        lines.append(f"- {solver}, {status} ({where}; NFE {', '.join(map(str, budgets))}): {reason}")
    return ["## Not in the tables", "\n".join(lines) if lines else "Every solver took every problem."]
