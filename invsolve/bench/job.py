"""One run of a suite: its measurements, its cells, and how a cell is computed.

y ~ p(y | H x) with the seed seed_of(base, suite, operator, "noise") and the picture's own stream: no solver enters
"""

from __future__ import annotations

import json
import logging
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from invsolve import recipe
from invsolve.bench.cells import Store, cell_key, encode, write_text
from invsolve.bench.data import Picture, tensor_sha256
from invsolve.bench.environment import hardware, versions
from invsolve.bench.metrics import Metric, residual
from invsolve.bench.plan import Workshop
from invsolve.bench.progress import Bar
from invsolve.bench.suite import OperatorEntry, SolverEntry, Suite
from invsolve.measurement import Measurement, parts
from invsolve.priors.base import Prior
from invsolve.problem import Problem
from invsolve.rng import Rng, derive
from invsolve.solver import Solver

FINISHED = ("finished", "converged")
log = logging.getLogger("invsolve")


def seed_of(base: int, *key: str) -> int:
    """A seed for one purpose, e.g. seed_of(0, "quick", "box-mask", "noise"); solvers are left out on purpose."""
    return derive(base, *key)


@dataclass
class Case:
    """One cell to be: where it belongs, its measurement, and its key."""

    operator: OperatorEntry
    solver: SolverEntry
    picture: Picture
    measurement: str
    inputs: dict[str, Any]
    key: str


@dataclass
class Job:
    """A suite, a folder, and the state of running one into the other."""

    suite: Suite
    out: Path
    seed: int
    device: torch.device
    batch: int
    fresh: bool
    cases: list[Case] = field(default_factory=list)
    warm: set[tuple[str, str, tuple[int, ...]]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.shop = Workshop(self.suite, self.device)
        self.cells, self.inputs = Store(self.out, "cells", "cell.json"), Store(self.out, "inputs", "input.json")
        self.metrics: dict[str, Metric] = {one.label: recipe.build("metric", one, self.suite) for one in self.suite.metrics}
        self.dtype: torch.dtype = getattr(torch, self.suite.dtype)
        self.versions, self.started = versions(), time.time()

    def prepare(self) -> None:
        """Load pictures, draw or read every measurement, and write down what will be run."""
        for store in (self.cells, self.inputs):
            store.sweep()
        self.pictures = self.shop.pictures()
        self.measured: dict[str, Problem] = {}
        for operator in self.suite.operator:
            keys = {picture.id: self.measure(operator, picture) for picture in self.pictures}
            for solver in self.suite.solver:
                self.cases += [self.case(operator, solver, picture, keys[picture.id]) for picture in self.pictures]
        self.note(complete=False)

    @property
    def todo(self) -> int:
        """Number of cells."""
        return len(self.cases)

    def case(self, operator: OperatorEntry, solver: SolverEntry, picture: Picture, measurement: str) -> Case:
        """The cell of a triple."""
        inputs = self.shop.cell(operator, solver, measurement, seed_of(self.seed, self.suite.name, operator.label, "solve"))
        return Case(operator, solver, picture, measurement, inputs, cell_key(inputs))

    def measure(self, operator: OperatorEntry, picture: Picture) -> str:
        """The key of the measurement; drawn on the CPU unless the folder has it."""
        seed = seed_of(self.seed, self.suite.name, operator.label, "noise")
        inputs = self.shop.inputs(operator, picture, seed)
        key = cell_key(inputs)
        rng = Rng(seed, [derive("picture", picture.id)], purpose="simulate")
        truth = picture.image[None].to(self.dtype)
        drawn = Problem.simulate(
            self.shop.operator(operator, picture, device=torch.device("cpu")), truth, self.shop.noise(operator), generator=rng
        )
        kept = self.inputs.tensors(key) if self.inputs.read(key) else {}
        if not kept:
            kept = {"truth": truth, **{f"y{index}": part for index, part in enumerate(parts(drawn.y))}}
            self.inputs.write(key, {"inputs": inputs, "y_sha256": sha256_of(drawn.y)}, kept)
        y = tuple(kept[f"y{index}"] for index in range(len(parts(drawn.y))))
        self.measured[key] = Problem(drawn.operator, y if isinstance(drawn.y, tuple) else y[0], drawn.noise, drawn.items)
        return key

    def note(self, *, complete: bool) -> None:
        """Write run.json: the suite, the settings and the keys of all cells in order."""
        metrics = {
            name: {key: getattr(one, key) for key in ("label", "unit", "digits", "higher", "settings")}
            for name, one in self.metrics.items()
        }
        fields = ("id", "title", "licence", "source", "sha256")
        record = {
            "suite": self.suite.plain(),
            "seed": self.seed,
            "device": str(self.device),
            "batch": self.batch,
            "complete": complete,
            "started": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(self.started)),
            "seconds": time.time() - self.started,
            "versions": self.versions,
            "hardware": hardware(self.device),
            "metrics": metrics,
            "pictures": [{name: getattr(picture, name) for name in fields} for picture in self.pictures],
            "cells": [
                {"key": c.key, "operator": c.operator.label, "solver": c.solver.label, "image": c.picture.id, "input": c.measurement}
                for c in self.cases
            ],
        }
        write_text(self.out / "run.json", json.dumps(encode(record), indent=1, allow_nan=False))

    def solve(self, operator: OperatorEntry, solver: SolverEntry, bar: Bar) -> None:
        """All cells of an operator and a solver that are not finished."""
        group = [case for case in self.cases if case.operator is operator and case.solver is solver]
        open_cases = [case for case in group if self.fresh or not self._finished(case)]
        bar.begin(f"{operator.label} · {solver.label}", len(group) - len(open_cases))
        shapes = list(dict.fromkeys(tuple(case.picture.image.shape) for case in open_cases))
        for shape in shapes:
            same = [case for case in open_cases if tuple(case.picture.image.shape) == shape]
            for start in range(0, len(same), self.batch):
                self.attempt(same[start : start + self.batch], bar)
        bar.end(len(group) - len(open_cases), len(open_cases))

    def _finished(self, case: Case) -> bool:
        record = self.cells.read(case.key)
        return (
            record is not None
            and record["row"]["status"] in FINISHED
            and self.cells.path(case.key).joinpath("tensors.safetensors").is_file()
        )

    def attempt(self, chunk: list[Case], bar: Bar) -> None:
        """Solve some pictures together; if that fails, each on its own, so that one failure stays one row."""
        try:
            self.compute(chunk, bar)
        except Exception as error:
            if len(chunk) > 1:
                for case in chunk:
                    self.attempt([case], bar)
                return
            log.debug("%s", error, exc_info=True)
            self.close(chunk, "failed", f"{type(error).__name__}: {error}", bar)

    def compute(self, chunk: list[Case], bar: Bar) -> None:
        """Solve and measure; an incompatible pair is closed as skipped."""
        first = chunk[0]
        prior = self.shop.prior(first.solver.at(first.operator.label)[1])
        if isinstance(prior, str):
            self.close(chunk, "failed", prior, bar)
            return
        solver = self.shop.solver(first.solver, first.operator.label)
        problem = self.problem(chunk)
        gaps = solver.mismatches(problem, prior)
        if gaps:
            self.close(chunk, "skipped", "; ".join(gaps), bar)
            return
        self.warm_up(first, solver, prior, problem)
        solution = solver.solve(problem, prior, generator=first.inputs["seed"], callback=bar.step)
        size = len(chunk)
        truth = torch.stack([case.picture.image for case in chunk]).to(solution.x)
        values = {name: metric(solution.x, truth) for name, metric in self.metrics.items()}
        off = residual(problem, solution.x)
        shared = {
            "nfe": solution.nfe,
            "steps": solution.steps,
            "seconds": solution.seconds / size,
            "network_seconds": solution.network_seconds / size,
            "batch": size,
            "config": repr(solver),
        }
        for index, case in enumerate(chunk):
            x = solution.x[index]
            numbers: dict[str, float | None] = {name: float(value[index]) for name, value in values.items()}
            numbers["residual"] = None if off is None else float(off[index])
            row = self.row(case, solution.status.value, "") | shared | {"metrics": numbers, "x_sha256": tensor_sha256(x)}
            self.cells.write(case.key, {"inputs": case.inputs, "row": row}, {"x": x})
            bar.done()

    def problem(self, chunk: list[Case]) -> Problem:
        """The measurements of some pictures as one problem, on the device."""
        singles = [self.measured[case.measurement] for case in chunk]
        y = tuple(torch.cat(rows).to(self.device) for rows in zip(*(parts(one.y) for one in singles), strict=True))
        operator = self.shop.operator(chunk[0].operator, chunk[0].picture)
        items = tuple(item for one in singles for item in one.items)
        return Problem(operator, y if isinstance(singles[0].y, tuple) else y[0], self.shop.noise(chunk[0].operator).to(self.device), items)

    def warm_up(self, case: Case, solver: Solver, prior: Prior, problem: Problem) -> None:
        """One step of the solver, thrown away: first calls of kernels and networks are no solver's time."""
        key = (case.operator.label, case.solver.label, tuple(problem.image.shape))
        if key not in self.warm:
            self.warm.add(key)
            with suppress(Exception):  # what fails here fails in the run, and is a row there
                next(iter(solver.iterate(problem, prior, Rng(case.inputs["seed"], problem.items))), None)

    def close(self, chunk: list[Case], status: str, reason: str, bar: Bar) -> None:
        """Rows without an answer."""
        for case in chunk:
            self.cells.write(case.key, {"inputs": case.inputs, "row": self.row(case, status, reason[:2000])}, {})
            bar.done()

    def row(self, case: Case, status: str, reason: str) -> dict[str, Any]:
        """The columns that every row has; numbers are None until there are some."""
        numbers = dict.fromkeys([*self.metrics, "residual"])
        empty = dict.fromkeys(("nfe", "steps", "seconds", "network_seconds", "batch", "x_sha256"))
        return {
            "suite": self.suite.name,
            "operator": case.operator.label,
            "image": case.picture.id,
            "solver": case.solver.label,
            "solver_name": case.solver.name,
            "prior": case.solver.at(case.operator.label)[1].name,
            "status": status,
            "reason": reason,
            "metrics": numbers,
            **empty,
            "config": "",
            "seed": self.seed,
            "y_sha256": sha256_of(self.measured[case.measurement].y),
            "key": case.key,
            "device": str(self.device),
            "dtype": self.suite.dtype,
            "versions": self.versions,
        }


def sha256_of(y: Measurement) -> str:
    """Of a measurement; of several parts, of their hashes."""
    hashes = [tensor_sha256(part) for part in parts(y)]
    return hashes[0] if len(hashes) == 1 else cell_key({"parts": hashes})
