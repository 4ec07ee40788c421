"""One run of a suite: its measurements, its cells, and how a cell is computed.

y ~ p(y | H x) with the seed seed_of(base, suite, operator, "noise") and the picture's own stream: no solver enters
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from invsolve.bench.cells import SCHEMA, Cell, Outcome, Store, cell_key, encode
from invsolve.bench.clock import Spent
from invsolve.bench.environment import hardware, versions
from invsolve.bench.fairness import settings
from invsolve.bench.fingerprint import data_hash
from invsolve.bench.flight import Flight
from invsolve.bench.gauging import gauged
from invsolve.bench.measurements import alike, sha256_of
from invsolve.bench.memory import Peak
from invsolve.bench.metrics import Case as Case
from invsolve.bench.metrics import Metric, SetMetric
from invsolve.bench.plan import Absent, Workshop
from invsolve.bench.progress import Bar
from invsolve.bench.records import Answer, CellRecord, cell_record
from invsolve.bench.score import Gauge, fault, gauges
from invsolve.bench.state import changed, shared_state, state_hash
from invsolve.bench.suite import OperatorEntry, SolverEntry, Suite
from invsolve.data import Picture, tensor_sha256
from invsolve.errors import InputError, InvsolveError
from invsolve.io.files import sweep, write_text
from invsolve.operator import Operator
from invsolve.operator.measurement import parts
from invsolve.plugins import registry
from invsolve.plugins.interrupts import attempted
from invsolve.priors.base import Prior
from invsolve.problem import Problem, unmeasured
from invsolve.recipe.tables import within
from invsolve.rng import Rng, derive
from invsolve.solution import Solution
from invsolve.solver import Solver
from invsolve.testing.world import World, kept

FINISHED = ("finished", "converged")
log = logging.getLogger("invsolve")


def seed_of(base: int, *key: str) -> int:
    """A seed for one purpose, e.g. seed_of(0, "quick", "box-mask", "noise"); solvers are left out on purpose."""
    return derive(base, *key)


@dataclass
class Job:
    """A suite, a folder, and the state of running one into the other."""

    suite: Suite
    out: Path
    seed: int
    device: torch.device
    batch: int | Literal["auto"]
    fresh: bool
    limit: float | None = None
    sharing: int = 1
    cases: list[Cell] = field(default_factory=list)
    warm: set[tuple[str, str, tuple[int, ...]]] = field(default_factory=set)
    tried: set[str] = field(default_factory=set)
    sets: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        data_hash.cache_clear()
        self.shop = Workshop(self.suite, self.device)
        self.cells, self.inputs = Store(self.out, "cells", "cell.json"), Store(self.out, "inputs", "input.json")
        self.metrics: list[Gauge] = gauges(self.suite)
        self.dtype: torch.dtype = getattr(torch, self.suite.dtype)
        self.versions, self.started, self.began = versions(), time.time(), time.monotonic()
        self.states: dict[Any, tuple[Any, str]] = {}
        self.flight = Flight(self.out)
        self.measured: dict[str, Problem | str] = {}
        self.drawn_at: dict[tuple[str, str, int], str] = {}  # keys of measurements by operator, picture and base seed
        self.spent = Spent()
        self.pictures: list[Picture] = []
        self.tunings: dict[Any, Any] = {}
        self.h: dict[str, str] = {}  # the operator's state by the key of a measurement

    def prepare(self, *, alone: bool = False) -> None:
        """Load pictures, draw or read every measurement, and write down what will be run.

        Args:
            alone: nobody else writes to the folder: what killed runs have left is removed.
        """
        if alone:
            sweep(self.out)
            self.flight.clear()
        for operator in self.suite.operator:
            pictures = self.shop.pictures(operator)
            self.pictures += [one for one in pictures if one.id not in {known.id for known in self.pictures}]
            for base in [self.seed + more for more in self.suite.seeds]:
                keys = {picture.id: self.measure(operator, picture, base) for picture in pictures}
                for solver in self.suite.solver:
                    self.cases += [self.case(operator, solver, picture, keys[picture.id], base) for picture in pictures]
        self.note(complete=False)

    def column(self, operator: OperatorEntry, solver: SolverEntry) -> list[Cell]:
        """The cells of an operator and a solver."""
        return [case for case in self.cases if case.operator is operator and case.solver is solver]

    @property
    def todo(self) -> int:
        """Number of cells."""
        return len(self.cases)

    def built(self, place: Any, made: Any) -> str:
        """The state of an operator or a prior as it was when it was first made.

        Raises:
            InputError: it was made again, and is another now.
        """
        held = self.states.get(place)
        if held is None or held[0] is not made:
            state = state_hash(made)
            if held is not None and held[1] != state:
                raise InputError(
                    f"{type(made).__name__} was made again from the same table, and is another now: something changed what it shares"
                )
            self.states[place] = (made, state)
        return self.states[place][1]

    def operator(self, entry: OperatorEntry, picture: Picture, device: torch.device) -> tuple[Operator, str]:
        """The operator for a picture, with its state."""
        made = self.shop.operator(entry, picture, device=device)
        return made, self.built((entry.label, str(device), tuple(picture.image.shape)), made)

    def prior(self, entry: Any) -> tuple[Prior | str, str | None]:
        """The prior with its state, or why there is none."""
        made = self.shop.prior(entry)
        return made, None if isinstance(made, str) else self.built(repr(entry), made)

    def case(self, operator: OperatorEntry, solver: SolverEntry, picture: Picture, measurement: str, base: int) -> Cell:
        """The cell of a triple and a base seed."""
        inputs = self.shop.cell(operator, solver, measurement, seed_of(base, self.suite.name, operator.label, "solve"))
        problem, state = self.measured[measurement], self.prior(solver.at(operator.label)[1])[1]
        y = None if isinstance(problem, str) else sha256_of(problem.y)
        inputs = {**inputs, "prior_state": state, "y": y, "samples": solver.samples}
        inputs |= {} if solver.tune is None else {"tune": solver.tune}
        return Cell(operator, solver, picture, measurement, inputs, cell_key(inputs), base)

    def at(self, operator: str, solver: str, image: str, base: int) -> Cell | None:
        """The cell at a place, by labels, as it is here and now; None where the suite has no such place.

        Raises:
            InputError: the folder does not have its measurement as it is drawn here.
        """
        entry = next((one for one in self.suite.operator if one.label == operator), None)
        method = next((one for one in self.suite.solver if one.label == solver), None)
        picture = None if entry is None else next((one for one in self.shop.pictures(entry) if one.id == image), None)
        if entry is None or method is None or picture is None:
            return None
        place = (operator, image, base)
        if place not in self.drawn_at:
            self.drawn_at[place] = self.measure(entry, picture, base, new=False)
        return self.case(entry, method, picture, self.drawn_at[place], base)

    def measure(self, operator: OperatorEntry, picture: Picture, base: int, *, new: bool = True) -> str:
        """The key of the measurement; drawn on the CPU unless the folder has it. An operator that fails is the reason of its rows.

        Raises:
            InputError: the suite is at fault; without `new`, the folder does not have it as it is drawn here.
        """
        seed = seed_of(base, self.suite.name, operator.label, "noise")
        inputs = self.shop.inputs(operator, picture, seed)
        found = attempted(lambda: self.drawn(operator, picture, seed))
        if isinstance(found, InvsolveError):  # the suite is at fault, and says so before anything is computed
            raise within(found, f"operator '{operator.label}'")
        if isinstance(found, BaseException | str):
            key = cell_key(inputs)
            self.measured[key] = f"operator '{operator.label}': {found if isinstance(found, str) else fault(found)}"
            return key
        drawn, truth, states = found
        key = cell_key({**inputs, **states})
        self.h[key] = states["operator_state"]
        fresh = {"truth": truth, **{f"y{index}": part for index, part in enumerate(parts(drawn.y))}}
        held = self.inputs.tensors(key)
        if not alike(held, fresh):
            if not new:
                raise InputError(f"its measurement of {picture.id} by {operator.label} is another than the one in the folder")
            if held:
                log.warning(
                    "%s of %s: the stored measurement is another than the one drawn now, and is replaced", operator.label, picture.id
                )
            held = fresh
            self.inputs.write(key, {"inputs": inputs, "y_sha256": sha256_of(drawn.y)}, fresh)
        y = tuple(held[f"y{index}"] for index in range(len(parts(drawn.y))))
        self.measured[key] = Problem(drawn.operator, y if isinstance(drawn.y, tuple) else y[0], drawn.noise, drawn.items)
        return key

    def drawn(self, operator: OperatorEntry, picture: Picture, seed: int) -> tuple[Problem, Tensor, dict[str, str]] | str:
        """The measurement as it is drawn now, the truth, and the states of what it depends on; or why it is none."""
        rng = Rng(seed, [derive("picture", picture.id)], purpose="simulate")
        truth = picture.image[None].to(self.dtype)
        with kept():
            World(seed, torch.float32).place()
            made, state = self.operator(operator, picture, torch.device("cpu"))
            noise = self.shop.noise(operator)
            states = {"operator_state": state, "noise_state": state_hash(noise)}
            found = self.shop.measured(operator, picture) or Problem.simulate(made, truth, noise, generator=rng)
            return unmeasured(found) or (found, truth, states)

    def note(self, *, complete: bool) -> None:
        """Write run.json: the suite, the settings and the keys of all cells in order."""
        fields = ("id", "title", "licence", "source", "sha256")
        record = {
            "schema": SCHEMA,
            "suite": self.suite.plain(),
            "seed": self.seed,
            "device": str(self.device),
            "batch": self.batch,
            "complete": complete,
            "started": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(self.started)),
            "seconds": time.monotonic() - self.began,
            "versions": self.versions,
            "hardware": hardware(self.device),
            "metrics": {one.name: one.record for one in self.metrics},
            "sets": self.sets,
            "pictures": [{name: getattr(picture, name) for name in fields} for picture in self.pictures],
            "cells": [self.place(cell) for cell in self.cases],
        }
        write_text(self.out / "run.json", json.dumps(encode(record), indent=1, allow_nan=False), sync=True)

    def place(self, cell: Cell) -> dict[str, str]:
        """Where a cell stands in the tables."""
        names = {"operator": cell.operator.label, "solver": cell.solver.label, "solver_name": cell.solver.name}
        prior, how = cell.solver.at(cell.operator.label)[1].name, settings(cell.solver, cell.operator.label, cell.picture.sha256)
        return {"key": cell.key, **names, "prior": prior, "image": cell.picture.id, "input": cell.measurement, "settings": how}

    def held(self, cell: Cell) -> tuple[CellRecord, dict[str, Tensor]] | None:
        """What the folder holds of a cell that has an answer, undamaged; else None."""
        found = self.cells.read(cell.key)
        record = cell_record(found)
        if found is None or record is None or record.answer.status not in FINISHED:
            return None
        tensors = self.cells.tensors_of(found)
        return (record, tensors) if "x" in tensors and record.answer.x_sha256 == record.tensors["x"] else None

    def lacks(self, record: CellRecord) -> bool:
        """Whether a metric is to be taken of an answer that is there."""
        return any(isinstance(one.metric, Metric) and one.key not in record.measures for one in self.metrics)

    def whole(self, cell: Cell) -> bool:
        """Whether nothing is to be done, not a metric either."""
        held = self.held(cell)
        return held is not None and not self.lacks(held[0])

    def finished(self, cell: Cell) -> bool:
        """Whether nothing is to be solved; metrics that are missing are taken from the stored answer."""
        held = self.held(cell)
        if held is None:
            return False
        record, tensors = held
        if self.lacks(record):
            self.close((cell, record.answer.model_dump(mode="json"), tensors), dict(record.measures))
        return True

    def compute(self, chunk: list[Cell], bar: Bar) -> list[Outcome]:
        """Solve and give the answers; an incompatible pair is skipped, and one whose package is not installed."""
        first = chunk[0]
        prior = self.prior(first.solver.at(first.operator.label)[1])[0]
        measured = self.measured[first.measurement]
        broken = prior if isinstance(prior, str) else measured if isinstance(measured, str) else ""
        if broken or isinstance(prior, str):
            status = "skipped" if isinstance(broken, Absent) else "failed"
            return [(case, self.answer(case, status, broken), {}) for case in chunk]
        with kept():  # a solver that draws from a global generator has the same one each time, and what it sets ends with it
            World(first.inputs["seed"], torch.float32).place()
            problem = self.problem(chunk)
            with self.unchanged(problem, prior):  # outside of the limit: a look at the state must not be cut short
                seconds = None if self.limit is None else self.limit * len(chunk)
                with Peak(self.device) as peak:
                    found = attempted(lambda: self.foreign(first, problem, prior, bar), seconds)
                if isinstance(found, BaseException):
                    raise found
        if isinstance(found, str):
            return [(case, self.answer(case, "skipped", found), {}) for case in chunk]
        return self.answers(chunk, problem, found, peak.bytes)

    def foreign(self, case: Cell, problem: Problem, prior: Prior, bar: Bar) -> Solution | str:
        """The code of others: the solver's answer, or why it cannot work."""
        solver = self.shop.solver(case.solver, case.operator.label)
        gaps = solver.mismatches(problem, prior)
        if gaps:
            return "; ".join(gaps)
        self.warm_up(case, solver, prior, problem)
        options: dict[str, Any] = {"generator": case.inputs["seed"], "samples": case.solver.samples, "callback": bar.step}
        tuning = None if case.solver.tune is None else self.tuning(case, solver, problem, prior)
        with self.spent:
            solution = solver.solve(problem, prior, **options, tune=tuning)
        if tuning is None:
            return solution
        cost = problem.batch * tuning.seconds
        return replace(solution, seconds=solution.seconds + cost, nfe=solution.nfe + tuning.nfe)

    def tuning(self, case: Cell, solver: Solver, problem: Problem, prior: Prior) -> Any:
        """What the solver's settings are for an operator, found once: draws know no picture. Every row bears the whole cost of it."""
        key = (case.solver.label, case.operator.label, tuple(problem.image.shape[1:]))
        if key not in self.tunings:
            how = {"generator": 0, "samples": case.solver.samples}
            self.tunings[key] = registry().tuned(solver, problem[0], prior, case.solver.tune, how)
        return self.tunings[key]

    def answers(self, chunk: list[Cell], problem: Problem, solution: Solution, peak: int | None) -> list[Outcome]:
        """A solution cut into cells."""
        wanted = problem.image.shape if solution.samples is None else (solution.samples, *problem.image.shape)
        if not isinstance(solution.x, Tensor) or solution.x.shape != wanted or solution.x.dtype != problem.image.dtype:
            raise InputError(f"the answer must have shape {tuple(wanted)} and {problem.image.dtype}; it has {tuple(solution.x.shape)}")
        size, mean, found = len(chunk), solution.mean, []
        shared = {name: getattr(solution, name) for name in ("nfe", "backward", "steps", "samples")}
        shared |= {"seconds": solution.seconds / size, "network_seconds": solution.network_seconds / size, "batch": size}
        shared |= {"peak_bytes": peak, "selected_by": solution.solver.selects}
        for index, case in enumerate(chunk):
            tensors = {"x": mean[index]} | ({} if solution.samples is None else {"samples": solution.x[:, index]})
            tensors = {name: value.detach().cpu().clone() for name, value in tensors.items()}
            numbers = {**shared, "config": repr(solution.solver), "x_sha256": tensor_sha256(tensors["x"])}
            found.append((case, self.answer(case, solution.status.value, "") | numbers, tensors))
        return found

    @contextmanager
    def unchanged(self, problem: Problem, prior: Prior) -> Iterator[None]:
        """InputError if y, operator, noise or prior are others at the end; they are made anew then, and no other row moves."""
        things = (problem.operator, prior, problem.noise, *parts(problem.y))
        before = shared_state(*things)
        names: list[str] = []
        try:
            yield
        finally:
            names = changed(before, shared_state(*things))
            if names:
                self.shop = Workshop(self.suite, self.device)
        if names:
            raise InputError(f"the solver changed what it shares with others: {', '.join(names[:5])}; it must work on copies")

    def problem(self, chunk: list[Cell]) -> Problem:
        """The measurements of some pictures as one problem, on the device."""
        singles = [one for case in chunk if not isinstance(one := self.measured[case.measurement], str)]
        y = tuple(torch.cat(rows).to(self.device) for rows in zip(*(parts(one.y) for one in singles), strict=True))
        operator = self.operator(chunk[0].operator, chunk[0].picture, self.device)[0]
        items = tuple(item for one in singles for item in one.items)
        return Problem(operator, y if isinstance(singles[0].y, tuple) else y[0], self.shop.noise(chunk[0].operator).to(self.device), items)

    def warm_up(self, case: Cell, solver: Solver, prior: Prior, problem: Problem) -> None:
        """One step of the solver, thrown away: first calls of kernels and networks are no solver's time."""
        key = (case.operator.label, case.solver.label, tuple(problem.image.shape))
        if key not in self.warm:
            self.warm.add(key)
            with suppress(Exception):  # what fails here fails in the run, and is a row there
                # on a problem of its own: what a problem finds once, |H| and where solvers begin, is every solver's time
                next(iter(solver.iterate(replace(problem), prior, Rng(case.inputs["seed"], problem.items))), None)

    def close(self, outcome: Outcome, measures: dict[str, Any]) -> None:
        """Write a cell, with the metrics that `measures` does not have yet."""
        cell, answer, tensors = outcome
        faults: dict[str, str] = {}
        if "x" in tensors:
            for one in self.metrics:
                if one.key not in measures and not isinstance(one.metric, SetMetric):
                    found = gauged(self, one, outcome)
                    if isinstance(found, str):
                        faults[one.key] = found
                    else:
                        measures[one.key] = None if math.isnan(found) else found
        self.cells.write(cell.key, {"inputs": cell.inputs, "answer": answer, "measures": measures, "faults": faults}, tensors)

    def answer(self, case: Cell, status: str, reason: str) -> dict[str, Any]:
        """What is known of every cell; numbers are None until there are some."""
        known = {"status": status, "reason": reason[:2000], "config": "", "seed": case.base, "y_sha256": case.inputs["y"]}
        where = {"device": str(self.device), "dtype": self.suite.dtype, "versions": self.versions, "h_sha256": self.h.get(case.measurement)}
        return Answer.model_validate({**known, **where}).model_dump(mode="json")
