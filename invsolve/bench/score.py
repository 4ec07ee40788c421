"""The metrics of a run: by the hash of what they depend on, so that a changed one is taken anew from the stored answers."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import Tensor

from invsolve import recipe
from invsolve.bench.cells import digest
from invsolve.bench.fingerprint import described
from invsolve.bench.metrics import Case, Measure, Metric, SetMetric
from invsolve.bench.suite import Labelled, Suite
from invsolve.errors import InputError
from invsolve.plugins.interrupts import attempted


@dataclass(frozen=True)
class Gauge:
    """A metric of a suite.

    Args:
        name: of its column in the rows.
        label: heading of its column.
        key: hash of its parameters, source, data files and libraries.
        metric: the object; text that says why there is none.
        libraries: versions of what computes it.
    """

    name: str
    label: str
    key: str
    metric: Measure | str
    libraries: dict[str, str]

    @property
    def record(self) -> dict[str, Any]:
        """What run.json says of it."""
        one = self.metric
        whole = {"key": self.key, "label": self.label, "libraries": self.libraries, "of_sets": isinstance(one, SetMetric)}
        if isinstance(one, str):
            return {**whole, "unit": "", "digits": 3, "higher": None, "settings": one}
        return {**whole, **{name: getattr(one, name) for name in ("unit", "digits", "higher", "settings")}}

    def of(self, case: Case) -> float | str:
        """The number of a case of one item, NaN where there is none; text that says why the metric failed."""
        if not isinstance(self.metric, Metric):
            return str(self.metric)
        found = attempted(lambda: single(self.metric.measure(case)))  # pyright: ignore[reportAttributeAccessIssue]
        return fault(found) if isinstance(found, BaseException) else found

    def of_set(self, answers: list[Tensor], truths: list[Tensor]) -> float | str:
        """The number of a column, or why there is none."""
        assert isinstance(self.metric, SetMetric)
        metric = self.metric
        found = attempted(lambda: float(metric.compute(answers, truths)))
        return fault(found) if isinstance(found, BaseException) else found


def single(values: Any) -> float:
    """The one number that a metric gives for one item.

    Raises:
        InputError: something else.
    """
    if not isinstance(values, Tensor) or values.shape != (1,) or values.is_complex():
        given = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise InputError(f"a metric gives a real tensor (B,); for one item it gave {given}")
    return float(values)


def fault(error: BaseException) -> str:
    """An exception in a line."""
    return f"{type(error).__name__}: {error}"[:2000]


def gauges(suite: Suite) -> list[Gauge]:
    """All metrics of a suite, in its order."""
    return [gauge(suite, entry) for entry in suite.metrics]


def gauge(suite: Suite, entry: Labelled) -> Gauge:
    """One metric; what cannot be made says why, in every row."""
    made = attempted(lambda: recipe.build("metric", entry, suite))
    metric = fault(made) if isinstance(made, BaseException) else made
    if not isinstance(metric, Measure | str):
        metric = f"{entry.name} is no metric: a class derived from Metric or SetMetric is needed"
    names = () if isinstance(metric, str) else metric.libraries
    libraries = {name: installed(name) for name in names}
    label = entry.label if entry.label != entry.name or isinstance(metric, str) else metric.label
    return Gauge(entry.label, label, digest({"metric": described("metric", entry, suite), "libraries": libraries}), metric, libraries)


def installed(name: str) -> str:
    """A distribution's version."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def clipped(x: Tensor) -> Tensor:
    """An answer as set metrics see it."""
    return x.detach().to("cpu", torch.float32).clamp(0, 1)
