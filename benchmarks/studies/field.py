"""Every solver on photographs at equal numbers of network evaluations: writes the suite, and the table of a run of it.

    python benchmarks/studies/field.py suite PHOTOS --crop 64 --first 8 --nfe 20 100 --sigma 0.05 --out field.toml
    invsolve bench run field.toml --out runs/field --batch 8
    python benchmarks/studies/field.py table runs/field [runs/more ...] [--out FILE]

Seven tasks: a box, 70 % of the pixels, one half, a Gaussian and a motion blur, 4 x 4 means, noise alone. A solver stands in a column
with as many steps as its evaluations allow, found by counting them on small problems; one that cannot have so few is left out of it.
Solvers that have no steps to set stand in the first column with what they take. Backward passes are counted beside, not as evaluations.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections import defaultdict
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from invsolve_benchmarks.truth.cells import RefusedError, fitted
from invsolve_operators import BlockMean, GaussianBlur, Identity, Mask

from invsolve import GaussianNoise, Problem, registry
from invsolve.bench.export import read_rows
from invsolve.errors import InvsolveError
from invsolve.priors import GaussianPrior
from invsolve.priors.base import Denoiser
from invsolve.solver import Solver

TASKS = """[
    {{ name = "box-mask", label = "box", box = {box} }},
    {{ name = "mask", label = "random 70 %", keep = 0.3 }},
    {{ name = "half-mask", label = "half" }},
    {{ name = "gaussian-blur", label = "Gaussian blur", sigma = 1.6 }},
    {{ name = "motion-blur", label = "motion blur" }},
    {{ name = "block-mean", label = "SR x4", factor = 4 }},
    {{ name = "identity", label = "denoising" }},
]"""
NETWORK = '{ name = "natural", precision = "auto" }'
# TV by the weights of quick's suite: chosen on other photographs, in units of 1 / sigma = 20.
CLASSICAL = {"hqs": "HQS-TV", "pdhg-tv": "PDHG-TV"}
SHAPE = (3, 16, 16)
SKIPPED = ("warm-start",)  # made of others


def small_problems() -> list[Problem]:
    """One of each family of tasks, so that every solver takes one of them."""
    x = torch.rand(1, *SHAPE, generator=torch.Generator().manual_seed(0))
    operators = (Mask(SHAPE, keep=0.5), BlockMean(SHAPE, factor=4), GaussianBlur(SHAPE, sigma=1.6), Identity(SHAPE))
    return [Problem.simulate(operator, x, GaussianNoise(0.05), generator=0) for operator in operators]


def counted(solver: Solver) -> dict[str, int]:
    """What a solve takes, on the first small problem that it takes; most of them, where they differ."""
    found: dict[str, int] = {}
    for problem in small_problems():
        if not solver.mismatches(problem, GaussianPrior()):
            solution = solver.solve(problem, GaussianPrior(), generator=0)
            if solution.nfe >= found.get("nfe", 0):
                found = {"nfe": solution.nfe, "backward": solution.backward, "steps": solution.steps}
    if not found:
        raise RefusedError("it takes none of the tasks")
    return found


def at(solver: Any, budget: int) -> Solver:
    """The solver with as many steps as the evaluations allow.

    Raises:
        RefusedError: there is no such number.
    """
    if "steps" not in {field.name for field in fields(solver)}:
        return solver

    def steps_of(steps: int) -> tuple[Solver, dict[str, int], bool]:
        try:
            one = replace(solver, steps=steps)
        except InvsolveError as error:
            raise RefusedError(str(error)) from error
        return one, counted(one), False

    return fitted(steps_of, budget)[0]


def suite(arguments: argparse.Namespace) -> str:
    """The text of the suite."""
    lines = [
        f'title = "Every solver, {arguments.crop} x {arguments.crop}, noise {arguments.sigma:g}"',
        f'data = {{ folder = "{Path(arguments.photos).resolve()}", crop = {arguments.crop}, first = {arguments.first} }}',
        f"noise = {{ sigma = {arguments.sigma} }}",
        "operator = " + TASKS.format(box=arguments.crop * 3 // 8),
    ]
    for name, label in CLASSICAL.items():
        lines += [
            "",
            "[[solver]]",
            f'name = "{name}"',
            f'label = "{label}"',
            f'prior = {{ name = "tv", weight = {0.2 / arguments.sigma} }}',
        ]
    for entry in registry().of("solver"):
        cls = entry.load()
        wanted = not arguments.only or entry.name in arguments.only
        if entry.name in SKIPPED or not wanted or not cls.requires.measurement or not issubclass(Denoiser, cls.requires.prior):
            continue
        seen = set()
        for budget in arguments.nfe:
            try:
                solver: Any = at(cls(), budget)
            except RefusedError as error:
                print(f"{entry.name} at {budget}: {error}")
                continue
            if solver in seen:
                continue
            seen.add(solver)
            lines += ["", "[[solver]]", f'name = "{entry.name}"', f'label = "{entry.name} @ {budget}"', f"prior = {NETWORK}"]
            lines += [f"steps = {solver.steps}"] if hasattr(solver, "steps") else []
    return "\n".join(lines) + "\n"


def cell(values: list[float], digits: int) -> str:
    """Mean and standard error."""
    if not values:
        return ""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return f"{statistics.mean(values):.{digits}f} ({error:.{digits}f})" if len(values) > 1 else f"{values[0]:.{digits}f}"


def table(rows: list[dict[str, Any]]) -> str:
    """PSNR and HaarPSI of every solver and task, the best of a task first by its mean over the tasks that it takes."""
    tasks = list(dict.fromkeys(row["operator"] for row in rows))
    out = []
    for metric, digits in (("psnr", 2), ("haarpsi", 3)):
        groups: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        spent: dict[str, tuple[int, int]] = {}
        for row in rows:
            if (row["metrics"] or {}).get(metric) is not None:
                groups[row["solver"]][row["operator"]].append(row["metrics"][metric])
                spent[row["solver"]] = (row["nfe"], row["backward"])
        best = {task: max(statistics.mean(them[task]) for them in groups.values() if task in them) for task in tasks}

        def behind(label: str, groups: Any = groups, best: Any = best) -> float:
            return statistics.mean(best[task] - statistics.mean(values) for task, values in groups[label].items())

        out += [
            f"## {metric}",
            "",
            "| solver | NFE | backward | " + " | ".join(tasks) + " | behind the best |",
            "|---" * (len(tasks) + 4) + "|",
        ]
        for label in sorted(groups, key=behind):
            numbers = " | ".join(cell(groups[label].get(task, []), digits) for task in tasks)
            out.append(f"| {label} | {spent[label][0]} | {spent[label][1]} | {numbers} | {behind(label):.{digits}f} |")
        out.append("")
    failed = sorted({(row["solver"], row["operator"], row["status"]) for row in rows if row["status"] in ("failed", "diverged")})
    out += ["Failed: " + ("none" if not failed else "; ".join(" ".join(one) for one in failed)), ""]
    return "\n".join(out)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("suite")
    one.add_argument("photos")
    one.add_argument("--crop", type=int, default=64)
    one.add_argument("--first", type=int, default=8)
    one.add_argument("--nfe", type=int, nargs="+", default=[20, 100])
    one.add_argument("--sigma", type=float, default=0.05)
    one.add_argument("--only", nargs="*", default=[])
    one.add_argument("--out", default="field.toml")
    two = commands.add_parser("table")
    two.add_argument("run", nargs="+")
    two.add_argument("--out")
    arguments = parser.parse_args()
    if arguments.command == "suite":
        Path(arguments.out).write_text(suite(arguments))
        return
    text = table([row for run in arguments.run for row in read_rows(Path(run))])
    if arguments.out:
        Path(arguments.out).write_text(text)
    print(text)


if __name__ == "__main__":
    main()
