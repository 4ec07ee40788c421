"""A suite as a benchmark of benchopt (1.10): a folder that `benchopt test` and `benchopt run` take, with the suite's own cells.

    objective.py, suite.json, datasets/*.py (a suite's operators, their pictures as parameters), solvers/*.py

The files hold names only; what they do is here, so benchopt runs in an environment where invsolve is installed. An operator with a picture
is measured with the suite's seeds, so that benchopt's objective is the metric that `invsolve bench run` gives.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from invsolve.bench.job import seed_of
from invsolve.bench.language import in_full
from invsolve.bench.metrics import Case, Metric
from invsolve.bench.plan import Workshop, check
from invsolve.bench.score import Gauge, gauges
from invsolve.bench.suite import OperatorEntry, SolverEntry, Suite
from invsolve.errors import InputError
from invsolve.io.files import write_text
from invsolve.priors.base import Prior
from invsolve.problem import Problem
from invsolve.rng import Rng, derive
from invsolve.solution import Solution, Status
from invsolve.solver import Solver

HEAD = "# Written by `invsolve bench export benchopt`: a suite as a benchmark of benchopt.\n"
OBJECTIVE = """{head}from benchopt import BaseObjective

from invsolve.bench.benchopt import opened

CASES = opened(__file__)


class Objective(BaseObjective):
    name = {name!r}
    url = "https://benchopt.github.io"
    min_benchopt_version = "1.6"
    sampling_strategy = "run_once"
    test_dataset_name = {test!r}

    def set_data(self, operator, picture, seed):
        self.place = {{"operator": operator, "picture": picture, "seed": seed}}

    def get_objective(self):
        return dict(self.place)

    def evaluate_result(self, x, nfe=0, backward=0):
        return CASES.scores(x, nfe, backward, **self.place)

    def get_one_result(self):
        return {{"x": CASES.blank(**self.place)}}
"""
DATASET = """{head}from benchopt import BaseDataset


class Dataset(BaseDataset):
    name = {name!r}
    parameters = {{"picture": {pictures!r}, "seed": {seeds!r}}}
    test_parameters = {{"picture": {first!r}, "seed": {seed!r}}}

    def get_data(self):
        return {{"operator": {operator!r}, "picture": self.picture, "seed": self.seed}}
"""
SOLVER = """{head}from pathlib import Path

from benchopt import BaseSolver

from invsolve.bench.benchopt import opened

CASES = opened(Path(__file__).parent)


class Solver(BaseSolver):
    name = {name!r}
    sampling_strategy = "run_once"
    test_config = {config!r}

    def skip(self, **place):
        gaps = CASES.gaps({solver!r}, **place)
        return (True, gaps) if gaps else (False, None)

    def set_objective(self, **place):
        self.solve = CASES.ready({solver!r}, **place)

    def run(self, _):
        self.solution = self.solve()

    def get_result(self):
        return CASES.result(self.solution)
"""


def export(suite: Suite, folder: str | Path) -> Path:
    """Write the benchmark; its folder. What was exported into it before is replaced, other files stay.

    Args:
        suite: checked here; its pictures must be there.
        folder: of the benchmark, empty, new, or one of an export.

    Raises:
        InputError: as `check`; a folder that holds something else; names that are one for benchopt.
    """
    check(suite)
    out = Path(folder)
    if out.exists() and any(out.iterdir()) and not (out / "suite.json").is_file():
        raise InputError(f"{out} holds other files: give a new folder, or one that was exported before")
    shop = Workshop(suite, torch.device("cpu"))
    plain = in_full(suite.plain(), suite._folder)
    plain |= {key: next(iter(plain[key] or [None])) for key in ("data", "noise")}  # alternatives there, one here
    (out / "datasets").mkdir(parents=True, exist_ok=True)
    (out / "solvers").mkdir(exist_ok=True)
    for old in (*out.glob("datasets/*.py"), *out.glob("solvers/*.py")):
        if old.read_text(encoding="utf-8").startswith(HEAD):
            old.unlink()
    names = [named(one.label) for one in suite.operator]
    for entry, name in zip(suite.operator, distinct(names), strict=True):
        pictures = [one.id for one in shop.pictures(entry)]
        values = {"pictures": pictures, "first": pictures[:1], "seeds": suite.seeds, "seed": suite.seeds[:1], "operator": entry.label}
        write_text(out / "datasets" / f"{filed(name)}.py", DATASET.format(head=HEAD, name=name, **values))
    cases = Cases(suite)
    for entry, name in zip(suite.solver, distinct([named(one.label) for one in suite.solver]), strict=True):
        fits = (
            named(one.label) for one in suite.operator if not cases.gaps(entry.label, one.label, shop.pictures(one)[0].id, suite.seeds[0])
        )
        config = {"dataset": {"name": next(fits, names[0])}}  # benchopt tests a solver on a data set that it takes
        write_text(out / "solvers" / f"{filed(name)}.py", SOLVER.format(head=HEAD, name=name, solver=entry.label, config=config))
    write_text(out / "objective.py", OBJECTIVE.format(head=HEAD, name=named(suite.title or suite.name), test=names[0]))
    write_text(out / "suite.json", json.dumps(plain, indent=1))
    return out


def named(label: str) -> str:
    """A label as benchopt takes names: no slash, no bracket, no comma or equals sign, which stand for its parameters."""
    return re.sub(r"[\[\],=/*]+", " ", label).strip()


def filed(name: str) -> str:
    """A name as a module's."""
    return re.sub(r"\W+", "_", name.lower()).strip("_") or "it"


def distinct(names: list[str]) -> list[str]:
    """The names, if their files are distinct.

    Raises:
        InputError: two are one.
    """
    files = [filed(name) for name in names]
    twice = sorted({name for name, file in zip(names, files, strict=True) if files.count(file) > 1})
    if twice:
        raise InputError(f"benchopt would take these for one: {', '.join(twice)}; give them labels that differ in more than signs")
    return names


@cache
def opened(place: str | Path) -> Cases:
    """The suite beside a file of the benchmark, or in the folder above it."""
    at = Path(place).resolve()
    folder = next((one for one in (at, *at.parents[:2]) if (one / "suite.json").is_file()), None)
    if folder is None:
        raise InputError(f"no suite.json beside {at}: export the suite again, invsolve bench export benchopt")
    return Cases(Suite.stored(json.loads((folder / "suite.json").read_text(encoding="utf-8")), "suite.json"))


@dataclass
class Cases:
    """The cells of an exported suite, by the labels of an operator and a solver and the id of a picture."""

    suite: Suite
    seed: int = 0
    _problems: dict[tuple[str, str, int], Problem] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.shop = Workshop(self.suite, torch.device("cpu"))
        self.gauges: list[Gauge] = [one for one in gauges(self.suite) if isinstance(one.metric, Metric)]

    def entry(self, operator: str) -> OperatorEntry:
        """An operator by its label."""
        return next(one for one in self.suite.operator if one.label == operator)

    def truth(self, operator: str, picture: str) -> Tensor:
        """(1, C, H, W)."""
        found = next(one for one in self.shop.pictures(self.entry(operator)) if one.id == picture)
        return found.image[None].to(getattr(torch, self.suite.dtype))

    def problem(self, operator: str, picture: str, seed: int) -> Problem:
        """The measurement that a run of the suite draws."""
        key = (operator, picture, seed)
        if key not in self._problems:
            entry = self.entry(operator)
            found = next(one for one in self.shop.pictures(entry) if one.id == picture)
            base = seed_of(self.seed + seed, self.suite.name, operator, "noise")
            rng = Rng(base, [derive("picture", picture)], purpose="simulate")
            made = self.shop.operator(entry, found)
            drawn = Problem.simulate(made, self.truth(operator, picture), self.shop.noise(entry), generator=rng)
            self._problems[key] = self.shop.measured(entry, found) or drawn
        return self._problems[key]

    def parts(self, solver: str, operator: str) -> tuple[SolverEntry, Solver, Prior | str]:
        """A solver and its prior, as set for the operator."""
        entry = next(one for one in self.suite.solver if one.label == solver)
        return entry, self.shop.solver(entry, operator), self.shop.prior(entry.at(operator)[1])

    def gaps(self, solver: str, operator: str, picture: str, seed: int) -> str:
        """Why a solver cannot work; "" if it can."""
        _, made, prior = self.parts(solver, operator)
        return prior if isinstance(prior, str) else "; ".join(made.mismatches(self.problem(operator, picture, seed), prior))

    def ready(self, solver: str, operator: str, picture: str, seed: int) -> Any:
        """A call that solves; what it needs is made before."""
        entry, made, prior = self.parts(solver, operator)
        problem = self.problem(operator, picture, seed)
        draws = seed_of(self.seed + seed, self.suite.name, operator, "solve")
        return lambda: made.solve(problem, prior, generator=draws, samples=entry.samples)  # pyright: ignore[reportArgumentType]

    def result(self, solution: Solution) -> dict[str, Any]:
        """What benchopt hands from a solver to the objective."""
        return {"x": solution.x.detach().cpu().numpy(), "nfe": solution.nfe, "backward": solution.backward}

    def blank(self, operator: str, picture: str, seed: int) -> Any:
        """A grey answer."""
        return torch.full_like(self.truth(operator, picture), 0.5).numpy()

    def scores(self, x: Any, nfe: int, backward: int, operator: str, picture: str, seed: int) -> dict[str, float]:
        """The metrics by name, nfe and backward, and `value`, the first metric so that less is better."""
        answer = torch.as_tensor(x)
        several = len(answer) if answer.ndim == 5 else None
        solver = self.shop.solver(self.suite.solver[0], operator)
        solution = Solution(answer, Status.FINISHED, 0, int(nfe), 0.0, 0.0, self.seed, solver, samples=several, backward=int(backward))
        case = Case(self.problem(operator, picture, seed), self.truth(operator, picture), solution)
        found = {one.name: value for one in self.gauges if not isinstance(value := one.of(case), str)}
        first = self.gauges[0]
        sign = -1 if getattr(first.metric, "higher", True) else 1
        return {"value": sign * found.get(first.name, float("nan")), **found, "nfe": int(nfe), "backward": int(backward)}
