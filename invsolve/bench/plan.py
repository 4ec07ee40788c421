"""From a suite to objects: checks every name and parameter first, and says what determines a result."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from invsolve import recipe
from invsolve.bench.cells import canonical
from invsolve.bench.data import Picture
from invsolve.bench.fingerprint import described
from invsolve.bench.suite import Entry, Labelled, SolverEntry, Suite
from invsolve.errors import ArgumentError, InputError, PluginError, UnknownNameError
from invsolve.noise import NoiseModel
from invsolve.operator import Operator
from invsolve.plugins import registry
from invsolve.priors.base import Prior
from invsolve.priors.convert import precision_of
from invsolve.solver import Solver


def check(suite: Suite) -> None:
    """Raise InputError with every unknown name and unfitting parameter of a suite, inner tables too, before anything is computed.

    An entry that is registered but cannot be imported is no fault of the suite: its rows will say why they failed.
    """
    faults = [fault for where, kind, entry, fixed in _entries(suite) if (fault := _fault(suite, where, kind, entry, fixed))]
    faults += [f"metric: {error}" for name in suite.metrics if (error := _unknown("metric", name))]
    if faults:
        raise InputError("\n".join([f"suite '{suite.name}' cannot be run:", *(f"  - {fault}" for fault in dict.fromkeys(faults))]))


def _entries(suite: Suite) -> Iterator[tuple[str, str, Entry, tuple[str, ...]]]:
    """(where, kind, entry, arguments the harness adds) of everything a suite names."""
    yield "data", "dataset", suite.data, ()
    yield "noise", "noise", suite.noise, ()
    for operator in suite.operator:
        yield f"operator '{operator.label}'", "operator", operator, ("in_shape",)
    for solver in suite.solver:
        for label in ["", *solver.overrides]:
            parameters, prior = solver.at(label)
            where = f"solver '{solver.label}'" + (f" for '{label}'" if label else "")
            yield where, "solver", Entry.model_validate({**parameters, "name": solver.name}), ()
            yield f"{where}, prior", "prior", prior, ()


def _unknown(kind: str, name: str) -> str:
    try:
        registry().entry(kind, name)
    except UnknownNameError as error:
        return str(error)
    return ""


def _fault(suite: Suite, where: str, kind: str, entry: Entry, fixed: tuple[str, ...]) -> str:
    try:
        recipe.check(kind, entry.part, suite, **dict.fromkeys(fixed))
        if kind == "solver":
            recipe.build(kind, entry.part, suite)
    except PluginError:
        return ""
    except (UnknownNameError, ArgumentError, InputError) as error:
        return f"{where}: {error}"
    return ""


@dataclass
class Workshop:
    """Makes the objects of a suite, each once, on one device; a prior that fails to load gives its error text.

    Args:
        suite: checked.
        device: where to compute.
    """

    suite: Suite
    device: torch.device
    _operators: dict[tuple[str, tuple[int, ...]], Operator] = field(default_factory=dict)
    _priors: dict[str, Prior | str] = field(default_factory=dict)

    def noise(self) -> NoiseModel:
        """A noise model, on the CPU."""
        return recipe.build("noise", self.suite.noise.part, self.suite)

    def operator(self, entry: Labelled, picture: Picture, *, device: torch.device | None = None) -> Operator:
        """The operator for pictures of this size; one object per size and device, so that no measurement is drawn on a moved one."""
        target = self.device if device is None else device
        key = (f"{entry.label}/{target}", tuple(picture.image.shape))
        if key not in self._operators:
            made: Operator = recipe.build("operator", entry.part, self.suite, in_shape=tuple(picture.image.shape))
            self._operators[key] = made.to(target)
        return self._operators[key]

    def solver(self, entry: SolverEntry, operator: str) -> Solver:
        """The solver as set for the operator of this label."""
        return recipe.build("solver", Entry.model_validate({**entry.at(operator)[0], "name": entry.name}).part, self.suite)

    def prior(self, entry: Entry) -> Prior | str:
        """The prior, or why there is none."""
        key = canonical({"name": entry.name, "parameters": entry.parameters})
        if key not in self._priors:
            try:
                self._priors[key] = recipe.build("prior", entry.part, self.suite).to(self.device)
            except Exception as error:
                self._priors[key] = f"prior '{entry.name}': {type(error).__name__}: {error}"
        return self._priors[key]

    def inputs(self, operator: Labelled, picture: Picture, seed: int) -> dict[str, Any]:
        """What the measurement depends on."""
        return {
            "operator": described("operator", operator, self.suite),
            "data": {"name": self.suite.data.name, "picture": picture.id, "sha256": picture.sha256},
            "noise": described("noise", self.suite.noise, self.suite),
            "noise_seed": seed,
            "dtype": self.suite.dtype,
        }

    def cell(self, operator: Labelled, solver: SolverEntry, measurement: str, seed: int) -> dict[str, Any]:
        """What a result depends on: the measurement's key, the solver, the prior with its weights and precision, the seed."""
        parameters, prior = solver.at(operator.label)
        made = self.prior(prior)
        weights, precision = getattr(made, "weights_sha256", None), None if isinstance(made, str) else precision_of(made, self.device.type)
        return {
            "measurement": measurement,
            "solver": described("solver", Entry.model_validate({**parameters, "name": solver.name}), self.suite),
            "prior": {**described("prior", prior, self.suite), "weights_sha256": weights, "computed_in": precision},
            "seed": seed,
        }
