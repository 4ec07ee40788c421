"""What a run writes to JSON, as models: whatever else a file holds is refused (run.json) or computed again (cells)."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from invsolve.bench.cells import SCHEMA

Key = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Text = Annotated[str, Field(max_length=10_000)]
# A float that JSON can hold, or the text that `encode` writes for one that it cannot.
Number = Annotated[float, BeforeValidator(lambda value: float(value) if value in ("inf", "-inf", "nan") else value)]
Count = Annotated[int, Field(ge=0, le=10**12)]
Seconds = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)]


class Strict(BaseModel):
    """All keys known, no value of another type."""

    model_config = ConfigDict(extra="forbid", strict=True)


M = TypeVar("M", bound=Strict)


class Place(Strict):
    """A cell of a run: where it stands in the tables, and its keys."""

    key: Key
    operator: Text
    solver: Text
    solver_name: Text
    prior: Text
    image: Text
    input: Key
    settings: Text = ""


class MetricRecord(Strict):
    """A metric of a run; `key` is the hash of its settings and source, `of_sets` says whether it is one number of all images."""

    key: Key
    label: Text
    unit: Text
    digits: Annotated[int, Field(ge=0, le=12)]
    higher: bool | None
    settings: Text
    libraries: dict[str, Text]
    of_sets: bool = False


class PictureRecord(Strict):
    """A picture of a run."""

    id: Text
    title: Text
    licence: Text
    source: Text
    sha256: Key


class SetRecord(Strict):
    """A set metric of a column of cells, over `count` images."""

    operator: Text
    solver: Text
    metric: Text
    value: Number | None
    reason: Text = ""
    count: Count


class RunRecord(Strict):
    """run.json."""

    schema_: Literal[2] = Field(alias="schema")
    suite: dict[str, Any]
    seed: int
    device: Text
    batch: Annotated[int, Field(ge=1)] | Literal["auto"]
    complete: bool
    started: Text
    seconds: Seconds
    versions: dict[str, Text]
    hardware: Text
    metrics: Annotated[dict[str, MetricRecord], Field(min_length=1)]
    sets: list[SetRecord] = []
    pictures: list[PictureRecord]
    cells: list[Place]


class Answer(Strict):
    """What was computed of a cell: everything of its row but labels and metrics."""

    status: Literal["finished", "converged", "budget", "stopped", "diverged", "failed", "skipped"]
    reason: Text
    nfe: Count | None = None
    backward: Count | None = None
    steps: Count | None = None
    seconds: Seconds | None = None
    network_seconds: Seconds | None = None
    batch: Count | None = None
    samples: Count | None = None
    config: Text
    seed: int
    x_sha256: Key | None = None
    y_sha256: Key | None = None
    h_sha256: Key | None = None
    peak_bytes: Count | None = None
    selected_by: Text = ""
    device: Text
    dtype: Text
    versions: dict[str, Text]


class CellRecord(Strict):
    """cell.json: inputs by which it is named, the answer, metrics by the key of the metric, and why some could not be taken."""

    schema_: Literal[2] = Field(alias="schema")
    key: Key
    tensors: dict[str, Key]
    inputs: dict[str, Any]
    answer: Answer
    measures: dict[Key, Number | None] = {}
    faults: dict[Key, Text] = {}


class Timing(Strict):
    """A cell that was solved once more: seconds of the solver, and of wall clock and processor around it, and the answer's hash."""

    seconds: Seconds
    network_seconds: Seconds
    wall_seconds: Seconds
    processor_seconds: Seconds
    x_sha256: Key
    taken: Text


class Conditions(Strict):
    """What timings of one record have in common: with others they would be another machine's."""

    device: Text
    hardware: Text
    versions: dict[str, Text]


class TimeRecord(Strict):
    """time.json: the timings of a cell, in the order in which they were taken."""

    schema_: Literal[2] = Field(alias="schema")
    key: Key
    tensors: Annotated[dict[str, Key], Field(max_length=0)]
    conditions: Conditions
    timings: Annotated[list[Timing], Field(min_length=1, max_length=10_000)]


assert SCHEMA == 2


def cell_record(record: dict[str, Any] | None) -> CellRecord | None:
    """A record as a model; None for what is none."""
    return _modelled(CellRecord, record)


def time_record(record: dict[str, Any] | None) -> TimeRecord | None:
    """The same for timings."""
    return _modelled(TimeRecord, record)


def _modelled(model: type[M], record: dict[str, Any] | None) -> M | None:
    try:
        return None if record is None else model.model_validate(record)
    except (ValidationError, RecursionError):
        return None


def first_fault(error: ValidationError) -> str:
    """Where and what, in a line."""
    one = error.errors()[0]
    return f"{'.'.join(map(str, one['loc'])) or 'it'}: {one['msg']}"
