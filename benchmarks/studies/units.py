"""Does an answer depend on the unit of y? `python benchmarks/studies/units.py [--quick] [--out benchmarks/results/units.md]`.

The problem (cH, cy, c sigma) has the posterior and the minimisers of (H, y, sigma). Every registered solver solves both, for c = 1e-4 and
1e4, on every registered operator's small examples, with every kind of prior that it takes; networks compute in float64. A cell is the
largest |x_c - x| / max |x| of a family of operators. What is not 1e-6 or less is named below the table with its operator; "inf" is a
problem that is refused in another unit.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from invsolve import Capability, GaussianNoise, Operator, PoissonNoise, Problem, Solver, load_prior
from invsolve.errors import InvsolveError
from invsolve.noise import NoiseModel
from invsolve.operator.measurement import mapped
from invsolve.plugins import registry
from invsolve.priors import TotalVariation
from invsolve.priors.base import Denoiser, Prior, Regulariser
from invsolve.rng import Rng
from invsolve.testing.settings import Setting
from invsolve.testing.units import FACTOR, REST, cheap, gaussian_answer, lengthened, moved_by_response, movement, perturbed, rms

Found = dict[tuple[str, str, str], list[tuple[float, str]]]  # [(figure, operator)] by solver, family and column
FACTORS, ALLOWED, SIGMA = (1e-4, 1e4), 1e-6, 0.05
EXACT = (2.0**-13, 2.0**13)  # products with these do not round
DRAWS, ROUNDING = 20, "rounding"
# Steps with a network for the thousandth, where eight are too coarse a grid to say anything of the method: on `separable` of (1, 4, 5),
# natural, score-ald is at 1.2 of what is allowed with 8 steps, .33 with 20, .14 with 50 and .12 with its own 100.
STEPS = {"score-ald": 20}
PIXELS = 320  # more make matrices, whose posteriors are computed densely, slow
PRIORS = ("gaussian", "tv", "dncnn", "natural")
# By a word of the module's path: the folder of the family, or what the core makes of other operators.
FAMILIES = {
    "masks": ("masks",),
    "blurs": ("blurs",),
    "fewer pixels": ("fewer",),
    "colour": ("colour",),
    "transforms": ("transforms", "mri", "radon", "identity"),
    "matrices, compositions": ("matrix", "algebra", "chain", "iterative", "krylov", "physics"),
}


def family(operator: Operator, module: str) -> str:
    """The family of an operator: nonlinear, or that of its module; a preset's by whether it leaves pixels out."""
    if not operator.has(Capability.LINEAR):
        return "nonlinear"
    words = module.split(".")
    if words[-2:] == ["fewer", "presets"] and operator.out_shape == operator.in_shape:
        return "blurs"
    return next((key for key, known in FAMILIES.items() if set(words) & set(known)), "others")


def presets() -> set[str]:
    """Operators that are another with numbers from a paper."""
    return {entry.name for entry in registry().of("operator") if ".presets:" in entry.target}


def operators() -> Iterator[tuple[str, str, Operator]]:
    """(family, name, operator): the examples of every entry."""
    for entry in registry().of("operator"):
        for example in entry.load().examples():
            if example.label != "NoMeasurement" and len(example.in_shape) == 3:
                yield family(example, entry.target.partition(":")[0]), entry.name, example


def shown(items: Iterator[tuple[str, str, Operator]]) -> Iterator[tuple[str, str, Operator]]:
    """The same, with a word to whoever waits."""
    began = time.perf_counter()
    for kind, name, operator in items:
        print(f"{time.perf_counter() - began:5.0f} s  {name} {operator.in_shape}", file=sys.stderr, flush=True)
        yield kind, name, operator


def prior_of(name: str, channels: int) -> Prior | None:
    """A prior for that many channels, in float64; None where there is none."""
    if name in ("gaussian", "tv"):
        return load_prior("gaussian", std=0.25) if name == "gaussian" else TotalVariation(weight=1.0, tol=1e-3, max_iter=40)
    return load_prior(name if channels == 3 else f"{name}-gray", precision="float64") if channels in (1, 3) else None


def picture(operator: Operator) -> torch.Tensor:
    """Smooth images in [.2, .8] for the operator."""
    shape, batch = operator.in_shape, operator.batch or 2
    rows, columns = (torch.linspace(0, 3, side, dtype=torch.float64) for side in shape[-2:])
    items = torch.arange(batch * shape[0], dtype=torch.float64).reshape(batch, shape[0], 1, 1)
    return 0.5 + 0.3 * torch.sin(rows[:, None] + columns + items)


def deviation(solver: Solver, operator: Operator, noise: NoiseModel, prior: Prior, factors: tuple[float, ...] = FACTORS) -> float | None:
    """The largest relative difference of the answers in another unit; None where the solver does not take the problem."""
    try:
        problem = Problem.simulate(operator, picture(operator), noise, generator=0, check_range=False)
    except InvsolveError:  # such as counts of a negative H(x)
        return None
    if solver.mismatches(problem, prior):
        return None
    plain, worst = solver.solve(problem, prior, generator=1).x, 0.0
    for factor in factors:
        y = mapped(lambda part, c=factor: c * part, problem.y)
        other = Problem(factor * operator, y, noise.scaled(factor), check_range=False)
        if solver.mismatches(other, prior):
            return math.inf
        x = solver.solve(other, prior, generator=1).x
        worst = max(worst, float((x - plain).abs().max() / plain.abs().max()))
    return worst


def rounding(solver: Solver, operator: Operator, noise: NoiseModel, prior: Prior) -> float:
    """The largest relative difference of the answers when every entry of y moves by one unit in its last place; of DRAWS."""
    problem = Problem.simulate(operator, picture(operator), noise, generator=0, check_range=False)
    plain, worst = solver.solve(problem, prior, generator=1).x, 0.0
    for seed in range(DRAWS):
        rng = Rng(seed, [0] * len(problem.items), purpose="ulp")
        y = mapped(partial(moved_by_ulp, rng), problem.y)
        x = solver.solve(replace(problem, y=y, check_range=False), prior, generator=1).x
        worst = max(worst, float((x - plain).abs().max() / plain.abs().max()))
    return worst


def moved_by_ulp(rng: Rng, part: torch.Tensor) -> torch.Tensor:
    """Every entry to its neighbour above or below."""
    return torch.nextafter(part, torch.where(rng.normal_like(part) > 0, math.inf, -math.inf).to(part.dtype))


def solvers(names: list[str], first: bool) -> Iterator[tuple[str, Solver]]:
    """The short examples of posterior solvers, or the first of each, but for those that reproduce authors' units."""
    for entry in registry().of("solver"):
        if names and entry.name not in names:
            continue
        for example in entry.load().examples()[: 1 if first else None]:
            if example.requires.measurement and not getattr(example, "authors", False):
                yield entry.name, example


def measured(quick: bool, names: list[str]) -> Found:
    """[(deviation, operator)] by solver, family and column."""
    found: Found = {}
    made: dict[tuple[str, int], Prior | None] = {}
    seen: set[tuple[Any, ...]] = set()
    for kind, name, operator in shown(operators()):
        channels = operator.in_shape[0]
        for column in (*PRIORS, "poisson"):
            network = column in ("dncnn", "natural")
            for label, solver in solvers(names, first=network):
                once = (name, channels, column, solver)
                if (network and (quick or min(operator.in_shape[1:]) < 4)) or (network and once in seen):
                    continue  # one example of an operator and a number of channels, and of a solver, is enough for a network
                prior_name = column if column != "poisson" else "tv" if issubclass(solver.requires.prior[0], Regulariser) else "gaussian"
                key = (prior_name, channels)
                if key not in made:
                    made[key] = prior_of(*key)
                noise = PoissonNoise(0.01) if column == "poisson" else GaussianNoise(SIGMA)
                prior = made[key]
                value = None if prior is None else deviation(solver, operator, noise, prior)
                if value is not None:
                    seen.add(once)
                    found.setdefault((label, kind, column), []).append((value, name))
                    if prior is not None and value > ALLOWED and deviation(solver, operator, noise, prior, EXACT) == 0:
                        ulp = rounding(solver, operator, noise, prior)
                        word = ROUNDING if value <= 2 * ulp else "0 for powers of two"
                        found[label, kind, column][-1] = (value, f"{name} ({word}; one ulp of y: {ulp:.1e})")
    return found


def thousandth(quick: bool, names: list[str]) -> Found:
    """[(movement over what is allowed, operator)] of a perturbed operator, by solver, family and column; see `perturbation`."""
    found: Found = {}
    made: dict[tuple[str, int], Prior | None] = {}
    seen: set[tuple[Any, ...]] = set()
    preset = presets()
    for kind, name, operator in shown(operators()):
        plain = operator.has(Capability.LINEAR) and operator.batch is None and not operator.stacked and not operator.complex_output
        if not plain or math.prod(operator.in_shape) > PIXELS:
            continue
        channels = operator.in_shape[0]
        for column in ("gaussian", "dncnn", "natural"):
            network = column != "gaussian"
            if network and name in preset:
                continue  # the classes stand beside them, and a network takes seconds
            for label, solver in solvers(names, first=True):
                once = (name, channels, column, solver)
                if (network and (quick or min(operator.in_shape[1:]) < 4)) or once in seen:
                    continue
                if network and label in STEPS:
                    solver = replace(solver, steps=STEPS[label])  # pyright: ignore[reportArgumentType] (solvers are dataclasses)
                prior = made.setdefault((column, channels), None) or prior_of(column, channels)
                made[column, channels] = prior
                value = None if prior is None else perturbation(solver, operator, prior)
                if value is not None:
                    seen.add(once)
                    found.setdefault((label, kind, column), []).append((value, name))
    return found


def perturbation(solver: Solver, operator: Operator, prior: Prior) -> float | None:
    """How far a thousandth of H moves the answer.

    Over what is allowed, the most of H (1 + 1e-3), H as a matrix, and that plus a matrix of norm 1e-3 |H|. With the Gaussian prior that is
    what `check_perturbed_operator` allows (10 times the movement of the posterior's mean, a hundredth of its standard deviation); with a
    network see `moved_by_response`.
    """
    problem = Problem.simulate(operator, picture(operator), GaussianNoise(SIGMA), generator=0, check_range=False)
    if solver.mismatches(problem, prior):
        return None
    if not cheap(prior):
        assert isinstance(prior, Denoiser)
        return moved_by_response(solver, problem, prior)
    setting, worst = Setting(problem, prior, ""), 0.0
    mean, std = gaussian_answer(problem, prior)
    plain = lengthened(solver).solve(problem, prior, generator=1).x
    for _, changed in perturbed(operator):
        other = Problem(changed, problem.y, problem.noise, check_range=False)
        if not solver.mismatches(other, prior):
            allowed = FACTOR * rms(gaussian_answer(other, prior)[0] - mean) + REST * rms(std)
            moved, error = movement(solver, setting, other, allowed, plain)
            worst = max(worst, moved / (allowed + 3 * error))
    return worst


def table(found: Found, columns: tuple[str, ...], allowed: float, form: str) -> list[str]:
    """The cells, and what is above the bound."""
    lines = ["| solver | operators | " + " | ".join(columns) + " |", "|---" * (len(columns) + 2) + "|"]
    for label in dict.fromkeys(label for label, _, _ in sorted(found)):
        for kind in (*FAMILIES, "nonlinear", "others"):
            cells = [found.get((label, kind, column), []) for column in columns]
            if any(cells):
                texts = [f"{max(values)[0]:{form}} ({len(values)})" if values else "" for values in cells]
                lines.append(f"| {label} | {kind} | " + " | ".join(texts) + " |")
    each = [(label, name, column, value) for (label, _, column), values in found.items() for value, name in values]
    rounded = {one for one in each if f"({ROUNDING};" in one[1]}
    above = {one for one in each if not one[3] <= allowed} - rounded
    worst: dict[str, float] = {}
    for (_, _, column), values in found.items():
        worst[column] = max(worst.get(column, 0.0), *(value for value, _ in values))
    largest = ", ".join(f"{value:.1e} ({column})" for column, value in sorted(worst.items()))
    verdict = "FAIL" if above else "pass"
    lines += ["", f"{sum(map(len, found.values()))} problems, {len(above)} above {allowed:g}: {verdict}. Largest: {largest}."]
    return lines + [f"- {label} on {name}, {column}: {value:.1e}" for label, name, column, value in sorted(above | rounded)]


def merged(path: Path | None, part: str, found: Found) -> Found:
    """The file's rows with those of the solvers found now in place of theirs, also written to it; `found` without a file."""
    if path is None:
        return found
    held = json.loads(path.read_text()) if path.exists() else {}
    solved = {label for label, _, _ in found}
    old = {tuple(key.split("|")): [(value, name) for value, name in values] for key, values in held.get(part, {}).items()}
    both: Found = {key: values for key, values in old.items() if key[0] not in solved} | found  # pyright: ignore[reportAssignmentType]
    path.write_text(json.dumps(held | {part: {"|".join(key): values for key, values in both.items()}}))
    return both


def main() -> None:
    """Print or write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="without the networks")
    parser.add_argument("--solver", action="append", default=[], help="only this one (repeatable)")
    parser.add_argument("--half", choices=("units", "thousandth"), help="only this table is measured")
    parser.add_argument("--found", type=Path, help="JSON with rows of earlier runs, which this one renews")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    began = time.perf_counter()
    with torch.no_grad():
        scaled = measured(arguments.quick, arguments.solver) if arguments.half != "thousandth" else {}
        moved = thousandth(arguments.quick, arguments.solver) if arguments.half != "units" else {}
    scaled, moved = merged(arguments.found, "units", scaled), merged(arguments.found, "thousandth", moved)
    tables = table(scaled, (*PRIORS, "poisson"), ALLOWED, ".0e"), table(moved, ("gaussian", "dncnn", "natural"), 1.0, ".2f")
    text = "\n".join([*INTRODUCTION, *tables[0], *BETWEEN, *tables[1]])
    print(text, f"\n{time.perf_counter() - began:.0f} s")
    if arguments.out:
        arguments.out.write_text(text + "\n")


INTRODUCTION = (
    "# Does an answer depend on the unit of y?",
    "",
    "`python benchmarks/studies/units.py`: largest |x_c - x| / max |x| over c = 1e-4 and 1e4 of the problem (cH, cy, c sigma), float64",
    "(networks too), the solvers' short examples (8 steps), sigma_y .05 (poisson: a hundred counts, prior as the solver takes it).",
    "In brackets the number of problems: examples of the registered operators that the solver takes. An empty cell: it takes none.",
    "What is above 1e-6 was solved again for c = 2^-13 and 2^13, whose products do not round, and with every entry of y moved by a unit in",
    f"its last place. Where the former changes nothing and the latter ({DRAWS} draws, twice their worst) as much as a unit, it is called",
    "rounding and does not count: the iteration amplifies it (at a saddle of phase retrieval, at the steps of a quantiser).",
    "",
)
BETWEEN = (
    "",
    "# And on a thousandth of the operator?",
    "",
    "H' = 1.001 H, H as a plain matrix, and that plus a matrix of norm 1e-3 |H| without structure: the answer's rms movement over what is",
    "allowed, the largest of the three; 1 is the bound. gaussian: ten times the movement of the posterior's mean and a hundredth of its",
    "standard deviation; solvers at their default steps, means of 200 chains where the same random numbers meet another basis. dncnn,",
    "natural: ten times the larger of what the same solver makes of y moved by (H - H') x, x its answer, and what the mean of the",
    "posterior under a white Gaussian of the prior's centre and s0 moves by; 8 steps (score-ald 20), float64. Linear operators without",
    f"parameters per item, up to {PIXELS} pixels; networks without the presets, which are others with the numbers of a paper.",
    "",
    "What networks do to a thousandth: dps differentiates through the network, whose Jacobian jumps where a ReLU does, so that its",
    "answer has steps of its own. On 2 x 2 means of (3, 8, 8), `natural`, it moves by 26 e |x| for (1 + e) H with e = 1e-3, by 1.0 e |x|",
    "with e = 1e-4; on (3, 32, 32) by 5, 25 and 191 e |x| with e = 1e-3, 1e-4, 1e-5. y moved by (H - H') x moves it by the same, to a per",
    "cent. No pixel is clipped there, and the estimates move by 5e-4 until the gradient jumps.",
    "",
)


if __name__ == "__main__":
    main()
