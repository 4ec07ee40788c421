"""From a suite to objects: checks every name and parameter first, and says what determines a result."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from inspect import isfunction
from typing import Any

import torch

from invsolve import recipe
from invsolve.bench.cells import canonical
from invsolve.bench.fingerprint import described
from invsolve.bench.suite import Labelled, OperatorEntry, SolverEntry, Suite
from invsolve.data import Picture, fitting, folder_sha256, keys, load_set
from invsolve.errors import ArgumentError, ConstructorError, InputError, InvsolveError, NotInstalledError, PluginError
from invsolve.io.images import TENSOR_FILES, load_image, read_tensor
from invsolve.noise import NoiseModel
from invsolve.operator import Operator
from invsolve.plugins import registry
from invsolve.plugins.interrupts import attempted
from invsolve.priors.base import Prior
from invsolve.priors.convert import precision_of
from invsolve.problem import Problem
from invsolve.recipe.parts import check_items
from invsolve.recipe.tables import Part, within
from invsolve.solver import Solver


def check(suite: Suite) -> None:
    """Raise InputError with every unknown name and unfitting parameter of a suite, inner tables too, before anything is computed.

    Solvers, noises, metrics and priors are made, each prior once, so that a missing weight file or a wrong option of it is found here.
    An entry that is registered but cannot be imported, or fails otherwise than by refusing, is no fault of the suite: its rows will say
    why they failed.
    """
    tried: dict[str, InvsolveError | None] = {}
    faults = [fault for where, kind, part, place in _parts(suite) if (fault := _fault(suite, where, kind, part, place, tried))]
    if faults:
        raise InputError("\n".join([f"suite '{suite.name}' cannot be run:", *(f"  - {fault}" for fault in dict.fromkeys(faults))]))


def _parts(suite: Suite) -> Iterator[tuple[str, str, Part, tuple[int | str, ...]]]:
    """(where, kind, part, place in the file) of everything a suite names."""
    if suite.data is not None:
        yield "data", "dataset", suite.data, ("data",)
    if suite.noise is not None:
        yield "noise", "noise", suite.noise, ("noise",)
    for index, operator in enumerate(suite.operator):
        where = f"operator '{operator.label}'"
        if operator.problem is None:
            yield where, "operator", operator, ("operator", index)
        if operator.data is not None:
            yield f"{where}, data", "dataset", operator.data, ("operator", index, "data")
        if operator.noise is not None:
            yield f"{where}, noise", "noise", operator.noise, ("operator", index, "noise")
    for index, solver in enumerate(suite.solver):
        for label in ["", *solver.overrides]:
            where = f"solver '{solver.label}'" + (f" for '{label}'" if label else "")
            place = ("solver", index, "for", label) if label else ("solver", index)
            yield where, "solver", solver.part(label), place
            yield f"{where}, prior", "prior", solver.at(label)[1], (*place, "prior")
    for index, metric in enumerate(suite.metrics):
        yield "metric" if metric.label == metric.name else f"metric '{metric.label}'", "metric", metric, ("metrics", index)


def _refusal(suite: Suite, part: Part) -> InvsolveError | None:
    """Why a prior cannot be; None where it is made, or fails in a way of its own."""
    error = attempted(lambda: recipe.build("prior", part, suite))
    return error if isinstance(error, InvsolveError) and not isinstance(error, ConstructorError) else None


def _fault(suite: Suite, where: str, kind: str, part: Part, place: tuple[int | str, ...], tried: dict[str, InvsolveError | None]) -> str:
    def made() -> None:
        try:
            recipe.check(kind, part, suite, **({"in_shape": None} if kind == "operator" else {}))
        except ArgumentError as error:
            if kind != "metric" or not isfunction(registry().load(kind, part.name)):
                raise
            wanted = "a metric is a class derived from invsolve.bench.Metric that writes compute(x_hat, x), or a function that returns one"
            raise ArgumentError(f"{error}; {wanted}") from None
        if kind in ("solver", "noise", "metric"):
            built = recipe.build(kind, part, suite)
            if kind == "noise":  # every picture is measured by itself
                check_items(built, 1, f"noise '{part.name}'")
        if kind == "prior":
            key = canonical({"name": part.name, "parameters": part.arguments})
            tried[key] = refusal = tried[key] if key in tried else _refusal(suite, part)
            if refusal is not None:
                raise refusal

    error = attempted(made)  # a constructor that fails in another way than by refusing is a fault of its rows, not of the suite
    if isinstance(error, InvsolveError) and not isinstance(error, PluginError):
        return suite.lined(within(error, where), part, *place)
    return ""


class Absent(str):
    """Why there is no prior: a package is not installed, which is nobody's failure."""


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
    _pictures: dict[str, list[Picture]] = field(default_factory=dict)

    def noise(self, entry: OperatorEntry | None = None) -> NoiseModel:
        """The noise model of an operator, its own or the suite's, on the CPU."""
        if entry is not None and entry.noise is None and entry.problem is not None:
            return self._saved(entry).noise
        part = self.suite.noise if entry is None or entry.noise is None else entry.noise
        assert part is not None
        return recipe.build("noise", part, self.suite)

    def operator(self, entry: OperatorEntry, picture: Picture, *, device: torch.device | None = None) -> Operator:
        """The operator for pictures of this size; one object per size and device, so that no measurement is drawn on a moved one."""
        target = self.device if device is None else device
        key = (f"{entry.label}/{target}", tuple(picture.image.shape))
        if key not in self._operators:
            self._operators[key] = self._made(entry, tuple(picture.image.shape)).to(target)
        return self._operators[key]

    def _made(self, entry: OperatorEntry, shape: tuple[int, ...]) -> Operator:
        if entry.problem is not None:
            made = self._saved(entry).operator
        else:
            try:
                made = recipe.build("operator", entry, self.suite, in_shape=shape)
                check_items(made, 1, f"operator '{entry.name}'")
            except InvsolveError as error:
                named = within(error, f"operator '{entry.label}'")
                place = [one.label for one in self.suite.operator].index(entry.label)
                raise type(named)(self.suite.lined(named, entry, "operator", place)) from error
        if made.in_shape != shape:
            raise InputError(f"operator '{entry.label}' takes images {made.in_shape}; the picture is {shape}: crop the data to fit")
        return made

    def _saved(self, entry: OperatorEntry) -> Problem:
        assert entry.problem is not None
        return Problem.load(self.suite.path(entry.problem))

    def solver(self, entry: SolverEntry, operator: str) -> Solver:
        """The solver as set for the operator of this label."""
        return recipe.build("solver", entry.part(operator), self.suite)

    def prior(self, entry: Part) -> Prior | str:
        """The prior, or why there is none."""
        key = canonical({"name": entry.name, "parameters": entry.arguments})
        if key not in self._priors:
            made = attempted(lambda: recipe.build("prior", entry, self.suite).to(self.device))
            said = f"prior '{entry.name}': {type(made).__name__}: {made}"
            absent = isinstance(made, NotInstalledError)
            self._priors[key] = Absent(said) if absent else said if isinstance(made, BaseException) else made
        return self._priors[key]

    def pictures(self, entry: OperatorEntry | None = None) -> list[Picture]:
        """The pictures of an operator: of its data set or the suite's, as cropped and counted, or the truths of a saved measurement.

        Raises:
            InputError: as `load_set`; a truth of another shape than the saved problem's images.
        """
        if entry is not None and entry.truth is not None:
            return self._truths(entry)
        data = self.suite.data if entry is None or entry.data is None else entry.data
        if data is None:
            return []
        key = canonical(data.model_dump(mode="json"))
        if key not in self._pictures:
            self._pictures[key] = load_set(data, self.suite)
        return self._pictures[key]

    def _truths(self, entry: OperatorEntry) -> list[Picture]:
        assert entry.truth is not None
        path, wanted = self.suite.path(entry.truth), tuple(self._saved(entry).image.shape)
        x = (
            read_tensor(path)
            if path.suffix.lower() in TENSOR_FILES
            else load_image(path, channels=wanted[1] if wanted[1] in (1, 3) else None)
        )
        x = x if x.ndim == 4 else x[None]
        if tuple(x.shape) != wanted:
            raise InputError(f"operator '{entry.label}': truth has shape {tuple(x.shape)}, the saved problem's images {wanted}")
        (key,) = keys([path.name], path)
        return [fitting(entry.label, Picture(f"{key[:56]}-{item}" if len(x) > 1 else key, one)) for item, one in enumerate(x)]

    def measured(self, entry: OperatorEntry, picture: Picture) -> Problem | None:
        """The saved measurement of a picture, where the entry brings one; None where it is to be drawn.

        Raises:
            InputError: one operator or noise for each of several items, or another precision than the suite's.
        """
        if entry.truth is None:
            return None
        saved = self._saved(entry)
        if saved.batch > 1 and not (saved.operator.batch in (None, 1) and saved.noise.batch in (None, 1)):
            raise InputError(f"operator '{entry.label}': the problem has an operator or a noise for each item; save each item on its own")
        dtype = str(saved.image.dtype).removeprefix("torch.")
        if dtype != self.suite.dtype:
            raise InputError(f"operator '{entry.label}': the problem was saved in {dtype}; give the suite dtype = \"{dtype}\"")
        return saved[[one.id for one in self._truths(entry)].index(picture.id)]

    def inputs(self, operator: OperatorEntry, picture: Picture, seed: int) -> dict[str, Any]:
        """What the measurement depends on."""
        saved = (
            None if operator.problem is None else {"problem": operator.problem, "sha256": folder_sha256(self.suite.path(operator.problem))}
        )
        noise = self.suite.noise if operator.noise is None else operator.noise
        data = self.suite.data_of(operator)
        return {
            "operator": saved or described("operator", operator, self.suite),
            "data": {
                "name": "" if data is None else data.name,
                "picture": picture.id,
                "sha256": picture.sha256,
            },
            "noise": None if noise is None or (saved and operator.noise is None) else described("noise", noise, self.suite),
            "noise_seed": seed,
            "dtype": self.suite.dtype,
        }

    def cell(self, operator: Labelled, solver: SolverEntry, measurement: str, seed: int) -> dict[str, Any]:
        """What a result depends on: the measurement's key, the solver, the prior with its weights and precision, the seed."""
        prior = solver.at(operator.label)[1]
        made = self.prior(prior)
        weights, precision = getattr(made, "weights_sha256", None), None if isinstance(made, str) else precision_of(made, self.device.type)
        return {
            "measurement": measurement,
            "solver": described("solver", solver.part(operator.label), self.suite),
            "prior": {**described("prior", prior, self.suite), "weights_sha256": weights, "computed_in": precision},
            "seed": seed,
        }
