"""What is trained, as a TOML file.

    name = "mine"
    [network]
    class = "invsolve_weights.networks:EDMDRUNet"          # module:Class of a map (x, sigma) -> x0_hat
    arguments = { channels = 3, nc = [32, 64, 128, 192] }
    [data]
    side = 64                                              # of a crop; 0: whole images
    [[data.source]]
    path = "photographs"                                   # folder, zip or npz; below --data, or beside this file
    [validation]
    path = "others"
    [objective]
    sigmas = { kind = "log-normal", mean = -2.2, std = 1.1, low = 0.002, high = 80.0 }
    [run]
    hours = 2.0                                            # or steps = 10000

Unknown keys and impossible values are refused before anything is read.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator

from invsolve.errors import InputError, did_you_mean
from invsolve.training.loop import Recipe
from invsolve.training.objectives import LogSigma, UniformSigma

MAX_BYTES = 100_000
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1, le=10**12)]
# Generous ends: beyond them numbers overflow, or the memory of any machine does.
Pixels = Annotated[int, Field(ge=0, le=4096)]
Level = Annotated[float, Field(ge=1e-6, le=1e6)]
Place = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f]*$")]
Title = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=80)]


class Table(BaseModel):
    """A table of the file: its keys only, and values of their types only ("5" and true are no numbers)."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, strict=True, allow_inf_nan=False)


class Network(Table):
    """The network's class and what it is made with."""

    path: Annotated[str, StringConstraints(pattern=r"^[\w.]+:\w+$")] = Field(alias="class")
    arguments: dict[str, Any] = Field(default_factory=dict)

    @property
    def channels(self) -> int:
        """Of its images."""
        return self.arguments.get("channels", 3)

    @field_validator("arguments")
    @classmethod
    def _check_arguments(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        channels = arguments.get("channels", 3)
        if type(channels) is not int or channels not in (1, 3):
            raise ValueError("channels, the number of the images' channels, must be 1 or 3")
        try:  # the card is JSON
            json.dumps(arguments, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"only finite numbers, strings, true, false, lists and tables ({error})") from None
        return arguments


class Source(Table):
    """A folder, zip or npz of images, drawn in proportion to its weight, at every one of the scales."""

    path: Place
    weight: Annotated[float, Field(ge=1e-6, le=1e6)] = 1.0
    scales: Annotated[list[Annotated[float, Field(gt=0, le=16)]], Field(min_length=1, max_length=100)] = [1.0]


class Data(Table):
    """Where patches come from: see `data.Crops`."""

    side: Pixels
    flips: Literal["all", "horizontal", "none"] = "all"
    pad: Pixels = 0
    source: Annotated[list[Source], Field(min_length=1)]


class Validation(Table):
    """Images never trained on, of which the centres are denoised at every checkpoint; levels in 1/255."""

    path: Place
    count: Count = 8
    side: Pixels = 128
    levels: Annotated[list[Annotated[float, Field(ge=0.01, le=1e6)]], Field(min_length=1, max_length=100)] = [15, 25, 50]


class LogNormal(Table):
    """See `objectives.LogSigma`."""

    kind: Literal["log-normal"]
    mean: Annotated[float, Field(ge=-20, le=20)]
    std: Annotated[float, Field(gt=0, le=100)]
    low: Level
    high: Level
    flat: Annotated[float, Field(ge=0, le=1)] = 0.25


class Uniform(Table):
    """See `objectives.UniformSigma`."""

    kind: Literal["uniform"]
    low: Level
    high: Level


class Damp(Table):
    """Noise levels above `above` count by `weight`: see `objectives.damping`."""

    above: Level
    weight: Annotated[float, Field(ge=0, le=1)]


class Objective(Table):
    """Where the error is measured, and at which noise levels."""

    target: Literal["x0", "eps", "v"] = "v"
    s0: Annotated[float, Field(ge=1e-4, le=1e4)] = 0.25
    balance: bool = False
    damp: Damp | None = None
    sigmas: Annotated[LogNormal | Uniform, Field(discriminator="kind")]

    @model_validator(mode="after")
    def _check_order(self) -> Objective:
        if not self.sigmas.low < self.sigmas.high:
            raise ValueError(f"sigmas.low must be below sigmas.high; given {self.sigmas.low} and {self.sigmas.high}")
        return self


class Run(Table):
    """How long and how: see `loop.Recipe`."""

    hours: Positive | None = None
    steps: Count | None = None
    batch: Annotated[int, Field(ge=1, le=65_536)] = 12
    lr: Positive = 1e-3
    warmup: Count = 200
    ema_images: Positive = 20_000
    clip: Positive = 1.0
    bf16: bool | Literal["auto"] = "auto"
    channels_last: bool = True
    save_minutes: Positive = 3.0
    picture_minutes: Positive = 10.0
    seed: Annotated[int, Field(ge=0, le=2**62)] = 0

    @model_validator(mode="after")
    def _check_length(self) -> Run:
        if (self.hours is None) == (self.steps is None):
            raise ValueError("give hours (of wall clock) or steps, one of them")
        return self


class Words(Table):
    """What the card says of the weights."""

    data: str = ""
    licence: str = ""
    weaknesses: list[str] = []
    tried: list[str] = []
    reproduce: str = ""


class TrainConfig(Table):
    """A training: network, data, objective and length."""

    name: Title
    start: Place = ""
    network: Network
    data: Data
    validation: Validation | None = None
    objective: Objective
    run: Run
    card: Words = Words()

    @classmethod
    def load(cls, path: str | Path) -> TrainConfig:
        """A config from a TOML file; without a name it is called as the file is.

        Raises:
            InputError: no such file, not TOML, or keys and values that no config has, each named.
        """
        path = Path(path)
        try:
            if path.stat().st_size > MAX_BYTES:
                raise InputError(f"{path} has more than {MAX_BYTES} bytes; no training config is that large")
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except InputError:
            raise
        except (OSError, ValueError, RecursionError) as error:  # numbers and nestings beyond all measure, too
            raise InputError(f"{path}: not a readable TOML file ({error})") from None
        try:
            return cls.model_validate({"name": path.stem.lower(), **values})
        except ValidationError as error:
            raise InputError("\n".join([f"{path.name} is no training config:", *map(_line, error.errors())])) from None

    def recipe(self) -> Recipe:
        """The loop's settings."""
        sigmas = self.objective.sigmas
        law = (
            LogSigma(sigmas.mean, sigmas.std, sigmas.low, sigmas.high, sigmas.flat)
            if isinstance(sigmas, LogNormal)
            else UniformSigma(sigmas.low, sigmas.high)
        )
        given = self.run.model_dump(exclude={"save_minutes", "picture_minutes", "hours"})
        return Recipe(
            law,
            s0=self.objective.s0,
            hours=self.run.hours or 0.0,
            target=self.objective.target,
            balance=self.objective.balance,
            damp=None if self.objective.damp is None else (self.objective.damp.above, self.objective.damp.weight),
            save_seconds=60 * self.run.save_minutes,
            picture_seconds=60 * self.run.picture_minutes,
            levels=tuple(self.validation.levels) if self.validation else (),
            **given,
        )


def _line(error: Any) -> str:
    place = ".".join(str(part) for part in error["loc"]) or "file"
    if error["type"] == "extra_forbidden":
        table = _table_at([str(part) for part in error["loc"][:-1] if not isinstance(part, int)])
        known = [field.alias or name for name, field in table.model_fields.items()]
        near = did_you_mean(str(error["loc"][-1]), known) or f"; there are: {', '.join(known)}"
        return f"  - {place}: unknown{near}"
    return f"  - {place}: {error['msg']}; given {str(error['input'])[:60]!r}"


def _table_at(names: list[str]) -> type[BaseModel]:
    """The table of a path of keys, for its list of fields."""
    known: dict[str, type[BaseModel]] = {
        "network": Network,
        "data": Data,
        "source": Source,
        "validation": Validation,
        "objective": Objective,
        "damp": Damp,
        "run": Run,
        "card": Words,
        "log-normal": LogNormal,
        "uniform": Uniform,
    }
    return known.get(names[-1], TrainConfig) if names else TrainConfig
